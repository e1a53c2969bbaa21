/* test_gguf_form.c - which rows change places, which keys stay. What comes of a whole directory is
 * seen by tests/oracles/test_logits.py. */
#include "cluster/gguf_form.h"

#include "tests/cmocka.h"

static void test_pairs_come_together_within_the_dimensions_that_turn(void **state)
{
    static const uint64_t expected[] = {0, 2, 1, 3, 4, 5}; /* 6 dimensions, 4 turn */
    const struct gguf_form form = {.head_dim = 6, .rope_dims = 4, .pairs = true};
    for (uint64_t head = 0; head < 3; head++)
        for (uint64_t i = 0; i < 6; i++)
            assert_int_equal(gguf_form_row(&form, head * 6 + i), head * 6 + expected[i]);
}

static void test_only_llamas_queries_and_keys_move(void **state)
{
    struct error error = {0};
    struct gguf_form form;
    struct hparams hparams = {.architecture = ARCHITECTURE_LLAMA, .head_dim = 4, .rope_dims = 4};
    for (int id = 0; id < WEIGHTS_COUNT; id++)
        for (int neox = 0; neox < 2; neox++) {
            hparams.rope_neox = neox;
            assert_int_equal(gguf_form_make(&form, NULL, &hparams, &error), STATUS_OK);
            assert_int_equal(gguf_form_moves(&form, (enum weights_id)id),
                             neox && (id == WEIGHTS_ATTN_Q || id == WEIGHTS_ATTN_K ||
                                      id == WEIGHTS_ATTN_Q_BIAS || id == WEIGHTS_ATTN_K_BIAS));
            gguf_form_free(&form);
        }
    hparams.architecture = ARCHITECTURE_QWEN2; /* whose files have them apart too */
    assert_int_equal(gguf_form_make(&form, NULL, &hparams, &error), STATUS_OK);
    assert_false(gguf_form_moves(&form, WEIGHTS_ATTN_Q));
    gguf_form_free(&form);
}

static void test_keys_of_directories_go(void **state)
{
    struct error error = {0};
    struct gguf_form form;
    struct hparams hparams = {
        .architecture = ARCHITECTURE_LLAMA,
        .head_dim = 4,
        .rope_dims = 4,
        .rope = {.base = 10000, .factor = 8, .original_context = 64, .slow = 1, .fast = 4}};
    assert_int_equal(gguf_form_make(&form, NULL, &hparams, &error), STATUS_OK);
    assert_false(gguf_form_keeps(&form, "longspan.rope.neox"));
    assert_false(gguf_form_keeps(&form, "longspan.norm.offset"));
    assert_true(gguf_form_keeps(&form, "llama.rope.scaling.type"));
    assert_null(form.rope_factors);
    gguf_form_free(&form);
    hparams.rope.scaling = ROPE_LLAMA3;
    assert_int_equal(gguf_form_make(&form, NULL, &hparams, &error), STATUS_OK);
    assert_false(gguf_form_keeps(&form, "llama.rope.scaling.type"));
    assert_true(gguf_form_keeps(&form, "llama.rope.freq_base"));
    assert_true(form.rope_factors[0] == 1.0f); /* ten turns in the original context: kept */
    assert_true(form.rope_factors[1] == 8.0f); /* a tenth of a turn: divided */
    gguf_form_free(&form);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs_come_together_within_the_dimensions_that_turn),
        cmocka_unit_test(test_only_llamas_queries_and_keys_move),
        cmocka_unit_test(test_keys_of_directories_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
