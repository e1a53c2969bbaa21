/* test_frame_pool.c - a buffer is not used again while a message with it is under way; none is
 * lost. */
#include "tests/proto/wire_fixture.h"

#include "proto/arena.h"
#include "proto/frame_pool.h"

static void test_idle_buffers_are_taken_again(void **state)
{
    struct frame_pool pool = {0};
    struct frame_buffer *a, *b, *c;
    assert_int_equal(frame_pool_take(&pool, 5000, &a, NULL), STATUS_OK);
    assert_int_equal(frame_pool_take(&pool, 5000, &b, NULL), STATUS_OK);
    assert_ptr_not_equal(a, b);
    assert_int_equal((uintptr_t)frame_buffer_data(a) % 64, 0);
    frame_buffer_give(a);
    assert_int_equal(frame_pool_take(&pool, 8192, &c, NULL), STATUS_OK); /* the same power of two */
    assert_ptr_equal(a, c);
    frame_buffer_give(frame_buffer_share(c));
    struct frame_buffer *d;
    assert_int_equal(frame_pool_take(&pool, 10, &d, NULL), STATUS_OK);
    assert_ptr_not_equal(d, c); /* still taken */
    frame_buffer_give(b);
    frame_buffer_give(c);
    frame_buffer_give(d);
    assert_int_equal(frame_pool_take(&pool, SIZE_MAX / 2, &d, NULL), STATUS_NO_MEMORY);
    frame_pool_destroy(&pool);
}

/* Sends one buffer's pieces twice, gives it back at once: what arrives is what was there. */
static void test_buffers_stay_until_they_are_sent(void **state)
{
    const struct wire_fixture *f = *state;
    struct frame_pool pool = {0};
    struct frames out, in;
    frames_init(&out);
    frames_init(&in);
    struct wire_socket *router = open_socket(
        f->context, (struct wire_socket_options){
                        .kind = WIRE_ROUTER, .listen = true, .endpoint = "tcp://127.0.0.1:*"});
    struct wire_socket *dealer =
        open_socket(f->context, (struct wire_socket_options){
                                    .kind = WIRE_DEALER, .endpoint = wire_socket_endpoint(router)});
    for (unsigned round = 0; round < 50; round++) {
        struct frame_buffer *buffer;
        assert_int_equal(frame_pool_take(&pool, 100000, &buffer, NULL), STATUS_OK);
        memset(frame_buffer_data(buffer), (int)round, 100000);
        for (int twice = 0; twice < 2; twice++) {
            assert_int_equal(frame_buffer_add(buffer, 0, 10, &out, NULL), STATUS_OK);
            assert_int_equal(frame_buffer_add(buffer, 64, 90000, &out, NULL), STATUS_OK);
            assert_sent(dealer, &out);
        }
        frame_buffer_give(buffer);
    }
    for (unsigned i = 0; i < 100; i++) {
        assert_received(router, &in);
        assert_int_equal(in.n, 2);
        assert_int_equal(frames_size(&in, 1), 90000);
        const uint8_t *bytes = frames_data(&in, 1);
        assert_int_equal(bytes[0], i / 2);
        assert_int_equal(bytes[89999], i / 2);
    }
    frames_clear(&in);
    wire_socket_close(dealer);
    wire_socket_close(router);
    frame_pool_destroy(&pool);
}

static void test_arena_grows_to_what_is_needed_and_stops_at_its_limit(void **state)
{
    struct arena arena;
    arena_init(&arena, 10000);
    for (int round = 0; round < 3; round++) {
        arena_reset(&arena);
        for (int i = 0; i < 9; i++) {
            unsigned char *memory = arena_take(&arena, 999);
            assert_non_null(memory);
            assert_int_equal((uintptr_t)memory % 16, 0);
            memset(memory, i, 999);
        }
        assert_int_equal(arena.extra == NULL, round > 0); /* one block from the second on */
        assert_null(arena_take(&arena, 2000));
        assert_null(arena_take(&arena, SIZE_MAX));
        assert_null(arena_array(&arena, SIZE_MAX / 2, 3));
        const unsigned char *zeros = arena_array(&arena, 10, 10);
        assert_non_null(zeros);
        assert_int_equal(zeros[0] + zeros[99], 0);
    }
    arena_destroy(&arena);
}

/* What huge messages took is not kept for the small ones behind them. */
static void test_idle_buffers_have_a_bound_in_bytes(void **state)
{
    enum { N = 8, PART = FRAME_POOL_MOST_IDLE_BYTES / (N / 2) };
    struct frame_pool pool = {0};
    struct frame_buffer *large[N], *small;
    for (size_t i = 0; i < N; i++)
        assert_int_equal(frame_pool_take(&pool, PART, &large[i], NULL), STATUS_OK);
    assert_int_equal(pool.n, N); /* taken: they stay */
    for (size_t i = 0; i < N; i++)
        frame_buffer_give(large[i]);
    assert_int_equal(frame_pool_take(&pool, 10, &small, NULL), STATUS_OK); /* is one of them */
    assert_int_equal(pool.n, 1 + N / 2);
    assert_int_equal(pool.bytes, pool.n * PART);
    frame_buffer_give(small);
    assert_int_equal(frame_pool_take(&pool, N * (size_t)PART, &large[0], NULL), STATUS_OK);
    frame_buffer_give(large[0]);
    assert_int_equal(frame_pool_take(&pool, 10, &small, NULL), STATUS_OK);
    assert_int_equal(pool.bytes, FRAME_POOL_MOST_IDLE_BYTES);
    assert_int_equal(pool.n, N / 2); /* without the one that is beyond the bound alone */
    frame_buffer_give(small);
    frame_pool_destroy(&pool);
}

static void test_an_arena_keeps_no_more_than_its_part_of_a_huge_message(void **state)
{
    struct arena arena;
    arena_init(&arena, SIZE_MAX / 2);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++)
            assert_non_null(memset(arena_take(&arena, ARENA_KEPT_BYTES / 2), 1, 100));
        assert_non_null(arena_take(&arena, 10 * (size_t)ARENA_KEPT_BYTES));
        arena_reset(&arena);
        assert_null(arena.extra);
        assert_int_equal(arena.block_bytes, ARENA_KEPT_BYTES);
    }
    assert_non_null(memset(arena_take(&arena, ARENA_KEPT_BYTES), 1, ARENA_KEPT_BYTES));
    assert_null(arena.extra); /* such a message takes nothing new */
    arena_destroy(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle_buffers_are_taken_again),
        cmocka_unit_test_setup_teardown(test_buffers_stay_until_they_are_sent, wire_fixture_make,
                                        wire_fixture_remove),
        cmocka_unit_test(test_arena_grows_to_what_is_needed_and_stops_at_its_limit),
        cmocka_unit_test(test_idle_buffers_have_a_bound_in_bytes),
        cmocka_unit_test(test_an_arena_keeps_no_more_than_its_part_of_a_huge_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
