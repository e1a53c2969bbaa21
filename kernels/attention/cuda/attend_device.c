/* attend_device.c - the executor on a GPU: plans on the host, one copy and one launch per call.
 *
 * What a kernel is told (attend_launch.h, attend_jobs.h) goes to the device on a stream of its own, so that it is
 * there before the kernel's turn comes; calls take turns with N_CALLS sets of memory for it, and the host
 * waits where it would be further ahead. Prepared calls have each their own, which stays where it is as long
 * as the call's kind; what was launched before a turn of preparing began is over before the first copy of
 * that turn. */
#include "kernels/attention/cuda/attend_device.h"

#include "kernels/attention/cuda/attend_planner.h"
#include "kernels/cuda/device.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { N_CALLS = 4 /* that the host can be ahead of the device */ };

#define CAP_LOG2_E_TWICE 2.88539008177792681f

/* How a call is launched; what was recorded serves calls that are launched alike. */
struct launched {
    const void *memory; /* of the header */
    const struct variant *variant;
    struct config config;
    uint32_t n_writes;
};

/* What one call tells its kernels: a header (attend_launch.h), and the tables that it names. */
struct call {
    void *host, *device; /* header and tables; host: pinned */
    size_t host_room, device_room;
    cudaEvent_t there; /* they have come to the device */
    cudaEvent_t done;  /* the kernel has ended; not of prepared calls */
    struct launched launched;
    /* Of prepared calls: */
    bool ready;
    uint64_t turn, kind; /* turn: the last one in which it was prepared */
};

struct cuda_attend {
    struct device *device;
    struct planner planner;
    bool any_order;
    cudaStream_t stream;        /* for what kernels are told */
    struct call calls[N_CALLS]; /* in turn */
    uint32_t next_call;
    struct call **prepared; /* [n_prepared], NULL where there is none */
    uint32_t n_prepared;
    uint64_t turn, n_kinds;
    cudaEvent_t turned;   /* the turn has begun */
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

/* ---- life --------------------------------------------------------------------------------------- */

static void call_clear(struct cuda_attend *attend, struct call *call)
{
    cuda_host_give(attend->device, call->host);
    cuda_memory_give(attend->device, call->device);
    if (call->there != NULL)
        (void)cudaEventDestroy(call->there);
    if (call->done != NULL)
        (void)cudaEventDestroy(call->done);
}

static enum status event_open(cudaEvent_t *event, struct error *error)
{
    const cudaError_t result = cudaEventCreateWithFlags(event, cudaEventDisableTiming);
    return result == cudaSuccess ? STATUS_OK : cuda_error(error, result, "an event");
}

static enum status call_open(struct call *call, struct error *error)
{
    const enum status status = event_open(&call->there, error);
    return status == STATUS_OK ? event_open(&call->done, error) : status;
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
    if (attend->turned != NULL)
        (void)cudaEventDestroy(attend->turned);
    if (attend->stream != NULL)
        (void)cudaStreamDestroy(attend->stream);
    cuda_memory_give(attend->device, attend->parts);
    cuda_memory_give(attend->device, attend->levels);
    attend_planner_clear(&attend->planner);
    free(attend);
}

static enum status create(void **state, struct device *device, const struct attend_shape *shape,
                          struct error *error)
{
    struct cuda_attend *attend = calloc(1, sizeof(*attend));
    if (attend == NULL)
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory");
    attend->device = device;
    attend->planner.shape = *shape;
    attend->planner.n_multiprocessors = (uint32_t)device->n_multiprocessors;
    enum status status = variants_choose(&attend->planner.variants, device, shape, BLOCKS_WANTED,
                                         MOST_STAGES, error);
    if (status == STATUS_OK) {
        const cudaError_t result =
            cudaStreamCreateWithFlags(&attend->stream, cudaStreamNonBlocking);
        if (result != cudaSuccess)
            status = cuda_error(error, result, "a stream");
    }
    if (status == STATUS_OK)
        status = event_open(&attend->turned, error);
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
    struct planner *planner = &attend->planner;
    if (n_blocks == 0 || n_blocks > BLOCKS_WANTED)
        n_blocks = BLOCKS_WANTED;
    if (n_stages == 0 || n_stages > MOST_STAGES)
        n_stages = MOST_STAGES;
    planner->unit = unit;
    planner->planned.n_works = 0;
    return variants_choose(&planner->variants, attend->device, &planner->shape, n_blocks,
                           n_stages > LEAST_STAGES ? n_stages : LEAST_STAGES, error);
}

static void set_parts(void *state, uint32_t n_parts)
{
    ((struct cuda_attend *)state)->planner.n_parts = n_parts;
}

static void set_any_order(void *state, bool any_order)
{
    ((struct cuda_attend *)state)->any_order = any_order;
}

static void set_lanes(void *state, uint32_t n_lanes)
{
    ((struct cuda_attend *)state)->planner.most_blocks = n_lanes;
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

/* What the call is told, so many bytes, goes to the device, ahead of what its stream does next. */
static enum status send_call(struct cuda_attend *attend, struct call *call, size_t bytes,
                             struct error *error)
{
    cudaError_t result =
        cudaMemcpyAsync(call->device, call->host, bytes, cudaMemcpyHostToDevice, attend->stream);
    if (result == cudaSuccess)
        result = cudaEventRecord(call->there, attend->stream);
    if (result == cudaSuccess)
        result = cudaStreamWaitEvent(cuda_stream(attend->device), call->there, 0);
    return result == cudaSuccess ? STATUS_OK : cuda_error(error, result, "attention's tables");
}

/* The headers of prepared calls name the scratch memory: they must hear that it has moved, while neither a
 * kernel nor a copy looks at them. */
static enum status move_scratch(struct cuda_attend *attend, struct error *error)
{
    cudaError_t result = cudaStreamSynchronize(cuda_stream(attend->device));
    if (result == cudaSuccess)
        result = cudaStreamSynchronize(attend->stream);
    if (result != cudaSuccess)
        return cuda_error(error, result, "attention");
    for (uint32_t i = 0; i < attend->n_prepared; i++) {
        struct call *call = attend->prepared[i];
        if (call == NULL || !call->ready)
            continue;
        struct attend_launch *launch = call->host;
        launch->parts = attend->parts;
        launch->levels = attend->levels;
        const enum status status = send_call(attend, call, sizeof(*launch), error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* Scratch memory of the planned kernel. The stack of parts that merge_parts keeps is no deeper than the
 * tree. */
static enum status grow_scratch(struct cuda_attend *attend, uint32_t n_levels, struct error *error)
{
    const struct variant *variant = attend->planner.planned.variant;
    const size_t partial = variant->kernel->partial_bytes;
    const size_t parts_room = attend->parts_room, levels_room = attend->levels_room;
    enum status status = grow(attend, &attend->parts, &attend->parts_room,
                              attend->planner.jobs.n_parts * partial, error);
    if (status == STATUS_OK)
        status = grow(attend, &attend->levels, &attend->levels_room,
                      (size_t)variant_blocks(variant) * n_levels * partial, error);
    if (parts_room != attend->parts_room || levels_room != attend->levels_room) {
        const enum status moved = move_scratch(attend, error);
        status = status == STATUS_OK ? moved : status;
    }
    return status;
}

/* ---- calls -------------------------------------------------------------------------------------- */

/* Writes what the kernels are told to the call's pinned memory, *bytes of it; nobody reads that at the moment.
 * settled: the launch comes behind all earlier work, so that what is settled may be read as soon as the
 * tables are there. */
static enum status write_call(struct cuda_attend *attend, struct call *call, size_t n_works,
                              const struct attend_writes *writes, bool settled, size_t *bytes,
                              struct error *error)
{
    const struct planner *planner = &attend->planner;
    const struct attend_shape *shape = &planner->shape;
    const struct jobs *jobs = &planner->jobs;
    const uint32_t n_levels = levels_of(jobs->most_tiles + 1);
    static_assert(sizeof(struct attend_launch) <= WRITES_AT, "the list of writes lies behind it");
    static_assert(WRITES_AT + sizeof(struct write_list) <= LAUNCH_BYTES, "starts lie behind it");
    const size_t header = header_bytes(attend), n_writes = writes != NULL ? writes->n : 0;
    const size_t writes_at = header + jobs->bytes;
    *bytes = writes_at + n_writes * sizeof(struct tile_tokens);
    enum status status = grow_scratch(attend, n_levels, error);
    if (status == STATUS_OK)
        status = grow(attend, &call->device, &call->device_room, *bytes, error);
    if (status == STATUS_OK)
        status = grow_host(attend, call, *bytes, error);
    if (status != STATUS_OK)
        return status;
    char *host = call->host, *device = call->device, *tables = device + header;
    *(struct attend_launch *)host = (struct attend_launch){
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
        .n_near = variant_config(planner->planned.variant, jobs->n_shares)->n_near,
        .n_shares = jobs->n_shares,
        .group = shape->group,
        .group_inverse = (65535 + shape->group) / shape->group,
        .head_dim = shape->head_dim,
        .type = shape->type,
        .scale = shape->scale,
        .soft_cap = shape->soft_cap,
        .cap_factor = shape->soft_cap > 0 ? CAP_LOG2_E_TWICE / shape->soft_cap : 0,
        .any_order = attend->any_order,
    };
    *(struct write_list *)(host + WRITES_AT) =
        (struct write_list){.writes = (void *)(device + writes_at),
                            .stride_bytes = writes != NULL ? writes->stride_bytes : 0,
                            .n = (uint32_t)n_writes,
                            .type = shape->type,
                            .head_dim = shape->head_dim};
    jobs_pack(jobs, &planner->plan, n_works, settled, host + header);
    jobs_starts(jobs, host + header, tile_bytes(shape->type, shape->head_dim),
                (void *)(host + LAUNCH_BYTES), most_blocks(attend));
    if (n_writes > 0)
        memcpy(host + writes_at, writes->tokens, n_writes * sizeof(*writes->tokens));
    const struct variant *variant = planner->planned.variant;
    call->launched = (struct launched){.memory = device,
                                       .variant = variant,
                                       .config = *variant_config(variant, jobs->n_shares),
                                       .n_writes = (uint32_t)n_writes};
    return STATUS_OK;
}

/* On GPUs that can, the kernel may begin before the one ahead of it has ended: it waits itself. */
static enum status launch_call(struct cuda_attend *attend, const struct call *call,
                               uint32_t n_blocks, struct error *error)
{
    const struct attend_kernel *kernel = call->launched.variant->kernel;
    const void *header = call->device;
    uint32_t n_stages = call->launched.config.n_stages;
    void *arguments[] = {&header, &n_stages};
    cudaLaunchAttribute early = {.id = cudaLaunchAttributeProgrammaticStreamSerialization,
                                 .val = {.programmaticStreamSerializationAllowed = 1}};
    const cudaLaunchConfig_t config = {.gridDim = {n_blocks, 1, 1},
                                       .blockDim = {kernel->threads, 1, 1},
                                       .dynamicSmemBytes = call->launched.config.shared_bytes,
                                       .stream = cuda_stream(attend->device),
                                       .attrs = &early,
                                       .numAttrs = attend->device->compute_capability >= 90};
    const cudaError_t result = cudaLaunchKernelExC(&config, kernel->function, arguments);
    return result == cudaSuccess ? STATUS_OK : cuda_error(error, result, "attention");
}

/* Those that have something to do now. */
static uint32_t blocks_for(const struct cuda_attend *attend, const struct call *call)
{
    const uint32_t n_shares = attend->planner.jobs.n_shares, most = attend->planner.most_blocks;
    uint32_t n = call->launched.config.n_blocks;
    n = n_shares < n ? n_shares : n;
    return most > 0 && most < n ? most : n;
}

static enum status run(void *state, const struct attend_work *works, size_t n_works,
                       struct error *error)
{
    struct cuda_attend *attend = state;
    struct call *call = &attend->calls[attend->next_call];
    size_t bytes;
    enum status status = attend_planner_plan(&attend->planner, works, n_works, error);
    if (status != STATUS_OK || attend->planner.jobs.n_segments == 0)
        return status;
    attend->next_call = (attend->next_call + 1) % N_CALLS;
    cudaError_t result = cudaEventSynchronize(call->done);
    if (result != cudaSuccess)
        return cuda_error(error, result, "attention");
    status = write_call(attend, call, n_works, NULL, false, &bytes, error);
    if (status == STATUS_OK)
        status = send_call(attend, call, bytes, error);
    if (status == STATUS_OK)
        status = launch_call(attend, call, blocks_for(attend, call), error);
    if (status == STATUS_OK &&
        (result = cudaEventRecord(call->done, cuda_stream(attend->device))) != cudaSuccess)
        status = cuda_error(error, result, "attention");
    return status;
}

/* ---- prepared calls ------------------------------------------------------------------------------ */

/* The call of that number, made where there is none. */
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
        const enum status status = event_open(&made->there, error);
        if (status != STATUS_OK) {
            free(made);
            return status;
        }
        attend->prepared[slot] = made;
    }
    *call = attend->prepared[slot];
    return STATUS_OK;
}

/* Copies from here on come behind all that was asked of the device before. */
static enum status begin_turn(struct cuda_attend *attend, struct error *error)
{
    cudaError_t result = cudaEventRecord(attend->turned, cuda_stream(attend->device));
    if (result == cudaSuccess)
        result = cudaStreamWaitEvent(attend->stream, attend->turned, 0);
    if (result != cudaSuccess)
        return cuda_error(error, result, "attention");
    attend->turn++;
    return STATUS_OK;
}

static bool launched_alike(const struct launched *a, const struct launched *b)
{
    return a->memory == b->memory && a->variant == b->variant && a->n_writes == b->n_writes &&
           memcmp(&a->config, &b->config, sizeof(a->config)) == 0;
}

static enum status prepare(void *state, uint32_t slot, const struct attend_work *works,
                           size_t n_works, const struct attend_writes *writes, uint64_t *kind,
                           struct error *error)
{
    struct cuda_attend *attend = state;
    struct call *call = NULL;
    size_t bytes;
    enum status status = prepared_call(attend, slot, &call, error);
    if (status == STATUS_OK && call->turn == attend->turn)
        status = begin_turn(attend, error);
    if (status == STATUS_OK)
        status = attend_planner_plan(&attend->planner, works, n_works, error);
    if (status != STATUS_OK)
        return status;
    /* What was sent last has been read, by the copy. */
    const cudaError_t result = cudaEventSynchronize(call->there);
    if (result != cudaSuccess)
        return cuda_error(error, result, "attention");
    const struct launched before = call->launched;
    call->turn = attend->turn;
    call->ready = false;
    status = write_call(attend, call, n_works, writes, true, &bytes, error);
    if (status == STATUS_OK)
        status = send_call(attend, call, bytes, error);
    if (status != STATUS_OK)
        return status;
    call->ready = true;
    if (call->kind == 0 || !launched_alike(&before, &call->launched))
        call->kind = ++attend->n_kinds;
    if (kind != NULL)
        *kind = call->kind;
    return STATUS_OK;
}

static enum status launch(void *state, uint32_t slot, struct error *error)
{
    struct cuda_attend *attend = state;
    if (slot >= attend->n_prepared || attend->prepared[slot] == NULL ||
        !attend->prepared[slot]->ready)
        return error_set(error, STATUS_INVALID, "attention: call %u was not prepared", slot);
    const struct call *call = attend->prepared[slot];
    if (call->launched.n_writes > 0)
        cuda_tiles_write_listed(attend->device,
                                (const struct write_list *)((char *)call->device + WRITES_AT),
                                call->launched.n_writes);
    /* All blocks that there can be: what is prepared later may need more than now. */
    return launch_call(attend, call, call->launched.config.n_blocks, error);
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
    .write = cuda_tiles_write,
    .read = cuda_tiles_read,
};
