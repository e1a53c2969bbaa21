/* Whatever model_open takes is shown, without passing on what a terminal or a JSON reader would
 * stumble over. */
#include "model/inspect.h"
#include "tests/cmocka.h"
#include "tests/model/small_model.h"

static char *show(const struct model_file *g, bool json)
{
    char *text = NULL;
    size_t n = 0;
    struct error error = {0};
    FILE *stream = open_memstream(&text, &n);
    assert_non_null(stream);
    check_ok(inspect_print(stream, g, json, &error), &error);
    fclose(stream);
    return text;
}

static void expect_all(char *text, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strstr(text, *words) == NULL)
            fail_msg("'%s' is not in: %s", *words, text);
    for (const char *c = text; *c != '\0'; c++)
        assert_true((unsigned char)*c >= 0x20 || *c == '\n');
    free(text);
}

static void test_a_supported_model(void **state)
{
    static const char *const text[] = {"layers",
                                       "4 query, 2 KV, of 16",
                                       "256 bytes in f16",
                                       "512 in f32",
                                       "blk.1.ffn_down.weight",
                                       "Q8_0",
                                       "[96, 64]",
                                       "66880, of 8.61 bits",
                                       "small\\x1b model",
                                       "none in the file",
                                       NULL};
    static const char *const json[] = {"{\"file\":\"",
                                       "\"supported\":true",
                                       "\"why_not\":null",
                                       "\"kv_heads\":2",
                                       "\"kv_bytes_per_token\":{\"f16\":256,\"f32\":512}",
                                       "\"name\":\"small\\u001b model\"",
                                       "{\"name\":\"blk.1.ffn_down.weight\",\"type\":\"Q8_0\","
                                       "\"shape\":[96,64],\"bytes\":6528}",
                                       "\"tokenizer\":null",
                                       "\"tied\":false",
                                       "\"parameters\":66880,\"active_parameters\":66880,\"bits_"
                                       "per_weight\":8.6124,", /* 66,560 of 8.5 bits, 320 of 32 */
                                       NULL};
    struct small_model m = small_model;
    m.type = GGUF_TYPE_Q8_0;
    struct model_file *g = small_model_open(&m);
    expect_all(show(g, false), text);
    expect_all(show(g, true), json);
    model_close(g);
}

/* Six experts, two used: 2 layers of 3 x 64 x 96 x 6, of which a third; the rest is 30,784. */
static void test_experts(void **state)
{
    static const char *const text[] = {"6 experts of 96, a token uses 2",
                                       "blk.1.ffn_gate_exps.weight",
                                       "[64, 96, 6]",
                                       "blk.0.ffn_gate_inp.weight",
                                       "251968, of 32.00 bits, 104512 of them active for a token",
                                       NULL};
    static const char *const json[] = {
        "\"ffn\":0,\"experts\":6,\"experts_used\":2,\"ffn_expert\":96",
        "\"parameters\":251968,\"active_parameters\":104512", "\"shape\":[64,96,6]", NULL};
    const struct small_model m = small_model_experts(small_model);
    struct model_file *g = small_model_open(&m);
    expect_all(show(g, false), text);
    expect_all(show(g, true), json);
    model_close(g);
}

static void test_what_is_not_supported_is_shown_too(void **state)
{
    static const char *const words[] = {"'odd\\\"arch\\\\'", "\"supported\":false",
                                        "\"hparams\":null",  "blk.0.attn_q.weight",
                                        "\"I32\"",           NULL};
    static const char *const shown[] = {"no: ", "odd\"arch\\", "parameters", NULL};
    struct small_model m = small_model;
    m.architecture = "odd\"arch\\";
    m.odd_tensor = "blk.0.attn_q.weight";
    m.odd_type = GGUF_TYPE_I32;
    struct model_file *g = small_model_open(&m);
    expect_all(show(g, true), words);
    expect_all(show(g, false), shown);
    model_close(g);
}

static void test_a_vocabulary_alone(void **state)
{
    static const char *const words[] = {"\"model\":\"gpt2\"",
                                        "\"pre\":\"qwen\\ufffd2\"",
                                        "\"tokens\":256",
                                        "\"tensors\":[]",
                                        "pre-tokenizer",
                                        "\"architecture\":null",
                                        NULL};
    static struct vocabulary v;
    struct tokenizer *tokenizer = NULL;
    bpe_vocabulary(&v, "qwen\xff"
                       "2");
    assert_int_equal(open_vocabulary(&tokenizer, &v, NULL), STATUS_UNSUPPORTED);
    struct model_file *g = fixture_open(fixture_path("vocabulary.gguf"));
    expect_all(show(g, true), words);
    model_close(g);
}

static void test_a_full_disk_is_reported(void **state)
{
    struct small_model m = small_model;
    struct error error = {0};
    FILE *full = fopen("/dev/full", "w");
    if (full == NULL)
        skip();
    struct model_file *g = small_model_open(&m);
    assert_int_equal(inspect_print(full, g, true, &error), STATUS_IO);
    model_close(g);
    fclose(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_supported_model),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_what_is_not_supported_is_shown_too),
        cmocka_unit_test(test_a_vocabulary_alone),
        cmocka_unit_test(test_a_full_disk_is_reported),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
