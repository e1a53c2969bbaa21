/* cluster/session.h - a cluster to talk to: one that is started for this run, or one that runs. */
#ifndef LONGSPAN_CLUSTER_SESSION_H
#define LONGSPAN_CLUSTER_SESSION_H

#include "cluster/launch.h"
#include "cluster/run_options.h"
#include "cluster/trace_files.h"
#include "proto/address.h"
#include "proto/cluster_key.h"
#include "sys/held_folder.h"
#include "sys/status.h"

#include <stdbool.h>

enum { SESSION_KV_TYPE_BYTES = 16 };

/* Zeroed: nothing. */
struct session {
    struct launch *launch;            /* always there once open, with or without children */
    struct held_folder files, memory; /* sockets and what Open MPI keeps; what that shares */
    char address[ADDRESS_BYTES];      /* of the coordinator */
    struct cluster_key key;
    bool has_key, started;
    uint32_t coordinator; /* which child of `launch` it is, once started */
    /* Of a cluster that was started; n_lanes: of all its processes, at most as many as there are
     * processors; 0 where one of them is on another machine. */
    uint32_t n_lanes, n_ranks, n_nodes;
    char kv_type[SESSION_KV_TYPE_BYTES];
    struct trace_files traces; /* that the processes will write */
};

/* Checks what can be checked here (model, key, cluster file) and on other machines (hosts.h), then
 * starts the processes. The caller ends *session with session_close, also after a failure. Call it
 * before any thread is created. STATUS_INVALID, STATUS_NOT_FOUND, STATUS_UNSUPPORTED: files and
 * options. STATUS_UNREACHABLE: a program that is missing, or a machine. STATUS_CANCELLED: a signal
 * came. STATUS_IO, STATUS_NO_MEMORY. */
enum status session_open(struct session *session, const struct place_options *options,
                         struct error *error);

/* The program's exit code after a failure: 128 + the signal that ended it, or the status's. */
int session_exit_code(const struct session *session, enum status status);

/* Ends every process and removes the directories; `gently`: as launch_end. */
void session_close(struct session *session, bool gently);

/* --dry-run: the same checks, then the command lines, and that of the client (NULL: none), instead
 * of starting anything. Also STATUS_IO: standard output. */
enum status session_print(const struct place_options *place, const struct run_options *client,
                          struct error *error);

#endif
