/* control.c - see control.h. */
#include "coordinator/control.h"

#include "sys/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A message that waits for room. */
struct control_owed {
    struct control_owed *next; /* all of one peer lie together */
    struct frames_peer peer;
    size_t n_bytes;
    uint8_t bytes[]; /* a packed Control */
};

void control_open(struct control *control, struct wire_socket *socket)
{
    control->socket = socket;
    frames_init(&control->out);
    arena_init(&control->arena, 0);
    control->owed = NULL;
}

void control_close(struct control *control)
{
    for (struct control_owed *owed; (owed = control->owed) != NULL;) {
        control->owed = owed->next;
        free(owed);
    }
    frames_clear(&control->out);
    arena_destroy(&control->arena);
}

/* What is in control->out, which is empty afterwards. */
static enum status send_out(struct control *control, const struct frames_peer *peer,
                            struct error *error)
{
    frames_set_peer(&control->out, peer->bytes, peer->n);
    const enum status status = frames_send(control->socket, &control->out, 0, error);
    frames_clear(&control->out);
    return status == STATUS_TIMEOUT
               ? error_set(error, STATUS_EXHAUSTED,
                           "the queue of messages to a peer is full: it does not read them")
               : status;
}

enum status control_send(struct control *control, const struct frames_peer *peer,
                         const Longspan__Control *message, const void *tensor, size_t tensor_bytes,
                         struct error *error)
{
    struct frames *out = &control->out;
    frames_clear(out);
    enum status status = frames_add_message(out, &message->base, error);
    if (status == STATUS_OK && tensor != NULL)
        status = frames_add_copy(out, tensor, tensor_bytes, error);
    if (status == STATUS_OK)
        status = send_out(control, peer, error);
    frames_clear(out);
    arena_reset(&control->arena);
    return status;
}

enum status control_send_pong(struct control *control, const struct frames_peer *peer, uint64_t job,
                              const struct control_loading *loading, struct error *error)
{
    Longspan__Pong pong = LONGSPAN__PONG__INIT;
    pong.job = job;
    pong.clock_ns = clock_ns();
    pong.loaded_bytes = loading->n_loaded;
    pong.load_bytes = loading->n_all;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_PONG;
    message.pong = &pong;
    return control_send(control, peer, &message, NULL, 0, error);
}

void control_send_refusal(struct control *control, const struct frames_peer *peer,
                          enum status status, const char *text)
{
    Longspan__Refusal refusal = LONGSPAN__REFUSAL__INIT;
    refusal.status = status;
    refusal.text = (char *)text;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_REFUSAL;
    message.refusal = &refusal;
    control_send(control, peer, &message, NULL, 0, NULL); /* who is gone needs no refusal */
}

void control_send_leave(struct control *control, const struct frames_peer *peer, const char *reason)
{
    Longspan__Leave leave = LONGSPAN__LEAVE__INIT;
    leave.reason = (char *)reason;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_LEAVE;
    message.leave = &leave;
    control_send(control, peer, &message, NULL, 0, NULL);
}

/* ---- what is owed ---------------------------------------------------------------------------- */

/* Whether a message could not go now and may go later. */
static bool may_go_later(enum status status)
{
    return status == STATUS_EXHAUSTED || status == STATUS_NO_MEMORY;
}

/* Without memory it is not owed. */
static void owe(struct control *control, const struct frames_peer *peer,
                const Longspan__Control *message)
{
    struct control_owed **link = &control->owed;
    uint32_t n = 0;
    while (*link != NULL && !frames_same_peer(&(*link)->peer, peer))
        link = &(*link)->next;
    for (; *link != NULL && frames_same_peer(&(*link)->peer, peer); n++)
        link = &(*link)->next;
    const size_t n_bytes = longspan__control__get_packed_size(message);
    struct control_owed *owed = n < CONTROL_MOST_OWED ? malloc(sizeof(*owed) + n_bytes) : NULL;
    if (owed == NULL)
        return;
    owed->next = *link;
    owed->peer = *peer;
    owed->n_bytes = n_bytes;
    longspan__control__pack(message, owed->bytes);
    *link = owed;
}

void control_send_owed(struct control *control)
{
    const struct frames_peer *full = NULL; /* the last one whose queue still is */
    for (struct control_owed **link = &control->owed; *link != NULL;) {
        struct control_owed *owed = *link;
        enum status status = STATUS_EXHAUSTED;
        if (full == NULL || !frames_same_peer(full, &owed->peer))
            status = frames_add_copy(&control->out, owed->bytes, owed->n_bytes, NULL);
        if (status == STATUS_OK)
            status = send_out(control, &owed->peer, NULL);
        if (may_go_later(status)) {
            full = &owed->peer;
            link = &owed->next;
        } else {
            *link = owed->next;
            free(owed);
        }
    }
}

void control_send_event_failure(struct control *control, const struct frames_peer *peer,
                                uint64_t request, enum status status, const char *text)
{
    Longspan__Failure failure = LONGSPAN__FAILURE__INIT;
    failure.status = status;
    failure.text = (char *)text;
    Longspan__RunEvent event = LONGSPAN__RUN_EVENT__INIT;
    event.request = request;
    event.body_case = LONGSPAN__RUN_EVENT__BODY_FAILURE;
    event.failure = &failure;
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_RUN_EVENT;
    message.run_event = &event;
    if (may_go_later(control_send(control, peer, &message, NULL, 0, NULL)))
        owe(control, peer, &message);
}

void control_copy_text(char *text, size_t size, const char *from)
{
    snprintf(text, size, "%s", from != NULL ? from : "");
}
