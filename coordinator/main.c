/* main.c - the coordinator program: its signals, its exit code. */
#include "coordinator/command_line.h"
#include "proto/protocol.h"
#include "sys/bus_error.h"
#include "sys/descriptors.h"
#include "sys/stack.h"

#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* SIGINT and SIGTERM as something to read; nothing runs in a handler. */
static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file past `ulimit -f` is an error of that write */
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static enum status run(const struct coordinator_options *options, const struct log *log,
                       struct error *error)
{
    const int stop = open_signals();
    if (stop < 0)
        return error_set(error, STATUS_IO, "signals cannot be waited for");
    const enum status status = coordinator_run(options, stop, log, error);
    close(stop);
    return status;
}

int main(int argc, char **argv)
{
    struct command_line line = {0};
    struct log log;
    struct error error = {.status = STATUS_OK};
    bus_error_explain();
    descriptors_raise(); /* one for each process of the cluster, and for each client */
    enum status status = stack_check(&error);
    if (status == STATUS_OK)
        status = command_line_read(&line, argc, argv, &error);
    log_open(&log, "coordinator", (int)line.verbose);
    if (status == STATUS_OK && line.help)
        command_line_print_help(stdout, line.help);
    else if (status == STATUS_OK && line.version)
        printf("coordinator (Longspan) %s, protocol %d\n", LONGSPAN_VERSION, PROTOCOL_VERSION);
    else if (status == STATUS_OK)
        status = run(&line.options, &log, &error);
    command_line_free(&line);
    if (status != STATUS_OK)
        log_error(&log, "%s", error.text);
    return status_exit_code(status);
}
