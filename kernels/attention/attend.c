/* attend.c - the executor in host memory: lanes walk shares of the line (attend_plan.h).
 *
 * A node is evaluated tile by tile, left to right, with a stack of partials: the last two are
 * merged as long as the tree says so (tree_joins), so that a lane needs scratch for one partial per
 * level of the tree, and none of it is allocated here. A node that a lane has for itself goes
 * straight to the work's `out`; the parts of a split node go to the plan's memory, and the lane
 * that arrives last merges them. It does what one lane would have done, so bits do not depend on
 * the cut.
 *
 * Devices that have memory of their own have their own executor (device.h): calls are passed on. */
#include "kernels/attention/attend.h"

#include "kernels/attention/attend_plan.h"
#include "kernels/attention/device.h"
#include "kernels/attention/tile.h"
#include "kernels/kernels.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The tree's, and three more of the last four tiles. */
enum { LEVELS = TREE_MAX_DEPTH + 3 };

#define NO_SHARE UINT32_MAX

struct lane {
    float *memory;                      /* everything below, 64-byte aligned */
    float *q;                           /* [TILE_BLOCK_ROWS] query rows */
    float *scratch;                     /* of the tile kernel */
    struct tile_partial levels[LEVELS]; /* of TILE_BLOCK_ROWS rows each */
    uint8_t first[TILE_BLOCK_ROWS], last[TILE_BLOCK_ROWS];
    uint32_t next_share; /* that it has taken already, or NO_SHARE */
};

/* A call that attend_launch will make. */
struct prepared {
    const struct attend_work *works; /* NULL: none */
    size_t n_works;
    struct attend_writes writes;
};

struct attend {
    const struct attention_device *elsewhere; /* not NULL: only `state`, its own, is used */
    void *state;
    struct attend_shape shape;
    size_t tile_bytes;
    struct thread_pool *pool;
    const struct tile_kernels *kernels;
    struct attend_plan plan;
    uint32_t n_lanes, n_parts; /* n_parts: 0, or of a fixed split */
    size_t n_works;            /* of this run */
    struct lane *lanes;
    struct prepared *prepared;
    uint32_t n_prepared;
};

/* What a lane is working on. */
struct job {
    struct attend *attend;
    const struct plan_output *output;
    const struct plan_work *work;
    struct lane *lane;
    uint32_t n_rows;
    struct tile_range whole; /* tiles of which all rows see all tokens */
    uint32_t end;            /* of the lane's part of the output's line */
    bool last;               /* output of the lane's share */
    uint32_t piece_end;      /* the tiles up to here follow each other, ... */
    uint32_t after_piece;    /* ... and then comes this place on the line */
};

static size_t round_up(size_t n_floats)
{
    return (n_floats + 15) / 16 * 16;
}

static size_t level_floats(uint32_t head_dim)
{
    return round_up(partial_floats(TILE_BLOCK_ROWS, head_dim));
}

static const void *tile_at(const struct attend *attend, const struct plan_work *work, uint32_t tile)
{
    const struct tile_source *source = &work->work->source;
    const uint32_t index = tile - source->first_tile;
    const char *page = source->pages[index / source->page_tiles];
    return page + index % source->page_tiles * attend->tile_bytes;
}

/* Tile `at` of an output's line; NULL: it has ended. */
static const void *line_tile(const struct attend *attend, const struct plan_output *output,
                             uint32_t at)
{
    const struct attend_plan *plan = &attend->plan;
    const struct plan_work *work = &plan->works[output->work];
    for (size_t i = 0; i < work->n_nodes; i++) {
        uint32_t first;
        const uint32_t n = plan_visible(work, plan->nodes[work->first_node + i], &first);
        if (at < n)
            return tile_at(attend, work, first + at);
        at -= n;
    }
    return work->work->own_tile && at == 0 ? tile_at(attend, work, work->n_tiles) : NULL;
}

static uint32_t take_share(struct attend *attend)
{
    return atomic_fetch_add_explicit(&attend->plan.next_share, 1, memory_order_relaxed);
}

/* What the lane reads after `tile`; NULL: nothing. With its share's last tile it takes another one,
 * so that the first tile of that is fetched too: the tiles behind its own are others'. */
static const void *tile_after(const struct job *job, uint32_t tile)
{
    struct attend *attend = job->attend;
    const struct attend_plan *plan = &attend->plan;
    if (tile + 1 < job->piece_end)
        return tile_at(attend, job->work, tile + 1);
    if (job->after_piece < job->end)
        return line_tile(attend, job->output, job->after_piece);
    if (!job->last)
        return line_tile(attend, job->output + 1, 0);
    if (job->lane->next_share == NO_SHARE)
        job->lane->next_share = take_share(attend);
    if (job->lane->next_share >= plan->n_shares)
        return NULL;
    const struct schedule_point point = plan->points[job->lane->next_share];
    return point.output < plan->n_outputs
               ? line_tile(attend, &plan->outputs[point.output], point.tile)
               : NULL;
}

enum visible { NOTHING, SOMETHING, EVERYTHING };

/* The first token that a row at `position` sees. */
static uint64_t window_begin(const struct attend_work *work, uint64_t position)
{
    return work->window != 0 && position >= work->window ? position - work->window + 1 : 0;
}

/* job->whole, of its rows. */
static struct tile_range whole_tiles(const struct job *job)
{
    const struct attend_work *work = job->work->work;
    const uint32_t group = job->attend->shape.group;
    const uint64_t lowest = (uint64_t)work->position + job->output->row_begin / group;
    const uint64_t highest = (uint64_t)work->position + (job->output->row_end - 1) / group;
    const uint64_t begin = window_begin(work, highest);
    return (struct tile_range){(uint32_t)((begin + TILE_TOKENS - 1) / TILE_TOKENS),
                               (uint32_t)((lowest + 1) / TILE_TOKENS)};
}

/* Which tokens of the tile the rows see: lane->first and last where that is SOMETHING. */
static enum visible bound_rows(const struct job *job, uint32_t tile)
{
    if (tile >= job->whole.begin && tile < job->whole.end)
        return EVERYTHING;
    const struct attend_work *work = job->work->work;
    const uint32_t group = job->attend->shape.group;
    const uint64_t begin = (uint64_t)tile * TILE_TOKENS;
    const uint64_t lowest = (uint64_t)work->position + job->output->row_begin / group;

    if (window_begin(work, lowest) >= begin + TILE_TOKENS)
        return NOTHING;
    for (uint32_t i = 0; i < job->n_rows; i++) {
        const uint64_t position = (uint64_t)work->position + (job->output->row_begin + i) / group;
        const uint64_t from = window_begin(work, position);
        const uint64_t first = from <= begin ? 0 : from - begin, last = position + 1 - begin;
        job->lane->first[i] = (uint8_t)(first < TILE_TOKENS ? first : TILE_TOKENS);
        job->lane->last[i] = (uint8_t)(last < TILE_TOKENS ? last : TILE_TOKENS);
    }
    return SOMETHING;
}

static void attend_tile(const struct job *job, uint32_t tile, struct tile_partial out)
{
    const struct attend *attend = job->attend;
    const enum visible visible = bound_rows(job, tile);
    if (visible == NOTHING) {
        tile_partial_clear(out, job->n_rows, attend->shape.head_dim);
        return;
    }
    const char *k = tile_at(attend, job->work, tile);
    const struct tile_call call = {
        .shape = &attend->shape,
        .q = job->lane->q,
        .n_rows = job->n_rows,
        .first = visible == EVERYTHING ? NULL : job->lane->first,
        .last = visible == EVERYTHING ? NULL : job->lane->last,
        .k = k,
        .v = k + attend->tile_bytes / 2,
        .next = tile_after(job, tile),
        .scratch = job->lane->scratch,
    };
    attend->kernels->attend(&call, out);
}

/* Whether the next four tiles are an interval of the tree, which rows may see. */
static bool four_ahead(const struct job *job, uint32_t tile, uint32_t end)
{
    return tile % 4 == 0 && end - tile >= 4 && tile >= job->work->visible_from;
}

/* Evaluates a node of the tree into `out`. */
static void attend_node(const struct job *job, struct tile_range node, struct tile_partial out)
{
    const struct attend *attend = job->attend;
    const uint32_t head_dim = attend->shape.head_dim;
    const struct tile_partial *levels = job->lane->levels;
    struct tile_range stack[TREE_MAX_DEPTH];
    uint32_t top = 0;

    for (uint32_t tile = node.begin; tile < node.end; tile = stack[top - 1].end) {
        const struct tile_partial here = top == 0 ? out : levels[top];
        const uint32_t visible_from = job->work->visible_from;
        assert(top < TREE_MAX_DEPTH);
        if (four_ahead(job, tile, node.end)) {
            struct tile_partial four[4] = {here};
            for (uint32_t i = 0; i < 4; i++) {
                if (i > 0)
                    four[i] = levels[top + i];
                attend_tile(job, tile + i, four[i]);
            }
            stack[top] = (struct tile_range){tile, tile + 4};
            attend->kernels->merge_four(four, job->n_rows, head_dim);
        } else if (tile < visible_from) {
            const uint32_t end = node.end < visible_from ? node.end : visible_from;
            stack[top] = (struct tile_range){tile, tile + tree_step(tile, end)};
            tile_partial_clear(here, job->n_rows, head_dim);
        } else {
            stack[top] = (struct tile_range){tile, tile + 1};
            attend_tile(job, tile, here);
        }
        for (top++; top >= 2 && tree_joins(job->work->n_tiles, stack[top - 2], stack[top - 1]);
             top--) {
            attend->kernels->merge(top == 2 ? out : levels[top - 2], levels[top - 1], job->n_rows,
                                   head_dim);
            stack[top - 2].end = stack[top - 1].end;
        }
    }
    assert(top == 1);
}

/* Merges a split node's parts, which all lanes have written, into `out`. */
static void merge_parts(const struct job *job, const struct plan_split *split,
                        struct tile_partial out)
{
    const struct attend *attend = job->attend;
    const uint32_t head_dim = attend->shape.head_dim;
    struct tile_range ranges[TREE_MAX_DEPTH];
    struct tile_partial stack[TREE_MAX_DEPTH];
    uint32_t top = 0;

    for (size_t i = 0; i < split->n_parts; i++) {
        const struct plan_part *part = &attend->plan.parts[split->first_part + i];
        assert(top < TREE_MAX_DEPTH);
        ranges[top] = part->range;
        stack[top] = tile_partial_at(attend->plan.part_memory + part->at, job->n_rows, head_dim, 0);
        if (top == 0) {
            memcpy(out.m, stack[0].m, job->n_rows * sizeof(float));
            memcpy(out.l, stack[0].l, job->n_rows * sizeof(float));
            memcpy(out.o, stack[0].o, (size_t)job->n_rows * head_dim * sizeof(float));
            stack[0] = out;
        }
        for (top++; top >= 2 && tree_joins(job->work->n_tiles, ranges[top - 2], ranges[top - 1]);
             top--) {
            attend->kernels->merge(stack[top - 2], stack[top - 1], job->n_rows, head_dim);
            ranges[top - 2].end = ranges[top - 1].end;
        }
    }
    assert(top == 1);
}

/* The lane's share [range) of a split node. */
static void attend_share(const struct job *job, uint32_t index, struct tile_range range)
{
    struct attend_plan *plan = &job->attend->plan;
    const struct plan_split *split = &plan->splits[index];

    for (size_t i = split->first_part; i < split->first_part + split->n_parts; i++) {
        const struct plan_part *part = &plan->parts[i];
        if (part->range.begin >= range.begin && part->range.end <= range.end)
            attend_node(job, part->range,
                        tile_partial_at(plan->part_memory + part->at, job->n_rows,
                                        job->attend->shape.head_dim, 0));
    }
    /* Release what was written here, acquire what the others wrote: the last one sees all. */
    if (atomic_fetch_sub_explicit(&plan->pending[index], 1, memory_order_acq_rel) == 1)
        merge_parts(job, split, plan_out(plan, &job->attend->shape, job->output, split->node));
}

/* Tiles [begin, job->end) of the output's line; split_begin and split_end: the splits that these two
 * cuts make, if any. */
static void attend_output(struct job *job, uint32_t begin, uint32_t split_begin, uint32_t split_end)
{
    const struct attend *attend = job->attend;
    const struct attend_plan *plan = &attend->plan;
    const struct attend_work *work = job->work->work;
    const uint32_t head_dim = attend->shape.head_dim, group = attend->shape.group;
    const uint32_t end = job->end;

    for (uint32_t i = 0; i < job->n_rows; i++) {
        const uint32_t row = job->output->row_begin + i;
        tile_query_write(attend->shape.type, head_dim,
                         job->lane->q + i * tile_query_floats(attend->shape.type, head_dim),
                         work->q + row / group * work->q_token_stride +
                             (size_t)(row % group) * head_dim);
    }

    job->whole = whole_tiles(job);
    uint32_t at = 0;
    for (size_t i = 0; i < job->work->n_nodes && at < end; i++) {
        const struct tile_range node = plan->nodes[job->work->first_node + i];
        uint32_t first;
        const uint32_t n = plan_visible(job->work, node, &first);
        if (n > 0 && at + n > begin) {
            struct tile_range range = node;
            if (begin > at)
                range.begin = first + (begin - at);
            if (end < at + n)
                range.end = first + (end - at);
            job->piece_end = range.end;
            job->after_piece = at + (range.end - first);
            if (range.begin == node.begin && range.end == node.end)
                attend_node(job, node, plan_out(plan, &attend->shape, job->output, i));
            else
                attend_share(job, range.begin > node.begin ? split_begin : split_end, range);
        }
        at += n;
    }
    job->piece_end = 0;
    job->after_piece = at + 1;
    if (work->own_tile && at >= begin && at < end)
        attend_tile(job, job->work->n_tiles,
                    plan_out(plan, &attend->shape, job->output, job->work->n_nodes));
}

static void run_share(struct attend *attend, struct lane *lane, uint32_t share)
{
    const struct attend_plan *plan = &attend->plan;
    const struct schedule_point from = plan->points[share], to = plan->points[share + 1];
    const size_t n_outputs = to.tile > 0 ? to.output + 1 : to.output; /* behind the share's last */
    lane->next_share = NO_SHARE;
    for (uint32_t i = from.output; i < n_outputs; i++) {
        const struct plan_output *output = &plan->outputs[i];
        const uint32_t begin = i == from.output ? from.tile : 0;
        const uint32_t end = i == to.output ? to.tile : plan->lines[i].n_tiles;
        struct job job = {.attend = attend,
                          .output = output,
                          .work = &plan->works[output->work],
                          .lane = lane,
                          .n_rows = output->row_end - output->row_begin,
                          .end = end,
                          .last = i + 1 == n_outputs};
        if (begin < end)
            attend_output(&job, begin, i == from.output ? plan->split_at[share] : ATTEND_NO_SPLIT,
                          i == to.output ? plan->split_at[share + 1] : ATTEND_NO_SPLIT);
    }
}

/* Lanes take shares in turn, so that a lane that wakes late holds up nobody. */
static void run_lane(void *context, uint32_t index, uint32_t n_lanes)
{
    struct attend *attend = context;
    struct lane *lane = &attend->lanes[index];
    assert(n_lanes == attend->n_lanes);
    (void)n_lanes;
    for (uint32_t share = take_share(attend); share < attend->plan.n_shares;) {
        run_share(attend, lane, share);
        share = lane->next_share != NO_SHARE ? lane->next_share : take_share(attend);
    }
}

/* Rows of works that have final_out: their partials along the tree. */
static void finish_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    struct attend *attend = context;
    const struct attend_plan *plan = &attend->plan;
    const uint32_t head_dim = attend->shape.head_dim, group = attend->shape.group;
    for (size_t i = lane; i < attend->n_works; i += n_lanes) {
        const struct plan_work *work = &plan->works[i];
        if (work->work->final_out == NULL)
            continue;
        struct partial_fold fold;
        const size_t n_floats = partial_floats(work->n_rows, head_dim);
        float *partials = plan_partials(plan, work);
        partial_fold_reset(&fold, work->n_tiles, work->n_rows, head_dim);
        for (size_t node = 0; node < work->n_nodes; node++)
            partial_fold_add(&fold, plan->nodes[work->first_node + node],
                             partials + node * n_floats);
        const int whole = partial_fold_finish(
            &fold, work->work->own_tile ? partials + work->n_nodes * n_floats : NULL,
            work->work->final_out, work->work->final_token_stride, group);
        assert(whole);
        (void)whole;
    }
}

static enum status create_elsewhere(struct attend **attend,
                                    const struct attention_device *elsewhere, struct device *device,
                                    const struct attend_shape *shape, struct error *error)
{
    struct attend *a = calloc(1, sizeof(*a));
    if (a == NULL)
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory");
    const enum status status = elsewhere->create(&a->state, device, shape, error);
    if (status != STATUS_OK) {
        free(a);
        return status;
    }
    a->elsewhere = elsewhere;
    *attend = a;
    return STATUS_OK;
}

enum status attend_create(struct attend **attend, const struct kernels *kernels,
                          struct device *device, struct thread_pool *pool,
                          const struct attend_shape *shape, struct error *error)
{
    const enum status status = tile_check(shape->type, shape->head_dim, error);
    if (status != STATUS_OK)
        return status;
    if (shape->group == 0 || shape->group > 64)
        return error_set(error, STATUS_UNSUPPORTED,
                         "attention: %u query heads per KV head; 1 to 64 are supported",
                         shape->group);
    if (kernels->attention_device != NULL)
        return create_elsewhere(attend, kernels->attention_device, device, shape, error);
    /* All tile kernels give the same bits: a table that has none of its own can use the portable
     * ones. */
    const struct tile_kernels *tile_kernels = tile_kernels_find(kernels->attention);
    if (tile_kernels == NULL)
        tile_kernels = &tile_kernels_scalar;

    struct attend *a = calloc(1, sizeof(*a));
    const uint32_t n_lanes = thread_pool_lanes(pool);
    if (a != NULL) {
        a->shape = *shape;
        a->tile_bytes = tile_bytes(shape->type, shape->head_dim);
        a->pool = pool;
        a->kernels = tile_kernels;
        a->n_lanes = n_lanes;
        a->lanes = calloc(n_lanes, sizeof(*a->lanes));
    }
    /* Touched first by the lane that uses it, and only as deep as trees are. */
    const size_t q_floats = round_up((size_t)TILE_BLOCK_ROWS * shape->head_dim);
    const size_t scratch_floats = round_up(tile_scratch_floats(shape->head_dim));
    const size_t levels_floats = LEVELS * level_floats(shape->head_dim);
    bool ok = a != NULL && a->lanes != NULL;
    for (uint32_t i = 0; ok && i < n_lanes; i++) {
        struct lane *lane = &a->lanes[i];
        lane->memory =
            aligned_alloc(64, (q_floats + scratch_floats + levels_floats) * sizeof(float));
        ok = lane->memory != NULL;
        if (ok) {
            lane->q = lane->memory;
            lane->scratch = lane->q + q_floats;
            for (uint32_t j = 0; j < LEVELS; j++)
                lane->levels[j] = tile_partial_at(lane->scratch + scratch_floats +
                                                      j * level_floats(shape->head_dim),
                                                  TILE_BLOCK_ROWS, shape->head_dim, 0);
        }
    }
    if (!ok) {
        attend_destroy(a);
        return error_set(error, STATUS_NO_MEMORY, "attention: no scratch memory for %u lanes",
                         n_lanes);
    }
    *attend = a;
    return STATUS_OK;
}

void attend_destroy(struct attend *attend)
{
    if (attend == NULL)
        return;
    if (attend->elsewhere != NULL)
        attend->elsewhere->destroy(attend->state);
    attend_plan_clear(&attend->plan);
    for (uint32_t i = 0; attend->lanes != NULL && i < attend->n_lanes; i++)
        free(attend->lanes[i].memory);
    free(attend->lanes);
    free(attend->prepared);
    free(attend);
}

void attend_set_parts(struct attend *attend, uint32_t n_parts)
{
    attend->n_parts = n_parts;
    if (attend->elsewhere != NULL)
        attend->elsewhere->set_parts(attend->state, n_parts);
}

void *attend_device_state(struct attend *attend)
{
    return attend->state;
}

size_t attend_out_floats(const struct attend_shape *shape, const struct attend_work *work)
{
    if (work->final_out != NULL)
        return 0;
    const size_t n_nodes =
        tree_nodes(work->position / TILE_TOKENS, work->ranges, work->n_ranges, NULL, 0);
    return (n_nodes + work->own_tile) *
           partial_floats((size_t)work->n_tokens * shape->group, shape->head_dim);
}

/* Multiply-adds, some 15 us of one lane. On a host with more lanes than processors, waking the
 * others for less can take several times as long: a decode step's own tiles, while an attention
 * node computes. */
#define ALONE_COST ((uint64_t)1 << 21)

/* Multiply-adds of both products, and what reading the tiles costs in such. */
static uint64_t plan_cost(const struct attend *attend)
{
    uint64_t rows = 0; /* times tiles */
    for (size_t i = 0; i < attend->plan.n_outputs; i++)
        rows += (uint64_t)attend->plan.lines[i].n_tiles * attend->plan.lines[i].cost;
    return rows * 2 * TILE_TOKENS * attend->shape.head_dim;
}

enum status attend_run(struct attend *attend, const struct attend_work *works, size_t n_works,
                       struct error *error)
{
    if (attend->elsewhere != NULL)
        return attend->elsewhere->run(attend->state, works, n_works, error);
    /* In turns, so that a lane that the host slows down holds up nobody. */
    const struct attend_cut cut = {.n_lanes = attend->n_lanes,
                                   .n_turns = ATTEND_TURNS,
                                   .n_parts = attend->n_parts,
                                   .unit_tiles = ATTEND_UNIT_TILES,
                                   .block_rows = TILE_BLOCK_ROWS};
    const enum status status =
        attend_plan_make(&attend->plan, &attend->shape, works, n_works, cut, error);
    if (status != STATUS_OK || attend->plan.n_outputs == 0)
        return status;
    const bool alone = plan_cost(attend) < ALONE_COST;
    attend->n_works = n_works;
    if (alone)
        run_lane(attend, 0, attend->n_lanes);
    else
        thread_pool_run(attend->pool, run_lane, attend);
    if (attend->plan.n_final_floats > 0) {
        if (alone)
            finish_lane(attend, 0, 1);
        else
            thread_pool_run(attend->pool, finish_lane, attend);
    }
    return STATUS_OK;
}

enum status attend_prepare(struct attend *attend, uint32_t slot, const struct attend_work *works,
                           size_t n_works, const struct attend_writes *writes, uint64_t *kind,
                           struct error *error)
{
    if (attend->elsewhere != NULL)
        return attend->elsewhere->prepare(attend->state, slot, works, n_works, writes, kind, error);
    if (slot >= attend->n_prepared) {
        struct prepared *more =
            realloc(attend->prepared, ((size_t)slot + 1) * sizeof(*attend->prepared));
        if (more == NULL)
            return error_set(error, STATUS_NO_MEMORY, "attention: no memory for call %u", slot);
        memset(more + attend->n_prepared, 0, (slot + 1 - attend->n_prepared) * sizeof(*more));
        attend->prepared = more;
        attend->n_prepared = slot + 1;
    }
    attend->prepared[slot] = (struct prepared){.works = works, .n_works = n_works};
    if (writes != NULL)
        attend->prepared[slot].writes = *writes;
    if (kind != NULL)
        *kind = 0;
    return STATUS_OK;
}

enum status attend_launch(struct attend *attend, uint32_t slot, struct error *error)
{
    if (attend->elsewhere != NULL)
        return attend->elsewhere->launch(attend->state, slot, error);
    if (slot >= attend->n_prepared || attend->prepared[slot].works == NULL)
        return error_set(error, STATUS_INVALID, "attention: call %u was not prepared", slot);
    const struct prepared *call = &attend->prepared[slot];
    for (size_t i = 0; i < call->writes.n; i++) {
        const struct tile_tokens *tokens = &call->writes.tokens[i];
        tile_write(tokens->tile, attend->shape.type, attend->shape.head_dim, tokens->first,
                   tokens->n_tokens, tokens->k, tokens->v, call->writes.stride_bytes);
    }
    return attend_run(attend, call->works, call->n_works, error);
}
