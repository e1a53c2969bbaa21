/* tests/fuzz/text.h - a text through a tokenizer and back. */
#ifndef LONGSPAN_TESTS_FUZZ_TEXT_H
#define LONGSPAN_TESTS_FUZZ_TEXT_H

#include "model/detokenizer.h"
#include "model/tokenizer.h"
#include "tests/fuzz/pieces.h"

/* A text that goes everywhere. */
#define FUZZ_TEXT "Hello  World's 1234567 \n\n\t\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\xff<s></s> x"

static inline void fuzz_text_flags(const struct tokenizer *tokenizer, const struct fuzz_piece *text,
                                   unsigned flags)
{
    int32_t *ids;
    size_t n_ids, n_back;
    char *back;
    struct error error;
    if (tokenizer_encode(tokenizer, (const char *)text->data, text->n, flags, &ids, &n_ids,
                         &error) != STATUS_OK)
        return;
    for (size_t i = 0; i < n_ids; i++)
        FUZZ_CHECK(ids[i] >= 0 && (uint32_t)ids[i] < tokenizer_vocab(tokenizer));
    if (detokenizer_text(tokenizer, ids, n_ids, DETOKENIZER_TEXT_START, &back, &n_back, &error) ==
        STATUS_OK)
        free(back);
    free(ids);
}

/* Closes the tokenizer. */
static inline void fuzz_text(struct tokenizer *tokenizer, const struct fuzz_piece *text)
{
    fuzz_text_flags(tokenizer, text, 0);
    fuzz_text_flags(tokenizer, text, TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL);
    tokenizer_close(tokenizer);
}

#endif
