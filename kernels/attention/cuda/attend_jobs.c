/* attend_jobs.c - one walk along the line, share by share, as attend.c's lanes do it. */
#include "kernels/attention/cuda/attend_jobs.h"

#include "kernels/attention/attend_plan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A part that no join has yet. */
struct unit {
    uint32_t segment, join; /* the one that it comes of; the other is JOBS_NONE */
    uint32_t share;         /* of the segment */
    uint32_t merges;        /* that follow it */
};

/* An interval of the tree whose units are the last n_units but for those of the intervals behind
 * it. */
struct interval {
    struct tile_range range;
    uint32_t n_units;
};

/* What the walk is in. */
struct walk {
    const struct attend_plan *plan;
    struct jobs *jobs;
    struct job_segment *segments;
    struct job_join *joins;
    uint32_t *pending, *merges;
    uint32_t *part_of; /* of each segment: the node that it is a part of; JOBS_NONE: it is none */
    struct interval stack[TREE_MAX_DEPTH]; /* of the output's node */
    struct unit units[TREE_MAX_DEPTH * JOIN_PARTS];
    uint32_t top, n_units;
    uint32_t output; /* whose parts these are */
    uint32_t node;   /* of that output; n_nodes: all of it */
};

static size_t aligned(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

/* Pages of a work that have a tile that its rows see; *first: the tile that the first one begins
 * with. */
static uint32_t work_pages(const struct plan_work *work, const struct attend_plan *plan,
                           uint32_t *first_page)
{
    const struct tile_source *source = &work->work->source;
    const struct tile_range *nodes = plan->nodes + work->first_node;
    uint32_t begin = UINT32_MAX, end = 0;
    for (size_t i = 0; i < work->n_nodes; i++) {
        uint32_t first;
        if (plan_visible(work, nodes[i], &first) == 0)
            continue;
        begin = first < begin ? first : begin;
        end = nodes[i].end;
    }
    if (work->work->own_tile) {
        begin = work->n_tiles < begin ? work->n_tiles : begin;
        end = work->n_tiles + 1;
    }
    *first_page = 0;
    if (end == 0)
        return 0;
    *first_page = (begin - source->first_tile) / source->page_tiles;
    return (end - 1 - source->first_tile) / source->page_tiles + 1 - *first_page;
}

/* Segments of a call: each output's nodes and own tile, and what cuts make of one of them. */
static size_t most_segments(const struct attend_plan *plan)
{
    size_t n = 0;
    for (size_t i = 0; i < plan->n_outputs; i++)
        n += plan->works[plan->outputs[i].work].n_nodes + 1;
    return n + (size_t)plan->n_shares * 2 * TREE_NODES_PER_RANGE;
}

static void write_outputs(const struct jobs *jobs, const struct attend_plan *plan, size_t n_works,
                          bool settled, char *block)
{
    struct job_output *outputs = (void *)(block + jobs->outputs_at);
    void **pages = (void *)(block + jobs->pages_at);
    uint32_t n_pages = 0, output = 0;
    for (size_t i = 0; i < n_works; i++) {
        const struct plan_work *w = &plan->works[i];
        const struct attend_work *work = w->work;
        const uint32_t group = w->n_rows / work->n_tokens;
        uint32_t first_page;
        const uint32_t n = work_pages(w, plan, &first_page);
        if (n > 0)
            memcpy(pages + n_pages, work->source.pages + first_page, n * sizeof(*pages));
        for (; output < plan->n_outputs && plan->outputs[output].work == i; output++) {
            const struct plan_output *rows = &plan->outputs[output];
            outputs[output] = (struct job_output){
                .q = work->q,
                .q_token_stride = work->q_token_stride,
                .out = work->out,
                .final_out = work->final_out,
                .final_token_stride = work->final_token_stride,
                .row_begin = rows->row_begin,
                .n_rows = rows->row_end - rows->row_begin,
                .work_rows = w->n_rows,
                .window = work->window,
                .first_position = work->position + rows->row_begin / group,
                .last_position = work->position + (rows->row_end - 1) / group,
                .row_offset = rows->row_begin % group,
                .n_tiles = w->n_tiles,
                .visible_from = w->visible_from,
                .n_settled = settled ? work->settled_tiles : 0,
                .first_page = n_pages,
                .page_tile = work->source.first_tile + first_page * work->source.page_tiles,
                .page_tiles = n > 0 ? work->source.page_tiles : 1,
            };
        }
        n_pages += n;
    }
}

/* node: where it goes as a whole; part_of: of which node it is a part; one of them is JOBS_NONE,
 * or for all of an output both. */
static void add_segment(struct walk *walk, uint32_t output, struct tile_range range, uint32_t node,
                        uint32_t part_of)
{
    walk->part_of[walk->jobs->n_segments] = part_of;
    walk->segments[walk->jobs->n_segments++] =
        (struct job_segment){output, range.begin, range.end, node, JOBS_NONE, 0, 0};
}

/* n units from `first` on become the parts of a join. Returns its number. */
static uint32_t add_join(struct walk *walk, uint32_t first, uint32_t n)
{
    struct jobs *jobs = walk->jobs;
    const uint32_t number = jobs->n_joins++;
    struct job_join *join = &walk->joins[number];
    *join = (struct job_join){jobs->n_parts, n, 0, walk->output, JOBS_NONE, JOBS_NONE, 0};
    for (uint32_t i = 0; i < n; i++) {
        const struct unit *unit = &walk->units[first + i];
        const uint32_t part = jobs->n_parts++;
        bool arrives = true;
        if (unit->join != JOBS_NONE) {
            walk->joins[unit->join].join = number;
            walk->joins[unit->join].part = part;
        } else {
            struct job_segment *segment = &walk->segments[unit->segment];
            arrives = i + 1 == n || unit[1].join != JOBS_NONE || unit[1].share != unit->share;
            segment->join = number;
            segment->part = part;
            segment->arrives = arrives;
        }
        join->n_arrivals += arrives;
        walk->merges[part] = unit->merges;
    }
    walk->pending[number] = join->n_arrivals;
    return number;
}

/* The n units from `first` on become one. */
static void join_units(struct walk *walk, uint32_t first, uint32_t n)
{
    const uint32_t join = add_join(walk, first, n);
    walk->units[first] = (struct unit){JOBS_NONE, join, 0, 0};
    walk->n_units -= n - 1;
    memmove(&walk->units[first + 1], &walk->units[first + n],
            (walk->n_units - first - 1) * sizeof(*walk->units));
}

/* Merges the last two intervals; where that makes too many units, each with several becomes one.
 * A node of the tree with many becomes one at once, so that prefixes, which grow node by node,
 * are not joins of joins of joins. */
static void merge_intervals(struct walk *walk)
{
    struct interval *left = &walk->stack[walk->top - 2], *right = left + 1;
    const bool is_node =
        left->range.end - left->range.begin == right->range.end - right->range.begin;
    if (left->n_units + right->n_units > JOIN_PARTS) {
        struct interval *large = left->n_units >= right->n_units ? left : right;
        struct interval *small = large == left ? right : left;
        const uint32_t end = walk->n_units;
        for (int i = 0; i < 2 && left->n_units + right->n_units > JOIN_PARTS; i++) {
            struct interval *it = i == 0 ? large : small;
            const uint32_t first = it == right ? walk->n_units - it->n_units
                                               : walk->n_units - right->n_units - left->n_units;
            join_units(walk, first, it->n_units);
            it->n_units = 1;
        }
        assert(walk->n_units < end);
        (void)end;
    }
    left->range.end = right->range.end;
    left->n_units += right->n_units;
    walk->units[walk->n_units - 1].merges++;
    walk->top--;
    if (is_node && left->n_units >= JOIN_EARLY) {
        join_units(walk, walk->n_units - left->n_units, left->n_units);
        left->n_units = 1;
    }
}

/* The parts of the output's node, or of all of it, are complete. */
static void end_parts(struct walk *walk)
{
    if (walk->top == 0)
        return;
    assert(walk->top == 1 && walk->stack[0].n_units == walk->n_units);
    const struct plan_work *work = &walk->plan->works[walk->plan->outputs[walk->output].work];
    const bool is_joined = walk->n_units == 1 && walk->units[0].join != JOBS_NONE;
    struct job_join *join =
        &walk->joins[is_joined ? walk->units[0].join : add_join(walk, 0, walk->n_units)];
    join->node = walk->node < work->n_nodes ? walk->node : JOBS_NONE;
    walk->top = walk->n_units = 0;
}

/* The segment is one more part of its output's node; n_nodes: of all of the output, of which
 * there are finished rows. An own tile of a work whose partials are wanted is never a part. */
static void add_part(struct walk *walk, uint32_t number, uint32_t share)
{
    const struct job_segment *segment = &walk->segments[number];
    const struct tile_range range = {segment->begin, segment->end};
    const uint32_t output = segment->output, node = walk->part_of[number];
    const uint32_t n = walk->plan->works[walk->plan->outputs[output].work].n_tiles;
    if (walk->output != output || walk->node != node)
        end_parts(walk);
    walk->output = output;
    walk->node = node;
    walk->units[walk->n_units++] = (struct unit){number, JOBS_NONE, share, 0};
    assert(walk->top < TREE_MAX_DEPTH);
    walk->stack[walk->top++] = (struct interval){range, 1};
    const bool own = range.begin == n;
    while (walk->top >= 2 && (own || tree_joins(n, walk->stack[walk->top - 2].range,
                                                walk->stack[walk->top - 1].range)))
        merge_intervals(walk);
}

/* Tiles [begin, end) of the output's line. */
static void walk_output(struct walk *walk, uint32_t output, uint32_t begin, uint32_t end)
{
    const struct attend_plan *plan = walk->plan;
    const struct plan_work *work = &plan->works[plan->outputs[output].work];
    const bool final = work->work->final_out != NULL;
    uint32_t at = 0;

    if (final && work->work->own_tile && begin == 0 && end == plan->lines[output].n_tiles) {
        add_segment(walk, output, (struct tile_range){0, work->n_tiles + 1}, JOBS_NONE, JOBS_NONE);
        return;
    }
    for (size_t i = 0; i < work->n_nodes && at < end; i++) {
        const struct tile_range node = plan->nodes[work->first_node + i];
        uint32_t first;
        const uint32_t n = plan_visible(work, node, &first);
        if (n > 0 && at + n > begin) {
            struct tile_range range = node;
            if (begin > at)
                range.begin = first + (begin - at);
            if (end < at + n)
                range.end = first + (end - at);
            const bool whole = range.begin == node.begin && range.end == node.end;
            if (whole && !final) {
                add_segment(walk, output, range, (uint32_t)i, JOBS_NONE);
            } else {
                struct tile_range parts[TREE_NODES_PER_RANGE];
                const size_t n_parts =
                    tree_nodes(work->n_tiles, &range, 1, parts, TREE_NODES_PER_RANGE);
                for (size_t part = 0; part < n_parts; part++)
                    add_segment(walk, output, parts[part], JOBS_NONE,
                                (uint32_t)(final ? work->n_nodes : i));
            }
        }
        at += n;
    }
    if (work->work->own_tile && at >= begin && at < end) {
        const struct tile_range own = {work->n_tiles, work->n_tiles + 1};
        const uint32_t node = (uint32_t)work->n_nodes;
        add_segment(walk, output, own, final ? JOBS_NONE : node, final ? node : JOBS_NONE);
    }
}

/* Nodes without a visible tile, which are on no lane's way: the first one clears them. */
static void walk_unseen(struct walk *walk)
{
    const struct attend_plan *plan = walk->plan;
    for (uint32_t output = 0; output < plan->n_outputs; output++) {
        const struct plan_work *work = &plan->works[plan->outputs[output].work];
        for (size_t i = 0; i < work->n_nodes && work->work->final_out == NULL; i++) {
            const struct tile_range node = plan->nodes[work->first_node + i];
            uint32_t first;
            if (plan_visible(work, node, &first) == 0)
                add_segment(walk, output, node, (uint32_t)i, JOBS_NONE);
        }
    }
}

/* What segments [first, end) of a share cost. */
static uint64_t cost_of(const struct walk *walk, uint32_t first, uint32_t end,
                        const struct jobs_costs *costs)
{
    const struct attend_plan *plan = walk->plan;
    uint64_t n_tiles = 0;
    for (uint32_t i = first; i < end; i++) {
        const struct job_segment *segment = &walk->segments[i];
        const uint32_t seen = plan->works[plan->outputs[segment->output].work].visible_from;
        if (segment->end > seen)
            n_tiles += segment->end - (segment->begin > seen ? segment->begin : seen);
    }
    return n_tiles * costs->tile + (uint64_t)(end - first - 1) * costs->part;
}

/* While there are thread blocks without a share, the one that would end last is cut in two:
 * between its segments, so that no more of them have to be joined. */
static void split_shares(struct walk *walk, uint32_t *shares, const struct jobs_costs *costs)
{
    struct jobs *jobs = walk->jobs;
    if (jobs->n_shares == 0)
        return;
    while (jobs->n_shares < costs->most_shares && jobs->n_shares < walk->plan->n_shares) {
        uint64_t largest = 0, least;
        uint32_t last = 0, where = 0;
        for (uint32_t share = 0; share < jobs->n_shares; share++) {
            const uint64_t cost = cost_of(walk, shares[share], shares[share + 1], costs);
            if (cost > largest) {
                largest = cost;
                last = share;
            }
        }
        least = largest;
        uint64_t left = cost_of(walk, shares[last], shares[last] + 1, costs);
        for (uint32_t i = shares[last] + 1; i < shares[last + 1]; i++) {
            const uint64_t right = largest - left - costs->part;
            if ((left > right ? left : right) < least) {
                least = left > right ? left : right;
                where = i;
            }
            left += cost_of(walk, i, i + 1, costs) + costs->part;
        }
        if (least == largest)
            return;
        memmove(&shares[last + 2], &shares[last + 1], (jobs->n_shares - last) * sizeof(*shares));
        shares[last + 1] = where;
        jobs->n_shares++;
    }
}

/* The tables that the walk fills, each as large as it can become. */
static bool make_room(struct walk *walk, uint32_t **shares)
{
    struct jobs *jobs = walk->jobs;
    const size_t n = most_segments(walk->plan), n_shares = (size_t)walk->plan->n_shares + 1;
    const size_t segments = aligned(n * sizeof(struct job_segment)),
                 joins = aligned(n * sizeof(struct job_join)),
                 numbers = aligned(n * sizeof(uint32_t));
    const size_t bytes = segments + joins + 4 * numbers + n_shares * sizeof(uint32_t);
    if (bytes > jobs->scratch_room) {
        void *scratch = malloc(bytes + bytes / 2);
        if (scratch == NULL)
            return false;
        free(jobs->scratch);
        jobs->scratch = scratch;
        jobs->scratch_room = bytes + bytes / 2;
    }
    char *at = jobs->scratch;
    walk->segments = (void *)at;
    walk->joins = (void *)(at += segments);
    walk->pending = (void *)(at += joins);
    walk->merges = (void *)(at += numbers); /* of segments and of joins */
    walk->part_of = (void *)(at += 2 * numbers);
    *shares = (void *)(at + numbers);
    return true;
}

static size_t place(struct jobs *jobs, size_t bytes)
{
    const size_t at = jobs->bytes;
    jobs->bytes = aligned(at + bytes);
    return at;
}

static void place_tables(struct jobs *jobs)
{
    jobs->bytes = 0;
    jobs->outputs_at = place(jobs, jobs->n_outputs * sizeof(struct job_output));
    jobs->segments_at = place(jobs, jobs->n_segments * sizeof(struct job_segment));
    jobs->shares_at = place(jobs, ((size_t)jobs->n_shares + 1) * sizeof(uint32_t));
    jobs->joins_at = place(jobs, jobs->n_joins * sizeof(struct job_join));
    jobs->pending_at = place(jobs, jobs->n_joins * sizeof(uint32_t));
    jobs->merges_at = place(jobs, jobs->n_parts * sizeof(uint32_t));
    jobs->pages_at = place(jobs, jobs->n_pages * sizeof(void *));
}

bool jobs_make(struct jobs *jobs, const struct attend_plan *plan, size_t n_works,
               const struct jobs_costs *costs)
{
    struct walk walk = {.plan = plan, .jobs = jobs, .output = JOBS_NONE};
    uint32_t *shares;
    if (!make_room(&walk, &shares))
        return false;
    jobs->n_outputs = (uint32_t)plan->n_outputs;
    jobs->n_segments = jobs->n_joins = jobs->n_parts = jobs->n_pages = jobs->most_tiles = 0;
    for (size_t i = 0; i < n_works; i++) {
        uint32_t first;
        jobs->n_pages += work_pages(&plan->works[i], plan, &first);
        if (plan->works[i].n_tiles > jobs->most_tiles)
            jobs->most_tiles = plan->works[i].n_tiles;
    }
    jobs->n_shares = 0; /* those that have something */
    for (uint32_t share = 0; share < plan->n_shares; share++) {
        const struct schedule_point from = plan->points[share], to = plan->points[share + 1];
        const uint32_t first_segment = jobs->n_segments;
        if (share == 0)
            walk_unseen(&walk);
        for (uint32_t i = from.output; i < plan->n_outputs && i <= to.output; i++) {
            const uint32_t begin = i == from.output ? from.tile : 0;
            const uint32_t end = i == to.output ? to.tile : plan->lines[i].n_tiles;
            if (begin < end)
                walk_output(&walk, i, begin, end);
        }
        if (jobs->n_segments > first_segment)
            shares[jobs->n_shares++] = first_segment;
    }
    shares[jobs->n_shares] = jobs->n_segments;
    split_shares(&walk, shares, costs);
    for (uint32_t share = 0; share < jobs->n_shares; share++)
        for (uint32_t i = shares[share]; i < shares[share + 1]; i++)
            if (walk.part_of[i] != JOBS_NONE)
                add_part(&walk, i, share);
    end_parts(&walk);
    jobs->segments = walk.segments;
    jobs->joins = walk.joins;
    jobs->pending = walk.pending;
    jobs->merges = walk.merges;
    jobs->shares = shares;
    place_tables(jobs);
    return true;
}

void jobs_pack(const struct jobs *jobs, const struct attend_plan *plan, size_t n_works,
               bool settled, void *block)
{
    char *to = block;
    write_outputs(jobs, plan, n_works, settled, to);
    memcpy(to + jobs->segments_at, jobs->segments, jobs->n_segments * sizeof(*jobs->segments));
    memcpy(to + jobs->shares_at, jobs->shares,
           ((size_t)jobs->n_shares + 1) * sizeof(*jobs->shares));
    memcpy(to + jobs->joins_at, jobs->joins, jobs->n_joins * sizeof(*jobs->joins));
    memcpy(to + jobs->pending_at, jobs->pending, jobs->n_joins * sizeof(*jobs->pending));
    memcpy(to + jobs->merges_at, jobs->merges, jobs->n_parts * sizeof(*jobs->merges));
}

void jobs_starts(const struct jobs *jobs, const void *block, size_t tile_bytes,
                 struct job_start *starts, uint32_t n)
{
    const struct job_output *outputs = (const void *)((const char *)block + jobs->outputs_at);
    const void *const *pages = (const void *)((const char *)block + jobs->pages_at);
    memset(starts, 0, n * sizeof(*starts));
    for (uint32_t i = 0; i < n && i < jobs->n_shares; i++) {
        const struct job_segment *segment = &jobs->segments[jobs->shares[i]];
        const struct job_output *output = &outputs[segment->output];
        const uint32_t first =
            segment->begin > output->visible_from ? segment->begin : output->visible_from;
        uint32_t end = segment->end < output->n_settled ? segment->end : output->n_settled;
        if (first >= end)
            continue;
        const uint32_t at = first - output->page_tile, rest = at % output->page_tiles;
        if (end - first > output->page_tiles - rest)
            end = first + output->page_tiles - rest;
        starts[i].tile =
            (const char *)pages[output->first_page + at / output->page_tiles] + rest * tile_bytes;
        starts[i].n_tiles = end - first;
    }
}

void jobs_clear(struct jobs *jobs)
{
    free(jobs->scratch);
    memset(jobs, 0, sizeof(*jobs));
}
