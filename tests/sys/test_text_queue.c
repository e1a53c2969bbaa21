/* test_text_queue.c - text behind, text in front: all of it comes out once and in order. */
#include "sys/random.h"
#include "sys/text_queue.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

static void test_bytes_come_out_in_order_whatever_the_pieces(void **state)
{
    struct text_queue queue = {0};
    struct random_state random;
    random_seed(&random, 7);
    uint8_t came = 0, went = 0;
    size_t most = 0;
    for (size_t round = 0; round < 20000; round++) {
        uint8_t piece[32];
        const size_t n = random_below(&random, sizeof(piece) + 1);
        for (size_t i = 0; i < n; i++)
            piece[i] = came++;
        assert_true(text_queue_add(&queue, piece, n));
        const size_t n_out = queue.n > 300 ? queue.n : random_below(&random, queue.n + 1);
        const char *front = text_queue_front(&queue);
        text_queue_drop(&queue, n_out);
        for (size_t i = 0; i < n_out; i++) /* dropped, and still there */
            assert_int_equal((uint8_t)front[i], went++);
        most = queue.capacity > most ? queue.capacity : most;
    }
    assert_int_equal(queue.n, (uint8_t)(came - went));
    assert_true(most <= 2048); /* 332 at once, as much dropped, doubled */
    free(queue.bytes);
}

static void test_an_empty_queue_has_a_front(void **state)
{
    struct text_queue queue = {0};
    assert_string_equal(text_queue_front(&queue), "");
    assert_true(text_queue_add(&queue, NULL, 0));
    text_queue_drop(&queue, 0);
    assert_int_equal(queue.n, 0);
    free(queue.bytes);
}

static void test_what_there_can_be_no_memory_for_changes_nothing(void **state)
{
    struct text_queue queue = {0};
    assert_true(text_queue_add(&queue, "kept", 4));
    assert_false(text_queue_add(&queue, "x", SIZE_MAX));
    assert_int_equal(queue.n, 4);
    assert_memory_equal(text_queue_front(&queue), "kept", 4);
    free(queue.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_come_out_in_order_whatever_the_pieces),
        cmocka_unit_test(test_an_empty_queue_has_a_front),
        cmocka_unit_test(test_what_there_can_be_no_memory_for_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
