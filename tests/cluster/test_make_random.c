/* test_make_random.c - random models are models: readable, of the asked shape, lively, repeatable.
 */
#include "cluster/make_random.h"

#include "kernels/quant/types.h"
#include "model/tokenizer.h"
#include "model/weights.h"
#include "tests/cmocka.h"
#include "tests/directory.h"
#include "tests/thread_sanitizer.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *path_of(const char *name, char path[FILE_PATH_BYTES + 32])
{
    snprintf(path, FILE_PATH_BYTES + 32, "%s/%s", directory, name);
    return path;
}

static struct make_random_shape shape_of(const char *text)
{
    struct make_random_shape shape;
    struct error error;
    assert_int_equal(make_random_shape(&shape, text, &error), STATUS_OK);
    return shape;
}

static void test_shapes_are_presets_with_changes(void **state)
{
    struct make_random_shape shape = shape_of("tiny-96,layers=3,ctx=512");
    assert_int_equal(shape.hparams.n_layers, 3);
    assert_int_equal(shape.hparams.head_dim, 96);
    assert_int_equal(shape.hparams.rope_dims, 96);
    assert_int_equal(shape.hparams.context_train, 512);
    shape = shape_of("hidden=64,heads=4,ffn=96");
    assert_int_equal(shape.hparams.head_dim, 16);
    assert_int_equal(shape.hparams.n_kv_heads, 2);
    shape = shape_of("hidden=96,heads=3");
    assert_int_equal(shape.hparams.n_kv_heads, 3);
    shape = shape_of("tiny,experts=6,experts-used=3,ffn=96");
    assert_int_equal(shape.hparams.n_experts, 6);
    assert_int_equal(shape.hparams.n_experts_used, 3);
    assert_int_equal(shape.hparams.ffn_expert, 96);
    assert_int_equal(shape.hparams.ffn, 0);
    assert_true(shape.hparams.experts_normalised);
    shape = shape_of("tiny,arch=qwen3moe,experts-softmax-of-all=1");
    assert_int_equal(shape.hparams.n_experts, 8);
    assert_int_equal(shape.hparams.n_experts_used, 2);
    assert_false(shape.hparams.experts_normalised);
    for (uint32_t i = 0; make_random_presets[i] != NULL; i++)
        (void)shape_of(make_random_presets[i]);
}

static void test_impossible_shapes_are_refused_with_their_reason(void **state)
{
    const struct {
        const char *text, *reason;
    } cases[] = {
        {"huge", "'huge'"},
        {"layrs=3", "'layrs'"},
        {"layers=0", "layers"},
        {"experts=4,experts-used=5", "experts-used=5"},
        {"arch=qwen2,experts=4", "no experts"},
        {"layers=x", "layers"},
        {"layers=", "layers"},
        {"", "''"},
        {"tiny,tiny-96", "tiny-96"},
        {"heads=8,kv-heads=3", "kv-heads=3"},
        {"hidden=100,heads=8,kv-heads=8", "hidden=100"},
        {"head-dim=33", "33"},
        {"arch=gptneox", "'gptneox' is none of: llama"},
        {"rope-scaling=ntk", "'ntk' is none of"},
        {"arch=qwen2,window=32", "qwen2 models have no window"},
        {"arch=gemma2,biases=1", "gemma2 models have no biases"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct make_random_shape shape;
        struct error error;
        assert_int_equal(make_random_shape(&shape, cases[i].text, &error), STATUS_INVALID);
        if (strstr(error.text, cases[i].reason) == NULL)
            fail_msg("'%s': %s", cases[i].text, error.text);
    }
}

static const struct mixture *mixture_of(const char *name)
{
    const struct mixture *mixture = NULL;
    assert_int_equal(mixture_find(&mixture, name, NULL), STATUS_OK);
    return mixture;
}

static struct model_file *make(const char *name, const char *shape_text, const char *type,
                               uint64_t seed, bool tied, const struct model_file *tokenizer)
{
    char path[FILE_PATH_BYTES + 32];
    const struct make_random_shape shape = shape_of(shape_text);
    const struct make_random_options options = {.shape = &shape,
                                                .mixture = mixture_of(type),
                                                .seed = seed,
                                                .tied = tied,
                                                .tokenizer = tokenizer};
    struct model_file *file = NULL;
    struct error error;
    assert_int_equal(make_random(path_of(name, path), &options, &error), STATUS_OK);
    assert_int_equal(model_open(&file, path, &error), STATUS_OK);
    return file;
}

/* What is read is what was asked for: hparams_read judges the keys that were written. */
static void test_every_architecture_is_a_model(void **state)
{
    static const char *const texts[] = {
        "biases=1,rope-scaling=linear,rope-factor=4,window=64",
        "rope-scaling=llama3,rope-factor=8,rope-context=128",
        "arch=qwen2,rope-scaling=yarn,rope-factor=4,rope-context=64",
        "ffn=64,experts=5,experts-used=3",
        "arch=qwen3moe,ffn=64,experts-softmax-of-all=1",
        "arch=qwen3,biases=1",
        "arch=gemma2,window=32,window-period=3",
        "arch=gemma3,layers=7,window=16,rope-scaling=linear,rope-factor=8"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const struct make_random_shape shape = shape_of(texts[i]);
        struct model_file *file = make("m", texts[i], "F32", 1, false, NULL);
        struct hparams read, *h = &read;
        const struct hparams *asked = &shape.hparams;
        struct error error = {0};
        assert_int_equal(hparams_read(h, file, &error), STATUS_OK);
        assert_int_equal(weights_check(file, h, &error), STATUS_OK);
        assert_int_equal(h->architecture, asked->architecture);
        assert_true(h->qkv_bias == asked->qkv_bias && h->output_bias == asked->output_bias);
        assert_true(h->qk_norm == asked->qk_norm && h->post_norms == asked->post_norms);
        assert_true(h->n_experts == asked->n_experts && h->ffn == asked->ffn);
        assert_true(h->n_experts_used == asked->n_experts_used);
        assert_true(h->ffn_expert == asked->ffn_expert);
        assert_true(h->experts_normalised == asked->experts_normalised);
        assert_true(h->window == asked->window && h->window_period == asked->window_period);
        assert_true(h->has_local_rope == asked->has_local_rope);
        assert_true(h->attention_cap == asked->attention_cap && h->logit_cap == asked->logit_cap);
        double expected[16], got[16]; /* llama3 became factors, rounded to f32 */
        struct hparams plain = *asked;
        plain.rope_factors = false;
        assert_int_equal(hparams_rope_frequencies(&plain, &plain.rope, NULL, expected, &error),
                         STATUS_OK);
        assert_int_equal(hparams_rope_frequencies(h, &h->rope, file, got, &error), STATUS_OK);
        assert_true(h->rope_factors == (asked->rope.scaling == ROPE_LLAMA3));
        for (int k = 0; k < 16; k++)
            assert_true(fabs(got[k] - expected[k]) <= (h->rope_factors ? 6e-8 : 0) * expected[k]);
        assert_true(h->rope.magnitude == asked->rope.magnitude);
        model_close(file);
    }
}

static void test_every_shape_and_type_is_a_model(void **state)
{
    thread_sanitizer_skips();
    for (const struct mixture *mixture = mixtures; mixture->name != NULL; mixture++)
        for (uint32_t preset = 0; preset < 3; preset++)
            for (int tied = 0; tied < 2; tied++) {
                const struct make_random_shape shape = shape_of(make_random_presets[preset]);
                struct model_file *file =
                    make("m", make_random_presets[preset], mixture->name, 1, tied != 0, NULL);
                struct hparams hparams;
                struct tokenizer *tokenizer = NULL;
                struct error error = {0};
                assert_int_equal(hparams_read(&hparams, file, &error), STATUS_OK);
                assert_int_equal(weights_check(file, &hparams, &error), STATUS_OK);
                assert_int_equal(tokenizer_open(&tokenizer, file, &error), STATUS_OK);
                assert_int_equal(hparams.n_layers, shape.hparams.n_layers);
                assert_int_equal(hparams.head_dim, shape.hparams.head_dim);
                assert_int_equal(hparams.tied, tied);
                const struct model_tensor *up = weights_find(file, 1, WEIGHTS_FFN_UP);
                assert_int_equal(
                    up->type, mixture_fitting_type(
                                  mixture_type(mixture, &hparams, WEIGHTS_FFN_UP, 1), up->dims[0]));
                assert_true(tokenizer_is_end_of_generation(tokenizer, tokenizer_eos(tokenizer)));
                tokenizer_close(tokenizer);
                model_close(file);
            }
}

/* Rounding to four bits adds 0.7% to the variance; blocks that are drawn as blocks have a d of six
 * bits. */
static void test_weights_keep_values_near_one(void **state)
{
    thread_sanitizer_skips();
    for (const struct mixture *mixture = mixtures; mixture->name != NULL; mixture++) {
        struct model_file *file = make("m", "tiny", mixture->name, 1, false, NULL);
        const struct model_tensor *tensor = weights_find(file, 2, WEIGHTS_ATTN_K);
        const size_t n = (size_t)(tensor->dims[0] * tensor->dims[1]);
        float *values = malloc(n * sizeof(*values));
        double sum = 0, square = 0;
        assert_non_null(values);
        weight_dequantize((enum weight_type)tensor->type, values, tensor->data, n);
        for (size_t i = 0; i < n; i++) {
            sum += (double)values[i];
            square += (double)values[i] * (double)values[i];
        }
        /* 16,384 draws: mean within 4 deviations, variance within 7% */
        assert_true(fabs(sum / (double)n) < 4 / sqrt((double)n * 256));
        assert_true(fabs(square / (double)n * 256 - 1) < 0.07);
        free(values);
        model_close(file);
    }
}

static void test_a_seed_means_one_file(void **state)
{
    uint8_t prints[3][MODEL_FINGERPRINT_BYTES];
    const uint64_t seeds[] = {7, 7, 8};
    for (int type = 0; type < 2; type++) {
        for (int i = 0; i < 3; i++) {
            struct model_file *file =
                make("m", "tiny,layers=1", type == 0 ? "Q8_0" : "Q6_K", seeds[i], false, NULL);
            model_fingerprint(file, prints[i]);
            model_close(file);
        }
        assert_memory_equal(prints[0], prints[1], MODEL_FINGERPRINT_BYTES);
        assert_memory_not_equal(prints[0], prints[2], MODEL_FINGERPRINT_BYTES);
    }
}

static void test_the_vocabulary_of_another_file_is_taken(void **state)
{
    struct model_file *source = make("source", "tiny,layers=1,vocab=300", "F32", 1, false, NULL);
    struct model_file *file = make("m", "tiny,layers=1", "F32", 1, false, source);
    struct hparams hparams;
    struct tokenizer *tokenizer = NULL;
    struct error error;
    assert_int_equal(hparams_read(&hparams, file, &error), STATUS_OK);
    assert_int_equal(hparams.vocab, 300);
    assert_int_equal(tokenizer_open(&tokenizer, file, &error), STATUS_OK);
    assert_int_equal(tokenizer_vocab(tokenizer), 300);
    tokenizer_close(tokenizer);
    model_close(file);

    char path[FILE_PATH_BYTES + 32];
    const struct make_random_shape shape = shape_of("tiny,vocab=299");
    const struct make_random_options options = {
        .shape = &shape, .mixture = mixture_of("F32"), .tokenizer = source};
    assert_int_equal(make_random(path_of("small", path), &options, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "299"));
    model_close(source);
}

static void test_what_cannot_be_made_leaves_no_file(void **state)
{
    char path[FILE_PATH_BYTES + 32], *data;
    size_t size;
    struct error error;
    const struct make_random_shape shape = shape_of("tiny,vocab=100");
    const struct make_random_options options = {.shape = &shape, .mixture = mixture_of("F32")};
    assert_int_equal(make_random(path_of("none", path), &options, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "100"));
    assert_int_equal(file_read(path, 1 << 20, &data, &size, &error), STATUS_NOT_FOUND);
}

static void test_rows_that_are_no_whole_blocks_get_a_type_that_fits(void **state)
{
    struct model_file *file = make("m", "tiny,ffn=96", "Q4_K_M", 1, false, NULL);
    assert_int_equal(weights_find(file, 0, WEIGHTS_FFN_UP)->type, GGUF_TYPE_Q4_K);
    assert_int_equal(weights_find(file, 0, WEIGHTS_FFN_DOWN)->type, GGUF_TYPE_Q5_0);
    model_close(file);
    file = make("m", "tiny,ffn=100", "Q8_0", 1, false, NULL);
    assert_int_equal(weights_find(file, 0, WEIGHTS_FFN_DOWN)->type, GGUF_TYPE_F16);
    model_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes_are_presets_with_changes),
        cmocka_unit_test(test_impossible_shapes_are_refused_with_their_reason),
        cmocka_unit_test(test_every_architecture_is_a_model),
        cmocka_unit_test(test_every_shape_and_type_is_a_model),
        cmocka_unit_test(test_weights_keep_values_near_one),
        cmocka_unit_test(test_a_seed_means_one_file),
        cmocka_unit_test(test_the_vocabulary_of_another_file_is_taken),
        cmocka_unit_test(test_what_cannot_be_made_leaves_no_file),
        cmocka_unit_test(test_rows_that_are_no_whole_blocks_get_a_type_that_fits),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
