/* test_device.c - weights come in whole or are refused, embeddings come out as they went in. */
#include "tests/kernels/cpu/each_table.h"

static void test_bad_cuts_are_refused(void **state)
{
    const struct kernels *k = each_table_usable(state);
    static const struct {
        enum weight_type type;
        uint32_t source_columns, row_begin, row_end, column_begin, column_end;
    } bad[] = {
        {WEIGHT_Q8_0, 64, 0, 1, 16, 64},        {WEIGHT_Q8_0, 64, 0, 1, 0, 48},
        {WEIGHT_Q8_0, 48, 0, 1, 0, 32},         {WEIGHT_Q8_0, 64, 0, 1, 0, 96},
        {WEIGHT_F32, 64, 0, 1, 0, 65},          {WEIGHT_F32, 64, 1, 1, 0, 64},
        {WEIGHT_F32, 64, 2, 1, 0, 64},          {WEIGHT_F16, 64, 0, 1, 32, 32},
        {WEIGHT_Q4_K, 128, 0, 1, 0, 128},       {WEIGHT_Q6_K, 512, 0, 1, 32, 288},
        {(enum weight_type)4, 64, 0, 1, 0, 64},
    };
    struct lent_device d = device_lend(k, 1, 1, 64);
    uint8_t source[256] = {0};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct matrix m = {.n_rows = 12345};
        struct error error = {STATUS_OK, ""};
        assert_int_equal(k->matrix_create(d.device, &m, bad[i].type, source, bad[i].source_columns,
                                          bad[i].row_begin, bad[i].row_end, bad[i].column_begin,
                                          bad[i].column_end, &error),
                         STATUS_INVALID);
        assert_int_equal(error.status, STATUS_INVALID);
        assert_true(error.text[0] != '\0' && m.n_rows == 12345); /* untouched */
    }
    struct error error;
    assert_int_equal(k->workspace_reserve(d.device, 0, 0, &error), STATUS_OK); /* still enough */
    assert_int_equal(k->workspace_reserve(d.device, UINT32_MAX, UINT32_MAX, &error),
                     STATUS_NO_MEMORY);
    const float one[64] = {1.0f};
    float *x = device_floats(&d, one, 64);
    k->prepare(d.device, x, 1, 64, 1u << WEIGHT_F32); /* the old workspace is still there */
    device_give(&d, x);
    k->close(d.device);
    struct device *fresh;
    assert_int_equal(k->open(&fresh, d.pool, 0, NULL), STATUS_OK);
    assert_int_equal(k->workspace_reserve(fresh, 0, 64, &error), STATUS_INVALID);
    k->close(fresh);
    k->close(NULL);
    thread_pool_destroy(d.pool);
}

/* It holds any of the shapes that were asked for, and not the product of their sides. */
static void test_a_workspace_holds_each_shape(void **state)
{
    const struct kernels *k = each_table_usable(state);
    static const float zeros[8 * 512];
    struct lent_device d = device_lend(k, 2, 8, 64);
    float *x = device_floats(&d, zeros, 8 * 512);
    assert_int_equal(k->workspace_reserve(d.device, 1, 512, NULL), STATUS_OK);
    const uint32_t types = 1u << WEIGHT_F32 | 1u << WEIGHT_Q8_0;
    k->prepare(d.device, x, 8, 64, types);
    k->prepare(d.device, x, 1, 512, types);
    assert_int_equal(k->workspace_reserve(d.device, 4, 256, NULL), STATUS_OK);
    k->prepare(d.device, x, 4, 256, types);
    k->prepare(d.device, x, 8, 64, types);
    device_give(&d, x);
    device_return(&d);
}

static void test_a_vector_is_a_plain_array(void **state)
{
    const struct kernels *k = each_table_usable(state);
    struct lent_device d = device_lend(k, 1, 1, 64);
    float source[3][100];
    for (int i = 0; i < 300; i++)
        source[i / 100][i % 100] = (float)i;
    struct matrix m;
    assert_int_equal(k->matrix_create(d.device, &m, WEIGHT_F32, source, 100, 1, 2, 20, 100, NULL),
                     STATUS_OK);
    assert_int_equal(m.n_columns, 80);
    assert_int_equal(m.bytes, 320);
    float data[80];
    device_read(&d, data, m.data, sizeof(data));
    assert_memory_equal(data, &source[1][20], 320);
    k->matrix_destroy(d.device, &m);
    assert_null(m.data);
    device_return(&d);
}

/* A vocabulary split over ranks: the parts add up to the whole table's row. */
static void test_embeddings_of_a_split_vocabulary(void **state)
{
    const struct kernels *k = each_table_usable(state);
    enum { VOCABULARY = 83, COLUMNS = 512, TOKENS = 90 };
    static const uint32_t cuts[] = {0, 1, 30, 64, VOCABULARY}; /* the first rank has one row */
    struct lent_device d = device_lend(k, 3, 1, COLUMNS);
    int32_t tokens[TOKENS];
    float *out = malloc(sizeof(float) * TOKENS * COLUMNS),
          *sum = malloc(sizeof(float) * TOKENS * COLUMNS), row[COLUMNS];
    for (int i = 0; i < TOKENS; i++)
        tokens[i] = i * 37 % VOCABULARY;
    tokens[88] = -1, tokens[89] = INT32_MAX; /* in no part */
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        const size_t row_bytes = weight_row_bytes(weight_types[t], COLUMNS);
        uint8_t *source = malloc(row_bytes * VOCABULARY);
        uint64_t seed = t;
        for (size_t r = 0; r < VOCABULARY; r++) {
            for (int i = 0; i < COLUMNS; i++)
                row[i] = random_float(&seed);
            weight_quantize(weight_types[t], source + r * row_bytes, row, COLUMNS);
        }
        memset(sum, 0, sizeof(float) * TOKENS * COLUMNS);
        for (size_t c = 0; c < 4; c++) {
            struct matrix m;
            assert_int_equal(k->matrix_create(d.device, &m, weight_types[t], source, COLUMNS,
                                              cuts[c], cuts[c + 1], 0, COLUMNS, NULL),
                             STATUS_OK);
            memset(out, 0xff, sizeof(float) * TOKENS * COLUMNS);
            float *rows = device_floats(&d, out, TOKENS * COLUMNS);
            k->embed(d.device, rows, &m, tokens, TOKENS, (int32_t)cuts[c]);
            device_floats_end(&d, out, rows, TOKENS * COLUMNS);
            device_add(&d, sum, out, TOKENS * COLUMNS);
            k->matrix_destroy(d.device, &m);
        }
        for (int i = 0; i < TOKENS; i++) {
            if (i < 88)
                weight_dequantize(weight_types[t], row, source + (size_t)tokens[i] * row_bytes,
                                  COLUMNS);
            else
                memset(row, 0, sizeof(row));
            for (int j = 0; j < COLUMNS; j++)
                assert_true(sum[i * COLUMNS + j] == row[j]);
        }
        free(source);
    }
    free(out);
    free(sum);
    device_return(&d);
}

/* Large enough for huge pages and a wide vocabulary; the last row is where it belongs. */
static void test_a_vocabulary_of_256k_rows(void **state)
{
    const struct kernels *k = each_table_usable(state);
    enum { VOCABULARY = 262147, COLUMNS = 32 };
    struct lent_device d = device_lend(k, 2, 1, COLUMNS);
    uint16_t *source = calloc(VOCABULARY, COLUMNS * sizeof(*source));
    for (int r = 0; r < VOCABULARY; r++)
        source[(size_t)r * COLUMNS + 3] = half_from_float((float)(r % 2048));
    struct matrix m;
    assert_int_equal(k->matrix_create(d.device, &m, WEIGHT_F16, source, COLUMNS, 0, VOCABULARY, 0,
                                      COLUMNS, NULL),
                     STATUS_OK);
    assert_true(m.bytes < (size_t)VOCABULARY * COLUMNS * 2 + 16 * COLUMNS * 2);
    const int32_t tokens[2] = {VOCABULARY - 1, 131071};
    float out[2][COLUMNS], x[COLUMNS] = {0}, *y = malloc(sizeof(float) * VOCABULARY);
    memset(out, 0, sizeof(out));
    float *rows = device_floats(&d, out[0], 2 * COLUMNS);
    k->embed(d.device, rows, &m, tokens, 2, 0);
    device_floats_end(&d, out[0], rows, 2 * COLUMNS);
    assert_true(out[0][3] == (VOCABULARY - 1) % 2048 && out[1][3] == 131071 % 2048);
    x[3] = 1.0f;
    memset(y, 0, sizeof(float) * VOCABULARY);
    device_product(&d, y, VOCABULARY, x, 1, &m);
    for (int r = 0; r < VOCABULARY; r++)
        assert_true(y[r] == (float)(r % 2048));
    k->matrix_destroy(d.device, &m);
    free(source);
    free(y);
    device_return(&d);
}

static void test_memory_is_lent_copied_and_cleared(void **state)
{
    const struct kernels *k = each_table_usable(state);
    static const size_t sizes[] = {1, 4096, (3 << 20) + 5};
    struct lent_device d = device_lend(k, 1, 1, 64);
    assert_true(k->count(NULL) >= 1 && (k->count(NULL) == 1 || !k->host_memory));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t n = sizes[i];
        void *a, *b, *host;
        assert_int_equal(k->memory_take(d.device, &a, n, NULL), STATUS_OK);
        assert_int_equal(k->memory_take(d.device, &b, n, NULL), STATUS_OK);
        assert_int_equal(k->host_take(d.device, &host, n, NULL), STATUS_OK);
        assert_true((uintptr_t)a % 256 == 0 && (uintptr_t)b % 256 == 0);
        memset(host, 0x5a, n);
        k->upload(d.device, a, host, n);
        k->copy(d.device, b, a, n);
        k->copy(d.device, b, b, n); /* where it is already */
        k->clear(d.device, a, n);
        assert_int_equal(k->finish(d.device, NULL), STATUS_OK); /* until then, host is read */
        memset(host, 0, n);
        k->download(d.device, host, b, n);
        assert_int_equal(k->finish(d.device, NULL), STATUS_OK);
        assert_true(((uint8_t *)host)[0] == 0x5a && ((uint8_t *)host)[n - 1] == 0x5a);
        device_read(&d, host, a, n);
        assert_true(((uint8_t *)host)[0] == 0 && ((uint8_t *)host)[n - 1] == 0);
        k->memory_give(d.device, a);
        k->memory_give(d.device, b);
        k->host_give(d.device, host);
    }
    void *none = NULL;
    struct error error;
    assert_int_equal(k->memory_take(d.device, &none, SIZE_MAX, &error), STATUS_NO_MEMORY);
    assert_int_equal(k->memory_take(d.device, &none, SIZE_MAX / 4, &error), STATUS_NO_MEMORY);
    assert_null(none);
    k->memory_give(d.device, NULL);
    k->clear(d.device, NULL, 0);
    assert_true(k->read_rate(d.device, 1 << 20, 1) > 0);
    device_return(&d);
}

/* ---- recordings ---- */

enum {
    PLAYED_ROWS = 3,
    PLAYED_HEADS = 4,
    PLAYED_COLUMNS = 256,
    PLAYED = PLAYED_ROWS * PLAYED_COLUMNS
};

/* What is computed with, all on the device. */
struct played {
    const struct kernels *kernels;
    struct device *device;
    float *x, *normed, *product, *kept, *weight;
    struct matrix matrix;
    struct rope rope;
};

/* One of each kind of call that may be recorded; x and what is kept come out other each time. */
static void play_calls(const struct played *p, const uint32_t *positions)
{
    const struct kernels *k = p->kernels;
    k->clear(p->device, p->kept, PLAYED_COLUMNS * sizeof(float));
    k->rms_norm(p->device, p->normed, p->x, p->weight, PLAYED_ROWS, PLAYED_COLUMNS, 1e-5f);
    k->prepare(p->device, p->normed, PLAYED_ROWS, PLAYED_COLUMNS, 1u << p->matrix.type);
    const struct product products[] = {{p->product, PLAYED_COLUMNS, &p->matrix},
                                       {p->normed, PLAYED_COLUMNS, &p->matrix}};
    k->matmul(p->device, products, 2);
    const struct heads heads[] = {
        {.x = p->product,
         .n_heads = PLAYED_HEADS,
         .bias = p->weight,
         .norm = p->weight,
         .turn = true},
        {.x = p->normed, .n_heads = PLAYED_HEADS, .rounded = p->kept, .type = KV_F16}};
    const struct turn turn = {PLAYED_ROWS, PLAYED_COLUMNS / PLAYED_HEADS, positions, &p->rope,
                              1e-5f};
    k->turn(p->device, heads, 2, &turn);
    k->add(p->device, p->x, p->product, PLAYED);
    k->swiglu(p->device, p->product, p->normed, PLAYED);
    k->geglu(p->device, p->product, p->normed, PLAYED);
    k->add_bias(p->device, p->product, p->weight, PLAYED_ROWS, PLAYED_COLUMNS);
    k->copy(p->device, p->kept + PLAYED_COLUMNS, p->product,
            (PLAYED - PLAYED_COLUMNS) * sizeof(float));
}

static void test_a_recording_does_what_its_calls_do(void **state)
{
    const struct kernels *k = each_table_usable(state);
    static const uint32_t positions[3][PLAYED_ROWS] = {{0, 1, 2}, {9, 100000, 7}, {131071, 3, 8}};
    static const enum weight_type types[] = {WEIGHT_Q8_0, WEIGHT_Q4_K, WEIGHT_F16, WEIGHT_F32};
    if (k->record_begin == NULL)
        skip();
    double frequency[PLAYED_COLUMNS / PLAYED_HEADS / 2];
    float values[PLAYED], judge[2][PLAYED], got[2][PLAYED], row[PLAYED_COLUMNS];
    uint64_t seed = 1;
    for (size_t i = 0; i < sizeof(frequency) / sizeof(frequency[0]); i++)
        frequency[i] = 1.0 / (double)(1 + i);
    for (int i = 0; i < PLAYED; i++)
        values[i] = random_float(&seed);
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        struct lent_device d = device_lend(k, 1, PLAYED_ROWS, PLAYED_COLUMNS);
        const size_t row_bytes = weight_row_bytes(types[t], PLAYED_COLUMNS);
        uint8_t *source = malloc(row_bytes * PLAYED_COLUMNS);
        assert_non_null(source);
        for (int i = 0; i < PLAYED_COLUMNS; i++) {
            for (int j = 0; j < PLAYED_COLUMNS; j++)
                row[j] = random_float(&seed);
            weight_quantize(types[t], source + (size_t)i * row_bytes, row, PLAYED_COLUMNS);
        }
        struct played p = {.kernels = k,
                           .device = d.device,
                           .normed = device_floats(&d, values, PLAYED),
                           .product = device_floats(&d, values, PLAYED),
                           .weight = device_floats(&d, values, PLAYED_COLUMNS),
                           .rope = {PLAYED_COLUMNS / PLAYED_HEADS, false,
                                    device_bytes(&d, frequency, sizeof(frequency)), 1}};
        assert_int_equal(k->matrix_create(d.device, &p.matrix, types[t], source, PLAYED_COLUMNS, 0,
                                          PLAYED_COLUMNS, 0, PLAYED_COLUMNS, NULL),
                         STATUS_OK);
        for (int played = 0; played < 2; played++) {
            struct recording *recording = NULL;
            p.x = device_floats(&d, values, PLAYED);
            p.kept = device_floats(&d, values, PLAYED);
            if (played) {
                struct error error = {.status = STATUS_OK};
                if (k->record_begin(d.device, positions[2], PLAYED_ROWS, &error) != STATUS_OK)
                    fail_msg("%s", error.text);
                play_calls(&p, positions[2]);
                if (k->record_end(d.device, &recording, &error) != STATUS_OK)
                    fail_msg("%s", error.text);
            }
            for (int i = 0; i < 3; i++)
                if (played)
                    k->replay(d.device, recording, positions[i]);
                else
                    play_calls(&p, positions[i]);
            device_floats_end(&d, played ? got[0] : judge[0], p.x, PLAYED);
            device_floats_end(&d, played ? got[1] : judge[1], p.kept, PLAYED);
            k->recording_destroy(d.device, recording);
        }
        assert_memory_equal(got, judge, sizeof(judge));
        device_give(&d, p.normed);
        device_give(&d, p.product);
        device_give(&d, p.weight);
        device_give(&d, (void *)p.rope.frequency);
        k->matrix_destroy(d.device, &p.matrix);
        free(source);
        device_return(&d);
    }
    k->recording_destroy(NULL, NULL);
}

int main(void)
{
    const struct each_table_test tests[] = {
        {"bad_cuts_are_refused", test_bad_cuts_are_refused, false},
        {"a_workspace_holds_each_shape", test_a_workspace_holds_each_shape, false},
        {"a_vector_is_a_plain_array", test_a_vector_is_a_plain_array, false},
        {"embeddings_of_a_split_vocabulary", test_embeddings_of_a_split_vocabulary, false},
        {"a_vocabulary_of_256k_rows", test_a_vocabulary_of_256k_rows, false},
        {"memory_is_lent_copied_and_cleared", test_memory_is_lent_copied_and_cleared, false},
        {"a_recording_does_what_its_calls_do", test_a_recording_does_what_its_calls_do, false},
    };
    return each_table_run(tests, sizeof(tests) / sizeof(tests[0]));
}
