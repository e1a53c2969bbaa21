/* Any part of a split model names the whole; what does not fit together is refused, and the text
 * names the part. */
#include "model/gguf_split.h"
#include "model/model_file.h"
#include "tests/cmocka.h"
#include "tests/model/fixtures.h"

enum { N_PARTS = 3, ROW = 8 };

/* Part `index` as it should be, but for what a test changes. */
struct part {
    size_t index;
    uint32_t number, count, n_tensors;
    const char *tensor, *without_key;
    bool text_number; /* split.no is a string */
};

static struct part good_part(size_t index)
{
    static const char *const tensors[N_PARTS] = {"a", "b", "c"};
    return (struct part){.index = index,
                         .number = (uint32_t)index,
                         .count = N_PARTS,
                         .n_tensors = N_PARTS,
                         .tensor = tensors[index]};
}

static void add_u32(struct gguf_writer *w, const struct part *p, const char *key, uint32_t value)
{
    if (p->without_key == NULL || strcmp(p->without_key, key) != 0)
        gguf_writer_add_u32(w, key, value, NULL);
}

static void write_at(const struct part *p, const char *path)
{
    const float row[ROW] = {(float)p->index};
    struct gguf_writer *w = NULL;
    struct error e = {0};
    check_ok(gguf_writer_create(&w, path, &e), &e);
    if (p->index == 0)
        gguf_writer_add_u32(w, "a.number", 7, &e);
    if (p->text_number)
        gguf_writer_add_string(w, "split.no", "0", &e);
    else
        add_u32(w, p, "split.no", p->number);
    add_u32(w, p, "split.count", p->count);
    add_u32(w, p, "split.tensors.count", p->n_tensors);
    gguf_writer_declare(w, p->tensor, GGUF_TYPE_F32, 1, (uint64_t[]){ROW}, &e);
    gguf_writer_data(w, row, sizeof(row), &e);
    check_ok(gguf_writer_finish(w, &e), &e);
}

static const char *part_path(size_t index)
{
    char name[64];
    snprintf(name, sizeof(name), "m-%05zu-of-%05d.gguf", index + 1, N_PARTS);
    return fixture_path(name);
}

static void write_part(const struct part *p)
{
    write_at(p, part_path(p->index));
}

static void write_all(void)
{
    for (size_t i = 0; i < N_PARTS; i++) {
        const struct part p = good_part(i);
        write_part(&p);
    }
}

/* Whichever part is named, the text has `words`; parts in `skip` are not tried. */
static void refused(enum status expected, const char *words, unsigned skip)
{
    for (size_t i = 0; i < N_PARTS; i++) {
        struct model_file *file = NULL;
        struct error error = {0};
        if ((skip & 1u << i) != 0)
            continue;
        const enum status status = model_open(&file, part_path(i), &error);
        if (status != expected || strstr(error.text, words) == NULL)
            fail_msg("part %zu: %s: %s; expected '%s'", i, status_name(status), error.text, words);
        assert_null(file);
    }
    write_all();
}

static void test_any_part_names_the_model(void **state)
{
    uint8_t prints[N_PARTS][MODEL_FINGERPRINT_BYTES];
    write_all();
    for (size_t i = 0; i < N_PARTS; i++) {
        struct model_file *file = fixture_open(part_path(i));
        uint32_t number = 0;
        assert_int_equal(model_part_count(file), N_PARTS);
        assert_int_equal(model_tensor_count(file), N_PARTS);
        assert_int_equal(model_key_count(file), 1); /* split.* say nothing about the model */
        check_ok(model_get_u32(file, "a.number", &number, NULL), NULL);
        assert_int_equal(number, 7);
        for (size_t k = 0; k < N_PARTS; k++) {
            const struct model_tensor *tensor = model_tensor_at(file, k);
            assert_ptr_equal(tensor, model_tensor_find(file, good_part(k).tensor));
            assert_true(*(const float *)tensor->data == (float)k);
            assert_string_equal(model_part_at(file, k)->path, part_path(k));
        }
        model_fingerprint(file, prints[i]);
        assert_memory_equal(prints[i], prints[0], sizeof(prints[0]));
        model_close(file);
    }
    struct part other = good_part(2); /* one float of one part */
    other.index = 5;
    write_at(&other, part_path(2));
    struct model_file *file = fixture_open(part_path(0));
    model_fingerprint(file, prints[1]);
    assert_memory_not_equal(prints[1], prints[0], sizeof(prints[0]));
    model_close(file);
}

static void test_a_missing_part_is_named(void **state)
{
    for (size_t i = 0; i < N_PARTS; i++) {
        char words[64];
        write_all();
        assert_int_equal(unlink(part_path(i)), 0);
        snprintf(words, sizeof(words), "part %zu of %d is missing", i + 1, N_PARTS);
        refused(STATUS_NOT_FOUND, words, 1u << i);
    }
}

static void test_parts_that_do_not_fit_together(void **state)
{
    write_all();
    struct part p = good_part(1);
    p.number = 2; /* a copy of part 3 under the name of part 2 */
    write_part(&p);
    refused(STATUS_INVALID, "00002-of-00003.gguf", 1u << 1);
    p = good_part(1);
    p.count = 2;
    write_part(&p);
    refused(STATUS_INVALID, "part 2 of 2", 1u << 1);
    p = good_part(1);
    p.n_tensors = 4;
    write_part(&p);
    refused(STATUS_INVALID, "4 tensors in all", 1u << 1);
    p = good_part(1);
    p.tensor = "c";
    write_part(&p);
    refused(STATUS_INVALID, "tensor c is in two of its parts", 0);
    p = good_part(1);
    p.without_key = "split.count"; /* a model of its own */
    write_part(&p);
    refused(STATUS_INVALID, "00002-of-00003.gguf: its keys say part 1 of 1", 1u << 1);
    p = good_part(1);
    p.without_key = "split.no";
    write_part(&p);
    refused(STATUS_INVALID, "key split.no is missing", 0);
    p = good_part(1);
    p.text_number = true;
    write_part(&p);
    refused(STATUS_INVALID, "key split.no is of type string", 0);
    for (size_t i = 0; i < N_PARTS; i++) {
        p = good_part(i);
        p.n_tensors = 4;
        write_part(&p);
    }
    refused(STATUS_INVALID, "the 3 parts have 3 tensors; split.tensors.count is 4", 0);
}

static void test_impossible_counts(void **state)
{
    static const struct {
        uint32_t number, count;
    } cases[] = {{3, 3}, {70000, 70001}, {0, UINT32_MAX}, {UINT32_MAX, 3}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct part p = good_part(0);
        struct model_file *file = NULL;
        struct error error = {0};
        p.number = cases[i].number;
        p.count = cases[i].count;
        write_at(&p, fixture_path("m-00001-of-00003.gguf"));
        assert_int_equal(model_open(&file, fixture_path("m-00001-of-00003.gguf"), &error),
                         STATUS_INVALID);
        assert_non_null(strstr(error.text, "m-00001-of-00003.gguf: corrupt: part"));
    }
}

static void test_a_part_under_another_name(void **state)
{
    static const char *const names[] = {"m.gguf", "m-00002-of-00003.gguf", "m-1-of-3.gguf",
                                        "00001-of-00003.gguf"};
    const struct part p = good_part(0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct model_file *file = NULL;
        struct error error = {0};
        write_at(&p, fixture_path(names[i]));
        assert_int_equal(model_open(&file, fixture_path(names[i]), &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, "this is part 1 of 3"));
    }
}

static void test_one_part_is_a_model(void **state)
{
    for (uint32_t count = 0; count <= 1; count++) { /* 0: parts that were put together again */
        struct part p = good_part(0);
        p.count = count;
        p.n_tensors = 1;
        write_at(&p, fixture_path("whole.gguf"));
        struct model_file *file = fixture_open(fixture_path("whole.gguf"));
        assert_int_equal(model_part_count(file), 1);
        model_close(file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_part_names_the_model),
        cmocka_unit_test(test_a_missing_part_is_named),
        cmocka_unit_test(test_parts_that_do_not_fit_together),
        cmocka_unit_test(test_impossible_counts),
        cmocka_unit_test(test_a_part_under_another_name),
        cmocka_unit_test(test_one_part_is_a_model),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
