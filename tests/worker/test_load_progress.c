/* Bytes are counted as listed, and the thread that reads ahead ends whenever it is told to. */
#include "model/mapping.h"
#include "sys/file.h"
#include "tests/cmocka.h"
#include "worker/load_progress.h"

#include <stdio.h>
#include <stdlib.h>

enum { FILE_BYTES = 20 << 20, N_PIECES = 5 };

static char directory[FILE_PATH_BYTES];
static struct mapping mapping;

static int make_file(void **state)
{
    char path[FILE_PATH_BYTES + 16];
    uint8_t *data = calloc(1, FILE_BYTES);
    if (data == NULL || file_make_temporary(directory, NULL) != STATUS_OK)
        return -1;
    snprintf(path, sizeof(path), "%s/weights", directory);
    const enum status status = file_write(path, data, FILE_BYTES, 0600, NULL);
    free(data);
    return status != STATUS_OK || mapping_open(&mapping, path, NULL) != STATUS_OK;
}

static int remove_file(void **state)
{
    mapping_close(&mapping);
    return file_remove_temporary(directory) == STATUS_OK ? 0 : -1;
}

static struct read_ahead_piece piece_at(uint32_t i)
{
    const uint64_t n = FILE_BYTES / N_PIECES;
    return (struct read_ahead_piece){mapping.data + i * n, n};
}

struct told {
    uint64_t n_loaded, n_all, n_times;
};

static void tick(void *context, uint64_t n_loaded, uint64_t n_all)
{
    struct told *told = context;
    assert_true(n_loaded >= told->n_loaded && n_loaded <= n_all);
    *told = (struct told){n_loaded, n_all, told->n_times + 1};
}

static void test_bytes_are_counted(void **state)
{
    struct told told = {0};
    struct load_progress progress = {.tick = tick, .context = &told};
    for (uint32_t i = 0; i < N_PIECES; i++)
        assert_int_equal(load_progress_add(&progress, piece_at(i), NULL), STATUS_OK);
    assert_int_equal(told.n_times, 0);
    assert_int_equal(load_progress_begin(&progress, NULL), STATUS_OK);
    assert_int_equal(told.n_all, FILE_BYTES); /* known before the first piece */
    assert_int_equal(told.n_loaded, 0);
    for (uint32_t i = 0; i < N_PIECES; i++) {
        load_progress_reach(&progress, piece_at(i));
        load_progress_done(&progress, piece_at(i));
        assert_int_equal(told.n_loaded, FILE_BYTES / N_PIECES * (i + 1));
    }
    load_progress_end(&progress);
    assert_int_equal(told.n_times, N_PIECES + 1);
}

static void test_it_ends_anywhere(void **state)
{
    for (uint32_t n = 0; n <= N_PIECES; n++) {
        struct load_progress progress = {0};
        load_progress_end(&progress); /* before it began */
        for (uint32_t i = 0; i < N_PIECES; i++)
            assert_int_equal(load_progress_add(&progress, piece_at(i), NULL), STATUS_OK);
        assert_int_equal(load_progress_begin(&progress, NULL), STATUS_OK);
        for (uint32_t i = 0; i < n; i++)
            load_progress_reach(&progress, piece_at(i));
        load_progress_end(&progress);
    }
}

/* More than is asked for ahead: the thread waits for the reader, and can be ended there. */
static void test_it_waits_for_the_reader(void **state)
{
    struct load_progress progress = {0};
    const uint32_t n = READ_AHEAD_BYTES / (FILE_BYTES / N_PIECES) + 10;
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(load_progress_add(&progress, piece_at(i % N_PIECES), NULL), STATUS_OK);
    assert_int_equal(load_progress_begin(&progress, NULL), STATUS_OK);
    load_progress_reach(&progress, piece_at(0));
    load_progress_end(&progress);
}

static void test_nothing_to_load(void **state)
{
    struct load_progress progress = {0};
    assert_int_equal(load_progress_begin(&progress, NULL), STATUS_OK);
    load_progress_end(&progress);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_are_counted),
        cmocka_unit_test(test_it_ends_anywhere),
        cmocka_unit_test(test_it_waits_for_the_reader),
        cmocka_unit_test(test_nothing_to_load),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
