/* plan_memory.c - see plan_memory.h. */
#include "cluster/plan_memory.h"

#include "kernels/attention/attend.h"
#include "kernels/attention/kv_holder.h"
#include "plan/working_size.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Sizes may be as large as a cluster file or an agent says: what is too large for a number fits
 * nowhere. */
static uint64_t sum_of(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

uint64_t plan_memory_working(const struct plan_memory *m, uint32_t rank)
{
    const struct planner_plan *plan = &m->capacity->plan;
    const struct capacity_options *options = &m->capacity->options;
    const uint32_t stage = rank / plan->tensor;
    const struct working_limits limits = {.max_rows = options->chunk + m->max_batch,
                                          .max_sequences = m->max_batch,
                                          .kv_type = options->kv_type};
    return working_size_of(m->hparams, &plan->shards[rank % plan->tensor],
                           plan->stages[stage].n_layers, stage + 1 == plan->pipeline, &limits);
}

uint64_t plan_memory_local_kv(const struct plan_memory *m, uint32_t rank)
{
    const struct capacity *c = m->capacity;
    const uint64_t memory = c->ranks[rank].memory_bytes, weights = c->ranks[rank].cost.weight_bytes;
    const uint64_t page_bytes = PAGE_TILES * tile_bytes(c->options.kv_type, m->hparams->head_dim);
    uint64_t bytes = c->options.kv_memory;
    if (c->options.nodes > 0)
        return 0;
    if (bytes == 0)
        bytes = kv_holder_share(memory > weights ? memory - weights : 0);
    return bytes / page_bytes * page_bytes;
}

/* A holder that takes what is left leaves what its rank computes in. */
static uint64_t rank_needs(const struct plan_memory *m, uint32_t rank)
{
    const struct capacity_rank *r = &m->capacity->ranks[rank];
    const uint64_t own = sum_of(r->cost.weight_bytes, plan_memory_working(m, rank));
    const uint64_t left = r->memory_bytes > own ? r->memory_bytes - own : 0;
    const uint64_t kv = plan_memory_local_kv(m, rank);
    return sum_of(own, m->capacity->options.kv_memory == 0 && kv > left ? left : kv);
}

uint64_t plan_memory_needed(const struct plan_memory *m, uint32_t device)
{
    const struct plan_facts *facts = m->facts;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < facts->n_ranks; i++)
        if (facts->ranks[i].device == device)
            sum = sum_of(sum, rank_needs(m, i));
    for (uint32_t i = 0; i < facts->n_nodes; i++)
        if (facts->nodes[i].device == device)
            sum = sum_of(sum, m->capacity->nodes[i].kv_bytes);
    return sum;
}

/* As many devices of that name as are said, or as its processes have taken one each. */
uint64_t plan_memory_of_device(const struct plan_memory *m, uint32_t index)
{
    const struct plan_facts *facts = m->facts;
    const struct plan_device *device = &facts->devices[index];
    uint32_t n = 0;
    for (uint32_t i = 0; i < facts->n_ranks; i++)
        n += facts->ranks[i].device == index;
    for (uint32_t i = 0; i < facts->n_nodes; i++)
        n += facts->nodes[i].device == index;
    if (!plan_facts_is_several(device))
        n = 1;
    else if (device->devices > 0)
        n = device->devices;
    uint64_t all;
    return __builtin_mul_overflow(n, device->memory_bytes, &all) ? UINT64_MAX : all;
}

bool plan_memory_known(const struct plan_memory *m)
{
    const struct capacity *c = m->capacity;
    bool known = true;
    for (uint32_t i = 0; i < c->options.nodes; i++)
        known = known && c->nodes[i].kv_bytes > 0;
    for (uint32_t i = 0; i < c->options.workers && c->options.nodes == 0; i++)
        known = known && (c->options.kv_memory > 0 || c->ranks[i].memory_bytes > 0);
    return known;
}

/* Of ranks that hold the cache themselves, the one with the least room. */
static uint32_t tightest_rank(const struct plan_memory *m)
{
    const struct capacity *c = m->capacity;
    uint32_t tightest = 0;
    double least = INFINITY;
    for (uint32_t i = 0; i < c->options.workers; i++) {
        const double tokens =
            (double)plan_memory_local_kv(m, i) /
            (double)planner_rank_kv_bytes(&c->plan, &c->model, i, c->options.kv_type);
        if (tokens < least) {
            least = tokens;
            tightest = i;
        }
    }
    return tightest;
}

/* Of nodes, the one that is full first as the tokens are dealt. */
static uint32_t tightest_node(const struct plan_memory *m)
{
    const struct capacity *c = m->capacity;
    uint32_t tightest = 0;
    for (uint32_t i = 1; i < c->options.nodes; i++)
        if ((double)c->nodes[i].kv_bytes * m->facts->shares[tightest] <
            (double)c->nodes[tightest].kv_bytes * m->facts->shares[i])
            tightest = i;
    return tightest;
}

void plan_memory_runs_out(const struct plan_memory *m, uint64_t n_tokens, uint64_t fitting,
                          char *text, size_t size)
{
    const struct capacity *c = m->capacity;
    if (fitting >= m->max_batch) {
        snprintf(text, size,
                 "--max-batch: %u sequences run at once, of %" PRIu64 " tokens %" PRIu64
                 " have room",
                 m->max_batch, n_tokens, fitting);
    } else if (c->options.nodes == 0) {
        const uint32_t rank = tightest_rank(m);
        snprintf(text, size, "the KV cache of worker %u (%s)", rank, c->ranks[rank].host);
    } else {
        const uint32_t node = tightest_node(m);
        uint64_t all = 0;
        for (uint32_t i = 0; i < c->options.nodes; i++)
            all = sum_of(all, c->nodes[i].kv_bytes);
        const int n = snprintf(text, size, "the KV cache of %s (%s)", m->layout->nodes[node].name,
                               m->facts->hosts[m->facts->node_estimates[node].host].name);
        if (c->options.nodes > 1 && n > 0 && (size_t)n < size)
            snprintf(text + n, size - (size_t)n, ": %.0f%% of the tokens, %.0f%% of the memory",
                     100 * m->facts->shares[node],
                     100.0 * (double)c->nodes[node].kv_bytes / (double)all);
    }
}
