/* tile_dotprod.c - the same, with products of bytes by sdot. */
#include "kernels/attention/tile_neon.h"

const struct tile_kernels tile_kernels_dotprod = {
    .name = "dotprod",
    .attend = simd_attend,
    .merge = simd_merge,
    .merge_four = simd_merge_four,
};
