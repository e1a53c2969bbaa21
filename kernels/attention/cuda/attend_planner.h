/* kernels/attention/cuda/attend_planner.h - the plan of a call: its variant, its cuts, its jobs.
 *
 * Layers of a step ask with the same rows of other pages: such a call keeps the plan of the one before. Shares are
 * cut at multiples of a power of two of tiles, the one that by unit_cost's estimate ends first; thread blocks that
 * are left over take part of those shares that would end last. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_PLANNER_H
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_PLANNER_H

#include "kernels/attention/attend_plan.h"
#include "kernels/attention/cuda/attend_jobs.h"
#include "kernels/attention/cuda/attend_variants.h"

/* What a plan was made of, but for pages, q and results. */
struct planned {
    struct attend_work *works; /* with their own ranges */
    struct tile_range *ranges;
    size_t n_works, works_room, ranges_room; /* n_works 0: there is no plan */
    uint32_t n_parts, most_blocks;
    const struct variant *variant;
};

/* Zeros, but for shape, variants and n_multiprocessors. */
struct planner {
    struct attend_shape shape;
    struct variants variants;
    uint32_t n_multiprocessors;
    uint32_t unit;                 /* 0: by unit_cost */
    uint32_t n_parts, most_blocks; /* 0: as they come */
    struct attend_plan plan;
    struct jobs jobs;
    struct planned planned;
};

/* Makes plan, jobs and planned.variant those of these works; plan.works point to them. STATUS_NO_MEMORY. */
enum status attend_planner_plan(struct planner *planner, const struct attend_work *works,
                                size_t n_works, struct error *error);

/* Frees what attend_planner_plan took. */
void attend_planner_clear(struct planner *planner);

#endif
