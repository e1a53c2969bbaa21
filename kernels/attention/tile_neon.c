/* tile_neon.c - the tile kernel of every 64-bit ARM processor. */
#include "kernels/attention/tile_neon.h"

const struct tile_kernels tile_kernels_neon = {
    .name = "neon",
    .attend = simd_attend,
    .merge = simd_merge,
    .merge_four = simd_merge_four,
};
