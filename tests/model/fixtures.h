/* tests/model/fixtures.h - what the tests of model/ share: a folder of their own, small
 * vocabularies, a small model, byte-exact files. */
#ifndef LONGSPAN_TESTS_MODEL_FIXTURES_H
#define LONGSPAN_TESTS_MODEL_FIXTURES_H

#include "model/gguf_writer.h"
#include "model/model_file.h"
#include "model/tokenizer.h"
#include "tests/cmocka.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHARED_DATA "../shared/data" /* absent in a plain clone: such tests skip */

static char fixture_folder[64];

static int fixture_setup(void **state)
{
    snprintf(fixture_folder, sizeof(fixture_folder), "/tmp/longspan-model-XXXXXX");
    return mkdtemp(fixture_folder) == NULL;
}

static int fixture_teardown(void **state)
{
    DIR *folder = opendir(fixture_folder);
    if (folder == NULL)
        return 1;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[512];
        snprintf(path, sizeof(path), "%s/%s", fixture_folder, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(path);
    }
    closedir(folder);
    return rmdir(fixture_folder);
}

/* A path in the folder; the next call but three overwrites it. */
__attribute__((unused)) static const char *fixture_path(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", fixture_folder, name);
    return path;
}

__attribute__((unused)) static void fixture_write(const char *path, const void *data, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

/* NULL: no such file. The caller frees; NUL-terminated. */
__attribute__((unused)) static char *fixture_read(const char *path, size_t *n)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return NULL;
    fseek(file, 0, SEEK_END);
    const long size = ftell(file);
    rewind(file);
    char *data = malloc((size_t)size + 1);
    assert_non_null(data);
    *n = fread(data, 1, (size_t)size, file);
    assert_int_equal(*n, size);
    data[size] = '\0';
    fclose(file);
    return data;
}

__attribute__((unused)) static void check_ok(enum status status, const struct error *error)
{
    if (status != STATUS_OK)
        fail_msg("%s: %s", status_name(status), error->text);
}

__attribute__((unused)) static struct model_file *fixture_open(const char *path)
{
    struct model_file *file = NULL;
    struct error error = {0};
    check_ok(model_open(&file, path, &error), &error);
    return file;
}

/* ---- a file, byte by byte ------------------------------------------------------------------- */

struct bytes {
    uint8_t data[8192];
    size_t n;
};

__attribute__((unused)) static void put_bytes(struct bytes *b, const void *data, size_t n)
{
    assert_true(n <= sizeof(b->data) - b->n);
    memcpy(b->data + b->n, data, n);
    b->n += n;
}

__attribute__((unused)) static void put_u32(struct bytes *b, uint32_t value)
{
    put_bytes(b, &value, sizeof(value));
}

__attribute__((unused)) static void put_u64(struct bytes *b, uint64_t value)
{
    put_bytes(b, &value, sizeof(value));
}

__attribute__((unused)) static void put_text(struct bytes *b, const char *text)
{
    put_u64(b, strlen(text));
    put_bytes(b, text, strlen(text));
}

__attribute__((unused)) static void put_header(struct bytes *b, uint32_t version,
                                               uint64_t n_tensors, uint64_t n_keys)
{
    b->n = 0;
    put_bytes(b, "GGUF", 4);
    put_u32(b, version);
    put_u64(b, n_tensors);
    put_u64(b, n_keys);
}

__attribute__((unused)) static void put_tensor(struct bytes *b, const char *name, uint32_t n_dims,
                                               const uint64_t *dims, uint32_t type, uint64_t offset)
{
    put_text(b, name);
    put_u32(b, n_dims);
    for (uint32_t i = 0; i < n_dims; i++)
        put_u64(b, dims[i]);
    put_u32(b, type);
    put_u64(b, offset);
}

__attribute__((unused)) static void put_padding(struct bytes *b, size_t n_after)
{
    static const uint8_t zeros[4096];
    put_bytes(b, zeros, -b->n & 31);
    put_bytes(b, zeros, n_after);
}

/* ---- vocabularies --------------------------------------------------------------------------- */

struct vocabulary {
    const char *model, *pre; /* NULL: the key is left out */
    struct model_string tokens[600], merges[32];
    float scores[600];
    int32_t types[600];
    size_t n, n_merges;
    char names[256][8]; /* memory of the byte names */
    bool no_scores, no_types;
    size_t n_scores, n_types;               /* 0: as many as tokens */
    int32_t bos, eos;                       /* -1: the key is left out */
    int add_bos, add_eos, add_space_prefix; /* -1: the key is left out */
};

__attribute__((unused)) static int32_t add_token(struct vocabulary *v, const char *name,
                                                 float score, int32_t type)
{
    v->tokens[v->n] = (struct model_string){name, strlen(name)};
    v->scores[v->n] = score;
    v->types[v->n] = type;
    return (int32_t)v->n++;
}

__attribute__((unused)) static void add_merge(struct vocabulary *v, const char *merge)
{
    v->merges[v->n_merges++] = (struct model_string){merge, strlen(merge)};
}

/* <unk> <s> </s>, then the bytes as 3 to 258. */
__attribute__((unused)) static void spm_vocabulary(struct vocabulary *v)
{
    *v = (struct vocabulary){
        .model = "llama", .bos = 1, .eos = 2, .add_bos = -1, .add_eos = -1, .add_space_prefix = -1};
    add_token(v, "<unk>", 0, TOKENIZER_TYPE_UNKNOWN);
    add_token(v, "<s>", 0, TOKENIZER_TYPE_CONTROL);
    add_token(v, "</s>", 0, TOKENIZER_TYPE_CONTROL);
    for (unsigned i = 0; i < 256; i++) {
        snprintf(v->names[i], sizeof(v->names[i]), "<0x%02X>", i);
        add_token(v, v->names[i], 0, TOKENIZER_TYPE_BYTE);
    }
}

/* The bytes as 0 to 255, in order of their value, written in GPT-2's alphabet. */
__attribute__((unused)) static void bpe_vocabulary(struct vocabulary *v, const char *pre)
{
    *v = (struct vocabulary){.model = "gpt2",
                             .pre = pre,
                             .no_scores = true,
                             .bos = -1,
                             .eos = -1,
                             .add_bos = -1,
                             .add_eos = -1,
                             .add_space_prefix = -1};
    unsigned next = 256;
    for (unsigned i = 0; i < 256; i++) {
        const bool itself = (i >= '!' && i <= '~') || (i >= 0xa1 && i != 0xad);
        const unsigned code_point = itself ? i : next++;
        if (code_point < 0x80)
            snprintf(v->names[i], sizeof(v->names[i]), "%c", code_point);
        else
            snprintf(v->names[i], sizeof(v->names[i]), "%c%c", 0xc0 | code_point >> 6,
                     0x80 | (code_point & 0x3f));
        add_token(v, v->names[i], 0, TOKENIZER_TYPE_NORMAL);
    }
}

__attribute__((unused)) static void write_vocabulary_keys(struct gguf_writer *w,
                                                          const struct vocabulary *v)
{
    struct error e = {0};
    gguf_writer_add_string(w, "tokenizer.ggml.model", v->model, &e);
    if (v->pre != NULL)
        gguf_writer_add_string(w, "tokenizer.ggml.pre", v->pre, &e);
    gguf_writer_add_strings(w, "tokenizer.ggml.tokens", v->tokens, v->n, &e);
    if (!v->no_scores)
        gguf_writer_add_array(w, "tokenizer.ggml.scores", GGUF_VALUE_F32, v->scores,
                              v->n_scores ? v->n_scores : v->n, &e);
    if (!v->no_types)
        gguf_writer_add_array(w, "tokenizer.ggml.token_type", GGUF_VALUE_I32, v->types,
                              v->n_types ? v->n_types : v->n, &e);
    if (v->n_merges > 0)
        gguf_writer_add_strings(w, "tokenizer.ggml.merges", v->merges, v->n_merges, &e);
    if (v->bos >= 0)
        gguf_writer_add_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)v->bos, &e);
    if (v->eos >= 0)
        gguf_writer_add_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)v->eos, &e);
    if (v->add_bos >= 0)
        gguf_writer_add_bool(w, "tokenizer.ggml.add_bos_token", v->add_bos, &e);
    if (v->add_eos >= 0)
        gguf_writer_add_bool(w, "tokenizer.ggml.add_eos_token", v->add_eos, &e);
    if (v->add_space_prefix >= 0)
        gguf_writer_add_bool(w, "tokenizer.ggml.add_space_prefix", v->add_space_prefix, &e);
    check_ok(e.status, &e);
}

__attribute__((unused)) static enum status open_vocabulary(struct tokenizer **tokenizer,
                                                           const struct vocabulary *v,
                                                           struct error *error)
{
    const char *path = fixture_path("vocabulary.gguf");
    struct gguf_writer *w;
    struct error e = {0};
    check_ok(gguf_writer_create(&w, path, &e), &e);
    write_vocabulary_keys(w, v);
    check_ok(gguf_writer_finish(w, &e), &e);
    struct model_file *file = fixture_open(path);
    const enum status status = tokenizer_open(tokenizer, file, error);
    model_close(file); /* a tokenizer keeps nothing of it */
    return status;
}

__attribute__((unused)) static struct tokenizer *good_vocabulary(const struct vocabulary *v)
{
    struct tokenizer *tokenizer = NULL;
    struct error error = {0};
    check_ok(open_vocabulary(&tokenizer, v, &error), &error);
    return tokenizer;
}

__attribute__((unused)) static void expect_ids(const struct tokenizer *tokenizer, const char *text,
                                               size_t n_bytes, unsigned flags,
                                               const int32_t *expected, size_t n_expected)
{
    int32_t *ids = NULL;
    size_t n = 0;
    struct error error = {0};
    check_ok(tokenizer_encode(tokenizer, text, n_bytes, flags, &ids, &n, &error), &error);
    for (size_t i = 0; i < n && i < n_expected; i++)
        if (ids[i] != expected[i])
            fail_msg("'%s': id %zu is %d, expected %d", text, i, ids[i], expected[i]);
    assert_int_equal(n, n_expected);
    free(ids);
}

#define EXPECT_IDS(tokenizer, text, flags, ...)                                                    \
    do {                                                                                           \
        const int32_t expected_[] = {__VA_ARGS__};                                                 \
        expect_ids(tokenizer, text, sizeof(text) - 1, flags, expected_,                            \
                   sizeof(expected_) / sizeof(expected_[0]));                                      \
    } while (0)

#endif
