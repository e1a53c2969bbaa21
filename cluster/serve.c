/* serve.c - starts a cluster whose coordinator serves HTTP, and watches it until its end.
 *
 * The coordinator drains by itself when it is told to stop; the others end after it. */
#include "cluster/serve.h"

#include "cluster/death.h"
#include "cluster/launch.h"
#include "cluster/serve_options.h"
#include "cluster/session.h"
#include "cluster/standard_output.h"
#include "sys/clock.h"
#include "sys/log.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SIGNAL_EXIT = 128,   /* the exit code is this and the signal's number */
    LAST_WORDS_MS = 2500 /* for the coordinator to miss who died and to tell its clients */
};

/* -1 ms: for ever. */
static void wait_for_news(struct launch *launch, int ms)
{
    struct pollfd item = {.fd = launch_descriptor(launch), .events = POLLIN};
    poll(&item, 1, ms);
    launch_progress(launch);
}

/* Somebody died. The coordinator finds out by itself and then ends, its clients told who is lost:
 * were the others told to stop at once, it would hear of that first. */
static void wait_for_last_words(const struct session *session)
{
    struct launch *launch = session->launch;
    const uint64_t deadline_us = clock_us() + LAST_WORDS_MS * 1000ull;
    while (launch_n_signals(launch) == 0 && !launch_has_died(launch, session->coordinator) &&
           clock_us() < deadline_us)
        wait_for_news(launch, 50);
}

/* Until a signal comes, which is well; a process that dies is not. */
static enum status watch(const struct session *session, int *exit_code, struct error *error)
{
    struct launch *launch = session->launch;
    struct launch_death death;
    while (launch_n_signals(launch) == 0 && !launch_first_death(launch, &death))
        wait_for_news(launch, -1);
    if (launch_n_signals(launch) > 0)
        return STATUS_OK;
    wait_for_last_words(session);
    return death_report(&death, "", exit_code, error);
}

/* The coordinator ends when its requests have: workers that it sent away may be gone before. */
static enum status drain(const struct session *session, int *exit_code, struct error *error)
{
    struct launch *launch = session->launch;
    struct launch_death death;
    launch_tell(launch, session->coordinator, SIGTERM);
    while (!launch_has_died(launch, session->coordinator)) {
        if (launch_n_signals(launch) > 1) {
            *exit_code = SIGNAL_EXIT + launch_signal(launch);
            return error_set(error, STATUS_CANCELLED, "ended by a second signal");
        }
        wait_for_news(launch, -1);
    }
    launch_told(launch, session->coordinator, &death);
    if (death.code == SIGNAL_EXIT + SIGTERM) /* it had not begun: it waited for a pipe, say */
        return STATUS_OK;
    return launch_first_death(launch, &death) && death.code != 0
               ? death_report(&death, "", exit_code, error)
               : STATUS_OK;
}

static enum status work(struct session *session, const struct serve_options *options,
                        int *exit_code, struct error *error)
{
    if (options->place.dry_run)
        return session_print(&options->place, NULL, error);
    enum status status = session_open(session, &options->place, error);
    if (status == STATUS_OK)
        status = watch(session, exit_code, error);
    if (status == STATUS_OK)
        status = drain(session, exit_code, error);
    return status;
}

int serve_main(int argc, char **argv)
{
    struct serve_options options;
    struct session session = {0};
    struct log log;
    struct error error = {0};
    int exit_code = 0;
    log_open(&log, "longspan serve", 0);
    enum status status = serve_options_read(&options, argc, argv, &error);
    if (status == STATUS_OK && options.place.help) {
        serve_options_print_help(options.place.help);
        return EXIT_SUCCESS;
    }
    if (status == STATUS_OK)
        status = work(&session, &options, &exit_code, &error);
    if (status != STATUS_OK && exit_code == 0)
        exit_code = session_exit_code(&session, status);
    struct trace_files traces = session.traces;
    session.traces = (struct trace_files){0};
    session_close(&session, status == STATUS_OK);
    if (status == STATUS_OK && traces.n_parts > 0)
        status = trace_files_join(&traces, options.place.quiet ? NULL : stderr, &log, &error);
    trace_files_free(&traces);
    if (status == STATUS_OK)
        return EXIT_SUCCESS;
    standard_output_log_failure(&log, &error);
    return exit_code != 0 ? exit_code : status_exit_code(status); /* of joining traces */
}
