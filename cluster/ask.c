/* ask.c - the loop: what the coordinator says, what the processes do. */
#include "cluster/ask.h"

#include "cluster/answer_text.h"
#include "cluster/death.h"
#include "cluster/launch.h"
#include "cluster/standard_output.h"
#include "sys/clock.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum {
    LOOK_US = 100000,       /* deadlines and the progress line are looked at this often */
    LAST_WORDS_US = 300000, /* for the coordinator to explain the death of another process */
    SIGNAL_EXIT = 128,      /* the exit code is this and the signal's number */
    MOST_EVENTS = 4096,     /* taken before signals and processes get a look again */
};

/* ---- events ---------------------------------------------------------------------------------- */

enum status ask_ended_by_signal(struct ask *ask, struct error *error)
{
    const int number = launch_signal(ask->session->launch);
    ask->exit_code = SIGNAL_EXIT + number;
    return error_set(error, STATUS_CANCELLED, "ended by signal %d (%s)", number, strsignal(number));
}

enum status ask_await_output(struct ask *ask, struct error *error)
{
    enum status status;
    while ((status = standard_output_await(ask->session->launch, LOOK_US / 1000)) == STATUS_TIMEOUT)
        client_ping(ask->client);
    return status == STATUS_CANCELLED ? ask_ended_by_signal(ask, error) : status;
}

/* Reads what has come. */
static enum status take_events(struct ask *ask, struct error *error)
{
    for (uint32_t i = 0; i < MOST_EVENTS && !ask->result->done; i++) {
        struct ask_event come = {0};
        enum status status =
            client_progress(ask->client, &come.event, &come.row, &come.row_bytes, error);
        if (status != STATUS_OK)
            return status;
        const Longspan__RunEvent *event = come.event;
        if (event == NULL && !wire_socket_readable(client_socket(ask->client)))
            return STATUS_OK;
        if (event == NULL)
            continue;
        status = result_take(ask->result, event, &come.prompt, &come.text, &come.n_bytes, error);
        if (status == STATUS_OK && ask->take != NULL)
            status = ask->take(ask->context, &come, error);
        if (event->body_case == LONGSPAN__RUN_EVENT__BODY_FAILURE)
            client_finished(ask->client);
        if (status != STATUS_OK)
            return status;
    }
    if (ask->result->done)
        client_finished(ask->client);
    return STATUS_OK;
}

static void show_progress(struct ask *ask)
{
    const char *latest = launch_latest(ask->session->launch, ask->session->coordinator);
    uint64_t n_loaded, n_all;
    client_loading(ask->client, &n_loaded, &n_all);
    if (ask->result->planned)
        progress_running(ask->progress, ask->result, ask->texts_at_end);
    else if (n_all > 0)
        progress_loading(ask->progress, n_loaded, n_all);
    else if (latest[0] != '\0')
        progress_starting(ask->progress, latest);
    else
        progress_starting(ask->progress, ask->session->started ? "starting processes"
                                                               : "waiting for the coordinator");
}

/* ---- failures -------------------------------------------------------------------------------- */

/* A process that was started here died, and nobody said why: its own last words are shown. Its exit
 * code becomes ours if it is one of ours. */
static enum status explain_death(struct ask *ask, const struct launch_death *death,
                                 const struct error *said, struct error *error)
{
    progress_clear(ask->progress);
    if (ask->text != NULL)
        answer_text_break_off(ask->text);
    return death_report(death, said->text, &ask->exit_code, error);
}

/* Something failed: a process died, or the coordinator said so in `said` (empty: it has not yet).
 * Often both are on their way, and the one explains the other: each gets a moment. */
static enum status explain(struct ask *ask, struct error said, struct error *error)
{
    const uint64_t deadline = clock_us() + LAST_WORDS_US;
    struct launch_death death = {0};
    bool died = false;
    for (;;) {
        launch_progress(ask->session->launch);
        died = launch_first_death(ask->session->launch, &death);
        if (said.status == STATUS_OK) {
            struct error words = {0}; /* may be written without a failure: look at the status */
            if (take_events(ask, &words) != STATUS_OK)
                said = words;
            if (ask->result->done)
                return STATUS_OK;
        }
        /* "Connection lost" explains nothing that a death does not. */
        if (died && client_is_lost(ask->client))
            said = (struct error){.status = STATUS_FAILED};
        if (said.status != STATUS_OK && said.status != STATUS_FAILED)
            break; /* a reason, such as an option's value: complete by itself */
        if ((died && said.status != STATUS_OK) || clock_us() >= deadline)
            break;
        struct wire_poll_item items[] = {{.socket = client_socket(ask->client)},
                                         {.descriptor = launch_descriptor(ask->session->launch)}};
        wire_poll(items, 2, 0, deadline, NULL);
    }
    if (!died || (said.status != STATUS_OK && said.status != STATUS_FAILED))
        return error_set(error, said.status, "%s", said.text);
    return explain_death(ask, &death, &said, error);
}

/* ---- the loop -------------------------------------------------------------------------------- */

static enum status loop(struct ask *ask, struct error *error)
{
    struct launch *launch = ask->session->launch;
    for (;;) {
        struct launch_death death;
        launch_progress(launch);
        if (launch_signal(launch) != 0)
            return ask_ended_by_signal(ask, error);
        if (launch_first_death(launch, &death))
            return explain(ask, (struct error){0}, error);
        struct error said = {0};
        enum status status = take_events(ask, &said);
        if (status == STATUS_FAILED && ask->session->started)
            return explain(ask, said, error);
        if (status != STATUS_OK)
            return error_set(error, status, "%s", said.text);
        if (ask->result->done)
            return STATUS_OK;
        show_progress(ask);
        struct wire_poll_item items[] = {{.socket = client_socket(ask->client)},
                                         {.descriptor = launch_descriptor(launch)}};
        status = wire_poll(items, 2, 0, clock_us() + LOOK_US, error);
        if (status != STATUS_OK && status != STATUS_TIMEOUT)
            return status;
    }
}

enum status ask_run(struct ask *ask, const struct client_request *request,
                    const struct place_options *place, struct error *error)
{
    struct session *session = ask->session;
    ask->place = place;
    enum status status = client_open(
        &ask->client, session->address, session->has_key ? &session->key : NULL,
        place->insecure_network, request, (uint64_t)place->join_timeout_s * 1000000, error);
    if (status == STATUS_OK)
        status = loop(ask, error);
    progress_clear(ask->progress);
    client_close(ask->client);
    ask->client = NULL;
    return status;
}
