/* test_quantize.c - every tensor is the type's own bytes of the source, and nothing else changes;
 * what cannot be done is refused by name and leaves what was there. */
#include "cluster/quantize.h"

#include "cluster/make_random.h"
#include "kernels/quant/types.h"
#include "tests/cmocka.h"
#include "tests/directory.h"
#include "tests/thread_sanitizer.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = FILE_PATH_BYTES + 32 };

static const char *path_of(const char *name, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/%s", directory, name);
    return path;
}

static const struct mixture *mixture_of(const char *name)
{
    const struct mixture *mixture = NULL;
    assert_int_equal(mixture_find(&mixture, name, NULL), STATUS_OK);
    return mixture;
}

static struct model_file *open_file(const char *name)
{
    char path[PATH_BYTES];
    struct model_file *file = NULL;
    assert_int_equal(model_open(&file, path_of(name, path), NULL), STATUS_OK);
    return file;
}

/* Two layers; ffn_down's rows (352) are no whole super-blocks. */
static const char *source_shape = "tiny,layers=2,ffn=352";

static void make_source(const char *name, const char *type)
{
    char path[PATH_BYTES];
    struct make_random_shape shape;
    assert_int_equal(make_random_shape(&shape, source_shape, NULL), STATUS_OK);
    const struct make_random_options options = {
        .shape = &shape, .mixture = mixture_of(type), .seed = 5};
    assert_int_equal(make_random(path_of(name, path), &options, NULL), STATUS_OK);
}

static enum status quantize(const char *source, const char *out, const char *type, uint32_t n_lanes,
                            bool allow_requantize, const struct log *log, struct error *error)
{
    char from[PATH_BYTES], to[PATH_BYTES];
    struct quantize_options options = {
        .mixture = mixture_of(type), .allow_requantize = allow_requantize, .log = log};
    struct quantize_result result = {0};
    assert_int_equal(thread_pool_create(&options.pool, n_lanes, NULL), STATUS_OK);
    const enum status status =
        quantize_model(path_of(source, from), path_of(out, to), &options, &result, error);
    thread_pool_destroy(options.pool);
    if (status == STATUS_OK) {
        struct model_file *file = open_file(out);
        uint64_t bytes = 0;
        for (size_t i = 0; i < model_tensor_count(file); i++)
            bytes += model_tensor_at(file, i)->n_bytes;
        assert_true(result.bytes == bytes && result.n_weights > 0 && result.source_bytes > 0);
        model_close(file);
    }
    return status;
}

static void check_tensor(const struct model_tensor *from, const struct model_tensor *to)
{
    const size_t n = (size_t)(from->dims[0] * from->dims[1] * from->dims[2]);
    float *values = malloc(n * sizeof(*values));
    void *expected = malloc((size_t)to->n_bytes);
    assert_true(values != NULL && expected != NULL);
    weight_dequantize((enum weight_type)from->type, values, from->data, n);
    weight_quantize((enum weight_type)to->type, expected, values, n);
    assert_memory_equal(to->data, expected, to->n_bytes);
    free(values);
    free(expected);
}

static void check_keys(const struct model_file *from, const struct model_file *to,
                       const struct mixture *mixture)
{
    uint32_t value = 0;
    for (size_t i = 0; i < model_key_count(from); i++) {
        const struct model_key *a = model_key_at(from, i), *b = model_key_find(to, a->name);
        if (strcmp(a->name, "general.file_type") == 0)
            continue;
        assert_non_null(b);
        assert_int_equal(a->type, b->type);
        assert_int_equal(a->element_type, b->element_type);
        assert_int_equal(a->n, b->n);
        assert_int_equal(a->n_bytes, b->n_bytes);
        assert_memory_equal(a->data, b->data, a->n_bytes);
    }
    assert_int_equal(model_get_u32(to, "general.quantization_version", &value, NULL), STATUS_OK);
    assert_int_equal(value, 2);
    if (mixture->file_type != MIXTURE_NO_FILE_TYPE) {
        assert_int_equal(model_get_u32(to, "general.file_type", &value, NULL), STATUS_OK);
        assert_int_equal(value, mixture->file_type);
    } else {
        assert_null(model_key_find(to, "general.file_type"));
    }
}

static void test_every_tensor_is_the_sources_in_its_type(void **state)
{
    static const char *const sources[] = {"F32", "F16", "BF16", "mixed"};
    const size_t each = THREAD_SANITIZER ? 3 : 1;
    thread_sanitizer_leaves_out("most types of sources and of what is made of them");
    for (size_t s = 0; s < sizeof(sources) / sizeof(sources[0]); s += each) {
        make_source("source", sources[s]);
        struct model_file *from = open_file("source");
        struct hparams hparams;
        assert_int_equal(hparams_read(&hparams, from, NULL), STATUS_OK);
        for (const struct mixture *m = mixtures; m->name != NULL; m++) {
            struct error error = {0};
            if (THREAD_SANITIZER && (m - mixtures) % 5 != 0)
                continue;
            if (quantize("source", "out", m->name, 2, true, NULL, &error) != STATUS_OK)
                fail_msg("%s to %s: %s", sources[s], m->name, error.text);
            struct model_file *to = open_file("out");
            assert_int_equal(weights_check(to, &hparams, &error), STATUS_OK);
            check_keys(from, to, m);
            assert_int_equal(model_tensor_count(to), model_tensor_count(from));
            for (size_t i = 0; i < model_tensor_count(to); i++) {
                const struct model_tensor *tensor = model_tensor_at(to, i);
                enum weights_id id = 0;
                uint32_t layer = 0;
                assert_string_equal(tensor->name, model_tensor_at(from, i)->name);
                assert_true(weights_identify(tensor->name, 2, &id, &layer));
                assert_int_equal(
                    tensor->type,
                    mixture_fitting_type(mixture_type(m, &hparams, id, layer), tensor->dims[0]));
                if (tensor->type == model_tensor_at(from, i)->type) /* copied, not rounded again */
                    assert_memory_equal(tensor->data, model_tensor_at(from, i)->data,
                                        tensor->n_bytes);
                else
                    check_tensor(model_tensor_at(from, i), tensor);
            }
            model_close(to);
        }
        model_close(from);
    }
}

/* Experts are rounded each by itself, down to more bits where ffn_down has them; routers are
 * not. */
static void test_experts_too(void **state)
{
    source_shape =
        "tiny,layers=2,hidden=64,heads=2,kv-heads=1,head-dim=32,ffn=96,experts=5,experts-used=2";
    test_every_tensor_is_the_sources_in_its_type(state);
    source_shape = "tiny,layers=2,ffn=256,experts=3";
    make_source("source", "F32");
    assert_int_equal(quantize("source", "out", "Q4_K_M", 2, false, NULL, NULL), STATUS_OK);
    struct model_file *file = open_file("out");
    assert_int_equal(model_tensor_find(file, "blk.0.ffn_gate_exps.weight")->type, GGUF_TYPE_Q4_K);
    assert_int_equal(model_tensor_find(file, "blk.1.ffn_down_exps.weight")->type, GGUF_TYPE_Q6_K);
    assert_int_equal(model_tensor_find(file, "blk.1.ffn_gate_inp.weight")->type, GGUF_TYPE_F32);
    model_close(file);
    source_shape = "tiny,layers=2,ffn=352";
}

static void test_lanes_do_not_change_a_byte(void **state)
{
    char path[PATH_BYTES], *first = NULL, *other = NULL;
    size_t first_bytes = 0, other_bytes = 0;
    make_source("source", "F32");
    for (uint32_t n_lanes = 1; n_lanes <= 5; n_lanes += 2) {
        assert_int_equal(quantize("source", "out", "Q4_K_M", n_lanes, false, NULL, NULL),
                         STATUS_OK);
        assert_int_equal(file_read(path_of("out", path), 1 << 26, n_lanes == 1 ? &first : &other,
                                   n_lanes == 1 ? &first_bytes : &other_bytes, NULL),
                         STATUS_OK);
        if (n_lanes > 1) {
            assert_int_equal(other_bytes, first_bytes);
            assert_memory_equal(other, first, first_bytes);
            free(other);
        }
    }
    free(first);
}

static void test_rounding_twice_must_be_asked_for(void **state)
{
    struct error error = {0};
    char path[PATH_BYTES];
    make_source("source", "Q8_0");
    assert_int_equal(quantize("source", "none", "Q4_K", 1, false, NULL, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "token_embd.weight is Q8_0"));
    assert_non_null(strstr(error.text, "--allow-requantize"));
    assert_int_equal(access(path_of("none", path), F_OK), -1);
    assert_int_equal(quantize("source", "out", "F16", 1, false, NULL, NULL), STATUS_INVALID);
    /* nothing is rounded */
    assert_int_equal(quantize("source", "out", "F32", 1, false, NULL, NULL), STATUS_OK);
    assert_int_equal(quantize("source", "out", "Q8_0", 1, false, NULL, NULL), STATUS_OK);
    assert_int_equal(quantize("source", "out", "Q4_K", 1, true, NULL, NULL), STATUS_OK);
}

/* Puts `value` at row 3, column 5 of a tensor of an F32 file. */
static void damage(const char *name, const char *tensor_name, float value)
{
    char path[PATH_BYTES];
    struct model_file *file = open_file(name);
    const struct model_tensor *tensor = model_tensor_find(file, tensor_name);
    const off_t at = (off_t)(tensor->offset + (3 * tensor->dims[0] + 5) * sizeof(float));
    model_close(file);
    const int fd = open(path_of(name, path), O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &value, sizeof(value), at), sizeof(value));
    close(fd);
}

static void test_weights_that_are_no_weights(void **state)
{
    static const struct {
        float value;
        const char *type, *words;
    } cases[] = {
        {NAN, "Q4_K", "damaged"},  {-NAN, "BF16", "damaged"}, {INFINITY, "F16", "inf"},
        {1e5f, "F16", "100000"},   {-7e4f, "Q8_0", "-70000"}, {3e38f, "Q6_K", "F32 and BF16"},
        {65520.0f, "Q4_0", "655"},
    };
    char path[PATH_BYTES], *data = NULL;
    size_t n_bytes = 0;
    assert_int_equal(file_write(path_of("out", path), "before", 6, 0600, NULL), STATUS_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error error = {0};
        make_source("source", "F32");
        damage("source", "blk.1.attn_k.weight", cases[i].value);
        assert_int_equal(quantize("source", "out", cases[i].type, 3, false, NULL, &error),
                         STATUS_INVALID);
        if (strstr(error.text, "blk.1.attn_k.weight, row 3, column 5 is") == NULL ||
            strstr(error.text, cases[i].words) == NULL || strstr(error.text, directory) == NULL)
            fail_msg("%s", error.text);
    }
    damage("source", "blk.1.attn_k.weight", 1e5f);
    assert_int_equal(file_read(path, 100, &data, &n_bytes, NULL), STATUS_OK);
    assert_true(n_bytes == 6 && memcmp(data, "before", 6) == 0);
    free(data);
    assert_int_equal(quantize("source", "out", "BF16", 3, false, NULL, NULL), STATUS_OK);
}

static void test_the_source_is_never_overwritten(void **state)
{
    char from[PATH_BYTES], link_path[PATH_BYTES], *before = NULL, *after = NULL;
    size_t n_before = 0, n_after = 0;
    make_source("source", "F32");
    assert_int_equal(symlink(path_of("source", from), path_of("link", link_path)), 0);
    assert_int_equal(link(from, path_of("other-name", link_path)), 0);
    assert_int_equal(file_read(from, 1 << 26, &before, &n_before, NULL), STATUS_OK);
    static const char *const outs[] = {"source", "link", "other-name", "./source"};
    for (size_t i = 0; i < sizeof(outs) / sizeof(outs[0]); i++) {
        struct error error = {0};
        assert_int_equal(quantize("source", outs[i], "F16", 1, false, NULL, &error),
                         STATUS_INVALID);
        assert_non_null(strstr(error.text, "source itself"));
    }
    assert_int_equal(file_read(from, 1 << 26, &after, &n_after, NULL), STATUS_OK);
    assert_int_equal(n_after, n_before);
    assert_memory_equal(after, before, n_before);
    free(before);
    free(after);
}

static void test_another_type_than_asked_for_is_said(void **state)
{
    char path[PATH_BYTES], *text = NULL;
    size_t n_bytes = 0;
    struct log log;
    log_open(&log, "test", 0);
    log.descriptor = open(path_of("log", path), O_CREAT | O_WRONLY, 0600);
    make_source("source", "F32");
    assert_int_equal(quantize("source", "out", "Q4_K", 1, false, &log, NULL), STATUS_OK);
    close(log.descriptor);
    assert_int_equal(file_read(path, 1 << 20, &text, &n_bytes, NULL), STATUS_OK);
    assert_non_null(strstr(text, "blk.0.ffn_down.weight: rows of 352"));
    assert_non_null(strstr(text, "blk.1.ffn_down.weight"));
    assert_non_null(strstr(text, "it gets Q5_0"));
    assert_null(strstr(text, "ffn_up"));
    free(text);
}

static void test_what_is_no_model_is_refused(void **state)
{
    char path[PATH_BYTES];
    struct error error = {0};
    struct gguf_writer *writer = NULL;
    assert_int_equal(quantize("absent", "none", "F16", 1, false, NULL, &error), STATUS_NOT_FOUND);
    assert_int_equal(file_write(path_of("text", path), "hello, world", 12, 0600, NULL), STATUS_OK);
    assert_int_equal(quantize("text", "none", "F16", 1, false, NULL, &error), STATUS_INVALID);
    assert_int_equal(gguf_writer_create(&writer, path_of("other", path), NULL), STATUS_OK);
    gguf_writer_add_string(writer, "general.architecture", "unheard-of", NULL);
    assert_int_equal(gguf_writer_finish(writer, NULL), STATUS_OK);
    assert_int_equal(quantize("other", "none", "F16", 1, false, NULL, &error), STATUS_UNSUPPORTED);
    assert_non_null(strstr(error.text, "unheard-of"));
    assert_int_equal(access(path_of("none", path), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tensor_is_the_sources_in_its_type),
        cmocka_unit_test(test_experts_too),
        cmocka_unit_test(test_lanes_do_not_change_a_byte),
        cmocka_unit_test(test_rounding_twice_must_be_asked_for),
        cmocka_unit_test(test_weights_that_are_no_weights),
        cmocka_unit_test(test_the_source_is_never_overwritten),
        cmocka_unit_test(test_another_type_than_asked_for_is_said),
        cmocka_unit_test(test_what_is_no_model_is_refused),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
