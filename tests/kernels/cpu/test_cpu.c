/* test_cpu.c - normalisation, rotation, gates, caps and sums against long double, and the same bits
 * by every table and for any number of lanes. */
#include "tests/kernels/cpu/each_table.h"

#include <math.h>

#define UNIT 0x1p-24L

static void fill(float *x, size_t n, float scale, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        x[i] = scale * random_float(&seed);
}

/* What differs from `want` by more than `relative` times |want|. */
static void check_near(const char *what, float got, long double want, long double tolerance)
{
    if (!(fabsl((long double)got - want) <= tolerance))
        fail_msg("%s: %.9g, not %.12Lg +- %.2Lg", what, (double)got, want, tolerance);
}

static void test_rms_norm(void **state)
{
    const struct kernels *k = each_table_usable(state);
    static const uint32_t sizes[] = {1, 5, 16, 17, 288, 1000, 4096};
    enum { ROWS = 5, MAX = 4096 };
    struct lent_device d = device_lend(k, 2, ROWS, MAX);
    float *x = malloc(sizeof(float) * ROWS * MAX), *y = malloc(sizeof(float) * ROWS * MAX),
          weight[MAX];
    fill(weight, MAX, 2.0f, 1);
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
        for (int size = -60; size <= 60; size += 30) { /* 2^60: its square is beyond f32 */
            const uint32_t n = sizes[s];
            const float epsilon = 1e-5f;
            fill(x, (size_t)ROWS * n, ldexpf(1.0f, size), s);
            memset(x + n, 0, n * sizeof(*x)); /* a row of zeros is defined */
            float *in = device_floats(&d, x, (size_t)ROWS * n),
                  *scales = device_floats(&d, weight, n),
                  *out = device_floats(&d, x, (size_t)ROWS * n);
            k->rms_norm(d.device, out, in, scales, ROWS, n, epsilon);
            device_floats_end(&d, y, out, (size_t)ROWS * n);
            for (uint32_t row = 0; row < ROWS; row++) {
                long double sum = 0.0L;
                for (uint32_t i = 0; i < n; i++)
                    sum += (long double)x[row * n + i] * (long double)x[row * n + i];
                const long double scale = 1.0L / sqrtl(sum / n + (long double)epsilon);
                for (uint32_t i = 0; i < n; i++) {
                    const long double want =
                        (long double)x[row * n + i] * scale * (long double)weight[i];
                    /* three roundings in f32: the scale and two products */
                    check_near("rms_norm", y[row * n + i], want,
                               3.01L * UNIT * fabsl(want) + 0x1p-149L);
                }
            }
            k->rms_norm(d.device, in, in, scales, ROWS, n, epsilon);
            device_floats_end(&d, x, in, (size_t)ROWS * n);
            device_give(&d, scales);
            assert_memory_equal(x, y, sizeof(*x) * ROWS * n); /* in place */
        }
    free(x);
    free(y);
    device_return(&d);
}

static void check_rotation(const struct lent_device *d, const struct rope *rope, uint32_t head_dim,
                           const uint32_t *positions, uint32_t n_rows, uint32_t n_heads)
{
    const size_t n = (size_t)n_rows * n_heads * head_dim;
    float *x = malloc(n * sizeof(*x)), *y = malloc(n * sizeof(*y));
    fill(x, n, 1.0f, head_dim + n_rows);
    float *turned = device_floats(d, x, n);
    struct rope there = *rope;
    void *frequency = device_bytes(d, rope->frequency, rope->n_dims / 2 * sizeof(double));
    there.frequency = frequency;
    const struct heads heads = {.x = turned, .n_heads = n_heads, .turn = true};
    const struct turn turn = {
        .n_rows = n_rows, .head_dim = head_dim, .positions = positions, .rope = &there};
    d->kernels->turn(d->device, &heads, 1, &turn);
    device_floats_end(d, y, turned, n);
    device_give(d, frequency);
    for (size_t head = 0; head < (size_t)n_rows * n_heads; head++) {
        const float *in = x + head * head_dim, *out = y + head * head_dim;
        for (uint32_t i = 0; i < rope->n_dims / 2; i++) {
            const uint32_t a = rope->neox ? i : 2 * i,
                           b = rope->neox ? i + rope->n_dims / 2 : a + 1;
            /* the angle is a product in double, by definition */
            const double angle = (double)positions[head / n_heads] * rope->frequency[i];
            const long double c = cosl((long double)angle) * (long double)rope->magnitude,
                              s = sinl((long double)angle) * (long double)rope->magnitude;
            const long double ia = (long double)in[a], ib = (long double)in[b];
            /* cos and sin rounded, one product rounded, and the final fma */
            const long double tolerance =
                3.1L * UNIT * (long double)rope->magnitude * (fabsl(ia) + fabsl(ib));
            check_near("rotation", out[a], ia * c - ib * s, tolerance);
            check_near("rotation", out[b], ia * s + ib * c, tolerance);
        }
        assert_memory_equal(in + rope->n_dims, out + rope->n_dims,
                            (head_dim - rope->n_dims) * sizeof(*in)); /* the rest passes */
    }
    free(x);
    free(y);
}

static void test_rotation(void **state)
{
    const struct kernels *k = each_table_usable(state);
    enum { ROWS = 6 };
    static const uint32_t positions[ROWS] = {0, 1, 4097, 131071, 1048575, 7};
    static const uint32_t dims[][2] = {{32, 32},   {64, 64},   {96, 96},
                                       {128, 128}, {320, 320}, {80, 20}};
    struct lent_device d = device_lend(k, 2, ROWS, 64);
    double frequency[160];
    for (size_t s = 0; s < sizeof(dims) / sizeof(dims[0]); s++)
        for (int neox = 0; neox < 2; neox++) {
            const uint32_t n_dims = dims[s][1];
            for (uint32_t i = 0; i < n_dims / 2; i++)
                frequency[i] = pow(500000.0, -2.0 * i / n_dims);
            const struct rope rope = {n_dims, neox != 0, frequency, neox ? 1.0f : 1.25f};
            check_rotation(&d, &rope, dims[s][0], positions, ROWS, 3);
            check_rotation(&d, &rope, dims[s][0], positions + 3, 1, 40);
        }
    device_return(&d);
}

/* q, k and v of three layers' kinds: biases, norms, both; of v only a bias is wanted. Many rows, so
 * that on a GPU a warp has several heads. */
enum { HEAD_ROWS = 70, HEAD_DIM = 80, HEAD_ARRAYS = 5, MOST_HEADS = 40 };
static const struct {
    uint32_t n_heads;
    bool bias, norm, turn;
} head_arrays[HEAD_ARRAYS] = {{40, true, true, true},
                              {7, false, true, true},
                              {7, true, false, false},
                              {1, false, false, true},
                              {3, false, false, false}};

static void test_heads_have_the_bits_of_each_step_alone(void **state)
{
    const struct kernels *k = each_table_usable(state);
    enum { MOST = HEAD_ROWS * MOST_HEADS * HEAD_DIM };
    struct lent_device d = device_lend(k, 2, 1, 64);
    uint32_t positions[HEAD_ROWS];
    double frequency[HEAD_DIM / 4];
    float *values = malloc(sizeof(float) * MOST), *want = malloc(sizeof(float) * MOST),
          *got = malloc(sizeof(float) * MOST);
    for (uint32_t i = 0; i < HEAD_ROWS; i++)
        positions[i] = i * 977;
    for (uint32_t i = 0; i < HEAD_DIM / 4; i++)
        frequency[i] = pow(10000.0, -4.0 * i / HEAD_DIM);
    const struct rope rope = {HEAD_DIM / 2, true, device_bytes(&d, frequency, sizeof(frequency)),
                              1};
    fill(values, MOST, 1.0f, 1);
    float *bias = device_floats(&d, values, (size_t)MOST_HEADS * HEAD_DIM);
    for (uint32_t n_rows = 1; n_rows <= HEAD_ROWS; n_rows += HEAD_ROWS - 1) {
        const struct turn turn = {n_rows, HEAD_DIM, positions, &rope, 1e-6f};
        struct heads heads[HEAD_ARRAYS];
        float *alone[HEAD_ARRAYS];
        for (int i = 0; i < HEAD_ARRAYS; i++) {
            const uint32_t n_heads = head_arrays[i].n_heads;
            const size_t n = (size_t)n_rows * n_heads * HEAD_DIM;
            heads[i] = (struct heads){.x = device_floats(&d, values, n),
                                      .n_heads = n_heads,
                                      .bias = head_arrays[i].bias ? bias : NULL,
                                      .norm = head_arrays[i].norm ? bias : NULL,
                                      .turn = head_arrays[i].turn};
            alone[i] = device_floats(&d, values, n);
            if (head_arrays[i].bias)
                k->add_bias(d.device, alone[i], bias, n_rows, n_heads * HEAD_DIM);
            if (head_arrays[i].norm)
                k->rms_norm(d.device, alone[i], alone[i], bias, n_rows * n_heads, HEAD_DIM, 1e-6f);
            const struct heads turned = {.x = alone[i], .n_heads = n_heads, .turn = true};
            if (head_arrays[i].turn)
                k->turn(d.device, &turned, 1, &turn);
        }
        k->turn(d.device, heads, HEAD_ARRAYS, &turn);
        k->turn(d.device, heads, HEAD_ARRAYS, &(struct turn){0, HEAD_DIM, positions, &rope, 1});
        for (int i = 0; i < HEAD_ARRAYS; i++) {
            const size_t n = (size_t)n_rows * head_arrays[i].n_heads * HEAD_DIM;
            device_floats_end(&d, want, alone[i], n);
            device_floats_end(&d, got, heads[i].x, n);
            assert_memory_equal(got, want, n * sizeof(*got));
        }
    }
    device_give(&d, bias);
    device_give(&d, (void *)rope.frequency);
    free(values);
    free(want);
    free(got);
    device_return(&d);
}

/* Numbers of every exponent, and what is no number. */
static float any_float(uint64_t *seed)
{
    uint32_t bits = random_u32(seed);
    float x;
    if (random_u32(seed) % 4 != 0) /* mostly near the range of f16 */
        bits = (bits & 0x807fffff) | (127 - 30 + random_u32(seed) % 50) << 23;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* K of any numbers, V of usual ones, each turned and then rounded. */
static void test_heads_are_rounded_as_rows_of_the_cache(void **state)
{
    const struct kernels *k = each_table_usable(state);
    enum {
        ROUNDED_ROWS = 70,
        N_HEADS = 3,
        ROUNDED_DIM = 96,
        N = ROUNDED_ROWS * N_HEADS * ROUNDED_DIM
    };
    struct lent_device d = device_lend(k, 2, 1, 64);
    uint32_t positions[ROUNDED_ROWS];
    double frequency[ROUNDED_DIM / 2];
    float *x[2], *turned = malloc(sizeof(float) * N);
    char *want = malloc(sizeof(float) * N), *got = calloc(2 * N, sizeof(float));
    uint64_t seed = 5;
    for (int i = 0; i < 2; i++)
        x[i] = malloc(sizeof(float) * N);
    for (uint32_t i = 0; i < N; i++) {
        x[0][i] = any_float(&seed);
        x[1][i] = random_float(&seed);
    }
    for (uint32_t i = 0; i < ROUNDED_ROWS; i++)
        positions[i] = i * 31;
    for (uint32_t i = 0; i < ROUNDED_DIM / 2; i++)
        frequency[i] = 1.0 / (1 + i);
    const struct rope rope = {ROUNDED_DIM, false, device_bytes(&d, frequency, sizeof(frequency)),
                              1};
    for (enum kv_type type = 0; (int)type < KV_TYPES; type++)
        for (uint32_t n_rows = 1; n_rows <= ROUNDED_ROWS; n_rows += ROUNDED_ROWS - 1) {
            const size_t n = (size_t)n_rows * N_HEADS * ROUNDED_DIM, bytes = kv_row_bytes(type, n);
            char *to = device_bytes(&d, got, 2 * bytes);
            const struct heads heads[] = {
                {.x = device_floats(&d, x[0], n), .n_heads = N_HEADS, .rounded = to, .type = type},
                {.x = device_floats(&d, x[1], n),
                 .n_heads = N_HEADS,
                 .turn = true,
                 .rounded = to + bytes,
                 .type = type}};
            k->turn(d.device, heads, 2, &(struct turn){n_rows, ROUNDED_DIM, positions, &rope, 0});
            for (int i = 0; i < 2; i++) {
                device_floats_end(&d, turned, heads[i].x, n);
                kv_round(type, want, turned, n);
                device_read(&d, got, to + i * bytes, bytes);
                assert_memory_equal(got, want, bytes);
            }
            device_give(&d, to);
        }
    device_give(&d, (void *)rope.frequency);
    for (int i = 0; i < 2; i++)
        free(x[i]);
    free(turned);
    free(want);
    free(got);
    device_return(&d);
}

static void test_swiglu_and_add(void **state)
{
    const struct kernels *k = each_table_usable(state);
    enum { N = 100003 };
    struct lent_device d = device_lend(k, 2, 1, 64);
    float *gate = malloc(sizeof(float) * N), *up = malloc(sizeof(float) * N),
          *y = malloc(sizeof(float) * N);
    fill(gate, N, 30.0f, 1);
    fill(up, N, 3.0f, 2);
    const float edges[] = {0.0f, -0.0f, 88.0f, -88.0f, -104.0f, -200.0f, -1e30f, 1e30f};
    memcpy(gate, edges, sizeof(edges));
    memcpy(gate + N - 8, edges, sizeof(edges)); /* where no vector is full */
    float *x = device_floats(&d, gate, N), *factors = device_floats(&d, up, N);
    k->swiglu(d.device, x, factors, N);
    device_floats_end(&d, y, x, N);
    for (size_t i = 0; i < N; i++) {
        const long double g = (long double)gate[i],
                          want = g / (1.0L + expl(-g)) * (long double)up[i];
        /* exp within 1e-7 (1.7 units), then an addition, a division, a product; where exp(-g)
         * overflows f32 the result is 0 instead of under 1e-35 */
        check_near("swiglu", y[i], want, 5.0L * UNIT * fabsl(want) + 1e-35L);
    }
    memcpy(y, gate, sizeof(float) * N);
    device_add(&d, y, up, N);
    for (size_t i = 0; i < N; i++)
        assert_true(y[i] == gate[i] + up[i]);
    k->add(d.device, factors, factors, 0);
    k->swiglu(d.device, factors, factors, 0);
    device_give(&d, factors);
    free(gate);
    free(up);
    free(y);
    device_return(&d);
}

static const float edges_of_gates[] = {0.0f,   -0.0f, 88.0f,     -88.0f, -104.0f, -200.0f,
                                       -1e30f, 1e30f, 0x1p-149f, 9.0f,   -9.0f,   5.0f};

static void test_geglu(void **state)
{
    const struct kernels *k = each_table_usable(state);
    enum { N = 100003, N_EDGES = sizeof(edges_of_gates) / sizeof(edges_of_gates[0]) };
    struct lent_device d = device_lend(k, 2, 1, 64);
    float *gate = malloc(sizeof(float) * N), *up = malloc(sizeof(float) * N),
          *y = malloc(sizeof(float) * N);
    fill(gate, N, 12.0f, 1);
    fill(up, N, 3.0f, 2);
    memcpy(gate, edges_of_gates, sizeof(edges_of_gates));
    memcpy(gate + N - N_EDGES, edges_of_gates, sizeof(edges_of_gates));
    float *x = device_floats(&d, gate, N), *factors = device_floats(&d, up, N);
    k->geglu(d.device, x, factors, N);
    k->geglu(d.device, factors, factors, 0);
    device_floats_end(&d, y, x, N);
    device_give(&d, factors);
    for (size_t i = 0; i < N; i++) {
        const long double g = (long double)gate[i];
        const long double a = 2 * sqrtl(2 / acosl(-1.0L)) * (g + 0.044715L * g * g * g);
        const long double want = g / (1.0L + expl(-a)) * (long double)up[i];
        /* as SwiGLU, and what e is raised to is rounded: its two constants, a square, a fused sum,
         * a product; that error counts as often as the exponent is large, where e counts at all */
        const long double spread = g < 0 ? 3.0L * fabsl(a) : 3.0L;
        check_near("geglu", y[i], want, (5.0L + spread) * UNIT * fabsl(want) + 1e-33L);
    }
    free(gate);
    free(up);
    free(y);
    device_return(&d);
}

static void test_soft_cap_and_scale(void **state)
{
    const struct kernels *k = each_table_usable(state);
    enum { N = 100003, N_EDGES = sizeof(edges_of_gates) / sizeof(edges_of_gates[0]) };
    struct lent_device d = device_lend(k, 2, 1, 64);
    float *x = malloc(sizeof(float) * N), *y = malloc(sizeof(float) * N);
    fill(x, N, 100.0f, 3);
    memcpy(x, edges_of_gates, sizeof(edges_of_gates));
    memcpy(x + N - N_EDGES, edges_of_gates, sizeof(edges_of_gates));
    static const float caps[] = {30.0f, 50.0f, 1e-3f};
    for (size_t c = 0; c < sizeof(caps) / sizeof(caps[0]); c++) {
        const long double cap = (long double)caps[c];
        float *in = device_floats(&d, x, N);
        k->soft_cap(d.device, in, caps[c], N);
        k->soft_cap(d.device, in, caps[c], 0);
        device_floats_end(&d, y, in, N);
        for (size_t i = 0; i < N; i++) /* 2e-7 of the cap, and two roundings (numeric.h) */
            check_near("soft_cap", y[i], cap * tanhl((long double)x[i] / cap),
                       cap * (2e-7L + 2 * UNIT));
    }
    float *in = device_floats(&d, x, N);
    k->scale(d.device, in, 0.37f, N);
    k->scale(d.device, in, 2.0f, 0);
    device_floats_end(&d, y, in, N);
    for (size_t i = 0; i < N; i++)
        assert_true(y[i] == x[i] * 0.37f);
    free(x);
    free(y);
    device_return(&d);
}

static void test_add_bias(void **state)
{
    const struct kernels *k = each_table_usable(state);
    enum { MAX_ROWS = 70, MAX = 1000 };
    static const uint32_t sizes[][2] = {
        {1, 1}, {1, MAX}, {3, 17}, {MAX_ROWS, 288}, {MAX_ROWS, MAX}};
    struct lent_device d = device_lend(k, 2, 1, 64);
    float *x = malloc(sizeof(float) * MAX_ROWS * MAX), *y = malloc(sizeof(float) * MAX_ROWS * MAX),
          bias[MAX];
    fill(x, MAX_ROWS * MAX, 1.0f, 1);
    fill(bias, MAX, 2.0f, 2);
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        const uint32_t n_rows = sizes[s][0], n = sizes[s][1];
        float *to = device_floats(&d, x, (size_t)n_rows * n), *from = device_floats(&d, bias, n);
        k->add_bias(d.device, to, from, n_rows, n);
        k->add_bias(d.device, to, from, 0, n);
        device_floats_end(&d, y, to, (size_t)n_rows * n);
        device_give(&d, from);
        for (uint32_t row = 0; row < n_rows; row++)
            for (uint32_t i = 0; i < n; i++)
                assert_true(y[row * n + i] == x[row * n + i] + bias[i]);
    }
    free(x);
    free(y);
    device_return(&d);
}

enum { ROWS = 9, COLUMNS = 9 * 416, VALUES = ROWS * COLUMNS };

/* Everything elementwise, one after the other, on the same numbers. */
static float *chain(const struct kernels *k, uint32_t lanes)
{
    static const uint32_t positions[ROWS] = {5, 70000, 0, 1, 2, 3, 999999, 12, 31};
    struct lent_device d = device_lend(k, lanes, ROWS, COLUMNS);
    float *x = malloc(sizeof(float) * VALUES), *y = malloc(sizeof(float) * VALUES), weight[COLUMNS];
    double frequency[52];
    for (uint32_t i = 0; i < 52; i++)
        frequency[i] = pow(10000.0, -2.0 * i / 104);
    void *turning = device_bytes(&d, frequency, sizeof(frequency));
    struct rope rope = {104, false, turning, 1.0f};
    fill(x, VALUES, 100.0f, 3);
    fill(y, VALUES, 1.0f, 4);
    fill(weight, COLUMNS, 1.0f, 5);
    float *to = device_floats(&d, x, VALUES), *from = device_floats(&d, y, VALUES),
          *scales = device_floats(&d, weight, COLUMNS);
    k->swiglu(d.device, to, from, VALUES);
    k->add(d.device, to, from, VALUES);
    k->geglu(d.device, to, from, VALUES);
    k->add_bias(d.device, to, scales, ROWS, COLUMNS);
    k->scale(d.device, to, 1.7f, VALUES);
    k->soft_cap(d.device, to, 30.0f, VALUES);
    k->rms_norm(d.device, to, to, scales, ROWS, COLUMNS, 1e-6f);
    struct heads heads = {.x = to, .n_heads = COLUMNS / 104, .norm = scales, .turn = true};
    k->turn(d.device, &heads, 1, &(struct turn){ROWS, 104, positions, &rope, 1e-6f});
    rope.neox = true;
    heads = (struct heads){.x = to, .n_heads = COLUMNS / 416, .bias = from, .turn = true};
    k->turn(d.device, &heads, 1, &(struct turn){ROWS, 416, positions, &rope, 0});
    device_floats_end(&d, x, to, VALUES);
    device_give(&d, from);
    device_give(&d, scales);
    device_give(&d, turning);
    free(y);
    device_return(&d);
    return x;
}

static void test_same_bits_for_any_table_and_lanes(void **state)
{
    const struct kernels *k = each_table_usable(state);
    float *want = chain(&kernels_cpu_scalar, 1);
    for (uint32_t lanes = 1; lanes <= 3; lanes++) {
        float *got = chain(k, lanes);
        assert_memory_equal(got, want, sizeof(float) * VALUES);
        free(got);
    }
    free(want);
}

int main(void)
{
    const struct each_table_test tests[] = {
        {"rms_norm", test_rms_norm, false},
        {"rotation", test_rotation, false},
        {"heads_have_the_bits_of_each_step_alone", test_heads_have_the_bits_of_each_step_alone,
         false},
        {"heads_are_rounded_as_rows_of_the_cache", test_heads_are_rounded_as_rows_of_the_cache,
         false},
        {"swiglu_and_add", test_swiglu_and_add, false},
        {"geglu", test_geglu, false},
        {"soft_cap_and_scale", test_soft_cap_and_scale, false},
        {"add_bias", test_add_bias, false},
        {"same_bits_for_any_table_and_lanes", test_same_bits_for_any_table_and_lanes, false},
    };
    return each_table_run(tests, sizeof(tests) / sizeof(tests[0]));
}
