/* planner.c - see planner.h. */
#include "plan/planner.h"

#include "model/weights.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t block_elements(const struct model_tensor *tensor)
{
    const struct gguf_type_traits *traits = tensor != NULL ? gguf_type_traits(tensor->type) : NULL;
    return traits != NULL && traits->block_elements > 0 ? traits->block_elements : 1;
}

static uint64_t tensor_bytes(const struct model_file *file, uint32_t layer, enum weights_id id)
{
    const struct model_tensor *tensor = weights_find(file, layer, id);
    return tensor != NULL ? tensor->n_bytes : 0;
}

static void keep_larger(uint64_t *a, uint64_t b)
{
    *a = *a > b ? *a : b;
}

static bool runs_over(enum weights_id id, enum weights_extent a, enum weights_extent b)
{
    bool found = false;
    for (uint32_t dim = 0; dim < WEIGHTS_DIMS; dim++)
        found |= weights_extent(id, dim) == a || weights_extent(id, dim) == b;
    return found;
}

/* The bytes of one layer, by how they are cut. */
static void add_layer(struct planner_model *model, const struct hparams *hparams,
                      const struct model_file *file, uint32_t layer)
{
    uint64_t heads = 0, ffn = 0, whole = 0;
    for (int i = WEIGHTS_FIRST_OF_LAYER; i < WEIGHTS_COUNT; i++) {
        const enum weights_id id = (enum weights_id)i;
        const uint64_t bytes = weights_has(hparams, id) ? tensor_bytes(file, layer, id) : 0;
        if (runs_over(id, WEIGHTS_HEADS, WEIGHTS_KV_HEADS))
            heads += bytes;
        else if (runs_over(id, WEIGHTS_FFN, WEIGHTS_EXPERTS))
            ffn += bytes;
        else
            whole += bytes;
    }
    keep_larger(&model->heads_bytes, heads);
    keep_larger(&model->ffn_bytes, ffn);
    keep_larger(&model->whole_bytes, whole);
}

void planner_model_read(struct planner_model *model, const struct hparams *hparams,
                        const struct model_file *file)
{
    *model = (struct planner_model){.n_layers = hparams->n_layers,
                                    .n_heads = hparams->n_heads,
                                    .n_kv_heads = hparams->n_kv_heads,
                                    .head_dim = hparams->head_dim,
                                    .ffn = hparams->ffn,
                                    .n_experts = hparams->n_experts,
                                    .n_experts_used = hparams->n_experts_used,
                                    .vocab = hparams->vocab,
                                    .ffn_block = 1,
                                    .attn_block = 1};
    weights_segments(&model->segments, file, hparams);
    for (uint32_t layer = 0; layer < hparams->n_layers; layer++) {
        const uint32_t down = block_elements(weights_find(file, layer, WEIGHTS_FFN_DOWN));
        const uint32_t output = block_elements(weights_find(file, layer, WEIGHTS_ATTN_OUTPUT));
        model->ffn_block = down > model->ffn_block ? down : model->ffn_block;
        model->attn_block = output > model->attn_block ? output : model->attn_block;
        add_layer(model, hparams, file, layer);
    }
    model->output_bytes = tensor_bytes(file, 0, WEIGHTS_OUTPUT);
}

static uint32_t greatest_common_divisor(uint32_t a, uint32_t b)
{
    while (b != 0) {
        const uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* KV heads that must stay together so that their query columns end with a block of attn_output. */
static uint32_t head_unit(const struct planner_model *m)
{
    const uint32_t columns = m->n_heads / m->n_kv_heads * m->head_dim; /* of one KV head's group */
    return m->attn_block / greatest_common_divisor(columns, m->attn_block);
}

/* Both are tried, the coarser first: 32 columns are whole cache lines and vector registers. */
static uint32_t ffn_unit(const struct planner_model *m, uint32_t tensor)
{
    const uint32_t nice = m->ffn_block < 32 && 32 % m->ffn_block == 0 ? 32 : m->ffn_block;
    return m->ffn / nice >= tensor ? nice : m->ffn_block;
}

/* Units [0, n) dealt to `parts`, as evenly as possible, odd ones first: where part i begins. */
static uint32_t part_begin(uint32_t n, uint32_t parts, uint32_t i)
{
    const uint32_t odd = n % parts;
    return n / parts * i + (i < odd ? i : odd);
}

/* The begin of part i among n elements that may be cut at multiples of `unit` only. */
static uint32_t cut(uint32_t n, uint32_t unit, uint32_t parts, uint32_t i)
{
    const uint32_t units = n / unit + (n % unit != 0);
    const uint64_t begin = (uint64_t)part_begin(units, parts, i) * unit;
    return begin < n ? (uint32_t)begin : n;
}

/* The first expert e of n with e * parts / n = i, rounded down. */
static uint32_t first_expert(uint32_t n, uint32_t parts, uint32_t i)
{
    return (uint32_t)(((uint64_t)i * n + parts - 1) / parts);
}

/* "1, 2, 4" or "1 to 32". */
static void list_possible(char *text, size_t size, uint32_t most)
{
    if (most <= 4) {
        size_t length = 0;
        text[0] = '\0';
        for (uint32_t i = 1; i <= most && length < size; i++)
            length += (size_t)snprintf(text + length, size - length, "%s%u", i > 1 ? ", " : "", i);
    } else {
        snprintf(text, size, "1 to %u", most);
    }
}

static enum status check_split(const struct planner_model *m, uint32_t workers, uint32_t pipeline,
                               uint32_t tensor, struct error *error)
{
    char possible[64];
    const uint32_t unit = head_unit(m);
    const uint32_t head_units = m->n_kv_heads / unit + (m->n_kv_heads % unit != 0);
    const uint32_t ffn_units =
        m->n_experts > 0 ? m->n_experts : m->ffn / m->ffn_block + (m->ffn % m->ffn_block != 0);
    uint32_t most = head_units < ffn_units ? head_units : ffn_units;
    most = most < m->vocab ? most : m->vocab;
    if (tensor == 0 || tensor > most) {
        list_possible(possible, sizeof(possible), most);
        if (unit == 1 && most == head_units)
            return error_set(error, STATUS_INVALID,
                             "tensor %u: the model has %u KV heads; possible: %s", tensor,
                             m->n_kv_heads, possible);
        if (m->n_experts > 0)
            return error_set(error, STATUS_INVALID,
                             "tensor %u: the model has %u KV heads (cut at multiples of %u), %u "
                             "experts and %u tokens; possible: %s",
                             tensor, m->n_kv_heads, unit, m->n_experts, m->vocab, possible);
        return error_set(error, STATUS_INVALID,
                         "tensor %u: the model has %u KV heads (cut at multiples of %u), %u FFN "
                         "columns (at multiples of %u) and %u tokens; possible: %s",
                         tensor, m->n_kv_heads, unit, m->ffn, m->ffn_block, m->vocab, possible);
    }
    if (pipeline == 0 || pipeline > m->n_layers) {
        list_possible(possible, sizeof(possible), m->n_layers);
        return error_set(error, STATUS_INVALID,
                         "pipeline %u: the model has %u layers; possible: %s", pipeline,
                         m->n_layers, possible);
    }
    if ((uint64_t)pipeline * tensor != workers) {
        char splits[256] = "";
        size_t length = 0;
        for (uint32_t t = 1; t <= workers && t <= most && length < sizeof(splits); t++)
            if (workers % t == 0 && workers / t <= m->n_layers)
                length += (size_t)snprintf(splits + length, sizeof(splits) - length, "%s%ux%u",
                                           length > 0 ? ", " : "", workers / t, t);
        return error_set(
            error, STATUS_INVALID,
            "pipeline %u x tensor %u are %llu ranks, not %u workers; possible for %u: %s", pipeline,
            tensor, (unsigned long long)pipeline * tensor, workers, workers,
            splits[0] != '\0' ? splits : "none, take fewer workers");
    }
    return STATUS_OK;
}

/* bytes * part / whole without overflow for files below 2^53 bytes; an estimate anyway. */
static uint64_t fraction(uint64_t bytes, uint32_t part, uint32_t whole)
{
    return whole > 0 ? (uint64_t)((double)bytes * part / whole) : 0;
}

/* What a step of one row reads of a layer: of experts, those that it uses. */
static uint64_t layer_read_bytes(const struct planner_model *m)
{
    const uint64_t ffn =
        m->n_experts > 0 ? fraction(m->ffn_bytes, m->n_experts_used, m->n_experts) : m->ffn_bytes;
    return m->heads_bytes + ffn + m->whole_bytes;
}

/* What the slowest stage reads per step when the last of `pipeline` has n_last layers, in bytes. */
static uint64_t slowest_stage(const struct planner_model *m, uint32_t pipeline, uint32_t n_last)
{
    const uint64_t layer = layer_read_bytes(m);
    const uint32_t n = m->n_layers - n_last, others = pipeline - 1;
    const uint64_t last = n_last * layer + m->output_bytes;
    const uint64_t largest = (n / others + (n % others != 0)) * layer;
    return largest > last ? largest : last;
}

/* Layers leave the last stage, one by one, while that makes the slowest stage faster by half a
 * layer: less is not worth it, as every layer also reads its part of the KV cache. */
static uint32_t last_stage_layers(const struct planner_model *m, uint32_t pipeline)
{
    uint32_t n = m->n_layers / pipeline;
    const uint64_t layer = layer_read_bytes(m);
    while (pipeline > 1 && n > 1 &&
           slowest_stage(m, pipeline, n - 1) + layer / 2 < slowest_stage(m, pipeline, n))
        n--;
    return n;
}

static void deal_layers(const struct planner_model *m, struct planner_stage *stages,
                        uint32_t pipeline)
{
    const uint32_t n_last = last_stage_layers(m, pipeline), n = m->n_layers - n_last;
    for (uint32_t i = 0; i + 1 < pipeline; i++) {
        stages[i].first_layer = part_begin(n, pipeline - 1, i);
        stages[i].n_layers = part_begin(n, pipeline - 1, i + 1) - stages[i].first_layer;
    }
    stages[pipeline - 1] = (struct planner_stage){.first_layer = n, .n_layers = n_last};
}

enum status planner_plan(struct planner_plan *plan, const struct planner_model *m, uint32_t workers,
                         uint32_t pipeline, uint32_t tensor, struct error *error)
{
    if (workers == 0)
        return error_set(error, STATUS_INVALID, "workers 0: at least one is needed");
    if (pipeline == 0)
        pipeline = tensor > 0 && workers >= tensor ? workers / tensor : 1;
    const enum status status = check_split(m, workers, pipeline, tensor, error);
    if (status != STATUS_OK)
        return status;

    struct planner_plan p = {.pipeline = pipeline,
                             .tensor = tensor,
                             .stages = calloc(pipeline, sizeof(*p.stages)),
                             .shards = calloc(tensor, sizeof(*p.shards))};
    if (p.stages == NULL || p.shards == NULL) {
        planner_plan_free(&p);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a plan of %u ranks", workers);
    }
    deal_layers(m, p.stages, pipeline);
    const uint32_t heads = head_unit(m), columns = ffn_unit(m, tensor);
    const struct weights_segments *segments = &m->segments;
    for (uint32_t i = 0; i < tensor; i++)
        p.shards[i] = (struct shard_part){
            .kv_head_begin = cut(m->n_kv_heads, heads, tensor, i),
            .kv_head_end = cut(m->n_kv_heads, heads, tensor, i + 1),
            .ffn_begin = cut(m->ffn, columns, tensor, i),
            .ffn_end = cut(m->ffn, columns, tensor, i + 1),
            .vocab_begin = cut(m->vocab, 1, tensor, i),
            .vocab_end = cut(m->vocab, 1, tensor, i + 1),
            .expert_begin = first_expert(m->n_experts, tensor, i),
            .expert_end = first_expert(m->n_experts, tensor, i + 1),
        };
    for (uint32_t i = 0; i < tensor && segments->n > 1 && segments->n % tensor == 0; i++) {
        const uint32_t first = segments->n / tensor * i, end = segments->n / tensor * (i + 1);
        p.shards[i].kv_head_begin = segments->kv_head[first];
        p.shards[i].kv_head_end = segments->kv_head[end];
        p.shards[i].ffn_begin = segments->ffn[first];
        p.shards[i].ffn_end = segments->ffn[end];
    }
    *plan = p;
    return STATUS_OK;
}

void planner_plan_free(struct planner_plan *plan)
{
    free(plan->stages);
    free(plan->shards);
    *plan = (struct planner_plan){0};
}

uint64_t planner_rank_kv_bytes(const struct planner_plan *plan, const struct planner_model *m,
                               uint32_t rank, enum kv_type type)
{
    const struct shard_part *shard = &plan->shards[rank % plan->tensor];
    return 2ull * plan->stages[rank / plan->tensor].n_layers *
           (shard->kv_head_end - shard->kv_head_begin) * kv_row_bytes(type, m->head_dim);
}

uint64_t planner_kv_bytes(const struct planner_model *m, enum kv_type type)
{
    return 2ull * m->n_layers * m->n_kv_heads * kv_row_bytes(type, m->head_dim);
}
