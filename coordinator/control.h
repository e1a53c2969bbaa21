/* coordinator/control.h - control messages out of the coordinator's ROUTER, and who they go to.
 *
 * A message is built on the stack, with its arrays in control.arena, and is packed into one frame;
 * a tensor may follow as another. Sending never waits: the socket's queues are large, and a peer
 * that does not empty its own is to be given up, not to be waited for. Only the failure of a request
 * is owed to a client whose queue is full, and goes when there is room: it may read again, and would
 * wait for the end of its request for ever. */
#ifndef LONGSPAN_COORDINATOR_CONTROL_H
#define LONGSPAN_COORDINATOR_CONTROL_H

#include "proto/arena.h"
#include "proto/frames.h"
#include "proto/longspan.pb-c.h"
#include "sys/status.h"

#include <stddef.h>

enum { CONTROL_MOST_OWED = 512 }; /* to one client: more than it can have requests here */

struct control {
    struct wire_socket *socket;
    struct frames out;
    struct arena arena; /* for building; control_send resets it */
    struct control_owed *owed;
};

/* `socket` stays the caller's. The struct must not move afterwards. */
void control_open(struct control *control, struct wire_socket *socket);
void control_close(struct control *control);

/* Sends to `peer`; with `tensor` not NULL, its bytes follow as a frame (copied). The arena is
 * reset. STATUS_UNREACHABLE: no such connection (any more). STATUS_EXHAUSTED: its queue is full.
 * STATUS_NO_MEMORY, STATUS_CANCELLED, STATUS_IO. */
enum status control_send(struct control *control, const struct frames_peer *peer,
                         const Longspan__Control *message, const void *tensor, size_t tensor_bytes,
                         struct error *error);

/* Bytes of weights that all ranks have read, of so many; zeros: none loads. */
struct control_loading {
    uint64_t n_loaded, n_all;
};

/* Short ones. */
enum status control_send_pong(struct control *control, const struct frames_peer *peer, uint64_t job,
                              const struct control_loading *loading, struct error *error);
void control_send_refusal(struct control *control, const struct frames_peer *peer,
                          enum status status, const char *text);
void control_send_leave(struct control *control, const struct frames_peer *peer,
                        const char *reason);
void control_send_event_failure(struct control *control, const struct frames_peer *peer,
                                uint64_t request, enum status status, const char *text);

/* Sends what is owed, as far as queues have room again; what is owed to those who are gone is
 * forgotten. */
void control_send_owed(struct control *control);

/* A text of a peer for our own messages and logs: NULL becomes "", and it is cut. */
void control_copy_text(char *text, size_t size, const char *from);

#endif
