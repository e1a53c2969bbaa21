/* activations.c - three parts, one after the other: streams, what lives between two products, and
 * what lives within attention or a block of the feed-forward part. */
#include "worker/activations.h"

enum status activations_open(struct activations *activations, const struct activation_shape *shape,
                             const struct kernels *kernels, struct device *device,
                             struct error *error)
{
    struct activation_size size;
    if (!activation_size_of(&size, shape))
        return error_set(error, STATUS_NO_MEMORY,
                         "activations: %u rows of %u columns, %u of them in the feed-forward "
                         "part, have no size",
                         shape->max_rows, shape->hidden, shape->ffn);
    struct activations a = {
        .block_rows = size.block_rows, .kernels = kernels, .device = device, .bytes = size.bytes};
    const enum status status = kernels->memory_take(device, &a.memory, a.bytes, error);
    if (status != STATUS_OK)
        return status;

    float *next = a.memory;
    for (uint32_t i = 0; i < 2; i++)
        a.stream[i] = next + (i < shape->n_streams ? i : 0) * size.hidden;
    next += shape->n_streams * size.hidden;
    a.normed = a.attended = a.product = next;
    next += size.between;
    a.query = next;
    a.key = a.query + size.query;
    a.value = a.key + size.kv;
    a.gate = next;
    a.up = a.gate + size.ffn;
    *activations = a;
    return STATUS_OK;
}

void activations_close(struct activations *activations)
{
    if (activations->memory != NULL)
        activations->kernels->memory_give(activations->device, activations->memory);
    *activations = (struct activations){0};
}
