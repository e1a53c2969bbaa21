/* tests/coordinator/http/byte_tokenizer.h - a group's tokenizer: token 3 + b is the byte b, 1 is
 * BOS, 2 is EOS. */
#ifndef LONGSPAN_TESTS_COORDINATOR_HTTP_BYTE_TOKENIZER_H
#define LONGSPAN_TESTS_COORDINATOR_HTTP_BYTE_TOKENIZER_H

#include "model/gguf_writer.h"
#include "model/tokenizer.h"
#include "tests/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BYTE_TOKENIZER_VOCAB = 259 };

static inline void byte_tokenizer_write(const char *path)
{
    static char names[BYTE_TOKENIZER_VOCAB][8];
    static struct model_string tokens[BYTE_TOKENIZER_VOCAB];
    static float scores[BYTE_TOKENIZER_VOCAB];
    static int32_t types[BYTE_TOKENIZER_VOCAB] = {2, 3, 3}; /* unknown, control, control */
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    struct gguf_writer *w = NULL;
    struct error e = {0};
    for (int i = 0; i < BYTE_TOKENIZER_VOCAB; i++) {
        if (i >= 3)
            types[i] = 6; /* byte */
        if (i < 3)
            snprintf(names[i], sizeof(names[i]), "%s", special[i]);
        else
            snprintf(names[i], sizeof(names[i]), "<0x%02X>", (unsigned)(i - 3));
        tokens[i] = (struct model_string){names[i], strlen(names[i])};
    }
    assert_int_equal(gguf_writer_create(&w, path, &e), STATUS_OK);
    gguf_writer_add_string(w, "general.architecture", "llama", &e);
    gguf_writer_add_string(w, "tokenizer.ggml.model", "llama", &e);
    gguf_writer_add_strings(w, "tokenizer.ggml.tokens", tokens, BYTE_TOKENIZER_VOCAB, &e);
    gguf_writer_add_array(w, "tokenizer.ggml.scores", GGUF_VALUE_F32, scores, BYTE_TOKENIZER_VOCAB,
                          &e);
    gguf_writer_add_array(w, "tokenizer.ggml.token_type", GGUF_VALUE_I32, types,
                          BYTE_TOKENIZER_VOCAB, &e);
    gguf_writer_add_u32(w, "tokenizer.ggml.bos_token_id", 1, &e);
    gguf_writer_add_u32(w, "tokenizer.ggml.eos_token_id", 2, &e);
    gguf_writer_add_bool(w, "tokenizer.ggml.add_space_prefix", false, &e);
    assert_int_equal(e.status, STATUS_OK);
    assert_int_equal(gguf_writer_finish(w, &e), STATUS_OK);
}

static inline int byte_tokenizer_open(void **state)
{
    char path[] = "/tmp/longspan-test-XXXXXX";
    struct model_file *file = NULL;
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    byte_tokenizer_write(path);
    assert_int_equal(model_open(&file, path, NULL), STATUS_OK);
    assert_int_equal(tokenizer_open((struct tokenizer **)state, file, NULL), STATUS_OK);
    model_close(file);
    unlink(path);
    return 0;
}

static inline int byte_tokenizer_close(void **state)
{
    tokenizer_close(*state);
    return 0;
}

#endif
