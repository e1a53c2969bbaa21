/* serving_results.c - from what the ranks have reported to tokens, and to what clients are told. */
#include "coordinator/serving_state.h"

#include "coordinator/events.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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
    const uint32_t n_tokens = tokenizer_vocab(s->tokenizer);
    for (uint32_t id = 0; id < vocab; id++) {
        const bool allowed = id < n_tokens && ((s->mask[id / 32] >> (id % 32)) & 1) != 0;
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

/* Tells the scores of a segment's tokens that the client has not been told yet. */
static enum status score(struct serving *s, struct request *r, uint32_t index,
                         const struct scheduler_segment *segment, uint32_t at, bool *sending,
                         struct error *error)
{
    struct request_prompt *prompt = &r->prompts[index];
    const uint32_t n = request_scored(prompt, segment->position, segment->n_tokens);
    const uint32_t first = segment->position + 1;
    const uint32_t skipped = prompt->n_scored > first ? prompt->n_scored - first : 0;
    *sending = false;
    for (uint32_t i = 0; i < n; i++) {
        const struct scores_row scored = reports_scores(s->reports, at, i);
        const enum status status = scores_check(&scored, error);
        if (status != STATUS_OK)
            return status;
    }
    *sending = true;
    if (n == 0)
        return STATUS_OK;
    prompt->n_scored = first + n;
    const struct events_scores scored = {.first = first + skipped,
                                         .n = n - skipped,
                                         .reports = s->reports,
                                         .segment = at,
                                         .at = skipped};
    return events_scores(s->control, r, index, &scored, error);
}

/* A prompt has been computed, and that was all. */
static enum status finish_unanswered(struct serving *s, struct request *r, uint32_t index,
                                     uint64_t now_us, struct error *error)
{
    if (++r->n_first == r->n_prompts)
        r->prefilled_us = now_us;
    return finish_prompt(s, r, index, "length", false, error);
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
            serving_fail(s, r, failed->status, failed->text);
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
    if (status == STATUS_OK)
        status = score(s, r, index, segment, at, &sending, &error);
    if (status == STATUS_OK && segment->wants)
        status = r->no_answer ? finish_unanswered(s, r, index, now_us, &error)
                              : sample(s, r, index, at, now_us, &sending, &error);
    if (status == STATUS_OK && r->n_unfinished == 0) {
        sending = true;
        status = events_done(s->control, s->cluster, r, s->reports, now_us, &error);
        if (status == STATUS_OK) {
            log_info(s->log, "%s done: %" PRIu64 " prompt tokens computed", r->label,
                     r->prefill_tokens);
            metrics_count(&s->metrics, METRICS_REQUESTS_DONE, 1);
            metrics_observe(&s->metrics, METRICS_REQUEST, (double)(now_us - r->began_us) * 1e-6);
            serving_forget(s, r);
            return;
        }
    }
    if (status != STATUS_OK && sending)
        serving_lose_client(s, r, &error);
    else if (status != STATUS_OK)
        serving_fail(s, r, status, error.text);
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
        trace_step(s->trace, step->number, serving_phase(step));
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
