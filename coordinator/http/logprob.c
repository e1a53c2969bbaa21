/* logprob.c - see logprob.h. */
#include "coordinator/http/logprob.h"

#define IMPOSSIBLE -9999.0

json_t *logprob_json(float logprob)
{
    return json_real(logprob > (float)IMPOSSIBLE ? (double)logprob : IMPOSSIBLE);
}
