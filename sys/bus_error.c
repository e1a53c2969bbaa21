/* bus_error.c - the handler calls write and _exit alone: whatever was interrupted may hold a
 * lock. */
#include "sys/bus_error.h"

#include "sys/status.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static void say(const char *text)
{
    (void)!write(STDERR_FILENO, text, strlen(text));
}

static void explain(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (info->si_code != BUS_ADRERR) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    say(program_invocation_short_name);
    say(": error: a file that is mapped cannot be read: a model that was cut short or written over "
        "while it was loaded (replace model files by rename), a disk that fails, or a full "
        "/dev/shm\n");
    _exit(status_exit_code(STATUS_IO));
}

void bus_error_explain(void)
{
    const struct sigaction action = {.sa_sigaction = explain, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &action, NULL);
}
