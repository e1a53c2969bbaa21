/* group_exchange.c - activations between stages and shards, once they are arranged.
 *
 * The sum: up to SUM_DIRECT_BYTES, or with two shards, everybody sends its part to everybody (one
 * latency); above, shard i sums slice i and sends it back (reduce-scatter, then all-gather: twice
 * the latency, 2 (t - 1) / t of the bytes; Thakur, Rabenseifner and Gropp 2005). Both add as one
 * tree over the shards: an MPI_Allreduce picks its algorithm, hence its order, by the message's
 * size, and a prompt's logits would depend on how it was cut in chunks.
 *
 * Activations are device memory. MPI is given it where it can read and write it; otherwise what
 * leaves is downloaded to host memory and what came is uploaded from there (`staged`). Sums are
 * made on the device either way. */
#include "worker/group_state.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#if defined(OPEN_MPI)
#include <mpi-ext.h>
#endif

enum { SUM_DIRECT_BYTES = 64 * 1024 };

/* ---- device memory and MPI ------------------------------------------------------------------- */

/* What the library says of itself now, not when it was built: it may have been exchanged. */
static bool mpi_takes_cuda(void)
{
#if defined(MPIX_CUDA_AWARE_SUPPORT)
    return MPIX_Query_cuda_support() == 1;
#else
    return false;
#endif
}

static enum status take_staging(struct group *group, size_t n_floats, size_t n_parts,
                                struct error *error)
{
    struct group_staging *staging = &group->staging;
    const bool sums = group->tensor > 1;
    const bool first = group->stage == 0, last = group->rank + group->tensor >= group->n_ranks;
    const struct {
        float **memory;
        size_t n_floats;
        bool needed;
    } all[] = {
        {&staging->sum, n_floats, sums},          {&staging->parts, n_parts, sums},
        {&staging->rows_in, n_floats, !first},    {&staging->rows_out[0], n_floats, !last},
        {&staging->rows_out[1], n_floats, !last},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        void *memory = NULL;
        if (!all[i].needed)
            continue;
        const enum status status = group->kernels->host_take(
            group->device, &memory, all[i].n_floats * sizeof(float), error);
        if (status != STATUS_OK)
            return status;
        *all[i].memory = memory;
    }
    return STATUS_OK;
}

/* Before MPI reads n floats of x: they are there, or in `staged`. *seen is where. */
static enum status leave(struct group *group, float *x, float *staged, size_t n, float **seen,
                         struct error *error)
{
    if (group->staged)
        group->kernels->download(group->device, staged, x, n * sizeof(float));
    *seen = group->staged ? staged : x;
    return group->kernels->finish(group->device, error);
}

/* After MPI has written n floats. */
static void arrive(struct group *group, float *x, const float *staged, size_t n)
{
    if (group->staged)
        group->kernels->upload(group->device, x, staged, n * sizeof(float));
}

/* ---- stages and shards ----------------------------------------------------------------------- */

enum status group_arrange(struct group *group, uint32_t n_stages, uint32_t tensor, size_t n_floats,
                          const struct kernels *kernels, struct device *device, struct error *error)
{
    assert(n_stages * tensor == group->n_ranks && group->requests == NULL);
    if (n_floats > INT_MAX / sizeof(float))
        return error_set(error, STATUS_INVALID,
                         "group: a step of %zu activations is more than one message holds: take "
                         "smaller chunks",
                         n_floats);
    group->tensor = tensor;
    group->stage = group->rank / tensor;
    group->shard = group->rank % tensor;
    group->kernels = kernels;
    group->device = device;
    group->staged = !kernels->host_memory && !(kernels->cuda_memory && mpi_takes_cuda());
    size_t parts = SUM_DIRECT_BYTES / sizeof(float) * (tensor - 1);
    if (parts < n_floats + (size_t)tensor * tensor)
        parts =
            n_floats + (size_t)tensor * tensor; /* the last slice is longer by up to tensor - 1 */
    enum status status = STATUS_OK;
    if (group->staged)
        status = take_staging(group, n_floats, parts, error);
    if (tensor == 1 || status != STATUS_OK)
        return status;
    void *memory;
    status = kernels->memory_take(device, &memory, parts * sizeof(float), error);
    if (status != STATUS_OK)
        return status;
    group->parts = memory;
    if ((group->requests = malloc(2 * (size_t)tensor * sizeof(MPI_Request))) == NULL)
        return error_set(error, STATUS_NO_MEMORY, "group: no memory for %u shards", tensor);
    return STATUS_OK;
}

void group_disperse(struct group *group)
{
    const struct kernels *kernels = group->kernels;
    struct group_staging *staging = &group->staging;
    float *const host[] = {staging->sum, staging->parts, staging->rows_in, staging->rows_out[0],
                           staging->rows_out[1]};
    if (kernels == NULL)
        return;
    for (size_t i = 0; i < sizeof(host) / sizeof(host[0]); i++)
        kernels->host_give(group->device, host[i]);
    kernels->memory_give(group->device, group->parts);
    free(group->requests);
    *staging = (struct group_staging){0};
    group->parts = NULL;
    group->requests = NULL;
    group->kernels = NULL;
}

uint32_t group_shard(const struct group *group)
{
    return group->shard;
}

uint32_t group_tensor(const struct group *group)
{
    return group->tensor;
}

static int peer(const struct group *group, uint32_t shard)
{
    return (int)(group->stage * group->tensor + shard);
}

static void slice(const struct group *group, size_t n, uint32_t shard, size_t *begin,
                  size_t *length)
{
    *begin = n / group->tensor * shard;
    *length = shard + 1 < group->tensor ? n / group->tensor : n - *begin;
}

static float *part_of(struct group *group, float *mine, size_t stride, uint32_t shard)
{
    if (shard == group->shard)
        return mine;
    return group->parts + (shard < group->shard ? shard : shard - 1) * stride;
}

/* Adds up all shards' parts, the others' `stride` floats apart in the order of shards (mine left
 * out), and puts the sum into mine: a binary tree by shard, on every rank the same, ((0 + 1) + (2 +
 * 3))... Where shards are aligned segments of the columns, this is the tree of kernels.h and has
 * its bits. */
static void add_as_tree(struct group *group, float *mine, size_t n, size_t stride)
{
    for (uint32_t step = 1; step < group->tensor; step *= 2)
        for (uint32_t shard = 0; shard + step < group->tensor; shard += 2 * step)
            group->kernels->add(group->device, part_of(group, mine, stride, shard),
                                part_of(group, mine, stride, shard + step), n);
    if (group->shard != 0)
        group->kernels->copy(group->device, mine, part_of(group, mine, stride, 0),
                             n * sizeof(float));
}

/* What goes to one other shard, and where what it sends goes. */
struct exchange {
    const float *out;
    size_t n_out;
    float *in;
    size_t n_in;
};

static enum status exchange(struct group *group, uint32_t shard, struct exchange *with, int tag,
                            int *n_requests, struct error *error)
{
    int code = MPI_Irecv(with->in, (int)with->n_in, MPI_FLOAT, peer(group, shard), tag, group->comm,
                         &group->requests[*n_requests]);
    if (code == MPI_SUCCESS)
        code = MPI_Isend(with->out, (int)with->n_out, MPI_FLOAT, peer(group, shard), tag,
                         group->comm, &group->requests[++*n_requests]);
    if (code != MPI_SUCCESS)
        return group_mpi_failed(code, "adding over the stage's shards", error);
    ++*n_requests;
    return STATUS_OK;
}

/* phase 0: everybody's whole x; 1: everybody's part of each slice; 2: everybody's summed slice. x:
 * as MPI sees it. */
static enum status exchange_all(struct group *group, float *x, size_t n, int phase,
                                struct error *error)
{
    int n_requests = 0;
    size_t my_begin, my_length;
    slice(group, n, group->shard, &my_begin, &my_length);
    float *part = group->staged ? group->staging.parts : group->parts;
    for (uint32_t shard = 0; shard < group->tensor; shard++) {
        if (shard == group->shard)
            continue;
        size_t begin, length;
        slice(group, n, shard, &begin, &length);
        struct exchange with = {x, n, part, n};
        if (phase == 1)
            with = (struct exchange){x + begin, length, part, my_length};
        else if (phase == 2)
            with = (struct exchange){x + my_begin, my_length, x + begin, length};
        part += with.n_in;
        const enum status status = exchange(
            group, shard, &with, phase == 2 ? TAG_SUM_DONE : TAG_SUM_PART, &n_requests, error);
        if (status != STATUS_OK)
            return status;
    }
    return group_await(group, group->requests, n_requests, "adding over the stage's shards", error);
}

/* What the other shards sent, `stride` floats of each, is added to n floats of mine, on the
 * device. */
static void add_parts(struct group *group, float *mine, size_t n, size_t stride)
{
    const uint64_t at = trace_begin(group->trace);
    arrive(group, group->parts, group->staging.parts, (group->tensor - 1) * stride);
    add_as_tree(group, mine, n, stride);
    trace_span(group->trace, "add sums", at);
}

static enum status sum_whole(struct group *group, float *x, size_t n, struct error *error)
{
    float *seen;
    const uint64_t at = trace_begin(group->trace);
    enum status status = leave(group, x, group->staging.sum, n, &seen, error);
    if (status == STATUS_OK)
        status = exchange_all(group, seen, n, 0, error);
    trace_span(group->trace, "exchange sums", at);
    if (status == STATUS_OK)
        add_parts(group, x, n, n);
    return status;
}

static enum status sum_slices(struct group *group, float *x, size_t n, struct error *error)
{
    float *staged = group->staging.sum, *seen;
    size_t begin, length;
    slice(group, n, group->shard, &begin, &length);
    uint64_t at = trace_begin(group->trace);
    enum status status = leave(group, x, staged, n, &seen, error);
    if (status == STATUS_OK)
        status = exchange_all(group, seen, n, 1, error);
    trace_span(group->trace, "exchange sums", at);
    if (status != STATUS_OK)
        return status;
    add_parts(group, x + begin, length, length);

    at = trace_begin(group->trace);
    float *summed;
    status = leave(group, x + begin, group->staged ? staged + begin : NULL, length, &summed, error);
    if (status == STATUS_OK)
        status = exchange_all(group, seen, n, 2, error);
    if (status == STATUS_OK)
        arrive(group, x, staged, n);
    trace_span(group->trace, "exchange sums", at);
    return status;
}

enum status group_sum(struct group *group, float *x, size_t n, struct error *error)
{
    if (group->tensor == 1 || n == 0)
        return STATUS_OK;
    return group->tensor == 2 || n * sizeof(float) <= SUM_DIRECT_BYTES
               ? sum_whole(group, x, n, error)
               : sum_slices(group, x, n, error);
}

enum status group_receive_rows(struct group *group, float *rows, size_t n, struct error *error)
{
    MPI_Request request;
    float *seen = group->staged ? group->staging.rows_in : rows;
    /* What came last may still be on its way to the device. */
    enum status status = group->kernels->finish(group->device, error);
    if (status != STATUS_OK)
        return status;
    const int code = MPI_Irecv(seen, (int)n, MPI_FLOAT, (int)(group->rank - group->tensor),
                               TAG_ROWS, group->comm, &request);
    if (code != MPI_SUCCESS)
        return group_mpi_failed(code, "receiving rows of the stage before", error);
    const uint64_t at = trace_begin(group->trace);
    status = group_await(group, &request, 1, "receiving rows of the stage before", error);
    if (status == STATUS_OK)
        arrive(group, rows, seen, n);
    trace_span(group->trace, "wait for rows", at);
    return status;
}

enum status group_send_rows(struct group *group, float *rows, size_t n, uint32_t slot,
                            struct error *error)
{
    float *seen;
    const uint64_t at = trace_begin(group->trace);
    const enum status status = leave(group, rows, group->staging.rows_out[slot], n, &seen, error);
    if (status != STATUS_OK)
        return status;
    const int code = MPI_Isend(seen, (int)n, MPI_FLOAT, (int)(group->rank + group->tensor),
                               TAG_ROWS, group->comm, &group->rows[slot]);
    trace_span(group->trace, "send rows", at);
    return code == MPI_SUCCESS ? STATUS_OK
                               : group_mpi_failed(code, "sending rows to the next stage", error);
}

enum status group_rows_sent(struct group *group, uint32_t slot, struct error *error)
{
    if (group->rows[slot] == MPI_REQUEST_NULL)
        return STATUS_OK;
    const uint64_t at = trace_begin(group->trace);
    const enum status status =
        group_await(group, &group->rows[slot], 1, "sending rows to the next stage", error);
    trace_span(group->trace, "send rows", at);
    return status;
}

enum status group_collect(struct group *group, const void *mine, void *all, size_t n_bytes,
                          struct error *error)
{
    if (group->tensor == 1) {
        memcpy(all, mine, n_bytes);
        return STATUS_OK;
    }
    if (n_bytes > INT_MAX)
        return error_set(error, STATUS_EXHAUSTED, "group: results of %zu bytes", n_bytes);
    int code = MPI_SUCCESS, n_requests = 0;
    if (group->shard != 0) {
        code = MPI_Isend(mine, (int)n_bytes, MPI_BYTE, peer(group, 0), TAG_COLLECT, group->comm,
                         &group->requests[n_requests++]);
    } else {
        memcpy(all, mine, n_bytes);
        for (uint32_t shard = 1; shard < group->tensor && code == MPI_SUCCESS; shard++)
            code = MPI_Irecv((uint8_t *)all + shard * n_bytes, (int)n_bytes, MPI_BYTE,
                             peer(group, shard), TAG_COLLECT, group->comm,
                             &group->requests[n_requests++]);
    }
    if (code != MPI_SUCCESS)
        return group_mpi_failed(code, "collecting results", error);
    return group_await(group, group->requests, n_requests, "collecting results", error);
}
