/* tests/worker/wire_relay.h - a bad network between a rank and a node: loses, repeats, delays,
 * reorders.
 *
 * A thread with a ROUTER for the rank and a DEALER to the node. It reads headers to know what
 * passes, and counts messages by kind: which of them a fault strikes follows from the count alone.
 */
#ifndef LONGSPAN_TESTS_WIRE_RELAY_H
#define LONGSPAN_TESTS_WIRE_RELAY_H

#include "proto/wire_ring.h"
#include "tests/worker/attention_harness.h"

#include <stdatomic.h>

enum relay_kind {
    RELAY_HELLO,
    RELAY_FORK,
    RELAY_APPEND,
    RELAY_ATTEND,
    RELAY_HELLO_REPLY,
    RELAY_ATTEND_REPLY,
    RELAY_KINDS
};

/* One in n messages of the kind, 1: every one, 0: none. */
struct relay_faults {
    uint32_t drop[RELAY_KINDS], repeat[RELAY_KINDS], delay[RELAY_KINDS];
    uint32_t delay_ms;
    uint32_t swap[RELAY_KINDS];   /* goes behind the next message of its direction */
    uint32_t shorten, lengthen;   /* replies whose second frame has the wrong size */
    uint32_t garble;              /* replies whose header becomes noise */
    uint32_t cut[RELAY_KINDS];    /* the connection to the node is made anew before it passes */
    uint32_t chance[RELAY_KINDS]; /* per mille: any of drop, repeat, delay, swap; cut for a tenth */
};

struct relay_held {
    bool used, swapped;
    uint64_t until_us;
    struct frames frames;
};
enum { RELAY_HELD = 256 };

struct relay {
    struct cluster *cluster;
    const char *node_endpoint;
    char endpoint[128];
    struct wire_socket *rank, *node;
    struct relay_faults faults; /* read by the thread; changed under the mutex */
    pthread_mutex_t mutex;
    pthread_t thread;
    atomic_bool stop;
    atomic_uint struck; /* faults so far */
    uint32_t counts[RELAY_KINDS], shortens, garbles, lengthens;
    struct random_state random;
    struct frames in, peer; /* peer: the rank, for replies */
    struct relay_held held[2][RELAY_HELD];
    struct arena arena;
    struct wire_ring_offer offer; /* of the last Hello that has one; under the mutex */
};

static inline void relay_note_offer(struct relay *relay, const Longspan__Ring *ring)
{
    pthread_mutex_lock(&relay->mutex);
    relay->offer = (struct wire_ring_offer){.process = ring->process,
                                            .memory = ring->memory,
                                            .bell = ring->bell,
                                            .answer_bell = ring->answer_bell,
                                            .ring_bytes = ring->ring_bytes};
    if (ring->nonce.len == sizeof(relay->offer.nonce))
        memcpy(relay->offer.nonce, ring->nonce.data, sizeof(relay->offer.nonce));
    pthread_mutex_unlock(&relay->mutex);
}

static inline struct wire_ring_offer relay_offer(struct relay *relay)
{
    pthread_mutex_lock(&relay->mutex);
    const struct wire_ring_offer offer = relay->offer;
    pthread_mutex_unlock(&relay->mutex);
    return offer;
}

static inline void relay_connect(struct relay *relay)
{
    wire_socket_close(relay->node);
    relay->node = NULL;
    if (wire_socket_open(
            &relay->node, relay->cluster->context,
            &(struct wire_socket_options){.kind = WIRE_DEALER, .endpoint = relay->node_endpoint},
            NULL) != STATUS_OK)
        abort();
}

static inline void relay_copy(struct frames *to, struct frames *from)
{
    frames_clear(to);
    for (uint32_t i = 0; i < from->n; i++)
        if (frames_add_copy(to, frames_data(from, i), frames_size(from, i), NULL) != STATUS_OK)
            abort();
}

/* Direction 0: to the node; 1: to the rank. */
static inline void relay_forward(struct relay *relay, int direction, struct frames *frames)
{
    if (direction == 1) {
        if (relay->peer.peer.n == 0)
            return;
        frames_reply_to(frames, &relay->peer);
    }
    frames_send(direction == 0 ? relay->node : relay->rank, frames, clock_us() + 100000, NULL);
    frames_clear(frames);
}

static inline void relay_hold(struct relay *relay, int direction, bool swapped, uint32_t delay_ms)
{
    for (int i = 0; i < RELAY_HELD; i++) {
        struct relay_held *held = &relay->held[direction][i];
        if (held->used)
            continue;
        held->used = true;
        held->swapped = swapped;
        held->until_us = clock_us() + (uint64_t)delay_ms * 1000;
        relay_copy(&held->frames, &relay->in);
        return;
    }
}

static inline void relay_release(struct relay *relay, int direction, bool swapped)
{
    const uint64_t now = clock_us();
    for (int i = 0; i < RELAY_HELD; i++) {
        struct relay_held *held = &relay->held[direction][i];
        if (!held->used || (swapped ? !held->swapped : now < held->until_us))
            continue;
        held->used = false;
        relay_forward(relay, direction, &held->frames);
    }
}

static inline int relay_kind_of(struct relay *relay)
{
    static const int kinds[] = {
        LONGSPAN__DATA__BODY_HELLO,       LONGSPAN__DATA__BODY_FORK,
        LONGSPAN__DATA__BODY_APPEND,      LONGSPAN__DATA__BODY_ATTEND,
        LONGSPAN__DATA__BODY_HELLO_REPLY, LONGSPAN__DATA__BODY_ATTEND_REPLY};
    arena_reset(&relay->arena);
    const Longspan__Data *data = longspan__data__unpack(
        &relay->arena.allocator, frames_size(&relay->in, 0), frames_data(&relay->in, 0));
    if (data != NULL && data->body_case == LONGSPAN__DATA__BODY_HELLO && data->hello->ring != NULL)
        relay_note_offer(relay, data->hello->ring);
    for (int i = 0; data != NULL && i < RELAY_KINDS; i++)
        if ((int)data->body_case == kinds[i])
            return i;
    abort();
}

static inline bool relay_every(struct relay *relay, uint32_t n, uint32_t count)
{
    if (n == 0 || random_mix(count) % n != 0) /* regular ones may strike every repetition alike */
        return false;
    atomic_fetch_add(&relay->struck, 1);
    return true;
}

/* A reply with a damaged frame. */
static inline void relay_damage(struct relay *relay, const struct relay_faults *faults)
{
    struct frames *in = &relay->in, out;
    frames_init(&out);
    const bool shorten = in->n == 2 && relay_every(relay, faults->shorten, relay->shortens++);
    const bool lengthen = in->n == 2 && relay_every(relay, faults->lengthen, relay->lengthens++);
    const bool garble = relay_every(relay, faults->garble, relay->garbles++);
    if (!shorten && !garble && !lengthen)
        return;
    static const unsigned char zeros[64];
    for (uint32_t i = 0; i < in->n; i++) {
        size_t size = frames_size(in, i);
        unsigned char *data = malloc(size + 4);
        memcpy(data, frames_data(in, i), size);
        memcpy(data + size, zeros, 4);
        if (i == 1 && shorten)
            size -= 4;
        if (i == 1 && lengthen)
            size += 4;
        for (size_t j = 0; i == 0 && garble && j < size; j++)
            data[j] = (unsigned char)(data[j] * 7 + 0x80);
        if (frames_add_copy(&out, data, size, NULL) != STATUS_OK)
            abort();
        free(data);
    }
    relay_copy(in, &out);
    frames_clear(&out);
}

static inline void relay_pass(struct relay *relay, int direction)
{
    pthread_mutex_lock(&relay->mutex);
    struct relay_faults faults = relay->faults;
    pthread_mutex_unlock(&relay->mutex);
    const int kind = relay_kind_of(relay);
    const uint32_t count = relay->counts[kind]++;
    if (random_below(&relay->random, 1000) < faults.chance[kind]) {
        uint32_t *const choices[] = {faults.drop, faults.repeat, faults.delay, faults.swap};
        choices[random_below(&relay->random, 4)][kind] = 1;
        faults.cut[kind] = random_below(&relay->random, 10) == 0;
        faults.delay_ms = 1 + (uint32_t)random_below(&relay->random, 80);
    }
    if (relay_every(relay, faults.cut[kind], count))
        relay_connect(relay);
    if (relay_every(relay, faults.drop[kind], count))
        return;
    if (kind == RELAY_ATTEND_REPLY)
        relay_damage(relay, &faults);
    if (relay_every(relay, faults.delay[kind], count)) {
        relay_hold(relay, direction, false, faults.delay_ms);
        return;
    }
    if (relay_every(relay, faults.swap[kind], count)) {
        relay_hold(relay, direction, true, 1 << 20);
        return;
    }
    if (relay_every(relay, faults.repeat[kind], count)) {
        struct frames copy;
        frames_init(&copy);
        relay_copy(&copy, &relay->in);
        relay_forward(relay, direction, &copy);
    }
    relay_forward(relay, direction, &relay->in);
    relay_release(relay, direction, true);
}

static inline void *relay_main(void *argument)
{
    struct relay *relay = argument;
    while (!atomic_load(&relay->stop)) {
        struct wire_poll_item items[2] = {{.socket = relay->rank}, {.socket = relay->node}};
        wire_poll(items, 2, 0, clock_us() + 2000, NULL);
        while (frames_receive(relay->rank, &relay->in, 0, NULL) == STATUS_OK) {
            frames_reply_to(&relay->peer, &relay->in);
            relay_pass(relay, 0);
        }
        while (frames_receive(relay->node, &relay->in, 0, NULL) == STATUS_OK)
            relay_pass(relay, 1);
        relay_release(relay, 0, false);
        relay_release(relay, 1, false);
    }
    return NULL;
}

static inline struct relay *relay_start(struct cluster *cluster, uint32_t node, uint64_t seed)
{
    struct relay *relay = calloc(1, sizeof(*relay));
    assert_non_null(relay);
    relay->cluster = cluster;
    relay->node_endpoint = cluster->nodes[node].endpoint;
    snprintf(relay->endpoint, sizeof(relay->endpoint), "ipc://%s/relay%u.sock", cluster->directory,
             node);
    random_seed(&relay->random, seed);
    arena_init(&relay->arena, 0);
    pthread_mutex_init(&relay->mutex, NULL);
    assert_int_equal(wire_socket_open(&relay->rank, cluster->context,
                                      &(struct wire_socket_options){.kind = WIRE_ROUTER,
                                                                    .listen = true,
                                                                    .handover = true,
                                                                    .endpoint = relay->endpoint},
                                      NULL),
                     STATUS_OK);
    relay_connect(relay);
    assert_int_equal(pthread_create(&relay->thread, NULL, relay_main, relay), 0);
    return relay;
}

static inline void relay_set(struct relay *relay, const struct relay_faults *faults)
{
    pthread_mutex_lock(&relay->mutex);
    relay->faults = *faults;
    pthread_mutex_unlock(&relay->mutex);
}

/* Afterwards nothing passes, and what was counted can be read. */
static inline void relay_join(struct relay *relay)
{
    atomic_store(&relay->stop, true);
    assert_int_equal(pthread_join(relay->thread, NULL), 0);
}

static inline void relay_free(struct relay *relay)
{
    for (int i = 0; i < RELAY_HELD; i++) {
        frames_clear(&relay->held[0][i].frames);
        frames_clear(&relay->held[1][i].frames);
    }
    frames_clear(&relay->in);
    frames_clear(&relay->peer);
    wire_socket_close(relay->rank);
    wire_socket_close(relay->node);
    unlink(relay->endpoint + strlen("ipc://"));
    arena_destroy(&relay->arena);
    pthread_mutex_destroy(&relay->mutex);
    free(relay);
}

static inline void relay_stop(struct relay *relay)
{
    relay_join(relay);
    relay_free(relay);
}

#endif
