/* sys/text_queue.h - text that is added behind and taken in front.
 *
 * Zero-initialised is empty. Ended by free(bytes). What was dropped is given up when it is as much
 * as what is left, so that each byte is moved once on the mean. */
#ifndef LONGSPAN_SYS_TEXT_QUEUE_H
#define LONGSPAN_SYS_TEXT_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

struct text_queue {
    char *bytes;
    size_t begin, n, capacity; /* n from `begin` on */
};

/* The n bytes that are there, valid until the next text_queue_add; "" before the first. */
const char *text_queue_front(const struct text_queue *queue);

/* The bytes may not be the queue's own. False: no memory, the queue is as it was. */
bool text_queue_add(struct text_queue *queue, const void *bytes, size_t n);

/* n: at most what is there. The dropped bytes too stay where they are until the next
 * text_queue_add. */
void text_queue_drop(struct text_queue *queue, size_t n);

#endif
