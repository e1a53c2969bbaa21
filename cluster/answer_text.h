/* cluster/answer_text.h - an answer on standard output, as it comes, and the newline behind it. */
#ifndef LONGSPAN_CLUSTER_ANSWER_TEXT_H
#define LONGSPAN_CLUSTER_ANSWER_TEXT_H

#include "cluster/ask.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>

/* Zeroed: nothing was shown. */
struct answer_text {
    bool shown, ends_in_newline;
};

/* Within `take` of a request. STATUS_IO; STATUS_CANCELLED: a signal came while nobody read. */
enum status answer_text_show(struct answer_text *text, struct ask *ask, const char *bytes,
                             size_t n_bytes, struct error *error);

/* What is complete ends in a newline, also where it is empty. STATUS_IO. */
enum status answer_text_end(const struct answer_text *text, struct error *error);

/* What failed does where something was shown, unless nobody reads: never waits. Once: before others
 * have a word on the same terminal (ask.h), or else at the end. */
void answer_text_break_off(struct answer_text *text);

#endif
