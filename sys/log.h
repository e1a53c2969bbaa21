/* sys/log.h - lines for people on standard error: "role: text". Results go to standard output.
 *
 * A line is one write(2), so that lines of threads and processes that share a terminal do not mix.
 * A line holds one line: control characters, which may come from a peer, become spaces. Longer
 * than LOG_LINE_BYTES is cut. Every function takes NULL as a log that says nothing. */
#ifndef LONGSPAN_SYS_LOG_H
#define LONGSPAN_SYS_LOG_H

#include <stdbool.h>

enum { LOG_ROLE_BYTES = 48, LOG_LINE_BYTES = 2048 };

/* Constant after log_open, therefore free to be used by any thread. */
struct log {
    char role[LOG_ROLE_BYTES]; /* "worker 3", "coordinator" */
    int verbosity;             /* -1: warnings and errors; 0: also info; 1: debug and times too */
    int descriptor;            /* where lines go: 2; a test may change it */
};

/* Nothing to close. With verbosity 1 a line begins with the host's time of day, in ms. */
void log_open(struct log *log, const char *role, int verbosity);

void log_debug(const struct log *log, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void log_info(const struct log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "role: warning: text": something is worse than it should be, and work goes on. */
void log_warn(const struct log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "role: error: text": a request or the program fails. */
void log_error(const struct log *log, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
