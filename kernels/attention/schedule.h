/* kernels/attention/schedule.h - the lean schedule: equal shares of one line of tiles.
 *
 * All tiles of all outputs form one line: output by output, tile by tile. A tile of output i costs
 * `cost[i]` (its query rows, so that prefill and decode mix). The line is cut into contiguous
 * shares that are equal up to one unit: an aligned block of `unit_tiles` tiles (a power of two) of
 * one output. A share may begin and end inside an output: LeanAttention, section 4.3 (stream-K,
 * Osama et al. 2023). Lanes are not equally fast at every moment (a host that lends processors to
 * others, two kinds of cores), so shares can be taken in turns that become smaller: who is behind
 * then takes fewer of the last ones (guided self-scheduling, Polychronopoulos and Kuck 1987).
 * Pure C, no device, no allocation: any device can walk the same shares. */
#ifndef LONGSPAN_KERNELS_ATTENTION_SCHEDULE_H
#define LONGSPAN_KERNELS_ATTENTION_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

/* One output: a row block of a work. Its tiles, numbered 0..n_tiles-1 here. */
struct schedule_output {
    uint32_t n_tiles;
    uint32_t cost; /* of one tile, > 0; any unit */
};

/* A place on the line: before tile `tile` of output `output`. */
struct schedule_point {
    uint32_t output, tile;
};

enum { SCHEDULE_MOST_TURNS = 7 };

/* Cuts the line into n_turns * n_lanes shares (n_turns: 1 to SCHEDULE_MOST_TURNS): share i goes
 * from points[i] to points[i + 1]. The n_lanes shares of a turn are equal. One turn is everything;
 * of several, the first is three quarters of the line, each further one half of what is left, and
 * the last all of it. points[0] is the line's beginning, points[n_turns * n_lanes] is {n_outputs,
 * 0}. A cut inside an output is at a multiple of unit_tiles. Outputs without tiles are passed
 * over. */
void schedule_cut(const struct schedule_output *outputs, size_t n_outputs, uint32_t unit_tiles,
                  uint32_t n_lanes, uint32_t n_turns, struct schedule_point *points);

/* The fixed split that lean schedules are compared with: every output is cut in n_parts parts
 * (fewer where it has fewer tiles), equal up to one tile, whatever its length and the number of
 * lanes (FlashDecoding; LeanAttention, section 3). Writes points[0 .. n], share i is [points[i],
 * points[i + 1]), and returns n; points NULL: only counts. */
size_t schedule_fixed(const struct schedule_output *outputs, size_t n_outputs, uint32_t n_parts,
                      struct schedule_point *points);

#endif
