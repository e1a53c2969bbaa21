/* results.c - two collections: candidates always, of one size on all shards; rows when asked for.
 *
 * The device finds its candidates, and its logits stay there, unless a row is asked for whole, or more
 * candidates of it than the device finds. */
#include "worker/results.h"

#include <stdlib.h>
#include <string.h>

/* Memory that grows; content is not kept. */
struct growing {
    void *data;
    size_t bytes;
};

struct results_memory {
    struct thread_pool *pool;
    const struct kernels *kernels;
    struct device *device;
    struct group *group;
    const struct setup_shard *shards;
    uint32_t own_vocab, largest_vocab;
    void *made;                         /* device memory: [n_wanted][own_vocab] */
    void *downloaded;                   /* host memory, likewise; NULL where `made` is that */
    size_t logits_floats;               /* that there is room for in both */
    float *logits;                      /* the one that the host reads */
    struct growing k;                   /* [n_wanted]: candidates each row asks for */
    struct growing mine, all;           /* sums[n_wanted], then best[n_wanted][stride]; per shard */
    struct growing sums, best;          /* merged */
    struct growing rows_mine, rows_all; /* [n_logits][largest_vocab]; per shard */
    struct growing rows;                /* [n_logits][vocab] */
};

static enum status grow(struct growing *memory, size_t n, size_t size, struct error *error)
{
    if (n > SIZE_MAX / 2 / size)
        return error_set(error, STATUS_NO_MEMORY, "results: %zu times %zu bytes", n, size);
    if (n * size <= memory->bytes)
        return STATUS_OK;
    free(memory->data);
    memory->bytes = 0;
    if ((memory->data = malloc(n * size)) == NULL)
        return error_set(error, STATUS_NO_MEMORY, "results: no memory for %zu bytes", n * size);
    memory->bytes = n * size;
    return STATUS_OK;
}

enum status results_create(struct results **results, struct thread_pool *pool,
                           const struct kernels *kernels, struct device *device,
                           struct group *group, const struct setup_shard *shards,
                           struct error *error)
{
    struct results *r = calloc(1, sizeof(*r));
    struct results_memory *memory = calloc(1, sizeof(*memory));
    if (r == NULL || memory == NULL) {
        free(r);
        free(memory);
        return error_set(error, STATUS_NO_MEMORY, "results: no memory");
    }
    memory->pool = pool;
    memory->kernels = kernels;
    memory->device = device;
    memory->group = group;
    memory->shards = shards;
    for (uint32_t i = 0; i < group_tensor(group); i++) {
        const uint32_t n = shards[i].vocab_end - shards[i].vocab_begin;
        memory->largest_vocab = n > memory->largest_vocab ? n : memory->largest_vocab;
        if (i == group_shard(group))
            memory->own_vocab = n;
    }
    r->vocab = shards[group_tensor(group) - 1].vocab_end;
    r->memory = memory;
    *results = r;
    return STATUS_OK;
}

static void give_logits(struct results_memory *m)
{
    m->kernels->memory_give(m->device, m->made);
    m->kernels->host_give(m->device, m->downloaded);
    m->made = m->downloaded = NULL;
    m->logits_floats = 0;
}

void results_destroy(struct results *results)
{
    if (results == NULL)
        return;
    struct results_memory *m = results->memory;
    struct growing *all[] = {&m->k,    &m->mine,      &m->all,      &m->sums,
                             &m->best, &m->rows_mine, &m->rows_all, &m->rows};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]->data);
    give_logits(m);
    free(m);
    free(results);
}

void results_clear(struct results *results)
{
    results->n_rows = results->n_logits = 0;
    results->sums = NULL;
    results->best = NULL;
    results->logits = NULL;
}

enum status results_logits(struct results *results, const struct step *step, float **logits,
                           struct error *error)
{
    struct results_memory *m = results->memory;
    results_clear(results);
    const size_t n = (size_t)step->n_wanted * m->own_vocab; /* below 2^64: both are of 32 bits */
    enum status status = STATUS_OK;
    if (n > m->logits_floats) {
        give_logits(m);
        status = n > SIZE_MAX / sizeof(float)
                     ? error_set(error, STATUS_NO_MEMORY, "results: %zu logits", n)
                     : m->kernels->memory_take(m->device, &m->made, n * sizeof(float), error);
        if (status == STATUS_OK && !m->kernels->host_memory)
            status = m->kernels->host_take(m->device, &m->downloaded, n * sizeof(float), error);
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
        m->kernels->download(m->device, m->downloaded, m->made,
                             (size_t)n_rows * m->own_vocab * sizeof(float));
}

static bool wants(const struct step_segment *segment)
{
    return segment->error.status == STATUS_OK && segment->want != STEP_WANT_NOTHING;
}

/* Of each wanted row its number of candidates, the most of them, and the number of whole rows. */
static enum status look_at_wants(struct results *results, const struct step *step,
                                 uint32_t *n_logits, struct error *error)
{
    struct results_memory *m = results->memory;
    const enum status status = grow(&m->k, step->n_wanted, sizeof(uint32_t), error);
    if (status != STATUS_OK)
        return status;
    uint32_t *k = m->k.data, n = 0;
    results->stride = 0;
    *n_logits = 0;
    for (uint32_t i = 0; i < step->n_segments; i++) {
        const struct step_segment *segment = &step->segments[i];
        if (!wants(segment))
            continue;
        k[n++] = segment->n_candidates;
        results->stride =
            segment->n_candidates > results->stride ? segment->n_candidates : results->stride;
        *n_logits += segment->want == STEP_WANT_LOGITS;
    }
    return STATUS_OK;
}

/* Of the own part of the vocabulary, to the memory that results->sums and best name; the device has
 * then done all that it was asked. */
static enum status find_candidates(struct results *results, uint32_t n, bool on_device,
                                   struct error *error)
{
    struct results_memory *m = results->memory;
    struct candidates_sum *sums = m->mine.data;
    struct candidate *best = (struct candidate *)(sums + n);
    const int32_t first = (int32_t)m->shards[group_shard(m->group)].vocab_begin;
    if (on_device)
        m->kernels->candidates(m->device, sums, best, results->stride, m->made, n, m->own_vocab,
                               first, m->k.data);
    const enum status status = m->kernels->finish(m->device, error);
    if (status == STATUS_OK && !on_device)
        candidates_find(m->pool, sums, best, results->stride, m->logits, n, m->own_vocab, first,
                        m->k.data);
    return status;
}

static enum status make_candidates(struct results *results, uint32_t n, bool on_device,
                                   struct error *error)
{
    struct results_memory *m = results->memory;
    const uint32_t tensor = group_tensor(m->group);
    const bool merges = tensor > 1 && group_shard(m->group) == 0;
    const size_t stride = results->stride;
    const size_t sums_bytes = n * sizeof(struct candidates_sum);
    if (stride > SIZE_MAX / 4 / sizeof(struct candidate) / (n + 1))
        return error_set(error, STATUS_NO_MEMORY, "results: %u times %zu candidates", n, stride);
    /* A shard's block is a whole number of sums, so that all shards' sums are one array. */
    size_t bytes = sums_bytes + n * stride * sizeof(struct candidate);
    bytes += sizeof(struct candidates_sum) - 1;
    bytes -= bytes % sizeof(struct candidates_sum);
    _Static_assert(sizeof(struct candidates_sum) % sizeof(struct candidate) == 0,
                   "of candidates too");

    enum status status = grow(&m->mine, 1, bytes, error);
    if (status == STATUS_OK && merges)
        status = grow(&m->all, tensor, bytes, error);
    if (status == STATUS_OK && merges)
        status = grow(&m->sums, 1, sums_bytes, error);
    if (status == STATUS_OK && merges)
        status = grow(&m->best, 1, n * stride * sizeof(struct candidate) + 1, error);
    if (status != STATUS_OK)
        return status;

    memset(m->mine.data, 0, bytes); /* what a row does not fill travels too */
    results->sums = m->mine.data;
    results->best = (struct candidate *)((uint8_t *)m->mine.data + sums_bytes);
    if ((status = find_candidates(results, n, on_device, error)) != STATUS_OK)
        return status;
    if (tensor == 1)
        return STATUS_OK;

    status = group_collect(m->group, m->mine.data, m->all.data, bytes, error);
    if (status != STATUS_OK || group_shard(m->group) != 0)
        return status;
    struct candidates_sum *sums = m->sums.data;
    struct candidate *best = m->best.data;
    const struct candidates_sum *all_sums = m->all.data;
    const struct candidate *all_best =
        (const struct candidate *)((uint8_t *)m->all.data + sums_bytes);
    for (uint32_t row = 0; row < n; row++)
        sums[row] = candidates_merge(best + row * stride, ((const uint32_t *)m->k.data)[row],
                                     all_sums + row, bytes / sizeof(*all_sums),
                                     all_best + row * stride, bytes / sizeof(*all_best), tensor);
    results->sums = sums;
    results->best = best;
    return STATUS_OK;
}

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
    const uint32_t tensor = group_tensor(m->group);
    if (tensor == 1) {
        pick_rows(step, m->logits, m->own_vocab, m->logits, m->own_vocab);
        results->logits = m->logits;
        return STATUS_OK;
    }
    const size_t bytes = (size_t)n * m->largest_vocab * sizeof(float);
    enum status status = grow(&m->rows_mine, 1, bytes, error);
    if (status == STATUS_OK && group_shard(m->group) == 0)
        status = grow(&m->rows_all, tensor, bytes, error);
    if (status == STATUS_OK && group_shard(m->group) == 0)
        status = grow(&m->rows, n, results->vocab * sizeof(float), error);
    if (status != STATUS_OK)
        return status;
    pick_rows(step, m->rows_mine.data, m->largest_vocab, m->logits, m->own_vocab);
    status = group_collect(m->group, m->rows_mine.data, m->rows_all.data, bytes, error);
    if (status != STATUS_OK || group_shard(m->group) != 0)
        return status;
    for (uint32_t shard = 0; shard < tensor; shard++) {
        const struct setup_shard *part = &m->shards[shard];
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
    uint32_t n_logits = 0;
    enum status status = look_at_wants(results, step, &n_logits, error);
    const bool on_device = results->stride <= results->memory->kernels->most_candidates;
    if (status == STATUS_OK && (!on_device || n_logits > 0))
        read_logits(results->memory, step->n_wanted);
    if (status == STATUS_OK && step->n_wanted > 0)
        status = make_candidates(results, step->n_wanted, on_device, error);
    if (status == STATUS_OK && n_logits > 0)
        status = make_rows(results, step, n_logits, error);
    if (status == STATUS_OK && group_shard(results->memory->group) == 0) {
        results->n_rows = step->n_wanted;
        results->n_logits = n_logits;
    }
    return status;
}
