/* kernels/cuda/product.cuh - what products of blocks and of floats share: loading, and which kernel.
 *
 * A `Terms` type says how a warp makes a part of a span's sum; narrow.cuh and wide.cuh say which warp
 * makes which, and add the sums up, always in the same order. In both, acc is a fragment: outputs
 * lane / 4 and lane / 4 + 8, rows 2 (lane % 4) and one more. */
#ifndef LONGSPAN_KERNELS_CUDA_PRODUCT_CUH
#define LONGSPAN_KERNELS_CUDA_PRODUCT_CUH

#include "kernels/cuda/narrow.cuh"
#include "kernels/cuda/wide.cuh"

template <class Terms>
void launch(struct device *device, const struct cuda_product *p)
{
    if constexpr (Terms::SINGLE)
        if (p->n_rows == 1) {
            launch_narrow<Terms, 1>(device, p);
            return;
        }
    if (p->n_rows <= ROW_TILE)
        launch_narrow<Terms, ROW_TILE>(device, p);
    else if (p->n_rows <= 2 * ROW_TILE)
        launch_narrow<Terms, 2 * ROW_TILE>(device, p);
    else if (p->n_rows <= NARROW_ROWS)
        launch_narrow<Terms, NARROW_ROWS>(device, p);
    else
        launch_wide<Terms>(device, p);
}

#endif
