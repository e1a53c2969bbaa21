/* test_weights_cache.c - pushed models: whole or not at all, and what they are called. */
#include "cluster/weights_cache.h"

#include "cluster/content_hash.h"
#include "sys/sha256.h"
#include "tests/cmocka.h"
#include "tests/directory.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

/* What a push would send: all bytes of all files, in a row. */
struct stream {
    const char *data;
    size_t left;
};

static bool from_stream(void *context, void *data, size_t n_bytes)
{
    struct stream *stream = context;
    if (n_bytes > stream->left)
        return false;
    memcpy(data, stream->data, n_bytes);
    stream->data += n_bytes;
    stream->left -= n_bytes;
    return true;
}

static void hash_of(char hash[CONTENT_HASH_TEXT_BYTES], const char *text, size_t n_bytes)
{
    struct sha256 state;
    uint8_t digest[SHA256_BYTES];
    sha256_init(&state);
    sha256_update(&state, text, n_bytes);
    sha256_final(&state, digest);
    content_hash_text(hash, digest);
}

/* The set {"a": "first", "b": "second!"} as it came by JSON. */
static void make_set(struct weights_set *set)
{
    char a[CONTENT_HASH_TEXT_BYTES], b[CONTENT_HASH_TEXT_BYTES], id[CONTENT_HASH_TEXT_BYTES],
        lines[256];
    hash_of(a, "first", 5);
    hash_of(b, "second!", 7);
    const int length = snprintf(lines, sizeof(lines), "%s  a\n%s  b\n", a, b);
    hash_of(id, lines, (size_t)length); /* as sha256sum a b | sha256sum */
    json_t *json =
        json_pack("{s:s, s:s, s:[{s:s, s:i, s:s}, {s:s, s:i, s:s}]}", "id", id, "open", "b",
                  "files", "name", "a", "bytes", 5, "hash", a, "name", "b", "bytes", 7, "hash", b);
    struct error error;
    if (weights_set_parse(set, json, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    json_decref(json);
}

static uint32_t n_entries(void)
{
    uint32_t n = 0;
    DIR *entries = opendir(directory);
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(entries);
    return n;
}

static bool is_found(const struct weights_set *set, char path[FILE_PATH_BYTES])
{
    bool found;
    assert_int_equal(weights_cache_find(&found, path, directory, set, NULL), STATUS_OK);
    return found;
}

static void take(const struct weights_set *set, char path[FILE_PATH_BYTES])
{
    struct stream stream = {"firstsecond!", 12};
    struct error error;
    if (weights_cache_take(path, directory, set, from_stream, &stream, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

/* The folder of a set is removed by the test's end only if it is flat: so by hand. */
static void remove_set(const struct weights_set *set)
{
    static const char *const names[] = {"a", "b", ".a.seen", ".b.seen", ""};
    char path[2 * FILE_PATH_BYTES];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s/%s", directory, set->id, names[i]);
        if (names[i][0] != '\0')
            unlink(path);
        else
            rmdir(path);
    }
}

static void test_what_was_taken_is_found(void **state)
{
    struct weights_set set;
    char path[FILE_PATH_BYTES], expected[2 * FILE_PATH_BYTES], *text = NULL;
    size_t size;
    make_set(&set);
    assert_false(is_found(&set, path));
    take(&set, path);
    snprintf(expected, sizeof(expected), "%s/%s/b", directory, set.id);
    assert_string_equal(path, expected);
    assert_int_equal(file_read(path, 100, &text, &size, NULL), STATUS_OK);
    assert_string_equal(text, "second!");
    free(text);
    assert_true(is_found(&set, path));
    take(&set, path); /* twice is no harm */
    assert_int_equal(n_entries(), 1);
    remove_set(&set);
    weights_set_free(&set);
}

static void test_what_has_changed_is_not_found_and_goes(void **state)
{
    struct weights_set set;
    char path[FILE_PATH_BYTES];
    make_set(&set);
    take(&set, path);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    fputs("SECOND!", file);
    fclose(file);
    const struct utimbuf another = {.modtime = 1000};
    assert_int_equal(utime(path, &another), 0);
    assert_false(is_found(&set, path));
    assert_int_equal(n_entries(), 0);

    take(&set, path);
    assert_int_equal(utime(path, &another), 0); /* touched, the same content */
    assert_true(is_found(&set, path));
    assert_int_equal(truncate(path, 3), 0);
    assert_false(is_found(&set, path));
    weights_set_free(&set);
}

static void test_nothing_stays_of_what_did_not_come_right(void **state)
{
    struct weights_set set;
    struct error error;
    char path[FILE_PATH_BYTES];
    make_set(&set);
    struct stream other = {"firstsecond?", 12}, half = {"firstsec", 8};
    assert_int_equal(weights_cache_take(path, directory, &set, from_stream, &other, &error),
                     STATUS_PROTOCOL);
    assert_non_null(strstr(error.text, "other bytes"));
    assert_int_equal(weights_cache_take(path, directory, &set, from_stream, &half, &error),
                     STATUS_PROTOCOL);
    assert_non_null(strstr(error.text, "ended within"));
    set.n_bytes = (uint64_t)1 << 60;
    assert_int_equal(weights_cache_take(path, directory, &set, from_stream, &other, &error),
                     STATUS_EXHAUSTED);
    assert_non_null(strstr(error.text, "the disk has"));
    assert_int_equal(n_entries(), 0);
    weights_set_free(&set);
}

static void test_leftovers_of_others_go_with_the_next_push(void **state)
{
    struct weights_set set;
    char path[FILE_PATH_BYTES], old[FILE_PATH_BYTES + 16], young[FILE_PATH_BYTES + 16];
    snprintf(old, sizeof(old), "%s/.new-aaaaaa", directory);
    snprintf(young, sizeof(young), "%s/.new-bbbbbb", directory);
    assert_int_equal(mkdir(old, 0700), 0);
    assert_int_equal(mkdir(young, 0700), 0);
    const struct utimbuf long_ago = {.modtime = 1000};
    assert_int_equal(utime(old, &long_ago), 0);
    make_set(&set);
    take(&set, path);
    assert_int_not_equal(access(old, F_OK), 0);
    assert_int_equal(access(young, F_OK), 0);
    rmdir(young);
    remove_set(&set);
    weights_set_free(&set);
}

static void test_sets_are_not_believed(void **state)
{
    struct weights_set good, read;
    make_set(&good);
    json_t *json = weights_set_json(&good);
    assert_int_equal(weights_set_parse(&read, json, NULL), STATUS_OK);
    assert_string_equal(read.id, good.id);
    assert_int_equal(read.n_bytes, 12);
    weights_set_free(&read);
    json_decref(json);
    static const struct {
        const char *key, *value; /* of the first file, or of the set */
        bool of_file;
    } changes[] = {
        {"name", "\"../x\"", true},
        {"name", "\".x\"", true},
        {"name", "\"\"", true},
        {"name", "\"b\"", true},
        {"name", "7", true},
        {"name", "\"a\\u000ab\"", true},
        {"bytes", "-1", true},
        {"bytes", "\"5\"", true},
        {"bytes", "9223372036854775807", true},
        {"hash", "\"abc\"", true},
        {"hash", "null", true},
        {"id", "\"../../etc\"", false},
        {"open", "\"../b\"", false},
        {"open", "3", false},
        {"files", "[]", false},
        {"files", "7", false},
        {"id", "\"0000000000000000000000000000000000000000000000000000000000000000\"", false},
    };
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        json = weights_set_json(&good);
        json_t *place =
            changes[i].of_file ? json_array_get(json_object_get(json, "files"), 0) : json;
        json_t *value = json_loads(changes[i].value, JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        json_object_set_new(place, changes[i].key, value);
        if (weights_set_parse(&read, json, NULL) != STATUS_PROTOCOL)
            fail_msg("accepted: %s %s", changes[i].key, changes[i].value);
        json_decref(json);
    }
    assert_int_equal(weights_set_parse(&read, NULL, NULL), STATUS_PROTOCOL);
    weights_set_free(&good);
}

static void test_hashes_need_no_memory(void **state)
{
    char path[FILE_PATH_BYTES + 16], hash[CONTENT_HASH_TEXT_BYTES],
        expected[CONTENT_HASH_TEXT_BYTES];
    snprintf(path, sizeof(path), "%s/a", directory);
    hash_of(expected, "first", 5);
    assert_int_equal(file_write(path, "first", 5, 0600, NULL), STATUS_OK);
    assert_int_equal(content_hash_file(hash, path, NULL, NULL, NULL), STATUS_OK);
    assert_string_equal(hash, expected);
    assert_int_equal(n_entries(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_was_taken_is_found, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_what_has_changed_is_not_found_and_goes, make_directory,
                                        remove_directory),
        cmocka_unit_test_setup_teardown(test_nothing_stays_of_what_did_not_come_right,
                                        make_directory, remove_directory),
        cmocka_unit_test_setup_teardown(test_leftovers_of_others_go_with_the_next_push,
                                        make_directory, remove_directory),
        cmocka_unit_test(test_sets_are_not_believed),
        cmocka_unit_test_setup_teardown(test_hashes_need_no_memory, make_directory,
                                        remove_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
