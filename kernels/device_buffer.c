/* device_buffer.c - see device_buffer.h. */
#include "kernels/device_buffer.h"

void device_buffer_release(struct device_buffer *buffer)
{
    if (buffer->memory != NULL && buffer->on_host)
        buffer->kernels->host_give(buffer->device, buffer->memory);
    else if (buffer->memory != NULL)
        buffer->kernels->memory_give(buffer->device, buffer->memory);
    buffer->memory = NULL;
    buffer->bytes = 0;
}

static enum status take(struct device_buffer *buffer, size_t bytes, struct error *error)
{
    return (buffer->on_host ? buffer->kernels->host_take : buffer->kernels->memory_take)(
        buffer->device, &buffer->memory, bytes, error);
}

enum status device_buffer_reserve(struct device_buffer *buffer, size_t bytes, struct error *error)
{
    if (bytes <= buffer->bytes)
        return STATUS_OK;
    struct error why = {.status = STATUS_OK};
    size_t wanted;
    if (__builtin_add_overflow(bytes, bytes / 4, &wanted))
        wanted = bytes;
    device_buffer_release(buffer);
    enum status status = take(buffer, wanted, &why);
    if (status != STATUS_OK && wanted > bytes)
        status = take(buffer, wanted = bytes, &why);
    if (status != STATUS_OK)
        return error_set(error, status,
                         "%s; a step needs %zu bytes at once: use smaller chunks, or fewer "
                         "sequences",
                         why.text, bytes);
    buffer->bytes = wanted;
    return STATUS_OK;
}
