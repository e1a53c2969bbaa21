/* schedule.c - one walk along the line, which cuts at the first unit boundary not before each
 * target. */
#include "kernels/attention/schedule.h"

/* Parts of the line; the smallest turn is one of them. */
enum { WHOLE = 4 << (SCHEDULE_MOST_TURNS - 2) };

/* Tiles of `output` up to the first boundary whose cost reaches `cost`. */
static uint32_t boundary(const struct schedule_output *output, uint32_t unit_tiles, uint64_t cost)
{
    const uint64_t tiles = (cost + output->cost - 1) / output->cost;
    const uint64_t units = (tiles + unit_tiles - 1) / unit_tiles;
    return units * unit_tiles < output->n_tiles ? (uint32_t)(units * unit_tiles) : output->n_tiles;
}

/* What is before turn `turn`, in parts of WHOLE. */
static uint32_t before_turn(uint32_t turn, uint32_t n_turns)
{
    return turn == 0 ? 0 : turn == n_turns ? WHOLE : WHOLE - (WHOLE / 4 >> (turn - 1));
}

/* The cost that is before share `share`, rounded down, without overflow. */
static uint64_t before_share(uint64_t total, uint32_t share, uint32_t n_lanes, uint32_t n_turns)
{
    const uint32_t turn = share / n_lanes, from = before_turn(turn, n_turns);
    const uint64_t width = before_turn(turn + 1, n_turns) - from;
    const uint64_t part = (uint64_t)from * n_lanes + width * (share % n_lanes);
    const uint64_t all = (uint64_t)WHOLE * n_lanes;
    return total / all * part + total % all * part / all;
}

void schedule_cut(const struct schedule_output *outputs, size_t n_outputs, uint32_t unit_tiles,
                  uint32_t n_lanes, uint32_t n_turns, struct schedule_point *points)
{
    uint64_t total = 0;
    for (size_t i = 0; i < n_outputs; i++)
        total += (uint64_t)outputs[i].n_tiles * outputs[i].cost;

    size_t output = 0;
    uint64_t before = 0; /* cost of the outputs before `output` */
    for (uint32_t share = 0; share < n_turns * n_lanes; share++) {
        const uint64_t target = before_share(total, share, n_lanes, n_turns);
        uint64_t here;
        while (output < n_outputs &&
               before + (here = (uint64_t)outputs[output].n_tiles * outputs[output].cost) <=
                   target) {
            before += here;
            output++;
        }
        points[share] = (struct schedule_point){(uint32_t)output, 0};
        if (output == n_outputs || target <= before)
            continue;
        points[share].tile = boundary(&outputs[output], unit_tiles, target - before);
        if (points[share].tile == outputs[output].n_tiles)
            points[share] = (struct schedule_point){(uint32_t)output + 1, 0};
    }
    points[n_turns * n_lanes] = (struct schedule_point){(uint32_t)n_outputs, 0};
}

size_t schedule_fixed(const struct schedule_output *outputs, size_t n_outputs, uint32_t n_parts,
                      struct schedule_point *points)
{
    size_t n = 0;
    for (size_t i = 0; i < n_outputs; i++) {
        const uint32_t n_tiles = outputs[i].n_tiles, parts = n_parts < n_tiles ? n_parts : n_tiles;
        for (uint32_t part = 0; part < parts; part++, n++)
            if (points != NULL)
                points[n] = (struct schedule_point){(uint32_t)i,
                                                    (uint32_t)((uint64_t)n_tiles * part / parts)};
    }
    if (points != NULL)
        points[n] = (struct schedule_point){(uint32_t)n_outputs, 0};
    return n;
}
