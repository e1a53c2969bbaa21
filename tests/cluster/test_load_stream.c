/* test_load_stream.c - an event stream in pieces of any size; what is wrong in it is said. */
#include "cluster/load_stream.h"

#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

static const char good[] =
    ": a comment\n"
    "data: {\"choices\": [{\"text\": \"\", \"finish_reason\": null}]}\r\n"
    "\r\n"
    "data: {\"choices\": [{\"text\": \"Once\"}]}\n\n"
    "data:{\"choices\": [{\"delta\": {\"content\": \" upon\"}}]}\n\n"
    "data: {\"choices\": [{\"delta\": {}}], \"usage\": null}\n\n"
    "event: ignored\n"
    "data: {\"choices\": [{\"text\": \" a\"}]}\n\n"
    "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 9, \"completion_tokens\": 4,"
    " \"prompt_tokens_details\": {\"cached_tokens\": 5}}}\n\n"
    "data: [DONE]\n\n";

static void check_good(const struct load_stream *stream)
{
    assert_true(stream->done && stream->has_usage);
    assert_string_equal(stream->error, "");
    assert_int_equal(stream->n_gaps, 2); /* three pieces of text */
    assert_int_equal(stream->prompt_tokens, 9);
    assert_int_equal(stream->output_tokens, 4);
    assert_int_equal(stream->cached_tokens, 5);
}

static void test_pieces_of_any_size(void **state)
{
    for (size_t size = 1; size <= strlen(good); size++) {
        struct load_stream stream = {0};
        uint64_t now = 1000;
        for (size_t at = 0; at < strlen(good); at += size, now += 10) {
            const size_t left = strlen(good) - at;
            assert_true(load_stream_take(&stream, good + at, left < size ? left : size, now));
        }
        check_good(&stream);
        assert_true(stream.first_us >= 1000 && stream.last_us >= stream.first_us);
        const double gaps = stream.gaps_s[0] + stream.gaps_s[1];
        assert_true(gaps > (double)(stream.last_us - stream.first_us) * 1e-6 - 1e-9);
        load_stream_free(&stream);
    }
}

static void test_what_is_wrong_is_said(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"data: {\"error\": {\"message\": \"no\", \"code\": \"bad\"}}\n", "bad: no"},
        {"data: {\"error\": {\"message\": \"only words\"}}\n", "only words"},
        {"data: {\"error\": {}}\n", "an error without words"},
        {"data: {\"choi\n", "an event that is no JSON object"},
        {"data: 7\n", "an event that is no JSON object"},
        {"data: {\"choices\": 3, \"usage\": [], \"error\": \"x\"}\n", ""},
        {"data: {\"choices\": [{\"text\": 5}], \"usage\": {\"prompt_tokens\": -1}}\n", ""},
        {"data: [DONE", ""}, /* not whole */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct load_stream stream = {0};
        assert_true(load_stream_take(&stream, cases[i].text, strlen(cases[i].text), 5));
        assert_string_equal(stream.error, cases[i].error);
        assert_false(stream.done);
        assert_int_equal(stream.prompt_tokens, 0);
        load_stream_free(&stream);
    }
}

static void test_a_line_without_end_is_given_up(void **state)
{
    const size_t n = (size_t)1 << 20;
    char *bytes = malloc(n);
    struct load_stream stream = {0};
    uint32_t n_taken = 0;
    assert_non_null(bytes);
    memset(bytes, 'x', n);
    while (load_stream_take(&stream, bytes, n, 1) && n_taken < 100)
        n_taken++;
    assert_int_equal(n_taken, 16); /* MiB */
    load_stream_free(&stream);
    free(bytes);
}

static void test_a_refusal_is_explained(void **state)
{
    char text[LOAD_STREAM_ERROR_BYTES];
    static const char refusal[] = "{\"error\": {\"message\": \"full\", \"code\": \"queue_full\"}}";
    static const char other[] = "<html>Bad gateway</html>";
    load_stream_explain(text, refusal, strlen(refusal));
    assert_string_equal(text, "queue_full: full");
    load_stream_explain(text, other, strlen(other));
    assert_string_equal(text, other);
    load_stream_explain(text, other, 0);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_of_any_size),
        cmocka_unit_test(test_what_is_wrong_is_said),
        cmocka_unit_test(test_a_line_without_end_is_given_up),
        cmocka_unit_test(test_a_refusal_is_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
