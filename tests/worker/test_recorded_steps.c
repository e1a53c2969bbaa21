/* test_recorded_steps.c - decode steps as recordings, with attention in them and without: the same
 * bits as calls.
 *
 * On a GPU (or its emulation) where there is one, and on the fake device, which ends the test of
 * who makes a call meanwhile that may not be recorded, or reads what is not there yet. */
#include "tests/directory.h"
#include "tests/kernels/fake_device.h"
#include "tests/worker/fixture.h"

#include "sys/random.h"

#include "tests/worker/reference.c"

/* Tensor cores have its head_dim. The other one has windows, which pages leave while tokens
 * come. */
static const struct reference_shape SHAPES[] = {
    {2, 128, 4, 2, 64, 96, 97, false, false, WEIGHT_Q8_0, .seed = 1},
    {6, 64, 4, 2, 32, 96, 97, false, false, WEIGHT_F16, .seed = 2,
     .architecture = ARCHITECTURE_GEMMA3, .window = 30},
};
enum { N_SHAPES = sizeof(SHAPES) / sizeof(SHAPES[0]) };

/* Two sequences: their prompts, and steps of both. One crosses a tile, the other one a page. In the
 * middle a third segment fails, twice, and a longer step makes memory grow. */
enum { FIRST = 120, SECOND = 250, DECODED = 16, BAD = 6, LONGER = 11, LONG_PROMPT = 200 };

static void run_bad_step(struct fixture *f, const struct fixture_segment segments[2],
                         const int32_t *tokens)
{
    const struct fixture_segment three[] = {
        segments[0], {7, 30, 1, tokens, LONGSPAN__WANT__WANT_NOTHING, 0}, segments[1]};
    struct fixture_step message;
    struct error error;
    fixture_compose(&message, f->next_step++, three, 3);
    fixture_ok(step_decode(f->engine.step, &message.step, &error), &error);
    fixture_ok(forward_run(f->engine.forward, f->engine.step, &error), &error);
    assert_null(attention_segment_error(f->engine.attention, 0));
    assert_non_null(attention_segment_error(f->engine.attention, 1));
    assert_null(attention_segment_error(f->engine.attention, 2));
}

/* Logits of all decode steps, [DECODED][2][vocab]. */
static float *decode(const struct reference_shape *shape, const char *path,
                     const struct kernels *table, enum forward_records records)
{
    int32_t tokens[SECOND + DECODED];
    struct random_state random;
    random_seed(&random, 99);
    for (uint32_t i = 0; i < SECOND + DECODED; i++)
        tokens[i] = (int32_t)random_below(&random, shape->vocab);
    struct group *group;
    struct error error;
    fixture_ok(group_create(&group, NULL, NULL, &error), &error);
    struct fixture f;
    const struct fixture_layout layout = {
        .n_stages = 1, .tensor = 1, .lanes = 2, .kv_type = KV_F16, .table = table};
    fixture_open_recording(&f, shape, path, &layout, group, records);
    const size_t vocab = shape->vocab;
    float *rows = calloc(2 * DECODED * vocab, sizeof(*rows));
    assert_non_null(rows);
    fixture_run(
        &f,
        (const struct fixture_segment[]){{1, 0, FIRST, tokens, LONGSPAN__WANT__WANT_NOTHING, 0}},
        1);
    fixture_run(
        &f,
        (const struct fixture_segment[]){{2, 0, SECOND, tokens, LONGSPAN__WANT__WANT_NOTHING, 0}},
        1);
    for (uint32_t i = 0; i < DECODED; i++) {
        const struct fixture_segment both[] = {
            {1, FIRST + i, 1, tokens, LONGSPAN__WANT__WANT_LOGITS, 5},
            {2, SECOND + i, 1, tokens, LONGSPAN__WANT__WANT_LOGITS, 3}};
        if (i == LONGER)
            fixture_run(&f,
                        (const struct fixture_segment[]){
                            {3, 0, LONG_PROMPT, tokens, LONGSPAN__WANT__WANT_NOTHING, 0}},
                        1);
        if (i == BAD || i == BAD + 1)
            run_bad_step(&f, both, tokens);
        else
            fixture_run(&f, both, 2);
        memcpy(rows + i * 2 * vocab, f.engine.results->logits, 2 * vocab * sizeof(*rows));
    }
    const uint64_t pieces = forward_replayed(f.engine.forward);
    if (records == FORWARD_RECORDS_NOTHING)
        assert_int_equal(pieces, 0);
    else /* all but the first step, and those with a third segment */
        assert_true(pieces >= (DECODED - 3) * (shape->n_layers + 1));
    fixture_close(&f);
    group_destroy(group);
    return rows;
}

static void check_table(const struct kernels *table)
{
    for (int i = 0; i < N_SHAPES; i++) {
        const struct reference_shape *shape = &SHAPES[i];
        char path[FILE_PATH_BYTES + 32];
        snprintf(path, sizeof(path), "%s/model.gguf", directory);
        reference_destroy(reference_create(shape, path));
        static const enum forward_records some[] = {FORWARD_RECORDS_PRODUCTS, FORWARD_RECORDS_ALL};
        float *called = decode(shape, path, table, FORWARD_RECORDS_NOTHING);
        for (int j = 0; j < 2; j++) {
            float *recorded = decode(shape, path, table, some[j]);
            assert_memory_equal(recorded, called, 2 * DECODED * shape->vocab * sizeof(*called));
            free(recorded);
        }
        free(called);
    }
}

static void test_recorded_steps_have_the_bits_of_calls(void **state)
{
    check_table(&kernels_fake);
}

static void test_recorded_steps_on_a_gpu_have_the_bits_of_calls(void **state)
{
    struct error error = {0};
    if (kernels_cuda.count(&error) == 0) {
        fprintf(stderr, "skipped: %s\n", error.text);
        skip();
    }
    check_table(&kernels_cuda);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_steps_have_the_bits_of_calls),
        cmocka_unit_test(test_recorded_steps_on_a_gpu_have_the_bits_of_calls),
    };
    return cmocka_run_group_tests_name("worker/recorded_steps", tests, make_directory,
                                       remove_directory);
}
