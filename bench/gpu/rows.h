/* bench/gpu/rows.h - rows of a table, of which one may end its process, or never end: the others are measured all the same.
 *
 * A kernel that touches memory that is not there leaves CUDA unusable for its process, and one that never ends keeps whoever
 * waits for it. So a child measures, and says in shared memory at which row it is. Where it ends in a row, or is not done with
 * it after so many seconds, that row has failed, and another child goes on behind it. A kind of rows of which
 * MOST_FAILED have is not tried again, as each try takes seconds. The parent never calls CUDA. */
#ifndef LONGSPAN_BENCH_GPU_ROWS_H
#define LONGSPAN_BENCH_GPU_ROWS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    ROW_SECONDS = 20,
    ROW_KINDS = 64,
    MOST_FAILED = 2,
    ROWS_FAILED = 4 /* exit status, of who measures too */
};

enum row {
    ROW_NEW,     /* to be measured */
    ROW_SETTLED, /* by an earlier child */
    ROW_FAILED   /* in an earlier child, or its kind has */
};

/* Shared by parent and children. */
struct rows {
    uint32_t n_begun;   /* by the child that is there */
    uint32_t n_settled; /* when it began: the first ones, of which the last one has failed */
    uint32_t kind;
    volatile bool within; /* a row, since: */
    volatile double began;
    uint32_t n_failed[ROW_KINDS];
};

static double rows_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The child is done with a row, if it was at one. */
static void rows_end(struct rows *rows)
{
    rows->within = false;
}

/* What is to be done with the next row; kind: below ROW_KINDS. Every child calls it for the same rows, in the same order. */
static enum row rows_begin(struct rows *rows, uint32_t kind)
{
    const uint32_t row = rows->n_begun++;
    rows_end(rows);
    if (row < rows->n_settled)
        return row + 1 == rows->n_settled ? ROW_FAILED : ROW_SETTLED;
    if (rows->n_failed[kind] >= MOST_FAILED)
        return ROW_FAILED;
    rows->kind = kind;
    rows->began = rows_now();
    rows->within = true;
    return ROW_NEW;
}

/* The row takes its time for a reason: another measurement of it begins. */
__attribute__((unused)) static void rows_again(struct rows *rows)
{
    rows->began = rows_now();
}

/* How the child ended: its exit status, or 128 and the signal. One that does not even die is left behind. *late: a row took too
 * long; it may have ended since. */
static int rows_watch(const struct rows *rows, pid_t child, double row_seconds, bool *late)
{
    int status = 0;
    double killed = 0;
    *late = false;
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (killed == 0 && rows->within && rows_now() - rows->began > row_seconds) {
            killed = rows_now();
            *late = true;
            (void)kill(child, SIGKILL);
        }
        if (killed > 0 && rows_now() - killed > row_seconds)
            return 128 + SIGKILL;
        (void)usleep(10000);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Calls measure(what, rows) in children until one has gone through all rows. Its exit status, or ROWS_FAILED where a
 * row has failed, however those after it ended; what fails outside of rows ends it. */
static int rows_run(int (*measure)(void *what, struct rows *rows), void *what, double row_seconds)
{
    bool failed = false, late;
    struct rows *rows =
        mmap(NULL, sizeof(*rows), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (rows == MAP_FAILED) {
        perror("shared memory");
        return ROWS_FAILED;
    }
    for (;;) {
        rows->n_begun = 0;
        rows->within = false;
        (void)fflush(NULL);
        const pid_t child = fork();
        if (child == -1) {
            perror("fork");
            return ROWS_FAILED;
        }
        if (child == 0) {
            (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
            const int status = measure(what, rows);
            (void)fflush(NULL);
            _exit(status);
        }
        const int status = rows_watch(rows, child, row_seconds, &late);
        if (status == 0 || (!rows->within && !late)) {
            (void)munmap(rows, sizeof(*rows));
            return failed ? ROWS_FAILED : status;
        }
        failed = true;
        rows->n_failed[rows->kind]++;
        rows->n_settled = rows->n_begun;
        fprintf(stderr, "row %u has failed: %s %d\n", rows->n_settled,
                status > 128 ? "ended by signal" : "exit status",
                status > 128 ? status - 128 : status);
    }
}

#endif
