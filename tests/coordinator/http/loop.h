/* tests/coordinator/http/loop.h - the coordinator's loop as the HTTP side sees it, played by the
 * test: a ROUTER that listens inside. */
#ifndef LONGSPAN_TESTS_COORDINATOR_HTTP_LOOP_H
#define LONGSPAN_TESTS_COORDINATOR_HTTP_LOOP_H

#include "tests/proto/wire_fixture.h"

#include "coordinator/control.h"

#define LOOP_ENDPOINT "inproc://http"

struct loop {
    struct wire_socket *socket;
    struct frames frames;
    struct control control;
    struct frames_peer client; /* who spoke last */
    Longspan__Control *heard;  /* what it said; NULL: nothing yet */
};

static inline void loop_open(struct loop *loop, struct wire_fixture *f)
{
    *loop = (struct loop){0};
    const struct wire_socket_options options = {
        .kind = WIRE_ROUTER, .listen = true, .endpoint = f->ipc};
    loop->socket = open_socket(f->context, options);
    assert_int_equal(wire_socket_listen_inside(loop->socket, LOOP_ENDPOINT, NULL), STATUS_OK);
    frames_init(&loop->frames);
    control_open(&loop->control, loop->socket);
}

static inline void loop_close(struct loop *loop)
{
    if (loop->heard != NULL)
        longspan__control__free_unpacked(loop->heard, NULL);
    frames_clear(&loop->frames);
    control_close(&loop->control);
    wire_socket_close(loop->socket);
}

static inline void loop_receive(struct loop *loop)
{
    assert_received(loop->socket, &loop->frames);
    if (loop->heard != NULL)
        longspan__control__free_unpacked(loop->heard, NULL);
    loop->heard = longspan__control__unpack(NULL, frames_size(&loop->frames, 0),
                                            frames_data(&loop->frames, 0));
    assert_non_null(loop->heard);
    loop->client.n = loop->frames.peer.n;
    memcpy(loop->client.bytes, loop->frames.peer.bytes, loop->frames.peer.n);
}

/* Waits for the next message but pings, which is of this kind. */
static inline const Longspan__Control *loop_hear(struct loop *loop,
                                                 Longspan__Control__BodyCase kind)
{
    do
        loop_receive(loop);
    while (loop->heard->body_case == LONGSPAN__CONTROL__BODY_PING);
    assert_int_equal(loop->heard->body_case, kind);
    return loop->heard;
}

static inline void loop_say(struct loop *loop, const Longspan__Control *message)
{
    struct error error = {0};
    if (control_send(&loop->control, &loop->client, message, NULL, 0, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

/* Nothing is said to it but pings. */
static inline void loop_hear_nothing(struct loop *loop)
{
    while (frames_receive(loop->socket, &loop->frames, soon(SHORT_US), NULL) == STATUS_OK) {
        Longspan__Control *heard = longspan__control__unpack(NULL, frames_size(&loop->frames, 0),
                                                             frames_data(&loop->frames, 0));
        assert_non_null(heard);
        assert_int_equal(heard->body_case, LONGSPAN__CONTROL__BODY_PING);
        longspan__control__free_unpacked(heard, NULL);
    }
}

#endif
