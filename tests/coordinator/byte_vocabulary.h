/* tests/coordinator/byte_vocabulary.h - the vocabulary of the models here: token 3 + b is the byte
 * b, 1 is BOS, 2 is EOS, 0 is unknown. */
#ifndef LONGSPAN_TESTS_COORDINATOR_BYTE_VOCABULARY_H
#define LONGSPAN_TESTS_COORDINATOR_BYTE_VOCABULARY_H

#include "model/gguf_writer.h"

#include <stdio.h>
#include <string.h>

enum { BYTE_VOCABULARY = 259 };

/* All tokenizer.* keys. */
static inline void byte_vocabulary_write(struct gguf_writer *w, struct error *e)
{
    char names[BYTE_VOCABULARY][8] = {"<unk>", "<s>", "</s>"};
    struct model_string tokens[BYTE_VOCABULARY];
    float scores[BYTE_VOCABULARY] = {0};
    int32_t types[BYTE_VOCABULARY] = {2, 3, 3}; /* unknown, control, control */
    for (int i = 0; i < BYTE_VOCABULARY; i++) {
        if (i >= 3) {
            types[i] = 6; /* byte */
            snprintf(names[i], sizeof(names[i]), "<0x%02X>", (unsigned)(i - 3));
        }
        tokens[i] = (struct model_string){names[i], strlen(names[i])};
    }
    gguf_writer_add_string(w, "tokenizer.ggml.model", "llama", e);
    gguf_writer_add_strings(w, "tokenizer.ggml.tokens", tokens, BYTE_VOCABULARY, e);
    gguf_writer_add_array(w, "tokenizer.ggml.scores", GGUF_VALUE_F32, scores, BYTE_VOCABULARY, e);
    gguf_writer_add_array(w, "tokenizer.ggml.token_type", GGUF_VALUE_I32, types, BYTE_VOCABULARY,
                          e);
    gguf_writer_add_u32(w, "tokenizer.ggml.bos_token_id", 1, e);
    gguf_writer_add_u32(w, "tokenizer.ggml.eos_token_id", 2, e);
    gguf_writer_add_bool(w, "tokenizer.ggml.add_space_prefix", false, e);
}

#endif
