/* test_death.c - how a process ended is said, and becomes our exit code, as cluster/README.md
 * promises. */
#include "cluster/death.h"

#include "tests/cmocka.h"

#include <string.h>
#include <unistd.h>

static void test_exit_statuses_become_ours(void **state)
{
    static const struct {
        int status, ours;
        const char *words;
    } cases[] = {{0, 4, "exit status 0"},    {1, 4, "exit status 1"}, {2, 2, "exit status 2"},
                 {3, 3, "exit status 3"},    {4, 4, "exit status 4"}, {127, 3, "not be started"},
                 {126, 3, "not be started"}, {255, 3, "ssh"},         {137, 4, "signal 9"},
                 {139, 4, "signal 11"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct launch_death death = {.label = "worker",
                                           .code = cases[i].status,
                                           .flags = LAUNCH_NEEDS_INPUT,
                                           .tail = "",
                                           .said = ""};
        char words[DEATH_WORDS_BYTES];
        assert_int_equal(death_explain(&death, words), cases[i].ours);
        assert_non_null(strstr(words, cases[i].words));
    }
}

/* What death_report prints on standard error, and what it says. */
static struct error report(int code, const char *tail, const char *said, const char *more,
                           char printed[256])
{
    const struct launch_death death = {
        .label = "coordinator", .code = code, .tail = tail, .said = said};
    struct error error = {0};
    int exit_code, ends[2], saved = dup(2);
    assert_int_equal(pipe(ends), 0);
    dup2(ends[1], 2);
    assert_int_equal(death_report(&death, more, &exit_code, &error), STATUS_FAILED);
    dup2(saved, 2);
    close(saved);
    close(ends[1]);
    const ssize_t got = read(ends[0], printed, 255);
    printed[got > 0 ? got : 0] = '\0';
    close(ends[0]);
    assert_int_equal(exit_code, code >= 2 && code <= 4 ? code : 4);
    return error;
}

static void test_who_said_why_it_ended_is_not_explained_again(void **state)
{
    static const struct {
        int code;
        const char *tail, *said, *more, *printed, *text;
    } cases[] = {
        {2, "coordinator: error: no file\n", "", "", "", "coordinator: no file"},
        {4, "worker 0: error: a\nworker 1: error: b\n", "", "it is lost", "worker 0: error: a\n",
         "worker 1: b; it is lost"},
        {4, "coordinator: error: it is lost\n", "", "it is lost", "", "coordinator: it is lost"},
        {2, "", "coordinator: error: no file\n", "", "", ""}, /* was shown as it came */
        {2, "", "coordinator: error: no file\n", "it is lost", "", "it is lost"},
        {2, "", "", "", "", "coordinator: ended with exit status 2"},
        {3, "some words\n", "some words\n", "", "some words\n",
         "coordinator: ended with exit status 3"},
        {137, "worker: error: a\n", "", "", "worker: error: a\n",
         "coordinator: ended by signal 9 (Killed)"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char printed[256];
        const struct error error =
            report(cases[i].code, cases[i].tail, cases[i].said, cases[i].more, printed);
        assert_string_equal(printed, cases[i].printed);
        assert_string_equal(error.text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exit_statuses_become_ours),
        cmocka_unit_test(test_who_said_why_it_ended_is_not_explained_again)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
