/* The reader takes what the format allows and refuses everything else without touching a byte
 * outside the file. */
#include "model/gguf.h"
#include "tests/cmocka.h"
#include "tests/model/fixtures.h"

static enum status open_bytes(const struct bytes *b, struct error *error)
{
    const char *path = fixture_path("hostile.gguf");
    struct model_file *file = NULL;
    fixture_write(path, b->data, b->n);
    const enum status status = model_open(&file, path, error);
    if (status == STATUS_OK)
        model_close(file);
    else
        assert_null(file); /* outputs are untouched on failure */
    return status;
}

/* Refused with this status and a text that begins with the path and contains `word`. */
static void refused(const struct bytes *b, enum status expected, const char *word)
{
    struct error error = {0};
    const enum status status = open_bytes(b, &error);
    if (status != expected)
        fail_msg("expected %s (%s), got %s: %s", status_name(expected), word, status_name(status),
                 error.text);
    assert_int_equal(error.status, expected);
    assert_non_null(strstr(error.text, "hostile.gguf"));
    if (strstr(error.text, word) == NULL)
        fail_msg("'%s' does not say '%s'", error.text, word);
}

/* One key of each kind, one tensor of 8 floats. */
static void small_file(struct bytes *b, uint32_t version)
{
    static const uint64_t dims[] = {4, 2};
    put_header(b, version, 1, 4);
    put_text(b, "a.number");
    put_u32(b, GGUF_VALUE_U32);
    put_u32(b, 7);
    put_text(b, "a.text");
    put_u32(b, GGUF_VALUE_STRING);
    put_text(b, "hello");
    put_text(b, "a.list");
    put_u32(b, GGUF_VALUE_ARRAY);
    put_u32(b, GGUF_VALUE_STRING);
    put_u64(b, 2);
    put_text(b, "x");
    put_text(b, "yz");
    put_text(b, "a.row");
    put_u32(b, GGUF_VALUE_ARRAY);
    put_u32(b, GGUF_VALUE_U8);
    put_u64(b, 3);
    put_bytes(b, "\1\2\3", 3);
    put_tensor(b, "t", 2, dims, GGUF_TYPE_F32, 0);
    put_padding(b, 32);
}

static void test_versions_2_and_3_are_read(void **state)
{
    struct bytes b;
    for (uint32_t version = 2; version <= 3; version++) {
        small_file(&b, version);
        fixture_write(fixture_path("good.gguf"), b.data, b.n);
        struct model_file *g = fixture_open(fixture_path("good.gguf"));
        uint32_t number = 0;
        assert_string_equal(model_format(g), version == 2 ? "GGUF 2" : "GGUF 3");
        assert_int_equal(model_key_count(g), 4);
        assert_int_equal(model_tensor_count(g), 1);
        assert_int_equal(model_get_u32(g, "a.number", &number, NULL), STATUS_OK);
        assert_int_equal(number, 7);
        const struct model_tensor *t = model_tensor_find(g, "t");
        assert_ptr_equal(t, model_tensor_at(g, 0));
        assert_int_equal(t->n_dims, 2);
        assert_int_equal(t->dims[0], 4);
        assert_int_equal(t->dims[1], 2);
        assert_int_equal(t->dims[2], 1);
        assert_int_equal(t->n_bytes, 32);
        assert_int_equal(t->offset, b.n - 32);
        assert_int_equal((uintptr_t)t->data % 8, 0);
        assert_null(model_tensor_find(g, "u"));
        model_close(g);
    }
}

static void test_every_truncation_is_refused(void **state)
{
    struct bytes b;
    struct error error = {0};
    small_file(&b, 3);
    const size_t whole = b.n;
    for (b.n = 0; b.n < whole; b.n++) {
        const enum status status = open_bytes(&b, &error);
        if (status != STATUS_INVALID)
            fail_msg("cut to %zu of %zu bytes: %s", b.n, whole, status_name(status));
    }
    assert_int_equal(open_bytes(&b, &error), STATUS_OK);
}

static void test_no_changed_byte_crashes_the_reader(void **state)
{
    struct bytes b;
    struct error error = {0};
    small_file(&b, 3);
    for (size_t i = 0; i < b.n; i++) {
        const uint8_t old = b.data[i];
        static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
        for (size_t k = 0; k < sizeof(values); k++) {
            b.data[i] = values[k];
            open_bytes(&b, &error); /* any answer, no crash: asan and ubsan watch */
        }
        b.data[i] = old;
    }
}

static void test_other_files_are_named_for_what_they_are(void **state)
{
    struct bytes b = {.n = 0};
    struct error error = {0};
    struct model_file *g = NULL;
    refused(&b, STATUS_INVALID, "empty");
    put_bytes(&b, "PK\3\4 a zip file of some length", 30);
    refused(&b, STATUS_INVALID, "not a GGUF file");
    put_header(&b, 1, 0, 0);
    refused(&b, STATUS_UNSUPPORTED, "version 1");
    put_header(&b, 4, 0, 0);
    refused(&b, STATUS_UNSUPPORTED, "version 4");
    put_header(&b, 0, 0, 0);
    refused(&b, STATUS_UNSUPPORTED, "version 0");
    put_header(&b, 0x03000000, 0, 0);
    refused(&b, STATUS_UNSUPPORTED, "big-endian");
    assert_int_equal(model_open(&g, fixture_path("missing.gguf"), &error), STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "missing.gguf"));
    assert_int_equal(model_open(&g, "/dev/null", &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "regular"));
    assert_int_equal(model_open(&g, fixture_path("missing.gguf"), NULL), STATUS_NOT_FOUND);
    assert_null(g);
}

static void test_absurd_counts_are_refused(void **state)
{
    static const uint64_t absurd[] = {1, 1000, UINT32_MAX, (uint64_t)1 << 60, UINT64_MAX};
    struct bytes b;
    for (size_t i = 0; i < sizeof(absurd) / sizeof(absurd[0]); i++) {
        put_header(&b, 3, 0, absurd[i]);
        refused(&b, STATUS_INVALID, "keys");
        put_header(&b, 3, absurd[i], 0);
        refused(&b, STATUS_INVALID, "tensors");
        /* lengths of a key, of a string, of arrays of numbers and of strings */
        put_header(&b, 3, 0, 1);
        put_u64(&b, absurd[i] + 1000);
        put_padding(&b, 64);
        if (absurd[i] != UINT64_MAX)
            refused(&b, STATUS_INVALID, "");
        put_header(&b, 3, 0, 1);
        put_text(&b, "k");
        put_u32(&b, GGUF_VALUE_STRING);
        put_u64(&b, absurd[i]);
        refused(&b, STATUS_INVALID, "string");
        put_header(&b, 3, 0, 1);
        put_text(&b, "k");
        put_u32(&b, GGUF_VALUE_ARRAY);
        put_u32(&b, GGUF_VALUE_U64);
        put_u64(&b, absurd[i]);
        refused(&b, STATUS_INVALID, "value");
        put_header(&b, 3, 0, 1);
        put_text(&b, "k");
        put_u32(&b, GGUF_VALUE_ARRAY);
        put_u32(&b, GGUF_VALUE_STRING);
        put_u64(&b, absurd[i]);
        refused(&b, STATUS_INVALID, "string");
    }
}

static void one_key(struct bytes *b, uint32_t type, const void *value, size_t n)
{
    put_header(b, 3, 0, 1);
    put_text(b, "k");
    put_u32(b, type);
    put_bytes(b, value, n);
}

static void test_bad_keys_are_refused(void **state)
{
    static const uint32_t nested[3] = {GGUF_VALUE_ARRAY, 0, 0};
    struct bytes b;
    put_header(&b, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        put_text(&b, "twice");
        put_u32(&b, GGUF_VALUE_U32);
        put_u32(&b, 0);
    }
    refused(&b, STATUS_INVALID, "twice");
    put_header(&b, 3, 0, 1);
    put_text(&b, "");
    put_u32(&b, GGUF_VALUE_U32);
    put_u32(&b, 0);
    refused(&b, STATUS_INVALID, "name");
    put_header(&b, 3, 0, 1);
    put_u64(&b, 3);
    put_bytes(&b, "a\0b", 3);
    put_u32(&b, GGUF_VALUE_U32);
    put_u32(&b, 0);
    refused(&b, STATUS_INVALID, "NUL");
    one_key(&b, 13, "\0\0\0\0\0\0\0\0", 8);
    refused(&b, STATUS_UNSUPPORTED, "type 13");
    one_key(&b, UINT32_MAX, "\0\0\0\0\0\0\0\0", 8);
    refused(&b, STATUS_UNSUPPORTED, "type");
    one_key(&b, GGUF_VALUE_BOOL, "\2", 1);
    refused(&b, STATUS_INVALID, "boolean");
    one_key(&b, GGUF_VALUE_ARRAY, nested, sizeof(nested));
    refused(&b, STATUS_UNSUPPORTED, "array of arrays");
}

static void alignment_file(struct bytes *b, uint32_t alignment)
{
    put_header(b, 3, 0, 1);
    put_text(b, "general.alignment");
    put_u32(b, GGUF_VALUE_U32);
    put_u32(b, alignment);
}

static void test_bad_alignment_is_refused(void **state)
{
    static const uint32_t bad[] = {0, 1, 4, 24, 33, 1u << 21, 1u << 31, UINT32_MAX};
    struct bytes b;
    struct error error = {0};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        alignment_file(&b, bad[i]);
        refused(&b, STATUS_INVALID, "general.alignment");
    }
    alignment_file(&b, 64);
    assert_int_equal(open_bytes(&b, &error), STATUS_OK);
}

static void one_tensor(struct bytes *b, uint32_t n_dims, const uint64_t *dims, uint32_t type,
                       uint64_t offset, size_t n_data)
{
    put_header(b, 3, 1, 0);
    put_tensor(b, "tensor", n_dims, dims, type, offset);
    put_padding(b, n_data);
}

static void test_bad_tensors_are_refused(void **state)
{
    static const uint64_t row[] = {32, 1, 1, 1, 1};
    struct bytes b;
    struct error error = {0};
    one_tensor(&b, 1, row, GGUF_TYPE_F32, 0, 128);
    assert_int_equal(open_bytes(&b, &error), STATUS_OK);
    one_tensor(&b, 1, row, GGUF_TYPE_F32, 0, 127);
    refused(&b, STATUS_INVALID, "beyond the end");
    one_tensor(&b, 1, row, GGUF_TYPE_F32, 32, 128);
    refused(&b, STATUS_INVALID, "beyond the end");
    one_tensor(&b, 1, row, GGUF_TYPE_F32, UINT64_MAX - 31, 128);
    refused(&b, STATUS_INVALID, "beyond the end");
    one_tensor(&b, 1, row, GGUF_TYPE_F32, 8, 256);
    refused(&b, STATUS_INVALID, "aligned");
    one_tensor(&b, 0, row, GGUF_TYPE_F32, 0, 128);
    refused(&b, STATUS_INVALID, "dimensions");
    one_tensor(&b, 5, row, GGUF_TYPE_F32, 0, 128);
    refused(&b, STATUS_INVALID, "dimensions");
    one_tensor(&b, 1, row, 4, 0, 128);
    refused(&b, STATUS_UNSUPPORTED, "type 4");
    one_tensor(&b, 1, row, GGUF_TYPE_COUNT, 0, 128);
    refused(&b, STATUS_UNSUPPORTED, "type");
    one_tensor(&b, 1, row, UINT32_MAX, 0, 128);
    refused(&b, STATUS_UNSUPPORTED, "type");
    one_tensor(&b, 1, (uint64_t[]){0}, GGUF_TYPE_F32, 0, 128);
    refused(&b, STATUS_INVALID, "is 0");
    one_tensor(&b, 1, (uint64_t[]){33}, GGUF_TYPE_Q8_0, 0, 128);
    refused(&b, STATUS_INVALID, "Q8_0");
    /* products that overflow 64 bits, or wrap to something small */
    one_tensor(&b, 2, (uint64_t[]){(uint64_t)1 << 32, (uint64_t)1 << 32}, GGUF_TYPE_F32, 0, 128);
    refused(&b, STATUS_INVALID, "overflow");
    one_tensor(&b, 4, (uint64_t[]){1 << 16, 1 << 16, 1 << 16, 1 << 16}, GGUF_TYPE_I8, 0, 128);
    refused(&b, STATUS_INVALID, "overflow");
    one_tensor(&b, 1, (uint64_t[]){UINT64_MAX}, GGUF_TYPE_I8, 0, 128);
    refused(&b, STATUS_INVALID, "overflow");
    one_tensor(&b, 1, (uint64_t[]){(uint64_t)1 << 62}, GGUF_TYPE_F32, 0, 128);
    refused(&b, STATUS_INVALID, "overflow");
}

static void two_tensors(struct bytes *b, const char *first, const char *second, uint64_t offset)
{
    static const uint64_t dims[] = {16};
    put_header(b, 3, 2, 0);
    put_tensor(b, first, 1, dims, GGUF_TYPE_F32, offset);
    put_tensor(b, second, 1, dims, GGUF_TYPE_F32, 0);
    put_padding(b, 128);
}

static void test_tensors_have_their_own_names_and_bytes(void **state)
{
    struct bytes b;
    struct error error = {0};
    char name[GGUF_MAX_NAME_BYTES + 2];
    two_tensors(&b, "a", "b", 64); /* out of order is fine */
    assert_int_equal(open_bytes(&b, &error), STATUS_OK);
    two_tensors(&b, "a", "b", 32);
    refused(&b, STATUS_INVALID, "overlap");
    two_tensors(&b, "a", "a", 64);
    refused(&b, STATUS_INVALID, "twice");
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    two_tensors(&b, name, "b", 64);
    refused(&b, STATUS_INVALID, "name");
    two_tensors(&b, "", "b", 64);
    refused(&b, STATUS_INVALID, "name");
}

static void test_fingerprint_sees_what_it_promises(void **state)
{
    struct bytes b;
    uint8_t first[MODEL_FINGERPRINT_BYTES], other[MODEL_FINGERPRINT_BYTES];
    small_file(&b, 3);
    for (int change = 0; change < 5; change++) {
        struct bytes changed = b;
        if (change == 1)
            changed.data[4] = 2; /* version */
        if (change == 2)
            changed.data[changed.n - 1] = 1; /* tensor data */
        if (change == 3)
            changed.data[40] ^= 1; /* a letter in a key's name */
        if (change == 4)
            put_bytes(&changed, "more", 4); /* only the size tells */
        fixture_write(fixture_path("f.gguf"), changed.data, changed.n);
        struct model_file *g = fixture_open(fixture_path("f.gguf"));
        model_fingerprint(g, change == 0 ? first : other);
        if (change == 0)
            model_fingerprint(g, other);
        model_close(g);
        if (change == 0)
            assert_memory_equal(first, other, sizeof(first));
        else
            assert_memory_not_equal(first, other, sizeof(first));
    }
}

static void test_every_known_type_has_a_size(void **state)
{
    for (int type = -1; type <= GGUF_TYPE_COUNT; type++) {
        const struct gguf_type_traits *t = gguf_type_traits((enum gguf_type)type);
        const bool known = type >= 0 && type < GGUF_TYPE_COUNT && type != 4 && type != 5;
        assert_int_equal(t != NULL, known);
        if (known)
            assert_true(t->name != NULL && t->block_elements > 0 && t->block_bytes > 0);
    }
    assert_int_equal(gguf_type_traits(GGUF_TYPE_Q8_0)->block_bytes, 34);
    assert_string_equal(gguf_type_traits(GGUF_TYPE_BF16)->name, "BF16");
    assert_string_equal(gguf_value_type_name((enum gguf_value_type)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions_2_and_3_are_read),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_no_changed_byte_crashes_the_reader),
        cmocka_unit_test(test_other_files_are_named_for_what_they_are),
        cmocka_unit_test(test_absurd_counts_are_refused),
        cmocka_unit_test(test_bad_keys_are_refused),
        cmocka_unit_test(test_bad_alignment_is_refused),
        cmocka_unit_test(test_bad_tensors_are_refused),
        cmocka_unit_test(test_tensors_have_their_own_names_and_bytes),
        cmocka_unit_test(test_fingerprint_sees_what_it_promises),
        cmocka_unit_test(test_every_known_type_has_a_size),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
