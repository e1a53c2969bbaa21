/* worker/step.h - a Step from the wire, checked and turned into plain rows.
 *
 * Every rank decodes the same bytes with the same limits and comes to the same rows, the same
 * faults and therefore the same MPI calls: nothing here looks at what only one rank knows. What is
 * wrong with one segment (a token outside the vocabulary, a position beyond the limit) takes that
 * segment out of the rows and is reported for it; what is wrong with the whole step (another job,
 * an old number, too many rows) takes them all out. Segments that stay are numbered anew for
 * worker/attention.h. */
#ifndef LONGSPAN_WORKER_STEP_H
#define LONGSPAN_WORKER_STEP_H

#include "proto/longspan.pb-c.h"
#include "sys/status.h"
#include "worker/attention.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a step of this job may hold; from WorkerSetup and the model. */
struct step_limits {
    uint64_t job;
    uint32_t n_holders;
    uint32_t max_rows, max_sequences, max_tokens;
    uint32_t vocab;
};

enum step_want {
    STEP_WANT_NOTHING,
    STEP_WANT_CANDIDATES,
    STEP_WANT_LOGITS, /* candidates and the row */
};

struct step_name {
    uint64_t sequence;
    uint32_t incarnation;
    uint32_t keep_tokens; /* whole pages below it stay in the local holder */
};

/* One segment of the message, in its order. */
struct step_segment {
    struct error error; /* STATUS_OK: it takes part, and the next five fields count */
    uint32_t row;       /* first of its rows */
    uint32_t n_tokens;
    uint32_t attention; /* index in step.attention */
    uint32_t
        n_needed;    /* its last rows, of which something is made behind the model's last layer; */
    uint32_t needed; /* the first of them, counted among those of the step */
    uint64_t fill_seed; /* of a step that fills */
    bool answered;      /* the sender expects a result for it, be it an empty one */
    enum step_want want;
    uint32_t n_candidates; /* at most the vocabulary */
    bool scored;           /* the sender expects scores for it, be they empty */
    uint32_t n_scored;     /* of its rows, from the first on: the logits of next[row] are wanted, */
    const int32_t *next;   /* and so many candidates beside them */
    uint32_t n_top;
};

struct step {
    uint64_t number;    /* as in the message, also when it is refused */
    struct error fault; /* of the whole step; STATUS_OK: none */

    uint32_t n_closed; /* sequences to drop first */
    struct step_name *closed;

    uint32_t n_segments; /* 0 when the message has more than max_sequences: `fault` says so */
    struct step_segment *segments;

    bool fill; /* its rows are filled (worker/fill.h), not computed; tokens mean nothing then */

    uint32_t n_rows; /* of the segments that take part, one after the other */
    int32_t *tokens;
    uint32_t *positions;

    uint32_t n_needed; /* rows, of all segments; the other rows of the last layer are left out */
    uint32_t *needed_positions;

    uint32_t n_attention; /* the segments that take part */
    struct attention_segment *attention;

    uint32_t n_wanted; /* taking part and wanting a result */
    uint32_t n_scored; /* rows of the segments that take part */
    int32_t *next;     /* of all of them, one after the other */

    /* private */
    struct step_limits limits;
    uint64_t last_number;
    struct attention_span *spans;
    size_t span_capacity, closed_capacity;
    uint32_t *order;
};

/* Allocates for the limits; the caller ends *step with step_destroy. STATUS_INVALID: a limit is 0.
 * STATUS_NO_MEMORY. */
enum status step_create(struct step **step, const struct step_limits *limits, struct error *error);
void step_destroy(struct step *step);

/* Fills `step`; what it held before is gone. A bad message is not a failure of this function: see
 * `fault` and the segments' errors. Numbers must grow; a refused step does not count. Grows its
 * tables for many spans or closed sequences, otherwise allocates nothing.
 * STATUS_NO_MEMORY: of this rank alone, so the job cannot go on. */
enum status step_decode(struct step *step, const Longspan__Step *message, struct error *error);

#endif
