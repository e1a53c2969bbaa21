/* attention_plan.c - cuts segments into runs, and the tiles before them into pieces by source. */
#include "worker/attention_plan.h"

#include "kernels/attention/kv_window.h"
#include "kernels/attention/partial.h"
#include "sys/array.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum status attention_grow(void *items, size_t *capacity, size_t n, size_t bytes,
                           struct error *error)
{
    return array_grow(items, capacity, n, bytes)
               ? STATUS_OK
               : error_set(
                     error, STATUS_NO_MEMORY,
                     "attention: no memory for %zu entries of %zu bytes in the plan of a step; "
                     "use smaller chunks, or fewer sequences at once",
                     n, bytes);
}

enum status attention_plan_open(struct attention_plan *plan,
                                const struct attention_plan_shape *shape, struct error *error)
{
    *plan = (struct attention_plan){.shape = *shape};
    plan->lists = calloc(shape->n_holders + 1, sizeof(*plan->lists));
    plan->held = calloc(shape->n_holders + 1, sizeof(*plan->held));
    if (plan->lists == NULL || plan->held == NULL) {
        attention_plan_close(plan);
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory for %u holders",
                         shape->n_holders);
    }
    attention_plan_reset(plan);
    return STATUS_OK;
}

void attention_plan_close(struct attention_plan *plan)
{
    free(plan->runs);
    free(plan->pieces);
    free(plan->entries);
    free(plan->appends);
    free(plan->ranges);
    free(plan->nodes);
    free(plan->lists);
    free(plan->held);
    memset(plan, 0, sizeof(*plan));
}

void attention_plan_reset(struct attention_plan *plan)
{
    plan->n_runs = plan->n_pieces = plan->n_entries = plan->n_ranges = plan->n_nodes = 0;
    plan->n_appends = 0;
    plan->own_floats = plan->n_pages = plan->n_chunk_tiles = 0;
    for (uint32_t i = 0; i < plan->shape.n_holders; i++)
        plan->lists[i] = (struct attention_plan_list){.first_entry = ATTENTION_NONE,
                                                      .last_entry = ATTENTION_NONE,
                                                      .first_piece = ATTENTION_NONE,
                                                      .last_piece = ATTENTION_NONE};
}

static enum status add_entry(struct attention_plan *plan, uint32_t holder,
                             struct attention_entry entry, struct error *error)
{
    const enum status status = attention_grow(&plan->entries, &plan->entries_capacity,
                                              plan->n_entries + 1, sizeof(*plan->entries), error);
    if (status != STATUS_OK)
        return status;
    struct attention_plan_list *list = &plan->lists[holder];
    const size_t index = plan->n_entries++;
    entry.next = ATTENTION_NONE;
    plan->entries[index] = entry;
    if (list->last_entry == ATTENTION_NONE)
        list->first_entry = index;
    else
        plan->entries[list->last_entry].next = index;
    list->last_entry = index;
    list->n_entries++;
    return STATUS_OK;
}

/* The nodes of `run` over the given ranges; for the own tiles one partial more. */
static enum status add_piece(struct attention_plan *plan, uint32_t run_index, uint32_t source,
                             size_t first_range, size_t n_ranges, struct error *error)
{
    struct attention_run *run = &plan->runs[run_index];
    const size_t most_nodes = n_ranges * TREE_NODES_PER_RANGE;
    enum status status = attention_grow(&plan->pieces, &plan->pieces_capacity, plan->n_pieces + 1,
                                        sizeof(*plan->pieces), error);
    if (status == STATUS_OK)
        status = attention_grow(&plan->nodes, &plan->nodes_capacity, plan->n_nodes + most_nodes,
                                sizeof(*plan->nodes), error);
    if (status != STATUS_OK)
        return status;

    struct attention_piece piece = {.source = source,
                                    .run = run_index,
                                    .first_range = first_range,
                                    .n_ranges = n_ranges,
                                    .first_node = plan->n_nodes,
                                    .next = ATTENTION_NONE};
    if (n_ranges > 0)
        piece.n_nodes = tree_nodes(run->tile, plan->ranges + first_range, n_ranges,
                                   plan->nodes + plan->n_nodes, most_nodes);
    const size_t partials = piece.n_nodes + (source == ATTENTION_OWN);
    piece.head_floats = partials * partial_floats(run->n_rows, plan->shape.head_dim);

    const size_t index = plan->n_pieces++;
    if (source < plan->shape.n_holders && plan->shape.remote[source]) {
        struct attention_plan_list *list = &plan->lists[source];
        if (list->last_piece == ATTENTION_NONE)
            list->first_piece = index;
        else
            plan->pieces[list->last_piece].next = index;
        list->last_piece = index;
    } else {
        piece.offset = plan->own_floats;
        plan->own_floats += piece.head_floats * plan->shape.n_heads;
    }
    plan->n_nodes += piece.n_nodes;
    plan->pieces[index] = piece;
    run->n_pieces++;
    return STATUS_OK;
}

static enum status add_range(struct attention_plan *plan, struct tile_range range,
                             struct error *error)
{
    const enum status status = attention_grow(&plan->ranges, &plan->ranges_capacity,
                                              plan->n_ranges + 1, sizeof(*plan->ranges), error);
    if (status == STATUS_OK)
        plan->ranges[plan->n_ranges++] = range;
    return status;
}

/* The whole_holder's: all tiles before the run's own tile, which that holder has too. */
static enum status plan_whole(struct attention_plan *plan, uint32_t run_index, struct error *error)
{
    const uint32_t tile = plan->runs[run_index].tile;
    const size_t first = plan->n_ranges;
    enum status status = attention_grow(&plan->pieces, &plan->pieces_capacity, plan->n_pieces + 1,
                                        sizeof(*plan->pieces), error);
    if (status == STATUS_OK && tile > 0)
        status = add_range(plan, (struct tile_range){0, tile}, error);
    if (status != STATUS_OK)
        return status;
    plan->pieces[plan->n_pieces++] = (struct attention_piece){.run = run_index,
                                                              .first_range = first,
                                                              .n_ranges = plan->n_ranges - first,
                                                              .next = ATTENTION_NONE};
    plan->runs[run_index].n_pieces = 1;
    return STATUS_OK;
}

/* The pieces of a run, whose part's ranges are planned: `blank` and plan->held. */
static enum status plan_run(struct attention_plan *plan, const struct attention_part *part,
                            uint32_t run_index, const struct attention_plan_held *blank,
                            struct error *error)
{
    struct attention_run *run = &plan->runs[run_index];
    enum status status = STATUS_OK;
    run->first_piece = plan->n_pieces;
    if (plan->shape.whole_holder)
        return plan_whole(plan, run_index, error);
    if (blank->n_ranges > 0)
        status =
            add_piece(plan, run_index, ATTENTION_BLANK, blank->first_range, blank->n_ranges, error);
    for (uint32_t holder = 0; status == STATUS_OK && holder < plan->shape.n_holders; holder++) {
        const struct attention_plan_held *held = &plan->held[holder];
        if (held->n_ranges > 0)
            status = add_piece(plan, run_index, holder, held->first_range, held->n_ranges, error);
    }
    size_t n_own = 0;
    const size_t first_own = plan->n_ranges;
    if (status == STATUS_OK && run->tile > part->first_tile) {
        status = add_range(plan, (struct tile_range){part->first_tile, run->tile}, error);
        n_own = 1;
    }
    return status != STATUS_OK ? status
                               : add_piece(plan, run_index, ATTENTION_OWN, first_own, n_own, error);
}

/* Tiles [begin, end) of a sequence by holder: plan->held. Twice through its spans, however many
 * holders there are: first they are counted, then put behind each other. */
static enum status hold_ranges(struct attention_plan *plan,
                               const struct attention_sequence *sequence, uint32_t begin,
                               uint32_t end, struct error *error)
{
    enum status status =
        attention_grow(&plan->ranges, &plan->ranges_capacity,
                       plan->n_ranges + sequence->n_spans + 1, sizeof(*plan->ranges), error);
    memset(plan->held, 0, plan->shape.n_holders * sizeof(*plan->held));
    if (status != STATUS_OK || begin >= end)
        return status;
    const size_t first = attention_sequence_span_at(sequence, begin * TILE_TOKENS);
    size_t last = first; /* behind those that have some of these tiles */
    while (last < sequence->n_spans && sequence->spans[last].tokens.begin / TILE_TOKENS < end)
        plan->held[sequence->spans[last++].holder].n_ranges++;
    for (uint32_t holder = 0; holder < plan->shape.n_holders; holder++) {
        struct attention_plan_held *held = &plan->held[holder];
        held->first_range = plan->n_ranges;
        plan->n_ranges += held->n_ranges;
        held->n_ranges = 0;
    }
    for (size_t i = first; i < last; i++) {
        const struct attention_span *span = &sequence->spans[i];
        struct attention_plan_held *held = &plan->held[span->holder];
        const uint32_t from = span->tokens.begin / TILE_TOKENS, to = span->tokens.end / TILE_TOKENS;
        plan->ranges[held->first_range + held->n_ranges++] =
            (struct tile_range){from > begin ? from : begin, to < end ? to : end};
    }
    return STATUS_OK;
}

/* Who has which tiles before a part, once for all of its runs: plan->held, and an entry for each
 * remote holder that has some. *blank: tiles that are outside the window of every row of the part.
 * `first_position`: of its first row that asks. */
static enum status plan_ranges(struct attention_plan *plan, const struct attention_part *part,
                               uint32_t index, uint32_t first_position,
                               struct attention_plan_held *blank, struct error *error)
{
    /* the first tile inside that row's window */
    uint32_t visible = kv_window_begin(plan->shape.window, first_position) / TILE_TOKENS;
    if (visible > part->first_tile)
        visible = part->first_tile;

    *blank = (struct attention_plan_held){plan->n_ranges, visible > 0};
    enum status status = STATUS_OK;
    if (visible > 0)
        status = add_range(plan, (struct tile_range){0, visible}, error);
    const uint32_t end = part->first_tile + (plan->shape.whole_holder ? part->n_tiles : 0);
    const uint32_t hole = attention_sequence_uncovered(part->sequence, visible, end);
    if (status == STATUS_OK && hole < end)
        return error_set(error, STATUS_INVALID,
                         "attention: sequence %" PRIu64 " is at token %u, but nobody was named to "
                         "hold its tokens from %u on",
                         part->id, part->position, hole * TILE_TOKENS);

    if (status == STATUS_OK)
        status = hold_ranges(plan, part->sequence, visible, part->first_tile, error);
    for (uint32_t holder = 0; status == STATUS_OK && holder < plan->shape.n_holders; holder++) {
        const struct attention_plan_held *held = &plan->held[holder];
        if (held->n_ranges > 0 && plan->shape.remote[holder])
            status = add_entry(plan, holder,
                               (struct attention_entry){.sequence = part->sequence,
                                                        .part = index,
                                                        .first_range = held->first_range,
                                                        .n_ranges = held->n_ranges},
                               error);
    }
    return status;
}

struct attention_asking attention_plan_asking(const struct attention_plan *plan,
                                              const struct attention_part *part)
{
    if (!plan->shape.needed_only)
        return (struct attention_asking){part->row, part->n_tokens, part->position};
    return (struct attention_asking){part->needed, part->n_needed,
                                     part->position + part->n_tokens - part->n_needed};
}

enum status attention_plan_add(struct attention_plan *plan, struct attention_part *part,
                               uint32_t index, struct error *error)
{
    const uint32_t last = part->position + part->n_tokens - 1;
    part->first_tile = part->position / TILE_TOKENS;
    part->n_tiles = last / TILE_TOKENS - part->first_tile + 1;
    part->first_page = plan->n_pages;
    part->first_chunk = plan->n_chunk_tiles;
    if (!plan->shape.whole_holder) { /* otherwise there are no own tiles */
        plan->n_pages += (size_t)part->n_tiles * plan->shape.n_heads;
        plan->n_chunk_tiles += (size_t)(part->n_tiles - 1) * plan->shape.n_heads;
    }

    const struct attention_asking asking = attention_plan_asking(plan, part);
    if (part->fill || asking.n_tokens == 0)
        return STATUS_OK;

    struct attention_plan_held blank;
    const size_t n_runs = last / TILE_TOKENS - asking.position / TILE_TOKENS + 1;
    enum status status = plan_ranges(plan, part, index, asking.position, &blank, error);
    if (status == STATUS_OK)
        status = attention_grow(&plan->runs, &plan->runs_capacity, plan->n_runs + n_runs,
                                sizeof(*plan->runs), error);
    for (uint32_t position = asking.position; status == STATUS_OK && position <= last;) {
        const uint32_t tile = position / TILE_TOKENS;
        const uint32_t end = tile < last / TILE_TOKENS ? (tile + 1) * TILE_TOKENS : last + 1;
        plan->runs[plan->n_runs++] =
            (struct attention_run){.part = index,
                                   .row = asking.row + (position - asking.position),
                                   .n_tokens = end - position,
                                   .position = position,
                                   .tile = tile,
                                   .n_rows = (size_t)(end - position) * plan->shape.group};
        status = plan_run(plan, part, (uint32_t)(plan->n_runs - 1), &blank, error);
        position = end;
    }
    return status;
}

/* The new tokens of a part by holder: counts them in the holders' lists, or, once there is room for
 * all, adds them there. Returns how many pieces they are. */
static size_t list_appends(struct attention_plan *plan, const struct attention_part *part,
                           uint32_t index, bool add)
{
    const struct attention_sequence *sequence = part->sequence;
    const uint32_t begin = part->position, end = part->position + part->n_tokens;
    size_t n = 0;
    if (part->error.status != STATUS_OK)
        return 0;
    for (size_t i = attention_sequence_span_at(sequence, begin);
         i < sequence->n_spans && sequence->spans[i].tokens.begin < end; i++, n++) {
        struct attention_plan_list *list = &plan->lists[sequence->spans[i].holder];
        struct span tokens = sequence->spans[i].tokens;
        tokens.begin = tokens.begin > begin ? tokens.begin : begin;
        tokens.end = tokens.end < end ? tokens.end : end;
        if (add)
            plan->appends[list->first_append + list->n_appends] =
                (struct attention_plan_append){index, tokens};
        list->n_appends++;
    }
    return n;
}

enum status attention_plan_appends(struct attention_plan *plan, const struct attention_part *parts,
                                   uint32_t n_parts, struct error *error)
{
    plan->n_appends = 0;
    for (uint32_t holder = 0; holder < plan->shape.n_holders; holder++)
        plan->lists[holder].first_append = plan->lists[holder].n_appends = 0;
    for (uint32_t i = 0; i < n_parts; i++)
        plan->n_appends += list_appends(plan, &parts[i], i, false);
    const enum status status = attention_grow(&plan->appends, &plan->appends_capacity,
                                              plan->n_appends, sizeof(*plan->appends), error);
    size_t first = 0;
    for (uint32_t holder = 0; holder < plan->shape.n_holders; holder++) {
        struct attention_plan_list *list = &plan->lists[holder];
        list->first_append = first;
        first += list->n_appends;
        list->n_appends = 0;
    }
    for (uint32_t i = 0; i < n_parts && status == STATUS_OK; i++)
        list_appends(plan, &parts[i], i, true);
    return status;
}

enum status attention_plan_confirm(struct attention_plan *plan, uint32_t holder,
                                   struct attention_sequence *sequence, struct error *error)
{
    return add_entry(plan, holder,
                     (struct attention_entry){.sequence = sequence, .part = ATTENTION_NO_PART},
                     error);
}

bool attention_plan_asks(const struct attention_plan *plan)
{
    for (uint32_t i = 0; i < plan->shape.n_holders; i++)
        if (plan->shape.remote[i] && plan->lists[i].n_entries > 0)
            return true;
    return false;
}

bool attention_plan_sends(const struct attention_plan *plan)
{
    for (uint32_t i = 0; i < plan->shape.n_holders; i++)
        if (plan->shape.remote[i] && plan->lists[i].n_appends > 0)
            return true;
    return false;
}
