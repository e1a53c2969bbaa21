/* tests/fuzz/model.h - all that is asked of a model that opened: its tensors' bytes,
 * hyper-parameters, segments, frequencies, fingerprint, and that it can be shown. */
#ifndef LONGSPAN_TESTS_FUZZ_MODEL_H
#define LONGSPAN_TESTS_FUZZ_MODEL_H

#include "model/hparams.h"
#include "model/inspect.h"
#include "model/model_file.h"
#include "model/weights.h"
#include "tests/fuzz/fuzz.h"

/* The first and last byte of each matrix are inside the file. */
static inline void fuzz_model_tensors(const struct model_file *file)
{
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < model_tensor_count(file); i++) {
        const struct model_tensor *tensor = model_tensor_at(file, i);
        const uint64_t n = tensor->dims[2], n_bytes = tensor->n_bytes / n;
        for (uint64_t expert = 0; expert < n && n_bytes > 0; expert++) {
            const uint8_t *bytes = model_tensor_expert(file, tensor, expert);
            sum = (uint8_t)(sum + bytes[0] + bytes[n_bytes - 1]);
        }
        FUZZ_CHECK(model_tensor_find(file, tensor->name) == tensor);
    }
}

static inline void fuzz_model_hparams(const struct model_file *file)
{
    struct hparams hparams;
    struct weights_segments segments;
    struct error error;
    if (hparams_read(&hparams, file, &error) != STATUS_OK ||
        weights_check(file, &hparams, &error) != STATUS_OK)
        return;
    weights_segments(&segments, file, &hparams);
    FUZZ_CHECK(segments.n >= 1 && segments.n <= WEIGHTS_SEGMENTS);
    double *frequency = calloc(hparams.rope_dims / 2 + 1, sizeof(*frequency));
    FUZZ_CHECK(frequency != NULL);
    for (uint32_t layer = 0; layer < hparams.n_layers; layer++) {
        const struct hparams_rope *rope = hparams_layer_rope(&hparams, layer);
        FUZZ_CHECK(rope->factor > 0 && rope->base >= 1);
        (void)hparams_rope_frequencies(&hparams, rope, file, frequency, &error);
    }
    free(frequency);
}

/* `json`: how it is shown. */
static inline void fuzz_model(const char *path, bool json)
{
    static FILE *nowhere;
    struct model_file *file;
    struct error error;
    uint8_t fingerprint[MODEL_FINGERPRINT_BYTES];
    if (nowhere == NULL)
        nowhere = fopen("/dev/null", "w");
    if (model_open(&file, path, &error) != STATUS_OK) {
        FUZZ_CHECK(error.text[0] != '\0');
        return;
    }
    fuzz_model_tensors(file);
    fuzz_model_hparams(file);
    model_fingerprint(file, fingerprint);
    FUZZ_CHECK(inspect_print(nowhere, file, json, &error) == STATUS_OK);
    model_close(file);
}

#endif
