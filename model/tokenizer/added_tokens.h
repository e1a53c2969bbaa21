/* model/tokenizer/added_tokens.h - tokens that stand in a text by name: "<|eot_id|>".
 *
 * A set of names is looked for in a text: of those that begin leftmost the longest is taken, and
 * the search goes on behind it, as Hugging Face's `tokenizers` does. Time is that of the text plus
 * what is found, whatever the names are and however many. */
#ifndef LONGSPAN_MODEL_TOKENIZER_ADDED_TOKENS_H
#define LONGSPAN_MODEL_TOKENIZER_ADDED_TOKENS_H

#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct added_tokens; /* opaque; immutable once it is finished: any number of threads */

struct added_token {
    int32_t id;          /* >= 0 */
    bool single_word;    /* not where a word character stands before or behind it */
    bool lstrip, rstrip; /* takes the white space before, behind it too */
};

/* The caller ends it with added_tokens_destroy. STATUS_NO_MEMORY. */
enum status added_tokens_create(struct added_tokens **tokens, struct error *error);
void added_tokens_destroy(struct added_tokens *tokens); /* NULL is fine */

/* An empty name is left out; a name that is there already keeps its first token.
 * STATUS_INVALID: all names together have 256 MiB. STATUS_NO_MEMORY. */
enum status added_tokens_add(struct added_tokens *tokens, const char *name, size_t n_bytes,
                             struct added_token token, struct error *error);

/* Once, behind the last added_tokens_add and before the first cut. STATUS_NO_MEMORY. */
enum status added_tokens_finish(struct added_tokens *tokens, struct error *error);

bool added_tokens_is_empty(const struct added_tokens *tokens);

/* A piece of the text: raw, or (id >= 0) a token that stood there by name. */
struct added_token_fragment {
    size_t begin, n_bytes;
    int32_t id; /* or -1 */
};

/* Kept from one text to the next; zero-initialised is empty. */
struct added_token_fragments {
    struct added_token_fragment *items;
    size_t n, capacity;
};
void added_token_fragments_free(struct added_token_fragments *fragments);

/* Cuts a text, any bytes, in fragments, in order; none of the raw ones is empty.
 * STATUS_NO_MEMORY. */
enum status added_tokens_cut(const struct added_tokens *tokens, const char *text, size_t n_bytes,
                             struct added_token_fragments *fragments, struct error *error);

#endif
