/* worker/rank.h - the life of one rank: join, load, run steps, leave. */
#ifndef LONGSPAN_WORKER_RANK_H
#define LONGSPAN_WORKER_RANK_H

#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

/* As the command line says it; strings are borrowed. */
struct rank_options {
    const char *coordinator;
    const char *model;       /* this host's path; NULL: the coordinator's */
    const char *device;      /* as kernels_choose_device */
    const char *kernels;     /* a variant; NULL: as the coordinator says, or the fastest */
    const char *cluster_key; /* file; NULL: none */
    bool insecure_network;
    bool pin;         /* lanes to processors, where there is one for each */
    bool zeromq_only; /* no shared memory with the attention nodes of this host */
    uint32_t threads; /* 0: this host's processors, divided by the ranks that share them */
    uint32_t join_timeout_s;
    const char *trace; /* file, to which this rank's number is added; NULL: none */
    int verbosity;     /* as log_open */
};

/* After MPI_Init (or without MPI: one rank alone). Returns when the coordinator says so, or on a
 * failure, which has been logged. *together: all ranks return with the same status, so that
 * MPI_Finalize is in order; otherwise the job must be aborted. */
enum status rank_run(const struct rank_options *options, bool *together);

#endif
