/* tests/kernels/fake_memory.h - a fake device (fake_device.h), its memory, copies and weights. */
#ifndef LONGSPAN_TESTS_KERNELS_FAKE_MEMORY_H
#define LONGSPAN_TESTS_KERNELS_FAKE_MEMORY_H

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
        FAKE_TURN,
        FAKE_SWIGLU,
        FAKE_GEGLU,
        FAKE_ADD_BIAS,
        FAKE_ADD,
        FAKE_SCALE,
        FAKE_COPY,
        FAKE_CLEAR,
        FAKE_LAUNCH
    } what;
    void *to;
    const void *from;
    const float *weight;
    struct matrix matrix;
    struct heads heads;
    struct turn turn;
    uint32_t n_rows, n_columns, types;
    size_t n; /* of a launch: the slot, of the attention state `to` */
    float epsilon, factor;
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
    return 2;
}

static inline enum status fake_open(struct device **device, struct thread_pool *pool,
                                    uint32_t index, struct error *error)
{
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

#endif
