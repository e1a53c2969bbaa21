/* coordinator/http/generation.h - one request for text on its way through the server: the errand
 * that the bridge carries, the answer that grows, the stream to the client.
 *
 * Made in an MHD thread, of a body that is read there, or by the desk if it is long; fed in the
 * bridge's thread, read in the MHD thread again, once the stream has begun: a stream of events begins with the plan, a whole answer with its end, and a failure before
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
    struct site *site;
    char call_id[CALL_ID_BYTES];
    enum generate_kind kind;
    struct body body; /* until it is read */
    struct generate_request request;
    struct answer answer;
    struct api_error failure; /* http 0: none. Final once the stream has begun */
    bool begun;               /* events flow */
    uint64_t silence_us;      /* after which a comment goes out; 0: never */
    uint64_t spoke_us;        /* when something went out */
    uint32_t n_finished;
};

/* Takes over the call's body; the bridge lets the desk read it, unless generation_read has done so
 * before. The call has one reference to *generation (errand_release of its errand). NULL: no
 * memory. */
struct generation *generation_create(struct call *call, enum generate_kind kind);

/* For a body that is soon read: at once. False: there is nothing to submit, its answer is known. */
bool generation_read(struct generation *generation);

/* What a call answers once generation->stream has begun. */
enum MHD_Result generation_answer(struct call *call, struct generation *generation);

#endif
