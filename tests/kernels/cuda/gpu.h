/* tests/kernels/cuda/gpu.h - the GPU of a program's tests. */
#ifndef LONGSPAN_TESTS_KERNELS_CUDA_GPU_H
#define LONGSPAN_TESTS_KERNELS_CUDA_GPU_H

#include "kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>

/* Opens the first one. Without a GPU the program says so and skips. */
static inline struct device *gpu_open(void)
{
    struct device *device;
    struct error error = {0};
    if (kernels_cuda.count(&error) == 0) {
        fprintf(stderr, "skipped: %s\n", error.text);
        exit(77);
    }
    if (kernels_cuda.open(&device, NULL, 0, &error) != STATUS_OK) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    return device;
}

#endif
