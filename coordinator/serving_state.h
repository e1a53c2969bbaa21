/* coordinator/serving_state.h - what serving.c (its life, steps on their way), serving_requests.c
 * (requests come and end), serving_pages.c (who is admitted, and gets pages) and serving_results.c
 * (reports become tokens) share. */
#ifndef LONGSPAN_COORDINATOR_SERVING_STATE_H
#define LONGSPAN_COORDINATOR_SERVING_STATE_H

#include "coordinator/early.h"
#include "coordinator/pace.h"
#include "coordinator/reservations.h"
#include "coordinator/restores.h"
#include "coordinator/sampler.h"
#include "coordinator/schemas.h"
#include "coordinator/serving.h"
#include "coordinator/steps.h"
#include "coordinator/texts.h"

struct serving {
    struct cluster *cluster;
    struct control *control;
    const struct tokenizer *tokenizer;
    const struct log *log;
    struct trace_track *trace;
    struct placement *placement;
    struct scheduler *scheduler;
    struct reports *reports;
    struct steps *steps;
    struct pace *pace;
    bool *failed; /* [max_batch] segments of the step that is looked at */
    struct request *requests;
    uint32_t n_requests, n_holders;
    bool remote; /* holders are attention nodes */
    struct reservations reservations;
    struct restores *restores;
    uint32_t *scratch;       /* [vocab] for the sampler */
    float *adjusted;         /* [vocab] likewise: a row after penalties and constraint */
    uint32_t *mask;          /* a bit for each token of the tokenizer: what a constraint allows */
    struct schemas *schemas; /* for constraints */
    struct early early;      /* requests whose schema is not worked out yet */
    struct texts *texts;     /* requests whose long texts are not tokenized yet */
    struct metrics metrics;
};

/* ---- serving_requests.c ---- */

/* Those whose texts have been tokenized, or whose schema has been worked out, meanwhile. */
void serving_take_early(struct serving *serving, uint64_t now_us);

/* Ends of a request, which is gone afterwards. It is done, and nothing of it runs. */
void serving_forget(struct serving *serving, struct request *request);
/* Its client is gone. */
void serving_give_up(struct serving *serving, struct request *request);
/* Its client is silent, and told so: one that was stopped goes on, and would wait for ever. */
void serving_give_up_silent(struct serving *serving, struct request *request);
void serving_tell_silent(struct control *control, const struct frames_peer *client,
                         uint64_t number);
/* Its client is told why. */
void serving_fail(struct serving *serving, struct request *request, enum status status,
                  const char *text);
/* An event could not be sent. */
void serving_lose_client(struct serving *serving, struct request *request, const struct error *why);

/* ---- serving_pages.c ---- */

/* Admits who can be, lets grow who has to, preempts who cannot stay. */
void serving_admit(struct serving *serving, uint64_t now_us);

/* Pages of sequences that all ranks have closed. */
void serving_free_closed(struct serving *serving);

/* Fails the request if a holder has not acknowledged its pages in time. */
void serving_check_reservations(struct serving *serving, struct request *request, uint64_t now_us);

/* ---- serving.c ---- */

/* What a step does, for the trace. */
enum trace_phase serving_phase(const struct scheduler_step *step);

#endif
