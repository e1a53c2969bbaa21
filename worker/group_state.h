/* worker/group_state.h - what group.c (the job, control) and group_exchange.c (activations)
 * share. */
#ifndef LONGSPAN_WORKER_GROUP_STATE_H
#define LONGSPAN_WORKER_GROUP_STATE_H

#include "worker/group.h"

#include <mpi.h>

enum {
    GROUP_BROADCASTS = 8, /* leaving at the same time */
    TAG_CONTROL = 1,
    TAG_ROWS,
    TAG_SUM_PART,
    TAG_SUM_DONE,
    TAG_COLLECT,
};

struct group_broadcast {
    uint8_t *bytes;
    size_t capacity;
    MPI_Request *requests; /* [ranks - 1] */
};

/* Host memory through which device data goes that MPI cannot read and write itself. */
struct group_staging {
    float *sum, *parts; /* as x and parts of a sum */
    float *rows_in, *rows_out[2];
};

struct group {
    bool alone; /* no MPI */
    MPI_Comm comm;
    uint32_t rank, n_ranks;
    enum status (*tick)(void *context, struct error *error);
    void *tick_context;
    uint32_t spin_us;

    struct group_broadcast broadcasts[GROUP_BROADCASTS];
    uint32_t next_broadcast;
    uint8_t *received;
    size_t received_capacity;

    uint32_t tensor, stage, shard;
    const struct kernels *kernels;
    struct device *device;
    float *parts; /* device memory: what other shards send */
    bool staged;  /* MPI sees `staging` in place of device memory */
    struct group_staging staging;
    MPI_Request *requests; /* [2 * tensor] of the sum that runs */
    MPI_Request rows[2];
    struct trace_track *trace;
};

enum status group_mpi_failed(int code, const char *what, struct error *error);

/* Until all of the requests are complete. */
enum status group_await(struct group *group, MPI_Request *requests, int n, const char *what,
                        struct error *error);

#endif
