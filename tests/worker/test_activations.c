/* test_activations.c - what is alive together lies apart, and blocks of rows are even. */
#include "worker/activations.h"

#include "tests/cmocka.h"

static const struct activation_shape SHAPES[] = {
    {1, 64, 64, 16, 96, 1},      /* decode only */
    {512, 64, 64, 16, 256, 1},   /* the only stage */
    {513, 100, 52, 20, 33, 2},   /* odd columns, fewer for queries than for the stream */
    {192, 64, 256, 128, 8, 2},   /* attention needs more than the feed-forward part */
    {1000, 32, 96, 96, 1024, 2}, /* and the reverse */
};
enum { N_SHAPES = sizeof(SHAPES) / sizeof(SHAPES[0]) };

struct range {
    const float *begin;
    size_t n;
};

static void check_apart(const struct activations *a, const struct range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal((uintptr_t)ranges[i].begin % 64, 0);
        assert_true(ranges[i].begin >= (float *)a->memory);
        assert_true(ranges[i].begin + ranges[i].n <= (float *)a->memory + a->bytes / sizeof(float));
        for (size_t j = 0; j < i; j++)
            assert_true(ranges[i].begin >= ranges[j].begin + ranges[j].n ||
                        ranges[j].begin >= ranges[i].begin + ranges[i].n);
    }
}

static void test_what_is_alive_together_lies_apart(void **state)
{
    for (int i = 0; i < N_SHAPES; i++) {
        const struct activation_shape *s = &SHAPES[i];
        const size_t rows = s->max_rows;
        struct activations a;
        assert_int_equal(activations_open(&a, s, &kernels_cpu_scalar, NULL, NULL), STATUS_OK);
        const struct range streams[] = {{a.stream[0], rows * s->hidden},
                                        {a.stream[1], rows * s->hidden}};
        const size_t first = s->n_streams == 1 ? 1 : 0; /* of those that are not the same */
        assert_true((streams[0].begin == streams[1].begin) == (first == 1));
        const struct range attention[] = {
            streams[0],
            streams[1],
            {a.attended, rows * s->query},
            {a.query, rows * s->query},
            {a.key, rows * s->kv},
            {a.value, rows * s->kv},
        };
        const struct range feed_forward[] = {
            streams[0],
            streams[1],
            {a.normed, rows * s->hidden},
            {a.gate, (size_t)a.block_rows * s->ffn},
            {a.up, (size_t)a.block_rows * s->ffn},
        };
        check_apart(&a, attention + first, sizeof(attention) / sizeof(attention[0]) - first);
        check_apart(&a, feed_forward + first,
                    sizeof(feed_forward) / sizeof(feed_forward[0]) - first);
        activations_close(&a);
        assert_null(a.memory);
        activations_close(&a);
    }
}

/* A chunk of 512 tokens of a model with 2048 columns and FFN 8192: under 19 MiB, where a
 * buffer for each would be 62. */
static void test_a_chunk_is_small(void **state)
{
    const struct activation_shape shape = {512, 2048, 2048, 512, 8192, 1};
    struct activations a;
    assert_int_equal(activations_open(&a, &shape, &kernels_cpu_scalar, NULL, NULL), STATUS_OK);
    assert_int_equal(a.block_rows, 171); /* three even blocks */
    assert_true(a.bytes <= (size_t)19 << 20);
    activations_close(&a);
}

static void test_what_has_no_memory_is_told(void **state)
{
    const struct activation_shape shape = {UINT32_MAX, UINT32_MAX, 1, 1, 1, 2};
    struct activations a = {.block_rows = 7};
    struct error error = {0};
    assert_int_equal(activations_open(&a, &shape, &kernels_cpu_scalar, NULL, &error),
                     STATUS_NO_MEMORY);
    assert_true(error.text[0] != '\0');
    assert_int_equal(a.block_rows, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_alive_together_lies_apart),
        cmocka_unit_test(test_a_chunk_is_small),
        cmocka_unit_test(test_what_has_no_memory_is_told),
    };
    return cmocka_run_group_tests_name("worker/activations", tests, NULL, NULL);
}
