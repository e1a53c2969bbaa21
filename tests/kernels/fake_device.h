/* tests/kernels/fake_device.h - a device with memory of its own, for tests where there is no GPU.
 *
 * It computes with the CPU's kernels, so results have their bits, but its memory can be touched
 * only inside the functions of its table: outside it is protected, and who reads or writes it there
 * dies of SIGSEGV. Copies are as late as a device may make them: what is downloaded is poison until
 * finish, and what is uploaded must be unchanged until then. So a path that works here neither
 * takes device memory for the host's nor forgets to wait. It records calls, and ends the test of
 * who makes one meanwhile that may not be recorded.
 *
 * kernels_fake is the table; any number of devices, each in its own thread. */
#ifndef LONGSPAN_TESTS_KERNELS_FAKE_DEVICE_H
#define LONGSPAN_TESTS_KERNELS_FAKE_DEVICE_H

#include "tests/kernels/fake_operations.h"

/* ---- recordings ---- */

static inline enum status fake_record_begin(struct device *device, const uint32_t *positions,
                                            uint32_t n_rows, struct error *error)
{
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
    struct fake_device *f = fake_device(device);
    *recording = f->recording;
    f->recording = NULL;
    return STATUS_OK;
}

static inline void fake_recording_destroy(struct device *device, struct recording *recording)
{
    if (recording != NULL)
        free(recording->calls);
    free(recording);
}

static inline enum status fake_attend_launch(void *state, uint32_t slot, struct error *error);

static inline void fake_replay(struct device *device, const struct recording *recording,
                               const uint32_t *positions)
{
    for (size_t i = 0; i < recording->n_calls; i++) {
        const struct fake_call *c = &recording->calls[i];
        if (c->what == FAKE_PREPARE)
            fake_prepare(device, c->from, c->n_rows, c->n_columns, c->types);
        else if (c->what == FAKE_MATMUL)
            fake_product(device, &(struct product){c->to, c->n, &c->matrix});
        else if (c->what == FAKE_NORM)
            fake_rms_norm(device, c->to, c->from, c->weight, c->n_rows, c->n_columns, c->epsilon);
        else if (c->what == FAKE_TURN)
            fake_turn_one(device, &c->heads,
                          &(struct turn){c->turn.n_rows, c->turn.head_dim, positions, c->turn.rope,
                                         c->turn.epsilon});
        else if (c->what == FAKE_SWIGLU)
            fake_swiglu(device, c->to, c->from, c->n);
        else if (c->what == FAKE_GEGLU)
            fake_geglu(device, c->to, c->from, c->n);
        else if (c->what == FAKE_ADD_BIAS)
            fake_add_bias(device, c->to, c->from, c->n_rows, c->n_columns);
        else if (c->what == FAKE_ADD)
            fake_add(device, c->to, c->from, c->n);
        else if (c->what == FAKE_SCALE)
            fake_scale(device, c->to, c->factor, c->n);
        else if (c->what == FAKE_COPY)
            fake_copy_within(device, c->to, c->from, c->n);
        else if (c->what == FAKE_LAUNCH)
            fake_must(fake_attend_launch(c->to, (uint32_t)c->n, NULL) == STATUS_OK, "a launch");
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

static inline void fake_check_works(const struct fake_device *f, const struct attend_work *works,
                                    size_t n_works)
{
    for (size_t i = 0; i < n_works; i++) {
        fake_inside(f, works[i].q, 1, "q of attention");
        fake_inside(f, works[i].final_out != NULL ? works[i].final_out : works[i].out, 1,
                    "out of attention");
    }
}

static inline enum status fake_attend_run(void *state, const struct attend_work *works,
                                          size_t n_works, struct error *error)
{
    struct fake_attend *a = state;
    struct fake_device *f = fake_enter(a->device);
    fake_check_works(f, works, n_works);
    const enum status status = attend_run(a->inner, works, n_works, error);
    fake_leave(f);
    return status;
}

/* The kind changes as the first sequence grows, so that recordings are made anew now and then. */
static inline enum status fake_attend_prepare(void *state, uint32_t slot,
                                              const struct attend_work *works, size_t n_works,
                                              const struct attend_writes *writes, uint64_t *kind,
                                              struct error *error)
{
    struct fake_attend *a = state;
    struct fake_device *f = fake_enter(a->device);
    fake_check_works(f, works, n_works);
    if (kind != NULL)
        *kind =
            1 + (n_works > 0 ? works[0].position / 64 : 0) + (writes != NULL ? writes->n << 32 : 0);
    const enum status status = attend_prepare(a->inner, slot, works, n_works, writes, NULL, error);
    fake_leave(f);
    return status;
}

static inline enum status fake_attend_launch(void *state, uint32_t slot, struct error *error)
{
    struct fake_attend *a = state;
    if (fake_records(a->device, (struct fake_call){.what = FAKE_LAUNCH, .to = a, .n = slot}))
        return STATUS_OK;
    struct fake_device *f = fake_enter(a->device);
    const enum status status = attend_launch(a->inner, slot, error);
    fake_leave(f);
    return status;
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
                                                       .prepare = fake_attend_prepare,
                                                       .launch = fake_attend_launch,
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
                                            .turn = fake_turn,
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
