/* exchange_end.c - see exchange_end.h. A message of one byte ends the echo. */
#include "bench/measure/exchange_end.h"

#include "proto/frames.h"
#include "proto/wire_ring.h"
#include "sys/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

enum { HEADER_BYTES = 48, PATIENCE_US = 10000000, CHECK_EVERY = 64 };

struct exchange_end {
    enum exchange_kind kind;
    struct wire_context *context;
    struct wire_socket *socket;
    struct wire_ring *ring; /* NULL: the socket carries messages */
    void *plain_context, *plain;
    uint32_t spin_us;
    uint64_t n;
    struct frames frames;
};

static enum status failed(struct error *error, const char *what)
{
    return error_set(error, STATUS_IO, "%s: %s", what, zmq_strerror(errno));
}

static void end_free(struct exchange_end *end)
{
    if (end == NULL)
        return;
    frames_clear(&end->frames);
    wire_ring_destroy(end->ring);
    wire_socket_close(end->socket);
    wire_context_destroy(end->context);
    if (end->plain != NULL)
        zmq_close(end->plain);
    if (end->plain_context != NULL)
        zmq_ctx_term(end->plain_context);
    free(end);
}

static enum status end_make(struct exchange_end **end, enum exchange_kind kind,
                            const char *endpoint, bool listen, uint32_t spin_us,
                            struct error *error)
{
    struct exchange_end *e = calloc(1, sizeof(*e));
    if (e == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory");
    e->kind = kind;
    e->spin_us = spin_us;
    enum status status = STATUS_OK;
    if (kind == EXCHANGE_PLAIN) {
        e->plain_context = zmq_ctx_new();
        e->plain = zmq_socket(e->plain_context, ZMQ_PAIR);
        const int linger_ms = 100;
        zmq_setsockopt(e->plain, ZMQ_LINGER, &linger_ms, sizeof(linger_ms));
        if ((listen ? zmq_bind : zmq_connect)(e->plain, endpoint) != 0)
            status = failed(error, endpoint);
    } else {
        /* The namespaces that are measured across are ours alone. */
        status = wire_context_create(
            &e->context, &(struct wire_context_options){.insecure_network = true}, error);
        if (status == STATUS_OK)
            status = wire_socket_open(
                &e->socket, e->context,
                &(struct wire_socket_options){.kind = listen ? WIRE_ROUTER : WIRE_DEALER,
                                              .listen = listen,
                                              .endpoint = endpoint,
                                              .linger_ms = 100},
                error);
    }
    if (status != STATUS_OK) {
        end_free(e);
        return status;
    }
    *end = e;
    return STATUS_OK;
}

/* ---- messages ---- */

static enum status send_frames(struct exchange_end *end, struct error *error)
{
    if (end->ring != NULL)
        return wire_ring_send(end->ring, &end->frames, error);
    return frames_send(end->socket, &end->frames, clock_us() + PATIENCE_US, error);
}

static enum status receive_frames(struct exchange_end *end, uint64_t patience_us,
                                  struct error *error)
{
    const uint64_t deadline = clock_us() + patience_us;
    for (;;) {
        struct wire_poll_item items[] = {{.socket = end->socket}, {.ring = end->ring}};
        enum status status =
            wire_poll(items, end->ring != NULL ? 2 : 1, end->spin_us, deadline, error);
        if (status != STATUS_OK)
            return status;
        if (end->ring != NULL && items[1].readable)
            status = wire_ring_receive(end->ring, &end->frames, error);
        else
            status = frames_receive(end->socket, &end->frames, 0, error);
        if (status != STATUS_TIMEOUT)
            return status;
    }
}

static enum status add_bytes(struct exchange_end *end, size_t bytes, int value, struct error *error)
{
    void *data;
    const enum status status = frames_add(&end->frames, bytes, &data, error);
    if (status == STATUS_OK)
        memset(data, value, bytes);
    return status;
}

static enum status check(const uint8_t *data, size_t bytes, uint8_t value, struct error *error)
{
    for (size_t i = 0; i < bytes; i++)
        if (data[i] != value)
            return error_set(error, STATUS_PROTOCOL, "byte %zu of an answer is wrong", i);
    return STATUS_OK;
}

static enum status plain_once(struct exchange_end *end, size_t bytes, struct error *error)
{
    zmq_msg_t message;
    const uint8_t value = (uint8_t)end->n;
    if (zmq_msg_init_size(&message, bytes) != 0)
        return failed(error, "no memory");
    memset(zmq_msg_data(&message), value, bytes);
    if (zmq_msg_send(&message, end->plain, 0) < 0 || zmq_msg_recv(&message, end->plain, 0) < 0)
        return failed(error, "plain ZeroMQ");
    enum status status = STATUS_OK;
    if (end->n++ % CHECK_EVERY == 0)
        status = check(zmq_msg_data(&message), zmq_msg_size(&message), value, error);
    zmq_msg_close(&message);
    return status;
}

enum status exchange_once(struct exchange_end *end, size_t bytes, struct error *error)
{
    if (end->kind == EXCHANGE_PLAIN)
        return plain_once(end, bytes, error);
    const uint8_t value = (uint8_t)end->n;
    enum status status = add_bytes(end, HEADER_BYTES, value, error);
    if (status == STATUS_OK)
        status = add_bytes(end, bytes - HEADER_BYTES, value, error);
    if (status == STATUS_OK)
        status = send_frames(end, error);
    if (status == STATUS_OK)
        status = receive_frames(end, PATIENCE_US, error);
    if (status == STATUS_OK && end->n++ % CHECK_EVERY == 0)
        status = check(frames_data(&end->frames, 1), frames_size(&end->frames, 1), value, error);
    frames_clear(&end->frames);
    return status;
}

void exchange_idle(struct exchange_end *end, uint64_t duration_us)
{
    if (end->kind == EXCHANGE_PLAIN) {
        zmq_pollitem_t item = {.socket = end->plain, .events = ZMQ_POLLIN};
        zmq_poll(&item, 1, (long)(duration_us / 1000));
    } else {
        receive_frames(end, duration_us, NULL);
    }
}

/* ---- set-up ---- */

/* The offer goes over the socket, as Hello does; so does the answer. */
static enum status offer_ring(struct exchange_end *end, struct error *error)
{
    struct wire_ring *ring;
    struct wire_ring_offer offer;
    enum status status =
        wire_ring_create(&ring, &(struct wire_ring_options){.name = "the echo"}, error);
    if (status != STATUS_OK)
        return status;
    wire_ring_describe(ring, &offer);
    status = frames_add_copy(&end->frames, &offer, sizeof(offer), error);
    if (status == STATUS_OK)
        status = send_frames(end, error);
    if (status == STATUS_OK)
        status = receive_frames(end, PATIENCE_US, error);
    wire_ring_begin(ring);
    end->ring = ring;
    frames_clear(&end->frames);
    return status;
}

static enum status take_ring(struct exchange_end *end, struct error *error)
{
    struct wire_ring_offer offer;
    struct wire_ring *ring;
    enum status status = receive_frames(end, PATIENCE_US, error);
    if (status != STATUS_OK || frames_size(&end->frames, 0) != sizeof(offer))
        return status;
    memcpy(&offer, frames_data(&end->frames, 0), sizeof(offer));
    status = wire_ring_open(&ring, &offer, &(struct wire_ring_options){.name = "the asker"}, error);
    if (status != STATUS_OK)
        return status;
    status = send_frames(end, error);
    end->ring = ring;
    return status;
}

enum status exchange_connect(struct exchange_end **end, enum exchange_kind kind,
                             const char *endpoint, uint32_t spin_us, struct error *error)
{
    struct exchange_end *made;
    enum status status = end_make(&made, kind, endpoint, false, spin_us, error);
    if (status != STATUS_OK)
        return status;
    if (kind == EXCHANGE_RING)
        status = offer_ring(made, error);
    if (status != STATUS_OK) {
        end_free(made);
        return status;
    }
    *end = made;
    return STATUS_OK;
}

void exchange_close(struct exchange_end *end)
{
    if (end == NULL)
        return;
    if (end->kind == EXCHANGE_PLAIN)
        zmq_send(end->plain, "", 1, 0);
    else if (add_bytes(end, 1, 0, NULL) == STATUS_OK)
        send_frames(end, NULL);
    end_free(end);
}

/* ---- the echo ---- */

static enum status echo_plain(struct exchange_end *end, struct error *error)
{
    for (;;) {
        zmq_msg_t message;
        zmq_msg_init(&message);
        if (zmq_msg_recv(&message, end->plain, 0) < 0)
            return failed(error, "plain ZeroMQ");
        if (zmq_msg_size(&message) == 1)
            return zmq_msg_close(&message) == 0 ? STATUS_OK : STATUS_IO;
        if (zmq_msg_send(&message, end->plain, 0) < 0)
            return failed(error, "plain ZeroMQ");
    }
}

enum status exchange_echo(enum exchange_kind kind, const char *endpoint, uint32_t spin_us,
                          int ready, struct error *error)
{
    struct exchange_end *end;
    const char one = 1;
    enum status status = end_make(&end, kind, endpoint, true, spin_us, error);
    if (status != STATUS_OK)
        return status;
    if (write(ready, &one, 1) != 1)
        status = failed(error, "cannot say that the echo is ready");
    if (status == STATUS_OK && kind == EXCHANGE_PLAIN)
        status = echo_plain(end, error);
    if (status == STATUS_OK && kind == EXCHANGE_RING)
        status = take_ring(end, error);
    while (status == STATUS_OK && kind != EXCHANGE_PLAIN) {
        status = receive_frames(end, UINT64_MAX / 2, error);
        if (status == STATUS_OK && frames_size(&end->frames, 0) == 1)
            break;
        if (status == STATUS_OK)
            status = send_frames(end, error);
    }
    end_free(end);
    return status;
}
