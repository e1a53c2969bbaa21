/* wire_ring.c - see wire_ring.h. Positions count bytes for ever, and never overtake: 0 <= produced
 * - consumed <= ring_bytes. Each side keeps its own positions in private memory and only publishes
 * them; it believes the other side's if they obey that rule, and then only as a number of bytes
 * inside the ring.
 *
 * Sleeping: the sleeper says so, then looks once more; who publishes looks whether somebody sleeps
 * afterwards. All four accesses are sequentially consistent, so one of the two sees the other. */
#include "proto/wire_ring.h"

#include "proto/wire_parts.h"

#include <assert.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    LINE = 64,
    SHARED_BYTES = 4096,
    DEFAULT_RING_BYTES = 8 << 20, /* a prompt chunk's queries leave before the sender computes on */
    PIECE_BYTES = 64 << 10        /* of long messages: reader and writer work at the same time */
};
static const uint64_t default_max_message_bytes = UINT64_C(256) << 20;
static const uint64_t default_queue_bytes = UINT64_C(512) << 20;
static const char gone_text[] = "the other process is gone";

/* One direction. Each cache line has one writer, but for the last: its flags are set by the side that
 * goes to sleep, and cleared by the side that wakes it. */
struct lane {
    _Alignas(LINE) _Atomic uint64_t produced;
    _Alignas(LINE) _Atomic uint64_t consumed;
    _Alignas(LINE) _Atomic uint32_t reader_sleeps;
    _Atomic uint32_t writer_sleeps;
};
struct shared {
    struct lane lanes[2]; /* 0: written by the creator */
};
_Static_assert(sizeof(struct shared) <= SHARED_BYTES, "the rings begin on the next page");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
               "atomics between processes need no lock");

struct header {
    uint64_t n;
    uint64_t sizes[FRAMES_MAX];
};
_Static_assert(sizeof(struct header) >= LINE, "a header's first line can be read into it");

/* How far a message has passed: part 0 is its header, part i + 1 frame i. */
struct cursor {
    uint32_t part;
    size_t offset;
};

struct waiting_message {
    struct waiting_message *next;
    size_t bytes;
    struct frames frames;
};

struct wire_ring {
    struct neighbour_memory memory;
    struct neighbour_bell in_bell, out_bell;
    char name[ADDRESS_BYTES];
    uint32_t ring_bytes;
    uint64_t max_message_bytes, queue_bytes;
    struct lane *out, *in;
    uint8_t *out_bytes, *in_bytes;
    uint64_t produced, consumed; /* ours: of out, of in */

    /* What did not fit, oldest first; `sent`: of the first one. */
    struct waiting_message *first, *last;
    size_t queued_bytes;
    struct cursor sent;

    /* The message that is arriving; n 0: none. */
    struct header header;
    struct cursor received;
    struct frames arriving;

    struct frames_peer peer;
    bool gone;        /* the other side has hung up */
    struct error end; /* not STATUS_OK: the ring has ended */
};

static size_t padded(size_t bytes)
{
    return (bytes + LINE - 1) / LINE * LINE;
}

static size_t header_bytes(uint64_t n)
{
    return padded(sizeof(uint64_t) * (1 + n));
}

/* ---- set-up ---- */

static enum status check_options(const struct wire_ring_options *options, uint32_t *ring_bytes,
                                 struct error *error)
{
    *ring_bytes = options->ring_bytes == 0 ? DEFAULT_RING_BYTES : options->ring_bytes;
    if (*ring_bytes < WIRE_RING_LEAST_BYTES || *ring_bytes > WIRE_RING_MOST_BYTES ||
        (*ring_bytes & (*ring_bytes - 1)) != 0)
        return error_set(error, STATUS_PROTOCOL,
                         "a ring of %u bytes: a power of two from %d to %d is possible",
                         *ring_bytes, WIRE_RING_LEAST_BYTES, WIRE_RING_MOST_BYTES);
    return STATUS_OK;
}

static struct wire_ring *allocate(const struct wire_ring_options *options, uint32_t ring_bytes)
{
    struct wire_ring *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return NULL;
    r->memory.descriptor = -1;
    r->in_bell = r->out_bell = (struct neighbour_bell){-1, -1};
    snprintf(r->name, sizeof(r->name), "%s", options->name != NULL ? options->name : "a neighbour");
    r->ring_bytes = ring_bytes;
    r->max_message_bytes =
        options->max_message_bytes == 0 ? default_max_message_bytes : options->max_message_bytes;
    r->queue_bytes = options->queue_bytes == 0 ? default_queue_bytes : options->queue_bytes;
    return r;
}

static void lay_out(struct wire_ring *ring, int out)
{
    struct shared *shared = ring->memory.base;
    uint8_t *bytes = (uint8_t *)ring->memory.base + SHARED_BYTES;
    ring->out = &shared->lanes[out];
    ring->in = &shared->lanes[1 - out];
    ring->out_bytes = bytes + (size_t)out * ring->ring_bytes;
    ring->in_bytes = bytes + (size_t)(1 - out) * ring->ring_bytes;
}

static size_t memory_bytes(uint32_t ring_bytes)
{
    return SHARED_BYTES + 2 * (size_t)ring_bytes;
}

enum status wire_ring_create(struct wire_ring **ring, const struct wire_ring_options *options,
                             struct error *error)
{
    uint32_t ring_bytes;
    enum status status = check_options(options, &ring_bytes, error);
    if (status != STATUS_OK)
        return status;
    struct wire_ring *r = allocate(options, ring_bytes);
    if (r == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a ring");
    status = neighbour_memory_create(&r->memory, memory_bytes(ring_bytes), error);
    if (status == STATUS_OK)
        status = neighbour_bell_create(&r->out_bell, error);
    if (status == STATUS_OK)
        status = neighbour_bell_create(&r->in_bell, error);
    if (status != STATUS_OK) {
        wire_ring_destroy(r);
        return status;
    }
    lay_out(r, 0);
    *ring = r;
    return STATUS_OK;
}

void wire_ring_describe(const struct wire_ring *ring, struct wire_ring_offer *offer)
{
    *offer = (struct wire_ring_offer){.process = (uint32_t)getpid(),
                                      .memory = (uint32_t)ring->memory.descriptor,
                                      .bell = (uint32_t)ring->out_bell.listen,
                                      .answer_bell = (uint32_t)ring->in_bell.listen,
                                      .ring_bytes = ring->ring_bytes};
    memcpy(offer->nonce, ring->memory.nonce, sizeof(offer->nonce));
}

void wire_ring_begin(struct wire_ring *ring)
{
    neighbour_memory_hide(&ring->memory);
    neighbour_bell_close(&ring->out_bell.listen);
    neighbour_bell_close(&ring->in_bell.ring);
}

enum status wire_ring_open(struct wire_ring **ring, const struct wire_ring_offer *offer,
                           const struct wire_ring_options *options, struct error *error)
{
    struct wire_ring_options own = *options;
    uint32_t ring_bytes;
    own.ring_bytes = offer->ring_bytes;
    enum status status = check_options(&own, &ring_bytes, error);
    if (status != STATUS_OK)
        return status;
    struct wire_ring *r = allocate(&own, ring_bytes);
    if (r == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a ring");
    status = neighbour_memory_open(&r->memory, offer->process, offer->memory,
                                   memory_bytes(ring_bytes), offer->nonce, error);
    if (status == STATUS_OK) /* the memory has proved whose descriptors these are */
        status = neighbour_bell_open(&r->in_bell, offer->process, offer->bell, true, error);
    if (status == STATUS_OK)
        status =
            neighbour_bell_open(&r->out_bell, offer->process, offer->answer_bell, false, error);
    if (status != STATUS_OK) {
        wire_ring_destroy(r);
        return status;
    }
    lay_out(r, 1);
    *ring = r;
    return STATUS_OK;
}

void wire_ring_destroy(struct wire_ring *ring)
{
    if (ring == NULL)
        return;
    while (ring->first != NULL) {
        struct waiting_message *next = ring->first->next;
        frames_clear(&ring->first->frames);
        free(ring->first);
        ring->first = next;
    }
    frames_clear(&ring->arriving);
    neighbour_bell_close(&ring->in_bell.listen);
    neighbour_bell_close(&ring->in_bell.ring);
    neighbour_bell_close(&ring->out_bell.listen);
    neighbour_bell_close(&ring->out_bell.ring);
    neighbour_memory_destroy(&ring->memory);
    free(ring);
}

bool wire_ring_is(const struct wire_ring *ring, const uint8_t nonce[NEIGHBOUR_NONCE_BYTES])
{
    return memcmp(ring->memory.nonce, nonce, NEIGHBOUR_NONCE_BYTES) == 0;
}

void wire_ring_set_peer(struct wire_ring *ring, const struct frames *from)
{
    ring->peer = from->peer;
}

bool wire_ring_has_peer(const struct wire_ring *ring, const struct frames *frames)
{
    return frames_same_peer(&ring->peer, &frames->peer);
}

static void end(struct wire_ring *ring, const char *why)
{
    error_set(&ring->end, STATUS_UNREACHABLE, "the ring with %s has ended: %s", ring->name, why);
}

/* ---- positions ---- */

/* Bytes that can be written. 0 and an end: the other side's position is impossible. */
static size_t room(const struct wire_ring *ring, uint64_t consumed)
{
    const uint64_t used = ring->produced - consumed;
    return used > ring->ring_bytes || used % LINE != 0 ? SIZE_MAX : ring->ring_bytes - used;
}

static size_t out_room(struct wire_ring *ring)
{
    const size_t free_bytes =
        room(ring, atomic_load_explicit(&ring->out->consumed, memory_order_acquire));
    if (free_bytes != SIZE_MAX)
        return free_bytes;
    end(ring, "it has read what was never written");
    return 0;
}

static size_t in_bytes(struct wire_ring *ring)
{
    const uint64_t produced = atomic_load_explicit(&ring->in->produced, memory_order_acquire);
    const uint64_t n = produced - ring->consumed;
    if (n <= ring->ring_bytes && n % LINE == 0)
        return (size_t)n;
    end(ring, "it has written more than there is room for");
    return 0;
}

static void wake(_Atomic uint32_t *sleeps, const struct neighbour_bell *bell)
{
    if (atomic_load(sleeps) != 0 && atomic_exchange(sleeps, 0) != 0)
        neighbour_bell_ring(bell);
}

static void publish_produced(struct wire_ring *ring)
{
    atomic_store(&ring->out->produced, ring->produced);
    wake(&ring->out->reader_sleeps, &ring->out_bell);
}

static void publish_consumed(struct wire_ring *ring)
{
    atomic_store(&ring->in->consumed, ring->consumed);
    wake(&ring->in->writer_sleeps, &ring->out_bell);
}

/* ---- sending ---- */

/* Copies as much of [offset, size) as there is room for; room is a multiple of LINE, and so stays
 * every position, as the end of a part is padded. */
static bool put(struct wire_ring *ring, const uint8_t *data, size_t size, size_t *offset)
{
    size_t free_bytes = out_room(ring), unpublished = 0;
    while (*offset < size) {
        if (free_bytes == 0 && (free_bytes = out_room(ring)) == 0)
            break;
        const size_t at = ring->produced & (ring->ring_bytes - 1);
        size_t n = size - *offset;
        n = n < free_bytes ? n : free_bytes;
        n = n < ring->ring_bytes - at ? n : ring->ring_bytes - at;
        n = n < PIECE_BYTES ? n : PIECE_BYTES;
        memcpy(ring->out_bytes + at, data + *offset, n);
        *offset += n;
        ring->produced += padded(n);
        free_bytes -= padded(n);
        unpublished += n;
        if (unpublished >= PIECE_BYTES) {
            publish_produced(ring);
            unpublished = 0;
        }
    }
    return *offset == size;
}

/* Goes on where the cursor stands. True: the whole message is in the ring. */
static bool put_message(struct wire_ring *ring, struct frames *frames, struct cursor *cursor)
{
    const uint64_t before = ring->produced;
    struct header header = {.n = frames->n};
    for (uint32_t i = 0; i < frames->n; i++)
        header.sizes[i] = frames_size(frames, i);
    bool whole = true;
    while (whole && cursor->part <= frames->n) {
        if (cursor->part == 0)
            whole = put(ring, (const uint8_t *)&header, sizeof(uint64_t) * (1 + frames->n),
                        &cursor->offset);
        else
            whole = put(ring, frames_data(frames, cursor->part - 1),
                        frames_size(frames, cursor->part - 1), &cursor->offset);
        if (whole)
            *cursor = (struct cursor){.part = cursor->part + 1};
    }
    if (ring->produced != before)
        publish_produced(ring);
    return whole;
}

static void flush(struct wire_ring *ring)
{
    while (ring->first != NULL && put_message(ring, &ring->first->frames, &ring->sent)) {
        struct waiting_message *done = ring->first;
        ring->first = done->next;
        ring->queued_bytes -= done->bytes;
        ring->sent = (struct cursor){0};
        frames_clear(&done->frames);
        free(done);
    }
    if (ring->first == NULL)
        ring->last = NULL;
}

static enum status enqueue(struct wire_ring *ring, struct frames *frames, size_t bytes,
                           struct error *error)
{
    struct waiting_message *message = malloc(sizeof(*message));
    if (message == NULL) {
        frames_clear(frames);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a message to %s", ring->name);
    }
    frames_init(&message->frames);
    frames_move(&message->frames, frames);
    message->next = NULL;
    message->bytes = bytes;
    ring->queued_bytes += bytes;
    *(ring->last != NULL ? &ring->last->next : &ring->first) = message;
    ring->last = message;
    flush(ring);
    return STATUS_OK;
}

enum status wire_ring_send(struct wire_ring *ring, struct frames *frames, struct error *error)
{
    assert(frames->n > 0);
    uint64_t bytes = 0;
    size_t passing = header_bytes(frames->n);
    for (uint32_t i = 0; i < frames->n; i++) {
        bytes += frames_size(frames, i);
        passing += padded(frames_size(frames, i));
    }
    enum status status = STATUS_OK;
    if (bytes > ring->max_message_bytes)
        status = error_set(error, STATUS_EXHAUSTED, "a message of %llu bytes to %s: at most %llu",
                           (unsigned long long)bytes, ring->name,
                           (unsigned long long)ring->max_message_bytes);
    flush(ring);
    if (ring->end.status == STATUS_OK && ring->gone)
        end(ring, gone_text);
    if (status == STATUS_OK && ring->end.status != STATUS_OK)
        status = error_set(error, ring->end.status, "%s", ring->end.text);
    if (status != STATUS_OK) {
        frames_clear(frames);
        return status;
    }
    if (ring->first == NULL && passing <= out_room(ring)) {
        struct cursor cursor = {0};
        put_message(ring, frames, &cursor);
        frames_clear(frames);
        return STATUS_OK;
    }
    if (ring->first != NULL &&
        (bytes > ring->queue_bytes || ring->queued_bytes > ring->queue_bytes - bytes))
        return error_set(error, STATUS_TIMEOUT, "%s does not take more messages in time",
                         ring->name);
    return enqueue(ring, frames, bytes, error);
}

/* ---- receiving ---- */

static bool take(struct wire_ring *ring, uint8_t *data, size_t size, size_t *offset)
{
    size_t there = in_bytes(ring), unpublished = 0;
    while (*offset < size) {
        if (there == 0 && (there = in_bytes(ring)) == 0)
            break;
        const size_t at = ring->consumed & (ring->ring_bytes - 1);
        size_t n = size - *offset;
        n = n < there ? n : there;
        n = n < ring->ring_bytes - at ? n : ring->ring_bytes - at;
        n = n < PIECE_BYTES ? n : PIECE_BYTES;
        memcpy(data + *offset, ring->in_bytes + at, n);
        *offset += n;
        ring->consumed += padded(n);
        there -= padded(n);
        unpublished += n;
        if (unpublished >= PIECE_BYTES) {
            publish_consumed(ring);
            unpublished = 0;
        }
    }
    return *offset == size;
}

/* The number of frames is in the first line; it says how long the header is. */
static bool take_header(struct wire_ring *ring)
{
    struct header *header = &ring->header;
    size_t *offset = &ring->received.offset;
    if (*offset == 0) { /* positions are whole lines: all of the first one is there, or nothing */
        if (!take(ring, (uint8_t *)header, LINE, offset))
            return false;
        if (header->n == 0 || header->n > FRAMES_MAX) {
            end(ring, "it has sent a message of an impossible number of frames");
            return false;
        }
    }
    const size_t size = sizeof(uint64_t) * (1 + header->n);
    return *offset >= size || take(ring, (uint8_t *)header, size, offset);
}

/* Memory for what the header announces, once it is known to be possible. */
static bool make_frames(struct wire_ring *ring)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < ring->header.n; i++) {
        if (ring->header.sizes[i] > ring->max_message_bytes - bytes) {
            end(ring, "it has sent a message that is too long");
            return false;
        }
        bytes += ring->header.sizes[i];
    }
    for (uint64_t i = 0; i < ring->header.n; i++) {
        void *data;
        if (frames_add(&ring->arriving, ring->header.sizes[i], &data, NULL) != STATUS_OK) {
            end(ring, "no memory for its message");
            return false;
        }
    }
    return true;
}

/* Goes on where the last call stopped. True: ring->arriving is a whole message. */
static bool take_message(struct wire_ring *ring)
{
    struct cursor *cursor = &ring->received;
    if (cursor->part == 0) {
        if (!take_header(ring) || !make_frames(ring))
            return false;
        *cursor = (struct cursor){.part = 1};
    }
    while (cursor->part <= ring->header.n) {
        if (!take(ring, frames_data(&ring->arriving, cursor->part - 1),
                  ring->header.sizes[cursor->part - 1], &cursor->offset))
            return false;
        *cursor = (struct cursor){.part = cursor->part + 1};
    }
    *cursor = (struct cursor){0};
    return true;
}

enum status wire_ring_receive(struct wire_ring *ring, struct frames *frames, struct error *error)
{
    frames_clear(frames);
    if (ring->first != NULL)
        flush(ring);
    if (ring->end.status == STATUS_OK && in_bytes(ring) > 0) {
        const uint64_t before = ring->consumed;
        const bool whole = take_message(ring);
        if (ring->consumed != before)
            publish_consumed(ring);
        if (whole) {
            frames_move(frames, &ring->arriving);
            frames->peer = ring->peer;
            return STATUS_OK;
        }
    }
    if (ring->end.status == STATUS_OK && ring->gone)
        end(ring, gone_text);
    if (ring->end.status != STATUS_OK)
        return error_set(error, ring->end.status, "%s", ring->end.text);
    return error_set(error, STATUS_TIMEOUT, "nothing came from %s in time", ring->name);
}

/* ---- waiting ---- */

bool wire_ring_readable(const struct wire_ring *ring)
{
    return atomic_load(&ring->in->produced) != ring->consumed || ring->gone ||
           ring->end.status != STATUS_OK ||
           (ring->first != NULL && room(ring, atomic_load(&ring->out->consumed)) > 0);
}

bool wire_ring_sleep(struct wire_ring *ring)
{
    atomic_store(&ring->in->reader_sleeps, 1);
    atomic_store(&ring->out->writer_sleeps, ring->first != NULL);
    if (!wire_ring_readable(ring))
        return true;
    wire_ring_wake(ring, 0);
    return false;
}

int wire_ring_descriptor(const struct wire_ring *ring)
{
    return ring->in_bell.listen;
}

void wire_ring_wake(struct wire_ring *ring, short events)
{
    atomic_store_explicit(&ring->in->reader_sleeps, 0, memory_order_relaxed);
    atomic_store_explicit(&ring->out->writer_sleeps, 0, memory_order_relaxed);
    if ((events & POLLIN) != 0)
        neighbour_bell_hush(&ring->in_bell);
    if ((events & (POLLHUP | POLLERR | POLLNVAL)) != 0)
        ring->gone = true;
}
