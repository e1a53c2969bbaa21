/* coordinator/http/generation.h - one request for text on its way through the server: the errand
 * that the bridge carries, the answer that grows, the stream to the client.
 *
 * Made in an MHD thread, fed in the bridge's, read in the MHD thread again, once the stream has
 * begun: a stream of events begins with the plan, a whole answer with its end, and a failure before
 * that is an error object instead. A failure later is the stream's last event.
 *
 * A stream in which nothing has happened for a while, since a long prompt is read or waits for its
 * turn, gets a comment, which clients skip: proxies cut what is silent. It begins a stream too. */
#ifndef LONGSPAN_COORDINATOR_HTTP_GENERATION_H
#define LONGSPAN_COORDINATOR_HTTP_GENERATION_H

#include "coordinator/http/answer.h"
#include "coordinator/http/bridge.h"
#include "coordinator/http/call.h"
#include "coordinator/http/generate_request.h"

struct generation {
    struct errand errand; /* first */
    struct stream stream;
    struct generate_request request;
    struct answer answer;
    struct api_error failure; /* http 0: none. Final once the stream has begun */
    bool begun;               /* events flow */
    uint64_t silence_us;      /* after which a comment goes out; 0: never */
    uint64_t spoke_us;        /* when something went out */
    uint32_t n_finished;
};

/* Takes over what `request` holds. The call has one reference to *generation (errand_release of its
 * errand). NULL: no memory; the request is freed then too. */
struct generation *generation_create(struct call *call, struct generate_request *request);

/* In place of bridge_submit, for one of which nothing has to be computed: an echo without
 * scores. */
void generation_finish(struct generation *generation);

/* What a call answers once generation->stream has begun. */
enum MHD_Result generation_answer(struct call *call, struct generation *generation);

#endif
