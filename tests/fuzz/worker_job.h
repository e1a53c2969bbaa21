/* tests/fuzz/worker_job.h - the job of fuzz_worker.c: one rank with the whole model of rig_model.h and its own KV. seeds.c
 * writes messages for it. */
#ifndef LONGSPAN_TESTS_FUZZ_WORKER_JOB_H
#define LONGSPAN_TESTS_FUZZ_WORKER_JOB_H

#include "kernels/attention/kv_holder.h"
#include "model/model_file.h"
#include "proto/longspan.pb-c.h"
#include "proto/protocol.h"

enum {
    WORKER_JOB = 7,
    WORKER_LAYERS = 4,
    WORKER_KV_HEADS = 2,
    WORKER_FFN = 64,
    WORKER_VOCAB = 259,
    WORKER_ROWS = 300, /* a fill of a page, which can be forked, and some */
    WORKER_SEQUENCES = 4,
    WORKER_TOKENS = 1024
};

/* A message and its parts. */
struct worker_job_setup {
    Longspan__WorkerSetup setup;
    Longspan__Constants constants;
    Longspan__Stage stage, *stages[1];
    Longspan__Shard shard, *shards[1];
    Longspan__Holder holder, *holders[1];
    uint8_t fingerprint[MODEL_FINGERPRINT_BYTES];
};

static inline void worker_job_setup(struct worker_job_setup *m)
{
    longspan__worker_setup__init(&m->setup);
    longspan__constants__init(&m->constants);
    longspan__stage__init(&m->stage);
    longspan__shard__init(&m->shard);
    longspan__holder__init(&m->holder);
    m->constants.protocol = PROTOCOL_VERSION;
    m->constants.tile_tokens = TILE_TOKENS;
    m->constants.page_tokens = PAGE_TOKENS;
    m->constants.kernels = "scalar";
    m->constants.version = LONGSPAN_VERSION;
    m->stage.n_layers = WORKER_LAYERS;
    m->shard.kv_head_end = WORKER_KV_HEADS;
    m->shard.ffn_end = WORKER_FFN;
    m->shard.vocab_end = WORKER_VOCAB;
    m->holder.name = "local";
    m->stages[0] = &m->stage;
    m->shards[0] = &m->shard;
    m->holders[0] = &m->holder;
    m->setup.job = WORKER_JOB;
    m->setup.constants = &m->constants;
    m->setup.model_path = "/model";
    m->setup.fingerprint.len = sizeof(m->fingerprint);
    m->setup.fingerprint.data = m->fingerprint;
    m->setup.n_stages = m->setup.n_shards = m->setup.n_holders = 1;
    m->setup.stages = m->stages;
    m->setup.shards = m->shards;
    m->setup.holders = m->holders;
    m->setup.kv_type = KV_F32; /* no conversions: they are not what is looked at */
    m->setup.max_rows = m->setup.chunk = WORKER_ROWS;
    m->setup.max_sequences = WORKER_SEQUENCES;
    m->setup.max_tokens = WORKER_TOKENS;
    m->setup.local_kv_bytes = 4 << 20;
    m->setup.timeout_ms = m->setup.retry_ms = 100;
    m->setup.kernels = "scalar";
}

#endif
