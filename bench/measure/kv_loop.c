/* kv_loop.c - see kv_loop.h. */
#include "bench/measure/kv_loop.h"

#include "kernels/attention/tile.h"
#include "kernels/kernels.h"
#include "sys/clock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct lane {
    char *half;
    float *queries, *scratch, *out;
};

struct kv_loop {
    struct thread_pool *pool;
    const struct tile_kernels *kernels;
    struct attend_shape shape;
    struct lane *lanes;
    size_t tile_bytes, n_turns; /* n_turns: of all lanes together */
    atomic_size_t next_turn;
};

static void *aligned(size_t bytes)
{
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static bool fill_lane(struct lane *lane, const struct kv_load *load)
{
    const struct attend_shape *shape = &load->shape.attend;
    const size_t half = tile_bytes(shape->type, shape->head_dim) / 2;
    const size_t query = tile_query_floats(shape->type, shape->head_dim);
    lane->half = aligned(half);
    lane->queries = aligned(shape->group * query * sizeof(float));
    lane->scratch = aligned(tile_scratch_floats(shape->head_dim) * sizeof(float));
    lane->out = aligned(partial_floats(shape->group, shape->head_dim) * sizeof(float));
    if (lane->half == NULL || lane->queries == NULL || lane->scratch == NULL || lane->out == NULL)
        return false;
    memcpy(lane->half, load->pages[0], half);
    for (uint32_t row = 0; row < shape->group; row++)
        tile_query_write(shape->type, shape->head_dim, lane->queries + row * query,
                         load->works[0].q + (size_t)row * shape->head_dim);
    return true;
}

enum status kv_loop_create(struct kv_loop **loop, struct thread_pool *pool, const char *kernels,
                           const struct kv_load *load, struct error *error)
{
    const uint32_t n_lanes = thread_pool_lanes(pool);
    const struct kernels *chosen;
    const enum status status = kernels_choose(&chosen, kernels, error);
    if (status != STATUS_OK)
        return status;
    struct kv_loop *l = calloc(1, sizeof(*l));
    bool ok = l != NULL && (l->lanes = calloc(n_lanes, sizeof(*l->lanes))) != NULL;
    if (ok) {
        l->pool = pool;
        l->kernels = tile_kernels_find(chosen->name);
        l->shape = load->shape.attend;
        l->tile_bytes = tile_bytes(l->shape.type, l->shape.head_dim);
    }
    for (uint32_t i = 0; i < n_lanes && ok; i++)
        ok = fill_lane(&l->lanes[i], load);
    if (!ok) {
        kv_loop_destroy(l);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a loop on %u lanes", n_lanes);
    }
    *loop = l;
    return STATUS_OK;
}

void kv_loop_destroy(struct kv_loop *loop)
{
    if (loop == NULL)
        return;
    for (uint32_t i = 0; loop->lanes != NULL && i < thread_pool_lanes(loop->pool); i++) {
        free(loop->lanes[i].half);
        free(loop->lanes[i].queries);
        free(loop->lanes[i].scratch);
        free(loop->lanes[i].out);
    }
    free(loop->lanes);
    free(loop);
}

static void run_lane(void *context, uint32_t index, uint32_t n_lanes)
{
    struct kv_loop *loop = context;
    const struct lane *lane = &loop->lanes[index];
    const uint32_t n_rows = loop->shape.group;
    const struct tile_call call = {.shape = &loop->shape,
                                   .q = lane->queries,
                                   .n_rows = n_rows,
                                   .k = lane->half,
                                   .v = lane->half,
                                   .next = lane->half,
                                   .scratch = lane->scratch};
    size_t begin, end;
    while (thread_pool_take(&loop->next_turn, loop->n_turns, 2 * (size_t)n_lanes, 1, &begin, &end))
        for (size_t i = begin; i < end; i++)
            loop->kernels->attend(&call,
                                  tile_partial_at(lane->out, n_rows, loop->shape.head_dim, 0));
}

double kv_loop_rate(struct kv_loop *loop, size_t bytes)
{
    loop->n_turns = bytes / loop->tile_bytes + 1;
    atomic_init(&loop->next_turn, 0);
    const uint64_t begin = clock_ns();
    thread_pool_run(loop->pool, run_lane, loop);
    const double seconds = (double)(clock_ns() - begin) * 1e-9;
    return (double)(loop->tile_bytes * loop->n_turns) / seconds;
}
