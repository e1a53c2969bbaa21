/* fuzz_tokenizer.c - the vocabulary of a file, and a text: tokenized, and back. Piece 0 is the GGUF file, piece 1 the
 * text; without one, a text that goes everywhere. */
#include "model/detokenizer.h"
#include "model/model_file.h"
#include "model/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static const char everything[] =
    "Hello  World's 1234567 \n\n\t\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\xff<s></s> x";

static void encode(const struct tokenizer *tokenizer, const char *text, size_t n, unsigned flags)
{
    int32_t *ids;
    size_t n_ids, n_text;
    char *back;
    struct error error;
    if (tokenizer_encode(tokenizer, text, n, flags, &ids, &n_ids, &error) != STATUS_OK)
        return;
    for (size_t i = 0; i < n_ids; i++)
        FUZZ_CHECK(ids[i] >= 0 && (uint32_t)ids[i] < tokenizer_vocab(tokenizer));
    if (detokenizer_text(tokenizer, ids, n_ids, DETOKENIZER_TEXT_START, &back, &n_text, &error) ==
        STATUS_OK)
        free(back);
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_pieces pieces = {data, n};
    struct fuzz_piece vocabulary, text = {1, (const uint8_t *)everything, sizeof(everything) - 1};
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
        if (status == STATUS_OK) {
            encode(tokenizer, (const char *)text.data, text.n, 0);
            encode(tokenizer, (const char *)text.data, text.n,
                   TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL);
            tokenizer_close(tokenizer);
        }
    }
    fuzz_file_close(&bytes);
    return 0;
}
