/* blas.c - cuBLASLt, found at run time: its few types and functions that we use, plans, products.
 *
 * What is declared here is the library's binary interface (cublasLt.h of CUDA 11, 12 and 13 agree on
 * it), so that its headers need not be installed where this is built. */
#include "kernels/cuda/blas.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* ---- the library ------------------------------------------------------------------------------- */

enum { /* values of its enums */
       LT_REAL_32F = 0,
       LT_REAL_16BF = 14,
       LT_COMPUTE_32F = 68,
       LT_DESC_TRANSA = 3,
       LT_OP_TRANSPOSE = 1,
       LT_PREF_WORKSPACE_BYTES = 1,
       LT_PREF_C_ALIGNMENT = 7,
       LT_PREF_D_ALIGNMENT = 8,
};

struct lt_algorithm {
    uint64_t data[8];
};
struct lt_choice {
    struct lt_algorithm algorithm;
    size_t workspace_bytes;
    int status; /* 0: the rest is valid */
    float waves;
    int reserved[4];
};

struct lt {
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*desc_create)(void **desc, int compute, int scale);
    int (*desc_destroy)(void *desc);
    int (*desc_set)(void *desc, int attribute, const void *value, size_t bytes);
    int (*layout_create)(void **layout, int type, uint64_t rows, uint64_t columns, int64_t stride);
    int (*layout_destroy)(void *layout);
    int (*preference_create)(void **preference);
    int (*preference_destroy)(void *preference);
    int (*preference_set)(void *preference, int attribute, const void *value, size_t bytes);
    int (*choose)(void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference,
                  int wanted, struct lt_choice *choices, int *found);
    int (*matmul)(void *handle, void *desc, const void *alpha, const void *a, void *a_layout,
                  const void *b, void *b_layout, const void *beta, const void *c, void *c_layout,
                  void *d, void *d_layout, const struct lt_algorithm *algorithm, void *workspace,
                  size_t workspace_bytes, cudaStream_t stream);
};

/* NULL: *error says which names were tried. */
static void *load(struct lt *lt, struct error *error)
{
    static const char *const files[] = {"libcublasLt.so.13", "libcublasLt.so.12",
                                        "libcublasLt.so.11", "libcublasLt.so"};
    void *library = NULL;
    for (size_t i = 0; library == NULL && i < sizeof(files) / sizeof(files[0]); i++)
        library = dlopen(files[i], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        error_set(error, STATUS_UNSUPPORTED,
                  "cuda-blas: cuBLASLt is not installed (libcublasLt.so.13, .12 or .11)");
        return NULL;
    }
    const struct {
        void *function; /* where its address goes */
        const char *name;
    } wanted[] = {
        {&lt->create, "cublasLtCreate"},
        {&lt->destroy, "cublasLtDestroy"},
        {&lt->desc_create, "cublasLtMatmulDescCreate"},
        {&lt->desc_destroy, "cublasLtMatmulDescDestroy"},
        {&lt->desc_set, "cublasLtMatmulDescSetAttribute"},
        {&lt->layout_create, "cublasLtMatrixLayoutCreate"},
        {&lt->layout_destroy, "cublasLtMatrixLayoutDestroy"},
        {&lt->preference_create, "cublasLtMatmulPreferenceCreate"},
        {&lt->preference_destroy, "cublasLtMatmulPreferenceDestroy"},
        {&lt->preference_set, "cublasLtMatmulPreferenceSetAttribute"},
        {&lt->choose, "cublasLtMatmulAlgoGetHeuristic"},
        {&lt->matmul, "cublasLtMatmul"},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        void *const address = dlsym(library, wanted[i].name);
        if (address == NULL) {
            error_set(error, STATUS_UNSUPPORTED, "cuda-blas: this cuBLASLt has no %s",
                      wanted[i].name);
            dlclose(library);
            return NULL;
        }
        memcpy(wanted[i].function, &address, sizeof(address));
    }
    return library;
}

/* ---- a device's part --------------------------------------------------------------------------- */

/* What the library chooses may want y to begin at up to Y_ALIGNMENT bytes; Y_PANELS keep it there. */
enum {
    PLANS = 32,
    WORKSPACE_BYTES = 32 << 20,
    Y_ALIGNMENT = 256,
    Y_PANELS = Y_ALIGNMENT / sizeof(float) / PANEL_OUTPUTS
};

/* One shape of product: y[rows][outputs] = x[rows][width] times weights[outputs][width] transposed;
 * in the library's words, where columns lie side by side, a matrix of `outputs` rows. */
struct plan {
    uint32_t n_outputs, n_rows, width; /* n_rows 0: none yet */
    uint32_t y_alignment;              /* bytes */
    size_t y_stride;
    void *weights, *x, *y; /* layouts */
    struct lt_algorithm algorithm;
};

struct blas {
    struct lt lt;
    void *library, *handle, *desc, *preference;
    void *weights, *x, *workspace; /* device memory */
    size_t weights_bytes, x_bytes;
    struct plan plans[PLANS];
    uint32_t next_plan; /* the one that is replaced */
};

static void plan_destroy(const struct blas *blas, struct plan *plan)
{
    void *const layouts[] = {plan->weights, plan->x, plan->y};
    for (size_t i = 0; i < 3; i++)
        if (layouts[i] != NULL)
            blas->lt.layout_destroy(layouts[i]);
    memset(plan, 0, sizeof(*plan));
}

void cuda_blas_destroy(struct blas *blas)
{
    if (blas == NULL)
        return;
    for (size_t i = 0; i < PLANS; i++)
        plan_destroy(blas, &blas->plans[i]);
    if (blas->preference != NULL)
        blas->lt.preference_destroy(blas->preference);
    if (blas->desc != NULL)
        blas->lt.desc_destroy(blas->desc);
    if (blas->handle != NULL)
        blas->lt.destroy(blas->handle);
    cudaFree(blas->weights);
    cudaFree(blas->x);
    cudaFree(blas->workspace);
    if (blas->library != NULL)
        dlclose(blas->library);
    free(blas);
}

uint32_t cuda_blas_count(struct error *error)
{
    struct lt lt;
    const uint32_t n = cuda_count(error);
    void *library = n > 0 ? load(&lt, error) : NULL;
    if (library == NULL)
        return 0;
    dlclose(library);
    return n;
}

static enum status open_blas(struct device *device, struct blas *blas, struct error *error)
{
    static const int transpose = LT_OP_TRANSPOSE;
    static const size_t workspace_bytes = WORKSPACE_BYTES;
    int code;
    if ((blas->library = load(&blas->lt, error)) == NULL)
        return STATUS_UNSUPPORTED;
    if ((code = blas->lt.create(&blas->handle)) != 0 ||
        (code = blas->lt.desc_create(&blas->desc, LT_COMPUTE_32F, LT_REAL_32F)) != 0 ||
        (code = blas->lt.desc_set(blas->desc, LT_DESC_TRANSA, &transpose, sizeof(transpose))) !=
            0 ||
        (code = blas->lt.preference_create(&blas->preference)) != 0 ||
        (code = blas->lt.preference_set(blas->preference, LT_PREF_WORKSPACE_BYTES, &workspace_bytes,
                                        sizeof(workspace_bytes))) != 0)
        return error_set(error, STATUS_FAILED, "cuda-blas: cuBLASLt failed with %d", code);
    return cuda_memory_take(device, &blas->workspace, WORKSPACE_BYTES, error);
}

enum status cuda_blas_open(struct device **device, struct thread_pool *pool, uint32_t index,
                           struct error *error)
{
    struct device *d;
    enum status status = cuda_open(&d, pool, index, error);
    if (status != STATUS_OK)
        return status;
    d->blas = calloc(1, sizeof(*d->blas));
    status = d->blas == NULL ? error_set(error, STATUS_NO_MEMORY, "cuda-blas: no memory")
                             : open_blas(d, d->blas, error);
    if (status != STATUS_OK) {
        cuda_close(d);
        return status;
    }
    *device = d;
    return STATUS_OK;
}

/* ---- products ---------------------------------------------------------------------------------- */

/* Bytes of a row of bf16. */
static size_t row_bytes(uint32_t n_columns)
{
    return (size_t)cuda_blas_columns(n_columns) * sizeof(uint16_t);
}

enum status cuda_blas_reserve(struct device *device, uint32_t max_rows, uint32_t max_columns,
                              struct error *error)
{
    struct blas *blas = device->blas;
    enum status status = cuda_reserve(device, max_rows, max_columns, error);
    if (status != STATUS_OK || max_rows < BLAS_ROWS)
        return status;
    if (max_columns > UINT32_MAX - CHUNK_COLUMNS ||
        row_bytes(max_columns) > BLAS_WEIGHT_BYTES / PANEL_OUTPUTS)
        return error_set(error, STATUS_UNSUPPORTED, "cuda-blas: %u columns; at most %d",
                         max_columns, BLAS_WEIGHT_BYTES / PANEL_OUTPUTS / 2);
    status = cuda_grow(device, &blas->weights, &blas->weights_bytes, BLAS_WEIGHT_BYTES, error);
    if (status == STATUS_OK)
        status =
            cuda_grow(device, &blas->x, &blas->x_bytes, max_rows * row_bytes(max_columns), error);
    return status;
}

void cuda_blas_prepare(struct device *device, const float *x, uint32_t n_rows, uint32_t n_columns,
                       uint32_t types)
{
    struct blas *blas = device->blas;
    device->x.rounded = n_rows >= BLAS_ROWS;
    if (!device->x.rounded) {
        cuda_prepare(device, x, n_rows, n_columns, types);
        return;
    }
    device->x.n_rows = n_rows;
    device->x.n_columns = n_columns;
    device->x.types = types;
    if (n_rows * row_bytes(n_columns) > blas->x_bytes)
        cuda_fail(device, STATUS_INVALID, "no workspace was reserved for %u rows of %u columns",
                  n_rows, n_columns);
    else
        cuda_round_activations(device, blas->x, x, n_rows, n_columns);
}

static bool lt_check(struct device *device, int code)
{
    if (code != 0)
        cuda_fail(device, STATUS_FAILED, "cuBLASLt failed with %d", code);
    return code == 0;
}

/* NULL: failed, and kept. */
static const struct plan *plan_for(struct device *device, uint32_t n_outputs, uint32_t n_rows,
                                   uint32_t width, const float *y, size_t y_stride)
{
    struct blas *blas = device->blas;
    uint32_t y_alignment = Y_ALIGNMENT;
    while ((uintptr_t)y % y_alignment != 0)
        y_alignment /= 2;
    for (size_t i = 0; i < PLANS; i++) {
        const struct plan *p = &blas->plans[i];
        if (p->n_outputs == n_outputs && p->n_rows == n_rows && p->width == width &&
            p->y_alignment == y_alignment && p->y_stride == y_stride)
            return p;
    }
    struct plan *plan = &blas->plans[blas->next_plan];
    struct lt_choice choice;
    int found = 0;
    blas->next_plan = (blas->next_plan + 1) % PLANS;
    plan_destroy(blas, plan);
    const bool made =
        lt_check(device, blas->lt.layout_create(&plan->weights, LT_REAL_16BF, width, n_outputs,
                                                (int64_t)width)) &&
        lt_check(device,
                 blas->lt.layout_create(&plan->x, LT_REAL_16BF, width, n_rows, (int64_t)width)) &&
        lt_check(device, blas->lt.layout_create(&plan->y, LT_REAL_32F, n_outputs, n_rows,
                                                (int64_t)y_stride)) &&
        lt_check(device, blas->lt.preference_set(blas->preference, LT_PREF_C_ALIGNMENT,
                                                 &y_alignment, sizeof(y_alignment))) &&
        lt_check(device, blas->lt.preference_set(blas->preference, LT_PREF_D_ALIGNMENT,
                                                 &y_alignment, sizeof(y_alignment))) &&
        lt_check(device, blas->lt.choose(blas->handle, blas->desc, plan->weights, plan->x, plan->y,
                                         plan->y, blas->preference, 1, &choice, &found));
    const bool chosen = made && found > 0 && choice.status == 0;
    if (made && !chosen)
        cuda_fail(device, STATUS_UNSUPPORTED, "cuBLASLt has no product of %u x %u, %u rows",
                  n_outputs, width, n_rows);
    if (!chosen) {
        plan_destroy(blas, plan);
        return NULL;
    }
    plan->n_outputs = n_outputs;
    plan->n_rows = n_rows;
    plan->width = width;
    plan->y_alignment = y_alignment;
    plan->y_stride = y_stride;
    plan->algorithm = choice.algorithm;
    return plan;
}

/* y of outputs [first, first + n), whose weights are in the workspace. */
static bool multiply_outputs(struct device *device, float *y, size_t y_stride, uint32_t n,
                             uint32_t width)
{
    static const float one = 1.0f, zero = 0.0f;
    const struct blas *blas = device->blas;
    const struct plan *plan = plan_for(device, n, device->x.n_rows, width, y, y_stride);
    return plan != NULL &&
           lt_check(device, blas->lt.matmul(blas->handle, blas->desc, &one, blas->weights,
                                            plan->weights, blas->x, plan->x, &zero, y, plan->y, y,
                                            plan->y, &plan->algorithm, blas->workspace,
                                            WORKSPACE_BYTES, cuda_stream(device)));
}

/* False: failed, and kept. */
static bool multiply_matrix(struct device *device, float *y, size_t y_stride,
                            const struct matrix *weights)
{
    const struct blas *blas = device->blas;
    if (!(device->x.types >> weights->type & 1) || device->x.n_columns != weights->n_columns) {
        cuda_fail(device, STATUS_INVALID, "a product with activations that were not prepared");
        return false;
    }
    const void *panels = weights->n_rows > 1 ? weights->data : cuda_vector_panel(device, weights);
    if (panels == NULL)
        return false;
    const size_t of_panel = PANEL_OUTPUTS * row_bytes(weights->n_columns);
    const size_t n_panels = panel_count(weights->n_rows);
    size_t at_once = blas->weights_bytes / of_panel;
    if (at_once > Y_PANELS)
        at_once -= at_once % Y_PANELS;
    for (size_t first = 0; first < n_panels; first += at_once) {
        const size_t n = n_panels - first < at_once ? n_panels - first : at_once;
        const size_t begin = first * PANEL_OUTPUTS;
        const size_t end = begin + n * PANEL_OUTPUTS;
        cuda_round_weights(device, blas->weights, weights->type, panels, weights->n_columns, first,
                           n);
        if (!multiply_outputs(device, y + begin, y_stride,
                              (uint32_t)((end < weights->n_rows ? end : weights->n_rows) - begin),
                              cuda_blas_columns(weights->n_columns)))
            return false;
    }
    return true;
}

void cuda_blas_matmul(struct device *device, const struct product *products, uint32_t n)
{
    if (!device->x.rounded) {
        cuda_matmul(device, products, n);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        if (!multiply_matrix(device, products[i].y, products[i].y_stride, products[i].weights))
            return;
}
