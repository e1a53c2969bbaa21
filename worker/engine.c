/* engine.c - see engine.h. */
#include "worker/engine.h"

#include "proto/protocol.h"

#include <stdlib.h>

static enum status open_attention(struct engine *engine, const struct engine_config *config,
                                  struct error *error)
{
    const struct setup *setup = config->setup;
    const struct shard *shard = config->shard;
    uint32_t *windows = calloc(shard->n_layers, sizeof(*windows));
    if (windows == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u layers", shard->n_layers);
    for (uint32_t i = 0; i < shard->n_layers; i++)
        windows[i] = hparams_window(&shard->hparams, shard->first_layer + i);
    const struct attention_config attention = {
        .job = setup->job,
        .rank = config->rank,
        .first_layer = shard->first_layer,
        .n_layers = shard->n_layers,
        .last = shard->last,
        .first_kv_head = shard->part.kv_head_begin,
        .n_kv_heads = shard->part.kv_head_end - shard->part.kv_head_begin,
        .shape = shard_attend_shape(shard, setup->kv_type),
        .windows = windows,
        .chunk = setup->chunk,
        .max_rows = setup->max_rows,
        .max_sequences = setup->max_sequences,
        .max_tokens = setup->max_tokens,
        .holders = setup->holders,
        .n_holders = setup->n_holders,
        .local_kv_bytes = config->local_kv_bytes,
        .timeout_ms = setup->timeout_ms,
        .retry_ms = setup->retry_ms,
        .kernels = config->kernels,
        .device = config->device,
        .constants_version = LONGSPAN_VERSION,
        .zeromq_only = config->zeromq_only,
        .progress = config->progress,
        .progress_context = config->progress_context,
        .trace = config->trace,
        .seat = config->seat,
    };
    const enum status status =
        attention_open(&engine->attention, config->pool, config->wire, &attention, error);
    free(windows);
    return status;
}

static enum status open_steps(struct engine *engine, const struct engine_config *config,
                              struct error *error)
{
    const struct setup *setup = config->setup;
    const struct step_limits limits = {
        .job = setup->job,
        .n_holders = setup->n_holders,
        .max_rows = setup->max_rows,
        .max_sequences = setup->max_sequences,
        .max_tokens = setup->max_tokens,
        .vocab = config->shard->hparams.vocab,
    };
    const struct candidate_source source = {.pool = config->pool,
                                            .kernels = config->kernels,
                                            .device = config->device,
                                            .group = config->group,
                                            .shards = setup->shards};
    enum status status = step_create(&engine->step, &limits, error);
    if (status == STATUS_OK)
        status = results_create(&engine->results, &source, error);
    const struct forward_config forward = {
        .pool = config->pool,
        .shard = config->shard,
        .attention = engine->attention,
        .group = config->group,
        .results = engine->results,
        .max_rows = setup->max_rows,
        .records = config->records,
        .trace = config->trace,
    };
    if (status == STATUS_OK)
        status = forward_create(&engine->forward, &forward, error);
    return status;
}

enum status engine_open(struct engine *engine, const struct engine_config *config,
                        struct error *error)
{
    *engine = (struct engine){0};
    const enum status status = open_attention(engine, config, error);
    return status == STATUS_OK ? open_steps(engine, config, error) : status;
}

uint64_t engine_working_bytes(const struct engine *engine)
{
    return (engine->forward != NULL ? forward_working_bytes(engine->forward) : 0) +
           (engine->attention != NULL ? attention_tile_bytes(engine->attention) : 0);
}

void engine_close(struct engine *engine)
{
    forward_destroy(engine->forward);
    results_destroy(engine->results);
    step_destroy(engine->step);
    attention_close(engine->attention);
    *engine = (struct engine){0};
}
