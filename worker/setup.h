/* worker/setup.h - the job as the coordinator planned it, checked, as plain values.
 *
 * Every rank reads the same bytes and comes to the same answer. Whether the plan fits the model is
 * checked when the shard is cut (load.h). */
#ifndef LONGSPAN_WORKER_SETUP_H
#define LONGSPAN_WORKER_SETUP_H

#include "kernels/quant/kv_type.h"
#include "plan/shard_part.h"
#include "proto/longspan.pb-c.h"
#include "sys/status.h"
#include "worker/attention.h"

#include <stdint.h>

enum {
    SETUP_FINGERPRINT_BYTES = 32,
    SETUP_MAX_ROWS = 1 << 16,
    SETUP_MAX_SEQUENCES = 1 << 16,
    SETUP_MAX_TOKENS = 1 << 30,
    SETUP_MAX_HOLDERS = 1 << 12,
};

/* Layers [begin, end). */
struct setup_stage {
    uint32_t begin, end;
};

struct setup {
    uint64_t job;
    char *model_path;
    uint8_t fingerprint[SETUP_FINGERPRINT_BYTES];
    uint32_t n_stages, tensor;  /* ranks = n_stages * tensor; rank = stage * tensor + shard */
    struct setup_stage *stages; /* [n_stages] */
    struct shard_part *shards;  /* [tensor] */
    enum kv_type kv_type;
    uint32_t n_holders;
    struct attention_holder *holders; /* strings owned by the setup */
    uint32_t max_rows, max_sequences, max_tokens;
    uint32_t chunk; /* tokens of one sequence in a step, at most */
    uint64_t local_kv_bytes;
    uint32_t timeout_ms, retry_ms;
    uint32_t
        *host_lanes; /* [ranks]: of the job, that may use the same processors; NULL: not said */
    char *kernels;   /* "auto" or a variant's name */
};

/* The caller ends *setup with setup_destroy. STATUS_PROTOCOL: another protocol version or other
 * constants, stages or shards that do not follow each other from 0 on, not as many as ranks, a
 * limit that is 0 or absurd. STATUS_UNSUPPORTED: the KV type. STATUS_NO_MEMORY. */
enum status setup_create(struct setup **setup, const Longspan__WorkerSetup *message,
                         uint32_t n_ranks, struct error *error);
void setup_destroy(struct setup *setup);

#endif
