/* coordinator/http/door.h - accepts connections, and lets in those that begin with HTTP/1.
 *
 * What comes is looked at, and left in the socket, until its first line is whole; then
 * libmicrohttpd gets the connection. Another version of HTTP (2 without TLS, 0.9, 9.9) is answered
 * with a 400 here: libmicrohttpd has a 505 for it, of which its user is neither asked nor told, as
 * if the server were at fault. What is no HTTP at all it answers with a 4xx itself. A connection
 * whose first line does not come in time is closed.
 *
 * The door alone says how many there may be: a thread of libmicrohttpd 0.9.75 (Debian 12) that
 * meets the daemon's own limit keeps a lock for ever, and all its connections with it. It counts
 * the sockets that it gave away and that are open still: of a connection for which it has no memory,
 * libmicrohttpd tells neither a beginning nor an end.
 *
 * A thread of its own. */
#ifndef LONGSPAN_COORDINATOR_HTTP_DOOR_H
#define LONGSPAN_COORDINATOR_HTTP_DOOR_H

#include "sys/status.h"

#include <microhttpd.h>
#include <stddef.h>
#include <stdint.h>

struct door; /* opaque */

struct door_config {
    int listening;             /* not blocking; the door's, from door_open on */
    struct MHD_Daemon *daemon; /* without a socket to listen at or a limit that `most` could
                                  reach; borrowed, outlives the door */
    uint32_t most;             /* connections, the daemon's and those at the door; more wait
                                  unaccepted */
    uint32_t patience_s;       /* until the first line is there */
};

/* The caller ends *door with door_close. Closes config->listening also when it fails.
 * STATUS_NO_MEMORY. */
enum status door_open(struct door **door, const struct door_config *config, struct error *error);

/* Closes what is at the door, and no more is accepted. NULL is fine. */
void door_close(struct door *door);

enum door_verdict { DOOR_WAITS, DOOR_ADMITS, DOOR_REFUSES };

enum { DOOR_LINE_BYTES = 32768 }; /* more than libmicrohttpd has room for (HEADER_BYTES) */

/* The first line, as far as it has come, without empty lines before it. A line that is too long is
 * admitted: it is refused there. */
enum door_verdict door_judge(const char *bytes, size_t n);

#endif
