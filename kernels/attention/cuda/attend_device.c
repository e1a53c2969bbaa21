/* attend_device.c - the executor on a GPU: plans on the host, one copy and one launch per call.
 *
 * The tables of a call (attend_jobs.h) go through pinned memory that is used in turn, so that the host can
 * be some calls ahead of the device. On the device there is one set: a call's copy waits in the
 * stream for the kernel before it. */
#include "kernels/attention/cuda/attend_device.h"

#include "kernels/attention/attend_plan.h"
#include "kernels/attention/cuda/attend_launch.h"
#include "kernels/cuda/device.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_VARIANTS = 4,  /* of one shape */
    BLOCKS_WANTED = 3, /* per multiprocessor */
    STAGES_WANTED = 5, /* with more than one block there */
    STAGES_NEEDED = 4, /* a tile's pieces: the two of K leave before those of V are wanted */
    STAGES_MOST = 16,
    BLOCK_RESERVE = 1024, /* shared memory that the system takes of each block's */
    N_STAGINGS = 4,
    UNITS_PER_SHARE = 64 /* how fine a line is cut, at most */
};

/* A kernel as it is launched on this device. */
struct variant {
    const struct attend_kernel *kernel;
    uint32_t n_stages, shared_bytes, n_blocks; /* n_blocks: that fit on the device at once */
};

/* Pinned memory. */
struct staging {
    void *memory;
    size_t room;
    cudaEvent_t read; /* the device has read it */
};

struct cuda_attend {
    struct device *device;
    struct attend_shape shape;
    struct variant variants[MAX_VARIANTS]; /* fewest rows first */
    uint32_t n_variants;
    uint32_t n_parts, most_blocks; /* 0: as they come */
    bool any_order;
    struct attend_plan plan;
    struct jobs jobs;
    struct staging stagings[N_STAGINGS];
    uint32_t next_staging;
    void *tables, *parts, *levels; /* on the device */
    size_t tables_room, parts_room, levels_room;
};

/* The most stages, and blocks, that shared memory allows; false: not even one block. */
static bool fit(struct variant *variant, const struct device *device, struct error *error)
{
    const struct attend_kernel *kernel = variant->kernel;
    int most_per_block = 0, per_multiprocessor = 0, n_blocks = 0;
    cudaDeviceGetAttribute(&most_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, device->index);
    cudaDeviceGetAttribute(&per_multiprocessor, cudaDevAttrMaxSharedMemoryPerMultiprocessor,
                           device->index);
    variant->n_stages = 0;
    variant->shared_bytes = kernel->fixed_bytes;
    for (int blocks = BLOCKS_WANTED; blocks > 0 && kernel->stage_bytes > 0; blocks--) {
        int bytes = per_multiprocessor / blocks - BLOCK_RESERVE;
        bytes = bytes < most_per_block ? bytes : most_per_block;
        const int stages = (bytes - (int)kernel->fixed_bytes) / (int)kernel->stage_bytes;
        if (stages < (blocks > 1 ? STAGES_WANTED : STAGES_NEEDED))
            continue;
        variant->n_stages = stages < STAGES_MOST ? (uint32_t)stages : STAGES_MOST;
        break;
    }
    if (kernel->stage_bytes > 0 && variant->n_stages == 0)
        return false;
    variant->shared_bytes += variant->n_stages * kernel->stage_bytes;
    cudaError_t result = cudaFuncSetAttribute(
        kernel->function, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)variant->shared_bytes);
    if (result == cudaSuccess)
        result =
            cudaFuncSetAttribute(kernel->function, cudaFuncAttributePreferredSharedMemoryCarveout,
                                 cudaSharedmemCarveoutMaxShared);
    if (result == cudaSuccess)
        result = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
            &n_blocks, kernel->function, (int)kernel->threads, variant->shared_bytes);
    if (result != cudaSuccess || n_blocks == 0) {
        (void)cudaGetLastError();
        (void)cuda_error(error, result, "attention's kernel");
        return false;
    }
    variant->n_blocks = (uint32_t)(n_blocks * device->n_multiprocessors);
    return true;
}

/* The variants of one list that have the shape and fit. */
static void add_variants(struct cuda_attend *attend, const struct attend_kernel *kernels, size_t n,
                         bool any, struct error *error)
{
    for (size_t i = 0; i < n && attend->n_variants < MAX_VARIANTS; i++) {
        struct variant *variant = &attend->variants[attend->n_variants];
        variant->kernel = &kernels[i];
        if (!any && kernels[i].head_dim != attend->shape.head_dim)
            continue;
        attend->n_variants += fit(variant, attend->device, error);
    }
}

static enum status choose_variants(struct cuda_attend *attend, struct error *error)
{
    static const struct attend_kernel *(*const lists[KV_TYPES])(size_t * n) = {
        [KV_F16] = attend_kernels_f16,
        [KV_BF16] = attend_kernels_bf16,
        [KV_Q8_0] = attend_kernels_q8_0,
    };
    struct error why = {0};
    size_t n = 0;
    if (lists[attend->shape.type] != NULL) {
        const struct attend_kernel *kernels = lists[attend->shape.type](&n);
        add_variants(attend, kernels, n, false, &why);
    }
    if (attend->n_variants == 0) {
        const struct attend_kernel *kernels = attend_kernels_any(&n);
        add_variants(attend, kernels, n, true, &why);
    }
    return attend->n_variants > 0 ? STATUS_OK
                                  : error_set(error, STATUS_UNSUPPORTED,
                                              "attention: this GPU cannot run it: %s", why.text);
}

static void destroy(void *state)
{
    struct cuda_attend *attend = state;
    if (attend == NULL)
        return;
    struct device *device = attend->device;
    (void)cudaStreamSynchronize(device->stream);
    for (uint32_t i = 0; i < N_STAGINGS; i++) {
        cuda_host_give(device, attend->stagings[i].memory);
        if (attend->stagings[i].read != NULL)
            (void)cudaEventDestroy(attend->stagings[i].read);
    }
    cuda_memory_give(device, attend->tables);
    cuda_memory_give(device, attend->parts);
    cuda_memory_give(device, attend->levels);
    attend_plan_clear(&attend->plan);
    jobs_clear(&attend->jobs);
    free(attend);
}

static enum status create(void **state, struct device *device, const struct attend_shape *shape,
                          struct error *error)
{
    struct cuda_attend *attend = calloc(1, sizeof(*attend));
    if (attend == NULL)
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory");
    attend->device = device;
    attend->shape = *shape;
    enum status status = choose_variants(attend, error);
    for (uint32_t i = 0; i < N_STAGINGS && status == STATUS_OK; i++) {
        const cudaError_t result =
            cudaEventCreateWithFlags(&attend->stagings[i].read, cudaEventDisableTiming);
        if (result != cudaSuccess)
            status = cuda_error(error, result, "an event");
    }
    if (status != STATUS_OK) {
        destroy(attend);
        return status;
    }
    *state = attend;
    return STATUS_OK;
}

static void set_parts(void *state, uint32_t n_parts)
{
    ((struct cuda_attend *)state)->n_parts = n_parts;
}

static void set_any_order(void *state, bool any_order)
{
    ((struct cuda_attend *)state)->any_order = any_order;
}

static void set_lanes(void *state, uint32_t n_lanes)
{
    ((struct cuda_attend *)state)->most_blocks = n_lanes;
}

/* The variant for works of so many rows. */
static const struct variant *variant_for(const struct cuda_attend *attend, uint32_t n_rows)
{
    uint32_t i = 0;
    while (i + 1 < attend->n_variants && attend->variants[i].kernel->rows < n_rows)
        i++;
    return &attend->variants[i];
}

/* Plans the call for so many blocks; *n_blocks becomes those that have something to do. */
static enum status make_plan(struct cuda_attend *attend, const struct variant *variant,
                             const struct attend_work *works, size_t n_works, uint32_t *n_blocks,
                             struct error *error)
{
    uint64_t n_tiles = 0;
    for (size_t i = 0; i < n_works; i++) {
        const uint32_t n_rows = works[i].n_tokens * attend->shape.group;
        uint64_t tiles = works[i].own_tile;
        for (uint32_t range = 0; range < works[i].n_ranges; range++)
            tiles += works[i].ranges[range].end - works[i].ranges[range].begin;
        n_tiles += tiles * ((n_rows + variant->kernel->rows - 1) / variant->kernel->rows);
    }
    *n_blocks = variant->n_blocks;
    if (attend->most_blocks > 0 && attend->most_blocks < *n_blocks)
        *n_blocks = attend->most_blocks;
    if (n_tiles < *n_blocks)
        *n_blocks = n_tiles > 0 ? (uint32_t)n_tiles : 1;
    uint32_t unit = 1;
    while (unit * 2 * (uint64_t)UNITS_PER_SHARE * *n_blocks <= n_tiles)
        unit *= 2;
    const struct attend_cut cut = {.n_lanes = *n_blocks,
                                   .n_turns = 1,
                                   .n_parts = attend->n_parts,
                                   .unit_tiles = unit,
                                   .block_rows = variant->kernel->rows};
    const enum status status =
        attend_plan_cut(&attend->plan, &attend->shape, works, n_works, cut, error);
    if (status != STATUS_OK)
        return status;
    if (!jobs_make(&attend->jobs, &attend->plan, n_works))
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory to schedule %zu works",
                         n_works);
    if (attend->jobs.n_shares < *n_blocks)
        *n_blocks = attend->jobs.n_shares;
    return STATUS_OK;
}

/* Levels of the tree over so many tiles: of their largest interval, and one for prefixes. */
static uint32_t levels_of(uint32_t n_tiles)
{
    uint32_t n = 2;
    while (n_tiles > 1) {
        n_tiles /= 2;
        n++;
    }
    return n;
}

/* More than is wanted now, so that sequences can grow a while without it. */
static enum status grow(struct cuda_attend *attend, void **memory, size_t *room, size_t bytes,
                        struct error *error)
{
    return bytes <= *room ? STATUS_OK
                          : cuda_grow(attend->device, memory, room, bytes + bytes / 2, error);
}

/* The stack of parts that leave_part keeps is no deeper than the tree. */
static enum status make_room(struct cuda_attend *attend, const struct variant *variant,
                             uint32_t n_blocks, uint32_t n_levels, struct error *error)
{
    const struct jobs *jobs = &attend->jobs;
    const size_t partial = variant->kernel->partial_bytes;
    enum status status = grow(attend, &attend->tables, &attend->tables_room, jobs->bytes, error);
    if (status == STATUS_OK)
        status = grow(attend, &attend->parts, &attend->parts_room, jobs->n_parts * partial, error);
    if (status == STATUS_OK)
        status = grow(attend, &attend->levels, &attend->levels_room,
                      (size_t)n_blocks * n_levels * partial, error);
    return status;
}

/* Brings the tables to the device. */
static enum status send_tables(struct cuda_attend *attend, size_t n_works, struct error *error)
{
    struct staging *staging = &attend->stagings[attend->next_staging];
    const size_t bytes = attend->jobs.bytes;
    attend->next_staging = (attend->next_staging + 1) % N_STAGINGS;
    cudaError_t result = cudaEventSynchronize(staging->read);
    if (result != cudaSuccess)
        return cuda_error(error, result, "attention");
    if (bytes > staging->room) {
        cuda_host_give(attend->device, staging->memory);
        staging->memory = NULL;
        staging->room = 0;
        const enum status status =
            cuda_host_take(attend->device, &staging->memory, bytes + bytes / 2, error);
        if (status != STATUS_OK)
            return status;
        staging->room = bytes + bytes / 2;
    }
    jobs_pack(&attend->jobs, &attend->plan, n_works, staging->memory);
    result = cudaMemcpyAsync(attend->tables, staging->memory, bytes, cudaMemcpyHostToDevice,
                             attend->device->stream);
    if (result == cudaSuccess)
        result = cudaEventRecord(staging->read, attend->device->stream);
    return result == cudaSuccess ? STATUS_OK : cuda_error(error, result, "attention's tables");
}

static enum status run(void *state, const struct attend_work *works, size_t n_works,
                       struct error *error)
{
    struct cuda_attend *attend = state;
    const struct jobs *jobs = &attend->jobs;
    uint32_t most_rows = 0, n_blocks;
    for (size_t i = 0; i < n_works; i++)
        if (works[i].n_tokens * attend->shape.group > most_rows)
            most_rows = works[i].n_tokens * attend->shape.group;
    const struct variant *variant = variant_for(attend, most_rows);

    enum status status = make_plan(attend, variant, works, n_works, &n_blocks, error);
    if (status != STATUS_OK || jobs->n_segments == 0)
        return status;
    const uint32_t n_levels = levels_of(jobs->most_tiles + 1);
    status = make_room(attend, variant, n_blocks, n_levels, error);
    if (status == STATUS_OK)
        status = send_tables(attend, n_works, error);
    if (status != STATUS_OK)
        return status;

    char *tables = attend->tables;
    struct attend_launch launch = {
        .outputs = (void *)(tables + jobs->outputs_at),
        .segments = (void *)(tables + jobs->segments_at),
        .joins = (void *)(tables + jobs->joins_at),
        .shares = (void *)(tables + jobs->shares_at),
        .merges = (void *)(tables + jobs->merges_at),
        .pending = (void *)(tables + jobs->pending_at),
        .pages = (void *)(tables + jobs->pages_at),
        .parts = attend->parts,
        .levels = attend->levels,
        .n_levels = n_levels,
        .n_shares = jobs->n_shares,
        .n_stages = variant->n_stages,
        .group = attend->shape.group,
        .head_dim = attend->shape.head_dim,
        .type = attend->shape.type,
        .scale = attend->shape.scale,
        .soft_cap = attend->shape.soft_cap,
        .any_order = attend->any_order,
    };
    void *arguments[] = {&launch};
    const cudaError_t result = cudaLaunchKernel(variant->kernel->function, (dim3){n_blocks, 1, 1},
                                                (dim3){variant->kernel->threads, 1, 1}, arguments,
                                                variant->shared_bytes, attend->device->stream);
    return result == cudaSuccess ? STATUS_OK : cuda_error(error, result, "attention");
}

const struct attention_device attention_cuda = {
    .create = create,
    .destroy = destroy,
    .set_parts = set_parts,
    .set_lanes = set_lanes,
    .set_any_order = set_any_order,
    .run = run,
    .round = cuda_tiles_round,
    .write = cuda_tiles_write,
    .read = cuda_tiles_read,
};
