/* proto/wire_context.h - what all sockets of one process share: ZeroMQ's threads, key, and trust.
 *
 * With a cluster key every socket speaks CURVE: who listens is the CURVE server, who connects the
 * client, both with the one key pair of the cluster, and an authenticator thread (ZAP, RFC 27)
 * admits that public key only. Without, only what wire_socket_open lets through is possible.
 *
 * ZeroMQ's threads run as SCHED_BATCH (sched(7)): one that wakes up does not interrupt the thread
 * that its processor runs, it waits until that thread offers the processor, as every wait of ours
 * does between two looks (sys/sharing.h). Interrupting another processor is expensive on a virtual
 * machine, and a message there and back would do it twice. A program that only computes offers
 * nothing, and keeps a processor for a time slice of some milliseconds: once a wait of ours has met
 * one (sys/offer.h), ZeroMQ's threads run as SCHED_OTHER, which interrupts, for as long as it is
 * there. A policy that the process was started with (chrt) stays. */
#ifndef LONGSPAN_PROTO_WIRE_CONTEXT_H
#define LONGSPAN_PROTO_WIRE_CONTEXT_H

#include "proto/cluster_key.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

struct wire_context; /* opaque */

struct wire_context_options {
    const struct cluster_key *key; /* NULL: none. Copied */
    bool insecure_network;         /* the user's word that the network may be trusted */
    uint32_t n_io_threads;         /* 0: one, enough for about 1 GB/s */
};

/* The caller owns *context. STATUS_NO_MEMORY: no more threads or file descriptors. */
enum status wire_context_create(struct wire_context **context,
                                const struct wire_context_options *options, struct error *error);

/* Every socket must have been closed. Waits for what may linger. NULL is fine. */
void wire_context_destroy(struct wire_context *context);

#endif
