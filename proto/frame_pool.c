/* frame_pool.c - idle means that only the pool's reference is left. Capacities are powers of two,
 * so that messages of similar sizes find each other's buffers; the smallest that fits is taken. */
#include "proto/frame_pool.h"

#include "sys/array.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST_BYTES = 4096 };

struct frame_buffer {
    atomic_uint references;
    size_t capacity;
    unsigned char *data;
};

static void buffer_unref(struct frame_buffer *buffer)
{
    if (atomic_fetch_sub_explicit(&buffer->references, 1, memory_order_acq_rel) == 1) {
        free(buffer->data);
        free(buffer);
    }
}

static int buffer_idle(const struct frame_buffer *buffer)
{
    return atomic_load_explicit(&buffer->references, memory_order_acquire) == 1;
}

void frame_pool_destroy(struct frame_pool *pool)
{
    for (size_t i = 0; i < pool->n; i++)
        buffer_unref(pool->buffers[i]);
    free(pool->buffers);
    memset(pool, 0, sizeof(*pool));
}

/* Sizes change over time (prefill, then decode): what nobody uses must not pile up. The newest stay,
 * as far as the bounds go. */
static void drop_idle(struct frame_pool *pool)
{
    if (pool->n <= FRAME_POOL_MOST_IDLE && pool->bytes <= FRAME_POOL_MOST_IDLE_BYTES)
        return; /* nearly always: they could all be idle */
    size_t n_idle = 0, idle_bytes = 0, kept = 0;
    for (size_t i = pool->n; i-- > 0;) {
        struct frame_buffer *buffer = pool->buffers[i];
        if (!buffer_idle(buffer))
            continue;
        if (n_idle < FRAME_POOL_MOST_IDLE &&
            buffer->capacity <= FRAME_POOL_MOST_IDLE_BYTES - idle_bytes) {
            n_idle++;
            idle_bytes += buffer->capacity;
        } else {
            pool->bytes -= buffer->capacity;
            buffer_unref(buffer);
            pool->buffers[i] = NULL;
        }
    }
    for (size_t i = 0; i < pool->n; i++)
        if (pool->buffers[i] != NULL)
            pool->buffers[kept++] = pool->buffers[i];
    pool->n = kept;
}

static struct frame_buffer *buffer_create(size_t bytes)
{
    size_t capacity = SMALLEST_BYTES;
    while (capacity < bytes) {
        if (capacity > SIZE_MAX / 4)
            return NULL;
        capacity *= 2;
    }
    struct frame_buffer *buffer = malloc(sizeof(*buffer));
    if (buffer == NULL || (buffer->data = aligned_alloc(64, capacity)) == NULL) {
        free(buffer);
        return NULL;
    }
    atomic_init(&buffer->references, 1);
    buffer->capacity = capacity;
    return buffer;
}

enum status frame_pool_take(struct frame_pool *pool, size_t bytes, struct frame_buffer **buffer,
                            struct error *error)
{
    struct frame_buffer *best = NULL;
    for (size_t i = 0; i < pool->n; i++) {
        struct frame_buffer *candidate = pool->buffers[i];
        if (candidate->capacity >= bytes &&
            (best == NULL || candidate->capacity < best->capacity) && buffer_idle(candidate))
            best = candidate;
    }
    if (best == NULL) {
        drop_idle(pool); /* before more is asked for */
        if (!array_grow(&pool->buffers, &pool->capacity, pool->n + 1, sizeof(*pool->buffers)))
            return error_set(error, STATUS_NO_MEMORY, "wire: no memory for a message");
        best = buffer_create(bytes);
        if (best == NULL)
            return error_set(error, STATUS_NO_MEMORY, "wire: no memory for a message of %zu bytes",
                             bytes);
        pool->buffers[pool->n++] = best;
        pool->bytes += best->capacity;
    }
    atomic_fetch_add_explicit(&best->references, 1, memory_order_relaxed);
    drop_idle(pool); /* what was under way, and larger than is asked for now */
    *buffer = best;
    return STATUS_OK;
}

struct frame_buffer *frame_buffer_share(struct frame_buffer *buffer)
{
    atomic_fetch_add_explicit(&buffer->references, 1, memory_order_relaxed);
    return buffer;
}

void frame_buffer_give(struct frame_buffer *buffer)
{
    if (buffer != NULL)
        buffer_unref(buffer);
}

void *frame_buffer_data(struct frame_buffer *buffer)
{
    return buffer->data;
}

static void release(void *data, void *hint)
{
    (void)data;
    buffer_unref(hint);
}

enum status frame_buffer_add(struct frame_buffer *buffer, size_t offset, size_t bytes,
                             struct frames *frames, struct error *error)
{
    assert(offset <= buffer->capacity && bytes <= buffer->capacity - offset);
    atomic_fetch_add_explicit(&buffer->references, 1, memory_order_relaxed);
    const enum status status =
        frames_add_borrowed(frames, buffer->data + offset, bytes, release, buffer, error);
    if (status != STATUS_OK)
        buffer_unref(buffer);
    return status;
}
