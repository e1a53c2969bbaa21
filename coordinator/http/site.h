/* coordinator/http/site.h - what all handlers of the HTTP server know.
 *
 * Constant once the server listens, but for the atomics. */
#ifndef LONGSPAN_COORDINATOR_HTTP_SITE_H
#define LONGSPAN_COORDINATOR_HTTP_SITE_H

#include "coordinator/http/body.h"
#include "coordinator/http/http_options.h"
#include "coordinator/http/keys.h"
#include "coordinator/http/model_names.h"
#include "coordinator/http/tally.h"
#include "model/chat/chat_templates.h"
#include "model/tokenizer.h"
#include "sys/log.h"

#include <stdatomic.h>
#include <stdint.h>

struct bridge;        /* bridge.h */
struct status_source; /* status_source.h */

enum site_state {
    SITE_LOADING,  /* the cluster is not ready */
    SITE_READY,    /* requests are answered */
    SITE_DRAINING, /* no new ones; those that run end */
};

enum { SITE_MODEL_BYTES = 256 };

struct site {
    const struct http_options *options;
    const struct log *log;
    const struct tokenizer *tokenizer;
    uint32_t vocab;               /* of the model: at least the tokenizer's */
    char model[SITE_MODEL_BYTES]; /* its id for clients: names.id */
    struct model_names names;
    uint64_t created_s; /* since 1970: when it was loaded */
    struct chat_templates *templates;
    struct keys *keys; /* NULL: anybody may */
    struct bridge *bridge;
    struct status_source *status;
    _Atomic(enum site_state) state;
    atomic_uint max_tokens; /* of one sequence; 0 until READY */
    atomic_uint n_calls;    /* that are not answered yet */
    atomic_uint n_whole;    /* of them those that were received whole */
    atomic_ullong n_served; /* names calls */
    struct body_limits bodies;
    struct tally tally;
};

#endif
