/* coordinator/http/stream.h - bytes from the bridge's thread to one HTTP connection.
 *
 * The connection sleeps (suspended) while there is nothing for it, and is woken by whoever writes.
 * What a client has not read yet is bounded: beyond that, the writer is told that the stream is
 * full, and gives the client up. One writer, one connection; either may end first. */
#ifndef LONGSPAN_COORDINATOR_HTTP_STREAM_H
#define LONGSPAN_COORDINATOR_HTTP_STREAM_H

#include "sys/text_queue.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

enum stream_end {
    STREAM_OPEN,
    STREAM_WHOLE,  /* everything was written: the answer ends as it should */
    STREAM_BROKEN, /* the connection is cut, so that the client sees that something is missing */
};

/* Zero is no stream: stream_open. To be read by nobody but stream.c. */
struct stream {
    pthread_mutex_t lock;
    struct MHD_Connection *connection; /* NULL: it has gone */
    bool suspended, begun;
    enum stream_end end;
    struct text_queue waiting;
    size_t most;
};

/* `most`: bytes that may wait for the client. */
void stream_open(struct stream *stream, struct MHD_Connection *connection, size_t most);
void stream_close(struct stream *stream);

/* Before anything is written: another `most`. */
void stream_allow(struct stream *stream, size_t most);

/* ---- the connection's side: only inside MHD's callbacks */

/* True: there is something to answer with. False: not yet, and the connection is suspended; its
 * handler is called again once there is. */
bool stream_begun(struct stream *stream);

/* An MHD_ContentReaderCallback; `stream` as its closure. */
ssize_t stream_read(void *stream, uint64_t position, char *to, size_t most);

/* The connection ends: nothing of it is touched any more. */
void stream_detach(struct stream *stream);

/* ---- the writer's side: from another thread */

/* From now on there is an answer. */
void stream_begin(struct stream *stream);

/* Begins too. False: the client does not read, or has gone, or there is no memory. */
bool stream_write(struct stream *stream, const void *bytes, size_t n);

/* Begins too. Only the first end counts. */
void stream_finish(struct stream *stream, enum stream_end end);

#endif
