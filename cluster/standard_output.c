/* standard_output.c - see standard_output.h: stdio remembers that a write failed, poll knows why. */
#include "cluster/standard_output.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum status standard_output_flush(struct error *error)
{
    return fflush(stdout) == 0 && ferror(stdout) == 0
               ? STATUS_OK
               : error_set(error, STATUS_IO, "standard output could not be written");
}

enum status standard_output_await(struct launch *launch, int timeout_ms)
{
    struct pollfd items[] = {{.fd = STDOUT_FILENO, .events = POLLOUT},
                             {.fd = launch_descriptor(launch), .events = POLLIN}};
    for (;;) {
        launch_progress(launch);
        if (launch_signal(launch) != 0)
            return STATUS_CANCELLED;
        const int n = poll(items, 2, timeout_ms);
        if (n > 0 && items[0].revents != 0)
            return STATUS_OK;
        if (n == 0)
            return STATUS_TIMEOUT;
    }
}

bool standard_output_is_unread(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return ferror(stdout) != 0 && poll(&out, 1, 0) > 0 && (out.revents & POLLERR) != 0;
}

void standard_output_log_failure(const struct log *log, const struct error *error)
{
    if (error->text[0] != '\0' && !standard_output_is_unread())
        log_error(log, "%s", error->text);
}
