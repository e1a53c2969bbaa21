/* test_keys.c - who has one of the keys is admitted, and nobody else. */
#include "coordinator/http/keys.h"

#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum status read_text(struct keys **keys, const char *text, struct error *error)
{
    char path[] = "/tmp/longspan-test-XXXXXX";
    const int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), strlen(text));
    close(file);
    const enum status status = keys_read(keys, path, error);
    unlink(path);
    return status;
}

static void test_only_whole_keys_are_admitted(void **state)
{
    struct keys *keys = NULL;
    assert_int_equal(read_text(&keys, "# first\nsk-one\r\n\n  \nsk-two", NULL), STATUS_OK);
    static const char *const good[] = {"Bearer sk-one", "bearer sk-two", "BEARER sk-two"};
    static const char *const bad[] = {"",
                                      "Bearer",
                                      "Bearer ",
                                      "sk-one",
                                      "Bearer sk",
                                      "Bearer sk-one ",
                                      "Bearer sk-ones",
                                      "Bearer # first",
                                      "Basic sk-one",
                                      "Bearer  sk-one"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(keys_admit(keys, good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(keys_admit(keys, bad[i]));
    assert_false(keys_admit(keys, NULL));
    keys_destroy(keys);
}

static void test_without_keys_anybody_is(void **state)
{
    assert_true(keys_admit(NULL, NULL));
    assert_true(keys_admit(NULL, "Bearer anything"));
    keys_destroy(NULL);
}

static void test_files_without_keys_are_refused(void **state)
{
    struct keys *keys = NULL;
    struct error error;
    static const char *const bad[] = {"",          "\n\n",           "# none\n", "two words\n",
                                      "sk-\x01\n", "good\nb\xc3\xa4"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(read_text(&keys, bad[i], &error), STATUS_INVALID);
    assert_int_equal(keys_read(&keys, "/nonexistent", &error), STATUS_NOT_FOUND);
    assert_null(keys);
}

static void test_a_text_has_keys_too(void **state)
{
    struct keys *keys = NULL;
    struct error error;
    assert_int_equal(keys_parse(&keys, "two words", "VARIABLE", &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "VARIABLE:1: "));
    assert_int_equal(keys_parse(&keys, "sk-one", "VARIABLE", &error), STATUS_OK);
    assert_true(keys_admit(keys, "Bearer sk-one") && !keys_admit(keys, "Bearer sk-two"));
    keys_destroy(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_whole_keys_are_admitted),
        cmocka_unit_test(test_without_keys_anybody_is),
        cmocka_unit_test(test_files_without_keys_are_refused),
        cmocka_unit_test(test_a_text_has_keys_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
