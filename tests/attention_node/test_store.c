/* test_store.c - what is stored is found again, byte for byte, and nothing else is taken for it. */
#include "attention_node/store.h"
#include "attention_node/store_files.h"
#include "sys/file.h"
#include "sys/random.h"
#include "tests/cmocka.h"
#include "tests/kernels/attention/kv_holder_tokens.h"

#include <stdbool.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N_PAGES = 5, HEADER_BYTES = 168 };
static const struct span spans[] = {{0, 512},
                                    {768, 1280}}; /* pages 0, 1, 3, 4; others have page 2 */
static const uint64_t MUCH = UINT64_C(1) << 40;

struct fixture {
    char directory[FILE_PATH_BYTES];
    struct log log;
    struct kv_holder *holder;
    struct store *store;
    uint8_t names[N_PAGES * STORE_NAME_BYTES];
};

static const struct store_job job = {.fingerprint = "a model",
                                     .shape = {KV_F32, D, LAYER, N_LAYERS, HEAD, N_HEADS}};

static void open_store(struct fixture *f, uint64_t most_bytes, const struct store_job *of)
{
    const struct store_config config = {
        .directory = f->directory, .most_bytes = most_bytes, .log = &f->log};
    f->holder = holder_of(100 * N_PLANES);
    assert_int_equal(store_create(&f->store, &config, NULL), STATUS_OK);
    store_begin(f->store, of, f->holder);
}

static void close_store(struct fixture *f)
{
    store_end(f->store, 0);
    store_destroy(f->store);
    kv_holder_destroy(f->holder);
    f->store = NULL;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_int_equal(file_make_temporary(f->directory, NULL), STATUS_OK);
    log_open(&f->log, "test", -2);
    f->log.descriptor = -1; /* what is expected is not shown */
    for (size_t i = 0; i < sizeof(f->names); i++)
        f->names[i] = (uint8_t)(random_mix(i) >> 7);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(file_remove_temporary(f->directory), STATUS_OK);
    free(f);
    return 0;
}

/* Sequence 1 has tokens in all its spans, and is kept. */
static void keep(struct fixture *f)
{
    assert_int_equal(kv_holder_reserve(f->holder, 1, 1, spans, 2, 0, NULL), STATUS_OK);
    for (uint32_t layer = LAYER; layer < LAYER + N_LAYERS; layer++)
        assert_int_equal(append(f->holder, 1, 1, layer, HEAD, N_HEADS, 0, 1280, 7), STATUS_OK);
    store_keep(f->store, 1, 1, f->names, N_PAGES);
    while (store_work(f->store, true))
        ;
}

/* Reads the four pages into sequence 2. */
static enum status restore(struct fixture *f)
{
    uint8_t names[4 * STORE_NAME_BYTES];
    memcpy(names, f->names, 2 * STORE_NAME_BYTES);
    memcpy(names + 2 * STORE_NAME_BYTES, f->names + 3 * STORE_NAME_BYTES, 2 * STORE_NAME_BYTES);
    assert_int_equal(kv_holder_reserve(f->holder, 2, 1, spans, 2, 0, NULL), STATUS_OK);
    const struct store_wanted wanted = {2, 1, spans, 2, names, 4};
    assert_int_equal(store_restore(f->store, 99, &wanted, NULL), STATUS_OK);
    while (store_work(f->store, false))
        ;
    uint64_t request = 0;
    struct error error;
    assert_true(store_restored(f->store, &request, &error));
    assert_int_equal(request, 99);
    assert_false(store_restored(f->store, &request, &error));
    return error.status;
}

static void check_tokens(const struct fixture *f)
{
    static const struct tile_range ranges[] = {{0, 4}, {6, 10}};
    for (uint32_t plane = 0; plane < N_PLANES; plane++)
        for (int i = 0; i < 2; i++) {
            struct tile_source source;
            assert_int_equal(kv_holder_source(f->holder, 2, 1, LAYER + plane / N_HEADS,
                                              HEAD + plane % N_HEADS,
                                              &(struct kv_view){&ranges[i], 1, 0}, &source, NULL),
                             STATUS_OK);
            for (uint32_t t = ranges[i].begin * TILE_TOKENS; t < ranges[i].end * TILE_TOKENS; t++)
                check_token(&source, plane, t, 7);
        }
}

static size_t n_stored(struct fixture *f)
{
    size_t n;
    store_names(f->store, &n);
    return n;
}

static void path_of(const struct fixture *f, uint32_t page, char path[2 * FILE_PATH_BYTES])
{
    char text[STORE_FILE_NAME_BYTES];
    store_files_text(f->names + page * STORE_NAME_BYTES, text);
    snprintf(path, 2 * FILE_PATH_BYTES, "%s/%s", f->directory, text);
}

static void test_found_again_after_a_restart(void **state)
{
    struct fixture *f = *state;
    const uint8_t *added, *gone;
    size_t n_added, n_gone;
    open_store(f, MUCH, &job);
    assert_int_equal(n_stored(f), 0);
    keep(f);
    assert_true(store_changed(f->store, &added, &n_added, &gone, &n_gone));
    assert_int_equal(n_added, 4); /* not the page that is elsewhere */
    assert_int_equal(n_gone, 0);
    assert_memory_equal(added, f->names, STORE_NAME_BYTES);
    assert_false(store_changed(f->store, &added, &n_added, &gone, &n_gone));
    assert_int_equal(restore(f), STATUS_OK);
    check_tokens(f);
    close_store(f);
    open_store(f, MUCH, &job);
    assert_int_equal(n_stored(f), 4);
    assert_int_equal(restore(f), STATUS_OK);
    check_tokens(f);
    assert_int_equal(kv_holder_usage(f->holder).pages_taken, 4 * N_PLANES);
    kv_holder_close(f->holder, 2, 1);
    close_store(f);
}

/* Another model, KV type, shape or device: not even looked at. */
static void test_of_another_job(void **state)
{
    struct fixture *f = *state;
    open_store(f, MUCH, &job);
    keep(f);
    close_store(f);
    struct store_job others[4] = {job, job, job, job};
    others[0].fingerprint[3]++;
    others[1].device[0] = 'c';
    others[2].shape.first_layer++;
    others[3].shape.type = KV_F16;
    for (int i = 0; i < 4; i++) {
        open_store(f, MUCH, &others[i]);
        assert_int_equal(n_stored(f), 0);
        assert_int_equal(restore(f), STATUS_NOT_FOUND);
        close_store(f);
    }
    open_store(f, MUCH, &job); /* and untouched */
    assert_int_equal(n_stored(f), 4);
    close_store(f);
}

/* Each byte of the header, some of the data: a file that was changed is found out. */
static void test_changed_files(void **state)
{
    struct fixture *f = *state;
    char path[2 * FILE_PATH_BYTES];
    path_of(f, 3, path);
    for (uint32_t at = 0; at < HEADER_BYTES + 4000; at += at < HEADER_BYTES ? 1 : 997) {
        open_store(f, MUCH, &job);
        keep(f);
        const int file = open(path, O_RDWR);
        uint8_t byte;
        assert_int_equal(pread(file, &byte, 1, at), 1);
        byte ^= 1u << at % 8;
        assert_int_equal(pwrite(file, &byte, 1, at), 1);
        close(file);
        assert_int_equal(restore(f), STATUS_NOT_FOUND);
        assert_int_equal(n_stored(f), 3); /* it was removed */
        assert_int_not_equal(access(path, F_OK), 0);
        close_store(f);
    }
}

static void test_hostile_files(void **state)
{
    struct fixture *f = *state;
    char path[2 * FILE_PATH_BYTES], other[2 * FILE_PATH_BYTES];
    static const char *const names[] = {"x", "..kv", "0123.kv", "gg.kv", "a.part"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", f->directory, names[i]);
        close(open(path, O_CREAT | O_WRONLY, 0600));
    }
    path_of(f, 0, path); /* empty; a directory; a link to somewhere; a pipe */
    close(open(path, O_CREAT | O_WRONLY, 0600));
    path_of(f, 1, path);
    assert_int_equal(mkdir(path, 0700), 0);
    path_of(f, 2, path);
    assert_int_equal(symlink("/dev/zero", path), 0);
    path_of(f, 3, path);
    assert_int_equal(mkfifo(path, 0600), 0);
    open_store(f, MUCH, &job);
    assert_int_equal(n_stored(f), 0);
    assert_int_equal(restore(f), STATUS_NOT_FOUND);
    close_store(f);
    for (uint32_t page = 1; page < 4; page++) {
        path_of(f, page, path);
        assert_int_equal(remove(path), 0);
    }
    open_store(f, MUCH, &job);
    keep(f);
    path_of(f, 0, path); /* one page under another's name; too long; cut */
    path_of(f, 1, other);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(restore(f), STATUS_NOT_FOUND);
    path_of(f, 3, path);
    assert_int_equal(truncate(path, HEADER_BYTES + 100), 0);
    path_of(f, 4, path);
    assert_int_equal(truncate(path, 1 << 20), 0);
    close_store(f);
    open_store(f, MUCH, &job);
    assert_int_equal(n_stored(f), 0);
    keep(f); /* what is no page of ours does not stand in the way of one */
    assert_int_equal(n_stored(f), 4);
    assert_int_equal(restore(f), STATUS_OK);
    check_tokens(f);
    close_store(f);
}

static void test_bounded_by_bytes(void **state)
{
    struct fixture *f = *state;
    const uint8_t *added, *gone;
    size_t n_added, n_gone;
    const uint64_t file_bytes = HEADER_BYTES + N_PLANES * PAGE_BYTES;
    open_store(f, 2 * file_bytes, &job);
    keep(f);
    assert_int_equal(n_stored(f), 2); /* the last two */
    assert_true(store_changed(f->store, &added, &n_added, &gone, &n_gone));
    assert_int_equal(n_added, 4);
    assert_int_equal(n_gone, 2);
    assert_memory_equal(gone, f->names, STORE_NAME_BYTES);
    close_store(f);
    open_store(f, file_bytes - 1, &job); /* not even one */
    f->names[0]++;
    keep(f);
    assert_int_equal(n_stored(f), 2);
    close_store(f);
}

static bool is_there(const struct fixture *f, const char *name)
{
    char path[2 * FILE_PATH_BYTES];
    snprintf(path, sizeof(path), "%s/%s", f->directory, name);
    return access(path, F_OK) == 0;
}

/* The directory may be one where somebody has other things: of unfinished files only ours go. */
static void test_files_of_others_stay(void **state)
{
    struct fixture *f = *state;
    char ours[STORE_FILE_NAME_BYTES];
    store_files_text(f->names, ours);
    memcpy(ours + 2 * STORE_NAME_BYTES, STORE_FILES_UNFINISHED, sizeof(STORE_FILES_UNFINISHED));
    const char *const names[] = {ours, "film.mkv.part", "0123.part", ".part"};
    for (size_t i = 0; i < 4; i++) {
        char path[2 * FILE_PATH_BYTES];
        snprintf(path, sizeof(path), "%s/%s", f->directory, names[i]);
        close(open(path, O_CREAT | O_WRONLY, 0600));
    }
    open_store(f, MUCH, &job);
    assert_false(is_there(f, ours));
    for (size_t i = 1; i < 4; i++)
        assert_true(is_there(f, names[i]));
    close_store(f);
}

/* Nobody waits for what cannot be stored, and nothing of it is promised. */
static void test_a_file_that_cannot_be_made(void **state)
{
    struct fixture *f = *state;
    char path[2 * FILE_PATH_BYTES];
    open_store(f, MUCH, &job);
    path_of(f, 0, path);
    strcpy(path + strlen(path) - strlen(".kv"), STORE_FILES_UNFINISHED);
    assert_int_equal(mkdir(path, 0700), 0);
    keep(f);
    assert_int_equal(n_stored(f), 0);
    assert_int_equal(rmdir(path), 0);
    store_keep(f->store, 1, 1, f->names, N_PAGES);
    while (store_work(f->store, true))
        ;
    assert_int_equal(n_stored(f), 4);
    close_store(f);
}

/* A sequence that goes while it is written leaves nothing; one directory has one user. */
static void test_interrupted(void **state)
{
    struct fixture *f = *state;
    struct store *second = NULL;
    open_store(f, MUCH, &job);
    const struct store_config config = {
        .directory = f->directory, .most_bytes = MUCH, .log = &f->log};
    assert_int_equal(store_create(&second, &config, NULL), STATUS_FAILED);
    assert_int_equal(kv_holder_reserve(f->holder, 1, 1, spans, 2, 0, NULL), STATUS_OK);
    for (uint32_t layer = LAYER; layer < LAYER + N_LAYERS; layer++)
        assert_int_equal(append(f->holder, 1, 1, layer, HEAD, N_HEADS, 0, 1280, 7), STATUS_OK);
    store_keep(f->store, 1, 1, f->names, N_PAGES);
    assert_false(store_work(f->store, false)); /* not now */
    for (int i = 0; i < N_PLANES + 2; i++)
        assert_true(store_work(f->store, true));
    kv_holder_close(f->holder, 1, 1);
    while (store_work(f->store, true))
        ;
    assert_int_equal(n_stored(f), 1);
    close_store(f);
    open_store(f, MUCH, &job);
    assert_int_equal(n_stored(f), 1);
    close_store(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_found_again_after_a_restart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_of_another_job, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounded_by_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_files_of_others_stay, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_that_cannot_be_made, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_interrupted, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
