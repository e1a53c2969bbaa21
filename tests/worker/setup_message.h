/* tests/worker/setup_message.h - a WorkerSetup that this program takes, for ranks with a KV holder
 * of their own.
 *
 * What belongs to a model and to a test (layers, heads, rows, the file) is zero until its user says
 * it. */
#ifndef LONGSPAN_TESTS_WORKER_SETUP_MESSAGE_H
#define LONGSPAN_TESTS_WORKER_SETUP_MESSAGE_H

#include "kernels/attention/kv_holder.h"
#include "model/model_file.h"
#include "proto/longspan.pb-c.h"
#include "proto/protocol.h"

enum { SETUP_MESSAGE_PARTS = 8 };

/* The message with its parts. */
struct setup_message {
    Longspan__WorkerSetup setup;
    Longspan__Constants constants;
    Longspan__Stage stages[SETUP_MESSAGE_PARTS], *stage_list[SETUP_MESSAGE_PARTS];
    Longspan__Shard shards[SETUP_MESSAGE_PARTS], *shard_list[SETUP_MESSAGE_PARTS];
    Longspan__Holder holder, *holder_list[1];
    uint8_t fingerprint[MODEL_FINGERPRINT_BYTES];
};

static inline void setup_message_init(struct setup_message *m, uint32_t n_stages, uint32_t n_shards)
{
    *m = (struct setup_message){0};
    longspan__worker_setup__init(&m->setup);
    longspan__constants__init(&m->constants);
    longspan__holder__init(&m->holder);
    m->constants.protocol = PROTOCOL_VERSION;
    m->constants.tile_tokens = TILE_TOKENS;
    m->constants.page_tokens = PAGE_TOKENS;
    m->constants.version = LONGSPAN_VERSION;
    m->setup.constants = &m->constants;
    m->setup.fingerprint.data = m->fingerprint;
    m->setup.fingerprint.len = sizeof(m->fingerprint);
    for (uint32_t i = 0; i < n_stages; i++) {
        longspan__stage__init(&m->stages[i]);
        m->stage_list[i] = &m->stages[i];
    }
    for (uint32_t i = 0; i < n_shards; i++) {
        longspan__shard__init(&m->shards[i]);
        m->shard_list[i] = &m->shards[i];
    }
    m->holder.name = "local";
    m->holder_list[0] = &m->holder;
    m->setup.n_stages = n_stages;
    m->setup.stages = m->stage_list;
    m->setup.n_shards = n_shards;
    m->setup.shards = m->shard_list;
    m->setup.n_holders = 1;
    m->setup.holders = m->holder_list;
}

#endif
