/* coordinator/http/logprob.h - a token and its log-probability, and how such a number is
 * written. */
#ifndef LONGSPAN_COORDINATOR_HTTP_LOGPROB_H
#define LONGSPAN_COORDINATOR_HTTP_LOGPROB_H

#include <jansson.h>
#include <stdint.h>

struct logprob {
    int32_t id;
    float logprob;
};

/* -9999.0, as OpenAI has it, for a token that is impossible (-inf): JSON has no such number. NULL:
 * no memory. */
json_t *logprob_json(float logprob);

#endif
