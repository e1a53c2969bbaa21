/* cluster/tokenize.h - `longspan model tokenize` and `detokenize`, once a tokenizer is open.
 *
 * Standard input and output. Either one text, any bytes, and its ids; or line by line, for many at
 * a time, in JSON: a string on one side, an array of ids on the other, in the order of the input.
 * A line that is neither ends it, with what was before it printed. */
#ifndef LONGSPAN_CLUSTER_TOKENIZE_H
#define LONGSPAN_CLUSTER_TOKENIZE_H

#include "model/tokenizer.h"
#include "sys/status.h"

#include <stdbool.h>

struct tokenize_options {
    unsigned flags; /* enum tokenizer_flags, or detokenizer_flags */
    bool json;      /* {"ids": [1, 2, 3]} instead of 1 2 3 */
    bool lines;
};

/* STATUS_INVALID: the input. STATUS_IO. STATUS_NO_MEMORY. */
enum status tokenize_input(const struct tokenizer *tokenizer,
                           const struct tokenize_options *options, struct error *error);

/* Without `lines` the input is ids between white space, commas and brackets, and the output their
 * text, any bytes; with them bytes that are no UTF-8 become U+FFFD. */
enum status detokenize_input(const struct tokenizer *tokenizer,
                             const struct tokenize_options *options, struct error *error);

#endif
