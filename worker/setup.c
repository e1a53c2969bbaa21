/* setup.c - check everything on the message itself, then copy it. */
#include "worker/setup.h"

#include "proto/protocol.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static enum status check_constants(const Longspan__Constants *theirs, struct error *error)
{
    if (theirs == NULL)
        return error_set(error, STATUS_PROTOCOL, "setup: the coordinator names no constants");
    if (theirs->protocol != PROTOCOL_VERSION)
        return error_set(error, STATUS_PROTOCOL,
                         "setup: the coordinator speaks protocol %u (version %s), this worker %d "
                         "(version " LONGSPAN_VERSION "): install the same version on all hosts",
                         theirs->protocol, theirs->version, (int)PROTOCOL_VERSION);
    if (theirs->tile_tokens != TILE_TOKENS || theirs->page_tokens != PAGE_TOKENS)
        return error_set(error, STATUS_PROTOCOL,
                         "setup: the coordinator has tiles of %u tokens and pages of %u, this "
                         "worker %d and %d: install the same build on all hosts",
                         theirs->tile_tokens, theirs->page_tokens, (int)TILE_TOKENS,
                         (int)PAGE_TOKENS);
    return STATUS_OK;
}

/* Whether a shard's [begin, end) begins where the last one's ended, and has something. */
static bool follows(uint32_t begin, uint32_t end, uint32_t last_end)
{
    return begin == last_end && end > last_end;
}

static enum status check_shards(const Longspan__WorkerSetup *message, struct error *error)
{
    struct shard_part last = {0};
    const bool experts = message->shards[0]->expert_end > 0;
    for (size_t i = 0; i < message->n_shards; i++) {
        const Longspan__Shard *shard = message->shards[i];
        const bool ffn = follows(shard->ffn_begin, shard->ffn_end, last.ffn_end);
        const bool no_ffn = shard->ffn_begin == 0 && shard->ffn_end == 0;
        const bool no_experts = shard->expert_begin == 0 && shard->expert_end == 0;
        if (!follows(shard->kv_head_begin, shard->kv_head_end, last.kv_head_end) ||
            !follows(shard->vocab_begin, shard->vocab_end, last.vocab_end) ||
            !(experts ? no_ffn && follows(shard->expert_begin, shard->expert_end, last.expert_end)
                      : ffn && no_experts))
            return error_set(error, STATUS_PROTOCOL,
                             "setup: shard %zu holds KV heads [%u, %u), FFN columns [%u, %u), "
                             "experts [%u, %u) and vocabulary [%u, %u): empty, or it does not "
                             "follow the shard before",
                             i, shard->kv_head_begin, shard->kv_head_end, shard->ffn_begin,
                             shard->ffn_end, shard->expert_begin, shard->expert_end,
                             shard->vocab_begin, shard->vocab_end);
        last.kv_head_end = shard->kv_head_end;
        last.ffn_end = shard->ffn_end;
        last.vocab_end = shard->vocab_end;
        last.expert_end = shard->expert_end;
    }
    return STATUS_OK;
}

static enum status check_split(const Longspan__WorkerSetup *message, uint32_t n_ranks,
                               struct error *error)
{
    if (message->n_stages == 0 || message->n_shards == 0 || message->n_stages > n_ranks ||
        message->n_shards > n_ranks || message->n_stages * message->n_shards != n_ranks)
        return error_set(error, STATUS_PROTOCOL,
                         "setup: %zu stages of %zu shards do not make %u ranks", message->n_stages,
                         message->n_shards, n_ranks);
    uint32_t layer = 0;
    for (size_t i = 0; i < message->n_stages; i++) {
        const Longspan__Stage *stage = message->stages[i];
        if (stage->first_layer != layer || stage->n_layers == 0 ||
            stage->n_layers > UINT32_MAX - layer)
            return error_set(error, STATUS_PROTOCOL,
                             "setup: stage %zu has %u layers from layer %u on, expected some "
                             "from layer %u on",
                             i, stage->n_layers, stage->first_layer, layer);
        layer += stage->n_layers;
    }
    if (message->n_host_lanes != 0 && message->n_host_lanes != n_ranks)
        return error_set(error, STATUS_PROTOCOL, "setup: lanes beside %zu ranks, of %u",
                         message->n_host_lanes, n_ranks);
    return check_shards(message, error);
}

static enum status check_limit(const char *name, uint32_t value, uint32_t most, struct error *error)
{
    if (value == 0 || value > most)
        return error_set(error, STATUS_PROTOCOL, "setup: %s is %u, expected 1 to %u", name, value,
                         most);
    return STATUS_OK;
}

static enum status check(const Longspan__WorkerSetup *message, uint32_t n_ranks,
                         struct error *error)
{
    enum status status = check_constants(message->constants, error);
    if (status == STATUS_OK)
        status = check_split(message, n_ranks, error);
    if (status == STATUS_OK)
        status = check_limit("max_rows", message->max_rows, SETUP_MAX_ROWS, error);
    if (status == STATUS_OK)
        status = check_limit("chunk", message->chunk, message->max_rows, error);
    if (status == STATUS_OK)
        status = check_limit("max_sequences", message->max_sequences, SETUP_MAX_SEQUENCES, error);
    if (status == STATUS_OK)
        status = check_limit("max_tokens", message->max_tokens, SETUP_MAX_TOKENS, error);
    if (status == STATUS_OK)
        status = check_limit("timeout_ms", message->timeout_ms, 3600 * 1000, error);
    if (status == STATUS_OK)
        status = check_limit("retry_ms", message->retry_ms, 3600 * 1000, error);
    if (status != STATUS_OK)
        return status;
    if (message->kv_type > INT32_MAX || kv_type_name((enum kv_type)message->kv_type) == NULL)
        return error_set(error, STATUS_UNSUPPORTED, "setup: KV type %u is not known here",
                         message->kv_type);
    if (message->fingerprint.len != SETUP_FINGERPRINT_BYTES)
        return error_set(error, STATUS_PROTOCOL, "setup: the fingerprint has %zu bytes, not %d",
                         message->fingerprint.len, (int)SETUP_FINGERPRINT_BYTES);
    if (message->n_holders == 0 || message->n_holders > SETUP_MAX_HOLDERS)
        return error_set(error, STATUS_PROTOCOL, "setup: %zu KV holders, expected 1 to %d",
                         message->n_holders, (int)SETUP_MAX_HOLDERS);
    return STATUS_OK;
}

static char *copy(const char *text, bool *complete)
{
    char *copied = strdup(text != NULL ? text : "");
    *complete &= copied != NULL;
    return copied;
}

static bool fill(struct setup *s, const Longspan__WorkerSetup *message)
{
    bool complete = true;
    s->job = message->job;
    s->model_path = copy(message->model_path, &complete);
    s->kernels = copy(message->kernels, &complete);
    memcpy(s->fingerprint, message->fingerprint.data, SETUP_FINGERPRINT_BYTES);
    s->kv_type = (enum kv_type)message->kv_type;
    s->max_rows = message->max_rows;
    s->chunk = message->chunk;
    s->max_sequences = message->max_sequences;
    s->max_tokens = message->max_tokens;
    s->local_kv_bytes = message->local_kv_bytes;
    s->timeout_ms = message->timeout_ms;
    s->retry_ms = message->retry_ms;

    if (message->n_host_lanes > 0) {
        s->host_lanes = calloc(message->n_host_lanes, sizeof(*s->host_lanes));
        if (s->host_lanes == NULL)
            return false;
        memcpy(s->host_lanes, message->host_lanes, message->n_host_lanes * sizeof(*s->host_lanes));
    }
    s->stages = calloc(message->n_stages, sizeof(*s->stages));
    s->shards = calloc(message->n_shards, sizeof(*s->shards));
    s->holders = calloc(message->n_holders, sizeof(*s->holders));
    if (s->stages == NULL || s->shards == NULL || s->holders == NULL)
        return false;
    for (; s->n_stages < message->n_stages; s->n_stages++) {
        const Longspan__Stage *stage = message->stages[s->n_stages];
        s->stages[s->n_stages] =
            (struct setup_stage){stage->first_layer, stage->first_layer + stage->n_layers};
    }
    for (; s->tensor < message->n_shards; s->tensor++) {
        const Longspan__Shard *shard = message->shards[s->tensor];
        s->shards[s->tensor] = (struct shard_part){
            shard->kv_head_begin, shard->kv_head_end, shard->ffn_begin,    shard->ffn_end,
            shard->vocab_begin,   shard->vocab_end,   shard->expert_begin, shard->expert_end,
        };
    }
    for (; s->n_holders < message->n_holders; s->n_holders++) {
        const Longspan__Holder *holder = message->holders[s->n_holders];
        s->holders[s->n_holders] = (struct attention_holder){
            .name = copy(holder->name, &complete),
            .endpoint = copy(holder->endpoint, &complete),
            .node = holder->node,
        };
    }
    return complete;
}

enum status setup_create(struct setup **setup, const Longspan__WorkerSetup *message,
                         uint32_t n_ranks, struct error *error)
{
    const enum status status = check(message, n_ranks, error);
    if (status != STATUS_OK)
        return status;
    struct setup *s = calloc(1, sizeof(*s));
    if (s == NULL || !fill(s, message)) {
        setup_destroy(s);
        return error_set(error, STATUS_NO_MEMORY, "setup: no memory");
    }
    *setup = s;
    return STATUS_OK;
}

void setup_destroy(struct setup *setup)
{
    if (setup == NULL)
        return;
    for (uint32_t i = 0; i < setup->n_holders; i++) {
        free((char *)setup->holders[i].name);
        free((char *)setup->holders[i].endpoint);
    }
    free(setup->holders);
    free(setup->host_lanes);
    free(setup->stages);
    free(setup->shards);
    free(setup->model_path);
    free(setup->kernels);
    free(setup);
}
