/* reports.c - see reports.h. The memory of a step's results is kept for later steps. */
#include "coordinator/reports.h"

#include "coordinator/control.h"
#include "sys/array.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct result {
    uint32_t first, n; /* of the entry's candidates */
    double log_sum_exp;
    size_t row; /* which of the entry's rows; SIZE_MAX: none */
};

struct entry {
    uint64_t step, deadline_us;
    uint32_t n_segments, n_reported;
    struct reports_want *wants;  /* [max_segments] */
    struct error **errors;       /* [max_segments], NULL or owned */
    struct result *results;      /* [max_segments] */
    struct scores_place *scored; /* [max_segments] */
    struct scores scores;
    bool *reported; /* [n_ranks] */
    int32_t *ids;
    float *logits;
    uint32_t n_candidates;
    size_t candidate_capacity;
    float *rows;
    size_t n_rows, row_capacity;
};

struct reports {
    struct reports_shape shape;
    struct entry *ring;
    uint32_t first, n;
    struct reports_traffic *traffic; /* [n_ranks][n_holders] */
    struct reports_rank *ranks;      /* [n_ranks] */
    uint64_t *layer_wait_us;         /* [n_ranks][n_layers] */
};

enum status reports_create(struct reports **reports, const struct reports_shape *shape,
                           struct error *error)
{
    struct reports *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return error_set(error, STATUS_NO_MEMORY, "reports: no memory");
    r->shape = *shape;
    r->ring = calloc(shape->depth, sizeof(*r->ring));
    r->traffic = calloc((size_t)shape->n_ranks * shape->n_holders, sizeof(*r->traffic));
    r->ranks = calloc(shape->n_ranks, sizeof(*r->ranks));
    r->layer_wait_us =
        calloc((size_t)shape->n_ranks * (shape->n_layers + 1u), sizeof(*r->layer_wait_us));
    bool complete =
        r->ring != NULL && r->traffic != NULL && r->ranks != NULL && r->layer_wait_us != NULL;
    for (uint32_t i = 0; complete && i < shape->n_ranks; i++)
        r->ranks[i].layer_wait_us = r->layer_wait_us + (size_t)i * shape->n_layers;
    for (uint32_t i = 0; complete && i < shape->depth; i++) {
        struct entry *e = &r->ring[i];
        e->wants = calloc(shape->max_segments, sizeof(*e->wants));
        e->errors = calloc(shape->max_segments, sizeof(struct error *));
        e->results = calloc(shape->max_segments, sizeof(*e->results));
        e->scored = calloc(shape->max_segments, sizeof(*e->scored));
        e->reported = calloc(shape->n_ranks, sizeof(*e->reported));
        complete = e->wants != NULL && e->errors != NULL && e->results != NULL &&
                   e->scored != NULL && e->reported != NULL;
    }
    if (!complete) {
        reports_destroy(r);
        return error_set(error, STATUS_NO_MEMORY, "reports: no memory for %u segments",
                         shape->max_segments);
    }
    *reports = r;
    return STATUS_OK;
}

void reports_destroy(struct reports *reports)
{
    if (reports == NULL)
        return;
    for (uint32_t i = 0; reports->ring != NULL && i < reports->shape.depth; i++) {
        struct entry *e = &reports->ring[i];
        for (uint32_t j = 0; e->errors != NULL && j < reports->shape.max_segments; j++)
            free(e->errors[j]);
        free(e->wants);
        free(e->errors);
        free(e->results);
        free(e->scored);
        scores_close(&e->scores);
        free(e->reported);
        free(e->ids);
        free(e->logits);
        free(e->rows);
    }
    free(reports->ring);
    free(reports->traffic);
    free(reports->ranks);
    free(reports->layer_wait_us);
    free(reports);
}

static struct entry *entry_at(const struct reports *r, uint32_t i)
{
    return &r->ring[(r->first + i) % r->shape.depth];
}

void reports_expect(struct reports *r, uint64_t step, const struct reports_want *wants,
                    uint32_t n_segments, uint64_t deadline_us)
{
    assert(r->n < r->shape.depth && n_segments <= r->shape.max_segments);
    struct entry *e = entry_at(r, r->n++);
    e->step = step;
    e->deadline_us = deadline_us;
    e->n_segments = n_segments;
    e->n_reported = e->n_candidates = 0;
    e->n_rows = 0;
    if (n_segments > 0)
        memcpy(e->wants, wants, n_segments * sizeof(*wants));
    scores_clear(&e->scores);
    memset(e->results, 0, r->shape.max_segments * sizeof(*e->results));
    memset(e->scored, 0, r->shape.max_segments * sizeof(*e->scored));
    memset(e->reported, 0, r->shape.n_ranks * sizeof(*e->reported));
}

static bool is_wanted(const struct reports_want *want)
{
    return want->candidates || want->row;
}

static enum status ensure_candidates(struct entry *e, uint32_t n, struct error *error)
{
    return array_grow_pair(&e->ids, sizeof(*e->ids), &e->logits, sizeof(*e->logits),
                           &e->candidate_capacity, n)
               ? STATUS_OK
               : error_set(error, STATUS_NO_MEMORY, "no memory for %u candidates", n);
}

static enum status ensure_rows(struct entry *e, size_t n_logits, struct error *error)
{
    return array_grow(&e->rows, &e->row_capacity, n_logits, sizeof(*e->rows))
               ? STATUS_OK
               : error_set(error, STATUS_NO_MEMORY, "no memory for %zu logits", n_logits);
}

/* The rows lie in one frame or in several, each of whole rows. */
static enum status copy_rows(const struct reports *r, struct entry *e, struct frames *frames,
                             size_t expected, struct error *error)
{
    const size_t row_bytes = (size_t)r->shape.vocab * sizeof(float);
    size_t n = 0;
    for (uint32_t i = 1; i < frames->n; i++) {
        const size_t size = frames_size(frames, i);
        if (size % row_bytes != 0)
            return error_set(error, STATUS_PROTOCOL,
                             "step %" PRIu64 ": a frame of %zu bytes is no number of rows of %u "
                             "logits",
                             e->step, size, r->shape.vocab);
        n += size / row_bytes;
    }
    if (n != expected)
        return error_set(error, STATUS_PROTOCOL,
                         "step %" PRIu64 ": %zu rows of logits came, %zu were asked for", e->step,
                         n, expected);
    const enum status status = ensure_rows(e, n * r->shape.vocab, error);
    if (status != STATUS_OK)
        return status;
    uint8_t *to = (uint8_t *)e->rows;
    for (uint32_t i = 1; i < frames->n; i++) {
        const size_t size = frames_size(frames, i);
        if (size > 0)
            memcpy(to, frames_data(frames, i), size);
        to += size;
    }
    e->n_rows = n;
    return STATUS_OK;
}

static enum status take_results(const struct reports *r, struct entry *e,
                                const Longspan__StepDone *done, struct frames *frames,
                                struct error *error)
{
    uint32_t n_wanted = 0;
    uint64_t n_candidates = 0;
    for (uint32_t i = 0; i < e->n_segments; i++)
        n_wanted += is_wanted(&e->wants[i]);
    if (done->n_results != n_wanted)
        return error_set(error, STATUS_PROTOCOL,
                         "step %" PRIu64 ": %zu results came, %u were asked for", e->step,
                         done->n_results, n_wanted);
    for (size_t i = 0; i < done->n_results; i++) {
        if (done->results[i]->n_ids != done->results[i]->n_logits ||
            done->results[i]->n_ids > r->shape.vocab)
            return error_set(error, STATUS_PROTOCOL,
                             "step %" PRIu64 ": a result of %zu ids and %zu logits", e->step,
                             done->results[i]->n_ids, done->results[i]->n_logits);
        n_candidates += done->results[i]->n_ids;
    }
    if (n_candidates > UINT32_MAX / 2)
        return error_set(error, STATUS_PROTOCOL, "step %" PRIu64 ": %" PRIu64 " candidates",
                         e->step, n_candidates);
    enum status status = ensure_candidates(e, (uint32_t)n_candidates, error);
    if (status != STATUS_OK)
        return status;

    size_t next = 0, rows = 0;
    for (uint32_t i = 0; i < e->n_segments; i++) {
        if (!is_wanted(&e->wants[i]))
            continue;
        const Longspan__Candidates *from = done->results[next++];
        struct result *result = &e->results[i];
        *result = (struct result){.first = e->n_candidates,
                                  .n = (uint32_t)from->n_ids,
                                  .log_sum_exp = from->log_sum_exp,
                                  .row = SIZE_MAX};
        if (from->n_ids > 0) {
            memcpy(e->ids + e->n_candidates, from->ids, from->n_ids * sizeof(*e->ids));
            memcpy(e->logits + e->n_candidates, from->logits, from->n_ids * sizeof(*e->logits));
        }
        e->n_candidates += result->n;
        if (e->wants[i].row && result->n > 0) /* a failed segment has neither */
            result->row = rows++;
    }
    return copy_rows(r, e, frames, rows, error);
}

static enum status take_scores(struct entry *e, const Longspan__StepDone *done, struct error *error)
{
    size_t n = 0, next = 0;
    for (uint32_t i = 0; i < e->n_segments; i++)
        n += e->wants[i].n_scored > 0;
    if (done->n_scores != n)
        return error_set(error, STATUS_PROTOCOL,
                         "step %" PRIu64 ": scores of %zu segments came, %zu were asked for",
                         e->step, done->n_scores, n);
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < e->n_segments && status == STATUS_OK; i++)
        if (e->wants[i].n_scored > 0)
            status = scores_take(&e->scores, done->scores[next++], e->wants[i].n_scored,
                                 e->wants[i].n_top, &e->scored[i], error);
    return status;
}

static enum status take_error(struct entry *e, const Longspan__SegmentError *from,
                              struct error *error)
{
    if (from->segment >= e->n_segments || from->failure == NULL)
        return error_set(error, STATUS_PROTOCOL,
                         "step %" PRIu64 ": an error of segment %u, there are %u", e->step,
                         from->segment, e->n_segments);
    if (e->errors[from->segment] != NULL)
        return STATUS_OK;
    struct error *kept = calloc(1, sizeof(*kept));
    if (kept == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for an error's text");
    kept->status = status_received(from->failure->status);
    control_copy_text(kept->text, sizeof(kept->text), from->failure->text);
    e->errors[from->segment] = kept;
    return STATUS_OK;
}

/* Nothing depends on these, so what cannot be is left out. */
static void take_figures(struct reports *r, uint32_t rank, const Longspan__StepDone *done)
{
    for (size_t i = 0; i < done->n_traffic; i++) {
        const Longspan__HolderTraffic *from = done->traffic[i];
        if (from->holder >= r->shape.n_holders)
            continue;
        struct reports_traffic *to = &r->traffic[(size_t)rank * r->shape.n_holders + from->holder];
        to->sent_bytes += from->sent_bytes;
        to->received_bytes += from->received_bytes;
        to->kv_bytes += from->kv_bytes;
        to->round_trips += from->round_trips;
        to->round_trip_us += from->round_trip_us;
    }
    uint64_t *waits = r->layer_wait_us + (size_t)rank * r->shape.n_layers;
    for (size_t i = 0; i < done->n_layer_wait_us && i < r->shape.n_layers; i++)
        waits[i] += done->layer_wait_us[i];
    r->ranks[rank].steps++;
    r->ranks[rank].compute_us += done->compute_us;
}

enum status reports_take(struct reports *r, uint32_t rank, const Longspan__StepDone *done,
                         struct frames *frames, struct error *error)
{
    assert(rank < r->shape.n_ranks);
    /* In order: the first step that this rank has not reported is the one it reports now. */
    struct entry *e = NULL;
    for (uint32_t i = 0; i < r->n && e == NULL; i++)
        if (!entry_at(r, i)->reported[rank])
            e = entry_at(r, i);
    if (e == NULL || e->step != done->step)
        return error_set(error, STATUS_PROTOCOL,
                         "rank %u reports step %" PRIu64 ", which nobody awaits from it", rank,
                         done->step);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < done->n_errors && status == STATUS_OK; i++)
        status = take_error(e, done->errors[i], error);
    if (status == STATUS_OK && rank == r->shape.result_rank)
        status = take_results(r, e, done, frames, error);
    if (status == STATUS_OK && rank == r->shape.result_rank)
        status = take_scores(e, done, error);
    if (status != STATUS_OK)
        return status;
    take_figures(r, rank, done);
    e->reported[rank] = true;
    e->n_reported++;
    return STATUS_OK;
}

bool reports_complete(const struct reports *r)
{
    return r->n > 0 && entry_at(r, 0)->n_reported == r->shape.n_ranks;
}

const struct error *reports_error(const struct reports *r, uint32_t segment)
{
    return entry_at(r, 0)->errors[segment];
}

struct sampler_row reports_row(const struct reports *r, uint32_t segment)
{
    const struct entry *e = entry_at(r, 0);
    const struct result *result = &e->results[segment];
    struct sampler_row row = {
        .n = result->n, .log_sum_exp = result->log_sum_exp, .vocab = r->shape.vocab};
    if (result->n > 0) {
        row.ids = e->ids + result->first;
        row.logits = e->logits + result->first;
        if (result->row != SIZE_MAX)
            row.row = e->rows + result->row * r->shape.vocab;
    }
    return row;
}

struct scores_row reports_scores(const struct reports *r, uint32_t segment, uint32_t i)
{
    const struct entry *e = entry_at(r, 0);
    return scores_row(&e->scores, &e->scored[segment], i, r->shape.vocab);
}

void reports_pop(struct reports *r)
{
    assert(r->n > 0);
    struct entry *e = entry_at(r, 0);
    for (uint32_t i = 0; i < e->n_segments; i++) {
        free(e->errors[i]);
        e->errors[i] = NULL;
    }
    r->first = (r->first + 1) % r->shape.depth;
    r->n--;
}

uint64_t reports_deadline(const struct reports *r)
{
    return r->n > 0 ? entry_at(r, 0)->deadline_us : UINT64_MAX;
}

bool reports_has(const struct reports *r, uint32_t rank)
{
    return r->n > 0 && entry_at(r, 0)->reported[rank];
}

uint64_t reports_oldest(const struct reports *r)
{
    return r->n > 0 ? entry_at(r, 0)->step : 0;
}

struct reports_traffic reports_link(const struct reports *r, uint32_t rank, uint32_t holder)
{
    return r->traffic[(size_t)rank * r->shape.n_holders + holder];
}

struct reports_traffic reports_traffic(const struct reports *r, uint32_t holder)
{
    struct reports_traffic sum = {0};
    for (uint32_t rank = 0; rank < r->shape.n_ranks; rank++) {
        const struct reports_traffic link = reports_link(r, rank, holder);
        sum.sent_bytes += link.sent_bytes;
        sum.received_bytes += link.received_bytes;
        sum.kv_bytes += link.kv_bytes;
        sum.round_trips += link.round_trips;
        sum.round_trip_us += link.round_trip_us;
    }
    return sum;
}

struct reports_rank reports_rank(const struct reports *r, uint32_t rank)
{
    return r->ranks[rank];
}
