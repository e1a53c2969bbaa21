/* experts.c - pairs of a row and an expert lie in expert order, and go through in blocks of whole
 * experts: gathered, gate and up, down to where they were gathered; then each row's pairs are added
 * up. A block bounds what lies between the two products; the pairs' results wait for their sum. */
#include "worker/experts.h"

#include "plan/expert_size.h"

#include <stdlib.h>

struct experts {
    struct experts_config config;
    struct routing routing;
    uint32_t block_rows;
    void *memory;
    size_t bytes;                  /* of it */
    float *logits;                 /* [max_rows][n_experts] */
    float *pairs;                  /* [most pairs][hidden] */
    float *gate, *up;              /* [block_rows][ffn] */
    void *host_logits;             /* where device memory is not the host's */
    const struct matrix **weights; /* [3][groups of a block]: gate, up, down */
    uint32_t *ends;                /* [groups of a block] */
};

static enum status take_memory(struct experts *x, struct error *error)
{
    const struct experts_config *c = &x->config;
    const struct kernels *kernels = c->kernels;
    const struct expert_shape shape = {.max_rows = c->routing.max_rows,
                                       .n_experts = c->routing.n_experts,
                                       .n_used = c->routing.n_used,
                                       .n_here = c->routing.end - c->routing.first,
                                       .hidden = c->hidden,
                                       .ffn = c->ffn};
    struct expert_size size;
    if (!expert_size_of(&size, &shape))
        return error_set(error, STATUS_NO_MEMORY,
                         "experts: %u rows, each through %u experts, have no size", shape.max_rows,
                         shape.n_used);
    enum status status = kernels->memory_take(c->device, &x->memory, size.bytes, error);
    if (status != STATUS_OK)
        return status;
    x->bytes = size.bytes;
    x->block_rows = size.block_rows;
    x->logits = x->memory;
    x->pairs = x->logits + size.logits;
    x->gate = x->pairs + size.pairs;
    x->up = x->gate + size.ffn;
    status = kernels->workspace_reserve(c->device, x->block_rows, c->hidden, error);
    if (status == STATUS_OK)
        status = kernels->workspace_reserve(c->device, x->block_rows, c->ffn, error);
    if (status == STATUS_OK && !kernels->host_memory)
        status =
            kernels->host_take(c->device, &x->host_logits, size.logits * sizeof(*x->logits), error);
    return status;
}

enum status experts_create(struct experts **experts, const struct experts_config *config,
                           struct error *error)
{
    struct experts *x = calloc(1, sizeof(*x));
    if (x == NULL)
        return error_set(error, STATUS_NO_MEMORY, "experts: no memory");
    x->config = *config;
    enum status status = routing_open(&x->routing, &config->routing, error);
    if (status == STATUS_OK)
        status = take_memory(x, error);
    if (status == STATUS_OK &&
        ((x->weights = calloc(3 * (size_t)x->block_rows, sizeof(*x->weights))) == NULL ||
         (x->ends = calloc(x->block_rows, sizeof(*x->ends))) == NULL))
        status = error_set(error, STATUS_NO_MEMORY, "experts: no memory");
    if (status != STATUS_OK) {
        experts_destroy(x);
        return status;
    }
    *experts = x;
    return STATUS_OK;
}

void experts_destroy(struct experts *experts)
{
    if (experts == NULL)
        return;
    const struct experts_config *c = &experts->config;
    if (experts->host_logits != NULL)
        c->kernels->host_give(c->device, experts->host_logits);
    c->kernels->memory_give(c->device, experts->memory);
    routing_close(&experts->routing);
    free(experts->weights);
    free(experts->ends);
    free(experts);
}

uint64_t experts_bytes(const struct experts *experts)
{
    return experts != NULL ? experts->bytes : 0;
}

/* ---- a step ---------------------------------------------------------------------------------- */

static enum status route(struct experts *x, const struct matrix *router, const float *normed,
                         uint32_t n_rows, struct error *error)
{
    const struct experts_config *c = &x->config;
    const struct kernels *kernels = c->kernels;
    const uint32_t n_experts = c->routing.n_experts;
    const float *logits = x->logits;
    enum status status = STATUS_OK;
    kernels->prepare(c->device, normed, n_rows, c->hidden, 1u << router->type);
    kernels->matmul(c->device, &(struct product){x->logits, n_experts, router}, 1);
    if (!kernels->host_memory) {
        kernels->download(c->device, x->host_logits, x->logits,
                          (size_t)n_rows * n_experts * sizeof(*logits));
        status = kernels->finish(c->device, error);
        logits = x->host_logits;
    }
    if (status == STATUS_OK)
        routing_make(&x->routing, logits, n_rows);
    return status;
}

/* Where a block begins and what it has so far: pairs [first, first + n_rows), in n_groups
 * groups. */
struct block {
    uint32_t first, n_rows, n_groups;
};

static void run_block(struct experts *x, const struct block *block, const float *normed)
{
    const struct experts_config *c = &x->config;
    const struct kernels *kernels = c->kernels;
    const struct row_groups groups = {block->n_groups, x->ends};
    const struct matrix **weights[3] = {x->weights, x->weights + x->block_rows,
                                        x->weights + 2 * (size_t)x->block_rows};
    float *pairs = x->pairs + (size_t)block->first * c->hidden;
    uint64_t at = trace_begin(c->trace);
    kernels->gather(c->device, pairs, normed, x->routing.row + block->first, block->n_rows,
                    c->hidden);
    at = trace_span(c->trace, "gather", at);
    kernels->multiply_groups(
        c->device, pairs, &groups, c->hidden,
        (const struct group_product[]){{weights[0], x->gate, c->ffn}, {weights[1], x->up, c->ffn}},
        2);
    at = trace_span(c->trace, "gate, up", at);
    c->activate(c->device, x->gate, x->up, (size_t)block->n_rows * c->ffn);
    at = trace_span(c->trace, "gate", at);
    kernels->multiply_groups(c->device, x->gate, &groups, c->ffn,
                             &(struct group_product){weights[2], pairs, c->hidden}, 1);
    trace_span(c->trace, "down", at);
}

/* Into blocks of whole experts; one that has more rows than a block is divided evenly over
 * several. */
static void run_blocks(struct experts *x, const struct shard_layer *layer, const float *normed)
{
    struct block block = {0};
    for (uint32_t g = 0, begin = 0; g < x->routing.n_groups; g++) {
        const uint32_t n = x->routing.end[g] - begin, expert = x->routing.expert[g];
        const uint32_t n_pieces = (n + x->block_rows - 1) / x->block_rows;
        for (uint32_t i = 0; i < n_pieces; i++) {
            const uint32_t n_rows = n / n_pieces + (i < n % n_pieces);
            if (block.n_rows + n_rows > x->block_rows) {
                run_block(x, &block, normed);
                block = (struct block){.first = begin};
            }
            x->weights[block.n_groups] = &layer->gate_experts[expert];
            x->weights[x->block_rows + block.n_groups] = &layer->up_experts[expert];
            x->weights[2 * (size_t)x->block_rows + block.n_groups] = &layer->down_experts[expert];
            x->ends[block.n_groups++] = block.n_rows += n_rows;
            begin += n_rows;
        }
    }
    if (block.n_groups > 0)
        run_block(x, &block, normed);
}

enum status experts_run(struct experts *experts, const struct shard_layer *weights,
                        const float *normed, uint32_t n_rows, float *product, struct error *error)
{
    const struct experts_config *c = &experts->config;
    uint64_t at = trace_begin(c->trace);
    const enum status status = route(experts, &weights->router, normed, n_rows, error);
    trace_span(c->trace, "router", at);
    if (status != STATUS_OK)
        return status;
    run_blocks(experts, weights, normed);
    at = trace_begin(c->trace);
    c->kernels->combine(c->device, product, experts->pairs, &experts->routing.terms, n_rows,
                        c->hidden);
    trace_span(c->trace, "combine", at);
    return STATUS_OK;
}
