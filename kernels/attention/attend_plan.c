/* attend_plan.c - made by the calling thread before every run: one pass over works, outputs, cuts.
 *
 * The tables only grow, so that a steady load allocates nothing. */
#include "kernels/attention/attend_plan.h"

#include "sys/array.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* Reading and widening a tile costs as much as this many rows (measured: decode of few rows is
     * bound by memory, many rows by arithmetic). */
    TILE_COST_ROWS = 8,
};

/* Room for partials, which are of the last run: they are not kept. */
static bool grow_floats(float **floats, size_t *room, size_t n_floats)
{
    if (n_floats <= *room)
        return true;
    const size_t more = (n_floats + n_floats / 2 + 15) / 16 * 16;
    float *memory = aligned_alloc(64, more * sizeof(float));
    if (memory == NULL)
        return false;
    free(*floats);
    *floats = memory;
    *room = more;
    return true;
}

uint32_t plan_visible(const struct plan_work *work, struct tile_range node, uint32_t *first)
{
    *first = node.begin;
    if (work->visible_from > node.begin)
        *first = work->visible_from < node.end ? work->visible_from : node.end;
    return node.end - *first;
}

float *plan_partials(const struct attend_plan *plan, const struct plan_work *work)
{
    return work->work->final_out != NULL ? plan->final_memory + work->final_at : work->work->out;
}

struct tile_partial plan_out(const struct attend_plan *plan, const struct attend_shape *shape,
                             const struct plan_output *output, size_t node)
{
    const struct plan_work *work = &plan->works[output->work];
    return tile_partial_at(plan_partials(plan, work) +
                               node * partial_floats(work->n_rows, shape->head_dim),
                           work->n_rows, shape->head_dim, output->row_begin);
}

static bool add_work(struct attend_plan *plan, const struct attend_shape *shape, size_t index,
                     const struct attend_work *work, uint32_t block_rows)
{
    struct plan_work *w = &plan->works[index];
    w->work = work;
    w->n_rows = work->n_tokens * shape->group;
    w->n_tiles = work->position / TILE_TOKENS;
    w->visible_from = work->window == 0 || work->position < work->window
                          ? 0
                          : (work->position - work->window + 1) / TILE_TOKENS;
    w->first_node = plan->n_nodes;
    w->n_nodes = tree_nodes(w->n_tiles, work->ranges, work->n_ranges, NULL, 0);
    if (!array_grow(&plan->nodes, &plan->nodes_room, plan->n_nodes + w->n_nodes,
                    sizeof(*plan->nodes)))
        return false;
    if (w->n_nodes > 0) /* else there may be no memory for any */
        tree_nodes(w->n_tiles, work->ranges, work->n_ranges, plan->nodes + plan->n_nodes,
                   w->n_nodes);
    plan->n_nodes += w->n_nodes;

    uint32_t n_tiles = work->own_tile;
    for (size_t i = 0; i < w->n_nodes; i++) {
        uint32_t first;
        const uint32_t n_visible = plan_visible(w, plan->nodes[w->first_node + i], &first);
        n_tiles += n_visible;
    }
    if (work->final_out != NULL) {
        w->final_at = plan->n_final_floats;
        plan->n_final_floats +=
            (w->n_nodes + work->own_tile) * partial_floats(w->n_rows, shape->head_dim);
    }

    const uint32_t n_blocks = (w->n_rows + block_rows - 1) / block_rows;
    if (!array_grow(&plan->outputs, &plan->outputs_room, plan->n_outputs + n_blocks,
                    sizeof(*plan->outputs)) ||
        !array_grow(&plan->lines, &plan->lines_room, plan->n_outputs + n_blocks,
                    sizeof(*plan->lines)))
        return false;
    for (uint32_t i = 0; i < n_blocks;
         i++) { /* evenly: a block of few rows reads K and V as well */
        struct plan_output *output = &plan->outputs[plan->n_outputs];
        output->work = (uint32_t)index;
        output->row_begin = (uint32_t)((uint64_t)w->n_rows * i / n_blocks);
        output->row_end = (uint32_t)((uint64_t)w->n_rows * (i + 1) / n_blocks);
        plan->lines[plan->n_outputs++] = (struct schedule_output){
            .n_tiles = n_tiles, .cost = output->row_end - output->row_begin + TILE_COST_ROWS};
    }
    return true;
}

/* The node that a point of the line lies strictly inside of, and the tile it is before. */
static bool inside_node(const struct attend_plan *plan, struct schedule_point point, size_t *node,
                        uint32_t *tile)
{
    const struct plan_work *work = &plan->works[plan->outputs[point.output].work];
    uint32_t before = 0;
    for (size_t i = 0; i < work->n_nodes && before < point.tile; i++) {
        uint32_t first;
        const uint32_t n = plan_visible(work, plan->nodes[work->first_node + i], &first);
        if (point.tile < before + n) {
            *node = i;
            *tile = first + (point.tile - before);
            return true;
        }
        before += n;
    }
    return false;
}

/* The parts of one share, tiles `range`, of the split node. */
static bool add_parts(struct attend_plan *plan, const struct attend_shape *shape,
                      struct plan_split *split, struct tile_range range, size_t *n_floats)
{
    const struct plan_output *output = &plan->outputs[split->output];
    const uint32_t n = plan->works[output->work].n_tiles;
    struct tile_range parts[TREE_NODES_PER_RANGE];
    const size_t n_parts = tree_nodes(n, &range, 1, parts, TREE_NODES_PER_RANGE);

    if (!array_grow(&plan->parts, &plan->parts_room, plan->n_parts + n_parts, sizeof(*plan->parts)))
        return false;
    for (size_t i = 0; i < n_parts; i++) {
        plan->parts[plan->n_parts++] = (struct plan_part){parts[i], *n_floats};
        *n_floats += partial_floats(output->row_end - output->row_begin, shape->head_dim);
        *n_floats = (*n_floats + 15) / 16 * 16;
    }
    split->n_parts += n_parts;
    split->n_shares++;
    return true;
}

static bool add_splits(struct attend_plan *plan, const struct attend_shape *shape)
{
    const uint32_t n_shares = plan->n_shares;
    const size_t n_points = (size_t)n_shares + 1;
    size_t n_floats = 0;
    plan->n_splits = plan->n_parts = 0;
    if (!array_grow(&plan->split_at, &plan->split_at_room, n_points, sizeof(*plan->split_at)) ||
        !array_grow(&plan->splits, &plan->splits_room, n_points, sizeof(*plan->splits)) ||
        !array_grow(&plan->pending, &plan->pending_room, n_points, sizeof(*plan->pending)))
        return false;
    for (uint32_t i = 0; i <= n_shares; i++)
        plan->split_at[i] = ATTEND_NO_SPLIT;

    for (uint32_t i = 1; i < n_shares;) {
        size_t node = 0;
        uint32_t tile = 0;
        const struct schedule_point point = plan->points[i];
        if (point.output >= plan->n_outputs || !inside_node(plan, point, &node, &tile)) {
            i++;
            continue;
        }
        const struct plan_work *work = &plan->works[plan->outputs[point.output].work];
        const struct tile_range range = plan->nodes[work->first_node + node];
        struct plan_split *split = &plan->splits[plan->n_splits];
        *split =
            (struct plan_split){.output = point.output, .node = node, .first_part = plan->n_parts};

        /* All cuts of this node, left to right; several may be at one place. */
        uint32_t begin = range.begin;
        for (size_t same = node; same == node;) {
            if (tile > begin &&
                !add_parts(plan, shape, split, (struct tile_range){begin, tile}, &n_floats))
                return false;
            begin = tile;
            plan->split_at[i++] = (uint32_t)plan->n_splits;
            if (i >= n_shares || plan->points[i].output != point.output ||
                !inside_node(plan, plan->points[i], &same, &tile))
                break;
        }
        if (!add_parts(plan, shape, split, (struct tile_range){begin, range.end}, &n_floats))
            return false;
        atomic_init(&plan->pending[plan->n_splits++], split->n_shares);
    }
    return grow_floats(&plan->part_memory, &plan->part_memory_room, n_floats);
}

/* Places the cuts; false: no memory. */
static bool cut_line(struct attend_plan *plan, struct attend_cut cut)
{
    const size_t n_shares = cut.n_parts == 0
                                ? (size_t)cut.n_turns * cut.n_lanes
                                : schedule_fixed(plan->lines, plan->n_outputs, cut.n_parts, NULL);
    if (!array_grow(&plan->points, &plan->points_room, n_shares + 1, sizeof(*plan->points)))
        return false;
    if (cut.n_parts == 0)
        schedule_cut(plan->lines, plan->n_outputs, cut.unit_tiles, cut.n_lanes, cut.n_turns,
                     plan->points);
    else
        schedule_fixed(plan->lines, plan->n_outputs, cut.n_parts, plan->points);
    plan->n_shares = (uint32_t)n_shares;
    atomic_init(&plan->next_share, 0);
    return true;
}

/* Partials of nodes without a visible tile: no lane comes by there. */
static void clear_unseen(const struct attend_plan *plan, const struct attend_shape *shape,
                         size_t n_works)
{
    for (size_t i = 0; i < n_works; i++) {
        const struct plan_work *work = &plan->works[i];
        const size_t n_floats = partial_floats(work->n_rows, shape->head_dim);
        for (size_t node = 0; node < work->n_nodes; node++) {
            uint32_t first;
            if (plan_visible(work, plan->nodes[work->first_node + node], &first) == 0)
                partial_clear(plan_partials(plan, work) + node * n_floats, work->n_rows,
                              shape->head_dim);
        }
    }
}

static enum status no_memory(size_t n_works, struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "attention: no memory to schedule %zu works",
                     n_works);
}

enum status attend_plan_cut(struct attend_plan *plan, const struct attend_shape *shape,
                            const struct attend_work *works, size_t n_works, struct attend_cut cut,
                            struct error *error)
{
    bool ok = array_grow(&plan->works, &plan->works_room, n_works, sizeof(*plan->works));
    plan->n_nodes = plan->n_outputs = plan->n_final_floats = 0;
    for (size_t i = 0; i < n_works && ok; i++)
        ok = add_work(plan, shape, i, &works[i], cut.block_rows);
    return ok && cut_line(plan, cut) ? STATUS_OK : no_memory(n_works, error);
}

enum status attend_plan_make(struct attend_plan *plan, const struct attend_shape *shape,
                             const struct attend_work *works, size_t n_works, struct attend_cut cut,
                             struct error *error)
{
    const enum status status = attend_plan_cut(plan, shape, works, n_works, cut, error);
    if (status != STATUS_OK)
        return status;
    if (!grow_floats(&plan->final_memory, &plan->final_memory_room, plan->n_final_floats) ||
        !add_splits(plan, shape))
        return no_memory(n_works, error);
    clear_unseen(plan, shape, n_works);
    return STATUS_OK;
}

void attend_plan_clear(struct attend_plan *plan)
{
    free(plan->works);
    free(plan->nodes);
    free(plan->outputs);
    free(plan->lines);
    free(plan->points);
    free(plan->split_at);
    free(plan->splits);
    free(plan->pending);
    free(plan->parts);
    free(plan->part_memory);
    free(plan->final_memory);
    memset(plan, 0, sizeof(*plan));
}
