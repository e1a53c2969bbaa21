/* activations.c - three parts, one after the other: streams, what lives between two products, and
 * what lives within attention or a block of the feed-forward part. */
#include "worker/activations.h"

enum {
    LINE_FLOATS = 16, /* each begins at a cache line */
    /* At most. Measured (longspan bench -d 0 -p 512): with fewer than 128, reading the weights once
     * for each block begins to cost; from 171 on a prompt takes as long as in one block, or less. */
    BLOCK_ROWS = 192,
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t floats(size_t n_rows, size_t n_columns)
{
    return (n_rows * n_columns + LINE_FLOATS - 1) / LINE_FLOATS * LINE_FLOATS;
}

enum status activations_open(struct activations *activations, const struct activations_shape *shape,
                             const struct kernels *kernels, struct device *device,
                             struct error *error)
{
    const size_t rows = shape->max_rows;
    size_t most = 4 * (size_t)shape->hidden + 2 * (size_t)shape->query + 2 * (size_t)shape->kv +
                  2 * (size_t)shape->ffn + 10 * LINE_FLOATS; /* columns, and more than it will be */
    if (__builtin_mul_overflow(most * sizeof(float), rows, &most))
        return error_set(error, STATUS_NO_MEMORY,
                         "activations: %zu rows of %u columns, %u of them in the feed-forward "
                         "part, have no size",
                         rows, shape->hidden, shape->ffn);
    const size_t n_blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const size_t block_rows = (rows + n_blocks - 1) / n_blocks;
    const size_t hidden = floats(rows, shape->hidden), query = floats(rows, shape->query);
    const size_t kv = floats(rows, shape->kv), ffn = floats(block_rows, shape->ffn);
    const size_t between = larger(hidden, query), within = larger(query + 2 * kv, 2 * ffn);
    struct activations a = {
        .block_rows = (uint32_t)block_rows, .kernels = kernels, .device = device};
    a.bytes = (shape->n_streams * hidden + between + within) * sizeof(float);
    const enum status status = kernels->memory_take(device, &a.memory, a.bytes, error);
    if (status != STATUS_OK)
        return status;

    float *next = a.memory;
    for (uint32_t i = 0; i < 2; i++)
        a.stream[i] = next + (i < shape->n_streams ? i : 0) * hidden;
    next += shape->n_streams * hidden;
    a.normed = a.attended = a.product = next;
    next += between;
    a.query = next;
    a.key = a.query + query;
    a.value = a.key + kv;
    a.gate = next;
    a.up = a.gate + ffn;
    *activations = a;
    return STATUS_OK;
}

void activations_close(struct activations *activations)
{
    if (activations->memory != NULL)
        activations->kernels->memory_give(activations->device, activations->memory);
    *activations = (struct activations){0};
}
