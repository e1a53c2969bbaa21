/* test_death.c - how a process ended is said, and becomes our exit code, as cluster/README.md
 * promises. */
#include "cluster/death.h"

#include "tests/cmocka.h"

#include <string.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_exit_statuses_become_ours)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
