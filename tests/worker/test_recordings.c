/* test_recordings.c - what was recorded does what the calls do, whatever shapes come in which
 * order. */
#include "worker/recordings.h"

#include "tests/cmocka.h"
#include "tests/kernels/fake_device.h"

enum { MOST = 64, PIECES = 2 };

/* Steps add `by` to the first n_rows values of memory, piece by piece. */
struct steps {
    const struct kernels *kernels;
    struct device *device;
    struct recordings *recordings;
    float *sums, *by; /* device memory */
    uint32_t positions[MOST];
    uint32_t n_rows;
    uint64_t kind;     /* of all pieces */
    uint32_t n_called; /* pieces whose calls were made, recorded or not */
    enum status status;
};

static enum status add_piece(void *context, struct error *error)
{
    struct steps *s = context;
    s->n_called++;
    s->kernels->add(s->device, s->sums, s->by, s->n_rows);
    return s->status == STATUS_OK ? STATUS_OK : error_set(error, s->status, "of the piece");
}

static enum status run_step(struct steps *s, bool may, uint32_t n_rows)
{
    struct error error;
    s->n_rows = n_rows;
    recordings_begin(s->recordings, may, s->positions,
                     &(struct recordings_shape){.n_rows = n_rows, .stream = s->sums});
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < PIECES && status == STATUS_OK; i++)
        status = recordings_run(s->recordings, i, s->kind, add_piece, s, &error);
    return status;
}

static void open_steps(struct steps *s, const struct kernels *kernels)
{
    static float ones[MOST];
    void *sums = NULL, *by = NULL;
    for (int i = 0; i < MOST; i++)
        ones[i] = 1;
    *s = (struct steps){.kernels = kernels};
    assert_int_equal(kernels->open(&s->device, NULL, 0, NULL), STATUS_OK);
    assert_int_equal(kernels->memory_take(s->device, &sums, MOST * sizeof(float), NULL), STATUS_OK);
    assert_int_equal(kernels->memory_take(s->device, &by, MOST * sizeof(float), NULL), STATUS_OK);
    s->sums = sums;
    s->by = by;
    kernels->clear(s->device, sums, MOST * sizeof(float));
    kernels->upload(s->device, by, ones, sizeof(ones));
    assert_int_equal(recordings_create(&s->recordings, kernels, s->device, PIECES, NULL),
                     STATUS_OK);
}

/* Each step has added PIECES to each of its rows. */
static void check_and_close(struct steps *s, const float *expected)
{
    float sums[MOST];
    s->kernels->download(s->device, sums, s->sums, sizeof(sums));
    assert_int_equal(s->kernels->finish(s->device, NULL), STATUS_OK);
    assert_memory_equal(sums, expected, sizeof(sums));
    recordings_destroy(s->recordings);
    s->kernels->memory_give(s->device, s->sums);
    s->kernels->memory_give(s->device, s->by);
    s->kernels->close(s->device);
}

static void run_steps(struct steps *s, const uint32_t *n_rows, size_t n, bool may, float *expected)
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(run_step(s, may, n_rows[i]), STATUS_OK);
        for (uint32_t row = 0; row < n_rows[i]; row++)
            expected[row] += PIECES;
    }
}

static void test_a_shape_is_called_then_recorded_then_replayed(void **state)
{
    static const uint32_t n_rows[] = {1, 1, 1, 1, 1};
    struct steps s;
    float expected[MOST] = {0};
    open_steps(&s, &kernels_fake);
    run_steps(&s, n_rows, 5, true, expected);
    assert_int_equal(s.n_called, 2 * PIECES);
    assert_int_equal(recordings_replayed(s.recordings), 4 * PIECES);
    run_steps(&s, n_rows, 3, false, expected);
    assert_int_equal(s.n_called, 5 * PIECES);
    assert_int_equal(recordings_replayed(s.recordings), 4 * PIECES);
    check_and_close(&s, expected);
}

/* More shapes than are kept: in turn none comes back in time; two of them at once do. */
static void test_many_shapes(void **state)
{
    uint32_t n_rows[3 * 20];
    struct steps s;
    float expected[MOST] = {0};
    open_steps(&s, &kernels_fake);
    for (uint32_t i = 0; i < 3 * 20; i++)
        n_rows[i] = 1 + i % 20;
    run_steps(&s, n_rows, 3 * 20, true, expected);
    assert_int_equal(recordings_replayed(s.recordings), 0);
    for (uint32_t i = 0; i < 3 * 20; i++)
        n_rows[i] = i % 3 == 0 ? i / 3 + 30 : 7 + i % 3; /* two that stay among twenty that pass */
    run_steps(&s, n_rows, 3 * 20, true, expected);
    assert_int_equal(recordings_replayed(s.recordings), 2 * 19 * PIECES);
    check_and_close(&s, expected);
}

static enum status refuse_begin(struct device *device, const uint32_t *positions, uint32_t n_rows,
                                struct error *error)
{
    return error_set(error, STATUS_UNSUPPORTED, "not today");
}

static enum status refuse_end(struct device *device, struct recording **recording,
                              struct error *error)
{
    struct recording *made;
    fake_record_end(device, &made, error);
    fake_recording_destroy(device, made);
    return error_set(error, STATUS_UNSUPPORTED, "not today");
}

static void test_what_cannot_be_recorded_is_called(void **state)
{
    static const uint32_t n_rows[] = {3, 3, 3, 3};
    struct kernels refusing[] = {kernels_fake, kernels_fake};
    refusing[0].record_begin = refuse_begin;
    refusing[1].record_end = refuse_end;
    for (int i = 0; i < 2; i++) {
        struct steps s;
        float expected[MOST] = {0};
        open_steps(&s, &refusing[i]);
        run_steps(&s, n_rows, 4, true, expected);
        assert_int_equal(recordings_replayed(s.recordings), 0);
        check_and_close(&s, expected);
    }
}

static void test_a_failure_of_a_piece_is_its_own(void **state)
{
    static const uint32_t n_rows[] = {2, 2};
    struct steps s;
    float expected[MOST] = {0};
    open_steps(&s, &kernels_fake);
    run_steps(&s, n_rows, 1, true, expected);
    s.status = STATUS_IO;
    assert_int_equal(run_step(&s, true, 2), STATUS_IO); /* while it is recorded: nothing was done */
    s.status = STATUS_OK;
    run_steps(&s, n_rows, 2, true, expected);
    check_and_close(&s, expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_shape_is_called_then_recorded_then_replayed),
        cmocka_unit_test(test_many_shapes),
        cmocka_unit_test(test_what_cannot_be_recorded_is_called),
        cmocka_unit_test(test_a_failure_of_a_piece_is_its_own),
    };
    return cmocka_run_group_tests_name("worker/recordings", tests, NULL, NULL);
}
