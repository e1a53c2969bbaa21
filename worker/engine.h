/* worker/engine.h - what computes a rank's steps, put together of its setup and its shard: step,
 * attention, the layers, results.
 *
 * It knows neither the coordinator nor how the rank came by its parts: rank.c has one, and tests
 * have one without a coordinator. It belongs to the rank's main thread. */
#ifndef LONGSPAN_WORKER_ENGINE_H
#define LONGSPAN_WORKER_ENGINE_H

#include "worker/attention.h"
#include "worker/forward.h"
#include "worker/load.h"
#include "worker/results.h"
#include "worker/setup.h"
#include "worker/step.h"

struct engine {
    struct step *step;
    struct attention *attention;
    struct results *results;
    struct forward *forward;
};

/* All is borrowed, and has to live as long as the engine. */
struct engine_config {
    const struct setup *setup;
    const struct shard *shard;
    uint32_t rank;
    struct group *group;
    struct wire_context *wire; /* NULL: every holder is this rank */
    bool zeromq_only;          /* no rings to nodes of this host (proto/wire_ring.h) */
    struct thread_pool *pool;
    const struct seat *seat; /* of the pool's lanes; NULL: not pinned, nobody else is here */
    const struct kernels *kernels;
    struct device *device;
    uint64_t local_kv_bytes; /* for a local holder */
    enum forward_records records;
    /* Called again and again while waiting for holders; NULL: nothing to do. */
    void (*progress)(void *context);
    void *progress_context;
    struct trace_track *trace; /* of this thread, or NULL */
};

/* The caller ends *engine with engine_close, also after a failure. */
enum status engine_open(struct engine *engine, const struct engine_config *config,
                        struct error *error);

/* Device memory for what is computed with, beside weights and KV: plan/working_size.h says what is
 * counted. */
uint64_t engine_working_bytes(const struct engine *engine);

/* Zeroed memory is fine. */
void engine_close(struct engine *engine);

#endif
