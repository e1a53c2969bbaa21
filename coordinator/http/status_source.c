/* status_source.c - see status_source.h. */
#include "coordinator/http/status_source.h"

#include "proto/arena.h"
#include "proto/frames.h"
#include "proto/wire_socket.h"
#include "sys/clock.h"

#include <pthread.h>
#include <stdlib.h>

struct status_source {
    pthread_mutex_t lock; /* of everything */
    struct wire_socket *socket;
    struct frames frames;
    struct arena arena;                 /* of `reply` */
    const Longspan__StatusReply *reply; /* NULL: none */
    uint64_t n_asked, came_us;
};

enum status status_source_create(struct status_source **source, struct wire_context *wire,
                                 const char *endpoint, struct error *error)
{
    struct status_source *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the HTTP server");
    pthread_mutex_init(&s->lock, NULL);
    frames_init(&s->frames);
    arena_init(&s->arena, 0);
    const struct wire_socket_options options = {.kind = WIRE_DEALER,
                                                .endpoint = endpoint,
                                                .inside = true,
                                                .name = "the coordinator's loop"};
    const enum status status = wire_socket_open(&s->socket, wire, &options, error);
    if (status != STATUS_OK) {
        status_source_destroy(s);
        return status;
    }
    *source = s;
    return STATUS_OK;
}

void status_source_destroy(struct status_source *source)
{
    if (source == NULL)
        return;
    wire_socket_close(source->socket);
    frames_clear(&source->frames);
    arena_destroy(&source->arena);
    pthread_mutex_destroy(&source->lock);
    free(source);
}

static enum status ask(struct status_source *s, uint64_t deadline_us, struct error *error)
{
    Longspan__StatusRequest request = LONGSPAN__STATUS_REQUEST__INIT;
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    request.request = ++s->n_asked;
    control.body_case = LONGSPAN__CONTROL__BODY_STATUS_REQUEST;
    control.status_request = &request;
    void *data = NULL;
    frames_clear(&s->frames);
    enum status status =
        frames_add(&s->frames, longspan__control__get_packed_size(&control), &data, error);
    if (status != STATUS_OK)
        return status;
    longspan__control__pack(&control, data);
    return frames_send(s->socket, &s->frames, deadline_us, error);
}

/* Reads until the answer to the last question: answers to earlier ones came too late for who asked. */
static enum status listen_for_answer(struct status_source *s, uint64_t deadline_us,
                                     struct error *error)
{
    for (;;) {
        const enum status status = frames_receive(s->socket, &s->frames, deadline_us, error);
        if (status != STATUS_OK)
            return status;
        arena_reset(&s->arena);
        const Longspan__Control *control = longspan__control__unpack(
            &s->arena.allocator, frames_size(&s->frames, 0), frames_data(&s->frames, 0));
        frames_clear(&s->frames);
        if (control == NULL)
            return error_set(error, STATUS_PROTOCOL, "the coordinator's status cannot be read");
        if (control->body_case == LONGSPAN__CONTROL__BODY_STATUS_REPLY &&
            control->status_reply->request == s->n_asked) {
            s->reply = control->status_reply;
            s->came_us = clock_us();
            return STATUS_OK;
        }
    }
}

enum status status_source_take(struct status_source *source, const Longspan__StatusReply **reply,
                               struct error *error)
{
    enum status status = STATUS_OK;
    pthread_mutex_lock(&source->lock);
    const uint64_t now = clock_us();
    if (source->reply == NULL || now - source->came_us >= STATUS_SOURCE_AGE_MS * UINT64_C(1000)) {
        const uint64_t deadline = now + STATUS_SOURCE_WAIT_MS * UINT64_C(1000);
        source->reply = NULL;
        status = ask(source, deadline, error);
        if (status == STATUS_OK)
            status = listen_for_answer(source, deadline, error);
        if (status == STATUS_TIMEOUT)
            error_set(error, status, "the coordinator is busy: it did not tell its status in %d s",
                      STATUS_SOURCE_WAIT_MS / 1000);
    }
    if (status != STATUS_OK) {
        pthread_mutex_unlock(&source->lock);
        return status;
    }
    *reply = source->reply;
    return STATUS_OK;
}

void status_source_give(struct status_source *source)
{
    pthread_mutex_unlock(&source->lock);
}
