/* tokenizer.json: parts that are read, parts that are refused by their names, what the files beside
 * it say, and files that do not hold together. Ids are compared in tests/oracles. */
#include "model/detokenizer.h"
#include "tests/cmocka.h"
#include "tests/model/fixtures.h"

#define SPACE "\xe2\x96\x81" /* U+2581 */

/* A tokenizer.json of characters: a, b, ab, the space, <unk>, two byte tokens, <s> and </s>. */
struct parts {
    const char *normalizer, *pretokenizer, *processor, *decoder, *model, *vocab, *merges, *added;
};

enum { UNKNOWN, A, B, AB, SPACE_A, SP, BYTE_X, BOS = 8, EOS, USER };

static const struct parts usual = {
    .normalizer = "null",
    .pretokenizer = "null",
    .processor = "null",
    .decoder = "null",
    .model = "\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"byte_fallback\":true",
    .vocab = "{\"<unk>\":0,\"a\":1,\"b\":2,\"ab\":3,\"" SPACE "a\":4,\"" SPACE "\":5,\"<0x78>\":6,"
             "\"<0x79>\":7}",
    .merges = "[[\"a\",\"b\"],\"" SPACE " a\"]",
    .added = "[{\"id\":8,\"content\":\"<s>\",\"special\":true,\"normalized\":false},"
             "{\"id\":9,\"content\":\"</s>\",\"special\":true},"
             "{\"id\":10,\"content\":\"<u>\",\"special\":false}]"};

static void write_file(const char *name, const char *text)
{
    fixture_write(fixture_path(name), text, strlen(text));
}

static enum status open_parts(struct tokenizer **t, const struct parts *p, struct error *error)
{
    static char text[1 << 16];
    snprintf(text, sizeof(text),
             "{\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,\"decoder\":%s,"
             "\"model\":{%s,\"vocab\":%s,\"merges\":%s},\"added_tokens\":%s}",
             p->normalizer, p->pretokenizer, p->processor, p->decoder, p->model, p->vocab,
             p->merges, p->added);
    write_file("tokenizer.json", text);
    return tokenizer_open_directory(t, fixture_folder, error);
}

static struct tokenizer *good(const struct parts *p)
{
    struct tokenizer *t = NULL;
    struct error error = {0};
    check_ok(open_parts(&t, p, &error), &error);
    return t;
}

static void refused(const struct parts *p, enum status expected, const char *word)
{
    struct tokenizer *t = NULL;
    struct error error = {0};
    const enum status status = open_parts(&t, p, &error);
    if (status != expected || strstr(error.text, word) == NULL)
        fail_msg("expected %s with '%s', got %s: %s", status_name(expected), word,
                 status_name(status), error.text);
    assert_null(t);
}

static void test_merges_bytes_and_the_unknown(void **state)
{
    struct parts p = usual;
    struct tokenizer *t = good(&p);
    EXPECT_IDS(t, "abab", 0, AB, AB);
    EXPECT_IDS(t, "axb", 0, A, BYTE_X, B);
    EXPECT_IDS(t, "azzb", 0, A, UNKNOWN, UNKNOWN, B);
    EXPECT_IDS(t,
               "a\xff"
               "b",
               0, A, UNKNOWN, B);
    expect_ids(t, "", 0, TOKENIZER_ADD_SPECIAL, NULL, 0);
    assert_int_equal(tokenizer_vocab(t), 11);
    assert_int_equal(tokenizer_token_type(t, BYTE_X), TOKENIZER_TYPE_BYTE);
    assert_int_equal(tokenizer_token_type(t, BOS), TOKENIZER_TYPE_CONTROL);
    assert_int_equal(tokenizer_token_type(t, USER), TOKENIZER_TYPE_USER_DEFINED);
    assert_true(tokenizer_is_end_of_generation(t, EOS)); /* by its usual name */
    tokenizer_close(t);
    p.model = "\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true";
    t = good(&p);
    EXPECT_IDS(t, "axyzb", 0, A, UNKNOWN, B);
    tokenizer_close(t);
    p.model = "\"type\":\"BPE\",\"unk_token\":null";
    t = good(&p);
    EXPECT_IDS(t, "axyzb", 0, AB); /* nothing stands for what is no token */
    tokenizer_close(t);
    p.model = "\"type\":\"BPE\",\"ignore_merges\":true";
    p.vocab = "{\"a\":1,\"b\":2,\"ab\":3,\"ba\":0}";
    p.merges = "[\"a b\"]";
    t = good(&p);
    EXPECT_IDS(t, "ba", 0, 0);
    EXPECT_IDS(t, "baa", 0, B, A, A);
    tokenizer_close(t);
}

static void test_sentencepiece_s_spaces(void **state)
{
    struct parts p = usual;
    char *text;
    size_t n;
    p.normalizer =
        "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" SPACE
        "\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPACE "\"}]}";
    p.decoder =
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
        "\"" SPACE "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
        "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}";
    struct tokenizer *t = good(&p);
    EXPECT_IDS(t, "a ax", 0, SPACE_A, SPACE_A, BYTE_X);
    EXPECT_IDS(t, "a<u>a", 0, SPACE_A, USER, SPACE_A);
    assert_true(model_string_equals(tokenizer_token_bytes(t, SPACE_A), " a"));
    const int32_t ids[] = {SPACE_A, SPACE_A, BYTE_X};
    assert_int_equal(detokenizer_text(t, ids, 3, DETOKENIZER_TEXT_START, &text, &n, NULL),
                     STATUS_OK);
    assert_string_equal(text, "a ax");
    free(text);
    tokenizer_close(t);
}

static void test_templates(void **state)
{
    struct parts p = usual;
    p.processor =
        "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},"
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_"
        "id\":0}},"
        "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"</"
        "s>\",\"type_id\":0}}],"
        "\"pair\":[],\"special_tokens\":{\"<s>\":{\"ids\":[8]},\"</s>\":{\"ids\":[9,9]}}}]}";
    struct tokenizer *t = good(&p);
    EXPECT_IDS(t, "a", TOKENIZER_ADD_SPECIAL, BOS, A, EOS, EOS);
    EXPECT_IDS(t, "a", 0, A);
    EXPECT_IDS(t, "a<s>a", TOKENIZER_PARSE_SPECIAL, A, BOS, A);
    tokenizer_close(t);
    p.processor =
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
        "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[11]}}}";
    refused(&p, STATUS_INVALID, "no token");
    p.processor =
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
        "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{}}";
    refused(&p, STATUS_INVALID, "without ids");
    p.processor = "{\"type\":\"TemplateProcessing\",\"single\":[]}";
    refused(&p, STATUS_INVALID, "does not stand once");
    p.processor = "{\"type\":\"RobertaProcessing\"}";
    refused(&p, STATUS_UNSUPPORTED, "post-processor 'RobertaProcessing'");
}

static void test_what_is_not_known_is_refused_by_name(void **state)
{
    static const char *const models[][2] = {
        {"\"type\":\"Unigram\"", "'Unigram'"},
        {"\"type\":\"WordPiece\"", "'WordPiece'"},
        {"\"type\":\"BPE\",\"dropout\":0.1", "'dropout'"},
        {"\"type\":\"BPE\",\"continuing_subword_prefix\":\"##\"", "'continuing_subword_prefix'"},
        {"\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\"", "'end_of_word_suffix'"},
        {"\"type\":\"BPE\",\"unk_token\":\"none\"", "'none'"},
    };
    struct parts p = usual;
    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        p.model = models[i][0];
        refused(&p, STATUS_UNSUPPORTED, models[i][1]);
    }
    p = usual;
    p.normalizer = "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}";
    refused(&p, STATUS_UNSUPPORTED, "normalizer 'Precompiled'");
    p.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"content\":\"\"}";
    refused(&p, STATUS_UNSUPPORTED, "intersection");
    p.normalizer = "{\"type\":\"Replace\",\"pattern\":{},\"content\":\"\"}";
    refused(&p, STATUS_INVALID, "neither a String nor a Regex");
    p.normalizer =
        "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Nmt\"}]}";
    refused(&p, STATUS_UNSUPPORTED, "normalizer 'Nmt'");
    p = usual;
    p.pretokenizer = "{\"type\":\"UnicodeScripts\"}";
    refused(&p, STATUS_UNSUPPORTED, "pre-tokenizer 'UnicodeScripts'");
    p.pretokenizer = "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Maybe\"}";
    refused(&p, STATUS_UNSUPPORTED, "'Maybe'");
    p.pretokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"often\"}";
    refused(&p, STATUS_UNSUPPORTED, "'often'");
    p.pretokenizer = "[]";
    refused(&p, STATUS_UNSUPPORTED, "pre-tokenizer ''");
    p = usual;
    p.decoder = "{\"type\":\"CTC\"}";
    refused(&p, STATUS_UNSUPPORTED, "decoder 'CTC'");
}

/* Sequences in sequences end somewhere. */
static void test_nesting_is_bounded(void **state)
{
    static char deep[1 << 15];
    struct parts p = usual;
    size_t n = 0;
    for (int i = 0; i < 400; i++)
        n += (size_t)sprintf(deep + n, "{\"type\":\"Sequence\",\"normalizers\":[");
    n += (size_t)sprintf(deep + n, "{\"type\":\"NFC\"}");
    for (int i = 0; i < 400; i++)
        n += (size_t)sprintf(deep + n, "]}");
    p.normalizer = deep;
    refused(&p, STATUS_UNSUPPORTED, "'Sequence'");
}

static void test_vocabularies_that_do_not_hold_together(void **state)
{
    static const char *const vocabs[][2] = {
        {"{\"a\":0,\"b\":0}", "the same token"},
        {"{\"a\":-1}", "has no id"},
        {"{\"a\":1.5}", "has no id"},
        {"{\"a\":4000000000}", "has no id"},
        {"{\"a\":9000000}", "one has the id 9000000"},
        {"[]", "no vocab"},
        {"null", "no vocab"},
        {"{\"a\":0,\"a\":1}", "duplicate"},
        {"{\"a\":8,\"b\":1,\"ab\":2}", "the added '<s>'"},
    };
    struct parts p = usual;
    p.model = "\"type\":\"BPE\"";
    p.merges = "[]";
    for (size_t i = 0; i < sizeof(vocabs) / sizeof(vocabs[0]); i++) {
        p.vocab = vocabs[i][0];
        refused(&p, STATUS_INVALID, vocabs[i][1]);
    }
    p = usual;
    p.merges = "[\"a c\"]";
    refused(&p, STATUS_INVALID, "the right part");
    p.merges = "[\"ab\"]";
    refused(&p, STATUS_INVALID, "not two parts");
    p.merges = "[[\"a\",\"b\",\"c\"]]";
    refused(&p, STATUS_INVALID, "not two parts");
    p.merges = "[7]";
    refused(&p, STATUS_INVALID, "not two parts");
    p.merges = "{}";
    refused(&p, STATUS_INVALID, "no merges");
    p = usual;
    p.added = "[{\"id\":8}]";
    refused(&p, STATUS_INVALID, "added token 0");
    p.added = "[3]";
    refused(&p, STATUS_INVALID, "added token 0");
    p.added = "[]}, \"x\":{";
    refused(&p, STATUS_INVALID, "line");
}

/* Ids may have holes; such a token has no name and no text. */
static void test_holes(void **state)
{
    struct parts p = usual;
    p.added = "[{\"id\":20,\"content\":\"<s>\",\"special\":true}]";
    struct tokenizer *t = good(&p);
    assert_int_equal(tokenizer_vocab(t), 21);
    assert_int_equal(tokenizer_token_name(t, 12).n_bytes, 0);
    assert_int_equal(tokenizer_token_type(t, 12), TOKENIZER_TYPE_UNUSED);
    EXPECT_IDS(t, "<s>", TOKENIZER_PARSE_SPECIAL, 20);
    tokenizer_close(t);
}

static void remove_beside(void)
{
    unlink(fixture_path("tokenizer_config.json"));
    unlink(fixture_path("generation_config.json"));
    unlink(fixture_path("config.json"));
}

static void test_files_beside_it(void **state)
{
    const struct parts p = usual;
    struct tokenizer *t = NULL;
    write_file(
        "tokenizer_config.json",
        "{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"</s>\",\"add_bos_token\":true}");
    write_file("generation_config.json", "{\"eos_token_id\":[9,3]}");
    write_file("config.json", "{\"eos_token_id\":2,\"bos_token_id\":1}");
    t = good(&p);
    assert_int_equal(tokenizer_bos(t), BOS);
    assert_int_equal(tokenizer_eos(t), EOS);
    EXPECT_IDS(t, "a", TOKENIZER_ADD_SPECIAL, BOS, A);
    assert_true(tokenizer_is_end_of_generation(t, EOS));
    assert_true(tokenizer_is_end_of_generation(t, AB));
    assert_true(tokenizer_is_end_of_generation(t, B));
    assert_false(tokenizer_is_end_of_generation(t, A));
    tokenizer_close(t);
    remove_beside();
    write_file("config.json", "{\"eos_token_id\":99,\"bos_token_id\":8}"); /* 99 is none */
    write_file("tokenizer_config.json", "{\"add_bos_token\":true,\"add_eos_token\":true}");
    t = good(&p);
    assert_int_equal(tokenizer_bos(t), BOS);
    assert_int_equal(tokenizer_eos(t), TOKENIZER_NONE);
    EXPECT_IDS(t, "a", TOKENIZER_ADD_SPECIAL, BOS, A);
    tokenizer_close(t);
    write_file("tokenizer_config.json", "{");
    refused(&p, STATUS_INVALID, "tokenizer_config.json");
    remove_beside();
}

/* A switch decides over the template. */
static void test_bos_over_the_template(void **state)
{
    struct parts p = usual;
    p.processor =
        "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
        "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[8]}}}";
    write_file("tokenizer_config.json",
               "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_bos_token\":false,"
               "\"add_eos_token\":true}");
    struct tokenizer *t = good(&p);
    EXPECT_IDS(t, "a", TOKENIZER_ADD_SPECIAL, A, EOS);
    tokenizer_close(t);
    write_file("tokenizer_config.json", "{\"bos_token\":\"<s>\",\"add_bos_token\":true}");
    t = good(&p);
    EXPECT_IDS(t, "a", TOKENIZER_ADD_SPECIAL, BOS, A); /* once */
    tokenizer_close(t);
    remove_beside();
}

static void test_a_directory_without_one(void **state)
{
    struct tokenizer *t = NULL;
    struct error error = {0};
    unlink(fixture_path("tokenizer.json"));
    assert_int_equal(tokenizer_open_directory(&t, fixture_folder, &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "tokenizer.json"));
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges_bytes_and_the_unknown),
        cmocka_unit_test(test_sentencepiece_s_spaces),
        cmocka_unit_test(test_templates),
        cmocka_unit_test(test_what_is_not_known_is_refused_by_name),
        cmocka_unit_test(test_nesting_is_bounded),
        cmocka_unit_test(test_vocabularies_that_do_not_hold_together),
        cmocka_unit_test(test_holes),
        cmocka_unit_test(test_files_beside_it),
        cmocka_unit_test(test_bos_over_the_template),
        cmocka_unit_test(test_a_directory_without_one),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
