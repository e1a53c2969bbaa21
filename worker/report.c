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

static bool wants(const struct step_segment *segment)
{
    return segment->error.status == STATUS_OK && segment->want != STEP_WANT_NOTHING;
}

/* Why a segment failed; NULL when it did not. `row` is its row among the results, or NULL. */
static const struct error *find_error(struct arena *arena, const struct step *step, uint32_t i,
                                      const struct attention *attention,
                                      const struct candidates_sum *row)
{
    static const struct error overflow = {STATUS_FAILED, "the logits of a sequence are not finite"};
    const struct step_segment *segment = &step->segments[i];
    if (segment->error.status != STATUS_OK)
        return &segment->error;
    const struct error *error =
        attention != NULL ? attention_segment_error(attention, segment->attention) : NULL;
    if (error != NULL || row == NULL || (row->bad == 0 && row->largest > -INFINITY))
        return error;
    struct error *own = arena_take(arena, sizeof(*own));
    if (own == NULL)
        return &overflow; /* without its words it is still no result */
    error_set(own, STATUS_FAILED,
              "sequence %" PRIu64 ": %s logits after position %u: the model's weights or "
              "activations overflow",
              step->attention[segment->attention].sequence,
              row->bad > 0 ? "infinite or undefined" : "no finite",
              step->attention[segment->attention].position + segment->n_tokens - 1);
    return own;
}

/* One segment's error and, from the rank that answers, its result. `row`, `from` and `kept` count
 * rows: of results, of logits as computed, of logits as sent. */
struct place {
    uint32_t row, from, kept;
};

static bool add_segment(Longspan__StepDone *message, struct report *report, const struct step *step,
                        uint32_t i, const struct attention *attention, struct results *results,
                        struct place *place)
{
    struct arena *arena = &report->arena;
    const struct step_segment *segment = &step->segments[i];
    const bool has_row = report->config.answers && wants(segment);
    const struct candidates_sum *sum = has_row ? &results->sums[place->row] : NULL;
    const struct error *why = find_error(arena, step, i, attention, sum);
    if (why != NULL) {
        Longspan__SegmentError *entry = new_error(arena, i, why);
        message->errors[message->n_errors++] = entry;
        if (entry == NULL)
            return false;
    }
    if (report->config.answers && segment->answered) {
        const struct candidate *best =
            has_row ? results->best + (size_t)place->row * results->stride : NULL;
        Longspan__Candidates *entry = new_candidates(arena, why == NULL ? sum : NULL, best);
        message->results[message->n_results++] = entry;
        if (entry == NULL)
            return false;
    }
    if (has_row && segment->want == STEP_WANT_LOGITS) {
        const size_t vocab = results->vocab;
        if (why == NULL && place->kept++ != place->from)
            memmove(results->logits + (place->kept - 1) * vocab,
                    results->logits + place->from * vocab, vocab * sizeof(float));
        place->from++;
    }
    place->row += has_row;
    return true;
}

/* *n_logits: whole rows that are sent. */
static enum status add_segments(Longspan__StepDone *message, struct report *report,
                                const struct step *step, const struct attention *attention,
                                struct results *results, uint32_t *n_logits, struct error *error)
{
    struct arena *arena = &report->arena;
    message->errors = arena_array(arena, step->n_segments + 1, sizeof(*message->errors));
    message->results = arena_array(arena, step->n_segments + 1, sizeof(*message->results));
    if (message->errors == NULL || message->results == NULL)
        return no_memory(error);
    struct place place = {0, 0, 0};
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
    if (message.errors == NULL || message.results == NULL)
        return no_memory(error);
    for (uint32_t i = 0; i < n; i++) {
        if ((message.errors[message.n_errors++] = new_error(arena, i, failure)) == NULL)
            return no_memory(error);
        if (!report->config.answers || i >= n_segments ||
            step->segments[i]->want == LONGSPAN__WANT__WANT_NOTHING)
            continue;
        if ((message.results[message.n_results++] = new_candidates(arena, NULL, NULL)) == NULL)
            return no_memory(error);
    }
    return send(report, &message, NULL, 0, error);
}
