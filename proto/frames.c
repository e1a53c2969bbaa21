/* frames.c - see frames.h. Memory of large frames is ours until ZeroMQ is done with it, so that
 * the bytes on their way out of a socket can be counted: its own limit counts messages only. */
#include "proto/frames.h"

#include "proto/waiting.h"
#include "proto/wire_parts.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    DATA_ALIGNMENT = 8,
    LARGE_ALIGNMENT = 64,
    COUNTED_BYTES = 4096 /* smaller frames are bounded well enough by the count of messages */
};

/* In front of the memory of a large frame, or beside the memory of a borrowed one. */
struct frames_block {
    struct wire_queue *queue; /* that counts it; NULL: not on its way */
    size_t size;
    void (*release)(void *data, void *hint); /* NULL: the memory is behind the block */
    void *hint;
};
_Static_assert(sizeof(struct frames_block) <= LARGE_ALIGNMENT, "data begins one line behind");

static void block_free(void *data, void *hint) /* called by ZeroMQ, from any thread */
{
    struct frames_block *block = hint;
    if (block->queue != NULL) {
        wire_queue_take(block->queue, block->size);
        wire_queue_release(block->queue);
    }
    if (block->release != NULL)
        block->release(data, block->hint);
    free(block);
}

void frames_init(struct frames *frames)
{
    frames->n = 0;
    frames->peer.n = 0;
}

static void clear_parts(struct frames *frames)
{
    for (uint32_t i = 0; i < frames->n; i++)
        zmq_msg_close(&frames->parts[i]);
    frames->n = 0;
}

void frames_clear(struct frames *frames)
{
    clear_parts(frames);
    frames->peer.n = 0;
}

void frames_move(struct frames *to, struct frames *from)
{
    frames_clear(to);
    for (; to->n < from->n; to->n++) {
        to->blocks[to->n] = from->blocks[to->n];
        zmq_msg_init(&to->parts[to->n]);
        zmq_msg_move(&to->parts[to->n], &from->parts[to->n]); /* `from` keeps an empty part */
    }
    frames_reply_to(to, from);
    frames_clear(from);
}

size_t frames_size(const struct frames *frames, uint32_t i)
{
    assert(i < frames->n);
    return zmq_msg_size(&frames->parts[i]);
}

void *frames_data(struct frames *frames, uint32_t i)
{
    assert(i < frames->n);
    return zmq_msg_data(&frames->parts[i]);
}

static enum status add_part(struct frames *frames, int code, struct frames_block *block,
                            size_t size, struct error *error)
{
    if (code != 0)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a frame of %zu bytes", size);
    frames->blocks[frames->n++] = block;
    return STATUS_OK;
}

static enum status check_room(const struct frames *frames, struct error *error)
{
    if (frames->n < FRAMES_MAX)
        return STATUS_OK;
    return error_set(error, STATUS_EXHAUSTED, "a message has at most %d frames", FRAMES_MAX);
}

enum status frames_add(struct frames *frames, size_t size, void **data, struct error *error)
{
    enum status status = check_room(frames, error);
    if (status != STATUS_OK)
        return status;
    zmq_msg_t *part = &frames->parts[frames->n];
    struct frames_block *block = NULL;
    if (size < COUNTED_BYTES) {
        status = add_part(frames, zmq_msg_init_size(part, size), NULL, size, error);
    } else {
        if (size <= SIZE_MAX / 2)
            block = aligned_alloc(LARGE_ALIGNMENT, (size + 2 * LARGE_ALIGNMENT - 1) /
                                                       LARGE_ALIGNMENT * LARGE_ALIGNMENT);
        if (block == NULL)
            return add_part(frames, -1, NULL, size, error);
        *block = (struct frames_block){.size = size};
        status = add_part(
            frames,
            zmq_msg_init_data(part, (char *)block + LARGE_ALIGNMENT, size, block_free, block),
            block, size, error);
        if (status != STATUS_OK)
            free(block);
    }
    if (status == STATUS_OK)
        *data = zmq_msg_data(part);
    return status;
}

enum status frames_add_copy(struct frames *frames, const void *data, size_t size,
                            struct error *error)
{
    void *copy = NULL;
    const enum status status = frames_add(frames, size, &copy, error);
    if (status == STATUS_OK && size > 0)
        memcpy(copy, data, size);
    return status;
}

enum status frames_add_message(struct frames *frames, const ProtobufCMessage *message,
                               struct error *error)
{
    void *packed = NULL;
    const enum status status =
        frames_add(frames, protobuf_c_message_get_packed_size(message), &packed, error);
    if (status == STATUS_OK)
        protobuf_c_message_pack(message, packed);
    return status;
}

enum status frames_add_borrowed(struct frames *frames, void *data, size_t size,
                                void (*release)(void *data, void *hint), void *hint,
                                struct error *error)
{
    enum status status = check_room(frames, error);
    if (status != STATUS_OK)
        return status;
    struct frames_block *block = malloc(sizeof(*block));
    if (block == NULL)
        return add_part(frames, -1, NULL, size, error);
    *block = (struct frames_block){.size = size, .release = release, .hint = hint};
    status = add_part(frames,
                      zmq_msg_init_data(&frames->parts[frames->n], data, size, block_free, block),
                      block, size, error);
    if (status != STATUS_OK)
        free(block);
    return status;
}

void frames_set_peer(struct frames *frames, const void *identity, size_t size)
{
    assert(size > 0 && size <= FRAMES_PEER_BYTES);
    memcpy(frames->peer.bytes, identity, size);
    frames->peer.n = (uint32_t)size;
}

void frames_reply_to(struct frames *reply, const struct frames *request)
{
    reply->peer = request->peer;
}

bool frames_same_peer(const struct frames_peer *a, const struct frames_peer *b)
{
    return a->n == b->n && memcmp(a->bytes, b->bytes, a->n) == 0;
}

static enum status socket_status(int code)
{
    return code == ETERM ? STATUS_CANCELLED : code == EHOSTUNREACH ? STATUS_UNREACHABLE : STATUS_IO;
}

/* ---- receive ---- */

/* One part, which must be there. 0, or errno. */
static int receive_part(void *zmq, zmq_msg_t *part)
{
    zmq_msg_init(part);
    while (zmq_msg_recv(part, zmq, ZMQ_DONTWAIT) < 0)
        if (errno != EINTR) {
            const int code = errno;
            zmq_msg_close(part);
            return code;
        }
    return 0;
}

/* Small messages (under 8 KiB) lie at any address inside ZeroMQ's receive buffer; tensors want
 * alignment. Large ones have memory of their own, and stay where they are. */
static bool align_part(zmq_msg_t *part)
{
    zmq_msg_t aligned;
    if ((uintptr_t)zmq_msg_data(part) % DATA_ALIGNMENT == 0)
        return true;
    if (zmq_msg_init_size(&aligned, zmq_msg_size(part)) != 0)
        return false;
    memcpy(zmq_msg_data(&aligned), zmq_msg_data(part), zmq_msg_size(part));
    return zmq_msg_move(part, &aligned) == 0;
}

/* The first part of a message, waited for. */
static enum status receive_first(struct wire_socket *socket, zmq_msg_t *part, uint64_t deadline_us,
                                 struct error *error)
{
    for (;;) {
        const int code = receive_part(socket->zmq, part);
        if (code == 0)
            return STATUS_OK;
        if (code != EAGAIN)
            return error_set(error, socket_status(code), "cannot receive from %s: %s", socket->name,
                             zmq_strerror(code));
        struct wire_poll_item item = {.socket = socket};
        const enum status status = wire_poll(&item, 1, 0, deadline_us, NULL);
        if (status == STATUS_TIMEOUT)
            return error_set(error, status, "nothing came from %s in time", socket->name);
        if (status != STATUS_OK)
            return error_set(error, status, "cannot receive from %s", socket->name);
    }
}

/* Reads the parts that follow `part`, and keeps them all if they are within the bounds. */
static enum status receive_rest(struct wire_socket *socket, struct frames *frames, zmq_msg_t *part,
                                struct error *error)
{
    uint64_t bytes = 0;
    unsigned n_parts = 0;
    bool kept = true;
    for (;;) {
        const bool more = zmq_msg_more(part) != 0;
        bytes += zmq_msg_size(part);
        n_parts++;
        if (n_parts > FRAMES_MAX || bytes > socket->max_message_bytes)
            kept = false;
        if (kept) {
            zmq_msg_init(&frames->parts[frames->n]);
            zmq_msg_move(&frames->parts[frames->n], part);
            frames->blocks[frames->n] = NULL;
            if (!align_part(&frames->parts[frames->n++])) {
                clear_parts(frames);
                kept = false;
            }
        } else {
            clear_parts(frames);
        }
        zmq_msg_close(part);
        if (!more)
            break;
        const int code = receive_part(socket->zmq, part);
        if (code != 0) { /* ZeroMQ delivers whole messages: the context ends */
            clear_parts(frames);
            return error_set(error, socket_status(code), "cannot receive from %s: %s", socket->name,
                             zmq_strerror(code));
        }
    }
    if (kept)
        return STATUS_OK;
    return error_set(error, STATUS_PROTOCOL,
                     "a message of %u frames and %llu bytes came to %s, at most %d and %llu are "
                     "taken",
                     n_parts, (unsigned long long)bytes, socket->name, FRAMES_MAX,
                     (unsigned long long)socket->max_message_bytes);
}

enum status frames_receive(struct wire_socket *socket, struct frames *frames, uint64_t deadline_us,
                           struct error *error)
{
    zmq_msg_t part;
    frames_clear(frames);
    const enum status status = receive_first(socket, &part, deadline_us, error);
    if (status != STATUS_OK)
        return status;
    if (socket->kind == WIRE_ROUTER) {
        const size_t size = zmq_msg_size(&part);
        const bool good = size > 0 && size <= FRAMES_PEER_BYTES && zmq_msg_more(&part) != 0;
        if (good)
            frames_set_peer(frames, zmq_msg_data(&part), size);
        zmq_msg_close(&part);
        if (!good || receive_part(socket->zmq, &part) != 0)
            return error_set(error, STATUS_PROTOCOL, "an empty message came to %s", socket->name);
    }
    return receive_rest(socket, frames, &part, error);
}

/* ---- send ---- */

/* Counts the large frames as on their way out of the socket, or takes that back. */
static void count_frames(struct frames *frames, struct wire_queue *queue)
{
    for (uint32_t i = 0; i < frames->n; i++)
        if (frames->blocks[i] != NULL) {
            frames->blocks[i]->queue = queue;
            wire_queue_add(queue, frames->blocks[i]->size);
            atomic_fetch_add(&queue->n_users, 1);
        }
}

static void uncount_frames(struct frames *frames, struct wire_queue *queue)
{
    for (uint32_t i = 0; i < frames->n; i++)
        if (frames->blocks[i] != NULL) {
            frames->blocks[i]->queue = NULL;
            wire_queue_take(queue, frames->blocks[i]->size);
            wire_queue_release(queue);
        }
}

static size_t counted_bytes(const struct frames *frames)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < frames->n; i++)
        bytes += frames->blocks[i] != NULL ? frames->blocks[i]->size : 0;
    return bytes;
}

/* 0, or errno; EINTR is retried. */
static int send_part(void *zmq, zmq_msg_t *part, bool more)
{
    while (zmq_msg_send(part, zmq, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) < 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

/* The part that decides whether the message can go: the peer's identity, or the first frame. */
static int try_first(struct wire_socket *socket, struct frames *frames)
{
    const size_t own = counted_bytes(frames);
    struct wire_queue *queue = own > 0 ? wire_queue_of(socket, &frames->peer) : NULL;
    if (queue != NULL && !wire_queue_has_room(socket, queue, own))
        return EAGAIN;
    if (socket->kind == WIRE_ROUTER) {
        while (zmq_send(socket->zmq, frames->peer.bytes, frames->peer.n,
                        ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0)
            if (errno != EINTR)
                return errno;
        count_frames(frames, queue);
        return 0;
    }
    count_frames(frames, queue); /* before: afterwards the memory may be gone */
    const int code = send_part(socket->zmq, &frames->parts[0], frames->n > 1);
    if (code != 0)
        uncount_frames(frames, queue);
    return code;
}

/* The parts after the first never wait: ZeroMQ has room for a whole message or for none. A pipe
 * that ends meanwhile makes it drop the message, but it must still be handed the rest. */
static int send_rest(struct wire_socket *socket, struct frames *frames)
{
    int result = 0;
    for (uint32_t i = socket->kind == WIRE_ROUTER ? 0 : 1; i < frames->n; i++) {
        const int code = send_part(socket->zmq, &frames->parts[i], i + 1 < frames->n);
        if (code != 0 && result == 0)
            result = code;
        if (code != 0 && code != EAGAIN)
            break;
    }
    return result;
}

static enum status send_failed(const struct wire_socket *socket, struct frames *frames, int code,
                               struct error *error)
{
    enum status status;
    if (code == EHOSTUNREACH)
        status = error_set(error, STATUS_UNREACHABLE, "a peer of %s is gone", socket->name);
    else if (code == EAGAIN)
        status =
            error_set(error, STATUS_UNREACHABLE, "%s went away within a message", socket->name);
    else
        status = error_set(error, socket_status(code), "cannot send to %s: %s", socket->name,
                           zmq_strerror(code));
    frames_clear(frames);
    return status;
}

enum status frames_send(struct wire_socket *socket, struct frames *frames, uint64_t deadline_us,
                        struct error *error)
{
    assert(frames->n > 0 && (socket->kind != WIRE_ROUTER || frames->peer.n > 0));
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < frames->n; i++)
        bytes += zmq_msg_size(&frames->parts[i]);
    if (bytes > socket->max_message_bytes) {
        frames_clear(frames);
        return error_set(error, STATUS_EXHAUSTED, "a message of %llu bytes to %s: at most %llu",
                         (unsigned long long)bytes, socket->name,
                         (unsigned long long)socket->max_message_bytes);
    }

    struct waiting waiting;
    waiting_begin(&waiting, deadline_us, 0);
    int code;
    while ((code = try_first(socket, frames)) == EAGAIN)
        if (waiting_pause(&waiting) != STATUS_OK)
            return error_set(error, STATUS_TIMEOUT, "%s does not take more messages in time",
                             socket->name);
    socket->sent = true;
    if (code == 0)
        code = send_rest(socket, frames);
    if (code != 0)
        return send_failed(socket, frames, code, error);
    frames_clear(frames); /* the parts are ZeroMQ's now, what is left is empty */
    return STATUS_OK;
}

enum status frames_send_message(struct wire_socket *socket, const ProtobufCMessage *message,
                                uint64_t deadline_us, struct error *error)
{
    struct frames frames;
    frames_init(&frames);
    enum status status = frames_add_message(&frames, message, error);
    if (status == STATUS_OK)
        status = frames_send(socket, &frames, deadline_us, error);
    frames_clear(&frames);
    return status;
}
