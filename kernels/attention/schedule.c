/* schedule.c - one walk along the line, placing each cut at the first unit boundary not before it.
 */
#include "kernels/attention/schedule.h"

/* Tiles of `output` up to the first boundary whose cost reaches `cost`. */
static uint32_t boundary(const struct schedule_output *output, uint32_t unit_tiles, uint64_t cost)
{
    const uint64_t tiles = (cost + output->cost - 1) / output->cost;
    const uint64_t units = (tiles + unit_tiles - 1) / unit_tiles;
    return units * unit_tiles < output->n_tiles ? (uint32_t)(units * unit_tiles) : output->n_tiles;
}

void schedule_cut(const struct schedule_output *outputs, size_t n_outputs, uint32_t unit_tiles,
                  uint32_t n_lanes, struct schedule_point *points)
{
    uint64_t total = 0;
    for (size_t i = 0; i < n_outputs; i++)
        total += (uint64_t)outputs[i].n_tiles * outputs[i].cost;

    size_t output = 0;
    uint64_t before = 0; /* cost of the outputs before `output` */
    for (uint32_t lane = 0; lane < n_lanes; lane++) {
        /* total * lane / n_lanes, rounded down, without overflow */
        const uint64_t target = total / n_lanes * lane + total % n_lanes * lane / n_lanes;
        uint64_t here;
        while (output < n_outputs &&
               before + (here = (uint64_t)outputs[output].n_tiles * outputs[output].cost) <=
                   target) {
            before += here;
            output++;
        }
        points[lane] = (struct schedule_point){(uint32_t)output, 0};
        if (output == n_outputs || target <= before)
            continue;
        points[lane].tile = boundary(&outputs[output], unit_tiles, target - before);
        if (points[lane].tile == outputs[output].n_tiles)
            points[lane] = (struct schedule_point){(uint32_t)output + 1, 0};
    }
    points[n_lanes] = (struct schedule_point){(uint32_t)n_outputs, 0};
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
