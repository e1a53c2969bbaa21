/* run.c - the loop: what the coordinator says, what the processes do, what the user sees.
 *
 * Order. Whatever has to do with processes and signals is set up before ZeroMQ makes threads, and
 * ended after they are gone. A failure is told once: in the words of the coordinator when it gave
 * an answer, otherwise in those of the first process that died. */
#include "cluster/run.h"

#include "cluster/client.h"
#include "cluster/launch.h"
#include "cluster/logits_file.h"
#include "cluster/output.h"
#include "cluster/progress.h"
#include "cluster/prompts.h"
#include "cluster/report.h"
#include "cluster/result.h"
#include "cluster/run_options.h"
#include "cluster/session.h"
#include "cluster/trace_files.h"
#include "sys/clock.h"
#include "sys/log.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOST_CONNECTION "the connection to" /* how client.c begins that text */

enum {
    LOOK_US = 100000,       /* deadlines and the progress line are looked at this often */
    LAST_WORDS_US = 300000, /* for the coordinator to explain the death of another process */
    SIGNAL_EXIT = 128,      /* the exit code is this and the signal's number */
    MOST_EVENTS = 4096,     /* taken before signals and processes get a look again */
    /* What a shell and a loader say of a program that they cannot start, and ssh of a host. */
    NOT_EXECUTABLE = 126,
    NOT_FOUND = 127,
    SSH_FAILED = 255,
};

struct run {
    struct run_options options;
    struct log log;
    struct prompts prompts;
    struct session session;
    struct client *client;
    struct result result;
    struct logits_file *logits;
    struct progress progress;
    bool streaming; /* text goes out as it comes */
    bool text_shown, ends_in_newline;
    int exit_code; /* when it is not the status's */
};

/* ---- events ---------------------------------------------------------------------------------- */

static enum status ended_by_signal(struct run *run, struct error *error)
{
    const int number = launch_signal(run->session.launch);
    run->exit_code = SIGNAL_EXIT + number;
    return error_set(error, STATUS_CANCELLED, "ended by signal %d (%s)", number, strsignal(number));
}

/* Waits until standard output takes some more, as a pager that nobody turns does not. Signals are
 * blocked: a write that waits would keep them from being seen. False: one came. */
static bool wait_for_reader(struct run *run)
{
    struct pollfd items[] = {{.fd = 1, .events = POLLOUT},
                             {.fd = launch_descriptor(run->session.launch), .events = POLLIN}};
    for (;;) {
        launch_progress(run->session.launch);
        if (launch_signal(run->session.launch) != 0)
            return false;
        if (poll(items, 2, -1) > 0 && items[0].revents != 0)
            return true;
    }
}

static enum status show_text(struct run *run, const char *text, size_t n_bytes, struct error *error)
{
    if (!run->streaming || n_bytes == 0)
        return STATUS_OK;
    if (!wait_for_reader(run))
        return ended_by_signal(run, error);
    progress_clear(&run->progress);
    run->text_shown = true;
    run->ends_in_newline = text[n_bytes - 1] == '\n';
    if (fwrite(text, 1, n_bytes, stdout) != n_bytes || fflush(stdout) != 0)
        return error_set(error, STATUS_IO, "standard output could not be written");
    return STATUS_OK;
}

/* Reads what has come. */
static enum status take_events(struct run *run, struct error *error)
{
    const Longspan__RunEvent *event;
    const void *row;
    size_t row_bytes;
    for (uint32_t i = 0; i < MOST_EVENTS && !run->result.done; i++) {
        enum status status = client_progress(run->client, &event, &row, &row_bytes, error);
        if (status != STATUS_OK)
            return status;
        if (event == NULL && !wire_socket_readable(client_socket(run->client)))
            return STATUS_OK;
        if (event == NULL)
            continue;
        uint32_t prompt;
        const char *text;
        size_t n_bytes;
        status = result_take(&run->result, event, &prompt, &text, &n_bytes, error);
        if (status == STATUS_OK && row != NULL && run->logits != NULL &&
            event->body_case == LONGSPAN__RUN_EVENT__BODY_TOKEN)
            status = logits_file_add(run->logits, prompt, row, row_bytes, error);
        if (status == STATUS_OK)
            status = show_text(run, text, n_bytes, error);
        if (event->body_case == LONGSPAN__RUN_EVENT__BODY_FAILURE)
            client_finished(run->client);
        if (status != STATUS_OK)
            return status;
    }
    if (run->result.done)
        client_finished(run->client);
    return STATUS_OK;
}

static void show_progress(struct run *run)
{
    const char *latest = launch_latest(run->session.launch);
    if (run->result.planned)
        progress_running(&run->progress, &run->result, !run->streaming);
    else if (latest[0] != '\0')
        progress_loading(&run->progress, latest);
    else
        progress_loading(&run->progress, run->session.started ? "starting processes"
                                                              : "waiting for the coordinator");
}

/* ---- failures -------------------------------------------------------------------------------- */

/* A process that was started here died, and nobody said why: its own last words are shown. Its exit
 * code becomes ours if it is one of ours. */
static enum status explain_death(struct run *run, const struct launch_death *death,
                                 const struct error *said, struct error *error)
{
    char how[96];
    if (death->code == SSH_FAILED)
        snprintf(how, sizeof(how),
                 "could not be reached (exit status %d): does ssh log in there without a password?",
                 death->code);
    else if (death->code == NOT_FOUND || death->code == NOT_EXECUTABLE)
        snprintf(how, sizeof(how), "could not be started (exit status %d)", death->code);
    else if (death->code > SIGNAL_EXIT && death->code <= SIGNAL_EXIT + SIGRTMAX)
        snprintf(how, sizeof(how), "ended by signal %d (%s)", death->code - SIGNAL_EXIT,
                 strsignal(death->code - SIGNAL_EXIT));
    else
        snprintf(how, sizeof(how), "ended with exit status %d", death->code);
    progress_clear(&run->progress);
    if (death->tail[0] != '\0' && run->options.verbose == 0)
        fputs(death->tail, stderr);
    if (death->code >= 2 && death->code <= 4)
        run->exit_code = death->code;
    else
        run->exit_code = status_exit_code(death->code == SSH_FAILED || death->code == NOT_FOUND ||
                                                  death->code == NOT_EXECUTABLE
                                              ? STATUS_UNREACHABLE
                                              : STATUS_FAILED);
    return said->text[0] != '\0'
               ? error_set(error, STATUS_FAILED, "%s: %s; %s", death->label, how, said->text)
               : error_set(error, STATUS_FAILED, "%s: %s", death->label, how);
}

/* Something failed: a process died, or the coordinator said so in `said` (empty: it has not yet).
 * Often both are on their way, and the one explains the other: each gets a moment. */
static enum status explain(struct run *run, struct error said, struct error *error)
{
    const uint64_t deadline = clock_us() + LAST_WORDS_US;
    struct launch_death death = {0};
    bool died = false;
    for (;;) {
        launch_progress(run->session.launch);
        died = launch_first_death(run->session.launch, &death);
        if (said.status == STATUS_OK) {
            struct error words = {0}; /* may be written without a failure: look at the status */
            if (take_events(run, &words) != STATUS_OK)
                said = words;
            if (run->result.done)
                return STATUS_OK;
        }
        /* "Connection lost" explains nothing that a death does not. */
        const bool lost = strncmp(said.text, LOST_CONNECTION, strlen(LOST_CONNECTION)) == 0;
        if (died && lost)
            said = (struct error){.status = STATUS_FAILED};
        if (said.status != STATUS_OK && said.status != STATUS_FAILED)
            break; /* a reason, such as an option's value: complete by itself */
        if ((died && said.status != STATUS_OK) || clock_us() >= deadline)
            break;
        struct wire_poll_item items[] = {{.socket = client_socket(run->client)},
                                         {.descriptor = launch_descriptor(run->session.launch)}};
        wire_poll(items, 2, 0, deadline, NULL);
    }
    if (!died || (said.status != STATUS_OK && said.status != STATUS_FAILED))
        return error_set(error, said.status, "%s", said.text);
    return explain_death(run, &death, &said, error);
}

/* ---- the loop -------------------------------------------------------------------------------- */

static enum status loop(struct run *run, struct error *error)
{
    struct launch *launch = run->session.launch;
    for (;;) {
        struct launch_death death;
        launch_progress(launch);
        if (launch_signal(launch) != 0)
            return ended_by_signal(run, error);
        if (launch_first_death(launch, &death))
            return explain(run, (struct error){0}, error);
        struct error said = {0};
        enum status status = take_events(run, &said);
        if (status == STATUS_FAILED && run->session.started)
            return explain(run, said, error);
        if (status != STATUS_OK)
            return error_set(error, status, "%s", said.text);
        if (run->result.done)
            return STATUS_OK;
        show_progress(run);
        struct wire_poll_item items[] = {{.socket = client_socket(run->client)},
                                         {.descriptor = launch_descriptor(launch)}};
        status = wire_poll(items, 2, 0, clock_us() + LOOK_US, error);
        if (status != STATUS_OK && status != STATUS_TIMEOUT)
            return status;
    }
}

static enum status ask(struct run *run, struct error *error)
{
    const struct run_options *options = &run->options;
    const uint64_t reach_us = (uint64_t)options->join_timeout_s * 1000000;
    enum status status = client_open(&run->client, run->session.address,
                                     run->session.has_key ? &run->session.key : NULL, options,
                                     &run->prompts, reach_us, error);
    if (status == STATUS_OK)
        status = loop(run, error);
    progress_clear(&run->progress);
    return status;
}

static void leave(struct run *run, bool gently)
{
    client_close(run->client);
    run->client = NULL;
    session_close(&run->session, gently);
}

static enum status print_result(struct run *run, struct error *error)
{
    enum status status = STATUS_OK;
    if (run->options.json)
        status = output_json(stdout, &run->result, run->options.logprobs_given, error);
    else if (!run->streaming)
        status = output_texts(stdout, &run->result, &run->prompts, error);
    else if (!run->ends_in_newline && (putchar('\n') == EOF || fflush(stdout) != 0))
        status = error_set(error, STATUS_IO, "standard output could not be written");
    if (run->logits != NULL) {
        struct logits_file *logits = run->logits;
        run->logits = NULL;
        const enum status written = logits_file_finish(logits, status == STATUS_OK ? error : NULL);
        status = status == STATUS_OK ? written : status;
    }
    if (status == STATUS_OK && !run->options.quiet)
        report_print(stderr, &run->result);
    return status;
}

static enum status work(struct run *run, struct error *error)
{
    struct run_options *options = &run->options;
    enum status status = prompts_read(&run->prompts, &options->prompts, error);
    if (status == STATUS_OK && options->dry_run)
        return session_print(stdout, options, error);
    if (status == STATUS_OK)
        status = result_open(&run->result, run->prompts.n, error);
    if (status == STATUS_OK && options->dump_logits != NULL)
        status = logits_file_create(&run->logits, options->dump_logits, run->prompts.n, error);
    if (status == STATUS_OK)
        status = session_open(&run->session, options, error);
    run->streaming = !options->json && run->prompts.n == 1;
    progress_begin(&run->progress, isatty(2) && !options->quiet && options->verbose == 0);
    if (status == STATUS_OK)
        status = ask(run, error);
    if (status == STATUS_OK) {
        /* First: writing may take as long as the reader likes, and no process waits for that; and
         * signals are what they were, so that they end a write that waits. */
        struct trace_files traces = run->session.traces;
        run->session.traces = (struct trace_files){0};
        leave(run, true);
        status = print_result(run, error);
        if (status == STATUS_OK && traces.n_parts > 0)
            status = trace_files_join(&traces, options->quiet ? NULL : stderr, &run->log, error);
        trace_files_free(&traces);
    } else if (run->text_shown && !run->ends_in_newline) {
        struct pollfd out = {.fd = 1, .events = POLLOUT};
        if (poll(&out, 1, 0) > 0)
            (void)!write(1, "\n", 1);
    }
    return status;
}

int run_main(int argc, char **argv)
{
    struct run run = {0};
    struct error error = {0};
    log_open(&run.log, "longspan run", 0);
    enum status status = run_options_read(&run.options, argc, argv, &error);
    if (status == STATUS_OK && run.options.help) {
        run_options_print_help();
        run_options_free(&run.options);
        return EXIT_SUCCESS;
    }
    if (status == STATUS_OK)
        status = work(&run, &error);
    leave(&run, false);
    if (status != STATUS_OK)
        log_error(&run.log, "%s", error.text);
    logits_file_destroy(run.logits);
    result_close(&run.result);
    prompts_free(&run.prompts);
    run_options_free(&run.options);
    if (status == STATUS_OK)
        return EXIT_SUCCESS;
    return run.exit_code != 0 ? run.exit_code : status_exit_code(status);
}
