/* main.c - worker: one MPI rank, a shard of some layers. */
#include "proto/protocol.h"
#include "proto/shared_options.h"
#include "sys/bus_error.h"
#include "sys/descriptors.h"
#include "sys/options.h"
#include "sys/stack.h"
#include "sys/status.h"
#include "worker/rank.h"

#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct command_line {
    struct rank_options rank;
    const char *pin;
    uint32_t verbosity;
    const char *exchange;
    enum options_form help;
    bool version;
};

static const struct option_usage usage = {
    .command = "worker",
    .words = "--coordinator ADDR [OPTION...]",
    .about = "Runs the layers of one pipeline stage, or a shard of them. Started by "
             "mpirun -n RANKS, or alone as the only rank; it waits for the coordinator's "
             "plan, loads its part of the model, and runs steps until it is told to leave.",
    .environment = shared_options_environment};

enum { N_OPTIONS = 17 };

static void fill_table(struct option table[N_OPTIONS], struct command_line *line)
{
    const struct option options[N_OPTIONS] = {
        {.kind = OPTION_SECTION, .help = "Cluster"},
        {.name = "coordinator",
         .kind = OPTION_TEXT,
         .value = &line->rank.coordinator,
         .argument = "ADDR",
         .help = "the coordinator's address: tcp://host:port or ipc://path"},
        shared_options_cluster_key(&line->rank.cluster_key),
        shared_options_insecure_network(&line->rank.insecure_network),
        {.name = "join-timeout",
         .kind = OPTION_U32,
         .value = &line->rank.join_timeout_s,
         .argument = "SECONDS",
         .fallback = "30",
         .least = 1,
         .most = 86400,
         .help = "seconds to try to reach the coordinator"},
        {.kind = OPTION_SECTION, .help = "This rank"},
        {.name = "model",
         .letter = 'm',
         .kind = OPTION_TEXT,
         .value = &line->rank.model,
         .argument = "MODEL",
         .help = "path of the coordinator's model on this host, if it differs"},
        {.name = "threads",
         .kind = OPTION_U32,
         .value = &line->rank.threads,
         .argument = "N",
         .least = 1,
         .most = 1024,
         .otherwise = "the processors that this rank may use, divided by the ranks that share them",
         .help = "lanes"},
        shared_options_pin(&line->pin),
        {.name = "device",
         .kind = OPTION_TEXT,
         .value = &line->rank.device,
         .argument = "cpu|cuda[:N]",
         .fallback = "cpu",
         .help = "what computes and has weights and KV pages in its memory: the processors, or an "
                 "NVIDIA GPU. The ranks of a host take its GPUs in turn; cuda:N is the N-th, "
                 "counted from 0"},
        {.name = "kernels",
         .kind = OPTION_TEXT,
         .value = &line->rank.kernels,
         .argument = "VARIANT",
         .help =
             "overrides the coordinator's: scalar, avx2, avx512 or bf16 on a CPU (on ARM scalar, "
             "neon or dotprod), cuda-blas on a GPU (prompts are rounded to bf16; all workers or "
             "none)"},
        {.name = "trace",
         .kind = OPTION_TEXT,
         .value = &line->rank.trace,
         .argument = "FILE",
         .help = "write where the time goes to FILE.RANK at the end, in Chrome's trace format"},
        shared_options_exchange(&line->exchange),
        {.name = "verbose",
         .letter = 'v',
         .kind = OPTION_COUNT,
         .value = &line->verbosity,
         .help = "also print what each step took"},
        options_help(&line->help),
        shared_options_version(&line->version),
        {.kind = 0}};
    memcpy(table, options, sizeof(options));
}

static enum status read_command_line(struct command_line *line, int argc, char **argv,
                                     struct error *error)
{
    struct option table[N_OPTIONS];
    fill_table(table, line);
    const enum status status = options_parse(table, argc, argv, NULL, error);
    if (status != STATUS_OK)
        return status;
    line->rank.pin = strcmp(line->pin, "none") != 0;
    line->rank.verbosity = line->verbosity > 0 ? 1 : 0;
    line->rank.zeromq_only = strcmp(line->exchange, "zeromq") == 0;
    if (line->help)
        options_print_help(stdout, line->help, &usage, table);
    else if (!line->version && line->rank.coordinator == NULL)
        return error_set(error, STATUS_INVALID,
                         "--coordinator is missing: the address at which the coordinator listens");
    return STATUS_OK;
}

/* Open MPI's launchers tell their children so. */
static bool is_launched(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMIX_RANK") != NULL ||
           getenv("PMI_RANK") != NULL;
}

/* A rank does not outlive its mpirun. One that was started by hand may outlive its shell. */
static void die_with_launcher(void)
{
    const pid_t parent = getppid();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        raise(SIGTERM); /* it was too late for the signal */
}

static int run(const struct rank_options *options, int *argc, char ***argv)
{
    if (is_launched())
        die_with_launcher();
    else /* a daemon for spawning ranks would be left behind when this one is killed */
        setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    int provided = MPI_THREAD_SINGLE, n_ranks = 1;
    if (MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
        fprintf(stderr, "worker: error: MPI cannot be initialised\n");
        return status_exit_code(STATUS_UNREACHABLE);
    }
    if (provided < MPI_THREAD_FUNNELED) {
        fprintf(stderr, "worker: error: this MPI library does not allow threads beside it\n");
        MPI_Abort(MPI_COMM_WORLD, status_exit_code(STATUS_UNSUPPORTED));
    }
    bus_error_explain(); /* in the place of Open MPI's stack trace */
    bool together = false;
    const int code = status_exit_code(rank_run(options, &together));
    MPI_Comm_size(MPI_COMM_WORLD, &n_ranks);
    if (together || n_ranks == 1)
        MPI_Finalize();
    else
        MPI_Abort(MPI_COMM_WORLD, code);
    return code;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); /* an attention node that is gone is noticed where it is written to */
    signal(SIGXFSZ, SIG_IGN); /* a file past `ulimit -f` is an error of that write */
    descriptors_raise();      /* some for each attention node */
    struct command_line line = {.verbosity = 0};
    struct error error = {.status = STATUS_OK};
    enum status status = stack_check(&error);
    if (status != STATUS_OK) {
        fprintf(stderr, "worker: error: %s\n", error.text);
        return status_exit_code(status);
    }
    status = read_command_line(&line, argc, argv, &error);
    if (status != STATUS_OK) {
        fprintf(stderr, "worker: error: %s\nTry: worker --help\n", error.text);
        return status_exit_code(status);
    }
    if (line.version)
        printf("worker (Longspan) %s, protocol %d\n", LONGSPAN_VERSION, PROTOCOL_VERSION);
    if (line.help || line.version)
        return 0;
    return run(&line.rank, &argc, &argv);
}
