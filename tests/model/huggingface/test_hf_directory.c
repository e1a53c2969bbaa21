/* A directory gives the keys and tensors of a GGUF file; what is missing, doubled, foreign or in
 * the wrong place is refused by name. */
#include "model/hparams.h"
#include "model/model_file.h"
#include "model/weights.h"
#include "tests/cmocka.h"
#include "tests/model/fixtures.h"

/* The tests' folder is the directory. A model of one layer; half-width vectors where a test
 * wants. */
enum { HIDDEN = 8, FFN = 16, VOCAB = 12, KV = 4, EXPERTS = 3 };

static const char llama_config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":16,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"vocab_size\":12}";
static const char mixtral_config[] =
    "{\"model_type\":\"mixtral\",\"hidden_size\":8,\"intermediate_size\":16,"
    "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":1,\"vocab_size\":12,"
    "\"num_local_experts\":3,\"num_experts_per_tok\":2,\"sliding_window\":null}";

struct tensor {
    const char *name;
    unsigned rows, columns; /* rows 0: a vector */
};

#define LAYER "model.layers.0."
static const struct tensor llama_tensors[] = {
    {"model.embed_tokens.weight", VOCAB, HIDDEN},
    {"model.norm.weight", 0, HIDDEN},
    {"lm_head.weight", VOCAB, HIDDEN},
    {LAYER "input_layernorm.weight", 0, HIDDEN},
    {LAYER "self_attn.q_proj.weight", HIDDEN, HIDDEN},
    {LAYER "self_attn.k_proj.weight", KV, HIDDEN},
    {LAYER "self_attn.v_proj.weight", KV, HIDDEN},
    {LAYER "self_attn.o_proj.weight", HIDDEN, HIDDEN},
    {LAYER "post_attention_layernorm.weight", 0, HIDDEN},
    {LAYER "mlp.gate_proj.weight", FFN, HIDDEN},
    {LAYER "mlp.up_proj.weight", FFN, HIDDEN},
    {LAYER "mlp.down_proj.weight", HIDDEN, FFN},
    {LAYER "self_attn.rotary_emb.inv_freq", 0, 2}, /* of old files; not read */
};
enum { N_LLAMA = sizeof(llama_tensors) / sizeof(llama_tensors[0]) };

static void write_text(const char *name, const char *text)
{
    fixture_write(fixture_path(name), text, strlen(text));
}

static void remove_all(void)
{
    static const char *const names[] = {
        "config.json",        "model.safetensors", "model.safetensors.index.json",
        "one.safetensors",    "two.safetensors",   "tokenizer_config.json",
        "chat_template.jinja"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(fixture_path(names[i]));
}

/* Every element of tensor i is i, in `type`: 0 F32, 1 F16, 2 BF16 (vectors too). */
static void write_weights(const char *name, const struct tensor *tensors, size_t n, int type)
{
    static const char *const types[] = {"F32", "F16", "BF16"};
    static uint8_t data[1 << 16];
    char json[8192];
    struct bytes b = {.n = 0};
    size_t at = 1, n_data = 0;
    json[0] = '{';
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t = &tensors[i];
        const size_t elements = (t->rows == 0 ? 1 : t->rows) * (size_t)t->columns;
        const size_t bytes = elements * (type == 0 ? 4 : 2);
        char shape[32];
        snprintf(shape, sizeof(shape), t->rows == 0 ? "[%u]" : "[%u,%u]",
                 t->rows == 0 ? t->columns : t->rows, t->columns);
        at += (size_t)snprintf(
            json + at, sizeof(json) - at,
            "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}",
            i == 0 ? "" : ",", t->name, types[type], shape, n_data, n_data + bytes);
        assert_true(n_data + bytes <= sizeof(data) && at < sizeof(json) - 16);
        for (size_t k = 0; k < elements; k++) {
            const float value = (float)i;
            uint32_t wide;
            memcpy(&wide, &value, sizeof(wide));
            const uint16_t bf16 = (uint16_t)(wide >> 16);
            const uint16_t f16 = /* of whole numbers, normal or 0 */
                value == 0 ? 0 : (uint16_t)((wide >> 13) - (112u << 10));
            if (type == 0)
                memcpy(data + n_data + k * 4, &value, 4);
            else
                memcpy(data + n_data + k * 2, type == 1 ? &f16 : &bf16, 2);
        }
        n_data += bytes;
    }
    json[at++] = '}';
    while (at % 8 != 0)
        json[at++] = ' ';
    FILE *file = fopen(fixture_path(name), "wb");
    assert_non_null(file);
    put_u64(&b, at);
    fwrite(b.data, 1, b.n, file);
    fwrite(json, 1, at, file);
    fwrite(data, 1, n_data, file);
    assert_int_equal(fclose(file), 0);
}

static void write_llama(void)
{
    remove_all();
    write_text("config.json", llama_config);
    write_weights("model.safetensors", llama_tensors, N_LLAMA, 0);
}

static void refused(enum status expected, const char *words)
{
    struct model_file *file = NULL;
    struct error error = {0};
    const enum status status = model_open(&file, fixture_folder, &error);
    if (status != expected || strstr(error.text, words) == NULL)
        fail_msg("%s: %s; expected %s, '%s'", status_name(status), error.text,
                 status_name(expected), words);
    assert_null(file);
}

static void test_it_is_a_model(void **state)
{
    for (int type = 0; type < 3; type++) {
        struct hparams hparams;
        struct error error = {0};
        write_llama();
        write_weights("model.safetensors", llama_tensors, N_LLAMA, type);
        struct model_file *file = fixture_open(fixture_folder);
        assert_string_equal(model_directory(file), fixture_folder);
        check_ok(hparams_read(&hparams, file, &error), &error);
        check_ok(weights_check(file, &hparams, &error), &error);
        assert_int_equal(hparams.head_dim, 4);
        assert_true(hparams.rope_neox);
        assert_false(hparams.tied);
        assert_int_equal(model_tensor_count(file), N_LLAMA - 1);
        assert_int_equal(model_part_count(file), 2);
        const struct model_tensor *down = model_tensor_find(file, "blk.0.ffn_down.weight");
        assert_int_equal(down->dims[0], FFN);
        assert_int_equal(down->dims[1], HIDDEN);
        assert_int_equal(down->type, type == 0   ? GGUF_TYPE_F32
                                     : type == 1 ? GGUF_TYPE_F16
                                                 : GGUF_TYPE_BF16);
        model_close(file);
    }
}

static void write_index(const char *first_file, const char *norm_file)
{
    char text[2048] = "{\"metadata\":{\"total_size\":1},\"weight_map\":{";
    for (size_t i = 0; i < N_LLAMA; i++) {
        char entry[160];
        snprintf(entry, sizeof(entry), "%s\"%s\":\"%s\"", i == 0 ? "" : ",", llama_tensors[i].name,
                 i == 1  ? norm_file
                 : i < 6 ? first_file
                         : "two.safetensors");
        strcat(text, entry);
    }
    strcat(text, "}}");
    write_text("model.safetensors.index.json", text);
}

static void write_two_files(void)
{
    write_llama();
    unlink(fixture_path("model.safetensors"));
    write_weights("one.safetensors", llama_tensors, 6, 0);
    write_weights("two.safetensors", llama_tensors + 6, N_LLAMA - 6, 0);
    write_index("one.safetensors", "one.safetensors");
}

static void test_several_files(void **state)
{
    uint8_t print[MODEL_FINGERPRINT_BYTES], other[MODEL_FINGERPRINT_BYTES];
    write_two_files();
    struct model_file *file = fixture_open(fixture_folder);
    assert_int_equal(model_part_count(file), 4);
    assert_int_equal(model_tensor_count(file), N_LLAMA - 1);
    model_fingerprint(file, print);
    model_close(file);
    write_weights("two.safetensors", llama_tensors + 6, N_LLAMA - 6, 1);
    file = fixture_open(fixture_folder);
    model_fingerprint(file, other);
    assert_memory_not_equal(print, other, sizeof(print));
    model_close(file);

    unlink(fixture_path("two.safetensors"));
    refused(STATUS_NOT_FOUND, "two.safetensors");
    write_two_files();
    write_index("one.safetensors", "two.safetensors");
    refused(STATUS_INVALID, "model.norm.weight is not in two.safetensors");
    write_index("../one.safetensors", "two.safetensors");
    refused(STATUS_INVALID, "'../one.safetensors' is no name");
    write_index("/etc/passwd", "two.safetensors");
    refused(STATUS_INVALID, "'/etc/passwd' is no name");
    write_two_files();
    write_weights("two.safetensors", llama_tensors + 5, N_LLAMA - 5, 0);
    refused(STATUS_INVALID, "k_proj.weight is in");
    write_text("model.safetensors.index.json", "{\"weight_map\":{\"a\":7}}");
    refused(STATUS_INVALID, "no file for tensor a");
    write_text("model.safetensors.index.json", "{}");
    refused(STATUS_INVALID, "no weight_map");
    write_text("model.safetensors.index.json", "{\"weight_map\"");
    refused(STATUS_INVALID, "index.json, line 1");
}

static void test_what_is_missing_is_named(void **state)
{
    write_llama();
    unlink(fixture_path("config.json"));
    refused(STATUS_NOT_FOUND, "config.json is missing");
    write_text("config.json", "not JSON");
    refused(STATUS_INVALID, "config.json, line 1");
    write_text("config.json", "[]");
    refused(STATUS_INVALID, "config.json: no JSON object");
    write_llama();
    unlink(fixture_path("model.safetensors"));
    refused(STATUS_NOT_FOUND, "pytorch_model.bin");
    write_weights("model.safetensors", llama_tensors, 2, 0);
    refused(STATUS_INVALID, "lm_head.weight is missing");
}

static void test_foreign_tensors_are_refused(void **state)
{
    static const char *const names[] = {
        "model.layers.1.input_layernorm.weight", /* there is one layer */
        "model.layers.00.input_layernorm.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.block_sparse_moe.gate.weight",
        "model.layers.-1.input_layernorm.weight",
        "model.layers.99999999999999999999.input_layernorm.weight",
        "transformer.h.0.weight",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct tensor tensors[N_LLAMA + 1];
        memcpy(tensors, llama_tensors, sizeof(llama_tensors));
        tensors[N_LLAMA] = (struct tensor){names[i], 2, 2};
        write_llama();
        write_weights("model.safetensors", tensors, N_LLAMA + 1, 0);
        refused(STATUS_UNSUPPORTED, names[i]);
    }
}

static void test_a_tied_model_has_one_matrix(void **state)
{
    char config[512];
    write_llama();
    snprintf(config, sizeof(config), "%.*s,\"tie_word_embeddings\":true}",
             (int)strlen(llama_config) - 1, llama_config);
    write_text("config.json", config);
    struct model_file *file = fixture_open(fixture_folder);
    assert_null(model_tensor_find(file, "output.weight")); /* lm_head is there, and not read */
    model_close(file);
}

static void test_experts_become_one_tensor(void **state)
{
    struct tensor tensors[] = {
        {"model.embed_tokens.weight", VOCAB, HIDDEN},
        {"lm_head.weight", VOCAB, HIDDEN},
        {LAYER "block_sparse_moe.gate.weight", EXPERTS, HIDDEN},
        {LAYER "block_sparse_moe.experts.2.w1.weight", FFN, HIDDEN},
        {LAYER "block_sparse_moe.experts.0.w1.weight", FFN, HIDDEN},
        {LAYER "block_sparse_moe.experts.1.w1.weight", FFN, HIDDEN},
        {LAYER "block_sparse_moe.experts.0.w2.weight", HIDDEN, FFN},
        {LAYER "block_sparse_moe.experts.1.w2.weight", HIDDEN, FFN},
        {LAYER "block_sparse_moe.experts.2.w2.weight", HIDDEN, FFN},
    };
    const size_t n = sizeof(tensors) / sizeof(tensors[0]);
    remove_all();
    write_text("config.json", mixtral_config);
    write_weights("model.safetensors", tensors, n, 0);
    struct model_file *file = fixture_open(fixture_folder);
    const struct model_tensor *gate = model_tensor_find(file, "blk.0.ffn_gate_exps.weight");
    const struct model_tensor *down = model_tensor_find(file, "blk.0.ffn_down_exps.weight");
    assert_non_null(model_tensor_find(file, "blk.0.ffn_gate_inp.weight"));
    assert_int_equal(gate->dims[2], EXPERTS);
    assert_int_equal(down->dims[0], FFN);
    static const float firsts[EXPERTS] = {4, 5, 3};
    for (uint64_t e = 0; e < EXPERTS; e++) {
        assert_true(*(const float *)model_tensor_expert(file, gate, e) == firsts[e]);
        assert_true(*(const float *)model_tensor_expert(file, down, e) == (float)(6 + e));
    }
    model_tensor_release(file, gate);
    assert_true(*(const float *)model_tensor_expert(file, gate, 0) == 4);
    model_close(file);
    tensors[3].name = LAYER "block_sparse_moe.experts.3.w1.weight";
    write_weights("model.safetensors", tensors, n, 0);
    refused(STATUS_UNSUPPORTED, "experts.3.w1.weight");
    tensors[3] = (struct tensor){LAYER "block_sparse_moe.experts.2.w1.weight", HIDDEN, FFN};
    write_weights("model.safetensors", tensors, n, 0);
    refused(STATUS_INVALID, "another type or shape");
}

static void expect_template(const char *key, const char *wanted)
{
    struct model_file *file = fixture_open(fixture_folder);
    struct model_string text = {NULL, 0};
    const enum status status = model_get_string(file, key, &text, NULL);
    assert_int_equal(status, wanted == NULL ? STATUS_NOT_FOUND : STATUS_OK);
    if (wanted != NULL)
        assert_true(model_string_equals(text, wanted));
    model_close(file);
}

static void test_chat_templates(void **state)
{
    static const char key[] = "tokenizer.chat_template";
    write_llama();
    expect_template(key, NULL);
    write_text("tokenizer_config.json", "{\"chat_template\":\"one\"}");
    expect_template(key, "one");
    write_text("tokenizer_config.json",
               "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"tools\"},"
               "{\"name\":\"default\",\"template\":\"usual\"},"
               "{\"name\":\"default\",\"template\":\"again\"},7]}");
    expect_template(key, "usual");
    expect_template("tokenizer.chat_template.tool_use", "tools");
    write_text("chat_template.jinja", "a file of its own\n");
    expect_template(key, "a file of its own\n");
    unlink(fixture_path("chat_template.jinja"));
    write_text("tokenizer_config.json", "{");
    refused(STATUS_INVALID, "tokenizer_config.json, line 1");
}

static void test_a_file_of_a_directory_is_no_model(void **state)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    write_llama();
    for (size_t i = 0; i < 2; i++) {
        struct model_file *file = NULL;
        struct error error = {0};
        assert_int_equal(model_open(&file, fixture_path(names[i]), &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "give the directory"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_a_model),
        cmocka_unit_test(test_several_files),
        cmocka_unit_test(test_what_is_missing_is_named),
        cmocka_unit_test(test_foreign_tensors_are_refused),
        cmocka_unit_test(test_a_tied_model_has_one_matrix),
        cmocka_unit_test(test_experts_become_one_tensor),
        cmocka_unit_test(test_chat_templates),
        cmocka_unit_test(test_a_file_of_a_directory_is_no_model),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
