/* fuzz_gguf.c - a model file: opened, its hyper-parameters and tensors checked, shown, cut in segments; every byte
 * of every tensor is inside the file. */
#include "model/hparams.h"
#include "model/inspect.h"
#include "model/model_file.h"
#include "model/weights.h"
#include "tests/fuzz/fuzz.h"

static void read_tensors(const struct model_file *file)
{
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < model_tensor_count(file); i++) {
        const struct model_tensor *tensor = model_tensor_at(file, i);
        const uint8_t *bytes = tensor->data;
        if (bytes != NULL && tensor->n_bytes > 0)
            sum = (uint8_t)(sum + bytes[0] + bytes[tensor->n_bytes - 1]);
        FUZZ_CHECK(model_tensor_find(file, tensor->name) == tensor);
    }
}

static void read_model(const struct model_file *file)
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static FILE *nowhere;
    if (nowhere == NULL)
        nowhere = fopen("/dev/null", "w");
    struct fuzz_file bytes;
    struct model_file *file;
    struct error error;
    fuzz_file_open(&bytes, data, n);
    if (model_open(&file, bytes.path, &error) == STATUS_OK) {
        uint8_t fingerprint[MODEL_FINGERPRINT_BYTES];
        read_tensors(file);
        read_model(file);
        model_fingerprint(file, fingerprint);
        FUZZ_CHECK(inspect_print(nowhere, file, n % 2 == 0, &error) == STATUS_OK);
        model_close(file);
    } else {
        FUZZ_CHECK(error.text[0] != '\0');
    }
    fuzz_file_close(&bytes);
    return 0;
}
