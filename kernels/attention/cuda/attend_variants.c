/* attend_variants.c - how often a kernel fits a multiprocessor, and with which pipeline. */
#include "kernels/attention/cuda/attend_variants.h"

#include "kernels/attention/cuda/attend_tile.h"

enum {
    STAGES_WANTED = 5,   /* with more than one block on a multiprocessor */
    BLOCK_RESERVE = 1024 /* shared memory that the system takes of each block's */
};

/* With so many blocks on a multiprocessor; false: they do not fit. */
static bool fit_blocks(const struct device *device, const struct attend_kernel *kernel, int blocks,
                       uint32_t most_stages, struct config *config, cudaError_t *result)
{
    int most_per_block = 0, per_multiprocessor = 0, n_blocks = 0;
    *result = cudaDeviceGetAttribute(&most_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                     device->index);
    if (*result == cudaSuccess)
        *result = cudaDeviceGetAttribute(
            &per_multiprocessor, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device->index);
    if (*result != cudaSuccess)
        return false;
    *config = (struct config){.shared_bytes = kernel->fixed_bytes};
    if (kernel->stage_bytes > 0) {
        int bytes = per_multiprocessor / blocks - BLOCK_RESERVE;
        bytes = bytes < most_per_block ? bytes : most_per_block;
        const int wanted = blocks > 1 ? STAGES_WANTED : TILE_PIECES; /* rather than near levels */
        const int least = blocks > 1 ? STAGES_WANTED : LEAST_STAGES;
        int stages = 0;
        for (int near = (int)kernel->near_levels; near >= 0 && stages < wanted; near--) {
            const int levels = near * (int)kernel->partial_bytes;
            stages = (bytes - (int)kernel->fixed_bytes - levels) / (int)kernel->stage_bytes;
            config->n_near = (uint32_t)near;
        }
        if (stages < least)
            return false;
        config->n_stages = (uint32_t)stages < most_stages ? (uint32_t)stages : most_stages;
        config->shared_bytes +=
            config->n_stages * kernel->stage_bytes + config->n_near * kernel->partial_bytes;
    }
    /* Not only as much as this one: others may be launched by other configurations. */
    *result = cudaFuncSetAttribute(kernel->function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   kernel->stage_bytes > 0 ? most_per_block : 0);
    if (*result == cudaSuccess)
        *result = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
            &n_blocks, kernel->function, (int)kernel->threads, config->shared_bytes);
    if (*result != cudaSuccess)
        (void)cudaGetLastError();
    n_blocks = n_blocks < BLOCKS_WANTED ? n_blocks : BLOCKS_WANTED;
    config->n_blocks = (uint32_t)(n_blocks * device->n_multiprocessors);
    return *result == cudaSuccess && n_blocks > 0;
}

static bool fit(struct variant *variant, const struct device *device, uint32_t n_blocks,
                uint32_t n_stages, struct error *error)
{
    const struct attend_kernel *kernel = variant->kernel;
    const int most = kernel->stage_bytes > 0 ? (int)n_blocks : 1;
    cudaError_t result =
        cudaFuncSetAttribute(kernel->function, cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared);
    struct config found[BLOCKS_WANTED];
    uint32_t n = 0;
    for (int blocks = most; blocks > 0 && result == cudaSuccess; blocks--) {
        struct config config;
        if (!fit_blocks(device, kernel, blocks, n_stages, &config, &result))
            continue;
        if (n > 0 && config.n_blocks == found[n - 1].n_blocks)
            n--; /* registers leave no more than these, which are deeper */
        found[n++] = config;
    }
    for (uint32_t i = 0; i < n; i++)
        variant->configs[i] = found[n - 1 - i];
    variant->n_configs = n;
    if (n == 0)
        (void)cuda_error(error, result, "attention's kernel");
    return n > 0;
}

enum status variants_choose(struct variants *variants, const struct device *device,
                            const struct attend_shape *shape, uint32_t n_blocks, uint32_t n_stages,
                            struct error *error)
{
    static const struct attend_kernel *(*const lists[KV_TYPES])(size_t * n) = {
        [KV_F16] = attend_kernels_f16,
        [KV_BF16] = attend_kernels_bf16,
        [KV_Q8_0] = attend_kernels_q8_0,
    };
    struct error why = {0};
    variants->n = 0;
    for (int any = lists[shape->type] == NULL; any < 2 && variants->n == 0; any++) {
        size_t n = 0;
        const struct attend_kernel *kernels = any ? attend_kernels_any(&n) : lists[shape->type](&n);
        for (size_t i = 0; i < n && variants->n < MAX_VARIANTS; i++) {
            struct variant *variant = &variants->all[variants->n];
            variant->kernel = &kernels[i];
            if (any || kernels[i].head_dim == shape->head_dim)
                variants->n += fit(variant, device, n_blocks, n_stages, &why);
        }
    }
    return variants->n > 0 ? STATUS_OK
                           : error_set(error, STATUS_UNSUPPORTED,
                                       "attention: this GPU cannot run it: %s", why.text);
}

const struct variant *variants_for(const struct variants *variants, uint32_t n_rows)
{
    uint32_t i = 0;
    while (i + 1 < variants->n && variants->all[i].kernel->rows < n_rows)
        i++;
    return &variants->all[i];
}

uint32_t variant_blocks(const struct variant *variant)
{
    return variant->configs[variant->n_configs - 1].n_blocks;
}

const struct config *variant_config(const struct variant *variant, uint32_t n_shares)
{
    uint32_t i = 0;
    while (i + 1 < variant->n_configs && variant->configs[i].n_blocks < n_shares)
        i++;
    return &variant->configs[i];
}
