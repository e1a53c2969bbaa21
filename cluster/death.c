/* death.c - see death.h. */
#include "cluster/death.h"

#include "cluster/trouble.h"
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
    const char *remedy = code > 1 && code <= 4 ? NULL : trouble_remedy(death->said);
    const bool by_ssh = (death->flags & (LAUNCH_NEEDS_INPUT | LAUNCH_TALKS)) != 0;
    if (code == SSH_FAILED && by_ssh)
        snprintf(words, DEATH_WORDS_BYTES, "could not be reached (exit status %d)%s", code,
                 remedy != NULL ? "" : ": does ssh log in there without a password?");
    else if (not_started)
        snprintf(words, DEATH_WORDS_BYTES, "could not be started (exit status %d)", code);
    else if (code > SIGNALS && code <= SIGNALS + SIGRTMAX)
        snprintf(words, DEATH_WORDS_BYTES, "ended by signal %d (%s)", code - SIGNALS,
                 strsignal(code - SIGNALS));
    else
        snprintf(words, DEATH_WORDS_BYTES, "ended with exit status %d", code);
    if (remedy != NULL)
        snprintf(words + strlen(words), DEATH_WORDS_BYTES - strlen(words), ": %s", remedy);
    if (code >= 2 && code <= 4)
        return code;
    return status_exit_code((code == SSH_FAILED && by_ssh) || not_started || remedy != NULL
                                ? STATUS_UNREACHABLE
                                : STATUS_FAILED);
}

enum status death_report(const struct launch_death *death, int *exit_code, struct error *error)
{
    char how[DEATH_WORDS_BYTES];
    *exit_code = death_explain(death, how);
    fputs(death->tail, stderr);
    return error_set(error, STATUS_FAILED, "%s: %s", death->label, how);
}
