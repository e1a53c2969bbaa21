/* serve_memory.c - see serve_memory.h. */
#include "attention_node/serve_memory.h"

#include <string.h>

enum {
    ROWS_BYTES = 16 << 20, /* appends of a few steps; larger ones have it grow */
    ALIGNMENT = 256,
};

void serve_memory_open(struct serve_memory *memory, const struct kernels *kernels,
                       struct device *device)
{
    *memory = (struct serve_memory){.kernels = kernels, .device = device};
    memory->rows_host = memory->partials_host = device_buffer(kernels, device, true);
    memory->rows = memory->q = memory->partials = device_buffer(kernels, device, false);
}

void serve_memory_close(struct serve_memory *memory)
{
    struct device_buffer *const buffers[] = {&memory->rows_host, &memory->rows, &memory->q,
                                             &memory->partials, &memory->partials_host};
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
        device_buffer_release(buffers[i]);
}

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

enum status serve_memory_rows(struct serve_memory *memory, struct kv_holder *holder, const void **k,
                              const void **v, size_t bytes, struct error *error)
{
    if (memory->kernels->host_memory || bytes == 0)
        return STATUS_OK;
    const size_t v_at = aligned(bytes), both = v_at + aligned(bytes);
    enum status status = STATUS_OK;
    if (both > memory->rows.bytes || memory->rows_used > memory->rows.bytes - both) {
        const size_t wanted = both > ROWS_BYTES ? both : ROWS_BYTES;
        status = serve_memory_finish(memory, holder, error);
        if (status == STATUS_OK)
            status = device_buffer_reserve(&memory->rows_host, wanted, error);
        if (status == STATUS_OK)
            status = device_buffer_reserve(&memory->rows, wanted, error);
    }
    if (status != STATUS_OK)
        return status;
    unsigned char *host = (unsigned char *)memory->rows_host.memory + memory->rows_used;
    unsigned char *there = (unsigned char *)memory->rows.memory + memory->rows_used;
    memcpy(host, *k, bytes);
    memcpy(host + v_at, *v, bytes);
    memory->kernels->upload(memory->device, there, host, v_at + bytes);
    *k = there;
    *v = there + v_at;
    memory->rows_used += both;
    return STATUS_OK;
}

enum status serve_memory_run(struct serve_memory *memory, size_t q_bytes, size_t partials_bytes,
                             struct error *error)
{
    if (memory->kernels->host_memory)
        return STATUS_OK;
    enum status status = device_buffer_reserve(&memory->q, q_bytes, error);
    if (status == STATUS_OK)
        status = device_buffer_reserve(&memory->partials, partials_bytes, error);
    if (status == STATUS_OK)
        status = device_buffer_reserve(&memory->partials_host, partials_bytes, error);
    return status;
}

enum status serve_memory_finish(struct serve_memory *memory, struct kv_holder *holder,
                                struct error *error)
{
    kv_holder_flush(holder);
    const enum status status = memory->kernels->finish(memory->device, error);
    memory->rows_used = 0;
    return status;
}
