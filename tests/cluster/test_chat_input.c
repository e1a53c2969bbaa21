/* test_chat_input.c - lines arrive whole, however they were cut on the way. */
#include "cluster/chat_input.h"

#include "tests/cmocka.h"

#include <string.h>
#include <unistd.h>

static const struct line {
    const char *text;
    size_t n_bytes;
} lines[] = {{"first", 5}, {"", 0},        {"goes\non\n", 8},     {"back\\slash", 10},
             {"\\\nx", 3}, {"a\0b", 3},    {"crlf\ngoes on", 12}, {"", 0},
             {"one\r", 4}, {"no end\r", 7}};
static const char text[] = "first\n\ngoes\\\non\\\n\nback\\slash\n\\\\\nx\na\0b\n"
                           "crlf\\\r\ngoes on\r\n\r\none\r\r\nno end\r";

/* The text in pieces of so many bytes gives the lines. */
static void check_pieces(size_t piece)
{
    struct chat_input input = {0};
    int ends[2];
    size_t sent = 0, n_lines = 0;
    assert_int_equal(pipe(ends), 0);
    while (!input.ended) {
        const size_t left = sizeof(text) - 1 - sent, n = left < piece ? left : piece;
        if (n > 0)
            assert_int_equal(write(ends[1], text + sent, n), (ssize_t)n);
        else
            close(ends[1]);
        sent += n;
        assert_int_equal(chat_input_read(&input, ends[0], NULL), STATUS_OK);
        size_t n_bytes;
        for (const char *line; (line = chat_input_line(&input, &n_bytes)) != NULL; n_lines++) {
            assert_true(n_lines < sizeof(lines) / sizeof(lines[0]));
            assert_int_equal(n_bytes, lines[n_lines].n_bytes);
            assert_memory_equal(line, lines[n_lines].text, n_bytes + 1);
        }
    }
    assert_int_equal(n_lines, sizeof(lines) / sizeof(lines[0]));
    close(ends[0]);
    chat_input_free(&input);
}

static void test_lines_do_not_depend_on_the_pieces(void **state)
{
    for (size_t piece = 1; piece <= sizeof(text); piece++)
        check_pieces(piece);
}

static void test_nothing_gives_nothing(void **state)
{
    struct chat_input input = {0};
    struct error error;
    size_t n_bytes;
    int ends[2];
    assert_null(chat_input_line(&input, &n_bytes));
    assert_int_equal(pipe(ends), 0);
    close(ends[1]);
    assert_int_equal(chat_input_read(&input, ends[0], &error), STATUS_OK);
    assert_true(input.ended);
    assert_null(chat_input_line(&input, &n_bytes));
    close(ends[0]);
    assert_int_equal(chat_input_read(&input, -1, &error), STATUS_IO);
    assert_non_null(strstr(error.text, "standard input"));
    chat_input_free(&input);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_do_not_depend_on_the_pieces),
        cmocka_unit_test(test_nothing_gives_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
