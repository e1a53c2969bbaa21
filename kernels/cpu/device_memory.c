/* device_memory.c - see device_memory.h. */
#include "kernels/cpu/device_memory.h"

#include "sys/memory.h"

#include <string.h>

enum {
    HEAD_BYTES = 256, /* before what is lent: its size; what is lent begins at a multiple of it */
    HUGE_BYTES = 2 << 20, /* from here on it begins on a huge page, ... */
    HUGE_HEAD =
        64 * 1024 /* ... and the size lies in this much before it, where no huge page fits */
};

static size_t head_of(size_t bytes)
{
    return bytes >= HUGE_BYTES ? HUGE_HEAD : HEAD_BYTES;
}

enum status cpu_memory_take(struct device *device, void **memory, size_t bytes, struct error *error)
{
    (void)device;
    const size_t before = bytes >= HUGE_BYTES ? HUGE_BYTES : HEAD_BYTES;
    size_t whole;
    void *base;
    if (__builtin_add_overflow(bytes, before, &whole))
        return error_set(error, STATUS_NO_MEMORY, "kernels: no memory of %zu bytes", bytes);
    const enum status status = memory_reserve(&base, whole, error);
    if (status != STATUS_OK)
        return status;
    if (before > head_of(bytes))
        memory_release(base, before - head_of(bytes));
    char *lent = (char *)base + before;
    memcpy(lent - HEAD_BYTES, &bytes, sizeof(bytes));
    *memory = lent;
    return STATUS_OK;
}

void cpu_memory_give(struct device *device, void *memory)
{
    (void)device;
    if (memory == NULL)
        return;
    size_t bytes;
    memcpy(&bytes, (char *)memory - HEAD_BYTES, sizeof(bytes));
    const size_t head = head_of(bytes);
    memory_release((char *)memory - head, head + bytes);
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
