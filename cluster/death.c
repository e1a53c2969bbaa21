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

/* The last line of what it said, without its newline. */
static const char *last_line(const char *text, size_t *length)
{
    const char *line = text;
    for (const char *next = text; *next != '\0';) {
        line = next;
        *length = strcspn(line, "\n");
        next = line + *length + (line[*length] == '\n');
    }
    return line;
}

enum status death_report(const struct launch_death *death, const char *more, int *exit_code,
                         struct error *error)
{
    static const char mark[] = ": error: ";
    char how[DEATH_WORDS_BYTES];
    *exit_code = death_explain(death, how);
    const bool ours = *exit_code == death->code;
    if (ours && death->tail[0] == '\0' && strstr(death->said, mark) != NULL)
        return error_set(error, STATUS_FAILED, "%s", more);
    size_t length = 0;
    const char *last = last_line(death->tail, &length), *why = strstr(last, mark);
    if (why != NULL && strstr(last, more) != NULL)
        more = ""; /* it was told the same */
    const char *between = more[0] != '\0' ? "; " : "";
    if (!ours || why == NULL || length + strlen(more) + sizeof(mark) > sizeof(error->text)) {
        fputs(death->tail, stderr);
        return error_set(error, STATUS_FAILED, "%s: %s%s%s", death->label, how, between, more);
    }
    fwrite(death->tail, 1, (size_t)(last - death->tail), stderr);
    const char *text = why + sizeof(mark) - 1;
    return error_set(error, STATUS_FAILED, "%.*s: %.*s%s%s", (int)(why - last), last,
                     (int)(last + length - text), text, between, more);
}
