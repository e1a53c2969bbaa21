/* test_schemas.c - a schema is worked out once, beside whoever asks, and found again. */
#include "coordinator/schemas.h"

#include "tests/cmocka.h"
#include "tests/coordinator/http/byte_tokenizer.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

static struct schemas *open_schemas(const struct tokenizer *tokenizer)
{
    struct schemas *schemas = NULL;
    assert_int_equal(schemas_create(&schemas, tokenizer, NULL), STATUS_OK);
    assert_false(schemas_worked(schemas));
    return schemas;
}

/* Asks until it is worked out; *n_waits: how often it was not. */
static enum status ask(struct schemas *schemas, const char *text, const struct constraint **first,
                       int *n_waits, struct error *error)
{
    for (*n_waits = 0;; ++*n_waits) {
        const enum status status = schemas_find(schemas, text, first, error);
        if (status != STATUS_OK || *first != NULL)
            return status;
        struct pollfd bell = {.fd = schemas_descriptor(schemas), .events = POLLIN};
        assert_int_equal(poll(&bell, 1, 20000), 1);
        assert_true(schemas_worked(schemas));
    }
}

static void test_a_schema_is_worked_out_once(void **state)
{
    struct schemas *schemas = open_schemas(*state);
    const struct constraint *first = NULL, *again = NULL;
    struct error error;
    int n_waits;
    assert_int_equal(ask(schemas, "{\"type\":\"integer\"}", &first, &n_waits, &error), STATUS_OK);
    assert_int_equal(n_waits, 1);
    schemas_settle(schemas);
    assert_int_equal(ask(schemas, "{\"type\":\"integer\"}", &again, &n_waits, &error), STATUS_OK);
    assert_int_equal(n_waits, 0);
    assert_ptr_equal(first, again);

    struct constraint *one = NULL;
    assert_int_equal(constraint_again(&one, first, &error), STATUS_OK);
    assert_true(constraint_accept(one, 3 + '7'));
    assert_false(constraint_accept(one, 3 + 'x'));

    assert_int_equal(ask(schemas, "", &again, &n_waits, &error), STATUS_OK); /* any object */
    assert_int_equal(n_waits, 1);
    assert_true(constraint_shortest(again) >= 2);
    constraint_destroy(one);
    schemas_destroy(schemas);
}

static void test_why_there_is_none_is_remembered(void **state)
{
    struct schemas *schemas = open_schemas(*state);
    const struct constraint *first;
    struct error error;
    int n_waits;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ask(schemas, "{\"type\":", &first, &n_waits, &error), STATUS_INVALID);
        assert_int_equal(n_waits, 1 - i);
        assert_non_null(strstr(error.text, "the JSON schema, line 1"));
        assert_int_equal(ask(schemas, "{\"not\":{}}", &first, &n_waits, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "not"));
        schemas_settle(schemas);
    }
    schemas_destroy(schemas);
}

static void test_too_many_at_once_are_refused(void **state)
{
    struct schemas *schemas = open_schemas(*state);
    const struct constraint *first;
    struct error error;
    char text[64];
    int n_waits;
    for (int i = 0; i < SCHEMAS_MOST_ASKED; i++) {
        snprintf(text, sizeof(text), "{\"const\":%d}", i);
        assert_int_equal(schemas_find(schemas, text, &first, &error), STATUS_OK);
    }
    assert_int_equal(schemas_find(schemas, "{\"const\":\"more\"}", &first, &error),
                     STATUS_EXHAUSTED);
    assert_non_null(strstr(error.text, "64 JSON schemas"));
    assert_int_equal(ask(schemas, text, &first, &n_waits, &error), STATUS_OK); /* the last one */
    schemas_settle(schemas);
    assert_int_equal(ask(schemas, "{\"const\":\"more\"}", &first, &n_waits, &error), STATUS_OK);
    schemas_destroy(schemas);
}

/* Each takes a while: of 64, the first is worked out long before the others. */
static void test_who_asked_and_went_leaves_no_work(void **state)
{
    struct schemas *schemas = open_schemas(*state);
    const struct constraint *first;
    struct error error;
    for (int i = 0; i < SCHEMAS_MOST_ASKED; i++) {
        enum { WORDS = 4000 };
        static char text[64 + WORDS * 16];
        int n = snprintf(text, sizeof(text), "{\"enum\":[%d", i);
        for (int word = 0; word < WORDS; word++)
            n += snprintf(text + n, sizeof(text) - (size_t)n, ",\"word %d\"", word);
        snprintf(text + n, sizeof(text) - (size_t)n, "]}");
        assert_int_equal(schemas_find(schemas, text, &first, &error), STATUS_OK);
    }
    struct pollfd bell = {.fd = schemas_descriptor(schemas), .events = POLLIN};
    assert_int_equal(poll(&bell, 1, 20000), 1);
    assert_true(schemas_worked(schemas));
    assert_int_equal(schemas_find(schemas, "{\"const\":\"ours\"}", &first, &error),
                     STATUS_EXHAUSTED);
    schemas_settle(schemas); /* nobody has asked again */
    for (int i = 0; i < SCHEMAS_MOST_ASKED - 1; i++) {
        char text[64];
        snprintf(text, sizeof(text), "{\"const\":%d}", i);
        assert_int_equal(schemas_find(schemas, text, &first, &error), STATUS_OK);
    }
    schemas_destroy(schemas);
}

/* Many more than are remembered, all asked for before any is waited for. */
static void test_many_wait_for_theirs(void **state)
{
    enum { N = SCHEMAS_MOST_ASKED };
    struct schemas *schemas = open_schemas(*state);
    const struct constraint *first;
    struct error error;
    struct constraint *oldest = NULL;
    char text[N][64];
    int n_waits;
    for (int i = 0; i < N; i++) {
        snprintf(text[i], sizeof(text[i]), "{\"const\":%d}", i);
        assert_int_equal(schemas_find(schemas, text[i], &first, &error), STATUS_OK);
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(ask(schemas, text[i], &first, &n_waits, &error), STATUS_OK);
        if (i == 0)
            assert_int_equal(constraint_again(&oldest, first, &error), STATUS_OK);
    }
    schemas_settle(schemas);
    for (int i = 0; i < N; i++) /* those that were forgotten are worked out anew */
        assert_int_equal(ask(schemas, text[i], &first, &n_waits, &error), STATUS_OK);
    assert_true(
        constraint_accept(oldest, 3 + '0')); /* an answer to one that was forgotten goes on */
    constraint_destroy(oldest);
    assert_int_equal(schemas_find(schemas, "{\"const\":\"under way\"}", &first, &error), STATUS_OK);
    schemas_destroy(schemas);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_schema_is_worked_out_once),
        cmocka_unit_test(test_why_there_is_none_is_remembered),
        cmocka_unit_test(test_many_wait_for_theirs),
        cmocka_unit_test(test_too_many_at_once_are_refused),
        cmocka_unit_test(test_who_asked_and_went_leaves_no_work),
    };
    return cmocka_run_group_tests(tests, byte_tokenizer_open, byte_tokenizer_close);
}
