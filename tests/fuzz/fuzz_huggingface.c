/* fuzz_huggingface.c - a Hugging Face directory: config.json, weights in one file or in two with
 * their index, the chat template. A piece's kind is its file; of weights a piece is the whole file,
 * or the JSON of its header alone (HEADER), to which the length is put in front and numbers behind,
 * so that what changes the JSON does not end at the first check. What opens has all that
 * fuzz_gguf.c asks of a file. */
#include "tests/fuzz/folder.h"
#include "tests/fuzz/huggingface_files.h"
#include "tests/fuzz/model.h"
#include "tests/fuzz/pieces.h"

static const char *const names[] = {[HF_FILE_CONFIG] = "config.json",
                                    [HF_FILE_WEIGHTS] = "model.safetensors",
                                    [HF_FILE_INDEX] = "model.safetensors.index.json",
                                    [HF_FILE_SECOND] = "two.safetensors",
                                    [HF_FILE_TOKENIZER_CONFIG] = "tokenizer_config.json",
                                    [HF_FILE_TEMPLATE] = "chat_template.jinja"};

/* The file of a header: first two bytes of the piece: how many bytes of data. */
static void complete_weights(struct fuzz_piece *piece, uint8_t *memory)
{
    const uint64_t n_json = piece->n < 2 ? 0 : piece->n - 2;
    const size_t n_data = n_json == 0 ? 0 : piece->data[0] | (size_t)piece->data[1] << 8;
    memcpy(memory, &n_json, sizeof(n_json));
    if (n_json > 0)
        memcpy(memory + sizeof(n_json), piece->data + 2, n_json);
    for (size_t i = 0; i < n_data; i++)
        memory[sizeof(n_json) + n_json + i] = (uint8_t)i;
    piece->data = memory;
    piece->n = sizeof(n_json) + n_json + n_data;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static uint8_t memory[HF_FILES][sizeof(uint64_t) + 2 * (UINT16_MAX + 1)];
    struct fuzz_pieces pieces = {data, n};
    struct fuzz_piece parts[HF_FILES] = {{0}}, piece;
    while (fuzz_next(&pieces, &piece)) {
        const size_t name = (piece.kind & ~HF_HEADER) % HF_FILES;
        parts[name] = piece;
        if (piece.kind & HF_HEADER)
            complete_weights(&parts[name], memory[name]);
    }
    fuzz_folder_write(names, parts, HF_FILES);
    fuzz_model(fuzz_folder, n % 2 == 0);
    return 0;
}
