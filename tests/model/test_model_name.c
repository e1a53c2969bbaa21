/* A model has the same name as a file, as files and as a directory. */
#include "model/model_name.h"
#include "tests/cmocka.h"

static void test_names(void **state)
{
    static const char *const cases[][2] = {
        {"/m/a-8b.gguf", "a-8b"},
        {"a-8b.gguf", "a-8b"},
        {"/m/a-8b", "a-8b"},
        {"/m/a-8b//", "a-8b"},
        {"m/a-8b-00002-of-00003.gguf", "a-8b"},
        {"m/a-8b-00002-of-00003", "a-8b-00002-of-00003"},
        {"m/-00002-of-00003.gguf", "-00002-of-00003"},
        {"m/a-0000x-of-00003.gguf", "a-0000x-of-00003"},
        {".gguf", ".gguf"},
        {"/", ""},
        {"", ""},
        {".", "."},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (!model_string_equals(model_name(cases[i][0]), cases[i][1]))
            fail_msg("%s is not called '%s'", cases[i][0], cases[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
