/* model/tokenizer/normalizer.h - what happens to a text before it is cut in words.
 *
 * A normalizer is a list of steps, which are applied one after the other; without steps a text
 * stays as it is. Steps are those of Hugging Face's `tokenizers`, and of SentencePiece.
 * Texts are well-formed UTF-8, and so are the results. */
#ifndef LONGSPAN_MODEL_TOKENIZER_NORMALIZER_H
#define LONGSPAN_MODEL_TOKENIZER_NORMALIZER_H

#include "model/tokenizer/expression.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>

struct normalizer;         /* opaque; immutable once it is filled: any number of threads */
struct normalizer_scratch; /* opaque; what one thread needs */

enum normalizer_form { NORMALIZER_NFC, NORMALIZER_NFD, NORMALIZER_NFKC, NORMALIZER_NFKD };

/* The caller ends it with normalizer_destroy. STATUS_NO_MEMORY. */
enum status normalizer_create(struct normalizer **normalizer, struct error *error);
void normalizer_destroy(struct normalizer *normalizer); /* NULL is fine */

/* ---- steps; each STATUS_NO_MEMORY, or STATUS_INVALID beyond 32 of them ----------------------- */

/* A form of Unicode's standard annex 15. */
enum status normalizer_add_form(struct normalizer *normalizer, enum normalizer_form form,
                                struct error *error);
/* Each character's lower case, on its own. */
enum status normalizer_add_lowercase(struct normalizer *normalizer, struct error *error);
/* Without marks. */
enum status normalizer_add_strip_accents(struct normalizer *normalizer, struct error *error);
/* Without white space at the fragment's beginning, at its end. */
enum status normalizer_add_strip(struct normalizer *normalizer, bool left, bool right,
                                 struct error *error);
/* SentencePiece's remove_extra_whitespaces: no U+0020 at the fragment's ends, one in a row. */
enum status normalizer_add_single_spaces(struct normalizer *normalizer, struct error *error);
/* `text` in front of a fragment that is not empty. */
enum status normalizer_add_prepend(struct normalizer *normalizer, const char *text,
                                   struct error *error);
/* Each match becomes `content`. Takes the expression, also on failure. */
enum status normalizer_add_replace(struct normalizer *normalizer, struct expression *expression,
                                   const char *content, struct error *error);

/* ---- running --------------------------------------------------------------------------------- */

enum status normalizer_scratch_create(struct normalizer_scratch **scratch, struct error *error);
void normalizer_scratch_destroy(struct normalizer_scratch *scratch); /* NULL is fine */

/* A fragment with bytes that are no UTF-8 comes as several texts, of which one may be empty. */
struct normalizer_place {
    bool begins; /* nothing of the fragment stands in front of this text */
    bool ends;   /* or behind it */
};

/* *out is `text` itself or belongs to the scratch, until its next use. Time is O(n log n), whatever
 * the text. STATUS_FAILED: an expression gave up. STATUS_NO_MEMORY. */
enum status normalizer_run(const struct normalizer *normalizer, struct normalizer_scratch *scratch,
                           const char *text, size_t n_bytes, struct normalizer_place place,
                           const char **out, size_t *n_out, struct error *error);

#endif
