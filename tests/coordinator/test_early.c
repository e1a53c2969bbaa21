/* test_early.c - requests come out as they came; of silent clients, each once, with its name. */
#include "coordinator/early.h"

#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

static const struct frames_peer ours = {.n = 2, .bytes = "us"}, theirs = {.n = 4, .bytes = "them"};

static void add(struct early *early, const struct frames_peer *client, uint64_t number)
{
    assert_int_equal(early_add(early, client, number, "bytes", 5, 1000, "something", NULL),
                     STATUS_OK);
}

static void test_a_silent_client_is_named(void **state)
{
    struct early early = {0};
    struct frames_peer client;
    uint64_t number;
    (void)state;
    add(&early, &theirs, 1);
    add(&early, &ours, 2);
    add(&early, &theirs, 3);
    assert_false(early_drop_silent(&early, 1000, &client, &number));
    early_heard(&early, &ours, 5000);
    for (uint64_t n = 1; n <= 3; n += 2) {
        assert_true(early_drop_silent(&early, 5000, &client, &number));
        assert_true(number == n && frames_same_peer(&client, &theirs));
    }
    assert_false(early_drop_silent(&early, 5000, &client, &number));
    struct early_request *left = early_take(&early);
    assert_non_null(left);
    assert_true(left->number == 2 && left->n_bytes == 5 && memcmp(left->bytes, "bytes", 5) == 0);
    assert_null(early_take(&early));
    free(left);
}

/* Clients may ask before the cluster is ready: what they sent is bounded as a whole. */
static void test_many_bytes_are_refused(void **state)
{
    const size_t half = EARLY_MAX_BYTES / 2;
    void *bytes = calloc(1, EARLY_MAX_BYTES + 1);
    struct early early = {0};
    struct error error;
    (void)state;
    assert_non_null(bytes);
    for (uint64_t n = 1; n <= 2; n++)
        assert_int_equal(early_add(&early, &ours, n, bytes, half, 1000, "something", NULL),
                         STATUS_OK);
    assert_int_equal(early_add(&early, &theirs, 3, bytes, 1, 1000, "something", &error),
                     STATUS_EXHAUSTED);
    assert_non_null(strstr(error.text, "2 requests wait for something already"));
    early_drop(&early, &ours, false, 1);
    add(&early, &theirs, 3);
    for (struct early_request *request; (request = early_take(&early)) != NULL;)
        free(request);
    assert_int_equal(early_add(&early, &ours, 4, bytes, EARLY_MAX_BYTES + 1, 1000, "", NULL),
                     STATUS_OK); /* one is kept whatever it has */
    assert_int_equal(early_add(&early, &theirs, 5, bytes, 1, 1000, "", NULL), STATUS_EXHAUSTED);
    early_drop(&early, &ours, true, 0);
    assert_null(early_take(&early));
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_silent_client_is_named),
        cmocka_unit_test(test_many_bytes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
