/* kernels/quant/quantize.h - what the quantizers of blocks and of super-blocks share. */
#ifndef LONGSPAN_KERNELS_QUANT_QUANTIZE_H
#define LONGSPAN_KERNELS_QUANT_QUANTIZE_H

#define QUANTIZE_GREATEST 65504.0f /* a scale's; the greatest half */
#define QUANTIZE_NAN      0x7e00   /* the scale of a block with something that is no number */

/* Of two comparisons, not fmin and fmax: those are calls where they must care for NaN. */
static inline float quantize_clamp(float x, float least, float most)
{
    x = x < most ? x : most;
    return x > least ? x : least;
}

#endif
