/* test_make_haystack.c - the text has the asked length, one answer, and the same bytes each time.
 */
#include "cluster/make_haystack.h"
#include "tests/cmocka.h"
#include "tests/directory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *write_and_read(const struct make_haystack_options *options,
                            struct make_haystack_answer *answer, size_t *size)
{
    char path[FILE_PATH_BYTES + 8], *text = NULL;
    struct error error;
    snprintf(path, sizeof(path), "%s/text", directory);
    assert_int_equal(make_haystack(path, options, answer, &error), STATUS_OK);
    assert_int_equal(file_read(path, 1 << 28, &text, size, &error), STATUS_OK);
    return text;
}

static uint32_t count(const char *text, const char *part)
{
    uint32_t n = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part))
        n++;
    return n;
}

static void test_each_question_has_one_answer_where_it_was_asked_for(void **state)
{
    const uint32_t depths[] = {0, 25, 50, 75, 99};
    for (uint32_t n_tokens = 1000; n_tokens <= 131009; n_tokens = n_tokens * 3 + 7)
        for (uint32_t question = 0; question < 5; question++) {
            struct make_haystack_options options = {
                .n_tokens = n_tokens, .seed = n_tokens, .n_needles = 5, .question = question};
            memcpy(options.depths, depths, sizeof(depths));
            struct make_haystack_answer answer;
            size_t size;
            char *text = write_and_read(&options, &answer, &size), needle[256];
            assert_int_equal(size, n_tokens - 1);
            assert_string_equal(text + size - strlen(answer.question), answer.question);
            snprintf(needle, sizeof(needle), "%s %s.", answer.question, answer.answer);
            assert_int_equal(count(text, needle), 1);
            assert_int_equal(count(text, answer.answer), 1);
            assert_int_equal(count(text, "The password of"), 6);
            assert_int_equal(count(text, answer.question), 2);
            const double depth = 100.0 * (double)(strstr(text, needle) - text) / (double)size;
            if (n_tokens > 10000) /* a paragraph is then less than a tenth */
                assert_true(depth > depths[question] - 1.5 && depth < depths[question] + 5.0);
            free(text);
        }
}

static void test_the_text_before_does_not_depend_on_the_question(void **state)
{
    struct make_haystack_options options = {
        .n_tokens = 5000, .seed = 3, .n_needles = 3, .depths = {10, 50, 90}};
    struct make_haystack_answer answer;
    size_t size;
    char *first = write_and_read(&options, &answer, &size);
    options.question = 2;
    char *second = write_and_read(&options, &answer, &size);
    size_t same = 0;
    while (same < size && first[same] == second[same])
        same++;
    assert_true(same > size - 64); /* a question's length */
    free(first);
    free(second);
}

static void test_a_seed_means_one_text_and_another_seed_other_words(void **state)
{
    struct make_haystack_options options = {.n_tokens = 5000, .n_needles = 1, .depths = {37}};
    struct make_haystack_answer answer, again, longer;
    size_t size;
    char last[MAKE_HAYSTACK_TEXT_BYTES] = "";
    for (options.seed = 0; options.seed < 5; options.seed++) {
        char *first = write_and_read(&options, &answer, &size);
        char *second = write_and_read(&options, &again, &size);
        assert_string_equal(first, second);
        free(second);
        free(first);
        options.n_tokens *= 2;
        free(write_and_read(&options, &longer, &size));
        options.n_tokens /= 2;
        assert_string_equal(answer.answer, longer.answer);
        assert_string_not_equal(answer.answer, last);
        snprintf(last, sizeof(last), "%s", answer.answer);
    }
}

static void test_what_cannot_be_is_refused(void **state)
{
    struct make_haystack_answer answer;
    struct error error;
    struct make_haystack_options options = {.n_tokens = 100, .n_needles = 1};
    assert_int_equal(make_haystack("/dev/null", &options, &answer, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "100"));
    options = (struct make_haystack_options){.n_tokens = 5000, .n_needles = 1, .depths = {100}};
    assert_int_equal(make_haystack("/dev/null", &options, &answer, &error), STATUS_INVALID);
    options = (struct make_haystack_options){.n_tokens = 5000, .n_needles = 2, .question = 2};
    assert_int_equal(make_haystack("/dev/null", &options, &answer, &error), STATUS_INVALID);
    options = (struct make_haystack_options){.n_tokens = 5000, .n_needles = 9};
    assert_int_equal(make_haystack("/dev/null", &options, &answer, &error), STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_question_has_one_answer_where_it_was_asked_for),
        cmocka_unit_test(test_the_text_before_does_not_depend_on_the_question),
        cmocka_unit_test(test_a_seed_means_one_text_and_another_seed_other_words),
        cmocka_unit_test(test_what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
