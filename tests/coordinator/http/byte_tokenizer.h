/* tests/coordinator/http/byte_tokenizer.h - a group's tokenizer: that of byte_vocabulary.h. */
#ifndef LONGSPAN_TESTS_COORDINATOR_HTTP_BYTE_TOKENIZER_H
#define LONGSPAN_TESTS_COORDINATOR_HTTP_BYTE_TOKENIZER_H

#include "model/tokenizer.h"
#include "tests/cmocka.h"
#include "tests/coordinator/byte_vocabulary.h"

#include <stdlib.h>
#include <unistd.h>

static inline void byte_tokenizer_write(const char *path)
{
    struct gguf_writer *w = NULL;
    struct error e = {0};
    assert_int_equal(gguf_writer_create(&w, path, &e), STATUS_OK);
    gguf_writer_add_string(w, "general.architecture", "llama", &e);
    byte_vocabulary_write(w, &e);
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
