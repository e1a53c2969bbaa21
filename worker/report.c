/* report.c - messages are built in an arena, which is reset with each. */
#include "worker/report.h"

#include "proto/arena.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct report {
    struct report_config config;
    struct attention_traffic *reported; /* [n_holders] */
    struct arena arena;
};

/* Enough for a hundred sequences that each want a whole vocabulary of candidates. */
static const size_t ARENA_BYTES = (size_t)1 << 30;

enum status report_create(struct report **report, const struct report_config *config,
                          struct error *error)
{
    struct report *r = calloc(1, sizeof(*r));
    if (r == NULL || (r->reported = calloc(config->n_holders + 1, sizeof(*r->reported))) == NULL) {
        free(r);
        return error_set(error, STATUS_NO_MEMORY, "report: no memory");
    }
    arena_init(&r->arena, ARENA_BYTES);
    r->config = *config;
    *report = r;
    return STATUS_OK;
}

void report_destroy(struct report *report)
{
    if (report == NULL)
        return;
    arena_destroy(&report->arena);
    free(report->reported);
    free(report);
}

static Longspan__Failure failure_of(const struct error *error)
{
    Longspan__Failure failure = LONGSPAN__FAILURE__INIT;
    failure.status = (uint32_t)error->status;
    failure.text = (char *)error->text;
    return failure;
}

enum status report_send_ready(struct report *report, const struct report_ready *ready,
                              const struct error *failure, struct error *error)
{
    Longspan__WorkerReady message = LONGSPAN__WORKER_READY__INIT;
    Longspan__Failure why = failure_of(failure);
    message.job = report->config.job;
    message.rank = report->config.rank;
    if (failure->status != STATUS_OK) {
        message.failure = &why;
    } else {
        message.weight_bytes = ready->weight_bytes;
        message.working_bytes = ready->working_bytes;
        message.resident_bytes = ready->resident_bytes;
        message.local_kv_bytes = ready->local_kv_bytes;
        message.load_s = ready->load_s;
    }
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_WORKER_READY;
    control.worker_ready = &message;
    return link_send(report->config.link, &control, NULL, 0, error);
}

/* ---- a step ---------------------------------------------------------------------------------- */

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "report: no memory for a step's report");
}

static Longspan__SegmentError *new_error(struct arena *arena, uint32_t segment,
                                         const struct error *why)
{
    Longspan__SegmentError *entry = arena_take(arena, sizeof(*entry));
    Longspan__Failure *failure = arena_take(arena, sizeof(*failure));
    if (entry == NULL || failure == NULL)
        return NULL;
    longspan__segment_error__init(entry);
    *failure = failure_of(why);
    entry->segment = segment;
    entry->failure = failure;
    return entry;
}

static Longspan__Candidates *new_candidates(struct arena *arena, const struct candidates_sum *sum,
                                            const struct candidate *best)
{
    Longspan__Candidates *entry = arena_take(arena, sizeof(*entry));
    if (entry == NULL)
        return NULL;
    longspan__candidates__init(entry);
    if (sum == NULL)
        return entry; /* of a failed segment */
    int32_t *ids = arena_take(arena, (sum->count + 1) * sizeof(*ids));
    float *logits = arena_take(arena, (sum->count + 1) * sizeof(*logits));
    if (ids == NULL || logits == NULL)
        return NULL;
    for (uint32_t i = 0; i < sum->count; i++) {
        ids[i] = best[i].id;
        logits[i] = best[i].logit;
    }
    entry->n_ids = entry->n_logits = sum->count;
    entry->ids = ids;
    entry->logits = logits;
    entry->log_sum_exp = candidates_log_sum_exp(sum);
    return entry;
}

/* Of a segment whose rows begin at `first` of the table; NULL: of one that failed. */
static Longspan__Scores *new_scores(struct arena *arena, const struct candidate_table *table,
                                    uint32_t first, const struct step_segment *segment)
{
    Longspan__Scores *entry = arena_take(arena, sizeof(*entry));
    if (entry == NULL)
        return NULL;
    longspan__scores__init(entry);
    if (table == NULL)
        return entry;
    const uint32_t n = segment->n_scored, n_top = segment->n_top;
    entry->log_sum_exps = arena_array(arena, n, sizeof(*entry->log_sum_exps));
    entry->top_ids = arena_array(arena, (size_t)n * n_top + 1, sizeof(*entry->top_ids));
    entry->top_logits = arena_array(arena, (size_t)n * n_top + 1, sizeof(*entry->top_logits));
    if (entry->log_sum_exps == NULL || entry->top_ids == NULL || entry->top_logits == NULL)
        return NULL;
    for (uint32_t row = 0; row < n; row++) {
        const struct candidate *best = table->best + (first + row) * table->stride;
        entry->log_sum_exps[row] = candidates_log_sum_exp(&table->sums[first + row]);
        for (uint32_t i = 0; i < n_top; i++) {
            entry->top_ids[(size_t)row * n_top + i] = best[i].id;
            entry->top_logits[(size_t)row * n_top + i] = best[i].logit;
        }
    }
    entry->logits = (float *)table->named_logits + first;
    entry->n_logits = entry->n_log_sum_exps = n;
    entry->n_top_ids = entry->n_top_logits = (size_t)n * n_top;
    return entry;
}

static bool wants(const struct step_segment *segment)
{
    return segment->error.status == STATUS_OK && segment->want != STEP_WANT_NOTHING;
}

/* A row that is no distribution. */
static bool is_bad(const struct candidates_sum *sum)
{
    return sum->bad > 0 || !(sum->largest > -INFINITY);
}

static const struct error *bad_row(struct arena *arena, uint64_t sequence, uint32_t position,
                                   const struct candidates_sum *sum)
{
    static const struct error overflow = {STATUS_FAILED, "the logits of a sequence are not finite"};
    struct error *own = arena_take(arena, sizeof(*own));
    if (own == NULL)
        return &overflow; /* without its words it is still no result */
    error_set(own, STATUS_FAILED,
              "sequence %" PRIu64 ": %s logits after position %u: the model's weights or "
              "activations overflow",
              sequence, sum->bad > 0 ? "infinite or undefined" : "no finite", position);
    return own;
}

/* One segment's error and, from the rank that answers, its results. These count rows: answers and
 * scores, of logits as computed, of logits as sent. */
struct place {
    uint32_t row, scored, from, kept;
};

/* Why a segment failed; NULL when it did not. */
static const struct error *find_error(struct report *report, const struct step *step, uint32_t i,
                                      const struct attention *attention,
                                      const struct results *results, const struct place *place)
{
    const struct step_segment *segment = &step->segments[i];
    if (segment->error.status != STATUS_OK)
        return &segment->error;
    const struct error *error =
        attention != NULL ? attention_segment_error(attention, segment->attention) : NULL;
    if (error != NULL || !report->config.answers)
        return error;
    const struct attention_segment *where = &step->attention[segment->attention];
    for (uint32_t row = 0; row < segment->n_scored; row++)
        if (is_bad(&results->scores.sums[place->scored + row]))
            return bad_row(&report->arena, where->sequence, where->position + row,
                           &results->scores.sums[place->scored + row]);
    if (wants(segment) && is_bad(&results->answers.sums[place->row]))
        return bad_row(&report->arena, where->sequence, where->position + segment->n_tokens - 1,
                       &results->answers.sums[place->row]);
    return NULL;
}

/* What the rank that answers adds. */
static bool add_results(Longspan__StepDone *message, struct report *report,
                        const struct step_segment *segment, bool failed, struct results *results,
                        struct place *place)
{
    struct arena *arena = &report->arena;
    const struct candidate_table *answers = &results->answers;
    const bool takes_part = segment->error.status == STATUS_OK, has_row = wants(segment);
    if (segment->answered) {
        const bool good = has_row && !failed;
        Longspan__Candidates *entry =
            new_candidates(arena, good ? &answers->sums[place->row] : NULL,
                           good ? answers->best + place->row * answers->stride : NULL);
        message->results[message->n_results++] = entry;
        if (entry == NULL)
            return false;
    }
    if (segment->scored) {
        Longspan__Scores *entry = new_scores(arena, takes_part && !failed ? &results->scores : NULL,
                                             place->scored, segment);
        message->scores[message->n_scores++] = entry;
        if (entry == NULL)
            return false;
    }
    if (has_row && segment->want == STEP_WANT_LOGITS) {
        const size_t vocab = results->vocab;
        if (!failed && place->kept++ != place->from)
            memmove(results->logits + (place->kept - 1) * vocab,
                    results->logits + place->from * vocab, vocab * sizeof(float));
        place->from++;
    }
    place->row += has_row;
    place->scored += takes_part ? segment->n_scored : 0;
    return true;
}

static bool add_segment(Longspan__StepDone *message, struct report *report, const struct step *step,
                        uint32_t i, const struct attention *attention, struct results *results,
                        struct place *place)
{
    const struct error *why = find_error(report, step, i, attention, results, place);
    if (why != NULL) {
        Longspan__SegmentError *entry = new_error(&report->arena, i, why);
        message->errors[message->n_errors++] = entry;
        if (entry == NULL)
            return false;
    }
    return !report->config.answers ||
           add_results(message, report, &step->segments[i], why != NULL, results, place);
}

/* *n_logits: whole rows that are sent. */
static enum status add_segments(Longspan__StepDone *message, struct report *report,
                                const struct step *step, const struct attention *attention,
                                struct results *results, uint32_t *n_logits, struct error *error)
{
    struct arena *arena = &report->arena;
    message->errors = arena_array(arena, step->n_segments + 1, sizeof(*message->errors));
    message->results = arena_array(arena, step->n_segments + 1, sizeof(*message->results));
    message->scores = arena_array(arena, step->n_segments + 1, sizeof(*message->scores));
    if (message->errors == NULL || message->results == NULL || message->scores == NULL)
        return no_memory(error);
    struct place place = {0};
    for (uint32_t i = 0; i < step->n_segments; i++)
        if (!add_segment(message, report, step, i, attention, results, &place))
            return no_memory(error);
    *n_logits = place.kept;
    return STATUS_OK;
}

static enum status add_traffic(Longspan__StepDone *message, struct report *report,
                               const struct attention *attention, struct error *error)
{
    message->traffic =
        arena_array(&report->arena, report->config.n_holders + 1, sizeof(*message->traffic));
    if (message->traffic == NULL)
        return no_memory(error);
    for (uint32_t i = 0; i < report->config.n_holders && attention != NULL; i++) {
        struct attention_traffic now;
        struct attention_traffic *before = &report->reported[i];
        attention_traffic(attention, i, &now);
        if (now.sent_bytes == before->sent_bytes && now.received_bytes == before->received_bytes &&
            now.kv_bytes == before->kv_bytes && now.round_trips == before->round_trips)
            continue;
        Longspan__HolderTraffic *entry = arena_take(&report->arena, sizeof(*entry));
        if (entry == NULL)
            return no_memory(error);
        longspan__holder_traffic__init(entry);
        entry->holder = i;
        entry->sent_bytes = now.sent_bytes - before->sent_bytes;
        entry->received_bytes = now.received_bytes - before->received_bytes;
        entry->kv_bytes = now.kv_bytes - before->kv_bytes;
        entry->round_trips = now.round_trips - before->round_trips;
        entry->round_trip_us = now.round_trip_ns / 1000 - before->round_trip_ns / 1000;
        *before = now;
        message->traffic[message->n_traffic++] = entry;
    }
    return STATUS_OK;
}

static enum status send(struct report *report, Longspan__StepDone *message, const void *tensors,
                        size_t tensor_bytes, struct error *error)
{
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_STEP_DONE;
    control.step_done = message;
    return link_send(report->config.link, &control, tensors, tensor_bytes, error);
}

static uint32_t limited(uint64_t us)
{
    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

enum status report_send_step(struct report *report, const struct step *step,
                             const struct attention *attention, struct results *results,
                             uint64_t compute_us, struct error *error)
{
    arena_reset(&report->arena);
    Longspan__StepDone message = LONGSPAN__STEP_DONE__INIT;
    message.job = report->config.job;
    message.step = step->number;
    message.rank = report->config.rank;
    message.compute_us = limited(compute_us);
    if (step->n_rows > 0 && attention != NULL)
        message.wait_us = limited(attention_wait_us(attention));
    if (message.wait_us > 0) {
        uint32_t n_layers;
        message.layer_wait_us = attention_layer_wait_us(attention, &n_layers);
        message.n_layer_wait_us = n_layers;
    }
    uint32_t n_logits = 0;
    enum status status = add_segments(&message, report, step, step->n_rows > 0 ? attention : NULL,
                                      results, &n_logits, error);
    if (status == STATUS_OK)
        status = add_traffic(&message, report, attention, error);
    if (status != STATUS_OK)
        return status;
    return send(report, &message, results->logits,
                (size_t)n_logits * results->vocab * sizeof(float), error);
}

enum status report_send_failure(struct report *report, const Longspan__Step *step,
                                const struct error *failure, struct error *error)
{
    struct arena *arena = &report->arena;
    arena_reset(arena);
    Longspan__StepDone message = LONGSPAN__STEP_DONE__INIT;
    message.job = report->config.job;
    message.step = step != NULL ? step->step : 0;
    message.rank = report->config.rank;
    const size_t n_segments = step != NULL ? step->n_segments : 0;
    const size_t n = n_segments > 0 ? n_segments : 1; /* a step of nothing failed, too */
    message.errors = arena_array(arena, n, sizeof(*message.errors));
    message.results = arena_array(arena, n, sizeof(*message.results));
    message.scores = arena_array(arena, n, sizeof(*message.scores));
    if (message.errors == NULL || message.results == NULL || message.scores == NULL)
        return no_memory(error);
    for (uint32_t i = 0; i < n; i++) {
        if ((message.errors[message.n_errors++] = new_error(arena, i, failure)) == NULL)
            return no_memory(error);
        if (!report->config.answers || i >= n_segments)
            continue;
        const Longspan__Segment *segment = step->segments[i];
        if (segment->want != LONGSPAN__WANT__WANT_NOTHING &&
            (message.results[message.n_results++] = new_candidates(arena, NULL, NULL)) == NULL)
            return no_memory(error);
        if (segment->n_next > 0 &&
            (message.scores[message.n_scores++] = new_scores(arena, NULL, 0, NULL)) == NULL)
            return no_memory(error);
    }
    return send(report, &message, NULL, 0, error);
}
