/* model/tokenizer/expression.h - the regular expressions of tokenizers, run by PCRE2.
 *
 * They are written as tokenizer.json has them, in the Ruby syntax of Oniguruma, and mean here what
 * they mean there: \s is Unicode's white space, \w its letters, marks, decimal digits and
 * connectors, ^ and $ stand at lines, [a[bc]] is a union. What cannot be said in PCRE2 with the
 * same meaning (intersections of classes, back references, call-outs...) is refused by name, as is
 * anything that Oniguruma spells otherwise.
 *
 * Expressions come from model files: a match may cost no more than a multiple of the text, and
 * gives up beyond it instead of running for days. */
#ifndef LONGSPAN_MODEL_TOKENIZER_EXPRESSION_H
#define LONGSPAN_MODEL_TOKENIZER_EXPRESSION_H

#include "sys/status.h"

#include <stddef.h>

struct expression;         /* opaque; immutable, any number of threads */
struct expression_scratch; /* opaque; what one thread needs while it searches, for any expression */

/* The caller ends *expression with expression_destroy. `pattern` ends with a NUL.
 * STATUS_UNSUPPORTED: something in it has no equal in PCRE2; the text names it. STATUS_INVALID: it
 * is no expression, or has more than 64 KiB. STATUS_NO_MEMORY. */
enum status expression_create(struct expression **expression, const char *pattern,
                              struct error *error);

/* Matches these bytes of UTF-8 as they are. */
enum status expression_create_literal(struct expression **expression, const char *text,
                                      struct error *error);
void expression_destroy(struct expression *expression); /* NULL is fine */

enum status expression_scratch_create(struct expression_scratch **scratch, struct error *error);
void expression_scratch_destroy(struct expression_scratch *scratch); /* NULL is fine */

/* The first match at or behind byte `from` <= n_bytes; it may be empty. `text` must be well-formed
 * UTF-8, whole (looking ahead and behind sees what is there), `from` a character's beginning.
 * STATUS_NOT_FOUND: none (`error` is left as it is). STATUS_FAILED: the search gave up. */
enum status expression_find(const struct expression *expression, struct expression_scratch *scratch,
                            const char *text, size_t n_bytes, size_t from, size_t *begin,
                            size_t *end, struct error *error);

#endif
