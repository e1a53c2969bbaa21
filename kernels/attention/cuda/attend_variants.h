/* kernels/attention/cuda/attend_variants.h - which attention kernel serves a call, in which launch configuration.
 *
 * For one shape there are kernels for few rows and for many. Each can be launched with more or fewer thread
 * blocks to a multiprocessor: the fewer share it, the deeper their pipelines. */
#ifndef LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_VARIANTS_H
#define LONGSPAN_KERNELS_ATTENTION_CUDA_ATTEND_VARIANTS_H

#include "kernels/attention/attend.h"
#include "kernels/attention/cuda/attend_launch.h"
#include "kernels/cuda/device.h"

enum {
    MAX_VARIANTS = 4, /* of one shape */
    BLOCKS_WANTED = 3 /* per multiprocessor, at most */
};

struct config {
    uint32_t n_stages, n_near, shared_bytes; /* n_near: levels of the tree behind the stages */
    uint32_t n_blocks;                       /* that fit on the device at once */
};

struct variant {
    const struct attend_kernel *kernel;
    struct config configs[BLOCKS_WANTED]; /* fewest blocks first */
    uint32_t n_configs;
};

struct variants {
    struct variant all[MAX_VARIANTS]; /* fewest rows first */
    uint32_t n;
};

/* All that have the shape and fit this device: at most n_blocks thread blocks per multiprocessor (up to
 * BLOCKS_WANTED), each with at most n_stages stages. STATUS_UNSUPPORTED: none. */
enum status variants_choose(struct variants *variants, const struct device *device,
                            const struct attend_shape *shape, uint32_t n_blocks, uint32_t n_stages,
                            struct error *error);

/* The one for works of so many rows. */
const struct variant *variants_for(const struct variants *variants, uint32_t n_rows);

/* Thread blocks that are on the device at once, at most. */
uint32_t variant_blocks(const struct variant *variant);

/* The configuration with the deepest pipelines that has a block for each share. */
const struct config *variant_config(const struct variant *variant, uint32_t n_shares);

#endif
