/* text_buffer.c - doubles, so that appending costs what is appended. */
#include "model/tokenizer/text_buffer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

bool text_buffer_reserve(struct text_buffer *buffer, size_t n)
{
    if (buffer->capacity - buffer->n >= n)
        return true;
    if (n > SIZE_MAX / 4 - buffer->capacity)
        return false;
    const size_t capacity = 2 * buffer->capacity + n + 64;
    char *bigger = realloc(buffer->bytes, capacity);
    if (bigger == NULL)
        return false;
    buffer->bytes = bigger;
    buffer->capacity = capacity;
    return true;
}

bool text_buffer_add(struct text_buffer *buffer, const char *bytes, size_t n)
{
    if (n == 0)
        return true;
    if (!text_buffer_reserve(buffer, n))
        return false;
    memcpy(buffer->bytes + buffer->n, bytes, n);
    buffer->n += n;
    return true;
}
