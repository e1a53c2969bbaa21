/* detokenizer.c - bytes wait in front of the next token's until they are whole characters.
 *
 * The output buffer is made for the longest token once: held bytes (at most 3) and its own, each of
 * which may become a three-byte U+FFFD. */
#include "model/detokenizer.h"
#include "model/tokenizer/tokenizer_internal.h"
#include "model/utf8.h"
#include "sys/text_buffer.h"

#include <stdlib.h>
#include <string.h>

#define MAX_HELD 3 /* a character has 4 bytes */

struct detokenizer {
    const struct tokenizer *tokenizer;
    unsigned flags;
    bool strip_space; /* the next text token loses its first space */
    char *in, *out;
    size_t n_held; /* the first bytes of `in` */
};

static void begin_stream(struct detokenizer *d)
{
    d->strip_space = (d->flags & DETOKENIZER_TEXT_START) != 0 && d->tokenizer->strips_space;
    d->n_held = 0;
}

enum status detokenizer_create(struct detokenizer **detokenizer, const struct tokenizer *tokenizer,
                               unsigned flags, struct error *error)
{
    const size_t room = MAX_HELD + (size_t)tokenizer->max_token_bytes;
    struct detokenizer *d = calloc(1, sizeof(*d));
    if (d == NULL || (d->in = malloc(room)) == NULL || (d->out = malloc(3 * room)) == NULL) {
        detokenizer_destroy(d);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a detokenizer");
    }
    d->tokenizer = tokenizer;
    d->flags = flags;
    begin_stream(d);
    *detokenizer = d;
    return STATUS_OK;
}

void detokenizer_destroy(struct detokenizer *detokenizer)
{
    if (detokenizer == NULL)
        return;
    free(detokenizer->in);
    free(detokenizer->out);
    free(detokenizer);
}

/* From in[n_in] to out; what may still become a character moves to the front of `in`. */
static size_t drain(struct detokenizer *d, size_t n_in, bool last)
{
    size_t n_out = 0, at = 0;
    d->n_held = 0;
    while (at < n_in) {
        bool cut_off = false;
        const size_t n_char = utf8_char_bytes(d->in + at, n_in - at);
        const size_t n = n_char > 0 ? n_char : utf8_broken_bytes(d->in + at, n_in - at, &cut_off);
        if (cut_off && !last) {
            memmove(d->in, d->in + at, n_in - at);
            d->n_held = n_in - at;
            break;
        }
        if (n_char > 0 || (d->flags & DETOKENIZER_RAW) != 0) {
            memcpy(d->out + n_out, d->in + at, n);
            n_out += n;
        } else {
            n_out += utf8_encode(d->out + n_out, 0xfffd);
        }
        at += n;
    }
    return n_out;
}

/* Does a raw fragment begin behind this token, so that the encoder added a space there? An unknown
 * token that stands for a character inside a word (a vocabulary without byte tokens) does not end
 * one. */
static bool ends_fragment(const struct tokenizer *tokenizer, const struct token *token)
{
    return tokenizer_is_special(token) &&
           (token->type != TOKENIZER_TYPE_UNKNOWN || tokenizer->all_bytes);
}

enum status detokenizer_push(struct detokenizer *detokenizer, int32_t id, const char **text,
                             size_t *n_bytes, struct error *error)
{
    struct detokenizer *d = detokenizer;
    const struct tokenizer *t = d->tokenizer;
    if (id < 0 || (uint32_t)id >= t->vocab)
        return error_set(error, STATUS_INVALID, "token %d is not in the vocabulary of %u", id,
                         t->vocab);
    const struct token *token = &t->tokens[id];
    struct model_string bytes = token->bytes;
    const bool silent =
        token->type == TOKENIZER_TYPE_CONTROL || token->type == TOKENIZER_TYPE_UNKNOWN;
    if (silent && (d->flags & DETOKENIZER_SHOW_SPECIAL) == 0)
        bytes.n_bytes = 0;
    if (d->strip_space && !tokenizer_is_special(token) && bytes.n_bytes > 0) {
        if (bytes.data[0] == ' ') {
            bytes.data++;
            bytes.n_bytes--;
        }
        d->strip_space = false;
    }
    if (ends_fragment(t, token))
        d->strip_space = t->strips_again;
    memcpy(d->in + d->n_held, bytes.data, bytes.n_bytes);
    *n_bytes = drain(d, d->n_held + bytes.n_bytes, false);
    *text = d->out;
    return STATUS_OK;
}

void detokenizer_flush(struct detokenizer *detokenizer, const char **text, size_t *n_bytes)
{
    *n_bytes = drain(detokenizer, detokenizer->n_held, true);
    *text = detokenizer->out;
    begin_stream(detokenizer);
}

enum status detokenizer_text(const struct tokenizer *tokenizer, const int32_t *ids, size_t n_ids,
                             unsigned flags, char **text, size_t *n_bytes, struct error *error)
{
    struct detokenizer *d;
    enum status status = detokenizer_create(&d, tokenizer, flags, error);
    if (status != STATUS_OK)
        return status;
    struct text_buffer all = {0};
    for (size_t i = 0; i <= n_ids && status == STATUS_OK; i++) {
        const char *piece = NULL;
        size_t n_piece = 0;
        if (i < n_ids)
            status = detokenizer_push(d, ids[i], &piece, &n_piece, error);
        else
            detokenizer_flush(d, &piece, &n_piece);
        if (status == STATUS_OK && !text_buffer_add(&all, piece, n_piece))
            status =
                error_set(error, STATUS_NO_MEMORY, "no memory for the text of %zu tokens", n_ids);
    }
    detokenizer_destroy(d);
    if (status != STATUS_OK) {
        free(all.bytes);
        return status;
    }
    *text = all.bytes;
    *n_bytes = all.n;
    return STATUS_OK;
}
