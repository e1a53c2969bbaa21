/* coordinator/request.h - one client's request: its prompts, what is asked about them, how far they
 * are.
 *
 * Everything that the client said is checked here, once. */
#ifndef LONGSPAN_COORDINATOR_REQUEST_H
#define LONGSPAN_COORDINATOR_REQUEST_H

#include "coordinator/constraint/constraint.h"
#include "coordinator/control.h"
#include "coordinator/penalties.h"
#include "coordinator/placement.h"
#include "coordinator/reports.h"
#include "coordinator/reservations.h"
#include "coordinator/sampler.h"
#include "coordinator/stop_texts.h"
#include "model/detokenizer.h"
#include "model/tokenizer.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

enum { REQUEST_ID_BYTES = 96, REQUEST_MAX_PROMPTS = 1024 };

struct request_prompt {
    int32_t *ids; /* what is filled counts, as zeros */
    bool again;   /* they are those of the prompt before, and belong to it */
    uint32_t n_ids;
    uint32_t n_fill; /* of n_ids; fewer */
    uint64_t fill_seed;
    uint32_t max_tokens; /* that may be computed: the prompt, and what is generated but the last */
    uint32_t parent;     /* the earlier prompt that it shares pages with; SCHEDULER_NONE */
    uint32_t shared_tokens;
    bool scored;       /* its tokens are scored: it shares nobody's pages */
    bool waits;        /* for all of its parent's tokens, which are its own too, and are scored */
    uint32_t n_scored; /* tokens whose scores the client has been told; the first one has none */
    uint32_t sequence; /* in the scheduler, until finished */
    bool finished;
    struct sampler sampler;
    struct penalties *penalties;   /* NULL: none */
    struct constraint *constraint; /* of the JSON that was asked for; NULL: none */
    struct detokenizer *detokenizer;
    struct stop_texts *stops;
    uint32_t n_generated, n_answer; /* tokens of the answer: so far, at most */
    uint64_t token_us;              /* when the last of them was sampled */
    uint32_t cached_tokens;         /* that it did not have to compute; taken when it finishes */
    struct placement_span *spans;   /* where its tokens were; taken when it finishes */
    size_t n_spans;
    struct reservation reservation; /* that holders have to acknowledge */
};

struct request {
    struct request *next;
    struct frames_peer client;
    uint64_t number;                   /* the client's own */
    char id[REQUEST_ID_BYTES];         /* likewise, cut */
    char label[REQUEST_ID_BYTES + 40]; /* for the log: "request 3 (cmpl-req-1)" */
    struct request_prompt *prompts;
    uint32_t n_prompts, n_unfinished;
    uint32_t n_predict; /* 0: until the end of generation or of the context */
    int32_t priority;
    bool ignore_eos, want_logprobs, want_logits, alone; /* alone: shares no pages */
    bool no_answer;                                     /* nothing is generated */
    uint32_t n_logprobs;
    struct sampler_settings sampling;
    struct penalties_settings penalties;
    struct penalties_bias *biases;   /* of them */
    uint64_t heard_us;               /* of the client */
    uint64_t began_us, prefilled_us; /* prefilled_us 0: some prompt has no token yet */
    uint64_t filled_us;              /* the last fill was reported; 0: none was */
    uint32_t n_first;                /* prompts that have their first token */
    uint64_t prefill_tokens, decode_tokens;
    struct reports_traffic *before; /* [n_holders] when it began */
};

/* What a request may ask for. */
struct request_limits {
    const struct tokenizer *tokenizer;
    const struct constraint *constraint; /* of the JSON that is asked for; NULL: none is */
    uint32_t vocab;                      /* of the model; the tokenizer's may be smaller */
    uint32_t max_tokens;                 /* of one sequence */
    uint32_t n_holders;
};

/* Is JSON asked for? Then the limits have a constraint, of which those of the answers are made. */
bool request_wants_json(const Longspan__RunRequest *message);

/* How many tokens of a prompt are to be scored with a segment: those that follow its first rows. 0
 * where all of them have been: after it was preempted. */
uint32_t request_scored(const struct request_prompt *prompt, uint32_t position, uint32_t n_tokens);

/* Candidates that are wanted beside each of them. */
uint32_t request_scored_top(const struct request *request, uint32_t vocab);

/* The caller ends *request with request_destroy. STATUS_INVALID: no or too many prompts, an empty
 * one, one longer than the context, an id outside the vocabulary, sampling numbers out of range,
 * stop texts that are none, a JSON schema that does not fit into the answer;
 * the text names the prompt and both numbers. STATUS_NO_MEMORY, STATUS_FAILED (the tokenizer). */
enum status request_create(struct request **request, const Longspan__RunRequest *message,
                           const struct frames_peer *client, const struct request_limits *limits,
                           uint64_t now_us, struct error *error);
void request_destroy(struct request *request);

#endif
