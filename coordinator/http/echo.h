/* coordinator/http/echo.h - a prompt as it is said back (`echo`): its text, where each of its
 * tokens begins there, and how likely the model finds each.
 *
 * The text is what the client sent, without the BOS in front, which has no characters there. The
 * first token has no log-probability, since nothing is before it. Pure. */
#ifndef LONGSPAN_COORDINATOR_HTTP_ECHO_H
#define LONGSPAN_COORDINATOR_HTTP_ECHO_H

#include "coordinator/http/logprob.h"
#include "model/tokenizer.h"
#include "proto/longspan.pb-c.h"
#include "sys/text_buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct echo {
    const int32_t *ids; /* borrowed */
    size_t n_ids;
    struct text_buffer text;
    size_t n_points; /* code points of it */
    size_t *offsets; /* [n_ids], in code points */
    /* Only where it is scored. */
    float *logprobs;      /* [n_ids], but the first */
    struct logprob *tops; /* [n_ids][n_top], likewise */
    size_t n_top;
    size_t n_scored; /* tokens that are known so far; the first one always is */
};

/* `scored`: log-probabilities will come, with n_top tokens beside each. The caller ends *echo with
 * echo_close, also after a failure. False: no memory. */
bool echo_open(struct echo *echo, const struct tokenizer *tokenizer, const int32_t *ids,
               size_t n_ids, bool scored, size_t n_top);
void echo_close(struct echo *echo);

/* The next ones. False: they are not those that come next. */
bool echo_take(struct echo *echo, const Longspan__RunScores *scores);

/* All have come. */
bool echo_complete(const struct echo *echo);

#endif
