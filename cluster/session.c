/* session.c - checks, private directories, processes; and their end in the other order. */
#include "cluster/session.h"

#include "cluster/cluster_file.h"
#include "cluster/commands.h"
#include "cluster/hosts.h"
#include "cluster/layout.h"
#include "cluster/standard_output.h"
#include "kernels/quant/kv_type.h"
#include "model/hparams.h"
#include "model/model_file.h"
#include "model/weights.h"
#include "plan/defaults.h"
#include "sys/descriptors.h"
#include "sys/file.h"
#include "sys/size.h"
#include "sys/topology.h"

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    SIGNAL_EXIT = 128, /* the exit code is this and the signal's number */
    /* Enough for Open MPI 4.1's ranks on one machine (tests/integration/test_full_disks.py); with too
     * little they do not start, and mpirun may not even end. */
    MPI_FILES_BYTES = 9 << 20,
    MPI_MEMORY_BYTES = 5 << 20,
};

static const char MEMORY_PARENT[] = "/dev/shm";

/* So that what is wrong with the file is said at once, and by us. */
static enum status check_model(const char *path, struct error *error)
{
    struct model_file *file = NULL;
    struct hparams hparams;
    enum status status = model_open(&file, path, error);
    if (status == STATUS_OK)
        status = hparams_read(&hparams, file, error);
    if (status == STATUS_OK)
        status = weights_check(file, &hparams, error);
    model_close(file);
    return status;
}

/* Everything that `make` does with it happens between reading the cluster file and freeing it. */
struct plan {
    struct cluster_file file;
    struct layout layout;
    struct commands commands;
};

static void plan_free(struct plan *plan)
{
    commands_free(&plan->commands);
    layout_free(&plan->layout);
    cluster_file_free(&plan->file);
}

static enum status plan_read(struct plan *plan, const struct place_options *options,
                             struct error *error)
{
    enum status status = check_model(options->model, error);
    if (status == STATUS_OK && options->cluster != NULL)
        status = cluster_file_read(&plan->file, options->cluster, error);
    return status;
}

/* Where everything goes; `directory` NULL: for --dry-run. */
static enum status plan_layout(struct plan *plan, const struct place_options *options,
                               const char *directory, struct error *error)
{
    return layout_make(&plan->layout, options, options->cluster != NULL ? &plan->file : NULL,
                       directory, error);
}

static enum status read_key(struct session *session, const char *path, struct error *error)
{
    if (path == NULL || path[0] == '\0')
        return STATUS_OK;
    const enum status status = cluster_key_read(path, &session->key, error);
    session->has_key = status == STATUS_OK;
    return status;
}

static void note_layout(struct session *session, const struct layout *layout)
{
    const uint32_t processors = topology_processors();
    uint32_t lanes = 0;
    for (uint32_t i = 0; i < layout->n_workers; i++)
        lanes += layout->workers[i].slots * layout->workers[i].threads;
    for (uint32_t i = 0; i < layout->n_nodes; i++)
        lanes += layout->nodes[i].threads;
    session->n_lanes = layout->n_hosts > 0 ? 0 : lanes < processors ? lanes : processors;
    session->n_ranks = layout->n_ranks;
    session->n_nodes = layout->n_nodes;
    snprintf(session->kv_type, sizeof(session->kv_type), "%s",
             layout->kv_type != NULL ? layout->kv_type : DEFAULTS_KV_TYPE);
}

static enum status check_room(const char *directory, uint64_t needed, const char *remedy,
                              struct error *error)
{
    uint64_t there;
    char needed_text[SIZE_TEXT_BYTES], there_text[SIZE_TEXT_BYTES];
    const enum status status = file_room(directory, &there, error);
    if (status != STATUS_OK || there >= needed)
        return status;
    return error_set(error, STATUS_EXHAUSTED,
                     "%s has %s free, Open MPI needs %s there for several ranks: make room, or %s",
                     directory, size_format(there, there_text), size_format(needed, needed_text),
                     remedy);
}

/* A write past it is an error of that write, of which Open MPI makes a rank that hangs. */
static enum status check_file_size(struct error *error)
{
    struct rlimit limit;
    char needed[SIZE_TEXT_BYTES], allowed[SIZE_TEXT_BYTES];
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur >= MPI_MEMORY_BYTES)
        return STATUS_OK;
    return error_set(error, STATUS_EXHAUSTED,
                     "files may have %s (ulimit -f), Open MPI needs some of %s for several ranks: "
                     "raise the limit",
                     size_format(limit.rlim_cur, allowed), size_format(MPI_MEMORY_BYTES, needed));
}

/* Of several ranks on this machine: one needs no mpirun, and those of others have their own rooms. */
static enum status check_rooms(const struct session *session, struct error *error)
{
    enum status status = check_file_size(error);
    if (status == STATUS_OK)
        status = check_room(file_temporary_parent(), MPI_FILES_BYTES,
                            "set TMPDIR to another directory", error);
    return status == STATUS_OK && session->memory.path[0] != '\0'
               ? check_room(MEMORY_PARENT, MPI_MEMORY_BYTES,
                            "mount it larger (of a container: --shm-size)", error)
               : status;
}

static enum status start(struct session *session, const struct commands *commands,
                         bool coordinator_shown, struct error *error)
{
    enum status status = STATUS_OK;
    session->coordinator = launch_count(session->launch);
    for (uint32_t i = 0; status == STATUS_OK && i < commands->n; i++) {
        const struct command *command = &commands->commands[i];
        const unsigned flags =
            (command->needs_input ? LAUNCH_NEEDS_INPUT : 0) |
            (command->role == COMMANDS_WORKERS ? LAUNCH_LEAVES : 0) |
            (command->role == COMMANDS_COORDINATOR ? LAUNCH_FIRST : 0) |
            (command->role == COMMANDS_COORDINATOR && coordinator_shown ? LAUNCH_SHOWN : 0);
        status = launch_start(session->launch, command->label, command->line.argv, flags, error);
    }
    return status;
}

enum status session_open(struct session *session, const struct place_options *options,
                         struct error *error)
{
    struct plan plan = {0};
    const enum launch_show show = options->verbose > 0 ? LAUNCH_SHOW_ALL
                                  : options->quiet     ? LAUNCH_SHOW_NOTHING
                                                       : LAUNCH_SHOW_WARNINGS;
    enum status status = launch_create(&session->launch, show, error);
    if (status == STATUS_OK && options->coordinator != NULL) {
        snprintf(session->address, sizeof(session->address), "%s", options->coordinator);
        return read_key(session, options->cluster_key, error);
    }
    if (status == STATUS_OK)
        status = plan_read(&plan, options, error);
    if (status == STATUS_OK && options->trace != NULL)
        status = file_try_write(options->trace, error); /* where the parts are joined */
    if (status == STATUS_OK)
        status = descriptors_check(error);
    if (status == STATUS_OK)
        status = held_folder_make(&session->files, file_temporary_parent(), error);
    if (status == STATUS_OK)
        held_folder_make(&session->memory, MEMORY_PARENT, NULL); /* if it is there */
    if (status == STATUS_OK)
        status = plan_layout(&plan, options, session->files.path, error);
    plan.layout.mpi_files = session->files.path;
    plan.layout.mpi_memory = session->memory.path[0] != '\0' ? session->memory.path : NULL;
    if (status == STATUS_OK && plan.layout.n_ranks > 1 && layout_ranks_are_here(&plan.layout))
        status = check_rooms(session, error);
    if (status == STATUS_OK)
        status = read_key(session, plan.layout.cluster_key, error);
    if (status == STATUS_OK)
        status = hosts_prepare(&plan.layout, session->launch,
                               isatty(2) && !options->quiet ? stderr : NULL, error);
    if (status == STATUS_OK)
        status = commands_make(&plan.commands, &plan.layout, options, error);
    if (status == STATUS_OK)
        status = trace_files_expect(&session->traces, &plan.layout, error);
    if (status == STATUS_OK) {
        memcpy(session->address, plan.layout.address, sizeof(session->address));
        session->started = true;
        note_layout(session, &plan.layout);
        status = start(session, &plan.commands, options->coordinator_shown, error);
    }
    plan_free(&plan);
    return status;
}

int session_exit_code(const struct session *session, enum status status)
{
    const int number = session->launch != NULL ? launch_signal(session->launch) : 0;
    return status == STATUS_CANCELLED && number != 0 ? SIGNAL_EXIT + number
                                                     : status_exit_code(status);
}

void session_close(struct session *session, bool gently)
{
    if (session->launch != NULL)
        launch_end(session->launch, gently);
    held_folder_remove(&session->files);
    held_folder_remove(&session->memory);
    launch_destroy(session->launch);
    cluster_key_wipe(&session->key);
    trace_files_free(&session->traces);
    *session = (struct session){0};
}

enum status session_print(const struct place_options *place, const struct run_options *client,
                          struct error *error)
{
    struct plan plan = {0};
    enum status status = plan_read(&plan, place, error);
    if (status == STATUS_OK)
        status = plan_layout(&plan, place, NULL, error);
    if (status == STATUS_OK)
        status = commands_make(&plan.commands, &plan.layout, place, error);
    for (uint32_t i = 0; status == STATUS_OK && i < plan.commands.n; i++)
        words_print(stdout, plan.commands.commands[i].line.argv);
    if (status == STATUS_OK && client != NULL)
        status = commands_print_client(stdout, &plan.layout, client, error);
    if (status == STATUS_OK)
        status = standard_output_flush(error);
    plan_free(&plan);
    return status;
}
