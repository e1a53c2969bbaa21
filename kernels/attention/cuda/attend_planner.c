/* attend_planner.c - one plan for all layers of a step; and how finely it is cut, by what cuts cost. */
#include "kernels/attention/cuda/attend_planner.h"

#include <stdlib.h>
#include <string.h>

/* What the line of a call's tiles is like. */
struct line {
    uint64_t n_tiles, n_outputs, output_tiles; /* output_tiles: of each, or UNEVEN */
};
#define UNEVEN ((uint64_t)1) /* no unit but 1 divides it */

static uint32_t most_rows(const struct planner *planner, const struct attend_work *works,
                          size_t n_works)
{
    uint32_t most = 0;
    for (size_t i = 0; i < n_works; i++)
        if (works[i].n_tokens > most)
            most = works[i].n_tokens;
    return most * planner->shape.group;
}

/* Whether the plan there is suits these works. */
static bool same_plan(const struct planner *planner, const struct attend_work *works,
                      size_t n_works)
{
    const struct planned *planned = &planner->planned;
    if (n_works == 0 || planned->n_works != n_works || planned->n_parts != planner->n_parts ||
        planned->most_blocks != planner->most_blocks)
        return false;
    for (size_t i = 0; i < n_works; i++) {
        const struct attend_work *a = &works[i], *b = &planned->works[i];
        if (a->n_tokens != b->n_tokens || a->position != b->position || a->window != b->window ||
            a->own_tile != b->own_tile || (a->final_out == NULL) != (b->final_out == NULL) ||
            a->source.first_tile != b->source.first_tile ||
            a->source.page_tiles != b->source.page_tiles || a->n_ranges != b->n_ranges ||
            (a->n_ranges > 0 &&
             memcmp(a->ranges, b->ranges, a->n_ranges * sizeof(*a->ranges)) != 0))
            return false;
    }
    return true;
}

/* Makes room for n elements, whose old content is lost; false: no memory. */
static bool room_for(void *array, size_t *room, size_t n, size_t element)
{
    if (n <= *room)
        return true;
    void *memory = malloc((n + n / 2) * element), *old;
    if (memory == NULL)
        return false;
    memcpy(&old, array, sizeof(old));
    free(old);
    memcpy(array, &memory, sizeof(memory));
    *room = n + n / 2;
    return true;
}

/* Keeps what same_plan compares; without memory, there is no such plan. */
static void keep_planned(struct planner *planner, const struct attend_work *works, size_t n_works)
{
    struct planned *planned = &planner->planned;
    size_t n_ranges = 0;
    for (size_t i = 0; i < n_works; i++)
        n_ranges += works[i].n_ranges;
    if (!room_for(&planned->works, &planned->works_room, n_works, sizeof(*planned->works)) ||
        !room_for(&planned->ranges, &planned->ranges_room, n_ranges, sizeof(*planned->ranges)))
        return;
    n_ranges = 0;
    for (size_t i = 0; i < n_works; i++) {
        planned->works[i] = works[i];
        planned->works[i].ranges = planned->ranges + n_ranges;
        if (works[i].n_ranges > 0)
            memcpy(planned->ranges + n_ranges, works[i].ranges,
                   works[i].n_ranges * sizeof(*works[i].ranges));
        n_ranges += works[i].n_ranges;
    }
    planned->n_works = n_works;
    planned->n_parts = planner->n_parts;
    planned->most_blocks = planner->most_blocks;
}

/* What a tile costs where n_blocks share a multiprocessor, in tenths of a microsecond on an H200: its way through
 * a block, or its bytes. Measured of f16; the machine code for q8_0 has no more instructions than its bytes
 * leave time for. */
static uint64_t tile_cost(const struct attend_shape *shape, uint64_t n_blocks)
{
    static const uint64_t alone = 15, busy_bytes = 50 << 10;
    const uint64_t bytes = n_blocks * tile_bytes(shape->type, shape->head_dim);
    return (bytes > busy_bytes ? alone * bytes / busy_bytes : alone) + (n_blocks == 1);
}

enum { PART_COST = 35 }; /* of each of a share's parts but the first, which break the walk */

/* What a cut at multiples of `unit` costs, likewise: a share's tiles; its parts, about 1 + log2(its units), of
 * which each but the first breaks the walk; and joins of JOIN_EARLY, and joins of those. */
static uint64_t unit_cost(const struct planner *planner, const struct line *line, uint32_t unit,
                          uint32_t n_blocks)
{
    enum { JOIN_COST = 35 };
    const uint64_t n = planner->n_multiprocessors;
    const uint64_t units = (line->n_tiles + unit - 1) / unit;
    const uint64_t most = (units + n_blocks - 1) / n_blocks; /* units of a share */
    const uint64_t n_shares = (units + most - 1) / most;
    uint64_t tiles = most * unit, n_parts = 1, cost = 0;
    if (line->output_tiles % unit != 0) /* ends of outputs lie between, and shares are uneven */
        tiles = line->n_tiles / (units < n_blocks ? units : n_blocks) + unit / 8 + 1;
    while (most >> n_parts > 0)
        n_parts++;
    const uint64_t parts = n_parts * n_shares / line->n_outputs; /* of an output */
    for (uint64_t rest = parts; rest > 1; rest /= JOIN_EARLY)
        cost += JOIN_COST;
    return cost + parts + (n_parts - 1) * PART_COST +
           tiles * tile_cost(&planner->shape, (n_shares + n - 1) / n);
}

/* The best power of two. */
static uint32_t unit_for(const struct planner *planner, const struct line *line, uint32_t n_blocks)
{
    uint64_t least = UINT64_MAX;
    uint32_t best = 1;
    if (planner->unit > 0)
        return planner->unit;
    for (uint32_t unit = 1; unit <= line->n_tiles && unit <= TREE_MAX_TILES; unit *= 2) {
        const uint64_t cost = unit_cost(planner, line, unit, n_blocks);
        if (cost < least) {
            least = cost;
            best = unit;
        }
    }
    return best;
}

/* The line of these works, cut in row blocks of most_rows. */
static struct line line_of(const struct planner *planner, const struct attend_work *works,
                           size_t n_works, uint32_t most_rows)
{
    struct line line = {0};
    for (size_t i = 0; i < n_works; i++) {
        const uint32_t n_rows = works[i].n_tokens * planner->shape.group;
        const uint64_t n_outputs = (n_rows + most_rows - 1) / most_rows;
        uint64_t tiles = works[i].own_tile;
        for (uint32_t range = 0; range < works[i].n_ranges; range++)
            tiles += works[i].ranges[range].end - works[i].ranges[range].begin;
        line.output_tiles = i == 0 || line.output_tiles == tiles ? tiles : UNEVEN;
        line.n_tiles += tiles * n_outputs;
        line.n_outputs += n_outputs;
    }
    return line;
}

/* Of the plan's shares; they become no more than leave the thread blocks their pipelines. A
 * fixed split stays as it is. */
static struct jobs_costs costs_of(const struct planner *planner, const struct variant *variant,
                                  uint32_t n_blocks)
{
    const struct schedule_point *points = planner->plan.points;
    const uint32_t n_multiprocessors = planner->n_multiprocessors;
    uint32_t n_shares = 0;
    for (uint32_t i = 0; i < planner->plan.n_shares; i++)
        n_shares +=
            points[i].output != points[i + 1].output || points[i].tile != points[i + 1].tile;
    const uint32_t most = variant_config(variant, n_shares)->n_blocks;
    const uint32_t on_one = (n_shares + n_multiprocessors - 1) / n_multiprocessors;
    return (struct jobs_costs){.tile = tile_cost(&planner->shape, on_one > 0 ? on_one : 1),
                               .part = PART_COST,
                               .most_shares = planner->n_parts > 0 ? 0
                                              : most < n_blocks    ? most
                                                                   : n_blocks};
}

static enum status make_plan(struct planner *planner, const struct attend_work *works,
                             size_t n_works, struct error *error)
{
    struct planned *planned = &planner->planned;
    const struct variant *variant =
        variants_for(&planner->variants, most_rows(planner, works, n_works));
    const struct line line = line_of(planner, works, n_works, variant->kernel->rows);
    uint32_t n_blocks = variant_blocks(variant);
    if (planner->most_blocks > 0 && planner->most_blocks < n_blocks)
        n_blocks = planner->most_blocks;
    if (line.n_tiles < n_blocks)
        n_blocks = line.n_tiles > 0 ? (uint32_t)line.n_tiles : 1;
    const struct attend_cut cut = {.n_lanes = n_blocks,
                                   .n_turns = 1,
                                   .n_parts = planner->n_parts,
                                   .unit_tiles = unit_for(planner, &line, n_blocks),
                                   .block_rows = variant->kernel->rows};
    planned->n_works = 0;
    const enum status status =
        attend_plan_cut(&planner->plan, &planner->shape, works, n_works, cut, error);
    if (status != STATUS_OK)
        return status;
    const struct jobs_costs costs = costs_of(planner, variant, n_blocks);
    if (!jobs_make(&planner->jobs, &planner->plan, n_works, &costs))
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory to schedule %zu works",
                         n_works);
    planned->variant = variant;
    keep_planned(planner, works, n_works);
    return STATUS_OK;
}

enum status attend_planner_plan(struct planner *planner, const struct attend_work *works,
                                size_t n_works, struct error *error)
{
    if (!same_plan(planner, works, n_works))
        return make_plan(planner, works, n_works, error);
    for (size_t i = 0; i < n_works; i++)
        planner->plan.works[i].work = &works[i];
    return STATUS_OK;
}

void attend_planner_clear(struct planner *planner)
{
    free(planner->planned.works);
    free(planner->planned.ranges);
    attend_plan_clear(&planner->plan);
    jobs_clear(&planner->jobs);
}
