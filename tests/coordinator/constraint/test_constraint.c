/* Masks over a vocabulary: what they allow is what may follow, they end in time, and kept masks are
 * those that would be made anew. */
#include "coordinator/constraint/constraint.h"
#include "model/gguf_writer.h"
#include "sys/file.h"
#include "sys/random.h"
#include "tests/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes that JSON needs, and tokens of several bytes, some of them in pieces of characters. */
static const char *const longer[] = {
    "{\"", "\":", "\": ",  "\",\"", "},{",  "}}", "[[",   "]]",   "true",     "null",    "abc",
    "key", "\\n", "\\u00", "123",   "\n  ", "e",  "\xc3", "\xa9", "\xc3\xa9", "\xf0\x9f"};
enum { N_LONGER = sizeof(longer) / sizeof(longer[0]), N_TOKENS = 128 + N_LONGER + 4 };

/* The name of a byte-level token. */
static size_t name_of(const char *bytes, char *name)
{
    size_t n = 0;
    for (; *bytes != '\0'; bytes++) {
        const unsigned byte = (unsigned char)*bytes;
        unsigned code = byte, hidden = 0;
        for (unsigned other = 0; other <= byte; other++) {
            const bool shown = (other >= 33 && other <= 126) || (other >= 161 && other != 173);
            if (!shown && other == byte)
                code = 256 + hidden;
            hidden += !shown;
        }
        if (code < 0x80) {
            name[n++] = (char)code;
        } else {
            name[n++] = (char)(0xc0 | (code >> 6));
            name[n++] = (char)(0x80 | (code & 0x3f));
        }
    }
    return n;
}

static struct tokenizer *tokenizer;
static struct vocabulary *vocabulary;

static void make_vocabulary(const struct model_string *names, const int32_t *types, uint32_t n,
                            struct tokenizer **to, struct vocabulary **of)
{
    char folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES + 32];
    struct gguf_writer *w = NULL;
    struct model_file *file = NULL;
    struct error error;
    assert_int_equal(file_make_temporary(folder, &error), STATUS_OK);
    snprintf(path, sizeof(path), "%s/vocabulary.gguf", folder);
    assert_int_equal(gguf_writer_create(&w, path, &error), STATUS_OK);
    gguf_writer_add_string(w, "tokenizer.ggml.model", "gpt2", &error);
    gguf_writer_add_string(w, "tokenizer.ggml.pre", "gpt-2", &error);
    gguf_writer_add_strings(w, "tokenizer.ggml.tokens", names, n, &error);
    gguf_writer_add_array(w, "tokenizer.ggml.token_type", GGUF_VALUE_I32, types, n, &error);
    gguf_writer_add_strings(w, "tokenizer.ggml.merges", names, 0, &error);
    gguf_writer_add_u32(w, "tokenizer.ggml.unknown_token_id", 0, &error);
    assert_int_equal(gguf_writer_finish(w, &error), STATUS_OK);
    assert_int_equal(model_open(&file, path, &error), STATUS_OK);
    if (tokenizer_open(to, file, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    model_close(file);
    file_remove_temporary(folder);
    if (vocabulary_create(of, *to, &error) != STATUS_OK)
        fail_msg("%s", error.text);
}

static int open_vocabulary(void **state)
{
    static char texts[N_TOKENS][64];
    struct model_string names[N_TOKENS];
    int32_t types[N_TOKENS];
    for (uint32_t id = 0; id < N_TOKENS; id++) {
        const char byte[2] = {(char)(id < 128 ? id : 0), '\0'};
        types[id] = TOKENIZER_TYPE_NORMAL;
        size_t n = id < 128              ? name_of(byte, texts[id])
                   : id < 128 + N_LONGER ? name_of(longer[id - 128], texts[id])
                                         : 0;
        if (id == 0 || n == 0) {
            n = (size_t)sprintf(texts[id], id == N_TOKENS - 1 ? "<|eot_id|>" : "<|x%u|>", id);
            types[id] = TOKENIZER_TYPE_CONTROL;
        }
        names[id] = (struct model_string){texts[id], n};
    }
    /* Two tokens of the same bytes. */
    names[N_TOKENS - 2] = names['q'];
    types[N_TOKENS - 2] = TOKENIZER_TYPE_NORMAL;
    make_vocabulary(names, types, N_TOKENS, &tokenizer, &vocabulary);
    return 0;
}

static int close_vocabulary(void **state)
{
    vocabulary_destroy(vocabulary);
    tokenizer_close(tokenizer);
    return 0;
}

static struct constraint *open_schema_over(const char *text, const struct vocabulary *over)
{
    struct constraint *c = NULL;
    struct error error;
    json_t *schema = text != NULL ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    if (constraint_create(&c, schema, over, &error) != STATUS_OK)
        fail_msg("%s: %s", text, error.text);
    json_decref(schema);
    return c;
}

static struct constraint *open_schema(const char *text)
{
    return open_schema_over(text, vocabulary);
}

static bool has(const uint32_t *bits, int32_t id)
{
    return (bits[id / 32] >> (id % 32)) & 1;
}

static int32_t token(const char *bytes)
{
    char name[64];
    const size_t n = name_of(bytes, name);
    const int32_t id = tokenizer_find(tokenizer, name, n);
    assert_int_not_equal(id, TOKENIZER_NONE);
    return id;
}

enum { N_WORDS = (N_TOKENS + 31) / 32, END = N_TOKENS - 1 };

static const char *const schemas[] = {
    NULL,
    "{}",
    "{\"type\": \"string\"}",
    "{\"type\": \"string\", \"minLength\": 3, \"maxLength\": 40}",
    "{\"type\": \"array\", \"items\": {}, \"minItems\": 2}",
    "{\"type\": \"object\", \"properties\": {\"key\": {\"type\": \"integer\"}, \"keys\": "
    "{\"type\": \"array\","
    " \"items\": {\"$ref\": \"#\"}}}, \"required\": [\"key\"]}",
    "{\"anyOf\": [{\"type\": \"number\"}, {\"type\": \"string\", \"pattern\": \"^a+\xc3\xa9?$\"}]}",
    "{\"type\": \"object\", \"properties\": {\"key\": {\"type\": \"null\"}}, "
    "\"additionalProperties\": true}",
};

static void test_masks_are_what_may_follow(void **state)
{
    struct random_state random;
    random_seed(&random, 9);
    for (size_t i = 0; i < sizeof(schemas) / sizeof(schemas[0]); i++) {
        struct constraint *c = open_schema(schemas[i]);
        for (int step = 0; step < 60; step++) {
            uint32_t bits[N_WORDS];
            int32_t allowed[N_TOKENS];
            uint32_t n = 0;
            assert_true(constraint_mask(c, 100000, bits));
            for (int32_t id = 0; id < N_TOKENS - 1; id++) {
                if (has(bits, id))
                    allowed[n++] = id;
                else
                    assert_false(constraint_accept(c, id));
            }
            assert_int_equal(has(bits, 'q'), has(bits, N_TOKENS - 2));
            assert_int_equal(has(bits, END), constraint_accept(c, END));
            if (n == 0) {
                assert_true(has(bits, END));
                break;
            }
            assert_true(constraint_accept(c, allowed[random_u64(&random) % n]));
        }
        constraint_destroy(c);
    }
}

/* An answer of at most `most` tokens by random choice, as text. */
static void answer(struct constraint *c, struct random_state *random, uint32_t most, char *text)
{
    size_t length = 0;
    for (uint32_t left = most;; left--) {
        uint32_t bits[N_WORDS];
        int32_t allowed[N_TOKENS];
        uint32_t n = 0;
        assert_true(left > 0); /* it has ended in time */
        assert_true(constraint_mask(c, left, bits));
        for (int32_t id = 0; id < N_TOKENS; id++)
            if (has(bits, id))
                allowed[n++] = id;
        assert_true(n > 0);
        const int32_t id = allowed[random_u64(random) % n];
        assert_true(constraint_accept(c, id));
        if (id == END)
            break;
        const struct model_string bytes = tokenizer_token_bytes(tokenizer, id);
        memcpy(text + length, bytes.data, bytes.n_bytes);
        length += bytes.n_bytes;
    }
    text[length] = '\0';
}

static void test_answers_end_in_time_and_are_json(void **state)
{
    static char text[100000];
    struct random_state random;
    random_seed(&random, 10);
    for (size_t i = 0; i < sizeof(schemas) / sizeof(schemas[0]); i++) {
        struct constraint *first = open_schema(schemas[i]);
        const uint32_t shortest = constraint_shortest(first);
        for (int turn = 0; turn < 50; turn++) {
            struct constraint *c = NULL;
            json_error_t why;
            assert_int_equal(constraint_again(&c, first, NULL), STATUS_OK);
            answer(c, &random, shortest + (uint32_t)(turn * turn) / 2, text);
            json_t *json = json_loads(text, JSON_DECODE_ANY, &why);
            if (json == NULL)
                fail_msg("%s: %s", text, why.text);
            json_decref(json);
            constraint_destroy(c);
        }
        constraint_destroy(first);
    }
}

static void test_nesting_is_closed(void **state)
{
    struct constraint *c = open_schema("{}");
    uint32_t bits[N_WORDS], depth = 0;
    for (; depth < 1000; depth++) {
        assert_true(constraint_mask(c, 1000000, bits));
        if (!has(bits, '['))
            break;
        assert_true(constraint_accept(c, '['));
    }
    assert_in_range(depth, 20, 250);
    for (; depth > 0; depth--) {
        assert_true(constraint_mask(c, 1000000, bits));
        assert_true(has(bits, ']'));
        assert_true(constraint_accept(c, ']'));
    }
    assert_true(constraint_mask(c, 1000000, bits));
    assert_true(has(bits, END));
    constraint_destroy(c);
}

static void test_only_an_end_follows_a_whole_value(void **state)
{
    struct constraint *c = open_schema("{\"enum\": [\"abc\"]}");
    static const char *const parts[] = {"\"", "abc", "\""};
    uint32_t bits[N_WORDS], n = 0;
    for (size_t i = 0; i < 3; i++) {
        assert_true(constraint_mask(c, 100, bits));
        assert_false(has(bits, END));
        assert_false(constraint_is_complete(c));
        assert_true(constraint_accept(c, token(parts[i])));
    }
    assert_true(constraint_mask(c, 100, bits));
    for (int32_t id = 0; id < N_TOKENS; id++)
        n += has(bits, id);
    assert_int_equal(n, 1);
    assert_true(has(bits, END));
    assert_true(constraint_is_complete(c));
    constraint_destroy(c);
}

/* A few bytes of pattern that can be cut in thousands of ways, and a vocabulary of all words of up
 * to seven of four letters: the mask would take seconds, for which nobody else could go on. */
static void test_ambiguous_patterns_are_given_up(void **state)
{
    enum {
        LONGEST = 7,
        N_WORDS_OF_4 = 4 + 16 + 64 + 256 + 1024 + 4096 + 16384,
        N = 128 + N_WORDS_OF_4 + 1
    };
    static char texts[N][16];
    static struct model_string names[N];
    static int32_t types[N];
    static uint32_t bits[N / 32 + 1];
    struct tokenizer *words = NULL;
    struct vocabulary *of_words = NULL;
    uint32_t n = 0;
    for (; n < 128; n++) {
        const char byte[2] = {(char)(n > 0 ? n : ' '), '\0'};
        names[n] = (struct model_string){texts[n], name_of(byte, texts[n])};
        types[n] = TOKENIZER_TYPE_NORMAL;
    }
    for (size_t length = 1; length <= LONGEST; length++)
        for (uint32_t word = 0; word < 1u << (2 * length); word++, n++) {
            for (size_t i = 0; i < length; i++)
                texts[n][i] = "abcd"[(word >> (2 * i)) & 3];
            names[n] = (struct model_string){texts[n], length};
            types[n] = TOKENIZER_TYPE_NORMAL;
        }
    names[n] = (struct model_string){"<|eot_id|>", 10};
    types[n] = TOKENIZER_TYPE_CONTROL;
    make_vocabulary(names, types, N, &words, &of_words);
    struct constraint *c =
        open_schema_over("{\"type\": \"string\", \"pattern\": "
                         "\"^((a|b|c|d|aa|ab|ac|ad|ba|bb|bc|bd|ca|cb|cc|cd|da|db|dc|dd|a[a-d]c|[a-"
                         "d]bd|c[a-d]{3}){1,100}){1,100}$\"}",
                         of_words);
    assert_true(constraint_mask(c, 100000, bits));
    assert_true(constraint_accept(c, '"'));
    for (int32_t i = 0; i < 200; i++)
        assert_true(constraint_accept(c, 'a' + i % 4));
    assert_false(constraint_mask(c, 100000, bits));
    constraint_destroy(c);
    vocabulary_destroy(of_words);
    tokenizer_close(words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks_are_what_may_follow),
        cmocka_unit_test(test_answers_end_in_time_and_are_json),
        cmocka_unit_test(test_nesting_is_closed),
        cmocka_unit_test(test_only_an_end_follows_a_whole_value),
        cmocka_unit_test(test_ambiguous_patterns_are_given_up),
    };
    return cmocka_run_group_tests(tests, open_vocabulary, close_vocabulary);
}
