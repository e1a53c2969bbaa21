/* text_buffer.c - see text_buffer.h. */
#include "sys/text_buffer.h"

#include "sys/array.h"

#include <string.h>

bool text_buffer_reserve(struct text_buffer *buffer, size_t n)
{
    size_t wanted;
    return !__builtin_add_overflow(buffer->n, n, &wanted) &&
           !__builtin_add_overflow(wanted, 1, &wanted) &&
           array_grow(&buffer->bytes, &buffer->capacity, wanted, 1);
}

bool text_buffer_add(struct text_buffer *buffer, const void *bytes, size_t n)
{
    if (!text_buffer_reserve(buffer, n))
        return false;
    if (n > 0)
        memcpy(buffer->bytes + buffer->n, bytes, n);
    buffer->n += n;
    buffer->bytes[buffer->n] = '\0';
    return true;
}
