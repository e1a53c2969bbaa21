/* text_queue.c - see text_queue.h. */
#include "sys/text_queue.h"

#include "sys/array.h"

#include <stdint.h>
#include <string.h>

const char *text_queue_front(const struct text_queue *queue)
{
    return queue->bytes != NULL ? queue->bytes + queue->begin : "";
}

bool text_queue_add(struct text_queue *queue, const void *bytes, size_t n)
{
    if (queue->begin > 0 && queue->begin >= queue->n) {
        memmove(queue->bytes, queue->bytes + queue->begin, queue->n);
        queue->begin = 0;
    }
    const size_t end = queue->begin + queue->n;
    if (n > SIZE_MAX - end || !array_grow(&queue->bytes, &queue->capacity, end + n, 1))
        return false;
    if (n > 0)
        memcpy(queue->bytes + end, bytes, n);
    queue->n += n;
    return true;
}

void text_queue_drop(struct text_queue *queue, size_t n)
{
    queue->n -= n;
    queue->begin = queue->n > 0 ? queue->begin + n : 0;
}
