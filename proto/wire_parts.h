/* proto/wire_parts.h - what the files of the transport know of each other. For proto/ only. */
#ifndef LONGSPAN_PROTO_WIRE_PARTS_H
#define LONGSPAN_PROTO_WIRE_PARTS_H

#include "proto/address.h"
#include "proto/frames.h"
#include "proto/wire_context.h"
#include "proto/wire_socket.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* How ZeroMQ's threads are scheduled (wire_context.h): as SCHED_BATCH, so that they wait for the
 * thread that their processor runs; or, while a program that never waits was met there in the last
 * tenth of a second, as SCHED_OTHER, so that they interrupt it. */
struct wire_threads {
    bool ours; /* the policy is ours to choose */
    atomic_bool interrupt;
    _Atomic uint64_t crowded_us; /* when somebody was found last */
};

/* libzmq ends the process when it cannot have its threads, which are `n`. STATUS_NO_MEMORY. */
enum status wire_threads_check(uint32_t n, struct error *error);

struct wire_context {
    void *zmq;
    struct wire_threads threads;
    struct cluster_key key;
    bool have_key, insecure_network;
    atomic_uint n_sockets; /* open ones: destroy would wait for them for ever */
    atomic_uint n_opened;  /* ever: names the channels of monitors */
    void *authenticator;   /* socket, the thread's from its start on */
    pthread_t authenticator_thread;
    bool authenticator_runs;
    uint8_t admitted_key[32];
};

/* Bytes handed to a socket that ZeroMQ has not yet given back: of a DEALER all, of a ROUTER those to
 * one peer, so that one that does not read keeps nothing from the others, and in `all` those to all
 * of them. Messages may outlive their socket, so that the last one, or the socket, frees it. */
struct wire_queue {
    atomic_size_t bytes;
    atomic_size_t n_users;
    struct wire_queue *all; /* of which this is a part; or NULL */
};

struct wire_peer_queue {
    struct frames_peer peer;
    struct wire_queue *queue;
};

struct wire_socket {
    void *zmq;
    void *monitor; /* the receiving end of its events */
    struct wire_context *context;
    struct wire_queue *queue;      /* of a ROUTER that of all peers, and of those that there is no
                                      memory for more for */
    struct wire_peer_queue *peers; /* of a ROUTER: those with bytes on their way, and some more */
    size_t n_peers, peers_capacity;
    enum wire_kind kind;
    bool listen;
    bool sent; /* since it was looked at last */
    uint64_t max_message_bytes, queue_bytes, all_queues_bytes;
    uint32_t n_unready_ends; /* failed handshakes of which ZeroMQ will still report the end */
    char endpoint[ADDRESS_BYTES];
    char name[ADDRESS_BYTES];
};

/* One user; a part of `all`, if that is not NULL. NULL: no memory. */
struct wire_queue *wire_queue_create(struct wire_queue *all);
void wire_queue_release(struct wire_queue *queue);

/* What counts large frames to the peer. */
struct wire_queue *wire_queue_of(struct wire_socket *socket, const struct frames_peer *peer);

/* Whether so many bytes may be added. They are added to what the queue is a part of, too. */
bool wire_queue_has_room(const struct wire_socket *socket, const struct wire_queue *queue,
                         size_t bytes);
void wire_queue_add(struct wire_queue *queue, size_t bytes);
void wire_queue_take(struct wire_queue *queue, size_t bytes);

/* Before ZeroMQ's threads start. */
void wire_threads_open(struct wire_threads *threads, void *zmq);

/* After a look: what offer_processor returned. Any thread; a branch while nothing changes. */
void wire_threads_note(struct wire_threads *threads, bool given_back);

/* Starts the thread that answers ZeroMQ's question who may connect; ends with the context. */
enum status wire_authenticator_start(struct wire_context *context, struct error *error);

/* Connects socket->monitor to the events of socket->zmq, before it binds or connects. */
enum status wire_events_open(struct wire_socket *socket, struct error *error);

#endif
