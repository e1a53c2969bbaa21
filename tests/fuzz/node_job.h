/* tests/fuzz/node_job.h - the job of fuzz_node.c, and its first messages; seeds.c writes messages
 * for it. */
#ifndef LONGSPAN_TESTS_FUZZ_NODE_JOB_H
#define LONGSPAN_TESTS_FUZZ_NODE_JOB_H

#include "kernels/attention/kv_holder.h"
#include "proto/longspan.pb-c.h"
#include "proto/protocol.h"

enum {
    NODE_JOB = 7,
    NODE_JOB_NODE = 9,
    NODE_JOB_LAYERS = 2,
    NODE_JOB_HEADS = 1,
    NODE_JOB_HEAD_DIM = 32,
    NODE_JOB_MOST_TOKENS = 1 << 20
};

static inline Longspan__NodeSetup node_job_setup(void)
{
    Longspan__NodeSetup setup = LONGSPAN__NODE_SETUP__INIT;
    setup.job = NODE_JOB;
    setup.kv_type = KV_F16;
    setup.head_dim = NODE_JOB_HEAD_DIM;
    setup.group = 2;
    setup.n_layers = NODE_JOB_LAYERS;
    setup.n_kv_heads = NODE_JOB_HEADS;
    setup.scale = 0.25f;
    setup.max_tokens = NODE_JOB_MOST_TOKENS;
    return setup;
}

/* Packs a Hello to `bytes` (256 of them); returns its length. */
static inline size_t node_job_hello(uint8_t *bytes)
{
    Longspan__Data data = LONGSPAN__DATA__INIT;
    Longspan__Hello hello = LONGSPAN__HELLO__INIT;
    Longspan__Constants constants = LONGSPAN__CONSTANTS__INIT;
    constants.protocol = PROTOCOL_VERSION;
    constants.tile_tokens = TILE_TOKENS;
    constants.page_tokens = PAGE_TOKENS;
    hello.constants = &constants;
    hello.node = NODE_JOB_NODE;
    data.job = NODE_JOB;
    data.body_case = LONGSPAN__DATA__BODY_HELLO;
    data.hello = &hello;
    return longspan__data__pack(&data, bytes);
}

#endif
