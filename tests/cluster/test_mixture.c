/* test_mixture.c - names, and which tensors get which type. */
#include "cluster/mixture.h"

#include "tests/cmocka.h"

#include <stdio.h>
#include <string.h>

static const struct hparams shape = {.n_layers = 16,
                                     .hidden = 2048,
                                     .n_heads = 32,
                                     .n_kv_heads = 8,
                                     .head_dim = 64,
                                     .ffn = 8192,
                                     .vocab = 32000,
                                     .rope_dims = 64};

static const struct mixture *mixture_of(const char *name)
{
    const struct mixture *mixture = NULL;
    assert_int_equal(mixture_find(&mixture, name, NULL), STATUS_OK);
    return mixture;
}

static void test_names(void **state)
{
    const struct mixture *mixture = NULL;
    struct error error;
    for (const struct mixture *m = mixtures; m->name != NULL; m++)
        assert_ptr_equal(mixture_of(m->name), m);
    assert_string_equal(mixture_of("q4_k_m")->name, "Q4_K_M");
    static const char *const others[] = {"", "Q9_0", "Q4", "Q4_K_", "Q2_K", "Q4_K_M "};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_int_equal(mixture_find(&mixture, others[i], &error), STATUS_INVALID);
        assert_null(mixture);
        assert_non_null(strstr(error.text, "F32, F16, BF16")); /* what there is */
        assert_non_null(strstr(error.text, "mixed"));          /* to the last */
    }
}

/* The layers whose tensor `id` has `type`, as text: "0 1 4". */
static const char *layers_of(const char *name, enum weights_id id, enum gguf_type type,
                             char text[128])
{
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t layer = 0; layer < shape.n_layers; layer++)
        if (mixture_type(mixture_of(name), &shape, id, layer) == type)
            at += (size_t)snprintf(text + at, 128 - at, "%s%u", at == 0 ? "" : " ", layer);
    return text;
}

/* As in files of these names elsewhere. */
static void test_which_layers_have_more_bits(void **state)
{
    char text[128];
    const char *half = "0 1 4 7 10 13 14 15";
    assert_string_equal(layers_of("Q4_K_M", WEIGHTS_ATTN_V, GGUF_TYPE_Q6_K, text), half);
    assert_string_equal(layers_of("Q4_K_M", WEIGHTS_FFN_DOWN, GGUF_TYPE_Q6_K, text), half);
    assert_string_equal(layers_of("Q5_K_M", WEIGHTS_ATTN_V, GGUF_TYPE_Q6_K, text), half);
    assert_string_equal(layers_of("Q5_K_M", WEIGHTS_FFN_DOWN, GGUF_TYPE_Q6_K, text), half);
    assert_string_equal(layers_of("Q4_K_S", WEIGHTS_ATTN_V, GGUF_TYPE_Q5_K, text), "0 1 2 3");
    assert_string_equal(layers_of("Q4_K_S", WEIGHTS_FFN_DOWN, GGUF_TYPE_Q5_K, text), "0 1");
    assert_string_equal(layers_of("Q5_K_S", WEIGHTS_ATTN_V, GGUF_TYPE_Q6_K, text), "");
    assert_string_equal(layers_of("Q4_K_M", WEIGHTS_FFN_UP, GGUF_TYPE_Q6_K, text), "");
}

static void test_output_embedding_and_vectors(void **state)
{
    static const char *const names[] = {"Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M"};
    struct hparams tied = shape;
    tied.tied = true;
    for (size_t i = 0; i < 4; i++) {
        const struct mixture *m = mixture_of(names[i]);
        assert_int_equal(mixture_type(m, &shape, WEIGHTS_OUTPUT, 0), GGUF_TYPE_Q6_K);
        assert_int_equal(mixture_type(m, &shape, WEIGHTS_TOKEN_EMBD, 0), m->type);
        assert_int_equal(mixture_type(m, &tied, WEIGHTS_TOKEN_EMBD, 0), GGUF_TYPE_Q6_K);
    }
    for (const struct mixture *m = mixtures; m->name != NULL; m++) {
        assert_int_equal(mixture_type(m, &shape, WEIGHTS_ATTN_NORM, 3), GGUF_TYPE_F32);
        assert_int_equal(mixture_type(m, &shape, WEIGHTS_OUTPUT_NORM, 0), GGUF_TYPE_F32);
        assert_int_equal(mixture_type(m, &shape, WEIGHTS_ROPE_FREQS, 0), GGUF_TYPE_F32);
    }
    /* a plain type is that of every matrix */
    for (int id = 0; id < WEIGHTS_COUNT; id++) {
        uint64_t dims[WEIGHTS_DIMS];
        if (weights_shape(&shape, (enum weights_id)id, dims) > 1)
            assert_int_equal(mixture_type(mixture_of("Q5_1"), &shape, (enum weights_id)id, 2),
                             id == WEIGHTS_FFN_ROUTER ? GGUF_TYPE_F32 : GGUF_TYPE_Q5_1);
    }
}

static void test_mixed_has_every_type(void **state)
{
    uint32_t seen[GGUF_TYPE_COUNT] = {0};
    for (uint32_t layer = 0; layer < 4; layer++)
        for (int id = 0; id < WEIGHTS_COUNT; id++) {
            uint64_t dims[WEIGHTS_DIMS];
            if (weights_shape(&shape, (enum weights_id)id, dims) == 2)
                seen[mixture_type(mixture_of("mixed"), &shape, (enum weights_id)id, layer)]++;
        }
    for (const struct mixture *m = mixtures; strcmp(m->name, "Q4_K_S") != 0; m++)
        assert_true(seen[m->type] > 0);
}

static void test_types_that_fit(void **state)
{
    static const struct {
        enum gguf_type type;
        uint64_t n_columns;
        enum gguf_type expected;
    } cases[] = {
        {GGUF_TYPE_Q4_K, 512, GGUF_TYPE_Q4_K}, {GGUF_TYPE_Q4_K, 288, GGUF_TYPE_Q5_0},
        {GGUF_TYPE_Q5_K, 288, GGUF_TYPE_Q5_1}, {GGUF_TYPE_Q6_K, 288, GGUF_TYPE_Q8_0},
        {GGUF_TYPE_Q6_K, 100, GGUF_TYPE_F16},  {GGUF_TYPE_Q4_K, 100, GGUF_TYPE_F16},
        {GGUF_TYPE_Q8_0, 100, GGUF_TYPE_F16},  {GGUF_TYPE_Q4_0, 32, GGUF_TYPE_Q4_0},
        {GGUF_TYPE_F32, 1, GGUF_TYPE_F32},     {GGUF_TYPE_BF16, 3, GGUF_TYPE_BF16},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(mixture_fitting_type(cases[i].type, cases[i].n_columns),
                         cases[i].expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_which_layers_have_more_bits),
        cmocka_unit_test(test_output_embedding_and_vectors),
        cmocka_unit_test(test_mixed_has_every_type),
        cmocka_unit_test(test_types_that_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
