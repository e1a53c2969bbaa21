/* fuzz_tokenizer.c - the vocabulary of a file, and a text: tokenized, and back. Piece 0 is the GGUF
 * file, piece 1 the text; without one, a text that goes everywhere. */
#include "model/model_file.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_pieces pieces = {data, n};
    struct fuzz_piece vocabulary, text = {1, (const uint8_t *)FUZZ_TEXT, sizeof(FUZZ_TEXT) - 1};
    struct fuzz_file bytes;
    struct model_file *file;
    struct tokenizer *tokenizer;
    struct error error;
    if (!fuzz_next(&pieces, &vocabulary))
        return 0;
    (void)fuzz_next(&pieces, &text);
    fuzz_file_open(&bytes, vocabulary.data, vocabulary.n);
    if (model_open(&file, bytes.path, &error) == STATUS_OK) {
        const enum status status = tokenizer_open(&tokenizer, file, &error);
        model_close(file); /* a tokenizer keeps nothing of it */
        if (status == STATUS_OK)
            fuzz_text(tokenizer, &text);
    }
    fuzz_file_close(&bytes);
    return 0;
}
