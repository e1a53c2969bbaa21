/* exchange.c - one message there and back between two processes: by the ring, by our sockets, and
 * by a plain blocking pair of ZeroMQ's on the same transport in the same run.
 *
 * All ways are open at once and take turns, some messages each, so that a noisy minute is
 * everybody's; a way is compared with the plain pair round by round. Then each one's two processes
 * have nothing to do, and their processor time is taken from 50 ms after the last message on.
 *
 * Every process, its threads of ZeroMQ's with it, has a processor of its own, the plain ones too:
 * left to the kernel, the four threads of a pair are on one processor now and on two then, and that
 * is what would be measured. */
#include "bench/measure/exchange_end.h"
#include "bench/measure/network.h"
#include "bench/measure/program.h"
#include "proto/waiting.h"
#include "sys/binding.h"
#include "sys/clock.h"
#include "sys/file.h"
#include "sys/samples.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct table_column columns[] = {
    {.name = "way", .width = 12},
    {.name = "KiB", .kind = TABLE_NUMBER, .width = 6},
    {.name = "median_us", .kind = TABLE_NUMBER, .width = 10, .decimals = 1},
    {.name = "min_us", .kind = TABLE_NUMBER, .width = 8, .decimals = 1},
    {.name = "p99_us", .kind = TABLE_NUMBER, .width = 8, .decimals = 1},
    {.name = "GB_s", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "to_plain", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "idle_percent", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = NULL}};

static const struct option_usage usage = {
    .command = "exchange",
    .words = "[OPTION...]",
    .about =
        "Times one message there and back between two processes, 4 KiB to 4 MiB, as a worker and "
        "an attention node send them: through shared memory (ring), by our sockets over ipc and "
        "tcp on loopback, and by a plain blocking pair of ZeroMQ's, to which the others are "
        "compared (to_plain: the median of the rounds' ratios). Each process has a processor of "
        "its own. GB/s counts both directions. idle_percent is the busier process's "
        "share of a core from 50 ms after the last message on. Then tcp through a relay that "
        "holds each way for 200 us, and, as root, across two network namespaces with a limit of "
        "1 Gbit/s (tc tbf). --beside-busy: while a program that only computes runs on either "
        "processor, as on a host that is not ours alone."};

enum { ASKER, ECHO, N_PROCESSES }; /* who has which processor */

enum {
    MOST_SAMPLES = 1 << 18, /* of all rounds; a round has its share */
    TURN_US = 200000,       /* of one way, before the next one's */
    LEAST_TURN = 4,
    IDLE_AFTER_US = 50000,
    IDLE_US = 500000,
    RELAY_PORT = 47314,
    RELAYED_PORT = 47315
};

struct way {
    const char *name;
    enum exchange_kind kind;
    const char *endpoint;  /* of the echo; NULL: a socket in the rig's directory */
    const char *asked;     /* where it is asked; NULL: there */
    uint32_t limit_mbit_s; /* the echo is in a namespace behind such a limit; 0: it is here */
    uint32_t delay_us;     /* a relay between them holds everything for so long; 0: none */
    int plain;             /* the way that it is compared with; -1: none */
    pid_t echo, relay;
    struct exchange_end *end;
    double *samples; /* of all rounds; those of one together, sorted, until all are sorted */
    uint32_t n_samples;
    double medians[TIMING_MAX_RUNS]; /* of the rounds */
};

enum { RING, IPC, TCP, IPC_PLAIN, TCP_PLAIN, TCP_RELAYED, TCP_LIMITED, N_WAYS };
enum { N_HERE = TCP_RELAYED }; /* ways without a link that is worse than loopback */

static const struct way all_ways[N_WAYS] = {
    [RING] = {.name = "ring", .kind = EXCHANGE_RING, .plain = IPC_PLAIN},
    [IPC] = {.name = "ipc", .kind = EXCHANGE_WIRE, .plain = IPC_PLAIN},
    [TCP] = {.name = "tcp",
             .kind = EXCHANGE_WIRE,
             .endpoint = "tcp://127.0.0.1:47311",
             .plain = TCP_PLAIN},
    [IPC_PLAIN] = {.name = "ipc plain", .kind = EXCHANGE_PLAIN, .plain = -1},
    [TCP_PLAIN] = {.name = "tcp plain",
                   .kind = EXCHANGE_PLAIN,
                   .endpoint = "tcp://127.0.0.1:47312",
                   .plain = -1},
    [TCP_RELAYED] = {.name = "tcp +200 us",
                     .kind = EXCHANGE_WIRE,
                     .endpoint = "tcp://127.0.0.1:47315",
                     .asked = "tcp://127.0.0.1:47314",
                     .delay_us = 200,
                     .plain = -1},
    [TCP_LIMITED] = {.name = "tcp 1 Gbit/s",
                     .kind = EXCHANGE_WIRE,
                     .endpoint = "tcp://" NETWORK_FAR_HOST ":47313",
                     .limit_mbit_s = 1000,
                     .plain = -1},
};

/* The ways, their processes, and where these run. */
struct rig {
    struct way ways[N_WAYS];
    size_t n_ways; /* of them, those that are measured */
    char directory[FILE_PATH_BYTES], ipc[N_WAYS][FILE_PATH_BYTES + 32];
    struct binding *processors; /* NULL: there is none to pin to */
    pid_t busy[N_PROCESSES];
};

/* ---- processes ---- */

/* NULL: there is none to pin to, and processes run where the kernel puts them. Threads that the
 * caller starts later stay with it. */
static void take_processor(const struct binding *processors, uint32_t who)
{
    if (processors != NULL)
        (void)binding_pin(processors, who);
}

/* In the new process: what it does until it is told to end, or killed with its parent. */
static void run_echo(const struct way *way, const struct binding *processors, uint32_t spin_us,
                     int ready, int go)
{
    struct error why = {0};
    char one = 1;
    enum status status = STATUS_OK;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    take_processor(processors, ECHO);
    if (way->limit_mbit_s > 0) { /* its parent joins the namespaces before it listens */
        status = network_leave(&why);
        if (status == STATUS_OK && (write(ready, &one, 1) != 1 || read(go, &one, 1) != 1))
            _exit(status_exit_code(STATUS_CANCELLED));
    }
    if (status == STATUS_OK)
        status = exchange_echo(way->kind, way->endpoint, spin_us, ready, &why);
    if (status != STATUS_OK)
        fprintf(stderr, "exchange: %s: %s\n", way->name, why.text);
    _exit(status_exit_code(status));
}

static bool is_ready(int ready)
{
    char one;
    return read(ready, &one, 1) == 1;
}

/* A program that only computes, at who's processor. */
static pid_t start_busy(const struct binding *processors, uint32_t who)
{
    const pid_t busy = fork();
    if (busy == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        take_processor(processors, who);
        for (volatile uint64_t n = 0;; n++)
            continue;
    }
    return busy;
}

static void stop_busy(pid_t busy)
{
    if (busy > 0) {
        kill(busy, SIGKILL);
        waitpid(busy, NULL, 0);
    }
}

static enum status start_relay(struct way *way, struct error *error)
{
    int ready[2];
    if (pipe(ready) != 0)
        return error_set(error, STATUS_NO_MEMORY, "cannot make a pipe");
    way->relay = fork();
    if (way->relay == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        network_relay(RELAY_PORT, RELAYED_PORT, way->delay_us, ready[1]);
    }
    close(ready[1]);
    const bool good = way->relay > 0 && is_ready(ready[0]);
    close(ready[0]);
    return good ? STATUS_OK : error_set(error, STATUS_UNREACHABLE, "the relay does not start");
}

static enum status start_echo(struct way *way, const struct binding *processors, uint32_t spin_us,
                              struct error *error)
{
    int ready[2], go[2];
    enum status status = STATUS_OK;
    if (pipe(ready) != 0 || pipe(go) != 0)
        return error_set(error, STATUS_NO_MEMORY, "cannot make a pipe");
    fflush(NULL);
    way->echo = fork();
    if (way->echo == 0) {
        close(ready[0]);
        close(go[1]);
        run_echo(way, processors, spin_us, ready[1], go[0]);
    }
    close(ready[1]);
    close(go[0]);
    if (way->limit_mbit_s > 0) {
        status = is_ready(ready[0]) ? network_join(way->echo, way->limit_mbit_s, error)
                                    : error_set(error, STATUS_UNSUPPORTED, "no network namespace");
        if (status == STATUS_OK && write(go[1], "", 1) != 1)
            status = error_set(error, STATUS_IO, "cannot write to a pipe");
    }
    if (status == STATUS_OK && !is_ready(ready[0]))
        status = error_set(error, STATUS_UNREACHABLE, "the echo of %s does not start", way->name);
    close(ready[0]);
    close(go[1]);
    if (status == STATUS_OK && way->delay_us > 0)
        status = start_relay(way, error);
    return status == STATUS_OK
               ? exchange_connect(&way->end, way->kind,
                                  way->asked != NULL ? way->asked : way->endpoint, spin_us, error)
               : status;
}

static void stop_echo(struct way *way)
{
    exchange_close(way->end);
    if (way->relay > 0) { /* it has passed the last message on */
        waitpid(way->echo, NULL, 0);
        kill(way->relay, SIGKILL);
        waitpid(way->relay, NULL, 0);
    } else if (way->echo > 0) {
        if (way->end == NULL)
            kill(way->echo, SIGKILL);
        waitpid(way->echo, NULL, 0);
    }
    free(way->samples);
}

static double processor_s(pid_t process)
{
    clockid_t id;
    struct timespec time;
    if (clock_getcpuclockid(process, &id) != 0 || clock_gettime(id, &time) != 0)
        return NAN;
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* ---- measuring ---- */

static enum status take_turn(struct way *way, uint32_t run, uint32_t room, size_t bytes,
                             struct error *error)
{
    const uint64_t end_us = clock_us() + TURN_US;
    const uint32_t first = way->n_samples;
    enum status status = exchange_once(way->end, bytes, error); /* caches, and who had slept */
    for (int i = 0; status == STATUS_OK && (i < LEAST_TURN || clock_us() < end_us); i++) {
        const uint64_t began = clock_ns();
        status = exchange_once(way->end, bytes, error);
        if (way->n_samples - first < room)
            way->samples[way->n_samples++] = (double)(clock_ns() - began) * 1e-3;
    }
    way->medians[run] = way->n_samples > first
                            ? samples_of(way->samples + first, way->n_samples - first).median
                            : NAN;
    return status;
}

/* A round has its minute: the plain pair of the same one is what a way is compared with. */
static double ratio_to_plain(const struct way *way, const struct way *plain, uint32_t runs)
{
    double ratios[TIMING_MAX_RUNS];
    for (uint32_t run = 0; run < runs; run++)
        ratios[run] = way->medians[run] / plain->medians[run];
    return samples_of(ratios, runs).median;
}

/* Percent of a core, of the busier process. */
static double idle_share(struct way *way)
{
    exchange_idle(way->end, IDLE_AFTER_US);
    const double own = processor_s(getpid()), theirs = processor_s(way->echo);
    const uint64_t began = clock_us();
    exchange_idle(way->end, IDLE_US);
    const double seconds = (double)(clock_us() - began) * 1e-6;
    const double own_share = (processor_s(getpid()) - own) / seconds;
    const double their_share = (processor_s(way->echo) - theirs) / seconds;
    return 100 * fmax(own_share, their_share);
}

static enum status measure_size(struct program *program, struct way *ways, size_t n_ways,
                                size_t bytes, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; i < n_ways; i++)
        ways[i].n_samples = 0;
    for (uint32_t run = 0; run < program->runs; run++)
        for (size_t i = 0; i < n_ways && status == STATUS_OK; i++)
            status = take_turn(&ways[i], run, MOST_SAMPLES / program->runs, bytes, error);
    if (status != STATUS_OK)
        return status;
    for (size_t i = 0; i < n_ways; i++) {
        struct way *way = &ways[i];
        const double median = samples_of(way->samples, way->n_samples).median; /* sorted */
        exchange_once(ways[i].end, bytes, error);
        table_text(program->table, way->name);
        table_number(program->table, (double)bytes / 1024);
        table_number(program->table, median);
        table_number(program->table, way->samples[0]);
        table_number(program->table, way->samples[(size_t)way->n_samples * 99 / 100]);
        table_number(program->table, 2 * (double)bytes / median * 1e-3);
        table_number(program->table,
                     way->plain >= 0 ? ratio_to_plain(way, &ways[way->plain], program->runs) : NAN);
        table_number(program->table, idle_share(&ways[i]));
    }
    return STATUS_OK;
}

/* ---- the program ---- */

static enum status start_ways(struct rig *rig, struct program *program, size_t n,
                              struct error *error)
{
    const uint32_t spin_us = waiting_answer_us(SHARING_NONE);
    enum status status = STATUS_OK;
    table_note_number(program->table, "spin_us", spin_us, 0);
    for (; rig->n_ways < n && status == STATUS_OK; rig->n_ways++) {
        struct way *way = &rig->ways[rig->n_ways];
        *way = all_ways[rig->n_ways];
        if (way->endpoint == NULL) {
            snprintf(rig->ipc[rig->n_ways], sizeof(rig->ipc[0]), "ipc://%s/%zu", rig->directory,
                     rig->n_ways);
            way->endpoint = rig->ipc[rig->n_ways];
        }
        way->samples = calloc(MOST_SAMPLES, sizeof(double));
        status = way->samples == NULL ? error_set(error, STATUS_NO_MEMORY, "no memory")
                                      : start_echo(way, rig->processors, spin_us, error);
        if (status == STATUS_UNSUPPORTED) { /* the last ones: those before are measured */
            table_note_text(program->table, "left_out", error->text);
            stop_echo(way);
            return STATUS_OK;
        }
    }
    return status;
}

/* Whatever is returned, rig_close ends what was started. */
static enum status rig_open(struct rig *rig, struct program *program, size_t n_ways,
                            bool beside_busy, struct error *error)
{
    struct error no_processors = {0};
    *rig = (struct rig){0};
    enum status status = file_make_temporary(rig->directory, error);
    if (status != STATUS_OK) {
        rig->directory[0] = '\0';
        return status;
    }
    if (binding_create(&rig->processors, N_PROCESSES, &no_processors) != STATUS_OK)
        table_note_text(program->table, "not_pinned", no_processors.text);
    take_processor(rig->processors, ASKER);
    status = start_ways(rig, program, n_ways, error);
    if (beside_busy)
        table_note_text(program->table, "beside", "two programs that only compute");
    for (uint32_t who = 0; beside_busy && who < N_PROCESSES && status == STATUS_OK; who++)
        if ((rig->busy[who] = start_busy(rig->processors, who)) < 0)
            status = error_set(error, STATUS_NO_MEMORY, "cannot start a busy program");
    return status;
}

static void rig_close(struct rig *rig)
{
    for (uint32_t who = 0; who < N_PROCESSES; who++)
        stop_busy(rig->busy[who]);
    for (size_t i = 0; i < rig->n_ways; i++)
        stop_echo(&rig->ways[i]);
    binding_destroy(rig->processors);
    if (rig->directory[0] != '\0')
        file_remove_temporary(rig->directory);
}

int main(int argc, char **argv)
{
    static const size_t all_sizes[] = {4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20};
    static const size_t quick_sizes[] = {16 << 10};
    struct program program;
    struct error error = {0};
    bool quick = false, beside_busy = false;
    int exit_code;
    const struct option own[] = {{.name = "quick",
                                  .kind = OPTION_FLAG,
                                  .value = &quick,
                                  .help = "16 KiB only, without the relay and the namespaces"},
                                 {.name = "beside-busy",
                                  .kind = OPTION_FLAG,
                                  .value = &beside_busy,
                                  .help = "beside two programs that only compute"},
                                 {.kind = 0}};
    signal(SIGPIPE, SIG_IGN);
    if (!program_open(&program, &usage, own, columns, argc, argv, &exit_code))
        return exit_code;
    const size_t *sizes = quick ? quick_sizes : all_sizes;
    const size_t n_sizes = quick ? 1 : sizeof(all_sizes) / sizeof(all_sizes[0]);
    struct rig rig;
    enum status status = rig_open(&rig, &program, quick ? N_HERE : N_WAYS, beside_busy, &error);
    for (size_t i = 0; i < n_sizes && status == STATUS_OK; i++)
        status = measure_size(&program, rig.ways, rig.n_ways, sizes[i], &error);
    rig_close(&rig);
    return program_close(&program, status, &error);
}
