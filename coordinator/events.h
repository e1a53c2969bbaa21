/* coordinator/events.h - RunEvents: what a client is told of its request.
 *
 * Each returns what control_send returns: STATUS_UNREACHABLE and STATUS_EXHAUSTED mean that the
 * client is gone, or does not read; its request is then cancelled by the caller. */
#ifndef LONGSPAN_COORDINATOR_EVENTS_H
#define LONGSPAN_COORDINATOR_EVENTS_H

#include "coordinator/cluster.h"
#include "coordinator/request.h"
#include "coordinator/scheduler.h"

/* Prompts, their ids and, for those that have been admitted, where their tokens will be. */
enum status events_plan(struct control *control, const struct cluster *cluster,
                        const struct request *request, const struct scheduler *scheduler,
                        const struct placement *placement, struct error *error);

enum status events_progress(struct control *control, const struct request *request, uint32_t prompt,
                            uint32_t done, uint32_t total, struct error *error);

/* A token that was sampled. */
struct events_token {
    int32_t id;
    float logprob;
    const struct sampler_row *row; /* as sampled from */
    const char *text;              /* what became certain by it: whole characters */
    size_t n_bytes, n_held;        /* n_held: bytes that may be of a stop text, or are */
};
enum status events_token(struct control *control, const struct request *request, uint32_t prompt,
                         const struct events_token *sampled, struct error *error);

/* Scores of a prompt's tokens [first, first + n). */
struct events_scores {
    uint32_t first, n;
    const struct reports *reports; /* whose oldest step has them ... */
    uint32_t segment, at;          /* ... in this segment, from this one of its scores on */
};
enum status events_scores(struct control *control, const struct request *request, uint32_t prompt,
                          const struct events_scores *scored, struct error *error);

/* reason: "stop", "length"; text: what the detokenizer still held back. */
enum status events_finished(struct control *control, const struct request *request, uint32_t prompt,
                            const char *reason, const char *text, size_t text_bytes,
                            struct error *error);

/* Times, counts, and what moved to and from each holder since the request began (requests that run
 * at the same time are counted in each other's). In HolderReport.spans, `holder` is the number of
 * the prompt. */
enum status events_done(struct control *control, const struct cluster *cluster,
                        const struct request *request, const struct reports *reports,
                        uint64_t now_us, struct error *error);

#endif
