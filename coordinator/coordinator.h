/* coordinator/coordinator.h - the one control process: waits for workers and attention nodes,
 * plans, and serves requests until it is told to stop.
 *
 * One thread, one ROUTER socket, one loop: a message is read and handled to its end, then what
 * became possible is sent (reservations, steps, closings), then the loop sleeps until the next
 * message or the next deadline. Everything that is waited for has a deadline, and whoever is late
 * is named. */
#ifndef LONGSPAN_COORDINATOR_COORDINATOR_H
#define LONGSPAN_COORDINATOR_COORDINATOR_H

#include "coordinator/http/http_options.h"
#include "kernels/quant/kv_type.h"
#include "sys/log.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

/* As the command line says it; strings are borrowed. */
struct coordinator_options {
    const char *listen;      /* tcp://host:port or ipc://path */
    const char *model;       /* the GGUF file; workers open the same path */
    const char *cluster_key; /* file; NULL: none */
    bool insecure_network;
    uint32_t workers, nodes;   /* MPI ranks and attention nodes to wait for */
    uint32_t pipeline, tensor; /* pipeline 0: workers / tensor */
    uint32_t ctx; /* tokens of one sequence; 0: what the model was trained for, or what fits */
    uint32_t chunk, max_batch;
    uint32_t step_target_ms; /* a step shall take about so long; 0: it has `chunk` tokens */
    bool prefix_cache;       /* finished sequences are kept for others */
    enum kv_type kv_type;
    uint64_t kv_memory;   /* bytes per rank for the local holder; 0: what memory allows */
    uint32_t stripe;      /* tokens */
    const double *shares; /* [nodes] of the tokens, in proportion; NULL: as measured */
    bool strict_bits;
    const char *kernels;      /* for the workers: "auto" or a variant */
    uint32_t join_timeout_ms; /* until everybody declared has joined */
    uint32_t load_timeout_ms; /* until ranks have loaded their weights */
    uint32_t timeout_ms;      /* one answer of an attention node */
    uint32_t step_timeout_ms; /* until all ranks have reported a step */
    uint32_t lost_ms;         /* a connection that ended and did not come back for this long: ZeroMQ
                               * tries again for up to a second */
    uint32_t silence_ms;      /* a peer that should be idle and does not ping: dead after this */
    uint32_t retry_ms;
    const char *trace; /* file; NULL: none */
    struct http_options http;
};

/* Runs until a signal can be read from `stop_descriptor` (a signalfd, or any descriptor that
 * becomes readable): STATUS_OK then. With an HTTP server the first signal drains it: no new
 * requests, and the end comes when those that run are answered, or with a second signal. Every
 * other end is a failure, told to all peers and in *error: STATUS_INVALID, NOT_FOUND, UNSUPPORTED:
 * options, files, an impossible split; STATUS_EXHAUSTED: the KV cache does not fit;
 * STATUS_UNREACHABLE: somebody did not join in time; STATUS_TIMEOUT, STATUS_FAILED,
 * STATUS_PROTOCOL: somebody was lost or failed while running. */
enum status coordinator_run(const struct coordinator_options *options, int stop_descriptor,
                            const struct log *log, struct error *error);

#endif
