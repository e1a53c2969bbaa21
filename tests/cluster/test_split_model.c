/* test_split_model.c - the parts together are the model, byte for byte, and a failure leaves
 * none. */
#include "cluster/split_model.h"

#include "cluster/make_random.h"
#include "model/model_file.h"
#include "tests/cmocka.h"
#include "tests/directory.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = FILE_PATH_BYTES + 64 };

static char source[PATH_BYTES], prefix[PATH_BYTES];

static int make_source(void **state)
{
    struct make_random_shape shape;
    struct make_random_options options = {.shape = &shape, .seed = 1};
    if (file_make_temporary(directory, NULL) != STATUS_OK)
        return -1;
    snprintf(source, sizeof(source), "%s/source.gguf", directory);
    snprintf(prefix, sizeof(prefix), "%s/parts", directory);
    return make_random_shape(&shape, "tiny,layers=2", NULL) != STATUS_OK ||
           mixture_find(&options.mixture, "Q4_K_M", NULL) != STATUS_OK ||
           make_random(source, &options, NULL) != STATUS_OK;
}

static const char *part_path(size_t number, size_t n, char path[PATH_BYTES + 64])
{
    snprintf(path, PATH_BYTES + 64, "%s-%05zu-of-%05zu.gguf", prefix, number, n);
    return path;
}

static void same_model(const char *path)
{
    struct model_file *a = NULL, *b = NULL;
    struct error error = {0};
    assert_int_equal(model_open(&a, source, &error), STATUS_OK);
    if (model_open(&b, path, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_int_equal(model_key_count(a), model_key_count(b));
    for (size_t i = 0; i < model_key_count(a); i++) {
        const struct model_key *x = model_key_at(a, i), *y = model_key_find(b, x->name);
        assert_non_null(y);
        assert_int_equal(x->type, y->type);
        assert_int_equal(x->n_bytes, y->n_bytes);
        assert_memory_equal(x->data, y->data, x->n_bytes);
    }
    assert_int_equal(model_tensor_count(a), model_tensor_count(b));
    for (size_t i = 0; i < model_tensor_count(a); i++) {
        const struct model_tensor *x = model_tensor_at(a, i), *y = model_tensor_at(b, i);
        assert_string_equal(x->name, y->name);
        assert_int_equal(x->type, y->type);
        assert_memory_equal(x->dims, y->dims, sizeof(x->dims));
        assert_memory_equal(x->data, y->data, x->n_bytes);
    }
    model_close(a);
    model_close(b);
}

static void test_the_parts_are_the_model(void **state)
{
    static const uint64_t sizes[] = {1, 100000, 400000, UINT64_MAX}; /* 1: each tensor alone */
    char path[PATH_BYTES + 64];
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct split_model_options options = {.max_bytes = sizes[i]};
        struct error error = {0};
        size_t n = 0;
        if (split_model(source, prefix, &options, &n, &error) != STATUS_OK)
            fail_msg("%s", error.text);
        assert_int_equal(n == 1, sizes[i] == UINT64_MAX);
        same_model(part_path(n, n, path));
        for (size_t k = 1; k <= n; k++) {
            struct stat info;
            assert_int_equal(stat(part_path(k, n, path), &info), 0);
            assert_true(sizes[i] < 100000 || sizes[i] == UINT64_MAX ||
                        (uint64_t)info.st_size <= sizes[i] + 100000); /* with keys, one tensor */
        }
        same_model(part_path(1, n, path));
        for (size_t k = 1; k <= n; k++)
            unlink(part_path(k, n, path));
    }
}

static void test_a_failure_leaves_no_part(void **state)
{
    const struct split_model_options options = {.max_bytes = 1};
    struct model_file *file = NULL;
    struct error error = {0};
    char path[PATH_BYTES + 64];
    size_t n = 0;
    assert_int_equal(model_open(&file, source, NULL), STATUS_OK);
    const size_t n_tensors = model_tensor_count(file);
    model_close(file);
    assert_int_equal(mkdir(part_path(3, n_tensors, path), 0700), 0); /* nothing takes its place */
    assert_int_equal(split_model(source, prefix, &options, &n, &error), STATUS_INVALID);
    assert_int_equal(rmdir(path), 0);
    for (size_t k = 1; k <= n_tensors; k++)
        assert_int_equal(access(part_path(k, n_tensors, path), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_parts_are_the_model),
        cmocka_unit_test(test_a_failure_leaves_no_part),
    };
    return cmocka_run_group_tests(tests, make_source, remove_directory);
}
