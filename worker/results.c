/* results.c - scores first, then answers: the logits of whole rows have to stay until they are
 * sent.
 *
 * The device finds its candidates, and its logits stay there, unless a row is asked for whole, or
 * more candidates of it than the device finds. */
#include "worker/results.h"

#include <stdlib.h>
#include <string.h>

struct results_memory {
    struct candidate_source source;
    uint32_t own_vocab, largest_vocab;
    void *made;                         /* device memory: [rows][own_vocab] */
    void *downloaded;                   /* host memory, likewise; NULL where `made` is that */
    size_t logits_floats;               /* that there is room for in both */
    float *logits;                      /* the one that the host reads */
    struct growing rows_mine, rows_all; /* [n_logits][largest_vocab]; per shard */
    struct growing rows;                /* [n_logits][vocab] */
};

enum status results_create(struct results **results, const struct candidate_source *source,
                           struct error *error)
{
    struct results *r = calloc(1, sizeof(*r));
    struct results_memory *memory = calloc(1, sizeof(*memory));
    if (r == NULL || memory == NULL) {
        free(r);
        free(memory);
        return error_set(error, STATUS_NO_MEMORY, "results: no memory");
    }
    memory->source = *source;
    const uint32_t tensor = group_tensor(source->group);
    for (uint32_t i = 0; i < tensor; i++) {
        const uint32_t n = source->shards[i].vocab_end - source->shards[i].vocab_begin;
        memory->largest_vocab = n > memory->largest_vocab ? n : memory->largest_vocab;
        if (i == group_shard(source->group))
            memory->own_vocab = n;
    }
    r->vocab = source->shards[tensor - 1].vocab_end;
    r->answers.source = r->scores.source = &memory->source;
    r->memory = memory;
    *results = r;
    return STATUS_OK;
}

static void give_logits(struct results_memory *m)
{
    m->source.kernels->memory_give(m->source.device, m->made);
    m->source.kernels->host_give(m->source.device, m->downloaded);
    m->made = m->downloaded = NULL;
    m->logits_floats = 0;
}

void results_destroy(struct results *results)
{
    if (results == NULL)
        return;
    struct results_memory *m = results->memory;
    candidate_table_close(&results->answers);
    candidate_table_close(&results->scores);
    free(m->rows_mine.data);
    free(m->rows_all.data);
    free(m->rows.data);
    give_logits(m);
    free(m);
    free(results);
}

void results_clear(struct results *results)
{
    results->answers.n_rows = results->scores.n_rows = results->n_logits = 0;
    results->logits = NULL;
}

/* ---- what is wished for ---------------------------------------------------------------------- */

static bool wants(const struct step_segment *segment)
{
    return segment->error.status == STATUS_OK && segment->want != STEP_WANT_NOTHING;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

enum status results_begin(struct results *results, const struct step *step, struct error *error)
{
    struct candidate_table *answers = &results->answers, *scores = &results->scores;
    size_t most = 0, most_scored = 0;
    results_clear(results);
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct step_segment *segment = &step->segments[i];
        if (wants(segment))
            most = larger(most, segment->n_candidates);
        if (segment->error.status == STATUS_OK && segment->n_scored > 0)
            most_scored = larger(most_scored, segment->n_top);
    }
    enum status status = candidate_table_begin(answers, step->n_wanted, most, error);
    if (status == STATUS_OK)
        status = candidate_table_begin(scores, step->n_scored, most_scored, error);
    if (status != STATUS_OK)
        return status;
    uint32_t n_wanted = 0, n_scored = 0;
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct step_segment *segment = &step->segments[i];
        if (segment->error.status != STATUS_OK)
            continue;
        if (wants(segment)) {
            answers->named[n_wanted] = CANDIDATE_TABLE_UNNAMED;
            answers->k[n_wanted++] = segment->n_candidates;
            results->n_logits += segment->want == STEP_WANT_LOGITS;
        }
        for (uint32_t row = 0; row < segment->n_scored; row++) {
            scores->named[n_scored] = segment->next[row];
            scores->k[n_scored++] = segment->n_top;
        }
    }
    return STATUS_OK;
}

/* ---- logits ---------------------------------------------------------------------------------- */

enum status results_logits(struct results *results, uint32_t n_rows, float **logits,
                           struct error *error)
{
    struct results_memory *m = results->memory;
    const struct kernels *kernels = m->source.kernels;
    const size_t n = (size_t)n_rows * m->own_vocab; /* below 2^64: both are of 32 bits */
    enum status status = STATUS_OK;
    if (n > m->logits_floats) {
        give_logits(m);
        status = n > SIZE_MAX / sizeof(float)
                     ? error_set(error, STATUS_NO_MEMORY, "results: %zu logits", n)
                     : kernels->memory_take(m->source.device, &m->made, n * sizeof(float), error);
        if (status == STATUS_OK && !kernels->host_memory)
            status = kernels->host_take(m->source.device, &m->downloaded, n * sizeof(float), error);
        if (status != STATUS_OK)
            return status;
        m->logits_floats = n;
    }
    *logits = m->made;
    return STATUS_OK;
}

/* Brings the logits to the host, behind what fills them. */
static void read_logits(struct results_memory *m, uint32_t n_rows)
{
    m->logits = m->downloaded != NULL ? m->downloaded : m->made;
    if (m->downloaded != NULL)
        m->source.kernels->download(m->source.device, m->downloaded, m->made,
                                    (size_t)n_rows * m->own_vocab * sizeof(float));
}

enum status results_score(struct results *results, uint32_t first, uint32_t n, struct error *error)
{
    struct results_memory *m = results->memory;
    if (candidate_table_needs_host(&results->scores))
        read_logits(m, n);
    return candidate_table_find(&results->scores, first, n, m->made, m->logits, error);
}

/* ---- whole rows ------------------------------------------------------------------------------ */

/* The rows of the segments that want them, moved to the front of `logits`, `to_stride` apart. */
static void pick_rows(const struct step *step, float *to, size_t to_stride, const float *logits,
                      uint32_t n_columns)
{
    size_t wanted = 0, picked = 0;
    for (uint32_t i = 0; i < step->n_segments; i++) {
        if (!wants(&step->segments[i]))
            continue;
        if (step->segments[i].want == STEP_WANT_LOGITS)
            memmove(to + picked++ * to_stride, logits + wanted * n_columns,
                    n_columns * sizeof(float));
        wanted++;
    }
}

static enum status make_rows(struct results *results, const struct step *step, uint32_t n,
                             struct error *error)
{
    struct results_memory *m = results->memory;
    const uint32_t tensor = group_tensor(m->source.group);
    if (tensor == 1) {
        pick_rows(step, m->logits, m->own_vocab, m->logits, m->own_vocab);
        results->logits = m->logits;
        return STATUS_OK;
    }
    const size_t bytes = (size_t)n * m->largest_vocab * sizeof(float);
    enum status status = growing_reserve(&m->rows_mine, 1, bytes, error);
    if (status == STATUS_OK && group_shard(m->source.group) == 0)
        status = growing_reserve(&m->rows_all, tensor, bytes, error);
    if (status == STATUS_OK && group_shard(m->source.group) == 0)
        status = growing_reserve(&m->rows, n, results->vocab * sizeof(float), error);
    if (status != STATUS_OK)
        return status;
    pick_rows(step, m->rows_mine.data, m->largest_vocab, m->logits, m->own_vocab);
    status = group_collect(m->source.group, m->rows_mine.data, m->rows_all.data, bytes, error);
    if (status != STATUS_OK || group_shard(m->source.group) != 0)
        return status;
    for (uint32_t shard = 0; shard < tensor; shard++) {
        const struct shard_part *part = &m->source.shards[shard];
        for (uint32_t row = 0; row < n; row++)
            memcpy((float *)m->rows.data + (size_t)row * results->vocab + part->vocab_begin,
                   (const float *)m->rows_all.data + ((size_t)shard * n + row) * m->largest_vocab,
                   (part->vocab_end - part->vocab_begin) * sizeof(float));
    }
    results->logits = m->rows.data;
    return STATUS_OK;
}

enum status results_make(struct results *results, const struct step *step, struct error *error)
{
    struct results_memory *m = results->memory;
    const uint32_t n = step->n_wanted;
    enum status status = STATUS_OK;
    if (n > 0 && (results->n_logits > 0 || candidate_table_needs_host(&results->answers)))
        read_logits(m, n);
    if (n > 0)
        status = candidate_table_find(&results->answers, 0, n, m->made, m->logits, error);
    if (status == STATUS_OK)
        status = candidate_table_merge(&results->answers, error);
    if (status == STATUS_OK && results->n_logits > 0)
        status = make_rows(results, step, results->n_logits, error);
    if (status == STATUS_OK)
        status = candidate_table_merge(&results->scores, error);
    if (status != STATUS_OK || group_shard(m->source.group) != 0)
        results_clear(results);
    return status;
}
