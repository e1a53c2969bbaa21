/* tests/model/small_model.h - writes a model of two layers, with whatever is to be wrong in it. */
#ifndef LONGSPAN_TESTS_MODEL_SMALL_MODEL_H
#define LONGSPAN_TESTS_MODEL_SMALL_MODEL_H

#include "model/hparams.h"
#include "model/weights.h"
#include "tests/model/fixtures.h"

struct small_model {
    struct hparams h;
    enum gguf_type type; /* of the matrices */
    const char *architecture;
    const char *without_key, *without_tensor; /* left out */
    const char *odd_tensor;                   /* gets odd_type, or odd_dims where n_odd_dims > 0 */
    enum gguf_type odd_type;
    uint32_t n_odd_dims;
    uint64_t odd_dims[4];
    const char *extra_tensor;
    const char *extra_u32, *extra_text, *extra_f32; /* one more key of that type */
    uint32_t u32;
    const char *text;
    float f32;
    const float *factors; /* rope_freqs.weight; NULL: none */
};

static const struct small_model small_model = {
    .h = {.n_layers = 2,
          .hidden = 64,
          .n_heads = 4,
          .n_kv_heads = 2,
          .head_dim = 16,
          .ffn = 96,
          .vocab = 40,
          .context_train = 2048,
          .rope_dims = 16,
          .rope = {.base = 10000},
          .rms_eps = 1e-5f},
    .type = GGUF_TYPE_F32,
    .architecture = "llama",
};

/* The same with six experts. */
__attribute__((unused)) static struct small_model small_model_experts(struct small_model m)
{
    m.h.n_experts = 6;
    m.h.n_experts_used = 2;
    m.h.ffn_expert = m.h.ffn;
    m.h.ffn = 0;
    m.h.experts_normalised = true;
    return m;
}

/* The same of another architecture, with the parts that its layers must have. */
__attribute__((unused)) static struct small_model small_model_of(enum architecture architecture)
{
    struct small_model m = small_model;
    m.architecture = architecture_traits(architecture)->name;
    hparams_complete(&m.h, architecture);
    return architecture_traits(architecture)->experts == PART_ALWAYS ? small_model_experts(m) : m;
}

static void small_model_u32(struct gguf_writer *w, const struct small_model *m, const char *suffix,
                            uint32_t value)
{
    char key[96];
    snprintf(key, sizeof(key), "%s.%s", m->architecture, suffix);
    if (m->without_key == NULL || strcmp(m->without_key, key) != 0)
        gguf_writer_add_u32(w, key, value, NULL);
}

static void small_model_f32(struct gguf_writer *w, const struct small_model *m, const char *suffix,
                            float value)
{
    char key[96];
    snprintf(key, sizeof(key), "%s.%s", m->architecture, suffix);
    gguf_writer_add_f32(w, key, value, NULL);
}

static void small_model_declare(struct gguf_writer *w, const struct small_model *m, uint32_t layer,
                                enum weights_id id, uint64_t *n_bytes)
{
    char name[WEIGHTS_NAME_BYTES];
    uint64_t dims[4], bytes = 0;
    uint32_t n_dims = weights_shape(&m->h, id, dims);
    enum gguf_type type = n_dims == 1 ? GGUF_TYPE_F32 : m->type;
    weights_name(name, layer, id);
    if ((m->without_tensor != NULL && strcmp(name, m->without_tensor) == 0) ||
        (id == WEIGHTS_ROPE_FREQS ? m->factors == NULL : !weights_has(&m->h, id)))
        return;
    if (m->odd_tensor != NULL && strcmp(name, m->odd_tensor) == 0) {
        if (m->n_odd_dims > 0) {
            n_dims = m->n_odd_dims;
            memcpy(dims, m->odd_dims, sizeof(dims));
        } else {
            type = m->odd_type;
        }
    }
    assert_int_equal(gguf_tensor_bytes(&bytes, type, n_dims, dims, NULL), STATUS_OK);
    gguf_writer_declare(w, name, type, n_dims, dims, NULL);
    n_bytes[id] = bytes;
}

/* The caller closes it. */
static struct model_file *small_model_open(const struct small_model *m)
{
    static const uint8_t zeros[1 << 19];
    const char *path = fixture_path("model.gguf");
    struct gguf_writer *w = NULL;
    struct error e = {0};
    uint64_t bytes[8][WEIGHTS_COUNT] = {{0}};
    assert_true(m->h.n_layers <= 8);
    check_ok(gguf_writer_create(&w, path, &e), &e);
    gguf_writer_add_string(w, "general.architecture", m->architecture, &e);
    gguf_writer_add_string(w, "general.name", "small\x1b model", &e);
    small_model_u32(w, m, "block_count", m->h.n_layers);
    small_model_u32(w, m, "embedding_length", m->h.hidden);
    small_model_u32(w, m, "feed_forward_length", m->h.n_experts > 0 ? m->h.ffn_expert : m->h.ffn);
    if (m->h.n_experts > 0) {
        small_model_u32(w, m, "expert_count", m->h.n_experts);
        small_model_u32(w, m, "expert_used_count", m->h.n_experts_used);
    }
    small_model_u32(w, m, "context_length", m->h.context_train);
    small_model_u32(w, m, "attention.head_count", m->h.n_heads);
    small_model_u32(w, m, "attention.head_count_kv", m->h.n_kv_heads);
    small_model_u32(w, m, "attention.key_length", m->h.head_dim);
    small_model_u32(w, m, "attention.value_length", m->h.head_dim);
    small_model_u32(w, m, "rope.dimension_count", m->h.rope_dims);
    small_model_f32(w, m, "rope.freq_base", (float)m->h.rope.base);
    if (m->without_key == NULL || strstr(m->without_key, "epsilon") == NULL)
        small_model_f32(w, m, "attention.layer_norm_rms_epsilon", m->h.rms_eps);
    if (m->extra_u32 != NULL)
        gguf_writer_add_u32(w, m->extra_u32, m->u32, &e);
    if (m->extra_text != NULL)
        gguf_writer_add_string(w, m->extra_text, m->text, &e);
    if (m->extra_f32 != NULL)
        gguf_writer_add_f32(w, m->extra_f32, m->f32, &e);
    for (int id = 0; id < WEIGHTS_FIRST_OF_LAYER; id++)
        small_model_declare(w, m, 0, (enum weights_id)id, bytes[0]);
    for (uint32_t layer = 0; layer < m->h.n_layers; layer++)
        for (int id = WEIGHTS_FIRST_OF_LAYER; id < WEIGHTS_COUNT; id++)
            small_model_declare(w, m, layer, (enum weights_id)id, bytes[layer]);
    if (m->extra_tensor != NULL)
        gguf_writer_declare(w, m->extra_tensor, GGUF_TYPE_F32, 1, (uint64_t[]){1}, &e);
    for (uint32_t layer = 0; layer < m->h.n_layers; layer++)
        for (int id = layer == 0 ? 0 : WEIGHTS_FIRST_OF_LAYER; id < WEIGHTS_COUNT; id++) {
            assert_true(bytes[layer][id] <= sizeof(zeros));
            const bool factors = id == WEIGHTS_ROPE_FREQS && m->factors != NULL;
            gguf_writer_data(w, factors ? (const void *)m->factors : zeros, bytes[layer][id], &e);
        }
    if (m->extra_tensor != NULL)
        gguf_writer_data(w, zeros, 4, &e);
    check_ok(e.status, &e);
    check_ok(gguf_writer_finish(w, &e), &e);
    return fixture_open(path);
}

#endif
