/* cpu.c - the tables of the CPU's kernels, and elementwise work divided over the lanes. */
#include "kernels/cpu/device.h"
#include "kernels/cpu/device_memory.h"
#include "kernels/cpu/limits.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

enum { CACHE_LINE_VALUES = 16 };

struct rows_work {
    const struct cpu_variant *variant;
    float *y;
    const float *x, *weight;
    uint32_t n_rows, n_columns;
    float epsilon;
};

static void rms_norm_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct rows_work *w = context;
    size_t begin, end;

    thread_pool_share(w->n_rows, 1, lane, n_lanes, &begin, &end);
    for (size_t row = begin; row < end; row++)
        w->variant->rms_norm(w->y + row * w->n_columns, w->x + row * w->n_columns, w->weight,
                             w->n_columns, w->epsilon);
}

static void cpu_rms_norm(struct device *device, float *y, const float *x, const float *weight,
                         uint32_t n_rows, uint32_t n_columns, float epsilon)
{
    struct rows_work work = {.variant = device->variant,
                             .y = y,
                             .x = x,
                             .weight = weight,
                             .n_rows = n_rows,
                             .n_columns = n_columns,
                             .epsilon = epsilon};
    device_run(device, n_rows > 1 ? (size_t)n_rows * n_columns : 0, DEVICE_ALONE, rms_norm_lane,
               &work);
}

struct turn_work {
    const struct cpu_variant *variant;
    const struct heads *heads;
    uint32_t n;
    const struct turn *turn;
};

/* All heads of one row. */
static void turn_row(const struct turn_work *w, const struct heads *heads, size_t row)
{
    const struct turn *t = w->turn;
    const size_t n = (size_t)heads->n_heads * t->head_dim;
    float *x = heads->x + row * n;
    if (heads->bias != NULL)
        w->variant->add(x, heads->bias, n);
    for (size_t at = 0; at < n && heads->norm != NULL; at += t->head_dim)
        w->variant->rms_norm(x + at, x + at, heads->norm, t->head_dim, t->epsilon);
    if (heads->turn && t->rope != NULL)
        w->variant->rotate(x, t->positions[row], heads->n_heads, t->head_dim, t->rope);
    if (heads->rounded != NULL)
        kv_round(heads->type, (uint8_t *)heads->rounded + row * kv_row_bytes(heads->type, n), x, n);
}

static void turn_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct turn_work *w = context;
    size_t begin, end;

    thread_pool_share(w->turn->n_rows, 1, lane, n_lanes, &begin, &end);
    for (size_t row = begin; row < end; row++)
        for (uint32_t i = 0; i < w->n; i++)
            turn_row(w, &w->heads[i], row);
}

static void cpu_turn(struct device *device, const struct heads *heads, uint32_t n,
                     const struct turn *turn)
{
    struct turn_work work = {device->variant, heads, n, turn};
    size_t n_heads = 0;
    for (uint32_t i = 0; i < n; i++)
        n_heads += heads[i].n_heads;
    device_run(device, turn->n_rows > 1 ? turn->n_rows * n_heads * turn->head_dim : 0, DEVICE_ALONE,
               turn_lane, &work);
}

struct values_work {
    void (*function)(float *x, const float *y, size_t n);
    float *x;
    const float *y;
    size_t n;
};

static void values_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct values_work *work = context;
    size_t begin, end;

    thread_pool_share(work->n, CACHE_LINE_VALUES, lane, n_lanes, &begin, &end);
    if (begin < end)
        work->function(work->x + begin, work->y + begin, end - begin);
}

static void cpu_swiglu(struct device *device, float *gate, const float *up, size_t n)
{
    struct values_work work = {device->variant->swiglu, gate, up, n};
    device_run(device, n, DEVICE_ALONE / 4, values_lane, &work); /* an exponential each */
}

static void cpu_geglu(struct device *device, float *gate, const float *up, size_t n)
{
    struct values_work work = {device->variant->geglu, gate, up, n};
    device_run(device, n, DEVICE_ALONE / 4, values_lane, &work);
}

static void cpu_add(struct device *device, float *x, const float *y, size_t n)
{
    struct values_work work = {device->variant->add, x, y, n};
    device_run(device, n, 4 * DEVICE_ALONE, values_lane,
               &work); /* cheaper per value than the others */
}

static void add_bias_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct rows_work *w = context;
    size_t begin, end;

    thread_pool_share(w->n_rows, 1, lane, n_lanes, &begin, &end);
    for (size_t row = begin; row < end; row++)
        w->variant->add(w->y + row * w->n_columns, w->x, w->n_columns);
}

static void cpu_add_bias(struct device *device, float *x, const float *bias, uint32_t n_rows,
                         uint32_t n_columns)
{
    struct rows_work work = {
        .variant = device->variant, .y = x, .x = bias, .n_rows = n_rows, .n_columns = n_columns};
    device_run(device, n_rows > 1 ? (size_t)n_rows * n_columns : 0, 4 * DEVICE_ALONE, add_bias_lane,
               &work);
}

struct number_work {
    void (*function)(float *x, float number, size_t n);
    float *x, number;
    size_t n;
};

static void number_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct number_work *work = context;
    size_t begin, end;

    thread_pool_share(work->n, CACHE_LINE_VALUES, lane, n_lanes, &begin, &end);
    if (begin < end)
        work->function(work->x + begin, work->number, end - begin);
}

static void cpu_scale(struct device *device, float *x, float factor, size_t n)
{
    struct number_work work = {device->variant->scale, x, factor, n};
    device_run(device, n, 4 * DEVICE_ALONE, number_lane, &work);
}

static void cpu_soft_cap(struct device *device, float *x, float cap, size_t n)
{
    struct number_work work = {device->variant->soft_cap, x, cap, n};
    device_run(device, n, DEVICE_ALONE / 4, number_lane, &work);
}

struct combine_work {
    const struct cpu_variant *variant;
    float *out;
    const float *y;
    const struct combine_terms *terms;
    uint32_t n_rows, n_columns;
};

static void combine_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct combine_work *w = context;
    const size_t n_pieces =
        w->n_columns / CPU_COMBINE_PIECE + (w->n_columns % CPU_COMBINE_PIECE != 0);
    size_t begin, end;

    thread_pool_share(w->n_rows * n_pieces, 1, lane, n_lanes, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        const size_t first = i % n_pieces * CPU_COMBINE_PIECE, left = w->n_columns - first;
        w->variant->combine(w->out, w->y, w->n_columns, w->terms, i / n_pieces, first,
                            left < CPU_COMBINE_PIECE ? left : CPU_COMBINE_PIECE);
    }
}

static void cpu_combine(struct device *device, float *out, const float *y,
                        const struct combine_terms *terms, uint32_t n_rows, uint32_t n_columns)
{
    struct combine_work work = {device->variant, out, y, terms, n_rows, n_columns};
    if (n_rows == 0)
        return;
    const size_t n_terms = terms->end[(size_t)n_rows * terms->n_ranges - 1];
    device_run(device, (n_terms + n_rows) * n_columns, 4 * DEVICE_ALONE, combine_lane, &work);
}

struct gather_work {
    float *out;
    const float *x;
    const uint32_t *rows;
    uint32_t n_rows, n_columns;
};

static void gather_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct gather_work *w = context;
    size_t begin, end;

    thread_pool_share(w->n_rows, 1, lane, n_lanes, &begin, &end);
    for (size_t i = begin; i < end; i++)
        memcpy(w->out + i * w->n_columns, w->x + (size_t)w->rows[i] * w->n_columns,
               w->n_columns * sizeof(*w->out));
}

static void cpu_gather(struct device *device, float *out, const float *x, const uint32_t *rows,
                       uint32_t n_rows, uint32_t n_columns)
{
    struct gather_work work = {out, x, rows, n_rows, n_columns};
    device_run(device, (size_t)n_rows * n_columns, 4 * DEVICE_ALONE, gather_lane, &work);
}

static void cpu_candidates(struct device *device, struct candidates_sum *sums,
                           struct candidate *best, size_t stride, const float *logits,
                           uint32_t n_rows, uint32_t n, int32_t first, const uint32_t *k)
{
    memset(best, 0, n_rows * stride * sizeof(*best));
    candidates_find(device->pool, sums, best, stride, logits, n_rows, n, first, k);
}

/* All lanes together are one device. */
static uint32_t cpu_count(struct error *error)
{
    (void)error;
    return 1;
}

static double cpu_read_rate(struct device *device, size_t bytes, uint32_t budget_ms)
{
    return limits_read(device->pool, bytes, budget_ms);
}

/* ---- tables --------------------------------------------------------------------------------- */

/* Here, not in the sources compiled for an instruction set: they must not run before it is known.
 */
static enum status open_scalar(struct device **device, struct thread_pool *pool, uint32_t index,
                               struct error *error)
{
    (void)index;
    return device_open(device, pool, &cpu_variant_scalar, error);
}

static bool usable_scalar(void)
{
    return true;
}

#define CPU_TABLE(variant, tiles)                                                                  \
    {                                                                                              \
        .device = "cpu", .name = #variant, .attention = #tiles, .usable = usable_##variant,        \
        .count = cpu_count, .open = open_##variant, .close = device_close, .host_memory = true,    \
        .memory_take = cpu_memory_take, .memory_give = cpu_memory_give,                            \
        .host_take = cpu_memory_take, .host_give = cpu_memory_give,                                \
        .memory_available = cpu_memory_available, .upload = cpu_memory_copy,                       \
        .download = cpu_memory_copy, .copy = cpu_memory_copy, .clear = cpu_memory_clear,           \
        .finish = cpu_finish, .read_rate = cpu_read_rate, .matrix_create = device_matrix_create,   \
        .matrix_destroy = device_matrix_destroy, .workspace_reserve = device_reserve,              \
        .embed = device_embed, .prepare = dense_prepare, .matmul = dense_matmul,                   \
        .rms_norm = cpu_rms_norm, .turn = cpu_turn, .swiglu = cpu_swiglu, .geglu = cpu_geglu,      \
        .add = cpu_add, .add_bias = cpu_add_bias, .scale = cpu_scale, .soft_cap = cpu_soft_cap,    \
        .gather = cpu_gather, .multiply_groups = dense_multiply_groups, .combine = cpu_combine,    \
        .most_candidates = UINT32_MAX, .candidates = cpu_candidates,                               \
    }

const struct kernels kernels_cpu_scalar = CPU_TABLE(scalar, scalar);

#if defined(__x86_64__)
static enum status open_avx2(struct device **device, struct thread_pool *pool, uint32_t index,
                             struct error *error)
{
    (void)index;
    return device_open(device, pool, &cpu_variant_avx2, error);
}

/* As the compiler's start-up code has asked the processor, once. In a virtual machine each cpuid
 * takes tens of microseconds, and every fold of partials asks for the fastest table. */
static bool has_f16c(void)
{
#if defined(__clang__) || __GNUC__ < 11 /* which do not know F16C by name */
    unsigned eax, ebx, ecx = 0, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
#else
    return __builtin_cpu_supports("f16c");
#endif
}

static bool usable_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static enum status open_avx512(struct device **device, struct thread_pool *pool, uint32_t index,
                               struct error *error)
{
    (void)index;
    return device_open(device, pool, &cpu_variant_avx512, error);
}

static bool usable_avx512(void)
{
    return usable_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512vnni");
}

const struct kernels kernels_cpu_avx2 = CPU_TABLE(avx2, avx2);
static enum status open_bf16(struct device **device, struct thread_pool *pool, uint32_t index,
                             struct error *error)
{
    (void)index;
    return device_open(device, pool, &cpu_variant_bf16, error);
}

static bool usable_bf16(void)
{
    return usable_avx512() && __builtin_cpu_supports("avx512bf16");
}

const struct kernels kernels_cpu_avx512 = CPU_TABLE(avx512, avx512);
const struct kernels kernels_cpu_bf16 = CPU_TABLE(bf16, avx512);
#elif defined(__aarch64__)
static enum status open_neon(struct device **device, struct thread_pool *pool, uint32_t index,
                             struct error *error)
{
    (void)index;
    return device_open(device, pool, &cpu_variant_neon, error);
}

static bool usable_neon(void)
{
    return true;
}

static enum status open_dotprod(struct device **device, struct thread_pool *pool, uint32_t index,
                                struct error *error)
{
    (void)index;
    return device_open(device, pool, &cpu_variant_dotprod, error);
}

static bool usable_dotprod(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}

const struct kernels kernels_cpu_neon = CPU_TABLE(neon, neon);
const struct kernels kernels_cpu_dotprod = CPU_TABLE(dotprod, dotprod);
#endif
