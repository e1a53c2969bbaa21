/* worker/link.h - one rank's connection to the coordinator.
 *
 * A DEALER. Control messages go out and come in, a ping leaves each second, and the coordinator is
 * silent when a ping had no answer, nor any other message came, for LINK_SILENCE_US. One thread. */
#ifndef LONGSPAN_WORKER_LINK_H
#define LONGSPAN_WORKER_LINK_H

#include "proto/frames.h"
#include "proto/longspan.pb-c.h"
#include "proto/wire_context.h"
#include "sys/status.h"
#include "sys/trace.h"

#include <stdint.h>

enum { LINK_PING_US = 1000000, LINK_SILENCE_US = 30000000 };

/* Ranks that only listen give rank 0 time to end the job for all. */
enum { LINK_PATIENCE_US = 5000000 };

struct link; /* opaque */

/* Begins to connect. `spin_us`: before a wait blocks (waiting_spin_us). The caller ends *link with
 * link_close; `wire` outlives it. Fails as wire_socket_open. */
enum status link_open(struct link **link, struct wire_context *wire, const char *endpoint,
                      uint32_t rank, uint32_t spin_us, struct error *error);

/* What was sent has two seconds more to leave. NULL is fine. */
void link_close(struct link *link);

/* The coordinator has ended the job and may be gone: no more pings, and link_close waits for
 * nobody. NULL is fine. */
void link_leave(struct link *link);

/* Until the connection stands: STATUS_UNREACHABLE names the address and says whether nobody is
 * there or the cluster key is another one. */
enum status link_await(struct link *link, uint64_t deadline_us, struct error *error);

/* Pings and their answers tell `trace`, which may be NULL, the coordinator's clock. */
void link_trace(struct link *link, struct trace *trace);

/* Job that pings name; 0 before the setup. */
void link_set_job(struct link *link, uint64_t job);

/* What pings say of loading: bytes of `n_all` that are read. */
void link_set_loaded(struct link *link, uint64_t n_loaded, uint64_t n_all);

/* `tensors` (NULL: none) follow as the frame behind the header.
 * STATUS_TIMEOUT: the coordinator takes nothing for LINK_SILENCE_US. Fails as frames_send. */
enum status link_send(struct link *link, const Longspan__Control *control, const void *tensors,
                      size_t tensor_bytes, struct error *error);

/* A received message, and its packed form; both valid until the next link_receive or link_unpack.
 */
struct link_message {
    const Longspan__Control *control; /* NULL: none came */
    const void *bytes;
    size_t n_bytes;
};

/* One message, at the latest at the deadline (clock_us; 0: only looks), pinging meanwhile; returns
 * without one also when a signal came. A message that cannot be read gives STATUS_PROTOCOL, and is
 * gone. STATUS_TIMEOUT: the coordinator is silent. */
enum status link_receive(struct link *link, struct link_message *message, uint64_t deadline_us,
                         struct error *error);

/* The same from bytes that came another way (rank 0's broadcast), which stay the caller's. */
enum status link_unpack(struct link *link, struct link_message *message, const void *bytes,
                        size_t n_bytes, struct error *error);

/* Sends a ping when one is due. Cheap, for loops that wait or work for something else. */
void link_ping(struct link *link);

#endif
