/* tests/coordinator/rig_model.h - the smallest llama model with a byte vocabulary. Part of rig.h. */
#ifndef LONGSPAN_TESTS_COORDINATOR_RIG_MODEL_H
#define LONGSPAN_TESTS_COORDINATOR_RIG_MODEL_H

#include <stdlib.h>
#include <unistd.h>

#include "model/gguf_writer.h"
#include "model/hparams.h"
#include "model/weights.h"
#include "tests/coordinator/byte_vocabulary.h"

/* n_experts 0: none. */
static inline void rig_write_model_of(const char *path, uint32_t n_experts)
{
    const struct hparams h = {.n_layers = RIG_LAYERS,
                              .hidden = 32,
                              .n_heads = 4,
                              .n_kv_heads = 2,
                              .head_dim = 8,
                              .ffn = n_experts > 0 ? 0 : RIG_FFN,
                              .ffn_expert = n_experts > 0 ? RIG_FFN : 0,
                              .n_experts = n_experts,
                              .n_experts_used = n_experts > 0,
                              .vocab = BYTE_VOCABULARY,
                              .rope_dims = 8};
    static const uint8_t zeros[1 << 16];
    struct gguf_writer *w = NULL;
    struct error e = {0};
    char name[WEIGHTS_NAME_BYTES];
    uint64_t dims[WEIGHTS_DIMS], bytes;
    assert_int_equal(gguf_writer_create(&w, path, &e), STATUS_OK);
    gguf_writer_add_string(w, "general.architecture", "llama", &e);
    gguf_writer_add_string(w, "general.name", "rig", &e);
    gguf_writer_add_u32(w, "llama.block_count", h.n_layers, &e);
    gguf_writer_add_u32(w, "llama.embedding_length", h.hidden, &e);
    gguf_writer_add_u32(w, "llama.feed_forward_length", RIG_FFN, &e);
    if (n_experts > 0) {
        gguf_writer_add_u32(w, "llama.expert_count", n_experts, &e);
        gguf_writer_add_u32(w, "llama.expert_used_count", h.n_experts_used, &e);
    }
    gguf_writer_add_u32(w, "llama.context_length", 8192, &e);
    gguf_writer_add_u32(w, "llama.attention.head_count", h.n_heads, &e);
    gguf_writer_add_u32(w, "llama.attention.head_count_kv", h.n_kv_heads, &e);
    gguf_writer_add_u32(w, "llama.rope.dimension_count", h.rope_dims, &e);
    gguf_writer_add_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, &e);
    byte_vocabulary_write(w, &e);
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t layer = 0; layer < h.n_layers; layer++)
            for (int id = layer == 0 ? 0 : WEIGHTS_FIRST_OF_LAYER; id < WEIGHTS_COUNT; id++) {
                if (!weights_has(&h, (enum weights_id)id))
                    continue;
                const uint32_t n_dims = weights_shape(&h, (enum weights_id)id, dims);
                weights_name(name, layer, (enum weights_id)id);
                gguf_tensor_bytes(&bytes, GGUF_TYPE_F32, n_dims, dims, &e);
                assert_true(bytes <= sizeof(zeros));
                if (pass == 0)
                    gguf_writer_declare(w, name, GGUF_TYPE_F32, n_dims, dims, &e);
                else
                    gguf_writer_data(w, zeros, bytes, &e);
            }
    if (e.status != STATUS_OK)
        fail_msg("%s", e.text);
    assert_int_equal(gguf_writer_finish(w, &e), STATUS_OK);
}

static inline void rig_write_model(const char *path)
{
    rig_write_model_of(path, 0);
}

enum { RIG_MODEL_PATH_BYTES = 32 };

/* The same in a new file, which the caller unlinks once it is open. The writer replaces files by
 * name, so that this cannot be a memfd. */
static inline void rig_write_temporary_model(char path[RIG_MODEL_PATH_BYTES])
{
    snprintf(path, RIG_MODEL_PATH_BYTES, "/tmp/longspan-rig-XXXXXX");
    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    rig_write_model(path);
}

#endif
