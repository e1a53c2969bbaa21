/* model/tokenizer/text_buffer.h - text that grows, kept from one use to the next.
 *
 * Zero-initialised is empty. Ended by free(bytes). */
#ifndef LONGSPAN_MODEL_TOKENIZER_TEXT_BUFFER_H
#define LONGSPAN_MODEL_TOKENIZER_TEXT_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct text_buffer {
    char *bytes;
    size_t n, capacity;
};

/* Appends; the bytes may not be the buffer's own. False: no memory, the buffer is as it was. */
bool text_buffer_add(struct text_buffer *buffer, const char *bytes, size_t n);

/* Room for `n` more bytes behind the end. False: no memory. */
bool text_buffer_reserve(struct text_buffer *buffer, size_t n);

#endif
