/* death.c - see death.h. */
#include "cluster/death.h"

#include "sys/status.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum {
    SIGNALS = 128, /* a shell's exit status is this and the signal's number */
    /* What a shell and a loader say of a program that they cannot start, and ssh of a host. */
    NOT_EXECUTABLE = 126,
    NOT_FOUND = 127,
    SSH_FAILED = 255,
};

int death_explain(const struct launch_death *death, char words[DEATH_WORDS_BYTES])
{
    const int code = death->code;
    const bool not_started = code == NOT_FOUND || code == NOT_EXECUTABLE;
    if (code == SSH_FAILED)
        snprintf(words, DEATH_WORDS_BYTES,
                 "could not be reached (exit status %d): does ssh log in there without a password?",
                 code);
    else if (not_started)
        snprintf(words, DEATH_WORDS_BYTES, "could not be started (exit status %d)", code);
    else if (code > SIGNALS && code <= SIGNALS + SIGRTMAX)
        snprintf(words, DEATH_WORDS_BYTES, "ended by signal %d (%s)", code - SIGNALS,
                 strsignal(code - SIGNALS));
    else
        snprintf(words, DEATH_WORDS_BYTES, "ended with exit status %d", code);
    if (code >= 2 && code <= 4)
        return code;
    return status_exit_code(code == SSH_FAILED || not_started ? STATUS_UNREACHABLE : STATUS_FAILED);
}
