/* device_memory.c - see device_memory.h. */
#include "kernels/cpu/device_memory.h"

#include "sys/memory.h"

#include <string.h>

enum { HEAD_BYTES = 256 }; /* before a block: its size; what is lent begins at a multiple of it */

enum status cpu_memory_take(struct device *device, void **memory, size_t bytes, struct error *error)
{
    (void)device;
    size_t whole;
    void *base;
    if (__builtin_add_overflow(bytes, HEAD_BYTES, &whole))
        return error_set(error, STATUS_NO_MEMORY, "kernels: no memory of %zu bytes", bytes);
    const enum status status = memory_reserve(&base, whole, error);
    if (status != STATUS_OK)
        return status;
    memcpy(base, &whole, sizeof(whole));
    *memory = (char *)base + HEAD_BYTES;
    return STATUS_OK;
}

void cpu_memory_give(struct device *device, void *memory)
{
    (void)device;
    if (memory == NULL)
        return;
    size_t whole;
    void *base = (char *)memory - HEAD_BYTES;
    memcpy(&whole, base, sizeof(whole));
    memory_release(base, whole);
}

uint64_t cpu_memory_available(struct device *device)
{
    (void)device;
    return memory_available_bytes();
}

void cpu_memory_copy(struct device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    if (to != from && bytes > 0)
        memcpy(to, from, bytes);
}

void cpu_memory_clear(struct device *device, void *memory, size_t bytes)
{
    (void)device;
    if (bytes > 0)
        memset(memory, 0, bytes);
}

enum status cpu_finish(struct device *device, struct error *error)
{
    (void)device;
    (void)error;
    return STATUS_OK;
}
