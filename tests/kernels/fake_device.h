/* tests/kernels/fake_device.h - a device with memory of its own, for tests where there is no GPU.
 *
 * It computes with the CPU's kernels, so results have their bits, but its memory can be touched
 * only inside the functions of its table: outside it is protected, and who reads or writes it there
 * dies of SIGSEGV. Copies are as late as a device may make them: what is downloaded is poison until
 * finish, and what is uploaded must be unchanged until then. So a path that works here neither takes
 * device memory for the host's nor forgets to wait. It records calls, and ends
 * the test of who makes one meanwhile that may not be recorded.
 *
 * kernels_fake is the table; any number of devices, each in its own thread. */
#ifndef LONGSPAN_TESTS_KERNELS_FAKE_DEVICE_H
#define LONGSPAN_TESTS_KERNELS_FAKE_DEVICE_H

#include "kernels/attention/attend.h"
#include "kernels/attention/device.h"
#include "kernels/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { FAKE_POISON = 0xa5, FAKE_PAGE = 4096 };
#define FAKE_ARENA_BYTES ((size_t)4 << 30) /* of address space */

/* What is said to be copied, and is not yet; or was, and must not be changed. */
struct fake_copy {
    void *host;
    void *content;
    size_t bytes;
    bool download;
    struct fake_copy *next;
};

struct fake_matrix {
    void *data; /* as the caller knows it */
    struct matrix inner;
    struct fake_matrix *next;
};

struct fake_block {
    void *memory;
    size_t bytes;
    struct fake_block *next;
};

/* A call that was recorded; rotations take their positions when it is replayed. */
struct fake_call {
    enum {
        FAKE_PREPARE,
        FAKE_MATMUL,
        FAKE_NORM,
        FAKE_ROTATE,
        FAKE_SWIGLU,
        FAKE_GEGLU,
        FAKE_ADD_BIAS,
        FAKE_ADD,
        FAKE_COPY,
        FAKE_CLEAR
    } what;
    void *to;
    const void *from;
    const float *weight;
    struct matrix matrix;
    const struct rope *rope;
    uint32_t n_rows, n_columns, n_heads, types;
    size_t n;
    float epsilon;
};

struct recording {
    struct fake_call *calls;
    size_t n_calls;
    const uint32_t *positions; /* while it is recorded */
    uint32_t n_rows;
};

struct fake_device {
    const struct kernels *cpu;
    struct device *inner;
    struct thread_pool *pool;
    char *arena;
    size_t used;
    struct fake_copy *copies, **last_copy; /* in order */
    struct fake_matrix *matrices;
    struct fake_block *blocks;   /* on loan */
    struct recording *recording; /* or NULL */
    uint64_t n_finishes;
};

static inline struct fake_device *fake_device(struct device *device)
{
    return (struct fake_device *)device;
}

static inline void fake_must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "fake device: %s\n", what);
    abort();
}

static inline void fake_protect(struct fake_device *f, int protection)
{
    if (f->used > 0)
        fake_must(mprotect(f->arena, f->used, protection) == 0, "mprotect");
}

static inline struct fake_device *fake_enter(struct device *device)
{
    fake_must(fake_device(device)->recording == NULL, "a call that may not be recorded");
    fake_protect(fake_device(device), PROT_READ | PROT_WRITE);
    return fake_device(device);
}

static inline void fake_leave(struct fake_device *f)
{
    fake_protect(f, PROT_NONE);
}

static inline void fake_inside(const struct fake_device *f, const void *memory, size_t bytes,
                               const char *what)
{
    const char *at = memory;
    fake_must(bytes == 0 || (at >= f->arena && at + bytes <= f->arena + f->used), what);
}

/* Whether the call was recorded, and so must not be done. */
static inline bool fake_records(struct device *device, struct fake_call call)
{
    struct recording *recording = fake_device(device)->recording;
    if (recording == NULL)
        return false;
    recording->calls =
        realloc(recording->calls, (recording->n_calls + 1) * sizeof(*recording->calls));
    fake_must(recording->calls != NULL, "memory for a recording");
    recording->calls[recording->n_calls++] = call;
    return true;
}

/* ---- life and memory ---- */

static inline bool fake_usable(void)
{
    return true;
}

static inline uint32_t fake_count(struct error *error)
{
    (void)error;
    return 2;
}

static inline enum status fake_open(struct device **device, struct thread_pool *pool,
                                    uint32_t index, struct error *error)
{
    (void)index;
    struct fake_device *f = calloc(1, sizeof(*f));
    fake_must(f != NULL && kernels_choose(&f->cpu, NULL, error) == STATUS_OK, "open");
    f->last_copy = &f->copies;
    f->pool = pool;
    f->arena =
        mmap(NULL, FAKE_ARENA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    fake_must(f->arena != MAP_FAILED, "address space");
    *device = (struct device *)f;
    return f->cpu->open(&f->inner, pool, 0, error);
}

static inline void fake_close(struct device *device)
{
    struct fake_device *f = fake_device(device);
    fake_must(f->matrices == NULL && f->blocks == NULL, "closed before what it has lent came back");
    for (struct fake_copy *copy = f->copies, *next; copy != NULL; copy = next) {
        next = copy->next;
        free(copy->content);
        free(copy);
    }
    f->cpu->close(f->inner);
    munmap(f->arena, FAKE_ARENA_BYTES);
    free(f);
}

/* Never used twice: what is used after it was given stays protected. */
static inline enum status fake_memory_take(struct device *device, void **memory, size_t bytes,
                                           struct error *error)
{
    struct fake_device *f = fake_device(device);
    if (bytes > FAKE_ARENA_BYTES - f->used - 2 * FAKE_PAGE)
        return error_set(error, STATUS_NO_MEMORY, "fake device: no memory of %zu bytes", bytes);
    *memory = f->arena + f->used;
    f->used += (bytes / FAKE_PAGE + 1) * FAKE_PAGE;
    struct fake_block *block = calloc(1, sizeof(*block));
    fake_must(block != NULL, "memory for a block");
    *block = (struct fake_block){*memory, (bytes / FAKE_PAGE + 1) * FAKE_PAGE, f->blocks};
    f->blocks = block;
    return STATUS_OK;
}

static inline void fake_memory_give(struct device *device, void *memory)
{
    struct fake_block **block = &fake_device(device)->blocks;
    if (memory == NULL)
        return;
    while (*block != NULL && (*block)->memory != memory)
        block = &(*block)->next;
    fake_must(*block != NULL, "memory is given that is not its own");
    struct fake_block *found = *block;
    *block = found->next;
    madvise(found->memory, found->bytes, MADV_DONTNEED);
    free(found);
}

static inline enum status fake_host_take(struct device *device, void **memory, size_t bytes,
                                         struct error *error)
{
    struct fake_device *f = fake_device(device);
    return f->cpu->host_take(f->inner, memory, bytes, error);
}

static inline void fake_host_give(struct device *device, void *memory)
{
    struct fake_device *f = fake_device(device);
    f->cpu->host_give(f->inner, memory);
}

static inline uint64_t fake_memory_available(struct device *device)
{
    (void)device;
    return (uint64_t)1 << 28;
}

static inline void fake_remember(struct fake_device *f, void *host, const void *content,
                                 size_t bytes, bool download)
{
    struct fake_copy *copy = calloc(1, sizeof(*copy));
    fake_must(copy != NULL && (copy->content = malloc(bytes)) != NULL, "memory for a copy");
    memcpy(copy->content, content, bytes);
    copy->host = host;
    copy->bytes = bytes;
    copy->download = download;
    *f->last_copy = copy;
    f->last_copy = &copy->next;
}

static inline void fake_upload(struct device *device, void *to, const void *from, size_t bytes)
{
    struct fake_device *f = fake_enter(device);
    fake_inside(f, to, bytes, "upload to elsewhere");
    if (bytes > 0) {
        memcpy(to, from, bytes);
        fake_remember(f, (void *)(uintptr_t)from, from, bytes, false);
    }
    fake_leave(f);
}

static inline void fake_download(struct device *device, void *to, const void *from, size_t bytes)
{
    struct fake_device *f = fake_enter(device);
    fake_inside(f, from, bytes, "download from elsewhere");
    if (bytes > 0) {
        fake_remember(f, to, from, bytes, true);
        memset(to, FAKE_POISON, bytes);
    }
    fake_leave(f);
}

static inline void fake_copy_within(struct device *device, void *to, const void *from, size_t bytes)
{
    if (fake_records(device,
                     (struct fake_call){.what = FAKE_COPY, .to = to, .from = from, .n = bytes}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, to, bytes, "copy to elsewhere");
    fake_inside(f, from, bytes, "copy from elsewhere");
    if (bytes > 0 && to != from)
        memcpy(to, from, bytes);
    fake_leave(f);
}

static inline void fake_clear(struct device *device, void *memory, size_t bytes)
{
    if (fake_records(device, (struct fake_call){.what = FAKE_CLEAR, .to = memory, .n = bytes}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, memory, bytes, "zeros to elsewhere");
    if (bytes > 0)
        memset(memory, 0, bytes);
    fake_leave(f);
}

static inline enum status fake_finish(struct device *device, struct error *error)
{
    (void)error;
    struct fake_device *f = fake_device(device);
    fake_must(f->recording == NULL, "finish while calls are recorded");
    f->n_finishes++;
    for (struct fake_copy *copy = f->copies, *next; copy != NULL; copy = next) {
        next = copy->next;
        if (copy->download)
            memcpy(copy->host, copy->content, copy->bytes);
        else
            fake_must(memcmp(copy->host, copy->content, copy->bytes) == 0,
                      "what was uploaded was changed before finish");
        free(copy->content);
        free(copy);
    }
    f->copies = NULL;
    f->last_copy = &f->copies;
    return STATUS_OK;
}

static inline double fake_read_rate(struct device *device, size_t bytes, uint32_t budget_ms)
{
    (void)device;
    (void)bytes;
    (void)budget_ms;
    return 1e9;
}

/* ---- weights ---- */

static inline enum status fake_matrix_create(struct device *device, struct matrix *matrix,
                                             enum weight_type type, const void *source,
                                             uint32_t source_columns, uint32_t row_begin,
                                             uint32_t row_end, uint32_t column_begin,
                                             uint32_t column_end, struct error *error)
{
    struct fake_matrix *m = calloc(1, sizeof(*m));
    fake_must(m != NULL, "memory for a matrix");
    enum status status = fake_device(device)->cpu->matrix_create(
        fake_device(device)->inner, &m->inner, type, source, source_columns, row_begin, row_end,
        column_begin, column_end, error);
    if (status == STATUS_OK)
        status = fake_memory_take(device, &m->data, m->inner.bytes, error);
    if (status != STATUS_OK) {
        free(m);
        return status;
    }
    struct fake_device *f = fake_enter(device);
    if (m->inner.n_rows == 1) /* a plain array, that is read as such */
        memcpy(m->data, m->inner.data, m->inner.bytes);
    fake_leave(f);
    m->next = f->matrices;
    f->matrices = m;
    *matrix = m->inner;
    matrix->data = m->data;
    return STATUS_OK;
}

static inline void fake_matrix_destroy(struct device *device, struct matrix *matrix)
{
    struct fake_device *f = fake_device(device);
    struct fake_matrix **m = &f->matrices;
    while (*m != NULL && (*m)->data != matrix->data)
        m = &(*m)->next;
    fake_must(*m != NULL, "a matrix is destroyed that is not its own");
    struct fake_matrix *found = *m;
    *m = found->next;
    f->cpu->matrix_destroy(f->inner, &found->inner);
    fake_memory_give(device, found->data);
    free(found);
    *matrix = (struct matrix){0};
}

static inline struct matrix fake_inner(const struct fake_device *f, const struct matrix *matrix)
{
    const struct fake_matrix *m = f->matrices;
    while (m != NULL && m->data != matrix->data)
        m = m->next;
    fake_must(m != NULL, "a matrix that is not its own");
    struct matrix inner = *matrix; /* with the segments that it was given since */
    inner.data = m->inner.data;
    return inner;
}

/* ---- operations: the CPU's, inside ---- */

static inline enum status fake_workspace_reserve(struct device *device, uint32_t max_rows,
                                                 uint32_t max_columns, struct error *error)
{
    struct fake_device *f = fake_device(device);
    return f->cpu->workspace_reserve(f->inner, max_rows, max_columns, error);
}

static inline void fake_embed(struct device *device, float *out, const struct matrix *table,
                              const int32_t *tokens, uint32_t n_tokens, int32_t first)
{
    struct fake_device *f = fake_enter(device);
    const struct matrix inner = fake_inner(f, table);
    fake_inside(f, out, (size_t)n_tokens * table->n_columns * sizeof(*out), "embed");
    f->cpu->embed(f->inner, out, &inner, tokens, n_tokens, first);
    fake_leave(f);
}

static inline void fake_prepare(struct device *device, const float *x, uint32_t n_rows,
                                uint32_t n_columns, uint32_t types)
{
    if (fake_records(device, (struct fake_call){.what = FAKE_PREPARE,
                                                .from = x,
                                                .n_rows = n_rows,
                                                .n_columns = n_columns,
                                                .types = types}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, x, (size_t)n_rows * n_columns * sizeof(*x), "prepare");
    f->cpu->prepare(f->inner, x, n_rows, n_columns, types);
    fake_leave(f);
}

static inline void fake_matmul(struct device *device, float *y, size_t y_stride,
                               const struct matrix *weights)
{
    if (fake_records(device, (struct fake_call){
                                 .what = FAKE_MATMUL, .to = y, .n = y_stride, .matrix = *weights}))
        return;
    struct fake_device *f = fake_enter(device);
    const struct matrix inner = fake_inner(f, weights);
    fake_inside(f, y, weights->n_rows * sizeof(*y), "matmul");
    f->cpu->matmul(f->inner, y, y_stride, &inner);
    fake_leave(f);
}

static inline void fake_rms_norm(struct device *device, float *y, const float *x,
                                 const float *weight, uint32_t n_rows, uint32_t n_columns,
                                 float epsilon)
{
    if (fake_records(device, (struct fake_call){.what = FAKE_NORM,
                                                .to = y,
                                                .from = x,
                                                .weight = weight,
                                                .n_rows = n_rows,
                                                .n_columns = n_columns,
                                                .epsilon = epsilon}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, weight, n_columns * sizeof(*weight), "the weights of a norm");
    f->cpu->rms_norm(f->inner, y, x, weight, n_rows, n_columns, epsilon);
    fake_leave(f);
}

static inline void fake_rotate(struct device *device, float *x, const uint32_t *positions,
                               uint32_t n_rows, uint32_t n_heads, uint32_t head_dim,
                               const struct rope *rope)
{
    const struct recording *recording = fake_device(device)->recording;
    fake_must(recording == NULL ||
                  (recording->positions == positions && recording->n_rows == n_rows),
              "a recorded rotation by other positions");
    if (fake_records(device, (struct fake_call){.what = FAKE_ROTATE,
                                                .to = x,
                                                .n_rows = n_rows,
                                                .n_heads = n_heads,
                                                .n_columns = head_dim,
                                                .rope = rope}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, rope->frequency, rope->n_dims / 2 * sizeof(double), "frequencies");
    f->cpu->rotate(f->inner, x, positions, n_rows, n_heads, head_dim, rope);
    fake_leave(f);
}

static inline void fake_swiglu(struct device *device, float *gate, const float *up, size_t n)
{
    if (fake_records(device,
                     (struct fake_call){.what = FAKE_SWIGLU, .to = gate, .from = up, .n = n}))
        return;
    struct fake_device *f = fake_enter(device);
    f->cpu->swiglu(f->inner, gate, up, n);
    fake_leave(f);
}

static inline void fake_geglu(struct device *device, float *gate, const float *up, size_t n)
{
    if (fake_records(device,
                     (struct fake_call){.what = FAKE_GEGLU, .to = gate, .from = up, .n = n}))
        return;
    struct fake_device *f = fake_enter(device);
    f->cpu->geglu(f->inner, gate, up, n);
    fake_leave(f);
}

static inline void fake_add_bias(struct device *device, float *x, const float *bias,
                                 uint32_t n_rows, uint32_t n_columns)
{
    if (fake_records(device, (struct fake_call){.what = FAKE_ADD_BIAS,
                                                .to = x,
                                                .from = bias,
                                                .n_rows = n_rows,
                                                .n_columns = n_columns}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, bias, n_columns * sizeof(*bias), "a bias");
    f->cpu->add_bias(f->inner, x, bias, n_rows, n_columns);
    fake_leave(f);
}

static inline void fake_scale(struct device *device, float *x, float factor, size_t n)
{
    struct fake_device *f = fake_enter(device);
    fake_inside(f, x, n * sizeof(*x), "scale of elsewhere");
    f->cpu->scale(f->inner, x, factor, n);
    fake_leave(f);
}

static inline void fake_soft_cap(struct device *device, float *x, float cap, size_t n)
{
    struct fake_device *f = fake_enter(device);
    fake_inside(f, x, n * sizeof(*x), "soft_cap of elsewhere");
    f->cpu->soft_cap(f->inner, x, cap, n);
    fake_leave(f);
}

static inline void fake_add(struct device *device, float *x, const float *y, size_t n)
{
    if (fake_records(device, (struct fake_call){.what = FAKE_ADD, .to = x, .from = y, .n = n}))
        return;
    struct fake_device *f = fake_enter(device);
    fake_inside(f, x, n * sizeof(*x), "add to elsewhere");
    fake_inside(f, y, n * sizeof(*y), "add from elsewhere");
    f->cpu->add(f->inner, x, y, n);
    fake_leave(f);
}

static inline void fake_gather(struct device *device, float *out, const float *x,
                               const uint32_t *rows, uint32_t n_rows, uint32_t n_columns)
{
    struct fake_device *f = fake_enter(device);
    fake_inside(f, out, (size_t)n_rows * n_columns * sizeof(*out), "gathered rows");
    for (uint32_t i = 0; i < n_rows; i++)
        fake_inside(f, x + (size_t)rows[i] * n_columns, n_columns * sizeof(*x), "rows to gather");
    f->cpu->gather(f->inner, out, x, rows, n_rows, n_columns);
    fake_leave(f);
}

static inline void fake_multiply_groups(struct device *device, const float *x,
                                        const struct row_groups *groups, uint32_t n_columns,
                                        const struct group_product *products, uint32_t n_products)
{
    enum { MOST_PRODUCTS = 2 };
    struct fake_device *f = fake_enter(device);
    const uint32_t n = groups->n, n_rows = n > 0 ? groups->end[n - 1] : 0;
    struct group_product inner[MOST_PRODUCTS];
    struct matrix *matrices = calloc((size_t)n * n_products + 1, sizeof(*matrices));
    const struct matrix **weights = calloc((size_t)n * n_products + 1, sizeof(*weights));
    fake_must(n_products <= MOST_PRODUCTS && matrices != NULL && weights != NULL, "groups");
    fake_inside(f, x, (size_t)n_rows * n_columns * sizeof(*x), "rows of groups");
    for (uint32_t i = 0; i < n_products; i++) {
        inner[i] = products[i];
        inner[i].weights = weights + (size_t)i * n;
        for (uint32_t g = 0; g < n; g++) {
            matrices[(size_t)i * n + g] = fake_inner(f, products[i].weights[g]);
            weights[(size_t)i * n + g] = &matrices[(size_t)i * n + g];
        }
        fake_inside(f, products[i].y, (size_t)n_rows * products[i].y_stride * sizeof(float),
                    "products of groups");
    }
    f->cpu->multiply_groups(f->inner, x, groups, n_columns, inner, n_products);
    free(matrices);
    free(weights);
    fake_leave(f);
}

static inline void fake_combine(struct device *device, float *out, const float *y,
                                const struct combine_terms *terms, uint32_t n_rows,
                                uint32_t n_columns)
{
    struct fake_device *f = fake_enter(device);
    fake_inside(f, out, (size_t)n_rows * n_columns * sizeof(*out), "combined rows");
    for (uint32_t i = 0; n_rows > 0 && i < terms->end[(size_t)n_rows * terms->n_ranges - 1]; i++)
        fake_inside(f, y + (size_t)terms->row[i] * n_columns, n_columns * sizeof(*y), "a term");
    f->cpu->combine(f->inner, out, y, terms, n_rows, n_columns);
    fake_leave(f);
}

static inline void fake_candidates(struct device *device, struct candidates_sum *sums,
                                   struct candidate *best, size_t stride, const float *logits,
                                   uint32_t n_rows, uint32_t n, int32_t first, const uint32_t *k)
{
    struct fake_device *f = fake_enter(device);
    fake_inside(f, logits, (size_t)n_rows * n * sizeof(*logits), "logits from elsewhere");
    f->cpu->candidates(f->inner, sums, best, stride, logits, n_rows, n, first, k);
    fake_remember(f, sums, sums, n_rows * sizeof(*sums), true);
    memset(sums, FAKE_POISON, n_rows * sizeof(*sums));
    if (stride > 0) {
        fake_remember(f, best, best, n_rows * stride * sizeof(*best), true);
        memset(best, FAKE_POISON, n_rows * stride * sizeof(*best));
    }
    fake_leave(f);
}

/* ---- recordings ---- */

static inline enum status fake_record_begin(struct device *device, const uint32_t *positions,
                                            uint32_t n_rows, struct error *error)
{
    (void)error;
    struct fake_device *f = fake_enter(device);
    f->recording = calloc(1, sizeof(*f->recording));
    fake_must(f->recording != NULL, "memory for a recording");
    f->recording->positions = positions;
    f->recording->n_rows = n_rows;
    fake_leave(f);
    return STATUS_OK;
}

static inline enum status fake_record_end(struct device *device, struct recording **recording,
                                          struct error *error)
{
    (void)error;
    struct fake_device *f = fake_device(device);
    *recording = f->recording;
    f->recording = NULL;
    return STATUS_OK;
}

static inline void fake_recording_destroy(struct device *device, struct recording *recording)
{
    (void)device;
    if (recording != NULL)
        free(recording->calls);
    free(recording);
}

static inline void fake_replay(struct device *device, const struct recording *recording,
                               const uint32_t *positions)
{
    for (size_t i = 0; i < recording->n_calls; i++) {
        const struct fake_call *c = &recording->calls[i];
        if (c->what == FAKE_PREPARE)
            fake_prepare(device, c->from, c->n_rows, c->n_columns, c->types);
        else if (c->what == FAKE_MATMUL)
            fake_matmul(device, c->to, c->n, &c->matrix);
        else if (c->what == FAKE_NORM)
            fake_rms_norm(device, c->to, c->from, c->weight, c->n_rows, c->n_columns, c->epsilon);
        else if (c->what == FAKE_ROTATE)
            fake_rotate(device, c->to, positions, c->n_rows, c->n_heads, c->n_columns, c->rope);
        else if (c->what == FAKE_SWIGLU)
            fake_swiglu(device, c->to, c->from, c->n);
        else if (c->what == FAKE_GEGLU)
            fake_geglu(device, c->to, c->from, c->n);
        else if (c->what == FAKE_ADD_BIAS)
            fake_add_bias(device, c->to, c->from, c->n_rows, c->n_columns);
        else if (c->what == FAKE_ADD)
            fake_add(device, c->to, c->from, c->n);
        else if (c->what == FAKE_COPY)
            fake_copy_within(device, c->to, c->from, c->n);
        else
            fake_clear(device, c->to, c->n);
    }
}

/* ---- attention ---- */

struct fake_attend {
    struct device *device;
    struct attend *inner;
};

static inline enum status fake_attend_create(void **state, struct device *device,
                                             const struct attend_shape *shape, struct error *error)
{
    struct fake_attend *a = calloc(1, sizeof(*a));
    fake_must(a != NULL, "memory for attention");
    const struct fake_device *f = fake_device(device);
    a->device = device;
    const enum status status = attend_create(&a->inner, f->cpu, f->inner, f->pool, shape, error);
    if (status == STATUS_OK)
        *state = a;
    else
        free(a);
    return status;
}

static inline void fake_attend_destroy(void *state)
{
    struct fake_attend *a = state;
    if (a != NULL)
        attend_destroy(a->inner);
    free(a);
}

static inline void fake_attend_set_parts(void *state, uint32_t n_parts)
{
    attend_set_parts(((struct fake_attend *)state)->inner, n_parts);
}

static inline enum status fake_attend_run(void *state, const struct attend_work *works,
                                          size_t n_works, struct error *error)
{
    struct fake_attend *a = state;
    struct fake_device *f = fake_enter(a->device);
    for (size_t i = 0; i < n_works; i++) {
        fake_inside(f, works[i].q, 1, "q of attention");
        fake_inside(f, works[i].final_out != NULL ? works[i].final_out : works[i].out, 1,
                    "out of attention");
    }
    const enum status status = attend_run(a->inner, works, n_works, error);
    fake_leave(f);
    return status;
}

static inline void fake_round(struct device *device, enum kv_type type, void *out, const float *x,
                              size_t n)
{
    struct fake_device *f = fake_enter(device);
    fake_inside(f, x, n * sizeof(*x), "rows to round");
    fake_inside(f, out, kv_row_bytes(type, n), "rounded rows");
    kv_round(type, out, x, n);
    fake_leave(f);
}

static inline void fake_write(struct device *device, enum kv_type type, uint32_t head_dim,
                              size_t stride_bytes, const struct tile_tokens *writes,
                              size_t n_writes)
{
    struct fake_device *f = fake_enter(device);
    for (size_t i = 0; i < n_writes; i++) {
        const struct tile_tokens *w = &writes[i];
        fake_inside(f, w->tile, tile_bytes(type, head_dim), "a tile");
        fake_inside(f, w->k, 1, "k of a tile");
        tile_write(w->tile, type, head_dim, w->first, w->n_tokens, w->k, w->v, stride_bytes);
    }
    fake_leave(f);
}

static inline void fake_read(struct device *device, enum kv_type type, uint32_t head_dim,
                             size_t stride_bytes, const void *tile, uint32_t first,
                             uint32_t n_tokens, void *k, void *v)
{
    struct fake_device *f = fake_enter(device);
    tile_read(tile, type, head_dim, first, n_tokens, k, v, stride_bytes);
    fake_leave(f);
}

static const struct attention_device attention_fake = {.create = fake_attend_create,
                                                       .destroy = fake_attend_destroy,
                                                       .set_parts = fake_attend_set_parts,
                                                       .run = fake_attend_run,
                                                       .round = fake_round,
                                                       .write = fake_write,
                                                       .read = fake_read};

static const struct kernels kernels_fake = {.device = "fake",
                                            .name = "fake",
                                            .attention = "fake",
                                            .attention_device = &attention_fake,
                                            .usable = fake_usable,
                                            .count = fake_count,
                                            .open = fake_open,
                                            .close = fake_close,
                                            .memory_take = fake_memory_take,
                                            .memory_give = fake_memory_give,
                                            .host_take = fake_host_take,
                                            .host_give = fake_host_give,
                                            .memory_available = fake_memory_available,
                                            .upload = fake_upload,
                                            .download = fake_download,
                                            .copy = fake_copy_within,
                                            .clear = fake_clear,
                                            .finish = fake_finish,
                                            .read_rate = fake_read_rate,
                                            .matrix_create = fake_matrix_create,
                                            .matrix_destroy = fake_matrix_destroy,
                                            .workspace_reserve = fake_workspace_reserve,
                                            .embed = fake_embed,
                                            .prepare = fake_prepare,
                                            .matmul = fake_matmul,
                                            .rms_norm = fake_rms_norm,
                                            .rotate = fake_rotate,
                                            .swiglu = fake_swiglu,
                                            .geglu = fake_geglu,
                                            .add = fake_add,
                                            .add_bias = fake_add_bias,
                                            .scale = fake_scale,
                                            .soft_cap = fake_soft_cap,
                                            .gather = fake_gather,
                                            .multiply_groups = fake_multiply_groups,
                                            .combine = fake_combine,
                                            .most_candidates = 1024,
                                            .candidates = fake_candidates,
                                            .record_begin = fake_record_begin,
                                            .record_end = fake_record_end,
                                            .recording_destroy = fake_recording_destroy,
                                            .replay = fake_replay};

#endif
