/* group.c - the job's ranks and control; point-to-point messages only, so that each wait can be a
 * test in a loop. */
#include "worker/group_state.h"

#include "proto/waiting.h"
#include "sys/topology.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum status group_mpi_failed(int code, const char *what, struct error *error)
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
enum status group_await(struct group *group, MPI_Request *requests, int n, const char *what,
                        struct error *error)
{
    struct waiting waiting;
    waiting_begin(&waiting, UINT64_MAX, group->spin_us);
    for (;;) {
        int done = 0;
        const int code = MPI_Testall(n, requests, &done, MPI_STATUSES_IGNORE);
        if (code != MPI_SUCCESS)
            return group_mpi_failed(code, what, error);
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
            return group_mpi_failed(code, "looking at the ranks", error);
        }
        g->rank = (uint32_t)rank;
        g->n_ranks = (uint32_t)n_ranks;
    }
    const uint32_t n_others = g->n_ranks - 1;
    for (int i = 0; i < GROUP_BROADCASTS && n_others > 0; i++) {
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
    for (int i = 0; i < GROUP_BROADCASTS; i++) {
        free(group->broadcasts[i].bytes);
        free(group->broadcasts[i].requests);
    }
    free(group->received);
    group_disperse(group);
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

/* What each rank of this host has to say, `n_bytes` of it: *all, which the caller frees. */
static enum status ask_host(struct group *group, const void *mine, size_t n_bytes, void **all,
                            struct group_local *local, struct error *error)
{
    MPI_Comm host = MPI_COMM_NULL;
    int n = 0, rank = 0;
    void *answers = NULL;
    enum status status = STATUS_OK;
    int code = MPI_Comm_split_type(group->comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_size(host, &n);
    if (code == MPI_SUCCESS)
        code = MPI_Comm_rank(host, &rank);
    if (code == MPI_SUCCESS && (answers = calloc((size_t)n, n_bytes)) == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "group: no memory for %d ranks", n);
    else if (code == MPI_SUCCESS)
        code = MPI_Allgather(mine, (int)n_bytes, MPI_BYTE, answers, (int)n_bytes, MPI_BYTE, host);
    if (code != MPI_SUCCESS)
        status = group_mpi_failed(code, "asking the ranks of this host", error);
    if (host != MPI_COMM_NULL)
        MPI_Comm_free(&host);
    if (status != STATUS_OK) {
        free(answers);
        return status;
    }
    *all = answers;
    *local = (struct group_local){(uint32_t)n, (uint32_t)rank};
    return STATUS_OK;
}

/* A launcher binds ranks to processors of their own or lets them share: masks tell which. */
enum status group_lanes(struct group *group, uint32_t *n_lanes, struct group_local *local,
                        struct error *error)
{
    const uint32_t n_processors = topology_processors();
    if (group->alone) {
        *n_lanes = n_processors;
        *local = (struct group_local){1, 0};
        return STATUS_OK;
    }
    struct topology_mask mine;
    void *answers;
    topology_allowed(&mine);
    const enum status status = ask_host(group, &mine, sizeof(mine), &answers, local, error);
    if (status != STATUS_OK)
        return status;
    const struct topology_mask *all = answers;
    uint32_t n_sharing = 0;
    for (uint32_t i = 0; i < local->n_ranks; i++) {
        bool shares = false;
        for (size_t word = 0; word < sizeof(mine.bits) / sizeof(mine.bits[0]); word++)
            shares |= (all[i].bits[word] & mine.bits[word]) != 0;
        n_sharing += shares;
    }
    n_sharing = n_sharing > 0 ? n_sharing : 1;
    *n_lanes = n_processors / n_sharing > 0 ? n_processors / n_sharing : 1;
    free(answers);
    return STATUS_OK;
}

enum status group_sharers(struct group *group, const char *device, uint32_t *n_sharers,
                          struct error *error)
{
    enum { NAME_BYTES = 32 };
    char mine[NAME_BYTES] = "";
    struct group_local local;
    void *all;
    *n_sharers = 1;
    if (group->alone)
        return STATUS_OK;
    snprintf(mine, sizeof(mine), "%s", device);
    const enum status status = ask_host(group, mine, sizeof(mine), &all, &local, error);
    if (status != STATUS_OK)
        return status;
    *n_sharers = 0;
    for (uint32_t i = 0; i < local.n_ranks; i++)
        *n_sharers += memcmp((const char *)all + (size_t)i * NAME_BYTES, mine, NAME_BYTES) == 0;
    free(all);
    return STATUS_OK;
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
        return group_mpi_failed(code, "gathering from all ranks", error);
    return group_await(group, &request, 1, "gathering from all ranks", error);
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
        return group_mpi_failed(code, "agreeing with all ranks", error);
    const enum status status = group_await(group, &request, 1, "agreeing with all ranks", error);
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
    struct group_broadcast *slot = &group->broadcasts[group->next_broadcast++ % GROUP_BROADCASTS];
    const enum status status = group_await(group, slot->requests, n_others, "broadcasting", error);
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
            return group_mpi_failed(code, "broadcasting", error);
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
            return group_mpi_failed(code, "waiting for rank 0", error);
        if (found)
            break;
        const enum status status = pause_and_tick(group, &waiting, error);
        if (status != STATUS_OK)
            return status;
    }
    int n = 0;
    int code = MPI_Get_count(&from, MPI_BYTE, &n);
    if (code != MPI_SUCCESS || n < 0)
        return group_mpi_failed(code, "reading a message of rank 0", error);
    if (group->received_capacity < (size_t)n) {
        free(group->received);
        group->received_capacity = 0;
        if ((group->received = malloc((size_t)n)) == NULL)
            return error_set(error, STATUS_NO_MEMORY, "group: no memory for %d bytes", n);
        group->received_capacity = (size_t)n;
    }
    MPI_Request request;
    if ((code = MPI_Imrecv(group->received, n, MPI_BYTE, &message, &request)) != MPI_SUCCESS)
        return group_mpi_failed(code, "receiving from rank 0", error);
    const enum status status = group_await(group, &request, 1, "receiving from rank 0", error);
    if (status == STATUS_OK) {
        *bytes = group->received;
        *n_bytes = (size_t)n;
    }
    return status;
}

bool group_is_sending(const struct group *group)
{
    bool sending = group->rows[0] != MPI_REQUEST_NULL || group->rows[1] != MPI_REQUEST_NULL;
    for (uint32_t i = 0; i < GROUP_BROADCASTS && group->n_ranks > 1; i++)
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
    for (uint32_t i = 0; i < GROUP_BROADCASTS && group->n_ranks > 1 && code == MPI_SUCCESS; i++)
        code = MPI_Testall((int)group->n_ranks - 1, group->broadcasts[i].requests, &done,
                           MPI_STATUSES_IGNORE);
    return code == MPI_SUCCESS ? call_tick(group, error) : group_mpi_failed(code, "sending", error);
}

enum status group_flush(struct group *group, struct error *error)
{
    if (group->alone)
        return STATUS_OK;
    enum status status = group_await(group, group->rows, 2, "sending rows", error);
    for (uint32_t i = 0; i < GROUP_BROADCASTS && group->n_ranks > 1 && status == STATUS_OK; i++)
        status = group_await(group, group->broadcasts[i].requests, (int)group->n_ranks - 1,
                             "broadcasting", error);
    return status;
}
