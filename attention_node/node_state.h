/* attention_node/node_state.h - what node.c (start, loop, data) and node_control.c (the
 * coordinator) share. */
#ifndef LONGSPAN_ATTENTION_NODE_NODE_STATE_H
#define LONGSPAN_ATTENTION_NODE_NODE_STATE_H

#include "attention_node/node.h"
#include "attention_node/rings.h"
#include "attention_node/serve.h"
#include "attention_node/store.h"
#include "proto/address.h"
#include "proto/arena.h"
#include "proto/wire_socket.h"
#include "sys/seat.h"
#include "sys/trace.h"

enum { NODE_DRAIN_MESSAGES = 256 }; /* of one socket, before the other one has its turn */

struct node {
    struct node_config config;
    char host[ADDRESS_HOST_BYTES], name[ADDRESS_HOST_BYTES];
    char endpoint[ADDRESS_BYTES]; /* advertised */
    const struct kernels *kernels;
    struct device *device;
    uint64_t node;  /* our incarnation */
    double started; /* in seconds since 1970 */
    double bytes_per_s;
    char device_name[32]; /* "cpu", "cuda:1" */
    struct thread_pool *pool;
    struct seat seat; /* of its lanes, while there is a job */
    char processors[ADDRESS_HOST_BYTES];
    struct trace *trace;
    struct trace_track *track; /* of the loop */
    uint64_t asked_ns;         /* Ping, last */
    struct wire_context *context;
    struct wire_socket *control, *data;
    struct rings rings;
    struct serve *serve;
    struct store *store; /* NULL: none */
    struct arena arena;
    struct frames in;
    uint32_t spin_us;

    bool ended; /* refused; `end` says why */
    struct error end;
    bool connected; /* the coordinator's socket */
    uint64_t began_us;
    uint64_t said_us;             /* NodeJoin or Ping, last */
    uint64_t usage_us;            /* NodeUsage was looked at, last */
    struct kv_holder_usage usage; /* as it was told last */
    struct serve_counts counts;   /* likewise */
    uint64_t heard_us;            /* anything of the coordinator */
    uint64_t waiting_us;          /* since when there is no job */
    uint64_t data_us;             /* a data message, last */
};

/* False: not sent; the queue is full, or the connection not ready yet. */
bool node_say_join(struct node *node);
bool node_say_ping(struct node *node);

/* What changed since it was told last. */
void node_say_usage(struct node *node);

/* The answer to Reserve or Restore: what `error` says. */
void node_say_reserved(struct node *node, uint64_t job, uint64_t request, struct error *error);

/* Names of pages that were written, or are gone. */
void node_say_stored(struct node *node, const uint8_t *added, size_t n_added, const uint8_t *gone,
                     size_t n_gone);

/* So that nobody waits for us until a deadline. */
void node_say_leave(struct node *node);

/* Frees the job's pages, and joins again. Without a job too. */
void node_drop_job(struct node *node, const char *why);

/* All that the coordinator has sent, up to NODE_DRAIN_MESSAGES; what cannot be read is logged.
 * Fails when the socket does. */
enum status node_receive_control(struct node *node, struct error *error);

#endif
