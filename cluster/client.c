/* client.c - one DEALER socket: a request out, pings out, events in. */
#include "cluster/client.h"

#include "proto/address.h"
#include "proto/arena.h"
#include "proto/frames.h"
#include "sys/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REQUEST = 1,           /* our number of the one request of this connection */
    PING_US = 1000000,     /* the coordinator drops clients after 10 s of silence */
    AWAY_US = 1000000,     /* what is longer between two looks counts as that: we were stopped */
    GOODBYE_MS = 300,      /* for the cancel to reach the kernel */
    MOST_EVENT_MIB = 1024, /* a plan repeats the prompt's ids */
    NAME_BYTES = 320,
};

struct client {
    struct wire_context *context;
    struct wire_socket *socket;
    char name[NAME_BYTES];
    uint64_t reach_deadline_us, reach_us, last_heard_us, next_ping_us, looked_us;
    bool connected, lost, heard, finished;
    bool refused;                 /* a connection, so far: nobody listens there */
    unsigned n_handshakes_failed; /* in a row, without a reason */
    uint64_t n_loaded, n_load_bytes;
    struct frames frames;
    struct arena arena;
};

static enum status send_control(struct client *client, const Longspan__Control *control,
                                struct error *error)
{
    return frames_send_message(client->socket, &control->base, clock_us() + PING_US, error);
}

static enum status send_request(struct client *client, const struct client_request *asked,
                                struct error *error)
{
    Longspan__Prompt *items = calloc(asked->n_prompts, sizeof(*items));
    Longspan__Prompt **list = calloc(asked->n_prompts, sizeof(*list));
    Longspan__Sampling sampling = LONGSPAN__SAMPLING__INIT;
    Longspan__RunRequest request = LONGSPAN__RUN_REQUEST__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    enum status status = STATUS_OK;
    if (items == NULL || list == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for the request");
    for (uint32_t i = 0; status == STATUS_OK && i < asked->n_prompts; i++) {
        const struct client_prompt *prompt = &asked->prompts[i];
        longspan__prompt__init(&items[i]);
        items[i].text.data = (uint8_t *)prompt->text;
        items[i].text.len = prompt->n_bytes;
        items[i].ids = (int32_t *)prompt->ids;
        items[i].n_ids = prompt->n_ids;
        items[i].fill_tokens = prompt->fill_tokens;
        items[i].fill_seed = prompt->fill_seed;
        list[i] = &items[i];
    }
    sampling.temperature = asked->temperature;
    sampling.top_k = asked->top_k;
    sampling.top_p = asked->top_p;
    sampling.min_p = asked->min_p;
    sampling.seed = asked->seed;
    request.request = REQUEST;
    request.n_prompts = asked->n_prompts;
    request.prompts = list;
    request.n_predict = asked->n_predict;
    request.sampling = &sampling;
    request.ignore_eos = asked->ignore_eos;
    request.want_logprobs = asked->want_logprobs;
    request.n_logprobs = asked->n_logprobs;
    request.want_logits = asked->want_logits;
    request.no_prefix_sharing = asked->no_prefix_sharing;
    control.body_case = LONGSPAN__CONTROL__BODY_RUN_REQUEST;
    control.run_request = &request;
    if (status == STATUS_OK)
        status = send_control(client, &control, error);
    free(items);
    free(list);
    return status;
}

enum status client_open(struct client **client, const char *address, const struct cluster_key *key,
                        bool insecure_network, const struct client_request *request,
                        uint64_t reach_us, struct error *error)
{
    struct client *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a connection");
    frames_init(&made->frames);
    arena_init(&made->arena, (size_t)MOST_EVENT_MIB << 20);
    snprintf(made->name, sizeof(made->name), "the coordinator at %s", address);
    const uint64_t now = clock_us();
    made->reach_us = reach_us;
    made->reach_deadline_us = now + reach_us;
    made->last_heard_us = made->looked_us = now;
    const struct wire_context_options context_options = {.key = key,
                                                         .insecure_network = insecure_network};
    const struct wire_socket_options socket_options = {
        .kind = WIRE_DEALER,
        .endpoint = address,
        .name = made->name,
        .linger_ms = GOODBYE_MS,
        .max_message_bytes = (uint64_t)MOST_EVENT_MIB << 20,
    };
    enum status status = wire_context_create(&made->context, &context_options, error);
    if (status == STATUS_OK)
        status = wire_socket_open(&made->socket, made->context, &socket_options, error);
    if (status == STATUS_OK)
        status = send_request(made, request, error);
    if (status == STATUS_OK)
        *client = made;
    else
        client_close(made);
    return status;
}

void client_close(struct client *client)
{
    if (client == NULL)
        return;
    if (client->socket != NULL && client->connected) {
        Longspan__RunCancel cancel = LONGSPAN__RUN_CANCEL__INIT;
        Longspan__Leave leave = LONGSPAN__LEAVE__INIT;
        Longspan__Control control = LONGSPAN__CONTROL__INIT;
        cancel.request = REQUEST;
        control.body_case = LONGSPAN__CONTROL__BODY_RUN_CANCEL;
        control.run_cancel = &cancel;
        if (!client->finished)
            send_control(client, &control, NULL);
        control.body_case = LONGSPAN__CONTROL__BODY_LEAVE;
        control.leave = &leave;
        send_control(client, &control, NULL);
    }
    frames_clear(&client->frames);
    arena_destroy(&client->arena);
    wire_socket_close(client->socket);
    wire_context_destroy(client->context);
    free(client);
}

struct wire_socket *client_socket(struct client *client)
{
    return client->socket;
}

void client_loading(const struct client *client, uint64_t *n_loaded, uint64_t *n_all)
{
    *n_loaded = client->n_loaded;
    *n_all = client->n_load_bytes;
}

bool client_is_lost(const struct client *client)
{
    return client->lost;
}

void client_finished(struct client *client)
{
    client->finished = true;
}

/* Connections as they come and go. */
static enum status take_events(struct client *client, struct error *error)
{
    struct wire_event event;
    char text[512];
    while (wire_socket_event(client->socket, &event))
        switch (event.kind) {
        case WIRE_READY:
            client->connected = true;
            client->n_handshakes_failed = 0;
            client->last_heard_us = clock_us();
            break;
        case WIRE_LOST:
            if (client->connected && !client->finished) {
                client->lost = true;
                return error_set(error, STATUS_FAILED, "the connection to %s ended", client->name);
            }
            break;
        case WIRE_RETRY:
            client->refused = true;
            break;
        case WIRE_HANDSHAKE_FAILED:
            if (wire_handshake_refused(&event, &client->n_handshakes_failed))
                return error_set(error, STATUS_UNREACHABLE, "%s", wire_event_text(&event, text));
            break;
        }
    return STATUS_OK;
}

void client_ping(struct client *client)
{
    const uint64_t now = clock_us();
    if (now < client->next_ping_us)
        return;
    Longspan__Ping ping = LONGSPAN__PING__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    char name[] = "longspan";
    ping.name = name;
    control.body_case = LONGSPAN__CONTROL__BODY_PING;
    control.ping = &ping;
    client->next_ping_us = now + PING_US;
    send_control(client, &control, NULL); /* a full queue shows in the silence */
}

static enum status check_deadlines(struct client *client, struct error *error)
{
    const uint64_t now = clock_us();
    const uint64_t away = now - client->looked_us;
    char advice[ADDRESS_ADVICE_BYTES];
    client->looked_us = now;
    if (away > AWAY_US) { /* whether it was silent then cannot be told */
        client->reach_deadline_us += away - AWAY_US;
        client->last_heard_us += away - AWAY_US;
        if (client->last_heard_us > now) /* it was heard meanwhile */
            client->last_heard_us = now;
    }
    if (!client->heard && now >= client->reach_deadline_us)
        return error_set(error, STATUS_UNREACHABLE,
                         "%s did not answer within %" PRIu64 " s (%s): %s", client->name,
                         client->reach_us / 1000000,
                         client->connected ? "something else listens there"
                         : client->refused ? "nobody listens there"
                                           : "no connection",
                         address_advice(wire_socket_endpoint(client->socket), advice));
    if (client->heard && now - client->last_heard_us >= (uint64_t)CLIENT_SILENCE_S * 1000000)
        return error_set(error, STATUS_TIMEOUT, "%s has been silent for %d s", client->name,
                         CLIENT_SILENCE_S);
    client_ping(client);
    return STATUS_OK;
}

static enum status take_message(struct client *client, const Longspan__RunEvent **event,
                                const void **row, size_t *row_bytes, struct error *error)
{
    arena_reset(&client->arena);
    const Longspan__Control *control =
        client->frames.n == 0
            ? NULL
            : longspan__control__unpack(&client->arena.allocator, frames_size(&client->frames, 0),
                                        frames_data(&client->frames, 0));
    if (control == NULL)
        return error_set(error, STATUS_PROTOCOL, "%s sent a message that cannot be read",
                         client->name);
    client->heard = true;
    client->last_heard_us = clock_us();
    switch (control->body_case) {
    case LONGSPAN__CONTROL__BODY_RUN_EVENT:
        if (control->run_event->request != REQUEST)
            return STATUS_OK;
        *event = control->run_event;
        if (client->frames.n > 1) {
            *row = frames_data(&client->frames, 1);
            *row_bytes = frames_size(&client->frames, 1);
        }
        return STATUS_OK;
    case LONGSPAN__CONTROL__BODY_REFUSAL:
        return error_set(error, STATUS_UNREACHABLE, "%s refuses: %s", client->name,
                         control->refusal->text);
    case LONGSPAN__CONTROL__BODY_LEAVE:
        return error_set(error, STATUS_FAILED, "%s ended: %s", client->name,
                         control->leave->reason);
    case LONGSPAN__CONTROL__BODY_PONG:
        client->n_loaded = control->pong->loaded_bytes;
        client->n_load_bytes = control->pong->load_bytes;
        return STATUS_OK;
    default:
        return STATUS_OK;
    }
}

enum status client_progress(struct client *client, const Longspan__RunEvent **event,
                            const void **row, size_t *row_bytes, struct error *error)
{
    *event = NULL;
    *row = NULL;
    *row_bytes = 0;
    enum status status = frames_receive(client->socket, &client->frames, 0, error);
    if (status == STATUS_OK) /* first: what came before the connection ended counts */
        return take_message(client, event, row, row_bytes, error);
    if (status != STATUS_TIMEOUT)
        return status;
    status = take_events(client, error);
    return status == STATUS_OK ? check_deadlines(client, error) : status;
}
