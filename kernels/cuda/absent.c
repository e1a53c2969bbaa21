/* absent.c - the tables of a build without CUDA: they say so. */
#include "kernels/kernels.h"

static bool usable(void)
{
    return false;
}

static uint32_t count(struct error *error)
{
    error_set(error, STATUS_UNSUPPORTED,
              "this build has no CUDA: `make` adds it where nvcc is found");
    return 0;
}

static enum status open_nothing(struct device **device, struct thread_pool *pool, uint32_t index,
                                struct error *error)
{
    (void)device;
    (void)pool;
    (void)index;
    count(error);
    return STATUS_UNSUPPORTED;
}

const struct kernels kernels_cuda = {.device = "cuda",
                                     .name = "cuda",
                                     .attention = "cuda",
                                     .usable = usable,
                                     .count = count,
                                     .open = open_nothing};

const struct kernels kernels_cuda_blas = {.device = "cuda",
                                          .name = "cuda-blas",
                                          .attention = "cuda",
                                          .usable = usable,
                                          .count = count,
                                          .open = open_nothing};
