/* test_words.c - command lines arrive as they were meant. */
#include "cluster/words.h"

#include "tests/cmocka.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_a_shell_reads_the_same_words_again(void **state)
{
    static const char *const hard[] = {"plain", "",   "two words", "it's", "$HOME", "a\nb",
                                       "*",     "-x", "\\",        "'",    "~",     "é;&|"};
    const size_t n = sizeof(hard) / sizeof(hard[0]);
    struct words words = {0};
    words_add_list(&words, "printf", "%s|", (char *)NULL);
    for (size_t i = 0; i < n; i++)
        words_add(&words, hard[i]);
    char *line = words_quoted(words.argv), said[512], expected[512] = "";
    assert_false(words.failed);
    FILE *stream = popen(line, "r");
    assert_non_null(stream);
    said[fread(said, 1, sizeof(said) - 1, stream)] = '\0';
    assert_int_equal(pclose(stream), 0);
    for (size_t i = 0; i < n; i++)
        snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected), "%s|", hard[i]);
    assert_string_equal(said, expected);
    free(line);
    words_free(&words);
}

static void test_plain_words_need_no_quotes(void **state)
{
    static const char *const quoted[] = {"", "a b", "a;b", "$x", "a\tb", "~", "`x`", "a(b", "a\\b"};
    assert_true(words_is_plain("/opt/open-mpi_4.1+é/a=b,c:d@e%f"));
    for (size_t i = 0; i < sizeof(quoted) / sizeof(quoted[0]); i++)
        assert_false(words_is_plain(quoted[i]));
}

static void test_absent_values_add_nothing(void **state)
{
    struct words words = {0};
    words_add(&words, "x");
    words_add_text(&words, "--a", NULL);
    words_add_text(&words, "--b", "");
    words_add_number(&words, "--c", 0);
    words_add_bytes(&words, "--d", 0);
    words_add_flag(&words, "--e", false);
    assert_int_equal(words.n, 1);
    words_add_number(&words, "--f", 7);
    words_add_bytes(&words, "--g", (uint64_t)3 << 30);
    words_add_bytes(&words, "--h", 1025);
    char *line = words_quoted(words.argv);
    assert_string_equal(line, "x --f 7 --g 3GiB --h 1025");
    free(line);
    words_free(&words);
    assert_null(words.argv);
}

static void test_programs_are_found_as_exec_does(void **state)
{
    assert_true(words_on_path("sh"));
    assert_false(words_on_path("no-such-program"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_shell_reads_the_same_words_again),
        cmocka_unit_test(test_plain_words_need_no_quotes),
        cmocka_unit_test(test_absent_values_add_nothing),
        cmocka_unit_test(test_programs_are_found_as_exec_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
