/* The vocabulary is checked, the real ones pass all their cases, any text comes back, and long
 * texts take no more than their length's share of time. */
#include "model/detokenizer.h"
#include "tests/cmocka.h"
#include "tests/model/fixtures.h"

#include <time.h>

static void refused(const struct vocabulary *v, enum status expected, const char *word)
{
    struct tokenizer *tokenizer = NULL;
    struct error error = {0};
    const enum status status = open_vocabulary(&tokenizer, v, &error);
    if (status != expected || strstr(error.text, word) == NULL)
        fail_msg("expected %s with '%s', got %s: %s", status_name(expected), word,
                 status_name(status), error.text);
    assert_null(tokenizer);
}

static void test_unknown_kinds_are_refused_by_name(void **state)
{
    static struct vocabulary v;
    bpe_vocabulary(&v, "gpt-2");
    v.model = "bert";
    refused(&v, STATUS_UNSUPPORTED, "'bert'");
    refused(&v, STATUS_UNSUPPORTED, "llama, gpt2");
    bpe_vocabulary(&v, "kimi-k2");
    refused(&v, STATUS_UNSUPPORTED, "'kimi-k2'");
    refused(&v, STATUS_UNSUPPORTED, "llama-bpe");
    bpe_vocabulary(&v, NULL);
    add_token(&v, "ab", 0, TOKENIZER_TYPE_NORMAL);
    add_merge(&v, "a b");
    refused(&v, STATUS_UNSUPPORTED, "tokenizer.ggml.pre is missing");
    fixture_write(fixture_path("none.gguf"), "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
    struct model_file *file = fixture_open(fixture_path("none.gguf"));
    struct tokenizer *tokenizer = NULL;
    assert_int_equal(tokenizer_open(&tokenizer, file, NULL), STATUS_UNSUPPORTED);
    model_close(file);
}

static void test_vocabularies_that_do_not_hold_together_are_refused(void **state)
{
    static struct vocabulary v;
    static char long_name[65537];
    spm_vocabulary(&v);
    v.n_scores = v.n - 1;
    refused(&v, STATUS_INVALID, "scores");
    spm_vocabulary(&v);
    v.no_scores = true;
    refused(&v, STATUS_INVALID, "scores");
    spm_vocabulary(&v);
    v.scores[7] = (float)(1e300 * 1e300) * 0; /* NaN */
    refused(&v, STATUS_INVALID, "not a number");
    spm_vocabulary(&v);
    v.n_types = v.n + 1;
    refused(&v, STATUS_INVALID, "types");
    spm_vocabulary(&v);
    v.types[5] = 7;
    refused(&v, STATUS_INVALID, "type 7");
    v.types[5] = -1;
    refused(&v, STATUS_INVALID, "type -1");
    spm_vocabulary(&v);
    v.bos = 259;
    refused(&v, STATUS_INVALID, "bos_token_id");
    spm_vocabulary(&v);
    v.types[0] = TOKENIZER_TYPE_BYTE;
    refused(&v, STATUS_INVALID, "<0xNN>");
    bpe_vocabulary(&v, "gpt-2");
    add_merge(&v, "a b");
    refused(&v, STATUS_INVALID, "the whole");
    bpe_vocabulary(&v, "gpt-2");
    add_merge(&v, "a bc");
    refused(&v, STATUS_INVALID, "the right part");
    bpe_vocabulary(&v, "gpt-2");
    add_merge(&v, "ab");
    refused(&v, STATUS_INVALID, "two parts");
    v.merges[0].n_bytes = 0;
    refused(&v, STATUS_INVALID, "two parts");
    bpe_vocabulary(&v, "gpt-2");
    v.add_bos = 1;
    refused(&v, STATUS_INVALID, "add_bos_token");
    bpe_vocabulary(&v, "gpt-2");
    v.n = 0;
    refused(&v, STATUS_INVALID, "0 tokens");
    bpe_vocabulary(&v, "gpt-2");
    memset(long_name, 'x', sizeof(long_name) - 1);
    add_token(&v, long_name, 0, TOKENIZER_TYPE_NORMAL);
    refused(&v, STATUS_INVALID, "65536 bytes");
}

static void test_ids_that_end_generation(void **state)
{
    static struct vocabulary v;
    bpe_vocabulary(&v, NULL);
    const int32_t eot = add_token(&v, "<|eot_id|>", 0, TOKENIZER_TYPE_CONTROL);
    const int32_t plain = add_token(&v, "</s>", 0, TOKENIZER_TYPE_NORMAL);
    v.eos = add_token(&v, "stop", 0, TOKENIZER_TYPE_CONTROL);
    struct tokenizer *t = good_vocabulary(&v);
    assert_true(tokenizer_is_end_of_generation(t, eot));
    assert_true(tokenizer_is_end_of_generation(t, v.eos));
    assert_false(tokenizer_is_end_of_generation(t, plain));
    assert_false(tokenizer_is_end_of_generation(t, 'a'));
    assert_false(tokenizer_is_end_of_generation(t, -1));
    assert_false(tokenizer_is_end_of_generation(t, 1 << 30));
    assert_int_equal(tokenizer_eos(t), v.eos);
    assert_int_equal(tokenizer_bos(t), TOKENIZER_NONE);
    assert_int_equal(tokenizer_vocab(t), v.n);
    assert_int_equal(tokenizer_find(t, "stop", 4), v.eos);
    assert_int_equal(tokenizer_find(t, "none", 4), TOKENIZER_NONE);
    assert_int_equal(tokenizer_token_type(t, eot), TOKENIZER_TYPE_CONTROL);
    assert_null(tokenizer_token_name(t, -1).data);
    assert_null(tokenizer_token_bytes(t, (int32_t)v.n).data);
    assert_true(model_string_equals(tokenizer_token_name(t, ' '), "\xc4\xa0"));
    assert_true(model_string_equals(tokenizer_token_bytes(t, ' '), " "));
    tokenizer_close(t);
    tokenizer_close(NULL);
}

static void test_who_is_told_to_stop_stops(void **state)
{
    static struct vocabulary v;
    atomic_bool stop = false;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    struct error error = {0};
    bpe_vocabulary(&v, NULL);
    struct tokenizer *t = good_vocabulary(&v);
    check_ok(tokenizer_encode_until(t, "ab", 2, 0, &stop, &ids, &n_ids, &error), &error);
    assert_true(n_ids > 0);
    free(ids);
    ids = NULL;
    atomic_store(&stop, true);
    assert_int_equal(tokenizer_encode_until(t, "ab", 2, 0, &stop, &ids, &n_ids, &error),
                     STATUS_CANCELLED);
    assert_null(ids);
    tokenizer_close(t);
}

/* ---- the real vocabularies ------------------------------------------------------------------ */

static struct tokenizer *real_vocabulary(const char *name)
{
    char path[256];
    struct tokenizer *tokenizer = NULL;
    struct error error = {0};
    snprintf(path, sizeof(path), SHARED_DATA "/vocabs/ggml-vocab-%s.gguf", name);
    if (access(path, R_OK) != 0) {
        print_message("%s is absent\n", path);
        skip();
    }
    struct model_file *file = fixture_open(path);
    check_ok(tokenizer_open(&tokenizer, file, &error), &error);
    model_close(file);
    return tokenizer;
}

/* Text N of NAME.gguf.inp gives line N of NAME.gguf.out. */
static void run_cases(const char *name)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char path[256];
    size_t n_texts, n_lines, cases = 0;
    struct tokenizer *tokenizer = real_vocabulary(name);
    snprintf(path, sizeof(path), SHARED_DATA "/vocabs/ggml-vocab-%s.gguf.inp", name);
    char *texts = fixture_read(path, &n_texts);
    snprintf(path, sizeof(path), SHARED_DATA "/vocabs/ggml-vocab-%s.gguf.out", name);
    char *lines = fixture_read(path, &n_lines), *line = lines;
    assert_non_null(texts);
    assert_non_null(lines);
    for (char *text = texts, *end; (end = strstr(text, separator)) != NULL; cases++) {
        int32_t expected[1024];
        size_t n = 0;
        char *line_end = strchr(line, '\n');
        assert_non_null(line_end);
        *line_end = '\0';
        for (char *at = line, *after;; at = after) {
            const long id = strtol(at, &after, 10);
            if (after == at)
                break;
            assert_true(n < 1024);
            expected[n++] = (int32_t)id;
        }
        *end = '\0';
        expect_ids(tokenizer, text, (size_t)(end - text), 0, expected, n);
        text = end + sizeof(separator) - 1;
        line = line_end + 1;
    }
    assert_true(cases > 40);
    assert_int_equal(*line, '\0'); /* no line left over */
    free(texts);
    free(lines);
    tokenizer_close(tokenizer);
}

static void test_all_cases_of_gpt_2(void **state)
{
    run_cases("gpt-2");
}

static void test_all_cases_of_llama_spm(void **state)
{
    run_cases("llama-spm");
}

static void expect_round_trip(const struct tokenizer *t, const char *text, size_t n)
{
    int32_t *ids;
    size_t n_ids, n_back;
    char *back;
    struct error error = {0};
    check_ok(tokenizer_encode(t, text, n, TOKENIZER_ADD_SPECIAL, &ids, &n_ids, &error), &error);
    check_ok(detokenizer_text(t, ids, n_ids, DETOKENIZER_TEXT_START | DETOKENIZER_RAW, &back,
                              &n_back, &error),
             &error);
    assert_int_equal(n, n_back);
    assert_memory_equal(text, back, n);
    free(ids);
    free(back);
}

static const char *const real[] = {"gpt-2", "llama-spm"};

static void test_whole_books_come_back(void **state)
{
    static const char *const books[] = {SHARED_DATA "/texts/war-and-peace.txt",
                                        SHARED_DATA "/texts/shakespeare.txt"};
    for (size_t i = 0; i < 2; i++) {
        struct tokenizer *t = real_vocabulary(real[i]);
        for (size_t k = 0; k < 2; k++) {
            size_t n;
            char *text = fixture_read(books[k], &n);
            if (text == NULL) {
                tokenizer_close(t);
                skip();
            }
            expect_round_trip(t, text, n);
            free(text);
        }
        tokenizer_close(t);
    }
}

/* Every byte value, in random order: mostly not UTF-8. U+2581 itself, which SentencePiece turns
 * into a space, cannot come out of it by chance: its second byte is left out. */
static void test_any_bytes_come_back(void **state)
{
    static char text[20000];
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof(text); i++) {
        x = x * 1664525 + 1013904223;
        text[i] = (char)(x >> 24);
        if ((uint8_t)text[i] == 0x96)
            text[i] = 'a';
    }
    for (size_t i = 0; i < 2; i++) {
        struct tokenizer *t = real_vocabulary(real[i]);
        expect_round_trip(t, text, sizeof(text));
        for (size_t n = 0; n < 200; n++)
            expect_round_trip(t, text + 3 * n, n);
        tokenizer_close(t);
    }
}

static double encode_seconds(const struct tokenizer *t, const char *text, size_t n)
{
    int32_t *ids;
    size_t n_ids;
    struct error error = {0};
    struct timespec begin, end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    check_ok(tokenizer_encode(t, text, n, 0, &ids, &n_ids, &error), &error);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    free(ids);
    return (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
}

/* A quadratic algorithm takes 64 times as long for 8 times the text; n log n takes about 10. */
static void test_time_grows_with_the_text(void **state)
{
    static const char *const units[] = {"a", " ",   "\n", "ab", "a ", " \n", "\xe6\x88\x91",
                                        "1", "\xff"};
    enum { SMALL = 50000, LARGE = 8 * SMALL };
    static char text[LARGE]; /* where there is no vocabulary the test ends in its midst */
    for (size_t i = 0; i < 2; i++) {
        struct tokenizer *t = real_vocabulary(real[i]);
        for (size_t k = 0; k < sizeof(units) / sizeof(units[0]); k++) {
            const size_t n = strlen(units[k]);
            for (size_t at = 0; at < LARGE; at++)
                text[at] = units[k][at % n];
            double small = 1, large = 1;
            for (int turn = 0; turn < 3; turn++) { /* the best of three: the machine is shared */
                const double s = encode_seconds(t, text, SMALL), l = encode_seconds(t, text, LARGE);
                small = s < small ? s : small;
                large = l < large ? l : large;
            }
            if (large > 30 * small + 0.01)
                fail_msg("%s, '%s': %g s for %d bytes, %g s for %d", real[i], units[k], small,
                         SMALL, large, LARGE);
        }
        tokenizer_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_kinds_are_refused_by_name),
        cmocka_unit_test(test_vocabularies_that_do_not_hold_together_are_refused),
        cmocka_unit_test(test_ids_that_end_generation),
        cmocka_unit_test(test_who_is_told_to_stop_stops),
        cmocka_unit_test(test_all_cases_of_gpt_2),
        cmocka_unit_test(test_all_cases_of_llama_spm),
        cmocka_unit_test(test_whole_books_come_back),
        cmocka_unit_test(test_any_bytes_come_back),
        cmocka_unit_test(test_time_grows_with_the_text),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
