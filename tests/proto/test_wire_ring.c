/* test_wire_ring.c - whole messages in order, whatever their sizes; and a neighbour that lies, or
 * dies, ends the ring and nothing else. */
#include "tests/proto/wire_fixture.h"

#include "proto/wire_ring.h"
#include "sys/random.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SMALL_RING = 4096, MAX_BYTES = 1 << 20 };

/* Where wire_ring.c has its positions: the creator's direction, then the other one. */
enum { PRODUCED = 0, CONSUMED = 64, LANE_BYTES = 192, FIRST_BYTE = 4096 };

struct pair {
    struct wire_ring *a, *b; /* creator, opener */
    struct wire_ring_offer offer;
};

static const struct wire_ring_options small_options = {.name = "the neighbour",
                                                       .ring_bytes = SMALL_RING,
                                                       .max_message_bytes = MAX_BYTES,
                                                       .queue_bytes = 64 << 10};

static struct wire_ring *open_offer(const struct wire_ring_offer *offer,
                                    const struct wire_ring_options *options)
{
    struct wire_ring *ring = NULL;
    struct error error = {0};
    if (wire_ring_open(&ring, offer, options, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    return ring;
}

static struct pair make_pair(const struct wire_ring_options *options)
{
    struct pair pair;
    struct error error = {0};
    if (wire_ring_create(&pair.a, options, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    wire_ring_describe(pair.a, &pair.offer);
    pair.b = open_offer(&pair.offer, options);
    return pair;
}

static void end_pair(struct pair *pair)
{
    wire_ring_destroy(pair->a);
    wire_ring_destroy(pair->b);
}

/* A message that says its number in every byte. */
static void make_message(struct frames *frames, struct random_state *random, uint64_t number,
                         size_t most_bytes)
{
    static const size_t edges[] = {0, 1, 63, 64, 65, 127, 128, 4032, 4095, 4096, 4097};
    const uint32_t n = 1 + (uint32_t)random_below(random, FRAMES_MAX);
    frames_clear(frames);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t kind = random_below(random, 12);
        size_t size = kind < 11 ? edges[kind] : random_below(random, most_bytes);
        size = i == 0 && size < sizeof(number) ? sizeof(number) : size;
        void *data;
        assert_int_equal(frames_add(frames, size, &data, NULL), STATUS_OK);
        memset(data, (int)(random_mix(number * FRAMES_MAX + i) & 0xff), size);
        if (i == 0)
            memcpy(data, &number, sizeof(number));
    }
}

static bool same_frames(struct frames *a, struct frames *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (frames_size(a, i) != frames_size(b, i) ||
            memcmp(frames_data(a, i), frames_data(b, i), frames_size(a, i)) != 0)
            return false;
    return true;
}

static void test_messages_of_all_sizes_arrive_in_order(void **state)
{
    struct pair pair = make_pair(&small_options);
    struct random_state made, expected;
    struct frames out = {0}, in = {0}, wanted = {0};
    random_seed(&made, 1);
    random_seed(&expected, 1);
    uint64_t n_sent = 0, n_received = 0;
    enum { MESSAGES = 3000 };
    while (n_received < MESSAGES) {
        struct wire_ring *from = n_received / 1000 % 2 == 0 ? pair.a : pair.b;
        struct wire_ring *to = from == pair.a ? pair.b : pair.a;
        while (n_sent < n_received / 1000 * 1000 + 1000) { /* until the queue is full, too */
            struct random_state before = made;
            make_message(&out, &made, n_sent, 20000);
            const enum status status = wire_ring_send(from, &out, NULL);
            if (status == STATUS_TIMEOUT) {
                assert_true(out.n > 0);
                made = before;
                break;
            }
            assert_int_equal(status, STATUS_OK);
            assert_int_equal(out.n, 0);
            n_sent++;
        }
        while (n_received < n_sent) {
            const enum status status = wire_ring_receive(to, &in, NULL);
            if (status == STATUS_TIMEOUT) { /* the rest waits in the sender's memory */
                assert_int_equal(wire_ring_receive(from, &in, NULL), STATUS_TIMEOUT);
                continue;
            }
            assert_int_equal(status, STATUS_OK);
            make_message(&wanted, &expected, n_received, 20000);
            if (!same_frames(&in, &wanted))
                fail_msg("message %llu differs", (unsigned long long)n_received);
            n_received++;
        }
    }
    frames_clear(&out);
    frames_clear(&in);
    frames_clear(&wanted);
    end_pair(&pair);
}

static void test_a_full_queue_leaves_the_message_to_the_caller(void **state)
{
    struct pair pair = make_pair(&small_options);
    struct frames out = {0}, in = {0};
    void *data;
    int n = 0;
    enum status status;
    do {
        frames_clear(&out);
        assert_int_equal(frames_add(&out, 10000, &data, NULL), STATUS_OK);
        memset(data, n, 10000);
        status = wire_ring_send(pair.a, &out, NULL);
        n++;
    } while (status == STATUS_OK);
    assert_int_equal(status, STATUS_TIMEOUT);
    assert_int_equal(out.n, 1);
    assert_true(n > 4 && n < 12); /* about 64 KiB */
    for (int received = 0; received < n;) {
        if (out.n > 0)
            wire_ring_send(pair.a, &out, NULL);
        const enum status got = wire_ring_receive(pair.b, &in, NULL);
        if (got == STATUS_OK) {
            assert_int_equal(frames_size(&in, 0), 10000);
            assert_int_equal(*(uint8_t *)frames_data(&in, 0), received);
            received++;
        } else {
            assert_int_equal(got, STATUS_TIMEOUT);
            assert_int_equal(wire_ring_receive(pair.a, &in, NULL), STATUS_TIMEOUT);
        }
    }
    frames_clear(&out);
    frames_clear(&in);
    end_pair(&pair);
}

static void test_one_message_may_be_longer_than_the_queue(void **state)
{
    struct pair pair = make_pair(&small_options);
    struct frames out = {0}, in = {0};
    void *data;
    assert_int_equal(frames_add(&out, MAX_BYTES, &data, NULL), STATUS_OK);
    memset(data, 7, MAX_BYTES);
    assert_int_equal(wire_ring_send(pair.a, &out, NULL), STATUS_OK);
    while (wire_ring_receive(pair.b, &in, NULL) != STATUS_OK)
        assert_int_equal(wire_ring_receive(pair.a, &out, NULL), STATUS_TIMEOUT);
    assert_int_equal(frames_size(&in, 0), MAX_BYTES);
    for (size_t i = 0; i < MAX_BYTES; i++)
        assert_int_equal(((uint8_t *)frames_data(&in, 0))[i], 7);

    assert_int_equal(frames_add(&out, MAX_BYTES + 1, &data, NULL), STATUS_OK);
    assert_int_equal(wire_ring_send(pair.a, &out, NULL), STATUS_EXHAUSTED);
    assert_int_equal(out.n, 0);
    frames_clear(&in);
    end_pair(&pair);
}

/* ---- hostile neighbours ---- */

/* The same memory, as a neighbour sees it who keeps to no rule. */
static struct neighbour_memory seize(const struct wire_ring_offer *offer)
{
    struct neighbour_memory memory;
    assert_int_equal(neighbour_memory_open(&memory, offer->process, offer->memory,
                                           FIRST_BYTE + 2 * (size_t)offer->ring_bytes, offer->nonce,
                                           NULL),
                     STATUS_OK);
    return memory;
}

static void poke(struct neighbour_memory *memory, size_t offset, uint64_t value)
{
    memcpy((uint8_t *)memory->base + offset, &value, sizeof(value));
}

/* What b makes of these first words of a message that a is said to have written. */
static enum status hear_words(uint64_t produced, const uint64_t *words, size_t n_words,
                              struct error *error)
{
    struct pair pair = make_pair(&small_options);
    struct neighbour_memory memory = seize(&pair.offer);
    struct frames in = {0};
    for (size_t i = 0; i < n_words; i++)
        poke(&memory, FIRST_BYTE + 8 * i, words[i]);
    poke(&memory, PRODUCED, produced);
    const enum status status = wire_ring_receive(pair.b, &in, error);
    if (status != STATUS_OK)
        assert_int_equal(in.n, 0);
    frames_clear(&in);
    neighbour_memory_destroy(&memory);
    end_pair(&pair);
    return status;
}

static void test_impossible_positions_end_the_ring(void **state)
{
    static const uint64_t positions[] = {
        1, 63, SMALL_RING + 64, SMALL_RING + 1, UINT64_MAX, UINT64_MAX - 63, UINT64_C(1) << 63};
    for (size_t i = 0; i < sizeof(positions) / sizeof(positions[0]); i++)
        assert_int_equal(hear_words(positions[i], NULL, 0, NULL), STATUS_UNREACHABLE);

    for (size_t i = 0; i < sizeof(positions) / sizeof(positions[0]); i++) {
        if (positions[i] == UINT64_MAX - 63)
            continue; /* less than nothing was read: that much less room, and no harm */
        struct pair pair = make_pair(&small_options);
        struct neighbour_memory memory = seize(&pair.offer);
        struct frames out = {0};
        poke(&memory, CONSUMED, positions[i]); /* of what a has written: nothing yet */
        put_text(&out, "hello");
        enum status status = wire_ring_send(pair.a, &out, NULL);
        if (status == STATUS_OK) /* it was queued when the position was found out */
            status = wire_ring_receive(pair.a, &out, NULL);
        assert_int_equal(status, STATUS_UNREACHABLE);
        assert_int_equal(out.n, 0);
        neighbour_memory_destroy(&memory);
        end_pair(&pair);
    }
}

static void test_impossible_lengths_end_the_ring(void **state)
{
    const uint64_t none[] = {0}, many[] = {FRAMES_MAX + 1}, very_many[] = {UINT64_MAX};
    const uint64_t long_one[] = {1, MAX_BYTES + 1}, longest[] = {1, UINT64_MAX};
    const uint64_t overflow[] = {2, UINT64_MAX - 8, 16}, sum[] = {2, MAX_BYTES, 1};
    const uint64_t good[] = {2, 0, 0}, unfinished[] = {1, 5000};
    struct error error = {0};
    assert_int_equal(hear_words(64, none, 1, &error), STATUS_UNREACHABLE);
    assert_non_null(strstr(error.text, "the neighbour"));
    assert_int_equal(hear_words(64, many, 1, NULL), STATUS_UNREACHABLE);
    assert_int_equal(hear_words(64, very_many, 1, NULL), STATUS_UNREACHABLE);
    assert_int_equal(hear_words(64, long_one, 2, NULL), STATUS_UNREACHABLE);
    assert_int_equal(hear_words(64, longest, 2, NULL), STATUS_UNREACHABLE);
    assert_int_equal(hear_words(64, overflow, 3, NULL), STATUS_UNREACHABLE);
    assert_int_equal(hear_words(64, sum, 3, NULL), STATUS_UNREACHABLE);
    assert_int_equal(hear_words(64, good, 3, NULL), STATUS_OK);
    assert_int_equal(hear_words(SMALL_RING, unfinished, 2, NULL), STATUS_TIMEOUT);
}

/* Nothing that is written there crashes the reader, or makes it wait for ever or give out more than
 * it allows. */
static void test_any_memory_is_survived(void **state)
{
    struct random_state random;
    random_seed(&random, 5);
    struct frames in = {0}, out = {0};
    for (int round = 0; round < 300; round++) {
        struct pair pair = make_pair(&small_options);
        struct neighbour_memory memory = seize(&pair.offer);
        const size_t lane = (size_t)random_below(&random, 2) * LANE_BYTES;
        for (int i = 0; i < 200; i++) {
            put_text(&out, "honest");
            wire_ring_send(pair.b, &out, NULL);
            for (int j = 0; j < 4; j++)
                poke(&memory, FIRST_BYTE + 8 * random_below(&random, 2 * SMALL_RING / 8),
                     random_below(&random, 2) == 0 ? random_below(&random, FRAMES_MAX + 2)
                                                   : random_below(&random, 2 * SMALL_RING));
            if (random_below(&random, 20) == 0) {
                poke(&memory, lane + PRODUCED, random_below(&random, 200) * 64);
                poke(&memory, lane + CONSUMED, random_below(&random, 200) * 64);
            }
            const enum status status = wire_ring_receive(pair.b, &in, NULL);
            assert_true(status == STATUS_OK || status == STATUS_TIMEOUT ||
                        status == STATUS_UNREACHABLE);
            size_t bytes = 0;
            for (uint32_t j = 0; j < in.n; j++)
                bytes += frames_size(&in, j);
            assert_true(bytes <= MAX_BYTES);
        }
        neighbour_memory_destroy(&memory);
        end_pair(&pair);
    }
    frames_clear(&in);
    frames_clear(&out);
}

static void test_what_cannot_be_opened_is_said(void **state)
{
    struct pair pair = make_pair(&small_options);
    struct wire_ring *ring = NULL;
    struct wire_ring_offer offer = pair.offer;
    offer.nonce[3] ^= 1;
    assert_int_equal(wire_ring_open(&ring, &offer, &small_options, NULL), STATUS_NOT_FOUND);
    offer = pair.offer;
    offer.process = 0; /* no process */
    assert_int_equal(wire_ring_open(&ring, &offer, &small_options, NULL), STATUS_NOT_FOUND);
    offer = pair.offer;
    offer.bell = offer.memory;
    assert_int_equal(wire_ring_open(&ring, &offer, &small_options, NULL), STATUS_NOT_FOUND);
    static const uint32_t sizes[] = {0, 1, 2048, 4097, 2 * SMALL_RING, UINT32_MAX, 1u << 31};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        offer = pair.offer;
        offer.ring_bytes = sizes[i];
        assert_int_equal(wire_ring_open(&ring, &offer, &small_options, NULL), STATUS_PROTOCOL);
    }
    wire_ring_begin(pair.a); /* from now on nobody else */
    assert_int_equal(wire_ring_open(&ring, &pair.offer, &small_options, NULL), STATUS_NOT_FOUND);
    assert_null(ring);
    end_pair(&pair);
}

/* ---- waiting, and ends ---- */

static enum status await(struct wire_ring *ring, struct frames *in, uint32_t spin_us)
{
    const uint64_t deadline = soon(PATIENCE_US);
    for (;;) {
        const enum status status = wire_ring_receive(ring, in, NULL);
        if (status != STATUS_TIMEOUT)
            return status;
        struct wire_poll_item item = {.ring = ring};
        assert_int_equal(wire_poll(&item, 1, spin_us, deadline, NULL), STATUS_OK);
    }
}

enum { ECHOES = 400 };

struct echo {
    struct wire_ring *ring;
    uint32_t spin_us;
};

static void *echo_main(void *argument)
{
    const struct echo *echo = argument;
    struct frames frames = {0};
    for (int i = 0; i < ECHOES; i++) {
        if (await(echo->ring, &frames, echo->spin_us) != STATUS_OK ||
            wire_ring_send(echo->ring, &frames, NULL) != STATUS_OK)
            abort();
    }
    if (await(echo->ring, &frames, 0) != STATUS_OK) /* meanwhile the last one moves on */
        abort();
    frames_clear(&frames);
    return NULL;
}

/* With and without spinning on either side; messages also longer than the ring. */
static void test_sleepers_are_woken(void **state)
{
    for (uint32_t spins = 0; spins < 4; spins++) {
        struct pair pair = make_pair(&small_options);
        struct echo echo = {.ring = pair.b, .spin_us = spins % 2 * 100};
        struct random_state random;
        struct frames out = {0}, in = {0}, wanted = {0};
        pthread_t thread;
        random_seed(&random, spins);
        assert_int_equal(pthread_create(&thread, NULL, echo_main, &echo), 0);
        for (uint64_t i = 0; i < ECHOES; i++) {
            struct random_state again = random;
            make_message(&out, &random, i, 9000);
            make_message(&wanted, &again, i, 9000);
            assert_int_equal(wire_ring_send(pair.a, &out, NULL), STATUS_OK);
            assert_int_equal(await(pair.a, &in, spins / 2 * 100), STATUS_OK);
            assert_true(same_frames(&in, &wanted));
        }
        put_text(&out, "goodbye");
        assert_int_equal(wire_ring_send(pair.a, &out, NULL), STATUS_OK);
        assert_int_equal(pthread_join(thread, NULL), 0);
        frames_clear(&in);
        frames_clear(&wanted);
        end_pair(&pair);
    }
}

static void test_nothing_comes_until_the_deadline(void **state)
{
    struct pair pair = make_pair(&small_options);
    struct wire_poll_item item = {.ring = pair.a};
    const uint64_t begin = clock_us();
    assert_int_equal(wire_poll(&item, 1, 100, begin + SHORT_US, NULL), STATUS_TIMEOUT);
    assert_true(clock_us() - begin >= SHORT_US);
    assert_false(item.readable);
    end_pair(&pair);
}

static void test_a_neighbour_that_leaves_is_noticed_after_what_it_said(void **state)
{
    struct pair pair = make_pair(&small_options);
    struct frames frames = {0};
    wire_ring_begin(pair.a);
    put_text(&frames, "goodbye");
    assert_int_equal(wire_ring_send(pair.a, &frames, NULL), STATUS_OK);
    wire_ring_destroy(pair.a);
    assert_int_equal(await(pair.b, &frames, 0), STATUS_OK);
    assert_text(&frames, 0, "goodbye");
    assert_int_equal(await(pair.b, &frames, 0), STATUS_UNREACHABLE);
    put_text(&frames, "hello?");
    assert_int_equal(wire_ring_send(pair.b, &frames, NULL), STATUS_UNREACHABLE);
    assert_int_equal(frames.n, 0);
    wire_ring_destroy(pair.b);
}

/* A process that is killed within a message: the half of it never becomes a message, and nothing
 * of the ring is left. */
static void test_a_neighbour_that_is_killed_within_a_message(void **state)
{
    int told[2];
    struct wire_ring_offer offer;
    assert_int_equal(pipe(told), 0);
    const pid_t child = fork();
    if (child == 0) {
        struct wire_ring *ring;
        struct frames frames = {0};
        void *data;
        if (wire_ring_create(&ring, &small_options, NULL) != STATUS_OK)
            _exit(1);
        wire_ring_describe(ring, &offer);
        put_text(&frames, "whole");
        if (wire_ring_send(ring, &frames, NULL) != STATUS_OK ||
            frames_add(&frames, 50000, &data, NULL) != STATUS_OK)
            _exit(1);
        memset(data, 1, 50000);
        if (wire_ring_send(ring, &frames, NULL) != STATUS_OK ||
            write(told[1], &offer, sizeof(offer)) != sizeof(offer))
            _exit(1);
        for (;;)
            pause(); /* the message is longer than the ring */
    }
    close(told[1]);
    assert_int_equal(read(told[0], &offer, sizeof(offer)), sizeof(offer));
    close(told[0]);
    struct wire_ring *ring = open_offer(&offer, &small_options);
    struct frames in = {0};
    assert_int_equal(await(ring, &in, 0), STATUS_OK);
    assert_text(&in, 0, "whole");
    assert_int_equal(wire_ring_receive(ring, &in, NULL), STATUS_TIMEOUT);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(await(ring, &in, 0), STATUS_UNREACHABLE);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(in.n, 0);
    wire_ring_destroy(ring);
    assert_int_equal(wire_ring_open(&ring, &offer, &small_options, NULL), STATUS_NOT_FOUND);
}

/* Both write more than the ring holds before either reads. */
static void test_two_full_rings_do_not_lock(void **state)
{
    struct pair pair = make_pair(&small_options);
    struct frames frames = {0};
    void *data;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(frames_add(&frames, 9000, &data, NULL), STATUS_OK);
        memset(data, i, 9000);
        assert_int_equal(wire_ring_send(i % 2 == 0 ? pair.a : pair.b, &frames, NULL), STATUS_OK);
    }
    int n = 0;
    for (int i = 0; i < 100 && n < 6; i++)
        n += wire_ring_receive(i % 2 == 0 ? pair.a : pair.b, &frames, NULL) == STATUS_OK;
    assert_int_equal(n, 6);
    frames_clear(&frames);
    end_pair(&pair);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_of_all_sizes_arrive_in_order),
        cmocka_unit_test(test_a_full_queue_leaves_the_message_to_the_caller),
        cmocka_unit_test(test_one_message_may_be_longer_than_the_queue),
        cmocka_unit_test(test_impossible_positions_end_the_ring),
        cmocka_unit_test(test_impossible_lengths_end_the_ring),
        cmocka_unit_test(test_any_memory_is_survived),
        cmocka_unit_test(test_what_cannot_be_opened_is_said),
        cmocka_unit_test(test_sleepers_are_woken),
        cmocka_unit_test(test_nothing_comes_until_the_deadline),
        cmocka_unit_test(test_a_neighbour_that_leaves_is_noticed_after_what_it_said),
        cmocka_unit_test(test_a_neighbour_that_is_killed_within_a_message),
        cmocka_unit_test(test_two_full_rings_do_not_lock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
