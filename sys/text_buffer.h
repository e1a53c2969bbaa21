/* sys/text_buffer.h - text that grows, kept from one use to the next.
 *
 * Zero-initialised is empty. Ended by free(bytes). Adding costs what is added, on the mean. */
#ifndef LONGSPAN_SYS_TEXT_BUFFER_H
#define LONGSPAN_SYS_TEXT_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct text_buffer {
    char *
        bytes; /* n, and a NUL behind them after each text_buffer_add; NULL: nothing was ever added */
    size_t n, capacity;
};

/* Appends; the bytes may not be the buffer's own, and may be NULL where n is 0. False: no memory,
 * the buffer is as it was. */
bool text_buffer_add(struct text_buffer *buffer, const void *bytes, size_t n);

/* Room for `n` more bytes behind the end, and a NUL. False: no memory. */
bool text_buffer_reserve(struct text_buffer *buffer, size_t n);

#endif
