/* test_body.c - bodies have a size each and one together; short ones have a place whatever there is;
 * what was given back is there again. */
#include "coordinator/http/body.h"

#include "tests/cmocka.h"

#include <string.h>

static char part[BODY_FREE_BYTES];

static struct body_limits limits_of(uint64_t each, uint64_t all)
{
    struct body_limits limits = {.each = each, .all = all};
    memset(part, ' ', sizeof(part));
    return limits;
}

static bool add(struct body *body, struct body_limits *limits, size_t n_parts,
                struct api_error *error)
{
    for (size_t i = 0; i < n_parts; i++)
        if (!body_add(body, limits, part, sizeof(part), error))
            return false;
    return true;
}

static void test_one_body_has_a_limit(void **state)
{
    struct body_limits limits = limits_of(2 * sizeof(part), 100 * sizeof(part));
    struct body body = {0};
    struct api_error error;
    assert_true(add(&body, &limits, 2, &error));
    assert_false(body_add(&body, &limits, part, 1, &error));
    assert_int_equal(error.http, 413);
    assert_int_equal(body.text.n, 0);
    assert_int_equal(atomic_load(&limits.held), 0);
}

static void test_all_bodies_have_one_together(void **state)
{
    struct body_limits limits = limits_of(100 * sizeof(part), 4 * sizeof(part));
    struct body first = {0}, second = {0}, little = {0};
    struct api_error error;
    assert_true(add(&first, &limits, 3, &error));  /* 2 parts count */
    assert_true(add(&second, &limits, 3, &error)); /* all 4 are there */
    assert_false(body_add(&second, &limits, part, 1, &error));
    assert_int_equal(error.http, 503);
    assert_non_null(strstr(error.message, "--http-bodies"));
    assert_int_equal(second.text.n, 0); /* and has given its own back */
    assert_int_equal(atomic_load(&limits.held), 2 * sizeof(part));
    assert_true(add(&second, &limits, 3, &error));
    assert_true(add(&little, &limits, 1, &error)); /* does not count */
    assert_false(body_add(&little, &limits, part, 1, &error));
    body_drop(&first);
    assert_true(add(&little, &limits, 2, &error));
    body_drop(&second);
    body_drop(&little);
    assert_int_equal(atomic_load(&limits.held), 0);
}

static void test_what_is_read_counts_until_it_is_dropped(void **state)
{
    static const char object[] = "{\"a\": 1}";
    struct body_limits limits = limits_of(100 * sizeof(part), 4 * sizeof(part));
    struct body body = {0};
    struct api_error error;
    assert_true(add(&body, &limits, 2, &error));
    assert_true(body_add(&body, &limits, object, strlen(object), &error));
    json_t *json = body_object(&body, NULL, &error);
    assert_int_equal(json_integer_value(json_object_get(json, "a")), 1);
    assert_null(body.text.bytes);
    assert_int_equal(atomic_load(&limits.held), sizeof(part) + strlen(object));
    json_decref(json);
    body_drop(&body);
    assert_int_equal(atomic_load(&limits.held), 0);

    assert_null(body_object(&body, NULL, &error)); /* nothing came */
    assert_int_equal(error.http, 400);
    assert_true(body_add(&body, &limits, "[1]", 3, &error));
    assert_null(body_object(&body, NULL, &error));
    assert_int_equal(error.http, 400);
    body_drop(&body);
}

/* Memory for each of these is many times its two bytes. */
static bool has_objects(size_t n, struct api_error *error)
{
    struct body_limits limits = limits_of(UINT64_MAX, UINT64_MAX);
    static const char first[] = "{\"[[[\\\"[\":[{}"; /* a name is no array */
    struct body body = {0};
    bool good = body_add(&body, &limits, first, strlen(first), error);
    for (size_t i = 1; good && i < n; i++)
        good = body_add(&body, &limits, ",{}", 3, error);
    assert_true(good && body_add(&body, &limits, "]}", 2, error));
    json_t *json = body_object(&body, NULL, error);
    good = json != NULL;
    json_decref(json);
    body_drop(&body);
    return good;
}

static void test_a_body_has_only_so_many_objects(void **state)
{
    struct api_error error;
    assert_true(has_objects(BODY_MOST_CONTAINERS - 2, &error)); /* beside its own two */
    assert_false(has_objects(BODY_MOST_CONTAINERS - 1, &error));
    assert_int_equal(error.http, 400);
    assert_non_null(strstr(error.message, "objects and arrays"));
}

/* Somebody who goes while his megabytes are parsed is parsed no further. */
static void test_nobody_waits_for_it(void **state)
{
    struct body_limits limits = limits_of(100 * sizeof(part), 100 * sizeof(part));
    struct body body = {0};
    struct api_error error;
    atomic_bool stop = true;
    assert_true(body_add(&body, &limits, "{\"a\": 1}", 8, &error));
    assert_null(body_object(&body, &stop, &error));
    assert_int_equal(error.http, 503);
    assert_null(body.text.bytes);
    body_drop(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_body_has_a_limit),
        cmocka_unit_test(test_all_bodies_have_one_together),
        cmocka_unit_test(test_what_is_read_counts_until_it_is_dropped),
        cmocka_unit_test(test_a_body_has_only_so_many_objects),
        cmocka_unit_test(test_nobody_waits_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
