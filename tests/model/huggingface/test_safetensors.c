/* What the format allows is read, and everything else is refused without touching a byte outside
 * the file. */
#include "model/huggingface/safetensors.h"
#include "tests/cmocka.h"
#include "tests/model/fixtures.h"

/* A header of `n_json` bytes by the length in front of it, then `n_data` bytes that count up. */
static void write_raw(const char *path, uint64_t length, const char *json, size_t n_json,
                      size_t n_data)
{
    struct bytes b = {.n = 0};
    put_u64(&b, length);
    put_bytes(&b, json, n_json);
    for (size_t i = 0; i < n_data; i++)
        put_bytes(&b, &(uint8_t){(uint8_t)i}, 1);
    fixture_write(path, b.data, b.n);
}

/* Padded with spaces, as writers do. */
static const char *write_file(const char *json, size_t n_data)
{
    char padded[4096];
    const char *path = fixture_path("model.safetensors");
    const size_t n = (strlen(json) + 7) / 8 * 8;
    assert_true(n < sizeof(padded));
    snprintf(padded, sizeof(padded), "%-*s", (int)n, json);
    write_raw(path, n, padded, n, n_data);
    return path;
}

static void refused_file(const char *path, enum status expected, const char *words)
{
    struct safetensors *file = NULL;
    struct error error = {0};
    const enum status status = safetensors_open(&file, path, &error);
    if (status != expected || strstr(error.text, words) == NULL)
        fail_msg("%s: %s; expected %s, '%s'", status_name(status), error.text,
                 status_name(expected), words);
    assert_non_null(strstr(error.text, "model.safetensors"));
    assert_null(file);
}

static void refused(const char *json, size_t n_data, enum status expected, const char *words)
{
    refused_file(write_file(json, n_data), expected, words);
}

static void test_tensors_come_in_the_order_of_their_data(void **state)
{
    const char *path =
        write_file("{\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
                   "\"__metadata__\":{\"format\":\"pt\"},"
                   "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                   "\"s\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[20,22]}}",
                   22);
    struct safetensors *file = NULL;
    struct error error = {0};
    check_ok(safetensors_open(&file, path, &error), &error);
    assert_int_equal(safetensors_count(file), 3);
    const struct model_tensor *a = safetensors_at(file, 0), *b = safetensors_at(file, 1);
    assert_string_equal(a->name, "a");
    assert_int_equal(a->type, GGUF_TYPE_F32);
    assert_int_equal(a->n_dims, 1);
    assert_int_equal(a->dims[0], 2);
    assert_int_equal(((const uint8_t *)a->data)[7], 7);
    assert_string_equal(b->name, "b");
    assert_int_equal(b->type, GGUF_TYPE_BF16);
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->dims[0], 3); /* the row length */
    assert_int_equal(b->dims[1], 2);
    assert_int_equal(b->dims[2], 1);
    assert_int_equal(b->n_bytes, 12);
    assert_int_equal(((const uint8_t *)b->data)[0], 8);
    assert_int_equal(safetensors_at(file, 2)->dims[0], 1);
    safetensors_close(file);
}

static void test_every_truncation_is_refused(void **state)
{
    static const char json[] =
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}   ";
    struct error error = {0};
    size_t n = 0;
    char *whole = fixture_read(write_file(json, 16), &n);
    for (size_t k = 0; k < n; k++) {
        struct safetensors *file = NULL;
        fixture_write(fixture_path("model.safetensors"), whole, k);
        assert_int_equal(safetensors_open(&file, fixture_path("model.safetensors"), &error),
                         STATUS_INVALID);
    }
    free(whole);
}

static void test_lengths_that_cannot_be(void **state)
{
    static const uint64_t lengths[] = {3, 100, 100000001, INT64_MAX, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        write_raw(fixture_path("model.safetensors"), lengths[i], "{}", 2, 0);
        refused_file(fixture_path("model.safetensors"), STATUS_INVALID, "header of");
    }
}

static void test_json_that_is_none(void **state)
{
    static char deep[4000];
    refused("[]", 0, STATUS_INVALID, "no object");
    refused("{\"a\":1,}", 0, STATUS_INVALID, "JSON, byte");
    refused("{\"a\xff\":{}}", 0, STATUS_INVALID, "JSON, byte");
    refused("{} {}", 0, STATUS_INVALID, "JSON, byte");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
            "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
            4, STATUS_INVALID, "JSON, byte");
    memset(deep, '[', sizeof(deep) - 1);
    refused(deep, 0, STATUS_INVALID, "JSON, byte"); /* deeper than the parser goes */
}

static void test_entries_that_do_not_hold_together(void **state)
{
#define ENTRY(rest) "{\"a\":{" rest "}}"
#define PLACED(type, shape, offsets)                                                               \
    ENTRY("\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets)
    refused("{\"a\":1}", 0, STATUS_INVALID, "a has no dtype");
    refused(ENTRY("\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]"), 4, STATUS_INVALID,
            "no dtype");
    refused(PLACED("F8_E4M3", "[4]", "[0,4]"), 4, STATUS_UNSUPPORTED, "a has type F8_E4M3");
    refused(PLACED("U8", "[4]", "[0,4]"), 4, STATUS_UNSUPPORTED, "a has type U8");
    refused(PLACED("F32", "4", "[0,4]"), 4, STATUS_INVALID, "no shape");
    refused(PLACED("F32", "[1,1,1,1,1]", "[0,4]"), 4, STATUS_UNSUPPORTED, "5 dimensions");
    refused(PLACED("F32", "[-1]", "[0,4]"), 4, STATUS_INVALID, "not made of counts");
    refused(PLACED("F32", "[1.0]", "[0,4]"), 4, STATUS_INVALID, "not made of counts");
    refused(PLACED("F32", "[0]", "[0,0]"), 0, STATUS_INVALID, "dimension 0 is 0");
    refused(PLACED("F32", "[4611686018427387904,4]", "[0,16]"), 16, STATUS_INVALID, "overflow");
    refused(PLACED("F32", "[99999999999999999999]", "[0,16]"), 16, STATUS_INVALID, "JSON, byte");
    refused(PLACED("F32", "[1]", "[0]"), 4, STATUS_INVALID, "no data_offsets");
    refused(PLACED("F32", "[1]", "[4,0]"), 4, STATUS_INVALID, "no data_offsets");
    refused(PLACED("F32", "[1]", "[-4,0]"), 4, STATUS_INVALID, "no data_offsets");
    refused(PLACED("F32", "[1]", "[0,8]"), 4, STATUS_INVALID, "ends at byte 8 of the data");
    refused(PLACED("F32", "[2]", "[0,4]"), 4, STATUS_INVALID, "its shape asks for 8");
    refused(PLACED("F32", "[1]", "[0,9223372036854775807]"), 4, STATUS_INVALID, "ends at byte");
    refused(PLACED("F32", "[1]", "[0,4]"), 8, STATUS_INVALID, "4 bytes at the end");
    refused(PLACED("F32", "[1]", "[4,8]"), 8, STATUS_INVALID, "does not begin where");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
            "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
            8, STATUS_INVALID, "b overlaps with a");
    refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
            "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
            4, STATUS_INVALID, "overlaps with");
    refused("{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, STATUS_INVALID,
            "0 bytes");
}

static void test_data_at_odd_places(void **state)
{
    static const char json[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    const char *path = fixture_path("model.safetensors");
    struct safetensors *file;
    struct error error;
    const uint8_t expected[] = {0, 1, 2, 3};
    write_raw(path, sizeof(json) - 1, json, sizeof(json) - 1, 4);
    assert_int_equal(safetensors_open(&file, path, &error), STATUS_OK);
    const struct model_tensor *tensor = safetensors_at(file, 0);
    assert_int_not_equal(tensor->offset % sizeof(float), 0); /* writers of 2022 did not pad */
    assert_memory_equal(tensor->data, expected, sizeof(expected));
    safetensors_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors_come_in_the_order_of_their_data),
        cmocka_unit_test(test_every_truncation_is_refused),
        cmocka_unit_test(test_lengths_that_cannot_be),
        cmocka_unit_test(test_json_that_is_none),
        cmocka_unit_test(test_entries_that_do_not_hold_together),
        cmocka_unit_test(test_data_at_odd_places),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}
