/* candidate_table.c - one collection for a whole table: a shard's sums, candidates and named logits
 * are one block of bytes. */
#include "worker/candidate_table.h"

#include <stdlib.h>
#include <string.h>

enum status growing_reserve(struct growing *memory, size_t n, size_t size, struct error *error)
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

void candidate_table_close(struct candidate_table *table)
{
    if (table == NULL || table->source == NULL)
        return;
    free(table->wishes.data);
    free(table->all.data);
    free(table->merged.data);
    table->source->kernels->host_give(table->source->device, table->mine.data);
    table->source->kernels->host_give(table->source->device, table->picked.data);
    *table = (struct candidate_table){0};
}

/* A shard's block: sums[n], best[n][stride], named[n], up to a whole number of sums, so that all
 * shards' sums are one array. */
struct block {
    size_t sums_bytes, best_bytes, bytes;
};

static enum status block_of(const struct candidate_table *table, struct block *block,
                            struct error *error)
{
    _Static_assert(sizeof(struct candidates_sum) % sizeof(struct candidate) == 0,
                   "of candidates too");
    const size_t n = table->n_rows, unit = sizeof(struct candidates_sum);
    if (table->stride > SIZE_MAX / 4 / sizeof(struct candidate) / (n + 1))
        return error_set(error, STATUS_NO_MEMORY, "results: %zu times %zu candidates", n,
                         table->stride);
    block->sums_bytes = n * unit;
    block->best_bytes = n * table->stride * sizeof(struct candidate);
    const size_t bytes = block->sums_bytes + block->best_bytes + n * sizeof(float);
    block->bytes = (bytes + unit - 1) / unit * unit;
    return STATUS_OK;
}

static void point_into(struct candidate_table *table, const struct block *block, void *data)
{
    uint8_t *bytes = data;
    table->sums = data;
    table->best = (const struct candidate *)(bytes + block->sums_bytes);
    table->named_logits = (const float *)(bytes + block->sums_bytes + block->best_bytes);
}

/* Like growing_reserve, memory that is downloaded to: of any other a device may make the host wait
 * for each download. Twice what is wanted, since it is slow to take. */
static enum status reserve_there(const struct candidate_source *source, struct growing *memory,
                                 size_t bytes, struct error *error)
{
    if (bytes <= memory->bytes)
        return STATUS_OK;
    source->kernels->host_give(source->device, memory->data);
    *memory = (struct growing){0};
    const enum status status =
        source->kernels->host_take(source->device, &memory->data, 2 * bytes, error);
    memory->bytes = status == STATUS_OK ? 2 * bytes : 0;
    return status;
}

enum status candidate_table_begin(struct candidate_table *table, uint32_t n_rows, size_t stride,
                                  struct error *error)
{
    const struct candidate_source *source = table->source;
    const uint32_t tensor = group_tensor(source->group);
    const bool merges = tensor > 1 && group_shard(source->group) == 0;
    struct block block = {0};
    table->n_rows = n_rows;
    table->stride = stride;
    if (n_rows == 0)
        return STATUS_OK; /* nothing to point at */
    enum status status = block_of(table, &block, error);
    if (status == STATUS_OK)
        status = growing_reserve(&table->wishes, n_rows, sizeof(*table->k) + sizeof(*table->named),
                                 error);
    if (status == STATUS_OK)
        status = reserve_there(source, &table->mine, block.bytes, error);
    if (status == STATUS_OK && merges)
        status = growing_reserve(&table->all, block.bytes, tensor, error);
    if (status == STATUS_OK && merges)
        status = growing_reserve(&table->merged, block.bytes, 1, error);
    if (status == STATUS_OK && !source->kernels->host_memory)
        status = reserve_there(source, &table->picked, n_rows * sizeof(float), error);
    if (status != STATUS_OK) {
        table->n_rows = 0;
        return status;
    }
    table->k = table->wishes.data;
    table->named = (int32_t *)(table->k + n_rows);
    memset(table->mine.data, 0, block.bytes); /* what a row does not fill travels too */
    point_into(table, &block, table->mine.data);
    return STATUS_OK;
}

bool candidate_table_needs_host(const struct candidate_table *table)
{
    return table->stride > table->source->kernels->most_candidates;
}

/* The named logits of a piece that lie in the own part of the vocabulary; they are there after
 * finish. */
static void ask_for_named(const struct candidate_table *table, const struct shard_part *own,
                          uint32_t first, uint32_t n, const float *logits)
{
    const struct candidate_source *source = table->source;
    const size_t width = own->vocab_end - own->vocab_begin;
    for (uint32_t i = 0; i < n; i++) {
        const int64_t column = (int64_t)table->named[first + i] - own->vocab_begin;
        if (column >= 0 && (size_t)column < width)
            source->kernels->download(source->device, (float *)table->picked.data + first + i,
                                      logits + i * width + column, sizeof(float));
    }
}

static void take_named(const struct candidate_table *table, const struct shard_part *own,
                       uint32_t first, uint32_t n, const float *logits)
{
    const bool direct = table->source->kernels->host_memory;
    const size_t width = own->vocab_end - own->vocab_begin;
    float *to = (float *)table->named_logits;
    for (uint32_t i = 0; i < n; i++) {
        const int64_t column = (int64_t)table->named[first + i] - own->vocab_begin;
        if (column >= 0 && (size_t)column < width)
            to[first + i] = direct ? logits[i * width + (size_t)column]
                                   : ((const float *)table->picked.data)[first + i];
    }
}

enum status candidate_table_find(struct candidate_table *table, uint32_t first, uint32_t n,
                                 const float *logits, const float *host, struct error *error)
{
    const struct candidate_source *source = table->source;
    const struct shard_part *own = &source->shards[group_shard(source->group)];
    const uint32_t width = own->vocab_end - own->vocab_begin;
    struct candidates_sum *sums = (struct candidates_sum *)table->sums + first;
    struct candidate *best = (struct candidate *)table->best + first * table->stride;
    const bool on_device = !candidate_table_needs_host(table);
    if (on_device)
        source->kernels->candidates(source->device, sums, best, table->stride, logits, n, width,
                                    (int32_t)own->vocab_begin, table->k + first);
    if (!source->kernels->host_memory)
        ask_for_named(table, own, first, n, logits);
    const enum status status = source->kernels->finish(source->device, error);
    if (status != STATUS_OK)
        return status;
    if (!on_device)
        candidates_find(source->pool, sums, best, table->stride, host, n, width,
                        (int32_t)own->vocab_begin, table->k + first);
    take_named(table, own, first, n, logits);
    return STATUS_OK;
}

/* Of the shard whose part of the vocabulary has it. */
static float named_of(const struct candidate_table *table, const struct block *block, uint32_t row)
{
    const struct candidate_source *source = table->source;
    const int32_t id = table->named[row];
    for (uint32_t shard = 0; shard < group_tensor(source->group); shard++) {
        const struct shard_part *part = &source->shards[shard];
        if (id < (int64_t)part->vocab_begin || id >= (int64_t)part->vocab_end)
            continue;
        const uint8_t *bytes = (const uint8_t *)table->all.data + shard * block->bytes;
        return ((const float *)(bytes + block->sums_bytes + block->best_bytes))[row];
    }
    return 0.0f;
}

enum status candidate_table_merge(struct candidate_table *table, struct error *error)
{
    struct group *group = table->source->group;
    const uint32_t tensor = group_tensor(group);
    struct block block = {0};
    if (tensor == 1 || table->n_rows == 0)
        return STATUS_OK;
    enum status status = block_of(table, &block, error);
    if (status == STATUS_OK)
        status = group_collect(group, table->mine.data, table->all.data, block.bytes, error);
    if (status != STATUS_OK || group_shard(group) != 0)
        return status;
    point_into(table, &block, table->merged.data);
    const struct candidates_sum *sums = table->all.data;
    const struct candidate *best =
        (const struct candidate *)((const uint8_t *)table->all.data + block.sums_bytes);
    for (uint32_t row = 0; row < table->n_rows; row++) {
        ((struct candidates_sum *)table->sums)[row] =
            candidates_merge((struct candidate *)table->best + row * table->stride, table->k[row],
                             sums + row, block.bytes / sizeof(*sums), best + row * table->stride,
                             block.bytes / sizeof(*best), tensor);
        ((float *)table->named_logits)[row] = named_of(table, &block, row);
    }
    return STATUS_OK;
}
