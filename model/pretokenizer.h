/* model/pretokenizer.h - cuts text into the words inside which a byte-level BPE may merge.
 *
 * The rules are regular expressions, run by PCRE2 with Unicode classes. Every byte of a text
 * belongs to exactly one word. */
#ifndef LONGSPAN_MODEL_PRETOKENIZER_H
#define LONGSPAN_MODEL_PRETOKENIZER_H

#include "sys/status.h"

#include <stddef.h>

struct pretokenizer;         /* opaque; immutable, any number of threads */
struct pretokenizer_scratch; /* opaque; what one thread needs while it cuts */

/* `name` as in tokenizer.ggml.pre. The caller ends *pretokenizer with pretokenizer_destroy.
 * STATUS_NOT_FOUND: no such rule (pretokenizer_names lists them). STATUS_FAILED: the PCRE2 library
 * does not take the expression: it is older than 10.40. STATUS_NO_MEMORY. */
enum status pretokenizer_create(struct pretokenizer **pretokenizer, const char *name,
                                struct error *error);
void pretokenizer_destroy(struct pretokenizer *pretokenizer); /* NULL is fine */

/* The names that pretokenizer_create takes, for messages. */
const char *pretokenizer_names(void);

enum status pretokenizer_scratch_create(struct pretokenizer_scratch **scratch,
                                        const struct pretokenizer *pretokenizer,
                                        struct error *error);
void pretokenizer_scratch_destroy(struct pretokenizer_scratch *scratch); /* NULL is fine */

/* The end (> begin) of the word that begins at byte `begin` < n_bytes. `text` must be well-formed
 * UTF-8, whole (look-ahead sees what follows), and `begin` the end of the word before.
 * STATUS_FAILED: PCRE2 reached its limits. */
enum status pretokenizer_next(const struct pretokenizer *pretokenizer,
                              struct pretokenizer_scratch *scratch, const char *text,
                              size_t n_bytes, size_t begin, size_t *end, struct error *error);

#endif
