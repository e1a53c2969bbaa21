/* kernels/attention/attend_plan.h - who evaluates what: the works of one call as lanes' shares.
 *
 * For attend.c only. A work's rows are cut in row blocks; a work and a row block make an *output*.
 * The line of an output is: the tiles of its nodes, left to right, without those before the first
 * row's window; then its own tile. schedule_cut (or schedule_fixed) cuts the line of all outputs. A
 * cut inside a node splits the node into parts, which are nodes of the tree themselves: lanes write
 * them to the plan's memory, and whoever is the last to arrive merges them into the node. */
#ifndef LONGSPAN_KERNELS_ATTENTION_ATTEND_PLAN_H
#define LONGSPAN_KERNELS_ATTENTION_ATTEND_PLAN_H

#include "kernels/attention/attend.h"
#include "kernels/attention/schedule.h"
#include "kernels/attention/tile.h"

#include <stdatomic.h>

enum {
    ATTEND_UNIT_TILES = 4, /* of a cut: 512 tokens, some 10 us of work */
    ATTEND_TURNS = SCHEDULE_MOST_TURNS,
};
#define ATTEND_NO_SPLIT UINT32_MAX

struct plan_work {
    const struct attend_work *work;
    uint32_t n_rows, n_tiles; /* n_tiles: whole tiles before the own tile */
    uint32_t visible_from;    /* the first tile that any row sees */
    size_t first_node, n_nodes;
    size_t final_at; /* a work with final_out: its partials' place in final_memory */
};

struct plan_output {
    uint32_t work, row_begin, row_end;
};

struct plan_part {
    struct tile_range range;
    size_t at; /* floats into part_memory; a partial of the output's rows */
};

struct plan_split {
    uint32_t output;
    size_t node, first_part, n_parts;
    uint32_t n_shares; /* lanes that take part */
};

struct attend_plan {
    struct plan_work *works;
    struct tile_range *nodes; /* of all works */
    struct plan_output *outputs;
    struct schedule_output *lines; /* of `outputs` */
    struct schedule_point *points; /* [n_shares + 1] */
    uint32_t *split_at;            /* [n_shares + 1]: the split that points[i] makes, or NO_SPLIT */
    struct plan_split *splits;
    atomic_uint *pending; /* [split]: shares that have not arrived */
    struct plan_part *parts;
    float *part_memory;  /* 64-byte aligned */
    float *final_memory; /* likewise: partials of the works that have final_out */
    size_t n_nodes, n_outputs, n_splits, n_parts, n_final_floats;
    uint32_t n_shares;      /* pieces of the line */
    atomic_uint next_share; /* the next one that a lane takes */
    size_t works_room, nodes_room, outputs_room, lines_room, points_room, split_at_room,
        splits_room, pending_room, parts_room, part_memory_room, final_memory_room;
};

/* How the line is cut: in lean shares for n_lanes lanes, in n_turns turns, at multiples of
 * unit_tiles, or each output in n_parts parts where that is not 0. Outputs have block_rows rows at
 * most. */
struct attend_cut {
    uint32_t n_lanes, n_turns, n_parts, unit_tiles, block_rows;
};

/* Works, nodes, outputs, lines and points only: no splits, no memory for partials. Reads no memory
 * but the works' own. STATUS_NO_MEMORY only. */
enum status attend_plan_cut(struct attend_plan *plan, const struct attend_shape *shape,
                            const struct attend_work *works, size_t n_works, struct attend_cut cut,
                            struct error *error);

/* All of it. Nodes that no row sees a tile of are cleared here. STATUS_NO_MEMORY only. */
enum status attend_plan_make(struct attend_plan *plan, const struct attend_shape *shape,
                             const struct attend_work *works, size_t n_works, struct attend_cut cut,
                             struct error *error);

/* Frees what the plan holds. */
void attend_plan_clear(struct attend_plan *plan);

/* Tiles of a node on the line, and the first of them (its end when there is none). */
uint32_t plan_visible(const struct plan_work *work, struct tile_range node, uint32_t *first);

/* The partials of a work: its `out`, or final_memory. */
float *plan_partials(const struct attend_plan *plan, const struct plan_work *work);

/* The partial of node `node` (counted within its work; n_nodes: the own tile) of an output's rows,
 * among them. */
struct tile_partial plan_out(const struct attend_plan *plan, const struct attend_shape *shape,
                             const struct plan_output *output, size_t node);

#endif
