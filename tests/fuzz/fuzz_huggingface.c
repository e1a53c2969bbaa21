/* fuzz_huggingface.c - a Hugging Face directory: piece 0 is config.json, 1 model.safetensors, 2 the index of its files. What
 * opens has all that fuzz_gguf.c asks of a file. */
#include "model/hparams.h"
#include "model/model_file.h"
#include "model/weights.h"
#include "tests/fuzz/folder.h"
#include "tests/fuzz/fuzz.h"

static const char *const names[] = {"config.json", "model.safetensors",
                                    "model.safetensors.index.json"};
enum { N_NAMES = sizeof(names) / sizeof(names[0]) };

static void read_tensors(const struct model_file *file)
{
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < model_tensor_count(file); i++) {
        const struct model_tensor *tensor = model_tensor_at(file, i);
        const uint8_t *bytes = tensor->data;
        if (bytes != NULL && tensor->n_bytes > 0)
            sum = (uint8_t)(sum + bytes[0] + bytes[tensor->n_bytes - 1]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_pieces pieces = {data, n};
    struct fuzz_piece parts[N_NAMES] = {{0}}, piece;
    struct model_file *file;
    struct hparams hparams;
    struct error error;
    while (fuzz_next(&pieces, &piece))
        parts[piece.kind % N_NAMES] = piece;
    fuzz_folder_write(names, parts, N_NAMES);
    if (model_open(&file, fuzz_folder, &error) != STATUS_OK) {
        FUZZ_CHECK(error.text[0] != '\0');
        return 0;
    }
    uint8_t fingerprint[MODEL_FINGERPRINT_BYTES];
    read_tensors(file);
    model_fingerprint(file, fingerprint);
    if (hparams_read(&hparams, file, &error) == STATUS_OK)
        (void)weights_check(file, &hparams, &error);
    model_close(file);
    return 0;
}
