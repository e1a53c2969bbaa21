/* stream.c - see stream.h.
 *
 * A connection is suspended and resumed under the lock, and only when it is in the other state, so
 * that no wake-up is lost and none comes twice. */
#include "coordinator/http/stream.h"

#include <stdlib.h>
#include <string.h>

void stream_open(struct stream *stream, struct MHD_Connection *connection, size_t most)
{
    *stream = (struct stream){.connection = connection, .most = most};
    pthread_mutex_init(&stream->lock, NULL);
}

void stream_close(struct stream *stream)
{
    pthread_mutex_destroy(&stream->lock);
    free(stream->waiting.bytes);
    *stream = (struct stream){0};
}

void stream_allow(struct stream *stream, size_t most)
{
    pthread_mutex_lock(&stream->lock);
    stream->most = most;
    pthread_mutex_unlock(&stream->lock);
}

static void sleep_locked(struct stream *s)
{
    s->suspended = true;
    MHD_suspend_connection(s->connection);
}

static void wake_locked(struct stream *s)
{
    if (!s->suspended)
        return;
    s->suspended = false;
    MHD_resume_connection(s->connection);
}

bool stream_begun(struct stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    const bool begun = stream->begun;
    if (!begun && !stream->suspended)
        sleep_locked(stream);
    pthread_mutex_unlock(&stream->lock);
    return begun;
}

ssize_t stream_read(void *closure, uint64_t position, char *to, size_t most)
{
    struct stream *s = closure;
    (void)position; /* MHD reads in order */
    pthread_mutex_lock(&s->lock);
    size_t n = s->waiting.n;
    ssize_t result = 0;
    if (s->end == STREAM_BROKEN) {
        result = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (n > 0) {
        n = n < most ? n : most;
        memcpy(to, text_queue_front(&s->waiting), n);
        text_queue_drop(&s->waiting, n);
        result = (ssize_t)n;
    } else if (s->end == STREAM_WHOLE) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        sleep_locked(s);
    }
    pthread_mutex_unlock(&s->lock);
    return result;
}

void stream_detach(struct stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    stream->connection = NULL;
    stream->suspended = false;
    pthread_mutex_unlock(&stream->lock);
}

void stream_begin(struct stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    stream->begun = true;
    wake_locked(stream);
    pthread_mutex_unlock(&stream->lock);
}

bool stream_write(struct stream *stream, const void *bytes, size_t n)
{
    pthread_mutex_lock(&stream->lock);
    const bool good = stream->connection != NULL && stream->end == STREAM_OPEN &&
                      n <= stream->most - stream->waiting.n &&
                      text_queue_add(&stream->waiting, bytes, n);
    if (good) {
        stream->begun = true;
        wake_locked(stream);
    }
    pthread_mutex_unlock(&stream->lock);
    return good;
}

void stream_finish(struct stream *stream, enum stream_end end)
{
    pthread_mutex_lock(&stream->lock);
    if (stream->end == STREAM_OPEN)
        stream->end = end;
    stream->begun = true;
    wake_locked(stream);
    pthread_mutex_unlock(&stream->lock);
}
