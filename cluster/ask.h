/* cluster/ask.h - one request to a session's coordinator, from sending it to its end, beside
 * whatever else may end it: a process that was started here dies, a signal comes, a deadline
 * passes.
 *
 * A failure is told once: in the words of the coordinator when it gave an answer, otherwise in
 * those of the first process that died. */
#ifndef LONGSPAN_CLUSTER_ASK_H
#define LONGSPAN_CLUSTER_ASK_H

#include "cluster/client.h"
#include "cluster/place_options.h"
#include "cluster/progress.h"
#include "cluster/result.h"
#include "cluster/session.h"

#include <stdbool.h>
#include <stddef.h>

/* What an event added to the result; a row of logits or NULL. All of it is borrowed. */
struct ask_event {
    const Longspan__RunEvent *event;
    uint32_t prompt;
    const char *text; /* n_bytes were added to the prompt's text */
    size_t n_bytes;
    const void *row;
    size_t row_bytes;
};

struct answer_text;

struct ask {
    struct session *session;   /* open */
    struct result *result;     /* opened for as many prompts as the request has */
    struct progress *progress; /* begun */
    bool texts_at_end;         /* as progress_running's quiet_text */
    /* Sees every event after the result took it; NULL: nobody does. A failure ends the request. */
    enum status (*take)(void *context, const struct ask_event *event, struct error *error);
    void *context;
    struct answer_text *text; /* what `take` shows: broken off before a dead process has its words.
                               * NULL: nothing is shown */
    int exit_code; /* set where it is not the status's: 128 + signal, or that of a process */

    /* private */
    struct client *client;
    const struct place_options *place;
};

/* Returns when the result is done. Fails as client_progress and `take` do; STATUS_FAILED or
 * STATUS_UNREACHABLE for a process that died, STATUS_CANCELLED for a signal. */
enum status ask_run(struct ask *ask, const struct client_request *request,
                    const struct place_options *place, struct error *error);

/* Says which signal came, and sets the exit code: for who waits inside `take`. */
enum status ask_ended_by_signal(struct ask *ask, struct error *error);

/* Waits, inside `take`, until standard output takes some more, however long its reader pauses: the
 * coordinator hears of us meanwhile. STATUS_CANCELLED: a signal came. */
enum status ask_await_output(struct ask *ask, struct error *error);

#endif
