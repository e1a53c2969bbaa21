/* test_panel.c - what goes into a panel comes out again, from any alignment, and nothing else. */
#include "kernels/cpu/panel.h"

#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

static void test_rows_come_out_as_they_went_in(void **state)
{
    enum { COLUMNS = 512 };
    float want[COLUMNS], got[COLUMNS];
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        for (uint32_t n_rows = 1; n_rows <= PANEL_ROWS; n_rows++) {
            const size_t row_bytes = weight_row_bytes(weight_types[t], COLUMNS),
                         bytes = panel_bytes(weight_types[t], COLUMNS);
            uint8_t *file = malloc(row_bytes * n_rows + 1), *source = file + 1; /* odd */
            uint8_t *panel = aligned_alloc(PANEL_LINE_BYTES, bytes);
            for (size_t i = 0; i < row_bytes * n_rows; i++)
                source[i] = (uint8_t)(i * 7 % 113); /* no NaN */
            memset(panel, 0xff, bytes);
            panel_pack(panel, weight_types[t], source, row_bytes, n_rows, COLUMNS);
            for (uint32_t row = 0; row < PANEL_ROWS; row++) {
                panel_unpack_row(got, weight_types[t], panel, row, COLUMNS);
                if (row < n_rows) {
                    weight_dequantize(weight_types[t], want, source + row * row_bytes, COLUMNS);
                    assert_memory_equal(got, want, sizeof(want));
                }
                for (uint32_t k = 0; row >= n_rows && k < COLUMNS; k++)
                    assert_true(got[k] == 0.0f);
            }
            free(file);
            free(panel);
        }
}

static void test_sizes(void **state)
{
    assert_int_equal(panel_count(1), 1);
    assert_int_equal(panel_count(16), 1);
    assert_int_equal(panel_count(17), 2);
    assert_int_equal(panel_count(UINT32_MAX), 1u << 28);
    assert_int_equal(panel_bytes(WEIGHT_F32, 1), 64);
    assert_int_equal(panel_bytes(WEIGHT_F16, 3), 128); /* 96, to a cache line */
    assert_int_equal(panel_bytes(WEIGHT_Q8_0, 32), 576);
    assert_int_equal(panel_bytes(WEIGHT_Q8_0, 64), 1088);
    for (size_t t = 0; t < WEIGHT_TYPES; t++) /* as many bytes as in the file */
        assert_int_equal(panel_bytes(weight_types[t], 1024),
                         PANEL_ROWS * weight_row_bytes(weight_types[t], 1024));
    assert_true(panel_bytes(WEIGHT_F32, UINT32_MAX) == (size_t)UINT32_MAX * 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_come_out_as_they_went_in),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
