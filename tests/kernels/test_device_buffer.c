/* Memory that grows, on a device with an exact number of bytes. */
#include "kernels/device_buffer.h"

#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

enum { DEVICE_BYTES = 1000 };

/* One loan at a time is all that a buffer needs. */
struct device {
    size_t taken_bytes;
    unsigned n_takes;
};

static enum status take(struct device *device, void **memory, size_t bytes, struct error *error)
{
    device->n_takes++;
    if (bytes > DEVICE_BYTES - device->taken_bytes)
        return error_set(error, STATUS_NO_MEMORY, "fake: %zu bytes are too many", bytes);
    *memory = malloc(bytes);
    assert_non_null(*memory);
    device->taken_bytes = bytes;
    return STATUS_OK;
}

static void give(struct device *device, void *memory)
{
    device->taken_bytes = 0;
    free(memory);
}

static const struct kernels limited = {
    .memory_take = take, .memory_give = give, .host_take = take, .host_give = give};

static void test_what_grows_grows_by_more(void **state)
{
    struct device device = {0};
    struct device_buffer buffer = device_buffer(&limited, &device, false);
    assert_int_equal(device_buffer_reserve(&buffer, 400, NULL), STATUS_OK);
    assert_int_equal(buffer.bytes, 500);
    assert_int_equal(device_buffer_reserve(&buffer, 500, NULL), STATUS_OK);
    assert_int_equal(device.n_takes, 1);
    device_buffer_release(&buffer);
    assert_int_equal(device.taken_bytes, 0);
}

static void test_the_last_bytes_are_taken_too(void **state)
{
    for (int on_host = 0; on_host <= 1; on_host++) {
        struct device device = {0};
        struct device_buffer buffer = device_buffer(&limited, &device, on_host);
        assert_int_equal(device_buffer_reserve(&buffer, 100, NULL), STATUS_OK);
        assert_int_equal(device_buffer_reserve(&buffer, DEVICE_BYTES, NULL), STATUS_OK);
        assert_int_equal(buffer.bytes, DEVICE_BYTES);
        assert_int_equal(device.taken_bytes, DEVICE_BYTES);
        memset(buffer.memory, 1, DEVICE_BYTES);
        device_buffer_release(&buffer);
    }
}

static void test_a_failure_tells_what_is_needed_and_leaves_nothing(void **state)
{
    struct device device = {0};
    struct device_buffer buffer = device_buffer(&limited, &device, false);
    struct error error;
    assert_int_equal(device_buffer_reserve(&buffer, 100, NULL), STATUS_OK);
    assert_int_equal(device_buffer_reserve(&buffer, DEVICE_BYTES + 1, &error), STATUS_NO_MEMORY);
    assert_non_null(strstr(error.text, "a step needs 1001 bytes"));
    assert_null(buffer.memory);
    assert_int_equal(buffer.bytes, 0);
    assert_int_equal(device.taken_bytes, 0);
    assert_int_equal(device_buffer_reserve(&buffer, SIZE_MAX, &error), STATUS_NO_MEMORY);
    assert_int_equal(device_buffer_reserve(&buffer, 100, NULL), STATUS_OK);
    device_buffer_release(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_grows_grows_by_more),
        cmocka_unit_test(test_the_last_bytes_are_taken_too),
        cmocka_unit_test(test_a_failure_tells_what_is_needed_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
