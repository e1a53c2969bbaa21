/* fuzz_tokenizer_json.c - a tokenizer.json (piece 0), and a text (piece 1): tokenized, and back.
 * Piece 2 is tokenizer_config.json. */
#include "tests/fuzz/folder.h"
#include "tests/fuzz/pieces.h"
#include "tests/fuzz/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json"};
    struct fuzz_pieces pieces = {data, n};
    struct fuzz_piece files[2] = {{0}},
                      text = {1, (const uint8_t *)FUZZ_TEXT, sizeof(FUZZ_TEXT) - 1};
    struct fuzz_piece piece;
    struct tokenizer *tokenizer;
    struct error error;
    while (fuzz_next(&pieces, &piece))
        *(piece.kind % 3 == 0 ? &files[0] : piece.kind % 3 == 1 ? &text : &files[1]) = piece;
    fuzz_folder_write(names, files, 2);
    if (tokenizer_open_directory(&tokenizer, fuzz_folder, &error) == STATUS_OK)
        fuzz_text(tokenizer, &text);
    else
        FUZZ_CHECK(error.text[0] != '\0');
    return 0;
}
