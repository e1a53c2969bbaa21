/* test_store_page.c - a page is whole under its name, or not there. */
#include "attention_node/store_files.h"
#include "attention_node/store_page.h"
#include "sys/file.h"
#include "tests/cmocka.h"

#include <stdbool.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 1000, N_PIECES = 3, DATA_BYTES = PIECE_BYTES * N_PIECES };

struct fixture {
    char path[FILE_PATH_BYTES];
    int directory;
    struct store_page_header header;
    uint8_t data[DATA_BYTES];
};

static int set_up(void **state)
{
    const struct store_job job = {.fingerprint = "a model", .shape = {KV_F32, 64, 0, 2, 0, 3}};
    uint8_t name[STORE_NAME_BYTES];
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    for (size_t i = 0; i < sizeof(name); i++)
        name[i] = (uint8_t)(7 * i);
    for (size_t i = 0; i < DATA_BYTES; i++)
        f->data[i] = (uint8_t)(i * i >> 3);
    assert_int_equal(file_make_temporary(f->path, NULL), STATUS_OK);
    f->directory = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(f->directory >= 0);
    f->header = store_page_header(&job, DATA_BYTES, name);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    close(f->directory);
    assert_int_equal(file_remove_temporary(f->path), STATUS_OK);
    free(f);
    return 0;
}

static void write_pieces(struct fixture *f, struct store_page *page, int n)
{
    assert_true(store_page_create(page, f->directory, &f->header));
    for (int i = 0; i < n; i++)
        assert_true(store_page_write(page, f->data + i * PIECE_BYTES, PIECE_BYTES));
}

/* Whether all of it is read, and has the sum that it should have. */
static bool reads_back(struct fixture *f)
{
    struct store_page page;
    uint8_t data[DATA_BYTES];
    if (!store_page_open(&page, f->directory, &f->header))
        return false;
    const bool whole = store_page_read(&page, data, PIECE_BYTES) &&
                       store_page_read(&page, data + PIECE_BYTES, DATA_BYTES - PIECE_BYTES);
    const bool right = whole && store_page_is_right(&page);
    store_page_close(&page);
    assert_int_equal(page.file, -1);
    return right && memcmp(data, f->data, DATA_BYTES) == 0;
}

static void file_text(const struct fixture *f, const char *ending, char text[STORE_FILE_NAME_BYTES])
{
    store_files_text(f->header.name, text);
    if (ending != NULL)
        strcpy(text + 2 * STORE_NAME_BYTES, ending);
}

static bool exists(const struct fixture *f, const char *ending)
{
    char text[STORE_FILE_NAME_BYTES];
    file_text(f, ending, text);
    return faccessat(f->directory, text, F_OK, 0) == 0;
}

static void test_has_its_name_when_it_is_whole(void **state)
{
    struct fixture *f = *state;
    struct store_page page;
    write_pieces(f, &page, N_PIECES);
    assert_false(store_page_is_there(f->directory, &f->header));
    assert_true(exists(f, STORE_FILES_UNFINISHED));
    assert_true(store_page_finish(&page));
    assert_int_equal(page.file, -1);
    assert_true(store_page_is_there(f->directory, &f->header));
    assert_false(exists(f, STORE_FILES_UNFINISHED));
    assert_true(reads_back(f));
}

static void test_given_up_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct store_page page;
    write_pieces(f, &page, 1);
    store_page_close(&page);
    store_page_close(&page); /* again: nothing happens */
    assert_false(exists(f, NULL));
    assert_false(exists(f, STORE_FILES_UNFINISHED));
    write_pieces(f, &page, N_PIECES); /* given up while it is read: it stays */
    assert_true(store_page_finish(&page));
    assert_true(store_page_open(&page, f->directory, &f->header));
    store_page_close(&page);
    assert_true(reads_back(f));
}

/* Too little data was written: the size is not what the header says. */
static void test_a_page_that_is_too_short_is_none(void **state)
{
    struct fixture *f = *state;
    struct store_page page;
    write_pieces(f, &page, N_PIECES - 1);
    assert_true(store_page_finish(&page));
    assert_false(store_page_is_there(f->directory, &f->header));
    assert_false(store_page_open(&page, f->directory, &f->header));
}

/* Half read is not right, even if nothing is wrong so far. */
static void test_the_sum_is_that_of_all_data(void **state)
{
    struct fixture *f = *state;
    struct store_page page;
    uint8_t data[PIECE_BYTES];
    char text[STORE_FILE_NAME_BYTES];
    write_pieces(f, &page, N_PIECES);
    assert_true(store_page_finish(&page));
    assert_true(store_page_open(&page, f->directory, &f->header));
    assert_true(store_page_read(&page, data, sizeof(data)));
    assert_false(store_page_is_right(&page));
    store_page_close(&page);

    file_text(f, NULL, text); /* one bit of the last byte */
    const int file = openat(f->directory, text, O_RDWR);
    uint8_t last;
    assert_int_equal(pread(file, &last, 1, sizeof(f->header) + DATA_BYTES - 1), 1);
    last ^= 4;
    assert_int_equal(pwrite(file, &last, 1, sizeof(f->header) + DATA_BYTES - 1), 1);
    close(file);
    assert_true(store_page_is_there(f->directory, &f->header));
    assert_false(reads_back(f));
}

/* A link in the place of the unfinished file is not followed: what it points to stays as it is. */
static void test_links_are_not_followed(void **state)
{
    struct fixture *f = *state;
    struct store_page page;
    char text[STORE_FILE_NAME_BYTES];
    struct stat about;
    file_text(f, STORE_FILES_UNFINISHED, text);
    const int other = openat(f->directory, "other", O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(other, "content", 7), 7);
    close(other);
    assert_int_equal(symlinkat("other", f->directory, text), 0);
    assert_false(store_page_create(&page, f->directory, &f->header));
    assert_int_equal(errno, ELOOP);
    assert_int_equal(fstatat(f->directory, "other", &about, 0), 0);
    assert_int_equal(about.st_size, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_has_its_name_when_it_is_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_given_up_leaves_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_page_that_is_too_short_is_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_sum_is_that_of_all_data, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_links_are_not_followed, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
