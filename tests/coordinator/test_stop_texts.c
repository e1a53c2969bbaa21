/* test_stop_texts.c - a stop text is found wherever the answer is cut, and none of it gets out. */
#include "coordinator/stop_texts.h"

#include "sys/random.h"
#include "tests/cmocka.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct outcome {
    char text[512];
    size_t n;
    bool found;
};

/* Pushes `answer` in pieces of the given lengths (the last one repeats), then ends it. */
static struct outcome run(const char *const *stops, size_t n_stops, const char *answer,
                          const size_t *cuts, size_t n_cuts)
{
    struct stop_text texts[8];
    struct stop_texts *s = NULL;
    struct outcome o = {0};
    for (size_t i = 0; i < n_stops; i++)
        texts[i] = (struct stop_text){stops[i], strlen(stops[i])};
    assert_int_equal(stop_texts_create(&s, texts, n_stops, NULL), STATUS_OK);
    const size_t n = strlen(answer);
    const char *out;
    size_t n_out, pushed = 0;
    for (size_t i = 0; pushed < n && !o.found; i++) {
        size_t cut = cuts[i < n_cuts ? i : n_cuts - 1];
        cut = cut < n - pushed ? cut : n - pushed;
        assert_int_equal(stop_texts_push(s, answer + pushed, cut, &out, &n_out, &o.found, NULL),
                         STATUS_OK);
        pushed += cut;
        memcpy(o.text + o.n, out, n_out);
        o.n += n_out;
        assert_int_equal(o.n + stop_texts_held(s), pushed); /* nothing is lost, or made up */
    }
    if (!o.found) {
        assert_int_equal(stop_texts_end(s, "", 0, &out, &n_out, &o.found, NULL), STATUS_OK);
        memcpy(o.text + o.n, out, n_out);
        o.n += n_out;
        assert_int_equal(stop_texts_held(s), 0);
    }
    stop_texts_destroy(s);
    return o;
}

/* Where the first complete stop text begins; the length of the answer if there is none. */
static size_t first_stop(const char *const *stops, size_t n_stops, const char *answer, bool *found)
{
    const size_t n = strlen(answer);
    *found = false;
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (size_t i = 0; i < n_stops; i++) {
            const size_t m = strlen(stops[i]);
            if (m <= end && memcmp(answer + end - m, stops[i], m) == 0 && m > longest)
                longest = m;
        }
        if (longest > 0) {
            *found = true;
            return end - longest;
        }
    }
    return n;
}

static void check(const char *const *stops, size_t n_stops, const char *answer, const size_t *cuts,
                  size_t n_cuts)
{
    bool found;
    const size_t n = first_stop(stops, n_stops, answer, &found);
    const struct outcome o = run(stops, n_stops, answer, cuts, n_cuts);
    assert_int_equal(o.found, found);
    assert_int_equal(o.n, n);
    assert_memory_equal(o.text, answer, n);
}

static void test_a_stop_text_is_found_across_every_cut(void **state)
{
    static const char *const stops[] = {"\n\n", "END", "\xe2\x82\xac!"};
    static const char *const answers[] = {
        "abc\n\ndef", "abc\nEND", "costs 5 \xe2\x82\xac! more", "EEND", "EN\nEN\nD",
        "",           "E",        "no stop text at all"};
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
        for (size_t first = 1; first <= strlen(answers[i]) + 1; first++)
            for (size_t then = 1; then < 5; then++) {
                const size_t cuts[] = {first, then};
                check(stops, 3, answers[i], cuts, 2);
            }
}

/* Few letters, so that beginnings overlap in every way. */
static void test_random_texts_agree_with_a_plain_search(void **state)
{
    struct random_state random;
    random_seed(&random, 5);
    for (int round = 0; round < 20000; round++) {
        char words[3][8], answer[64];
        const char *stops[3];
        const size_t n_stops = 1 + random_below(&random, 3);
        for (size_t i = 0; i < n_stops; i++) {
            const size_t n = 1 + random_below(&random, 6);
            for (size_t j = 0; j < n; j++)
                words[i][j] = (char)('a' + random_below(&random, 2));
            words[i][n] = '\0';
            stops[i] = words[i];
        }
        const size_t n = random_below(&random, 40);
        for (size_t j = 0; j < n; j++)
            answer[j] = (char)('a' + random_below(&random, 2) + (random_below(&random, 8) == 0));
        answer[n] = '\0';
        const size_t cuts[] = {1 + random_below(&random, 5), 1 + random_below(&random, 9),
                               1 + random_below(&random, 3)};
        check(stops, n_stops, answer, cuts, 3);
    }
}

/* Nothing is held that cannot become a stop text any more. */
static void test_text_is_let_out_as_soon_as_it_is_certain(void **state)
{
    const struct stop_text text = {"stop", 4};
    struct stop_texts *s = NULL;
    const char *out;
    size_t n_out;
    bool found;
    assert_int_equal(stop_texts_create(&s, &text, 1, NULL), STATUS_OK);
    static const struct {
        const char *push, *out;
    } steps[] = {{"a", "a"}, {"s", ""}, {"t", ""}, {"a", "sta"}, {"sts", "st"}, {"to", ""}};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        assert_int_equal(
            stop_texts_push(s, steps[i].push, strlen(steps[i].push), &out, &n_out, &found, NULL),
            STATUS_OK);
        assert_int_equal(n_out, strlen(steps[i].out));
        assert_memory_equal(out, steps[i].out, n_out);
        assert_false(found);
    }
    assert_int_equal(stop_texts_push(s, "p and more", 10, &out, &n_out, &found, NULL), STATUS_OK);
    assert_true(found);
    assert_int_equal(n_out, 0);
    assert_int_equal(stop_texts_held(s), strlen("stop and more"));
    stop_texts_destroy(s);
}

static void test_no_stop_texts_change_nothing(void **state)
{
    struct stop_texts *s = (struct stop_texts *)&s;
    const char *out;
    size_t n_out;
    bool found;
    assert_int_equal(stop_texts_create(&s, NULL, 0, NULL), STATUS_OK);
    assert_null(s);
    assert_int_equal(stop_texts_push(s, "abc", 3, &out, &n_out, &found, NULL), STATUS_OK);
    assert_int_equal(n_out, 3);
    assert_int_equal(stop_texts_held(s), 0);
    assert_int_equal(stop_texts_end(s, "de", 2, &out, &n_out, &found, NULL), STATUS_OK);
    assert_int_equal(n_out, 2);
    assert_false(found);
}

static void test_bad_stop_texts_are_refused(void **state)
{
    static char long_one[STOP_TEXTS_MOST_BYTES + 1];
    static struct stop_text many[STOP_TEXTS_MOST + 1];
    struct stop_texts *s = NULL;
    const struct stop_text empty = {"", 0}, large = {long_one, sizeof(long_one)};
    for (size_t i = 0; i <= STOP_TEXTS_MOST; i++)
        many[i] = (struct stop_text){"x", 1};
    assert_int_equal(stop_texts_create(&s, &empty, 1, NULL), STATUS_INVALID);
    assert_int_equal(stop_texts_create(&s, &large, 1, NULL), STATUS_INVALID);
    assert_int_equal(stop_texts_create(&s, many, STOP_TEXTS_MOST + 1, NULL), STATUS_INVALID);
    assert_null(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stop_text_is_found_across_every_cut),
        cmocka_unit_test(test_random_texts_agree_with_a_plain_search),
        cmocka_unit_test(test_text_is_let_out_as_soon_as_it_is_certain),
        cmocka_unit_test(test_no_stop_texts_change_nothing),
        cmocka_unit_test(test_bad_stop_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
