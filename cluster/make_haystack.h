/* cluster/make_haystack.h - a long text with needles in it, and a question about one of them.
 *
 * English-looking prose from a small seeded grammar, in which a few sentences such as
 *     The password of the harbour master is amber-falcon.
 * stand at given depths. The text ends with the beginning of one of them ("The password of the
 * harbour master is"), so that a model that reads well continues with the words. Nothing else in
 * the text says "password", and the words come from the seed alone. */
#ifndef LONGSPAN_CLUSTER_MAKE_HAYSTACK_H
#define LONGSPAN_CLUSTER_MAKE_HAYSTACK_H

#include "sys/status.h"

#include <stdint.h>

enum { MAKE_HAYSTACK_MOST_NEEDLES = 8, MAKE_HAYSTACK_TEXT_BYTES = 64 };

struct make_haystack_options {
    uint64_t n_tokens; /* of a byte model: the file has one byte less, for BOS */
    uint64_t seed;
    uint32_t depths[MAKE_HAYSTACK_MOST_NEEDLES]; /* percent of the text before the needle, 0..99 */
    uint32_t n_needles;
    uint32_t question; /* which needle is asked for, from 0; the text before it does not depend on
                          it, nor do the depths' order */
};

struct make_haystack_answer {
    char question[MAKE_HAYSTACK_TEXT_BYTES]; /* the last words of the text */
    char answer[MAKE_HAYSTACK_TEXT_BYTES];   /* "amber-falcon"; in the text a space stands before,
                                                a full stop behind it */
};

/* STATUS_INVALID: too few tokens for the needles, a depth above 99, no such needle. STATUS_IO,
 * STATUS_NO_MEMORY. `answer` is set on success. */
enum status make_haystack(const char *path, const struct make_haystack_options *options,
                          struct make_haystack_answer *answer, struct error *error);

#endif
