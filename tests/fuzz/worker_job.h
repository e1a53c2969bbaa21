/* tests/fuzz/worker_job.h - the job of fuzz_worker.c: one rank with the whole model of rig_model.h
 * and its own KV. seeds.c writes messages for it. */
#ifndef LONGSPAN_TESTS_FUZZ_WORKER_JOB_H
#define LONGSPAN_TESTS_FUZZ_WORKER_JOB_H

#include "tests/worker/setup_message.h"

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

static inline void worker_job_setup(struct setup_message *m)
{
    setup_message_init(m, 1, 1);
    m->constants.kernels = "scalar";
    m->stages[0].n_layers = WORKER_LAYERS;
    m->shards[0].kv_head_end = WORKER_KV_HEADS;
    m->shards[0].ffn_end = WORKER_FFN;
    m->shards[0].vocab_end = WORKER_VOCAB;
    m->setup.job = WORKER_JOB;
    m->setup.model_path = "/model";
    m->setup.kv_type = KV_F32; /* no conversions: they are not what is looked at */
    m->setup.max_rows = m->setup.chunk = WORKER_ROWS;
    m->setup.max_sequences = WORKER_SEQUENCES;
    m->setup.max_tokens = WORKER_TOKENS;
    m->setup.local_kv_bytes = 4 << 20;
    m->setup.timeout_ms = m->setup.retry_ms = 100;
    m->setup.kernels = "scalar";
}

#endif
