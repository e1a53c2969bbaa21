/* coordinator/http/readers.h - connections whose next request is not whole yet; who takes too long
 * is cut off.
 *
 * libmicrohttpd ends a connection on which nothing moves. One that sends a byte now and then would
 * keep its place for ever: here every connection has a deadline, from its beginning or from the end
 * of its last request, until its next request is whole. */
#ifndef LONGSPAN_COORDINATOR_HTTP_READERS_H
#define LONGSPAN_COORDINATOR_HTTP_READERS_H

#include "sys/status.h"

#include <stdint.h>

struct readers; /* opaque */
struct reader;  /* one connection */

/* STATUS_NO_MEMORY: or no thread. */
enum status readers_create(struct readers **readers, uint32_t limit_s, struct error *error);
/* Once there are no connections. NULL is fine. */
void readers_destroy(struct readers *readers);

/* A connection begins, or ends: before its descriptor is closed. NULL: no memory, nobody looks
 * after it; fine for the others. */
struct reader *readers_add(struct readers *readers, int descriptor);
void readers_remove(struct readers *readers, struct reader *reader);

/* Its request is whole; it may send the next one. */
void readers_stop(struct readers *readers, struct reader *reader);
void readers_start(struct readers *readers, struct reader *reader);

#endif
