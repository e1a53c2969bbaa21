/* status_ask.c - see status_ask.h: one question, one answer. */
#include "cluster/status_ask.h"

#include "proto/address.h"
#include "proto/arena.h"
#include "proto/frames.h"
#include "proto/longspan.pb-c.h"
#include "proto/status_json.h"
#include "proto/wire_context.h"
#include "proto/wire_socket.h"
#include "sys/clock.h"

enum { QUESTION = 1, GOODBYE_MS = 100, LOOK_US = 20000 };

struct asking {
    struct wire_socket *socket;
    const char *coordinator;
    uint32_t timeout_s;
    uint64_t deadline_us;
    unsigned n_failed; /* handshakes, in a row */
    bool somebody;     /* was there */
    bool nobody;       /* listens there */
};

static enum status send_question(struct wire_socket *socket, uint64_t deadline_us,
                                 struct error *error)
{
    Longspan__StatusRequest request = LONGSPAN__STATUS_REQUEST__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    request.request = QUESTION;
    control.body_case = LONGSPAN__CONTROL__BODY_STATUS_REQUEST;
    control.status_request = &request;
    return frames_send_message(socket, &control.base, deadline_us, error);
}

/* What the connection says: nobody listens there, or a wrong key, which shows as handshakes that
 * fail. What was there before is told apart from nobody: ZeroMQ tries again after that too. */
static enum status look_at_connection(struct asking *a, struct error *error)
{
    struct wire_event event;
    char text[512], advice[ADDRESS_ADVICE_BYTES];
    while (wire_socket_event(a->socket, &event)) {
        if (event.kind == WIRE_HANDSHAKE_FAILED && wire_handshake_refused(&event, &a->n_failed))
            return error_set(error, STATUS_UNREACHABLE, "%s", wire_event_text(&event, text));
        a->nobody = event.kind == WIRE_RETRY && !a->somebody;
        if (a->nobody)
            return error_set(error, STATUS_UNREACHABLE, "no coordinator listens at %s: %s",
                             a->coordinator, address_advice(a->coordinator, advice));
        a->somebody = true;
    }
    return STATUS_OK;
}

/* The next message. Whoever looks at a cluster does not wait until there is one. */
static enum status receive(struct asking *a, struct frames *frames, struct error *error)
{
    char advice[ADDRESS_ADVICE_BYTES];
    for (;;) {
        const uint64_t look_us = clock_us() + LOOK_US;
        enum status status = frames_receive(
            a->socket, frames, look_us < a->deadline_us ? look_us : a->deadline_us, error);
        if (status != STATUS_TIMEOUT)
            return status;
        status = look_at_connection(a, error);
        if (status != STATUS_OK)
            return status;
        if (clock_us() >= a->deadline_us)
            return error_set(error, STATUS_UNREACHABLE,
                             "the coordinator at %s did not answer within %u s: %s", a->coordinator,
                             a->timeout_s, address_advice(a->coordinator, advice));
    }
}

/* Reads messages until the answer; others (none is expected) are passed over. */
static enum status read_answer(struct asking *a, struct arena *arena, json_t **json,
                               struct error *error)
{
    struct frames frames;
    frames_init(&frames);
    enum status status = STATUS_OK;
    while (*json == NULL && status == STATUS_OK) {
        status = receive(a, &frames, error);
        if (status != STATUS_OK)
            break;
        arena_reset(arena);
        const Longspan__Control *control = longspan__control__unpack(
            &arena->allocator, frames_size(&frames, 0), frames_data(&frames, 0));
        if (control == NULL)
            status = error_set(error, STATUS_PROTOCOL, "the answer of %s cannot be read",
                               a->coordinator);
        else if (control->body_case == LONGSPAN__CONTROL__BODY_REFUSAL)
            status = error_set(error, STATUS_UNREACHABLE, "%s refuses: %.800s", a->coordinator,
                               control->refusal->text);
        else if (control->body_case == LONGSPAN__CONTROL__BODY_STATUS_REPLY &&
                 (*json = status_json(control->status_reply)) == NULL)
            status = error_set(error, STATUS_NO_MEMORY, "no memory for the answer");
    }
    frames_clear(&frames);
    return status;
}

enum status status_ask(const char *coordinator, const struct cluster_key *key,
                       bool insecure_network, uint32_t timeout_s, json_t **json, bool *nobody,
                       struct error *error)
{
    const struct wire_context_options context_options = {.key = key,
                                                         .insecure_network = insecure_network};
    const struct wire_socket_options socket_options = {
        .kind = WIRE_DEALER, .endpoint = coordinator, .linger_ms = GOODBYE_MS};
    struct asking asking = {.coordinator = coordinator,
                            .timeout_s = timeout_s,
                            .deadline_us = clock_us() + timeout_s * UINT64_C(1000000)};
    struct wire_context *context = NULL;
    struct arena arena;
    json_t *answer = NULL;
    arena_init(&arena, 0);
    enum status status = wire_context_create(&context, &context_options, error);
    if (status == STATUS_OK)
        status = wire_socket_open(&asking.socket, context, &socket_options, error);
    if (status == STATUS_OK)
        status = send_question(asking.socket, asking.deadline_us, error);
    if (status == STATUS_OK)
        status = read_answer(&asking, &arena, &answer, error);
    if (status == STATUS_OK)
        *json = answer;
    *nobody = asking.nobody;
    arena_destroy(&arena);
    wire_socket_close(asking.socket);
    wire_context_destroy(context);
    return status;
}
