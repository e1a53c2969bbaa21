/* group.c - point-to-point messages only, so that each wait can be a test in a loop.
 *
 * The sum: up to SUM_DIRECT_BYTES, or with two shards, everybody sends its part to everybody (one
 * latency); above, shard i sums slice i and sends it back (reduce-scatter, then all-gather: twice
 * the latency, 2 (t - 1) / t of the bytes; Thakur, Rabenseifner and Gropp 2005). Both add as one
 * tree over the shards: an MPI_Allreduce picks its algorithm, hence its order, by the message's
 * size, and a prompt's logits would depend on how it was cut in chunks. */
#include "worker/group.h"

#include "proto/waiting.h"
#include "sys/memory.h"
#include "sys/topology.h"

#include <assert.h>
#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

enum {
    BROADCASTS = 8, /* leaving at the same time */
    SUM_DIRECT_BYTES = 64 * 1024,
    TAG_CONTROL = 1,
    TAG_ROWS,
    TAG_SUM_PART,
    TAG_SUM_DONE,
    TAG_COLLECT,
};

struct broadcast {
    uint8_t *bytes;
    size_t capacity;
    MPI_Request *requests; /* [ranks - 1] */
};

struct group {
    bool alone; /* no MPI */
    MPI_Comm comm;
    uint32_t rank, n_ranks;
    enum status (*tick)(void *context, struct error *error);
    void *tick_context;
    uint32_t spin_us;

    struct broadcast broadcasts[BROADCASTS];
    uint32_t next_broadcast;
    uint8_t *received;
    size_t received_capacity;

    uint32_t tensor, stage, shard;
    const struct kernels *kernels;
    struct device *device;
    float *parts; /* what other shards send */
    size_t parts_floats;
    MPI_Request *requests; /* [2 * tensor] of the sum that runs */
    MPI_Request rows[2];
    struct trace_track *trace;
};

static enum status mpi_failed(int code, const char *what, struct error *error)
{
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    if (MPI_Error_string(code, text, &length) != MPI_SUCCESS)
        length = 0;
    return error_set(error, STATUS_FAILED, "MPI: %s failed: %.*s", what, length, text);
}

static enum status call_tick(struct group *group, struct error *error)
{
    return group->tick != NULL ? group->tick(group->tick_context, error) : STATUS_OK;
}

static enum status pause_and_tick(struct group *group, struct waiting *waiting, struct error *error)
{
    waiting_pause(waiting); /* has no deadline: a dead rank ends the job, and so does the tick */
    return call_tick(group, error);
}

/* Until all of the requests are complete. */
static enum status finish(struct group *group, MPI_Request *requests, int n, const char *what,
                          struct error *error)
{
    struct waiting waiting;
    waiting_begin(&waiting, UINT64_MAX, group->spin_us);
    for (;;) {
        int done = 0;
        const int code = MPI_Testall(n, requests, &done, MPI_STATUSES_IGNORE);
        if (code != MPI_SUCCESS)
            return mpi_failed(code, what, error);
        if (done)
            return STATUS_OK;
        const enum status status = pause_and_tick(group, &waiting, error);
        if (status != STATUS_OK)
            return status;
    }
}

enum status group_create(struct group **group,
                         enum status (*tick)(void *context, struct error *error), void *context,
                         struct error *error)
{
    struct group *g = calloc(1, sizeof(*g));
    if (g == NULL)
        return error_set(error, STATUS_NO_MEMORY, "group: no memory");
    int initialized = 0, code = MPI_Initialized(&initialized);
    g->alone = code != MPI_SUCCESS || !initialized;
    g->comm = MPI_COMM_NULL;
    g->n_ranks = g->tensor = 1;
    g->tick = tick;
    g->tick_context = context;
    g->rows[0] = g->rows[1] = MPI_REQUEST_NULL;
    if (!g->alone) {
        int rank = 0, n_ranks = 0;
        if ((code = MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN)) != MPI_SUCCESS ||
            (code = MPI_Comm_dup(MPI_COMM_WORLD, &g->comm)) != MPI_SUCCESS ||
            (code = MPI_Comm_rank(g->comm, &rank)) != MPI_SUCCESS ||
            (code = MPI_Comm_size(g->comm, &n_ranks)) != MPI_SUCCESS) {
            group_destroy(g);
            return mpi_failed(code, "looking at the ranks", error);
        }
        g->rank = (uint32_t)rank;
        g->n_ranks = (uint32_t)n_ranks;
    }
    const uint32_t n_others = g->n_ranks - 1;
    for (int i = 0; i < BROADCASTS && n_others > 0; i++) {
        if ((g->broadcasts[i].requests = malloc(n_others * sizeof(MPI_Request))) == NULL) {
            group_destroy(g);
            return error_set(error, STATUS_NO_MEMORY, "group: no memory for %u ranks", n_others);
        }
        for (uint32_t j = 0; j < n_others; j++)
            g->broadcasts[i].requests[j] = MPI_REQUEST_NULL;
    }
    *group = g;
    return STATUS_OK;
}

void group_destroy(struct group *group)
{
    if (group == NULL)
        return;
    if (group->comm != MPI_COMM_NULL)
        MPI_Comm_free(&group->comm);
    for (int i = 0; i < BROADCASTS; i++) {
        free(group->broadcasts[i].bytes);
        free(group->broadcasts[i].requests);
    }
    free(group->received);
    free(group->requests);
    memory_release(group->parts, group->parts_floats * sizeof(float));
    free(group);
}

void group_trace(struct group *group, struct trace_track *track)
{
    group->trace = track;
}

uint32_t group_rank(const struct group *group)
{
    return group->rank;
}

uint32_t group_ranks(const struct group *group)
{
    return group->n_ranks;
}

/* ---- all ranks ------------------------------------------------------------------------------- */

/* A launcher binds ranks to processors of their own or lets them share: masks tell which. */
enum status group_lanes(struct group *group, uint32_t *n_lanes, uint32_t *n_local,
                        struct error *error)
{
    const uint32_t n_processors = topology_processors();
    if (group->alone) {
        *n_lanes = n_processors;
        *n_local = 1;
        return STATUS_OK;
    }
    struct topology_mask mine;
    topology_allowed(&mine);
    MPI_Comm host = MPI_COMM_NULL;
    int n = 0;
    int code = MPI_Comm_split_type(group->comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_size(host, &n);
    if (code != MPI_SUCCESS)
        return mpi_failed(code, "finding the ranks of this host", error);

    enum status status = STATUS_OK;
    struct topology_mask *all = calloc((size_t)n, sizeof(*all));
    if (all == NULL) {
        status = error_set(error, STATUS_NO_MEMORY, "group: no memory for %d ranks", n);
    } else if ((code = MPI_Allgather(&mine, sizeof(mine), MPI_BYTE, all, sizeof(mine), MPI_BYTE,
                                     host)) != MPI_SUCCESS) {
        status = mpi_failed(code, "comparing the processors of ranks", error);
    } else {
        uint32_t n_sharing = 0;
        for (int i = 0; i < n; i++) {
            bool shares = false;
            for (size_t word = 0; word < sizeof(mine.bits) / sizeof(mine.bits[0]); word++)
                shares |= (all[i].bits[word] & mine.bits[word]) != 0;
            n_sharing += shares;
        }
        n_sharing = n_sharing > 0 ? n_sharing : 1;
        *n_lanes = n_processors / n_sharing > 0 ? n_processors / n_sharing : 1;
        *n_local = (uint32_t)n;
    }
    free(all);
    MPI_Comm_free(&host);
    return status;
}

enum status group_gather(struct group *group, const void *mine, void *all, size_t n_bytes,
                         struct error *error)
{
    if (group->alone) {
        memcpy(all, mine, n_bytes);
        return STATUS_OK;
    }
    assert(n_bytes <= INT_MAX);
    MPI_Request request;
    const int code = MPI_Igather(mine, (int)n_bytes, MPI_BYTE, all, (int)n_bytes, MPI_BYTE, 0,
                                 group->comm, &request);
    if (code != MPI_SUCCESS)
        return mpi_failed(code, "gathering from all ranks", error);
    return finish(group, &request, 1, "gathering from all ranks", error);
}

enum status group_largest(struct group *group, uint32_t *value, struct error *error)
{
    if (group->alone)
        return STATUS_OK;
    MPI_Request request;
    uint32_t largest = 0;
    const int code =
        MPI_Iallreduce(value, &largest, 1, MPI_UINT32_T, MPI_MAX, group->comm, &request);
    if (code != MPI_SUCCESS)
        return mpi_failed(code, "agreeing with all ranks", error);
    const enum status status = finish(group, &request, 1, "agreeing with all ranks", error);
    if (status == STATUS_OK)
        *value = largest;
    return status;
}

enum status group_broadcast(struct group *group, const void *bytes, size_t n_bytes,
                            struct error *error)
{
    const int n_others = (int)group->n_ranks - 1;
    if (n_others == 0)
        return STATUS_OK;
    if (n_bytes > INT_MAX)
        return error_set(error, STATUS_PROTOCOL, "group: a message of %zu bytes", n_bytes);
    struct broadcast *slot = &group->broadcasts[group->next_broadcast++ % BROADCASTS];
    const enum status status = finish(group, slot->requests, n_others, "broadcasting", error);
    if (status != STATUS_OK)
        return status;
    if (slot->capacity < n_bytes) {
        free(slot->bytes);
        slot->capacity = 0;
        if ((slot->bytes = malloc(n_bytes)) == NULL)
            return error_set(error, STATUS_NO_MEMORY, "group: no memory for %zu bytes", n_bytes);
        slot->capacity = n_bytes;
    }
    if (n_bytes > 0)
        memcpy(slot->bytes, bytes, n_bytes);
    for (int i = 0; i < n_others; i++) {
        const int code = MPI_Isend(slot->bytes, (int)n_bytes, MPI_BYTE, i + 1, TAG_CONTROL,
                                   group->comm, &slot->requests[i]);
        if (code != MPI_SUCCESS)
            return mpi_failed(code, "broadcasting", error);
    }
    return STATUS_OK;
}

enum status group_receive(struct group *group, const uint8_t **bytes, size_t *n_bytes,
                          struct error *error)
{
    assert(group->rank != 0);
    struct waiting waiting;
    waiting_begin(&waiting, UINT64_MAX, group->spin_us);
    MPI_Message message;
    MPI_Status from;
    for (int found = 0;;) {
        const int code = MPI_Improbe(0, TAG_CONTROL, group->comm, &found, &message, &from);
        if (code != MPI_SUCCESS)
            return mpi_failed(code, "waiting for rank 0", error);
        if (found)
            break;
        const enum status status = pause_and_tick(group, &waiting, error);
        if (status != STATUS_OK)
            return status;
    }
    int n = 0;
    int code = MPI_Get_count(&from, MPI_BYTE, &n);
    if (code != MPI_SUCCESS || n < 0)
        return mpi_failed(code, "reading a message of rank 0", error);
    if (group->received_capacity < (size_t)n) {
        free(group->received);
        group->received_capacity = 0;
        if ((group->received = malloc((size_t)n)) == NULL)
            return error_set(error, STATUS_NO_MEMORY, "group: no memory for %d bytes", n);
        group->received_capacity = (size_t)n;
    }
    MPI_Request request;
    if ((code = MPI_Imrecv(group->received, n, MPI_BYTE, &message, &request)) != MPI_SUCCESS)
        return mpi_failed(code, "receiving from rank 0", error);
    const enum status status = finish(group, &request, 1, "receiving from rank 0", error);
    if (status == STATUS_OK) {
        *bytes = group->received;
        *n_bytes = (size_t)n;
    }
    return status;
}

bool group_is_sending(const struct group *group)
{
    bool sending = group->rows[0] != MPI_REQUEST_NULL || group->rows[1] != MPI_REQUEST_NULL;
    for (uint32_t i = 0; i < BROADCASTS && group->n_ranks > 1; i++)
        for (uint32_t j = 0; j + 1 < group->n_ranks; j++)
            sending |= group->broadcasts[i].requests[j] != MPI_REQUEST_NULL;
    return sending;
}

/* A request that is complete becomes MPI_REQUEST_NULL. */
enum status group_progress(struct group *group, struct error *error)
{
    if (group->alone)
        return call_tick(group, error);
    int done = 0, code = MPI_Testall(2, group->rows, &done, MPI_STATUSES_IGNORE);
    for (uint32_t i = 0; i < BROADCASTS && group->n_ranks > 1 && code == MPI_SUCCESS; i++)
        code = MPI_Testall((int)group->n_ranks - 1, group->broadcasts[i].requests, &done,
                           MPI_STATUSES_IGNORE);
    return code == MPI_SUCCESS ? call_tick(group, error) : mpi_failed(code, "sending", error);
}

enum status group_flush(struct group *group, struct error *error)
{
    if (group->alone)
        return STATUS_OK;
    enum status status = finish(group, group->rows, 2, "sending rows", error);
    for (uint32_t i = 0; i < BROADCASTS && group->n_ranks > 1 && status == STATUS_OK; i++)
        status = finish(group, group->broadcasts[i].requests, (int)group->n_ranks - 1,
                        "broadcasting", error);
    return status;
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
    if (tensor == 1)
        return STATUS_OK;

    size_t parts = SUM_DIRECT_BYTES / sizeof(float) * (tensor - 1);
    if (parts < n_floats + (size_t)tensor * tensor)
        parts =
            n_floats + (size_t)tensor * tensor; /* the last slice is longer by up to tensor - 1 */
    void *memory;
    const enum status status = memory_reserve(&memory, parts * sizeof(float), error);
    if (status != STATUS_OK)
        return status;
    group->parts = memory;
    group->parts_floats = parts;
    if ((group->requests = malloc(2 * (size_t)tensor * sizeof(MPI_Request))) == NULL)
        return error_set(error, STATUS_NO_MEMORY, "group: no memory for %u shards", tensor);
    return STATUS_OK;
}

uint32_t group_stage(const struct group *group)
{
    return group->stage;
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
        memcpy(mine, part_of(group, mine, stride, 0), n * sizeof(float));
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
        return mpi_failed(code, "adding over the stage's shards", error);
    ++*n_requests;
    return STATUS_OK;
}

/* phase 0: everybody's whole x; 1: everybody's part of each slice; 2: everybody's summed slice. */
static enum status exchange_all(struct group *group, float *x, size_t n, int phase,
                                struct error *error)
{
    int n_requests = 0;
    size_t my_begin, my_length;
    slice(group, n, group->shard, &my_begin, &my_length);
    float *part = group->parts;
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
    return finish(group, group->requests, n_requests, "adding over the stage's shards", error);
}

enum status group_sum(struct group *group, float *x, size_t n, struct error *error)
{
    if (group->tensor == 1 || n == 0)
        return STATUS_OK;
    if (group->tensor == 2 || n * sizeof(float) <= SUM_DIRECT_BYTES) {
        uint64_t at = trace_begin(group->trace);
        const enum status status = exchange_all(group, x, n, 0, error);
        at = trace_span(group->trace, "exchange sums", at);
        if (status == STATUS_OK)
            add_as_tree(group, x, n, n);
        trace_span(group->trace, "add sums", at);
        return status;
    }
    size_t begin, length;
    slice(group, n, group->shard, &begin, &length);
    uint64_t at = trace_begin(group->trace);
    enum status status = exchange_all(group, x, n, 1, error);
    at = trace_span(group->trace, "exchange sums", at);
    if (status != STATUS_OK)
        return status;
    add_as_tree(group, x + begin, length, length);
    at = trace_span(group->trace, "add sums", at);
    status = exchange_all(group, x, n, 2, error);
    trace_span(group->trace, "exchange sums", at);
    return status;
}

enum status group_receive_rows(struct group *group, float *rows, size_t n, struct error *error)
{
    MPI_Request request;
    const int code = MPI_Irecv(rows, (int)n, MPI_FLOAT, (int)(group->rank - group->tensor),
                               TAG_ROWS, group->comm, &request);
    if (code != MPI_SUCCESS)
        return mpi_failed(code, "receiving rows of the stage before", error);
    const uint64_t at = trace_begin(group->trace);
    const enum status status =
        finish(group, &request, 1, "receiving rows of the stage before", error);
    trace_span(group->trace, "wait for rows", at);
    return status;
}

enum status group_send_rows(struct group *group, const float *rows, size_t n, uint32_t slot,
                            struct error *error)
{
    const uint64_t at = trace_begin(group->trace);
    const int code = MPI_Isend(rows, (int)n, MPI_FLOAT, (int)(group->rank + group->tensor),
                               TAG_ROWS, group->comm, &group->rows[slot]);
    trace_span(group->trace, "send rows", at);
    return code == MPI_SUCCESS ? STATUS_OK
                               : mpi_failed(code, "sending rows to the next stage", error);
}

enum status group_rows_sent(struct group *group, uint32_t slot, struct error *error)
{
    if (group->rows[slot] == MPI_REQUEST_NULL)
        return STATUS_OK;
    const uint64_t at = trace_begin(group->trace);
    const enum status status =
        finish(group, &group->rows[slot], 1, "sending rows to the next stage", error);
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
        return mpi_failed(code, "collecting results", error);
    return finish(group, group->requests, n_requests, "collecting results", error);
}
