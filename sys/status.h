/* sys/status.h - how every function of this project says that it failed.
 *
 * A function that can fail returns `enum status` and takes a `struct error *` last, which may be
 * NULL. Who detects the failure writes the text, with the value and the remedy; everybody between
 * passes both up untouched; who owns the loop logs it, once. Outputs are untouched on failure. */
#ifndef LONGSPAN_SYS_STATUS_H
#define LONGSPAN_SYS_STATUS_H

#include <stdint.h>

enum status {
    STATUS_OK = 0,
    STATUS_INVALID,     /* a bad argument, option, file or shape */
    STATUS_NOT_FOUND,   /* the file, key or name does not exist */
    STATUS_UNSUPPORTED, /* well-formed, but not something we do */
    STATUS_NO_MEMORY,   /* the operating system has none */
    STATUS_EXHAUSTED,   /* our own limit is reached: pages, queue, context */
    STATUS_IO,          /* read, write or socket error */
    STATUS_PROTOCOL,    /* a peer sent what it must not */
    STATUS_UNREACHABLE, /* a process could not be started or a peer not reached */
    STATUS_TIMEOUT,     /* a deadline passed */
    STATUS_CANCELLED,   /* somebody asked to stop */
    STATUS_FAILED,      /* a peer, or a child process, failed while running */
    STATUS_COUNT
};

struct error {
    enum status status;
    char text[1024]; /* one line, no newline at its end; empty while status is STATUS_OK */
};

/* Formats the text and returns `status`, so that `return error_set(...)` reads well. The arguments
 * may be parts of *error: error_set(error, status, "--interface: %s", error->text). */
enum status error_set(struct error *error, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The status of a failure that another process reports: what is none that we know is
 * STATUS_FAILED. */
enum status status_received(uint32_t number);

/* "invalid", "no memory"...; for logs and messages on the wire. Never NULL. */
const char *status_name(enum status status);

/* The exit codes of every program: 0 success; 2 bad usage or bad input; 3 could not start or
 * reach a node; 4 failed while running. */
int status_exit_code(enum status status);

#endif
