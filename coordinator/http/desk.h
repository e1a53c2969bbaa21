/* coordinator/http/desk.h - threads that read what takes long to be read: parse, fill in a chat's
 * template, tokenize.
 *
 * A text of megabytes takes half a second of that and more (bench/long_texts.py). MHD's threads, of which each carries a part of
 * all streams, do not do it, nor does the coordinator's loop. One thread of the desk takes what
 * came first, the other what is shortest: a short one does not wait for all long ones before it,
 * nor a long one for ever. */
#ifndef LONGSPAN_COORDINATOR_HTTP_DESK_H
#define LONGSPAN_COORDINATOR_HTTP_DESK_H

#include "coordinator/http/errand.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stddef.h>

enum { DESK_THREADS = 2 };

struct desk; /* opaque */

/* `done(context, errand)`, in a thread of the desk, once errand->kind->read has returned.
 * STATUS_NO_MEMORY: or no thread. */
enum status desk_create(struct desk **desk, void (*done)(void *context, struct errand *errand),
                        void *context, struct error *error);

/* Once it has nothing to read. NULL is fine. */
void desk_destroy(struct desk *desk);

/* Takes an errand of errand->n_unread bytes, which stays alive until it is done. */
void desk_give(struct desk *desk, struct errand *errand);

/* Whether nobody has begun to read it: it is not at the desk any more, and `done` is not called.
 * Otherwise it is being read, or has been: errand->stop ends that soon. */
bool desk_take_back(struct desk *desk, struct errand *errand);

#endif
