/* kernels/cuda/narrow.h - how a product of few rows is spread over a GPU: blocks, warps, stages of their rings.
 *
 * Small blocks where there are many panels, larger ones where there are few, so that there are as many warps as
 * are wanted; and as deep rings as leave room for what the next product can have on its way before it
 * begins (narrow.cuh). A block has half of a multiprocessor's warps and of its shared memory at most, and as many
 * blocks are planned as can be there together: with one more, most of the GPU would wait for its end.
 *
 * Plain C as well as CUDA: tests go through it on the host. */
#ifndef LONGSPAN_KERNELS_CUDA_NARROW_H
#define LONGSPAN_KERNELS_CUDA_NARROW_H

#include "kernels/cuda/panel.h"

enum {
    NARROW_LEAST = 128, /* threads of a block: one for each output of a panel and row of a tile */
    NARROW_WARPS = 16,  /* of a product on a multiprocessor, at most */
    NARROW_WARPS_LEAN =
        28, /* where a thread needs few registers; and then in percent of its memory: */
    NARROW_SHARE_LEAN = 70,
    NARROW_THREADS = NARROW_WARPS / 2 * CUDA_LANES, /* of a block at most */
    NARROW_LEAN_THREADS = NARROW_WARPS_LEAN / 2 * CUDA_LANES,
    NARROW_STAGES = 6,      /* of a ring at most */
    NARROW_SUMS = 32,       /* spans times tiles whose sums are in shared memory at once */
    NARROW_RESERVED = 1024, /* of shared memory, by the system for each block */
    TILE_SUMS = ROW_TILE * PANEL_OUTPUTS,
};

struct narrow_product {
    uint32_t n_panels, n_spans, n_segments;
    uint32_t n_tiles; /* of rows */
    bool lean;        /* a thread needs few registers */
    uint32_t n_warps; /* that a multiprocessor has registers for */
    size_t stage_bytes;
};

struct narrow_spread {
    uint32_t n_blocks, n_warps, n_stages;
    uint32_t round_spans; /* whose sums are in shared memory at once: some turns of all warps */
    size_t shared_bytes;
};

/* Of shared memory, with what the system takes. */
static inline size_t narrow_bytes(const struct narrow_product *p, const struct narrow_spread *s)
{
    uint32_t n_levels = 2; /* a segment's sum, and what waits */
    while (p->n_segments >> (n_levels - 1) > 0)
        n_levels++;
    return s->n_stages * s->n_warps * p->stage_bytes +
           (size_t)(s->round_spans + n_levels) * p->n_tiles * TILE_SUMS * sizeof(float) +
           NARROW_RESERVED;
}

/* shared_bytes: of a multiprocessor. */
static inline struct narrow_spread narrow_spread(const struct narrow_product *p,
                                                 uint32_t n_multiprocessors, size_t shared_bytes)
{
    const uint32_t least = NARROW_LEAST / CUDA_LANES;
    const uint32_t aim = p->lean ? NARROW_WARPS_LEAN : NARROW_WARPS;
    const uint32_t of_sm = p->n_warps < aim ? p->n_warps : aim; /* warps */
    const uint32_t most = of_sm / 2 > least ? of_sm / 2 : least;
    const size_t room = shared_bytes * (p->lean ? NARROW_SHARE_LEAN : 100) / 100;
    const size_t of_block = shared_bytes / 2;
    struct narrow_spread s;
    s.n_stages = 1;
    uint32_t wanted = (of_sm * n_multiprocessors + p->n_panels - 1) / p->n_panels;
    wanted = wanted < least ? least : wanted > most ? most : wanted;
    uint32_t turns;
    do { /* a small multiprocessor has no room for the stages of so many */
        turns = (p->n_spans + wanted - 1) / wanted;
        s.n_warps = (p->n_spans + turns - 1) / turns;
        s.n_warps = s.n_warps < least ? least : s.n_warps;
        s.round_spans = s.n_warps;
        wanted = s.n_warps - 1;
    } while (s.n_warps > least && narrow_bytes(p, &s) > of_block);
    const uint32_t fit = NARROW_SUMS / p->n_tiles / s.n_warps;
    for (uint32_t n = fit < turns ? fit : turns; n > 1; n--) {
        s.round_spans = n * s.n_warps;
        if (narrow_bytes(p, &s) <= of_block)
            break;
        s.round_spans = s.n_warps;
    }
    uint32_t per_sm = of_sm / s.n_warps > 0 ? of_sm / s.n_warps : 1; /* blocks */
    while (per_sm > 1 && narrow_bytes(p, &s) * per_sm > shared_bytes)
        per_sm--;
    if (p->n_panels < per_sm * n_multiprocessors)
        per_sm = (p->n_panels + n_multiprocessors - 1) / n_multiprocessors;
    s.n_stages = NARROW_STAGES;
    while (s.n_stages > 1 &&
           (narrow_bytes(p, &s) * per_sm > room || narrow_bytes(p, &s) > of_block))
        s.n_stages--;
    s.n_blocks =
        p->n_panels < per_sm * n_multiprocessors ? p->n_panels : per_sm * n_multiprocessors;
    s.shared_bytes = narrow_bytes(p, &s) - NARROW_RESERVED;
    return s;
}

#endif
