/* kernels/attention/tree.h - the one association in which partials are merged, keyed by tile index.
 *
 * A tile is TILE_TOKENS consecutive tokens at a multiple of TILE_TOKENS. A query row at position p
 * has its own tile n = p / TILE_TOKENS (evaluated causally, where the newest tokens are) and n
 * whole tiles before it. The result of the row is defined, for every evaluator, as
 *
 *     merge(F(n), own tile)          F(n) = merge(...merge(merge(D1, D2), D3)..., Dk)
 *
 * where D1 > D2 > ... > Dk are the powers of two that add up to n, as tile intervals from the left
 * (n = 11: [0,8) [8,10) [10,11)), and the value of such an aligned interval is the perfect binary
 * tree over its tiles: value([a, a + 2^j)) = merge(value(left half), value(right half)), and a
 * single tile is evaluated by the tile kernel from nothing. A tile outside a sliding window is the
 * empty partial, which every merge passes through exactly.
 *
 * So whoever holds some tiles can fold them without knowing who holds the rest: it returns the
 * maximal aligned intervals ("nodes") that it holds inside D1..Dk, and one left-folded prefix
 * where it holds D1, D2, ... from tile 0 on. In decode with one holder this is one partial per row.
 * Bits therefore do not depend on lanes, chunks, holders or batch mates.
 *
 * Pure functions, no allocation. Source: LeanAttention, section 4 (associativity of softmax
 * re-scaling); the canonical order is ours (docs/architecture.md, "Same bits"). */
#ifndef LONGSPAN_KERNELS_ATTENTION_TREE_H
#define LONGSPAN_KERNELS_ATTENTION_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TILE_TOKENS = 128,
    TREE_MAX_TILES = 1 << 24,  /* 2^31 tokens */
    TREE_NODES_PER_RANGE = 48, /* more than one range can give: 2 * log2(TREE_MAX_TILES) */
    TREE_MAX_DEPTH = 26,       /* unmerged intervals at a time, with the one just added */
};

/* Tiles [begin, end). */
struct tile_range {
    uint32_t begin, end;
};

/* The nodes that a holder of `ranges` (ascending, disjoint, adjacent ones joined, all inside [0,
 * n)) returns for rows with n whole tiles before their own: ascending, disjoint, covering exactly
 * `ranges`. A node with begin 0 may be a prefix (left fold of D1..Di); any other is an aligned
 * interval. Both sides compute this list, it never travels. Returns the count; writes at most `max`
 * of them (n_ranges * TREE_NODES_PER_RANGE always suffice). */
size_t tree_nodes(uint32_t n, const struct tile_range *ranges, size_t n_ranges,
                  struct tile_range *nodes, size_t max);

/* Tiles in the largest aligned interval that begins at `begin` and does not pass `end`;
 * begin < end. */
uint32_t tree_step(uint32_t begin, uint32_t end);

/* Whether merge(left, right) is a step of the tree over [0, n): two siblings, or the prefix D1..Di
 * and D(i+1). Whoever takes intervals from left to right, and merges the last two as long as they
 * join, evaluates the tree; it then holds at most TREE_MAX_DEPTH intervals. */
bool tree_joins(uint32_t n, struct tile_range left, struct tile_range right);

#endif
