/* control.c - see control.h. */
#include "coordinator/control.h"

#include "sys/clock.h"

#include <stdio.h>
#include <string.h>

void control_open(struct control *control, struct wire_socket *socket)
{
    control->socket = socket;
    frames_init(&control->out);
    arena_init(&control->arena, 0);
}

void control_close(struct control *control)
{
    frames_clear(&control->out);
    arena_destroy(&control->arena);
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
    if (status == STATUS_OK) {
        frames_set_peer(out, peer->bytes, peer->n);
        status = frames_send(control->socket, out, 0, error);
    }
    frames_clear(out);
    arena_reset(&control->arena);
    if (status == STATUS_TIMEOUT)
        status = error_set(error, STATUS_EXHAUSTED,
                           "the queue of messages to a peer is full: it does not read them");
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
    control_send(control, peer, &message, NULL, 0, NULL);
}

void control_copy_text(char *text, size_t size, const char *from)
{
    snprintf(text, size, "%s", from != NULL ? from : "");
}
