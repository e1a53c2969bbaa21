/* attend_device.c - the executor on a GPU: plans on the host, one copy and one launch per call.
 *
 * Layers of a step ask with the same rows of other pages: such a call keeps the plan of the one before.
 * What a kernel is told (attend_launch.h, attend_jobs.h) goes to the device on a stream of its own, so that it is
 * there before the kernel's turn comes; calls take turns with N_CALLS sets of memory for it, and the host
 * waits where it would be further ahead. Prepared calls have each their own, which stays. */
#include "kernels/attention/cuda/attend_device.h"

#include "kernels/attention/attend_plan.h"
#include "kernels/attention/cuda/attend_launch.h"
#include "kernels/cuda/device.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_VARIANTS = 4,     /* of one shape */
    BLOCKS_WANTED = 3,    /* per multiprocessor */
    STAGES_WANTED = 5,    /* with more than one block there */
    BLOCK_RESERVE = 1024, /* shared memory that the system takes of each block's */
    N_CALLS = 4           /* that the host can be ahead of the device */
};

#define CAP_LOG2_E_TWICE 2.88539008177792681f

/* A launch configuration of a kernel: the fewer blocks share a multiprocessor, the deeper their pipelines. */
struct config {
    uint32_t n_stages, shared_bytes, n_blocks; /* n_blocks: that fit on the device at once */
};

struct variant {
    const struct attend_kernel *kernel;
    struct config configs[BLOCKS_WANTED]; /* fewest blocks first */
    uint32_t n_configs;
};

/* What one call tells its kernel: a header (struct attend_launch and starts), and the tables that it names. */
struct call {
    void *host, *device; /* header and tables; host: pinned */
    size_t host_room, device_room;
    void *header;      /* on the device; of prepared calls apart, where it stays */
    cudaEvent_t there; /* they have come to the device */
    cudaEvent_t done;  /* the kernel has ended */
    const struct variant *variant;
    struct config config;
};

/* What a plan was made of, but for pages, q and results. */
struct planned {
    struct attend_work *works; /* with their own ranges */
    struct tile_range *ranges;
    size_t n_works, works_room, ranges_room;
    uint32_t n_parts, most_blocks;
    const struct variant *variant;
};

struct cuda_attend {
    struct device *device;
    struct attend_shape shape;
    struct variant variants[MAX_VARIANTS]; /* fewest rows first */
    uint32_t n_variants;
    uint32_t blocks_wanted, most_stages, unit; /* unit 0: by unit_cost */
    uint32_t n_parts, most_blocks;             /* 0: as they come */
    bool any_order;
    struct attend_plan plan;
    struct jobs jobs;
    struct planned planned;
    cudaStream_t stream;        /* for what kernels are told */
    struct call calls[N_CALLS]; /* in turn */
    uint32_t next_call;
    struct call **prepared; /* [n_prepared], NULL where there is none */
    uint32_t n_prepared;
    void *parts, *levels; /* on the device, for one kernel at a time */
    size_t parts_room, levels_room;
};

/* Thread blocks of any variant, at most. */
static uint32_t most_blocks(const struct cuda_attend *attend)
{
    return BLOCKS_WANTED * (uint32_t)attend->device->n_multiprocessors;
}

/* Of a call's memory; the tables lie behind. */
static size_t header_bytes(const struct cuda_attend *attend)
{
    const size_t bytes = LAUNCH_BYTES + most_blocks(attend) * sizeof(struct job_start);
    return (bytes + LAUNCH_BYTES - 1) / LAUNCH_BYTES * LAUNCH_BYTES;
}

/* With so many blocks on a multiprocessor; false: they do not fit. */
static bool fit_blocks(const struct cuda_attend *attend, const struct attend_kernel *kernel,
                       int blocks, struct config *config, cudaError_t *result)
{
    const struct device *device = attend->device;
    int most_per_block = 0, per_multiprocessor = 0, n_blocks = 0;
    cudaDeviceGetAttribute(&most_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, device->index);
    cudaDeviceGetAttribute(&per_multiprocessor, cudaDevAttrMaxSharedMemoryPerMultiprocessor,
                           device->index);
    *config = (struct config){.shared_bytes = kernel->fixed_bytes};
    if (kernel->stage_bytes > 0) {
        int bytes = per_multiprocessor / blocks - BLOCK_RESERVE;
        bytes = bytes < most_per_block ? bytes : most_per_block;
        const int stages = (bytes - (int)kernel->fixed_bytes) / (int)kernel->stage_bytes;
        if (stages < (blocks > 1 ? STAGES_WANTED : LEAST_STAGES))
            return false;
        config->n_stages =
            (uint32_t)stages < attend->most_stages ? (uint32_t)stages : attend->most_stages;
        config->shared_bytes += config->n_stages * kernel->stage_bytes;
    }
    *result = cudaFuncSetAttribute(kernel->function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   (int)config->shared_bytes);
    if (*result == cudaSuccess)
        *result = cudaOccupancyMaxActiveBlocksPerMultiprocessor(
            &n_blocks, kernel->function, (int)kernel->threads, config->shared_bytes);
    if (*result != cudaSuccess)
        (void)cudaGetLastError();
    n_blocks = n_blocks < BLOCKS_WANTED ? n_blocks : BLOCKS_WANTED;
    config->n_blocks = (uint32_t)(n_blocks * device->n_multiprocessors);
    return *result == cudaSuccess && n_blocks > 0;
}

/* Most blocks first, as the attribute of shared memory must end with the largest. */
static bool fit(struct variant *variant, const struct cuda_attend *attend, struct error *error)
{
    const struct attend_kernel *kernel = variant->kernel;
    const int most = kernel->stage_bytes > 0 ? (int)attend->blocks_wanted : 1;
    cudaError_t result =
        cudaFuncSetAttribute(kernel->function, cudaFuncAttributePreferredSharedMemoryCarveout,
                             cudaSharedmemCarveoutMaxShared);
    struct config found[BLOCKS_WANTED];
    uint32_t n = 0;
    for (int blocks = most; blocks > 0 && result == cudaSuccess; blocks--)
        if (fit_blocks(attend, kernel, blocks, &found[n], &result) &&
            (n == 0 || found[n].n_blocks < found[n - 1].n_blocks))
            n++;
    for (uint32_t i = 0; i < n; i++)
        variant->configs[i] = found[n - 1 - i];
    variant->n_configs = n;
    if (n == 0)
        (void)cuda_error(error, result, "attention's kernel");
    return n > 0;
}

/* All that are on the device at once, at most. */
static uint32_t variant_blocks(const struct variant *variant)
{
    return variant->configs[variant->n_configs - 1].n_blocks;
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
        attend->n_variants += fit(variant, attend, error);
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
    attend->n_variants = 0;
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

static void call_clear(struct cuda_attend *attend, struct call *call)
{
    cuda_host_give(attend->device, call->host);
    if (call->header != call->device)
        cuda_memory_give(attend->device, call->header);
    cuda_memory_give(attend->device, call->device);
    if (call->there != NULL)
        (void)cudaEventDestroy(call->there);
    if (call->done != NULL)
        (void)cudaEventDestroy(call->done);
}

static enum status call_open(struct call *call, struct error *error)
{
    cudaError_t result = cudaEventCreateWithFlags(&call->there, cudaEventDisableTiming);
    if (result == cudaSuccess)
        result = cudaEventCreateWithFlags(&call->done, cudaEventDisableTiming);
    return result == cudaSuccess ? STATUS_OK : cuda_error(error, result, "an event");
}

static void destroy(void *state)
{
    struct cuda_attend *attend = state;
    if (attend == NULL)
        return;
    if (attend->stream != NULL)
        (void)cudaStreamSynchronize(attend->stream);
    (void)cudaStreamSynchronize(cuda_stream(attend->device));
    for (uint32_t i = 0; i < N_CALLS; i++)
        call_clear(attend, &attend->calls[i]);
    for (uint32_t i = 0; i < attend->n_prepared; i++)
        if (attend->prepared[i] != NULL) {
            call_clear(attend, attend->prepared[i]);
            free(attend->prepared[i]);
        }
    free(attend->prepared);
    if (attend->stream != NULL)
        (void)cudaStreamDestroy(attend->stream);
    cuda_memory_give(attend->device, attend->parts);
    cuda_memory_give(attend->device, attend->levels);
    free(attend->planned.works);
    free(attend->planned.ranges);
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
    attend->blocks_wanted = BLOCKS_WANTED;
    attend->most_stages = MOST_STAGES;
    enum status status = choose_variants(attend, error);
    if (status == STATUS_OK) {
        const cudaError_t result =
            cudaStreamCreateWithFlags(&attend->stream, cudaStreamNonBlocking);
        if (result != cudaSuccess)
            status = cuda_error(error, result, "a stream");
    }
    for (uint32_t i = 0; i < N_CALLS && status == STATUS_OK; i++)
        status = call_open(&attend->calls[i], error);
    if (status != STATUS_OK) {
        destroy(attend);
        return status;
    }
    *state = attend;
    return STATUS_OK;
}

enum status cuda_attend_tune(void *state, uint32_t n_blocks, uint32_t n_stages, uint32_t unit,
                             struct error *error)
{
    struct cuda_attend *attend = state;
    attend->unit = unit;
    attend->blocks_wanted = n_blocks > 0 && n_blocks < BLOCKS_WANTED ? n_blocks : BLOCKS_WANTED;
    attend->most_stages = n_stages > LEAST_STAGES ? n_stages : LEAST_STAGES;
    if (n_stages == 0 || n_stages > MOST_STAGES)
        attend->most_stages = MOST_STAGES;
    attend->planned.n_works = 0;
    return choose_variants(attend, error);
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

/* What the line of a call's tiles is like. */
struct line {
    uint64_t n_tiles, n_outputs, output_tiles; /* output_tiles: of each, or UNEVEN */
};
#define UNEVEN ((uint64_t)1) /* no unit but 1 divides it */

/* ---- planning ---------------------------------------------------------------------------------- */

static uint32_t most_rows(const struct cuda_attend *attend, const struct attend_work *works,
                          size_t n_works)
{
    uint32_t most = 0;
    for (size_t i = 0; i < n_works; i++)
        if (works[i].n_tokens > most)
            most = works[i].n_tokens;
    return most * attend->shape.group;
}

/* Whether the plan there is suits these works. */
static bool same_plan(const struct cuda_attend *attend, const struct attend_work *works,
                      size_t n_works)
{
    const struct planned *planned = &attend->planned;
    if (n_works == 0 || planned->n_works != n_works || planned->n_parts != attend->n_parts ||
        planned->most_blocks != attend->most_blocks)
        return false;
    for (size_t i = 0; i < n_works; i++) {
        const struct attend_work *a = &works[i], *b = &planned->works[i];
        if (a->n_tokens != b->n_tokens || a->position != b->position || a->window != b->window ||
            a->own_tile != b->own_tile || (a->final_out == NULL) != (b->final_out == NULL) ||
            a->source.first_tile != b->source.first_tile ||
            a->source.page_tiles != b->source.page_tiles || a->n_ranges != b->n_ranges ||
            (a->n_ranges > 0 &&
             memcmp(a->ranges, b->ranges, a->n_ranges * sizeof(*a->ranges)) != 0))
            return false;
    }
    return true;
}

/* Makes room for n elements, whose old content is lost; false: no memory. */
static bool room_for(void *array, size_t *room, size_t n, size_t element)
{
    if (n <= *room)
        return true;
    void *memory = malloc((n + n / 2) * element), *old;
    if (memory == NULL)
        return false;
    memcpy(&old, array, sizeof(old));
    free(old);
    memcpy(array, &memory, sizeof(memory));
    *room = n + n / 2;
    return true;
}

/* Keeps what same_plan compares; without memory, there is no such plan. */
static void keep_planned(struct cuda_attend *attend, const struct attend_work *works,
                         size_t n_works)
{
    struct planned *planned = &attend->planned;
    size_t n_ranges = 0;
    for (size_t i = 0; i < n_works; i++)
        n_ranges += works[i].n_ranges;
    if (!room_for(&planned->works, &planned->works_room, n_works, sizeof(*planned->works)) ||
        !room_for(&planned->ranges, &planned->ranges_room, n_ranges, sizeof(*planned->ranges)))
        return;
    n_ranges = 0;
    for (size_t i = 0; i < n_works; i++) {
        planned->works[i] = works[i];
        planned->works[i].ranges = planned->ranges + n_ranges;
        if (works[i].n_ranges > 0)
            memcpy(planned->ranges + n_ranges, works[i].ranges,
                   works[i].n_ranges * sizeof(*works[i].ranges));
        n_ranges += works[i].n_ranges;
    }
    planned->n_works = n_works;
    planned->n_parts = attend->n_parts;
    planned->most_blocks = attend->most_blocks;
}

/* What a tile costs where n_blocks share a multiprocessor, in tenths of a microsecond on an H200: q8_0 is held
 * up by arithmetic, others by memory. */
static uint64_t tile_cost(const struct attend_shape *shape, uint64_t n_blocks)
{
    static const uint64_t alone = 15, q8_0[] = {18, 26, 36}, busy_bytes = 50 << 10;
    if (shape->type == KV_Q8_0)
        return q8_0[n_blocks < 3 ? n_blocks - 1 : 2];
    const uint64_t bytes = n_blocks * tile_bytes(shape->type, shape->head_dim);
    return (bytes > busy_bytes ? alone * bytes / busy_bytes : alone) + (n_blocks == 1);
}

/* What a cut at multiples of `unit` costs, likewise: a share's tiles; its parts, about 1 + log2(its units), of
 * which each but the first breaks the walk; and joins of JOIN_PARTS, and joins of those. */
static uint64_t unit_cost(const struct cuda_attend *attend, const struct line *line, uint32_t unit,
                          uint32_t n_blocks)
{
    enum { PART_COST = 35, JOIN_COST = 35 };
    const uint64_t n = (uint64_t)attend->device->n_multiprocessors;
    const uint64_t units = (line->n_tiles + unit - 1) / unit;
    const uint64_t most = (units + n_blocks - 1) / n_blocks; /* units of a share */
    const uint64_t n_shares = (units + most - 1) / most;
    uint64_t tiles = most * unit, n_parts = 1, cost = 0;
    if (line->output_tiles % unit != 0) /* ends of outputs lie between, and shares are uneven */
        tiles = line->n_tiles / (units < n_blocks ? units : n_blocks) + unit / 8 + 1;
    while (most >> n_parts > 0)
        n_parts++;
    const uint64_t parts = n_parts * n_shares / line->n_outputs; /* of an output */
    for (uint64_t rest = parts; rest > 1; rest /= JOIN_PARTS)
        cost += JOIN_COST;
    return cost + parts + (n_parts - 1) * PART_COST +
           tiles * tile_cost(&attend->shape, (n_shares + n - 1) / n);
}

/* The best power of two. */
static uint32_t unit_for(const struct cuda_attend *attend, const struct line *line,
                         uint32_t n_blocks)
{
    uint64_t least = UINT64_MAX;
    uint32_t best = 1;
    if (attend->unit > 0)
        return attend->unit;
    for (uint32_t unit = 1; unit <= line->n_tiles && unit <= TREE_MAX_TILES; unit *= 2) {
        const uint64_t cost = unit_cost(attend, line, unit, n_blocks);
        if (cost < least) {
            least = cost;
            best = unit;
        }
    }
    return best;
}

/* The line of these works, cut in row blocks of most_rows. */
static struct line line_of(const struct cuda_attend *attend, const struct attend_work *works,
                           size_t n_works, uint32_t most_rows)
{
    struct line line = {0};
    for (size_t i = 0; i < n_works; i++) {
        const uint32_t n_rows = works[i].n_tokens * attend->shape.group;
        const uint64_t n_outputs = (n_rows + most_rows - 1) / most_rows;
        uint64_t tiles = works[i].own_tile;
        for (uint32_t range = 0; range < works[i].n_ranges; range++)
            tiles += works[i].ranges[range].end - works[i].ranges[range].begin;
        line.output_tiles = i == 0 || line.output_tiles == tiles ? tiles : UNEVEN;
        line.n_tiles += tiles * n_outputs;
        line.n_outputs += n_outputs;
    }
    return line;
}

static enum status make_plan(struct cuda_attend *attend, const struct attend_work *works,
                             size_t n_works, struct error *error)
{
    struct planned *planned = &attend->planned;
    const struct variant *variant = variant_for(attend, most_rows(attend, works, n_works));
    const struct line line = line_of(attend, works, n_works, variant->kernel->rows);
    uint32_t n_blocks = variant_blocks(variant);
    if (attend->most_blocks > 0 && attend->most_blocks < n_blocks)
        n_blocks = attend->most_blocks;
    if (line.n_tiles < n_blocks)
        n_blocks = line.n_tiles > 0 ? (uint32_t)line.n_tiles : 1;
    const struct attend_cut cut = {.n_lanes = n_blocks,
                                   .n_turns = 1,
                                   .n_parts = attend->n_parts,
                                   .unit_tiles = unit_for(attend, &line, n_blocks),
                                   .block_rows = variant->kernel->rows};
    planned->n_works = 0;
    const enum status status =
        attend_plan_cut(&attend->plan, &attend->shape, works, n_works, cut, error);
    if (status != STATUS_OK)
        return status;
    if (!jobs_make(&attend->jobs, &attend->plan, n_works))
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory to schedule %zu works",
                         n_works);
    planned->variant = variant;
    keep_planned(attend, works, n_works);
    return STATUS_OK;
}

/* The plan of these works: that of the call before, or a new one. */
static enum status plan_for(struct cuda_attend *attend, const struct attend_work *works,
                            size_t n_works, struct error *error)
{
    if (!same_plan(attend, works, n_works))
        return make_plan(attend, works, n_works, error);
    for (size_t i = 0; i < n_works; i++)
        attend->plan.works[i].work = &works[i];
    return STATUS_OK;
}

/* ---- memory ------------------------------------------------------------------------------------- */

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

static enum status grow_host(struct cuda_attend *attend, struct call *call, size_t bytes,
                             struct error *error)
{
    if (bytes <= call->host_room)
        return STATUS_OK;
    cuda_host_give(attend->device, call->host);
    call->host = NULL;
    call->host_room = 0;
    const enum status status =
        cuda_host_take(attend->device, &call->host, bytes + bytes / 2, error);
    if (status == STATUS_OK)
        call->host_room = bytes + bytes / 2;
    return status;
}

/* The headers of prepared calls name the scratch memory: they must hear that it has moved. Nothing
 * runs, as growing has waited for the device. */
static enum status move_scratch(struct cuda_attend *attend, struct error *error)
{
    for (uint32_t i = 0; i < attend->n_prepared; i++) {
        const struct call *call = attend->prepared[i];
        if (call == NULL || call->host == NULL)
            continue;
        struct attend_launch *launch = call->host;
        launch->parts = attend->parts;
        launch->levels = attend->levels;
        const cudaError_t result =
            cudaMemcpyAsync(call->header, launch, sizeof(*launch), cudaMemcpyHostToDevice,
                            cuda_stream(attend->device));
        if (result != cudaSuccess)
            return cuda_error(error, result, "attention's tables");
    }
    return STATUS_OK;
}

/* Scratch memory of the planned kernel. The stack of parts that merge_parts keeps is no deeper than the
 * tree. */
static enum status grow_scratch(struct cuda_attend *attend, uint32_t n_levels, struct error *error)
{
    const size_t partial = attend->planned.variant->kernel->partial_bytes;
    const size_t parts_room = attend->parts_room, levels_room = attend->levels_room;
    enum status status =
        grow(attend, &attend->parts, &attend->parts_room, attend->jobs.n_parts * partial, error);
    if (status == STATUS_OK)
        status = grow(attend, &attend->levels, &attend->levels_room,
                      (size_t)variant_blocks(attend->planned.variant) * n_levels * partial, error);
    if (status == STATUS_OK &&
        (parts_room != attend->parts_room || levels_room != attend->levels_room))
        status = move_scratch(attend, error);
    return status;
}

/* ---- calls -------------------------------------------------------------------------------------- */

/* The one with the deepest pipelines that has a block for each share. */
static const struct config *config_for(const struct variant *variant, uint32_t n_shares)
{
    uint32_t i = 0;
    while (i + 1 < variant->n_configs && variant->configs[i].n_blocks < n_shares)
        i++;
    return &variant->configs[i];
}

/* Writes what the kernel is told to the call's pinned memory; nobody reads that at the moment. settled: the
 * tables come behind all earlier work, so that what is settled may be read as soon as they are there. */
static enum status write_call(struct cuda_attend *attend, struct call *call, size_t n_works,
                              bool settled, struct error *error)
{
    const struct jobs *jobs = &attend->jobs;
    const uint32_t n_levels = levels_of(jobs->most_tiles + 1);
    static_assert(sizeof(struct attend_launch) <= LAUNCH_BYTES, "starts lie behind it");
    const size_t header = header_bytes(attend);
    const bool apart = call->header != NULL && call->header != call->device;
    enum status status = grow_scratch(attend, n_levels, error);
    if (status == STATUS_OK)
        status = grow(attend, &call->device, &call->device_room, header + jobs->bytes, error);
    if (status == STATUS_OK)
        status = grow_host(attend, call, header + jobs->bytes, error);
    if (status != STATUS_OK)
        return status;
    if (!apart)
        call->header = call->device;
    char *tables = (char *)call->device + header;
    *(struct attend_launch *)call->host = (struct attend_launch){
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
        .group = attend->shape.group,
        .group_inverse = (65535 + attend->shape.group) / attend->shape.group,
        .head_dim = attend->shape.head_dim,
        .type = attend->shape.type,
        .scale = attend->shape.scale,
        .soft_cap = attend->shape.soft_cap,
        .cap_factor = attend->shape.soft_cap > 0 ? CAP_LOG2_E_TWICE / attend->shape.soft_cap : 0,
        .any_order = attend->any_order,
    };
    char *block = (char *)call->host + header;
    jobs_pack(jobs, &attend->plan, n_works, settled, block);
    jobs_starts(jobs, block, tile_bytes(attend->shape.type, attend->shape.head_dim),
                (void *)((char *)call->host + LAUNCH_BYTES), most_blocks(attend));
    /* A recorded launch serves what is prepared later: it keeps its configuration. */
    if (!apart || call->variant != attend->planned.variant) {
        call->variant = attend->planned.variant;
        call->config = *config_for(call->variant, jobs->n_shares);
    }
    return STATUS_OK;
}

/* On GPUs that can, the kernel may begin before the one ahead of it has ended: it waits itself. */
static enum status launch_call(struct cuda_attend *attend, const struct call *call,
                               uint32_t n_blocks, struct error *error)
{
    const void *header = call->header;
    uint32_t n_stages = call->config.n_stages;
    void *arguments[] = {&header, &n_stages};
    cudaLaunchAttribute early = {.id = cudaLaunchAttributeProgrammaticStreamSerialization,
                                 .val = {.programmaticStreamSerializationAllowed = 1}};
    const cudaLaunchConfig_t config = {.gridDim = {n_blocks, 1, 1},
                                       .blockDim = {call->variant->kernel->threads, 1, 1},
                                       .dynamicSmemBytes = call->config.shared_bytes,
                                       .stream = cuda_stream(attend->device),
                                       .attrs = &early,
                                       .numAttrs = attend->device->compute_capability >= 90};
    const cudaError_t result =
        cudaLaunchKernelExC(&config, call->variant->kernel->function, arguments);
    return result == cudaSuccess ? STATUS_OK : cuda_error(error, result, "attention");
}

/* Those that have something to do now. */
static uint32_t blocks_for(const struct cuda_attend *attend, const struct call *call)
{
    uint32_t n = attend->jobs.n_shares < call->config.n_blocks ? attend->jobs.n_shares
                                                               : call->config.n_blocks;
    if (attend->most_blocks > 0 && attend->most_blocks < n)
        n = attend->most_blocks;
    return n;
}

static enum status run(void *state, const struct attend_work *works, size_t n_works,
                       struct error *error)
{
    struct cuda_attend *attend = state;
    struct call *call = &attend->calls[attend->next_call];
    enum status status = plan_for(attend, works, n_works, error);
    if (status != STATUS_OK || attend->jobs.n_segments == 0)
        return status;
    attend->next_call = (attend->next_call + 1) % N_CALLS;
    cudaError_t result = cudaEventSynchronize(call->done);
    if (result != cudaSuccess)
        return cuda_error(error, result, "attention");
    status = write_call(attend, call, n_works, false, error);
    if (status != STATUS_OK)
        return status;
    result = cudaMemcpyAsync(call->device, call->host, header_bytes(attend) + attend->jobs.bytes,
                             cudaMemcpyHostToDevice, attend->stream);
    if (result == cudaSuccess)
        result = cudaEventRecord(call->there, attend->stream);
    if (result == cudaSuccess)
        result = cudaStreamWaitEvent(cuda_stream(attend->device), call->there, 0);
    if (result != cudaSuccess)
        return cuda_error(error, result, "attention's tables");
    status = launch_call(attend, call, blocks_for(attend, call), error);
    if (status == STATUS_OK &&
        (result = cudaEventRecord(call->done, cuda_stream(attend->device))) != cudaSuccess)
        status = cuda_error(error, result, "attention");
    return status;
}

/* The prepared call of that number, made where there is none. */
static enum status prepared_call(struct cuda_attend *attend, uint32_t slot, struct call **call,
                                 struct error *error)
{
    if (slot >= attend->n_prepared) {
        struct call **more = realloc(attend->prepared, ((size_t)slot + 1) * sizeof(struct call *));
        if (more == NULL)
            return error_set(error, STATUS_NO_MEMORY, "attention: no memory");
        memset(more + attend->n_prepared, 0,
               ((size_t)slot + 1 - attend->n_prepared) * sizeof(struct call *));
        attend->prepared = more;
        attend->n_prepared = slot + 1;
    }
    if (attend->prepared[slot] == NULL) {
        struct call *made = calloc(1, sizeof(*made));
        if (made == NULL)
            return error_set(error, STATUS_NO_MEMORY, "attention: no memory");
        enum status status = call_open(made, error);
        if (status == STATUS_OK)
            status = cuda_memory_take(attend->device, &made->header, header_bytes(attend), error);
        if (status != STATUS_OK) {
            call_clear(attend, made);
            free(made);
            return status;
        }
        attend->prepared[slot] = made;
    }
    *call = attend->prepared[slot];
    return STATUS_OK;
}

static enum status prepare(void *state, uint32_t slot, const struct attend_work *works,
                           size_t n_works, struct error *error)
{
    struct cuda_attend *attend = state;
    struct call *call = NULL;
    enum status status = prepared_call(attend, slot, &call, error);
    if (status == STATUS_OK)
        status = plan_for(attend, works, n_works, error);
    if (status != STATUS_OK)
        return status;
    /* What was sent last has been read, by the copies. */
    cudaError_t result = cudaEventSynchronize(call->there);
    if (result != cudaSuccess)
        return cuda_error(error, result, "attention");
    status = write_call(attend, call, n_works, true, error);
    if (status != STATUS_OK)
        return status;
    const cudaStream_t stream = cuda_stream(attend->device);
    const size_t header = header_bytes(attend);
    result = cudaMemcpyAsync((char *)call->device + header, (char *)call->host + header,
                             attend->jobs.bytes, cudaMemcpyHostToDevice, stream);
    if (result == cudaSuccess)
        result = cudaMemcpyAsync(call->header, call->host, header, cudaMemcpyHostToDevice, stream);
    if (result == cudaSuccess)
        result = cudaEventRecord(call->there, stream);
    return result == cudaSuccess ? STATUS_OK : cuda_error(error, result, "attention's tables");
}

static enum status launch(void *state, uint32_t slot, struct error *error)
{
    struct cuda_attend *attend = state;
    if (slot >= attend->n_prepared || attend->prepared[slot] == NULL)
        return error_set(error, STATUS_INVALID, "attention: call %u was not prepared", slot);
    const struct call *call = attend->prepared[slot];
    /* All blocks that there can be: what is prepared later may need more than now. */
    return launch_call(attend, call, call->config.n_blocks, error);
}

const struct attention_device attention_cuda = {
    .create = create,
    .destroy = destroy,
    .set_parts = set_parts,
    .set_lanes = set_lanes,
    .set_any_order = set_any_order,
    .run = run,
    .prepare = prepare,
    .launch = launch,
    .round = cuda_tiles_round,
    .write = cuda_tiles_write,
    .read = cuda_tiles_read,
};
