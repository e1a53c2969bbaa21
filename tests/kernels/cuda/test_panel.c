/* test_panel.c - the CUDA kernels' arithmetic on the host: weights into panels and back, fragments
 * multiplied as the tensor cores do, and the sums' bits against the CPU's table.
 *
 * What a lane reads is here what it reads in product_quant.cu and product_float.cu, through the
 * same functions of panel.h; the instruction itself is written out from its description (PTX ISA,
 * mma.m16n8k32, mma.m16n8k16). Needs no GPU. */
#include "kernels/cuda/panel.h"
#include "tests/kernels/cpu/each_table.h"

#include <math.h>

enum { OUTPUTS = 37, ROWS = 11, MAX_COLUMNS = 2816, SPAN = 1024 };

struct problem {
    enum weight_type type;
    uint32_t n_columns;
    uint8_t *weights; /* as in a file */
    float *x;
    struct cuda_source source;
    struct cuda_vector *panels;
};

static struct problem problem_make(enum weight_type type, uint32_t n_columns)
{
    struct problem p = {.type = type, .n_columns = n_columns};
    uint64_t seed = type * 77u + n_columns;
    const size_t row_bytes = weight_row_bytes(type, n_columns);
    const size_t n = (size_t)OUTPUTS * n_columns, of_panel = panel_vectors(type, n_columns);
    float *w = malloc(n * sizeof(*w));
    p.weights = malloc(row_bytes * OUTPUTS);
    p.x = malloc(sizeof(float) * ROWS * n_columns);
    p.panels = malloc(panel_count(OUTPUTS) * of_panel * sizeof(*p.panels));
    assert_true(w != NULL && p.weights != NULL && p.x != NULL && p.panels != NULL);
    for (size_t i = 0; i < n; i++)
        w[i] = random_float(&seed);
    for (size_t i = 0; i < (size_t)ROWS * n_columns; i++)
        p.x[i] = random_float(&seed);
    weight_quantize(type, p.weights, w, n);
    free(w);
    p.source = (struct cuda_source){type, p.weights, row_bytes, OUTPUTS, n_columns};
    for (size_t panel = 0; panel < panel_count(OUTPUTS); panel++)
        for (size_t v = 0; v < of_panel; v++)
            p.panels[panel * of_panel + v] =
                panel_vector(&p.source, (uint32_t)panel * PANEL_OUTPUTS, v);
    return p;
}

static void problem_free(struct problem *p)
{
    free(p->weights);
    free(p->x);
    free(p->panels);
}

static void test_a_matrix_takes_the_bytes_of_its_file(void **state)
{
    for (size_t t = 0; t < WEIGHT_TYPES; t++)
        assert_int_equal(panel_vectors(weight_types[t], 4096) * VECTOR_BYTES,
                         PANEL_OUTPUTS * weight_row_bytes(weight_types[t], 4096));
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* As `weights::load` and `unpack`: the registers of one lane for a piece of a chunk. */
static void lane_registers(uint32_t a[4], const struct cuda_vector *chunk, struct cuda_format f,
                           uint32_t piece, uint32_t lane)
{
    const struct cuda_vector *low = chunk + chunk_scale_vectors(f) + lane;
    const struct cuda_vector *high = low + f.low_bits * CUDA_LANES;
    low += (f.low_bits == 8 ? piece : piece / 2) * CUDA_LANES;
    high += piece * (uint32_t)f.high_bits / 8 * CUDA_LANES;
    piece_unpack(a, f, low->word, high->word, piece);
}

static int signed_byte(uint32_t word, uint32_t b)
{
    return (int8_t)(word >> 8 * b & 255);
}

/* What products of one row multiply: unsigned, second pieces 2^pair_shift times; with no high bits the first
 * piece's integer is in what the second one's is in. */
static void test_pairs_of_pieces_are_the_same_integers(void **state)
{
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        const struct cuda_format f = cuda_format(weight_types[t]);
        if (f.low_bits != 4)
            continue;
        struct problem p = problem_make(weight_types[t], 256);
        const int zero = f.is_signed ? 8 << f.high_bits : 0;
        for (uint32_t lane = 0; lane < CUDA_LANES; lane++)
            for (uint32_t piece = 0; piece < CHUNK_PIECES; piece++) {
                const struct cuda_vector *low = p.panels + chunk_scale_vectors(f) + lane;
                const struct cuda_vector *high =
                    low + (4 + piece * (uint32_t)f.high_bits / 8) * CUDA_LANES;
                uint32_t a[4], pair[4], first[4];
                low += piece / 2 * CUDA_LANES;
                lane_registers(a, p.panels, f, piece, lane);
                pair_unpack(pair, f, low->word, high->word, piece);
                pair_unpack(first, f, low->word, high->word, piece - piece % 2);
                for (uint32_t i = 0; i < 16; i++) {
                    int want = f.is_signed ? signed_byte(a[i / 4], i % 4) >> piece_shift(f)
                                           : (int)(a[i / 4] >> 8 * (i % 4) & 255);
                    want = (want + zero) << (piece % 2 ? pair_shift(f) : 0);
                    if (piece % 2 && pair_shift(f) == 4)
                        want += (int)(first[i / 4] >> 8 * (i % 4) & 255);
                    assert_int_equal(pair[i / 4] >> 8 * (i % 4) & 255, want);
                }
            }
        problem_free(&p);
    }
}

/* mma.m16n8k32 (first 0, n 32), or m16n8k16 for half of the columns: A from all lanes' registers, B
 * as [row of 8][32 columns]. */
static void multiply_fragments(int dot[16][8], uint32_t a[32][4], int8_t b[8][32], uint32_t first,
                               uint32_t n)
{
    int8_t matrix[16][32];
    for (uint32_t lane = 0; lane < 32; lane++)
        for (uint32_t r = 0; r < 4; r++)
            for (uint32_t i = 0; i < 4; i++)
                matrix[lane / 4 + 8 * (r % 2)][16 * (r / 2) + lane % 4 * 4 + i] =
                    (int8_t)signed_byte(a[lane][r], i);
    for (int o = 0; o < 16; o++)
        for (int row = 0; row < 8; row++) {
            dot[o][row] = 0;
            for (uint32_t k = first; k < first + n; k++)
                dot[o][row] += matrix[o][k] * b[row][k];
        }
}

static float read_half(const struct cuda_vector *v, uint32_t i)
{
    return half_to_float((uint16_t)(v->word[i / 2] >> i % 2 * 16));
}

/* As `weights::scales`, for output o of the panel. */
static void piece_scales(float scale[2], float *min, const struct cuda_vector *chunk,
                         struct cuda_format f, uint32_t piece, uint32_t o)
{
    const struct cuda_vector *record = chunk + o;
    *min = 0;
    if (f.high_bits == 2) {
        const float d = read_half(chunk + PANEL_OUTPUTS + o / 8, o % 8);
        for (uint32_t half = 0; half < 2; half++) {
            const uint32_t i = 2 * piece + half;
            scale[half] = d * (float)signed_byte(record->word[i / 4], i % 4);
        }
    } else if (f.super) {
        const uint32_t *w = record->word;
        scale[0] = read_half(record, 0) * (float)packed_part(w[1], w[3], piece, 0);
        *min = -read_half(record, 1) * (float)packed_part(w[2], w[3], piece, 4);
    } else {
        scale[0] = read_half(record, piece);
        if (f.min)
            *min = read_half(record + PANEL_OUTPUTS, piece);
    }
}

/* As `quantize` of prepare.cu, and where a lane of the product reads it again. */
static float quantize_block(int8_t q[32], const float *x, float *sum)
{
    uint8_t stored[X_PAIR_BYTES] = {0};
    float largest = 0;
    int total = 0;
    for (int i = 0; i < 32; i++)
        largest = fmaxf(largest, fabsf(x[i]));
    const float inverse = 127.0f / largest, scale = largest / 127.0f;
    for (uint32_t i = 0; i < 32; i++) {
        const float shifted = x[i] * inverse + 12582912.0f;
        int32_t bits;
        memcpy(&bits, &shifted, sizeof(bits));
        stored[x_quant_at(i)] = (uint8_t)(bits - 0x4b400000);
        total += bits - 0x4b400000;
    }
    for (uint32_t t = 0; t < 4; t++) /* lane t: words at 16 t and 16 t + 4 */
        for (uint32_t word = 0; word < 2; word++)
            for (uint32_t i = 0; i < 4; i++)
                q[16 * word + 4 * t + i] = (int8_t)stored[16 * t + 4 * word + i];
    *sum = scale * (float)total;
    return scale;
}

/* As `add_dots`: the integers are too large by the shift, and the sum starts at 1.5 * 2^23. */
static float exact_dot(int dot, int shift)
{
    const int32_t bits = 0x4b400000 + dot;
    const float unshift = 1.0f / (float)(1 << shift);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return fmaf(value, unshift, -12582912.0f * unshift);
}

/* One panel's sums over one span, for the eight rows from `row` on. */
static void span_sums(float sums[16][8], const struct problem *p, uint32_t panel, uint32_t begin,
                      uint32_t end, uint32_t row)
{
    const struct cuda_format f = cuda_format(p->type);
    memset(sums, 0, sizeof(float) * 16 * 8);
    for (uint32_t column = begin; column < end; column += QUANT_PIECE) {
        const struct cuda_vector *chunk = p->panels + panel * panel_vectors(p->type, p->n_columns) +
                                          column / CHUNK_COLUMNS * chunk_vectors(f);
        const uint32_t piece = column % CHUNK_COLUMNS / QUANT_PIECE;
        const uint32_t halves = f.high_bits == 2 ? 2 : 1;
        uint32_t a[32][4];
        int8_t b[8][32] = {{0}};
        float x_scale[8] = {0}, x_sum[8] = {0};
        for (uint32_t lane = 0; lane < 32; lane++)
            lane_registers(a[lane], chunk, f, piece, lane);
        for (uint32_t r = 0; r < 8 && row + r < ROWS; r++)
            x_scale[r] =
                quantize_block(b[r], p->x + (size_t)(row + r) * p->n_columns + column, &x_sum[r]);
        for (uint32_t half = 0; half < halves; half++) {
            int dot[16][8];
            multiply_fragments(dot, a, b, half * 16, 32 / halves);
            for (uint32_t o = 0; o < 16; o++)
                for (int r = 0; r < 8; r++) {
                    float scale[2], min;
                    piece_scales(scale, &min, chunk, f, piece, o);
                    sums[o][r] = fmaf(exact_dot(dot[o][r], piece_shift(f)),
                                      scale[half] * x_scale[r], sums[o][r]);
                    if (f.min)
                        sums[o][r] = fmaf(min, x_sum[r], sums[o][r]);
                }
        }
    }
}

static float *multiply_scalar(const struct problem *p)
{
    const struct kernels *k = &kernels_cpu_scalar;
    struct lent_device d = device_lend(k, 1, ROWS, MAX_COLUMNS);
    float *y = malloc(sizeof(float) * ROWS * OUTPUTS);
    struct matrix m;
    assert_int_equal(k->matrix_create(d.device, &m, p->type, p->weights, p->n_columns, 0, OUTPUTS,
                                      0, p->n_columns, NULL),
                     STATUS_OK);
    k->prepare(d.device, p->x, ROWS, p->n_columns, 1u << p->type);
    k->matmul(d.device, &(struct product){y, OUTPUTS, &m}, 1);
    k->matrix_destroy(d.device, &m);
    device_return(&d);
    return y;
}

static void test_products_of_blocks_have_the_bits_of_the_cpu(void **state)
{
    static const uint32_t columns[] = {32, 96, 1056, 2592}, super_columns[] = {256, 1280, 2816};
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        const struct cuda_format f = cuda_format(weight_types[t]);
        for (size_t c = 0; f.low_bits > 0 && c < (f.super ? 3u : 4u); c++) {
            struct problem p =
                problem_make(weight_types[t], f.super ? super_columns[c] : columns[c]);
            float *want = multiply_scalar(&p);
            for (uint32_t panel = 0; panel < panel_count(OUTPUTS); panel++)
                for (uint32_t row = 0; row < ROWS; row += 8) {
                    float sums[16][8], y[16][8];
                    for (uint32_t begin = 0; begin < p.n_columns; begin += SPAN) {
                        const uint32_t end = begin + SPAN;
                        span_sums(sums, &p, panel, begin, end < p.n_columns ? end : p.n_columns,
                                  row);
                        for (int i = 0; i < 16 * 8; i++)
                            y[i / 8][i % 8] = begin == 0 ? sums[i / 8][i % 8]
                                                         : y[i / 8][i % 8] + sums[i / 8][i % 8];
                    }
                    for (uint32_t o = 0; o < 16 && panel * 16 + o < OUTPUTS; o++)
                        for (uint32_t r = 0; r < 8 && row + r < ROWS; r++)
                            if (memcmp(&y[o][r], &want[(row + r) * OUTPUTS + panel * 16 + o], 4) !=
                                0)
                                fail_msg("%s, %u columns: y[%u][%u] = %.9g, not %.9g",
                                         weight_traits(p.type)->name, p.n_columns, row + r,
                                         panel * 16 + o, (double)y[o][r],
                                         (double)want[(row + r) * OUTPUTS + panel * 16 + o]);
                }
            free(want);
            problem_free(&p);
        }
    }
}

/* ---- floats ---------------------------------------------------------------------------------- */

/* Column c of output o, from the registers that product_float.cu's lanes load. */
static float piece_value(const struct problem *p, uint32_t o, uint32_t column)
{
    const struct cuda_vector *piece = p->panels + o / 16 * panel_vectors(p->type, p->n_columns) +
                                      column / FLOAT_PIECE * piece_vectors(p->type);
    for (uint32_t lane = 0; lane < 32; lane++)
        for (uint32_t r = 0; r < 4; r++)
            for (uint32_t i = 0; i < 2; i++) {
                float value;
                if (lane / 4 + 8 * (r % 2) != o % 16 ||
                    8 * (r / 2) + lane % 4 * 2 + i != column % FLOAT_PIECE)
                    continue;
                if (p->type == WEIGHT_F32) {
                    memcpy(&value, &piece[r / 2 * CUDA_LANES + lane].word[r % 2 * 2 + i], 4);
                    return value;
                }
                const uint16_t bits = (uint16_t)(piece[lane].word[r] >> 16 * i);
                return p->type == WEIGHT_F16 ? half_to_float(bits) : bfloat16_to_float(bits);
            }
    fail_msg("no lane has output %u, column %u", o, column);
    return 0;
}

static void test_fragments_of_floats_are_the_matrix(void **state)
{
    static const enum weight_type types[] = {WEIGHT_F32, WEIGHT_F16, WEIGHT_BF16};
    static const uint32_t columns[] = {1, 7, 33, 128, 530};
    for (size_t t = 0; t < 3; t++)
        for (size_t c = 0; c < 5; c++) {
            struct problem p = problem_make(types[t], columns[c]);
            float w[530];
            for (uint32_t o = 0; o < OUTPUTS; o++) {
                weight_dequantize(p.type, w, p.weights + o * p.source.row_bytes, p.n_columns);
                for (uint32_t i = 0; i < p.n_columns; i++)
                    assert_true(piece_value(&p, o, i) == w[i]);
                for (uint32_t i = p.n_columns; i < cuda_round_up(p.n_columns, 32); i++)
                    assert_true(piece_value(&p, o, i) == 0);
            }
            problem_free(&p);
        }
}

/* Each part of each column has a place of its own, and it is where its lane reads. */
static void check_parts(uint32_t n_parts)
{
    uint8_t used[2 * 32 * X_PARTS] = {0};
    for (uint32_t column = 0; column < 64; column++)
        for (uint32_t part = 0; part < n_parts; part++) {
            const size_t at = x_part_at(column, part, n_parts);
            const uint32_t c = column % 16, lane = c % 8 / 2, word = c / 8; /* b0 or b1 */
            assert_true(at < 2 * 32 * n_parts && !used[at]);
            used[at] = 1;
            /* vector [pair][part][lane], words 2 * piece + word, two numbers each */
            assert_int_equal(at, ((column / 32 * n_parts + part) * 4 + lane) * 8 +
                                     (column / 16 % 2 * 2 + word) * 2 + c % 2);
        }
}

static void test_parts_of_activations_are_where_lanes_read(void **state)
{
    check_parts(X_PARTS);
    check_parts(X_HALVES);
}

static void test_three_parts_are_an_f32(void **state)
{
    uint64_t seed = 5;
    for (int i = 0; i < 100000; i++) {
        const float x = ldexpf(random_float(&seed), (int)(random_u32(&seed) % 200) - 90);
        float rest = x, part[3];
        for (int j = 0; j < 3; j++) {
            uint32_t bits;
            memcpy(&bits, &rest, sizeof(bits));
            bits &= 0xffff0000u;
            memcpy(&part[j], &bits, sizeof(bits));
            rest -= part[j];
        }
        assert_true(rest == 0.0f && part[0] + (part[1] + part[2]) == x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_matrix_takes_the_bytes_of_its_file),
        cmocka_unit_test(test_pairs_of_pieces_are_the_same_integers),
        cmocka_unit_test(test_products_of_blocks_have_the_bits_of_the_cpu),
        cmocka_unit_test(test_fragments_of_floats_are_the_matrix),
        cmocka_unit_test(test_parts_of_activations_are_where_lanes_read),
        cmocka_unit_test(test_three_parts_are_an_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
