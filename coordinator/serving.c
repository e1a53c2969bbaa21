/* serving.c - see serving.h.
 *
 * Sequences of a request that is gone live on in the scheduler until they are closed; their
 * owner counts only until they are FINISHED, and a request that ends finishes them all first. */
#include "coordinator/serving.h"

#include "coordinator/events.h"
#include "coordinator/pace.h"
#include "coordinator/placement.h"
#include "coordinator/reports.h"
#include "coordinator/request.h"
#include "coordinator/reservations.h"
#include "coordinator/restores.h"
#include "coordinator/sampler.h"
#include "coordinator/scheduler.h"
#include "coordinator/steps.h"
#include "kernels/attention/kv_holder.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_REQUESTS = 256 };

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
    uint32_t *scratch;             /* [vocab] for the sampler */
    float *adjusted;               /* [vocab] likewise: a row after penalties and constraint */
    uint32_t *mask;                /* a bit for each token: what a constraint allows */
    struct vocabulary *vocabulary; /* for constraints; NULL until one is asked for */
    struct metrics metrics;
};

static enum status create_placement(struct serving *s, struct error *error)
{
    struct placement_holder *holders = calloc(s->n_holders, sizeof(*holders));
    if (holders == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u holders", s->n_holders);
    for (uint32_t i = 0; i < s->n_holders; i++)
        holders[i] =
            (struct placement_holder){.weight = cluster_holder_weight(s->cluster, i),
                                      .capacity_pages = cluster_holder_pages(s->cluster, i)};
    const enum status status =
        placement_create(&s->placement, holders, s->n_holders, s->cluster->options->stripe, error);
    free(holders);
    return status;
}

/* What pages depend on, beside the tokens: the name of the empty prefix. */
static struct prefix_name root_name(const struct cluster *cluster)
{
    const uint32_t numbers[] = {(uint32_t)cluster->options->kv_type, TILE_TOKENS, PAGE_TOKENS,
                                strcmp(cluster->options->kernels, "bf16") == 0};
    struct prefix_name name;
    struct sha256 hash;
    sha256_init(&hash);
    sha256_update(&hash, cluster->fingerprint, sizeof(cluster->fingerprint));
    sha256_update(&hash, numbers, sizeof(numbers));
    sha256_final(&hash, name.bytes);
    return name;
}

enum status serving_create(struct serving **serving, struct cluster *cluster,
                           struct control *control, const struct tokenizer *tokenizer,
                           const struct log *log, struct trace_track *trace, struct error *error)
{
    const struct coordinator_options *options = cluster->options;
    struct serving *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory to serve");
    s->cluster = cluster;
    s->control = control;
    s->tokenizer = tokenizer;
    s->log = log;
    s->trace = trace;
    s->n_holders = cluster_n_holders(cluster);
    s->remote = options->nodes > 0;
    s->scratch = calloc(cluster->hparams->vocab, sizeof(*s->scratch));
    s->adjusted = calloc(cluster->hparams->vocab, sizeof(*s->adjusted));
    s->failed = calloc(options->max_batch, sizeof(*s->failed));
    const struct scheduler_config config = {.chunk = options->chunk,
                                            .max_batch = options->max_batch,
                                            .depth = cluster->plan.pipeline,
                                            .keeps = options->prefix_cache,
                                            .root = root_name(cluster)};
    const struct reports_shape shape = {.n_ranks = options->workers,
                                        .result_rank = cluster_result_rank(cluster),
                                        .depth = config.depth,
                                        .max_segments = options->max_batch,
                                        .n_holders = s->n_holders,
                                        .vocab = cluster->hparams->vocab,
                                        .n_layers = cluster->hparams->n_layers};
    enum status status = s->scratch != NULL && s->adjusted != NULL && s->failed != NULL
                             ? create_placement(s, error)
                             : error_set(error, STATUS_NO_MEMORY, "no memory for a vocabulary");
    s->reservations = (struct reservations){.cluster = cluster,
                                            .control = control,
                                            .placement = s->placement,
                                            .log = log,
                                            .n_holders = s->n_holders,
                                            .next_number = 1};
    if (status == STATUS_OK)
        status = scheduler_create(&s->scheduler, &config, s->placement, error);
    if (status == STATUS_OK)
        status = reports_create(&s->reports, &shape, error);
    if (status == STATUS_OK)
        status = steps_create(&s->steps, options->max_batch, error);
    if (status == STATUS_OK)
        status = pace_create(&s->pace, options->step_target_ms, config.chunk, config.depth, error);
    if (status == STATUS_OK)
        status = restores_create(&s->restores, &s->reservations, s->scheduler, error);
    if (status != STATUS_OK) {
        serving_destroy(s);
        return status;
    }
    *serving = s;
    return STATUS_OK;
}

void serving_destroy(struct serving *serving)
{
    if (serving == NULL)
        return;
    while (serving->requests != NULL) {
        struct request *next = serving->requests->next;
        request_destroy(serving->requests);
        serving->requests = next;
    }
    pace_destroy(serving->pace);
    restores_destroy(serving->restores);
    steps_destroy(serving->steps);
    reports_destroy(serving->reports);
    scheduler_destroy(serving->scheduler);
    placement_destroy(serving->placement);
    free(serving->scratch);
    free(serving->adjusted);
    free(serving->mask);
    vocabulary_destroy(serving->vocabulary);
    free(serving->failed);
    free(serving);
}

/* ---- the end of requests --------------------------------------------------------------------- */

static void forget(struct serving *s, struct request *request)
{
    struct request **link = &s->requests;
    while (*link != request)
        link = &(*link)->next;
    *link = request->next;
    s->n_requests--;
    request_destroy(request);
}

/* Ends what still runs of it, forks before their parents, and forgets it. */
static void end_request(struct serving *s, struct request *request)
{
    for (uint32_t i = request->n_prompts; i-- > 0;)
        if (request->prompts[i].sequence != SCHEDULER_NONE)
            scheduler_finish(s->scheduler, request->prompts[i].sequence);
    forget(s, request);
}

/* Its client is gone. */
static void give_up(struct serving *s, struct request *request)
{
    metrics_count(&s->metrics, METRICS_REQUESTS_CANCELLED, 1);
    end_request(s, request);
}

static void fail_request(struct serving *s, struct request *request, enum status status,
                         const char *text)
{
    log_warn(s->log, "%s fails: %s", request->label, text);
    metrics_count(&s->metrics,
                  status == STATUS_CANCELLED ? METRICS_REQUESTS_CANCELLED : METRICS_REQUESTS_FAILED,
                  1);
    control_send_event_failure(s->control, &request->client, request->number, status, text, NULL);
    end_request(s, request);
}

/* After an event could not be sent. Where the event was at fault, too large or without memory, a
 * short message may still arrive: else the client would wait for ever. */
static void lose_client(struct serving *s, struct request *request, const struct error *why)
{
    log_info(s->log, "%s is cancelled: its client cannot be told anything: %s", request->label,
             why->text);
    if (why->status != STATUS_UNREACHABLE)
        control_send_event_failure(s->control, &request->client, request->number, why->status,
                                   why->text, NULL);
    give_up(s, request);
}

void serving_fail_all(struct serving *s, enum status status, const char *text)
{
    while (s->requests != NULL)
        fail_request(s, s->requests, status, text);
}

static struct request *find_request(const struct serving *s, const struct control_peer *client,
                                    uint64_t number)
{
    for (struct request *r = s->requests; r != NULL; r = r->next)
        if (r->number == number && control_same_peer(&r->client, client))
            return r;
    return NULL;
}

void serving_cancel(struct serving *s, const struct control_peer *client, uint64_t number)
{
    struct request *request = find_request(s, client, number);
    if (request != NULL)
        fail_request(s, request, STATUS_CANCELLED, "cancelled");
}

void serving_client_left(struct serving *s, const struct control_peer *client)
{
    struct request *next;
    for (struct request *r = s->requests; r != NULL; r = next) {
        next = r->next;
        if (control_same_peer(&r->client, client))
            give_up(s, r);
    }
}

void serving_client_heard(struct serving *s, const struct control_peer *client, uint64_t now_us)
{
    for (struct request *r = s->requests; r != NULL; r = r->next)
        if (control_same_peer(&r->client, client))
            r->heard_us = now_us;
}

/* ---- reservations ---------------------------------------------------------------------------- */

/* Asks every holder that has tokens in [begin, n_asked) for their pages. */
static enum status reserve(struct serving *s, uint32_t index, uint32_t begin, uint64_t now_us,
                           struct error *error)
{
    const struct scheduler_sequence *q = scheduler_sequence(s->scheduler, index);
    struct request *request = q->owner;
    struct request_prompt *prompt = &request->prompts[q->owner_index];
    if (s->remote)
        return reservations_ask(&s->reservations, q, begin, &prompt->reservation, now_us, error);
    scheduler_acked(s->scheduler, index);
    return STATUS_OK;
}

void serving_node_stored(struct serving *s, uint32_t node, const Longspan__NodeStored *stored)
{
    restores_changed(s->restores, node, stored);
}

void serving_reserve_reply(struct serving *s, uint32_t node, const Longspan__ReserveReply *reply)
{
    if (reply->job != s->cluster->job || reply->request == 0)
        return;
    if (restores_answered(s->restores, node, reply))
        return;
    for (struct request *r = s->requests; r != NULL; r = r->next)
        for (uint32_t i = 0; i < r->n_prompts; i++) {
            struct request_prompt *prompt = &r->prompts[i];
            if (prompt->reservation.number != reply->request)
                continue;
            struct error error;
            bool complete = false;
            const enum status status = reservations_answered(
                &s->reservations, &prompt->reservation, node, reply->failure, &complete, &error);
            if (status != STATUS_OK)
                fail_request(s, r, status, error.text);
            else if (complete)
                scheduler_acked(s->scheduler, prompt->sequence);
            return;
        }
}

/* Pages of sequences that all ranks have closed. */
static void free_closed(struct serving *s)
{
    uint32_t index;
    while ((index = scheduler_closed(s->scheduler)) != SCHEDULER_NONE) {
        if (s->remote)
            reservations_free(&s->reservations, scheduler_sequence(s->scheduler, index));
        scheduler_release(s->scheduler, index);
    }
}

/* ---- sampling -------------------------------------------------------------------------------- */

/* Keeps where the tokens are, for the report; without memory the report has no spans. */
static void keep_spans(struct serving *s, struct request_prompt *prompt)
{
    const struct scheduler_sequence *q = scheduler_sequence(s->scheduler, prompt->sequence);
    const uint32_t end = placement_tokens(s->placement, q->place);
    const size_t n = placement_spans(s->placement, q->place, 0, end, NULL, 0);
    prompt->spans = calloc(n, sizeof(*prompt->spans));
    if (prompt->spans != NULL)
        prompt->n_spans = placement_spans(s->placement, q->place, 0, end, prompt->spans, n);
}

/* `stopped`: by a stop text, behind which nothing counts. */
static enum status finish_prompt(struct serving *s, struct request *r, uint32_t index,
                                 const char *reason, bool stopped, struct error *error)
{
    struct request_prompt *prompt = &r->prompts[index];
    const char *text = "";
    size_t n_bytes = 0;
    keep_spans(s, prompt);
    prompt->cached_tokens = scheduler_sequence(s->scheduler, prompt->sequence)->cached_tokens;
    scheduler_finish(s->scheduler, prompt->sequence);
    prompt->sequence = SCHEDULER_NONE;
    prompt->reservation.number = 0; /* pages ahead that nobody needs: late answers mean nothing */
    prompt->finished = true;
    r->n_unfinished--;
    if (!stopped) {
        detokenizer_flush(prompt->detokenizer, &text, &n_bytes);
        const enum status status =
            stop_texts_end(prompt->stops, text, n_bytes, &text, &n_bytes, &stopped, error);
        if (status != STATUS_OK)
            return status;
    }
    return events_finished(s->control, r, index, stopped ? "stop" : reason, text, n_bytes, error);
}

/* Forbids what the constraint does not allow. What is allowed stays possible, however unlikely. */
static enum status apply_constraint(struct serving *s, struct request_prompt *prompt,
                                    uint32_t vocab, struct error *error)
{
    if (!constraint_mask(prompt->constraint, prompt->n_answer - prompt->n_generated, s->mask))
        return error_set(error, STATUS_INVALID,
                         "the JSON schema leaves too many ways to go on: a pattern that can be "
                         "matched in thousands of ways takes too long");
    for (uint32_t id = 0; id < vocab; id++) {
        const bool allowed =
            id < s->vocabulary->n_tokens && ((s->mask[id / 32] >> (id % 32)) & 1) != 0;
        if (!allowed)
            s->adjusted[id] = -INFINITY;
        else if (!(s->adjusted[id] > -FLT_MAX))
            s->adjusted[id] = -FLT_MAX;
    }
    return STATUS_OK;
}

/* The next token of a checked row. */
static enum status take_token(struct serving *s, struct request_prompt *prompt,
                              struct sampler_row *row, struct events_token *token,
                              struct error *error)
{
    enum status status = STATUS_OK;
    if (prompt->penalties != NULL || prompt->constraint != NULL) {
        memcpy(s->adjusted, row->row, row->vocab * sizeof(*s->adjusted));
        row->adjusted = s->adjusted;
    }
    if (prompt->penalties != NULL)
        penalties_apply(prompt->penalties, s->adjusted);
    if (prompt->constraint != NULL)
        status = apply_constraint(s, prompt, row->vocab, error);
    if (status != STATUS_OK)
        return status;
    token->id = sampler_take(&prompt->sampler, row, s->scratch, &token->logprob);
    if (prompt->penalties != NULL)
        penalties_count(prompt->penalties, token->id);
    if (prompt->constraint != NULL)
        constraint_accept(prompt->constraint, token->id);
    return STATUS_OK;
}

/* A prompt has one more token. */
static void count_token(struct serving *s, struct request *r, struct request_prompt *prompt,
                        uint64_t now_us)
{
    metrics_count(&s->metrics, METRICS_DECODE_TOKENS, 1);
    if (prompt->n_generated == 0)
        metrics_observe(&s->metrics, METRICS_FIRST_TOKEN, (double)(now_us - r->began_us) * 1e-6);
    else
        metrics_observe(&s->metrics, METRICS_NEXT_TOKEN,
                        (double)(now_us - prompt->token_us) * 1e-6);
    prompt->token_us = now_us;
    if (prompt->n_generated++ == 0 && ++r->n_first == r->n_prompts)
        r->prefilled_us = now_us;
    else if (r->prefilled_us != 0)
        r->decode_tokens++;
}

/* The next token of a prompt, from the result of its segment. Failures of the model's numbers are
 * the request's; those of sending are the client's: *sending says which. */
static enum status sample(struct serving *s, struct request *r, uint32_t index, uint32_t segment,
                          uint64_t now_us, bool *sending, struct error *error)
{
    struct request_prompt *prompt = &r->prompts[index];
    struct sampler_row row = reports_row(s->reports, segment);
    *sending = false;
    enum status status =
        sampler_row_check(&row, sampler_candidates(&r->sampling, r->n_logprobs, row.vocab), error);
    if (status != STATUS_OK)
        return status;
    struct events_token token = {.row = &row, .text = ""};
    status = take_token(s, prompt, &row, &token, error);
    if (status != STATUS_OK)
        return status;
    const int32_t id = token.id;
    bool stopped = false;

    /* A constraint allows an end only where there has to be one. */
    const bool ends = (!r->ignore_eos || prompt->constraint != NULL) &&
                      tokenizer_is_end_of_generation(s->tokenizer, id);
    /* The model's vocabulary may have ids that the tokenizer does not know: they have no text. */
    if (!ends &&
        detokenizer_push(prompt->detokenizer, id, &token.text, &token.n_bytes, NULL) != STATUS_OK)
        token.n_bytes = 0;
    status = stop_texts_push(prompt->stops, token.text, token.n_bytes, &token.text, &token.n_bytes,
                             &stopped, error);
    if (status != STATUS_OK)
        return status;
    token.n_held = stop_texts_held(prompt->stops);
    count_token(s, r, prompt, now_us);

    *sending = true;
    status = events_token(s->control, r, index, &token, error);
    if (status != STATUS_OK)
        return status;
    const struct scheduler_sequence *q = scheduler_sequence(s->scheduler, prompt->sequence);
    const bool complete = prompt->constraint != NULL && constraint_is_complete(prompt->constraint);
    if (ends || complete || stopped)
        return finish_prompt(s, r, index, "stop", stopped, error);
    if (q->n_tokens == q->max_tokens)
        return finish_prompt(s, r, index, "length", false, error);
    scheduler_sampled(s->scheduler, prompt->sequence, id);
    return STATUS_OK;
}

/* What it took over may be lacking at a holder: then it is computed, which is tried once. */
static bool recompute(struct serving *s, uint32_t index, const struct error *why)
{
    const struct scheduler_sequence *q = scheduler_sequence(s->scheduler, index);
    struct request *r = q->owner;
    if (!scheduler_recompute(s->scheduler, index))
        return false;
    r->prompts[q->owner_index].reservation.number = 0;
    log_warn(s->log, "%s: prompt %u is computed anew, without what it took over: %s", r->label,
             q->owner_index, why->text);
    return true;
}

/* One segment of a step that all ranks have reported. */
static void commit_segment(struct serving *s, const struct scheduler_segment *segment, uint32_t at,
                           uint64_t now_us)
{
    const struct scheduler_sequence *q = scheduler_sequence(s->scheduler, segment->sequence);
    if (q->state != SCHEDULER_RUNNING)
        return; /* its request has ended meanwhile */
    struct request *r = q->owner;
    const uint32_t index = q->owner_index;
    const struct error *failed = reports_error(s->reports, at);
    if (failed != NULL) {
        if (failed->status != STATUS_TIMEOUT || !recompute(s, segment->sequence, failed))
            fail_request(s, r, failed->status, failed->text);
        return;
    }
    struct error error = {.status = STATUS_OK};
    enum status status = STATUS_OK;
    bool sending = true;
    if (segment->fills)
        r->filled_us = now_us;
    if (segment->position < q->n_prompt) {
        r->prefill_tokens += segment->fills ? 0 : segment->n_tokens;
        metrics_count(&s->metrics, METRICS_PREFILL_TOKENS, segment->fills ? 0 : segment->n_tokens);
        if (r->prompts[index].n_generated == 0) /* not when it was preempted: it has been there */
            status = events_progress(s->control, r, index, q->n_done, q->n_prompt, &error);
    }
    if (status == STATUS_OK && segment->wants)
        status = sample(s, r, index, at, now_us, &sending, &error);
    if (status == STATUS_OK && r->n_unfinished == 0) {
        sending = true;
        status = events_done(s->control, s->cluster, r, s->reports, now_us, &error);
        if (status == STATUS_OK) {
            log_info(s->log, "%s done: %" PRIu64 " prompt tokens computed", r->label,
                     r->prefill_tokens);
            metrics_count(&s->metrics, METRICS_REQUESTS_DONE, 1);
            metrics_observe(&s->metrics, METRICS_REQUEST, (double)(now_us - r->began_us) * 1e-6);
            forget(s, r);
            return;
        }
    }
    if (status != STATUS_OK && sending)
        lose_client(s, r, &error);
    else if (status != STATUS_OK)
        fail_request(s, r, status, error.text);
}

/* The oldest step, which all ranks have reported. */
static void count_step(struct serving *s, const struct scheduler_step *step, uint64_t now_us)
{
    if (step->n_segments == 0)
        return;
    uint64_t rows = 0;
    for (uint32_t i = 0; i < step->n_segments; i++)
        rows += step->segments[i].n_tokens;
    const uint64_t sent_us =
        reports_deadline(s->reports) - s->cluster->options->step_timeout_ms * 1000ull;
    metrics_count(&s->metrics, METRICS_STEPS, 1);
    metrics_observe(&s->metrics, METRICS_STEP, (double)(now_us - sent_us) * 1e-6);
    metrics_observe(&s->metrics, METRICS_BATCH, step->n_segments);
    metrics_observe(&s->metrics, METRICS_ROWS, (double)rows);
}

static enum trace_phase phase_of(const struct scheduler_step *step)
{
    for (uint32_t i = 0; i < step->n_segments; i++)
        if (step->segments[i].n_tokens > 1)
            return TRACE_PREFILL;
    return step->n_segments > 0 ? TRACE_DECODE : TRACE_IDLE;
}

enum status serving_step_done(struct serving *s, uint32_t rank, const Longspan__StepDone *done,
                              struct frames *frames, uint64_t now_us, struct error *error)
{
    if (done->job != s->cluster->job)
        return STATUS_OK;
    const enum status status = reports_take(s->reports, rank, done, frames, error);
    if (status != STATUS_OK)
        return status;
    while (reports_complete(s->reports)) {
        const struct scheduler_step *step = scheduler_oldest(s->scheduler);
        const uint64_t at = trace_begin(s->trace);
        trace_step(s->trace, step->number, phase_of(step));
        count_step(s, step, now_us);
        for (uint32_t i = 0; i < step->n_segments; i++)
            s->failed[i] = reports_error(s->reports, i) != NULL;
        scheduler_commit(s->scheduler, s->failed);
        for (uint32_t i = 0; i < step->n_segments; i++)
            commit_segment(s, &step->segments[i], i, now_us);
        scheduler_pop(s->scheduler);
        pace_reported(s->pace, s->scheduler, now_us);
        reports_pop(s->reports);
        trace_span(s->trace, "sample", at);
    }
    return STATUS_OK;
}

/* ---- requests come --------------------------------------------------------------------------- */

static enum status add_sequences(struct serving *s, struct request *r, uint64_t now_us,
                                 struct error *error)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < r->n_prompts && status == STATUS_OK; i++) {
        struct request_prompt *prompt = &r->prompts[i];
        const struct scheduler_prompt add = {.tokens = prompt->ids,
                                             .n_tokens = prompt->n_ids,
                                             .max_tokens = prompt->max_tokens,
                                             .n_fill = prompt->n_fill,
                                             .fill_seed = prompt->fill_seed,
                                             .priority = r->priority,
                                             .alone = r->alone,
                                             .parent = prompt->parent == SCHEDULER_NONE
                                                           ? SCHEDULER_NONE
                                                           : r->prompts[prompt->parent].sequence,
                                             .shared_tokens = prompt->shared_tokens,
                                             .owner = r,
                                             .owner_index = i};
        status = scheduler_add(s->scheduler, &add, &prompt->sequence, error);
        if (status == STATUS_OK)
            restores_begin(s->restores, prompt->sequence, now_us);
    }
    return status;
}

/* Fails the request that a sequence belongs to. */
static void fail_owner(struct serving *s, uint32_t index, const struct error *error)
{
    fail_request(s, scheduler_sequence(s->scheduler, index)->owner, error->status, error->text);
}

static void count_started(struct serving *s, const struct scheduler_sequence *q)
{
    if (q->incarnation > 1)
        return; /* again, after it was preempted */
    metrics_count(&s->metrics, METRICS_PROMPTS_STARTED, 1);
    metrics_count(&s->metrics, METRICS_PROMPTS_HIT, q->cached_tokens > 0);
    metrics_count(&s->metrics, METRICS_CACHED_TOKENS, q->cached_tokens);
}

/* Late answers to its reservation mean nothing. */
static void take_preempted(struct serving *s, uint32_t index)
{
    const struct scheduler_sequence *q = scheduler_sequence(s->scheduler, index);
    struct request *r = q->owner;
    r->prompts[q->owner_index].reservation.number = 0;
    metrics_count(&s->metrics, METRICS_PREEMPTIONS, 1);
    log_info(s->log, "%s: prompt %u is preempted at %u tokens: the KV cache is full", r->label,
             q->owner_index, q->n_tokens);
}

static void admit(struct serving *s, uint64_t now_us)
{
    uint32_t index = SCHEDULER_NONE, begin;
    struct error error = {.status = STATUS_OK};
    while (scheduler_admit(s->scheduler, &index, &error)) {
        count_started(s, scheduler_sequence(s->scheduler, index));
        if (reserve(s, index, 0, now_us, &error) != STATUS_OK)
            fail_owner(s, index, &error);
    }
    while (scheduler_grow(s->scheduler, &index, &begin, &error))
        if (reserve(s, index, begin, now_us, &error) != STATUS_OK)
            fail_owner(s, index, &error);
    if (error.status == STATUS_NO_MEMORY)
        log_warn(s->log, "%s", error.text); /* tried again with the next message */
    while ((index = scheduler_preempt(s->scheduler)) != SCHEDULER_NONE)
        take_preempted(s, index);
}

/* What constraints need, once. */
static enum status prepare_constraints(struct serving *s, struct error *error)
{
    if (s->vocabulary != NULL)
        return STATUS_OK;
    free(s->mask);
    s->mask = calloc(tokenizer_vocab(s->tokenizer) / 32 + 1, sizeof(*s->mask));
    if (s->mask == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a mask of the vocabulary");
    return vocabulary_create(&s->vocabulary, s->tokenizer, error);
}

void serving_request(struct serving *s, const struct control_peer *client,
                     const Longspan__RunRequest *message, uint64_t now_us)
{
    struct request *request = NULL;
    struct error error = {.status = STATUS_OK};
    struct request_limits limits = {.tokenizer = s->tokenizer,
                                    .vocab = s->cluster->hparams->vocab,
                                    .max_tokens = s->cluster->max_tokens,
                                    .n_holders = s->n_holders};
    enum status status = STATUS_OK;
    if (find_request(s, client, message->request) != NULL)
        status =
            error_set(&error, STATUS_INVALID, "request %" PRIu64 " runs already", message->request);
    else if (s->n_requests >= MAX_REQUESTS)
        status = error_set(&error, STATUS_EXHAUSTED, "%u requests are waiting already: try later",
                           s->n_requests);
    else if (request_wants_json(message))
        status = prepare_constraints(s, &error);
    limits.vocabulary = s->vocabulary;
    if (status == STATUS_OK)
        status = request_create(&request, message, client, &limits, now_us, &error);
    if (status != STATUS_OK) {
        log_warn(s->log, "request %" PRIu64 " is refused: %s", message->request, error.text);
        metrics_count(&s->metrics, METRICS_REQUESTS_REFUSED, 1);
        control_send_event_failure(s->control, client, message->request, status, error.text, NULL);
        return;
    }
    for (uint32_t i = 0; i < s->n_holders; i++)
        request->before[i] = reports_traffic(s->reports, i);
    request->next = s->requests;
    s->requests = request;
    s->n_requests++;
    log_info(s->log, "%s: %u prompt%s, the first of %u tokens", request->label, request->n_prompts,
             request->n_prompts > 1 ? "s" : "", request->prompts[0].n_ids);
    status = add_sequences(s, request, now_us, &error);
    if (status != STATUS_OK) {
        fail_request(s, request, status, error.text);
        return;
    }
    admit(s, now_us);
    if (find_request(s, client, message->request) != request)
        return; /* its reservation failed at once */
    status = events_plan(s->control, s->cluster, request, s->scheduler, s->placement, &error);
    if (status != STATUS_OK)
        lose_client(s, request, &error);
}

/* ---- steps go -------------------------------------------------------------------------------- */

static enum status send_step(struct serving *s, const struct scheduler_step *step, uint64_t now_us,
                             struct error *error)
{
    struct reports_want *wants = steps_wants(s->steps);
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct scheduler_sequence *q =
            scheduler_sequence(s->scheduler, step->segments[i].sequence);
        const struct request *r = q->owner;
        wants[i] = (struct reports_want){0};
        if (step->segments[i].wants)
            wants[i] =
                (struct reports_want){.candidates = true,
                                      .row = r->want_logits || sampler_needs_row(&r->sampling),
                                      .n_candidates = sampler_candidates(
                                          &r->sampling, r->n_logprobs, s->cluster->hparams->vocab)};
    }
    reports_expect(s->reports, step->number, wants, step->n_segments,
                   now_us + s->cluster->options->step_timeout_ms * 1000ull);
    struct error why = {.status = STATUS_OK};
    const enum status status = steps_send(s->steps, s->control, &s->cluster->ranks[0].peer,
                                          s->cluster->job, step, s->scheduler, s->placement, &why);
    char label[CLUSTER_LABEL_BYTES];
    pace_sent(s->pace, step, s->scheduler, now_us);
    if (status != STATUS_OK)
        return error_set(error, STATUS_FAILED, "step %" PRIu64 " cannot be sent to %s: %.800s",
                         step->number, cluster_rank_label(s->cluster, 0, label), why.text);
    return STATUS_OK;
}

enum status serving_pump(struct serving *s, uint64_t now_us, struct error *error)
{
    const struct scheduler_step *step;
    uint64_t at = trace_begin(s->trace);
    free_closed(s);
    admit(s, now_us);
    while ((step = scheduler_next(s->scheduler)) != NULL) {
        trace_step(s->trace, step->number, phase_of(step));
        at = trace_span(s->trace, "schedule", at);
        const enum status status = send_step(s, step, now_us, error);
        at = trace_span(s->trace, "send step", at);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* ---- deadlines ------------------------------------------------------------------------------- */

static void check_reservations(struct serving *s, struct request *r, uint64_t now_us)
{
    struct error error;
    for (uint32_t i = 0; i < r->n_prompts; i++)
        if (reservations_check(&s->reservations, &r->prompts[i].reservation, now_us, &error) !=
            STATUS_OK) {
            fail_request(s, r, error.status, error.text);
            return;
        }
}

static enum status check_steps(const struct serving *s, uint64_t now_us, struct error *error)
{
    if (now_us < reports_deadline(s->reports))
        return STATUS_OK;
    char missing[512] = "", label[CLUSTER_LABEL_BYTES];
    size_t length = 0;
    for (uint32_t i = 0; i < s->cluster->options->workers && length < sizeof(missing); i++)
        if (!reports_has(s->reports, i))
            length +=
                (size_t)snprintf(missing + length, sizeof(missing) - length, "%s%s",
                                 length > 0 ? ", " : "", cluster_rank_label(s->cluster, i, label));
    return error_set(error, STATUS_TIMEOUT,
                     "step %" PRIu64 " was not reported within %g s (--step-timeout) by: %s",
                     reports_oldest(s->reports), s->cluster->options->step_timeout_ms / 1000.0,
                     missing);
}

enum status serving_tick(struct serving *s, uint64_t now_us, struct error *error)
{
    struct request *next;
    for (struct request *r = s->requests; r != NULL; r = next) {
        next = r->next;
        if (now_us - r->heard_us >= SERVING_CLIENT_SILENCE_US) {
            log_info(s->log, "%s is cancelled: its client is silent for %d s", r->label,
                     SERVING_CLIENT_SILENCE_US / 1000000);
            give_up(s, r);
        } else {
            check_reservations(s, r, now_us);
        }
    }
    restores_check(s->restores, now_us);
    return check_steps(s, now_us, error);
}

bool serving_closed(const struct serving *s)
{
    bool stores = false;
    for (uint32_t i = 0; i < s->cluster->n_nodes; i++)
        stores = stores || s->cluster->nodes[i].stores;
    return !stores || scheduler_usage(s->scheduler).n_open == 0;
}

bool serving_stepping(const struct serving *s)
{
    return scheduler_in_flight(s->scheduler) > 0;
}

struct serving_view serving_view(const struct serving *s)
{
    return (struct serving_view){.requests = s->requests,
                                 .scheduler = s->scheduler,
                                 .placement = s->placement,
                                 .reports = s->reports,
                                 .metrics = &s->metrics};
}
