/* device.c - memory: what the lanes will read is touched first by the lane that will read it, in
 * huge pages where the system gives them. */
#include "kernels/cpu/device.h"

#include "kernels/cpu/panel.h"
#include "kernels/matrix_cut.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    LARGE_BYTES = 1 << 22, /* from here on memory is asked for in huge pages */
    HUGE_PAGE = 1 << 21,
};

/* ---- memory --------------------------------------------------------------------------------- */

/* Untouched, at a cache line; a large block at a huge page, so that a translation covers 2 MiB. */
static void *memory_take(size_t bytes)
{
    if (bytes < LARGE_BYTES)
        return aligned_alloc(PANEL_LINE_BYTES,
                             (bytes + PANEL_LINE_BYTES - 1) / PANEL_LINE_BYTES * PANEL_LINE_BYTES);
    if (bytes > SIZE_MAX / 2)
        return NULL;
    const size_t reserved = bytes + HUGE_PAGE;
    char *base = mmap(NULL, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    const size_t before = -(uintptr_t)base % HUGE_PAGE;
    if (before > 0)
        munmap(base, before);
    char *memory = base + before;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), kept = (bytes + page - 1) / page * page;
    if (reserved - before > kept)
        munmap(memory + kept, reserved - before - kept);
    madvise(memory, kept, MADV_HUGEPAGE); /* a wish: without it all works, slower */
    return memory;
}

static void memory_give(void *memory, size_t bytes)
{
    if (bytes < LARGE_BYTES)
        free(memory);
    else if (memory != NULL)
        munmap(memory, bytes);
}

/* a * b * c, or false when it has no size_t. */
static bool product_of(size_t *out, size_t a, size_t b, size_t c)
{
    return !__builtin_mul_overflow(a, b, out) && !__builtin_mul_overflow(*out, c, out);
}

/* ---- device --------------------------------------------------------------------------------- */

enum status device_open(struct device **device, struct thread_pool *pool,
                        const struct cpu_variant *variant, struct error *error)
{
    struct device *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return error_set(error, STATUS_NO_MEMORY, "kernels: no memory for a device");
    d->variant = variant;
    d->pool = pool;
    *device = d;
    return STATUS_OK;
}

static void workspace_give(struct device *device)
{
    for (enum cpu_kind kind = 0; kind < CPU_KINDS; kind++)
        memory_give(device->x[kind], device->x_bytes[kind]);
    memory_give(device->sums, device->sums_bytes);
}

void device_close(struct device *device)
{
    if (device == NULL)
        return;
    workspace_give(device);
    free(device);
}

void device_run(struct device *device, size_t work, size_t alone,
                void (*function)(void *context, uint32_t lane, uint32_t n_lanes), void *context)
{
    if (work < alone)
        function(context, 0, 1);
    else
        thread_pool_run(device->pool, function, context);
}

enum status device_reserve(struct device *device, uint32_t max_rows, uint32_t max_columns,
                           struct error *error)
{
    const size_t lanes = thread_pool_lanes(device->pool);
    struct device next = *device;

    if (device->max_rows == 0 && (max_rows == 0 || max_columns == 0))
        return error_set(error, STATUS_INVALID, "kernels: a workspace of %u rows, %u columns",
                         max_rows, max_columns);
    next.max_rows = max_rows > device->max_rows ? max_rows : device->max_rows;
    bool sized = product_of(&next.sums_bytes, lanes * (DENSE_LEVELS + 1), next.max_rows,
                            DENSE_GROUP_OUTPUTS * sizeof(float));
    bool grows = next.max_rows > device->max_rows;
    for (enum cpu_kind kind = 0; kind < CPU_KINDS; kind++) {
        size_t *bytes = &next.x_bytes[kind];
        if (device->variant->products[kind].product == NULL)
            continue;
        sized = sized && product_of(bytes, max_rows, dense_activation_bytes(kind, max_columns), 1);
        *bytes = *bytes > device->x_bytes[kind] ? *bytes : device->x_bytes[kind];
        grows = grows || *bytes > device->x_bytes[kind];
    }
    if (!sized)
        return error_set(error, STATUS_NO_MEMORY, "kernels: %u rows of %u columns have no size",
                         max_rows, max_columns);
    if (!grows)
        return STATUS_OK;
    size_t bytes = next.sums_bytes;
    bool taken = (next.sums = memory_take(next.sums_bytes)) != NULL;
    for (enum cpu_kind kind = 0; kind < CPU_KINDS; kind++) {
        next.x[kind] = next.x_bytes[kind] > 0 ? memory_take(next.x_bytes[kind]) : NULL;
        taken = taken && (next.x[kind] != NULL || next.x_bytes[kind] == 0);
        bytes += next.x_bytes[kind];
    }
    if (!taken) {
        workspace_give(&next);
        return error_set(error, STATUS_NO_MEMORY,
                         "kernels: no memory for a workspace of %zu bytes; use smaller chunks",
                         bytes);
    }
    workspace_give(device);
    next.x_rows = 0; /* what was prepared is gone */
    *device = next;
    return STATUS_OK;
}

/* ---- weights -------------------------------------------------------------------------------- */

_Static_assert((int)WEIGHT_MEMORY_ALIGNMENT == (int)PANEL_LINE_BYTES,
               "panels begin at a line of memory");

struct pack_work {
    const struct matrix *matrix;
    const uint8_t *source; /* the first row and column of the cut */
    size_t source_row_bytes;
};

static void pack_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct pack_work *work = context;
    const struct matrix *m = work->matrix;
    const size_t bytes = panel_bytes(m->type, m->n_columns);
    size_t begin, end;

    thread_pool_share(panel_count(m->n_rows), 1, lane, n_lanes, &begin, &end);
    for (size_t panel = begin; panel < end; panel++) {
        const size_t first = panel * PANEL_ROWS, left = m->n_rows - first;
        panel_pack((uint8_t *)m->data + panel * bytes, m->type,
                   work->source + first * work->source_row_bytes, work->source_row_bytes,
                   left < PANEL_ROWS ? (uint32_t)left : PANEL_ROWS, m->n_columns);
    }
}

enum status device_matrix_create(struct device *device, struct matrix *matrix,
                                 enum weight_type type, const void *source, uint32_t source_columns,
                                 uint32_t row_begin, uint32_t row_end, uint32_t column_begin,
                                 uint32_t column_end, struct error *error)
{
    struct matrix_cut cut;
    enum status status = matrix_cut(&cut, type, source, source_columns, row_begin, row_end,
                                    column_begin, column_end, error);
    if (status != STATUS_OK)
        return status;
    struct matrix m = {
        .type = type, .n_rows = row_end - row_begin, .n_columns = column_end - column_begin};
    if (m.n_rows == 1)
        m.bytes = weight_row_bytes(type, m.n_columns);
    else if (!product_of(&m.bytes, panel_count(m.n_rows), panel_bytes(type, m.n_columns), 1))
        return error_set(error, STATUS_NO_MEMORY, "kernels: %u x %u of %s have no size", m.n_rows,
                         m.n_columns, weight_traits(type)->name);
    status = weight_memory_take(&device->weights, &m.data, m.bytes, error);
    if (status != STATUS_OK)
        return status;
    if (m.n_rows == 1) {
        memcpy(m.data, cut.first, m.bytes);
    } else {
        struct pack_work work = {&m, cut.first, cut.row_bytes};
        thread_pool_run(device->pool, pack_lane, &work);
    }
    *matrix = m;
    return STATUS_OK;
}

void device_matrix_destroy(struct device *device, struct matrix *matrix)
{
    weight_memory_give(&device->weights, matrix->data);
    *matrix = (struct matrix){0};
}

struct embed_work {
    float *out;
    const struct matrix *table;
    const int32_t *tokens;
    uint32_t n_tokens;
    int32_t first;
};

static void embed_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct embed_work *work = context;
    const struct matrix *table = work->table;
    size_t begin, end;

    thread_pool_share(work->n_tokens, 1, lane, n_lanes, &begin, &end);
    for (size_t i = begin; i < end; i++) {
        float *out = work->out + i * table->n_columns;
        const int64_t row = (int64_t)work->tokens[i] - work->first;
        if (row < 0 || row >= table->n_rows)
            memset(out, 0, table->n_columns * sizeof(*out));
        else if (table->n_rows == 1)
            weight_dequantize(table->type, out, table->data, table->n_columns);
        else
            panel_unpack_row(out, table->type,
                             (const uint8_t *)table->data +
                                 (size_t)(row / PANEL_ROWS) *
                                     panel_bytes(table->type, table->n_columns),
                             row % PANEL_ROWS, table->n_columns);
    }
}

void device_embed(struct device *device, float *out, const struct matrix *table,
                  const int32_t *tokens, uint32_t n_tokens, int32_t first)
{
    struct embed_work work = {out, table, tokens, n_tokens, first};
    device_run(device, (size_t)n_tokens * table->n_columns, DEVICE_ALONE, embed_lane, &work);
}
