/* tests/worker/fixture.h - one rank as worker/rank.c builds it, over a tiny model, without a
 * coordinator.
 *
 * Works alone, without MPI, and in a rank of a small MPI job. KV is local. Every failure fails the
 * test. */
#ifndef LONGSPAN_TESTS_WORKER_FIXTURE_H
#define LONGSPAN_TESTS_WORKER_FIXTURE_H

#include "model/weights.h"
#include "sys/file.h"
#include "tests/cmocka.h"
#include "tests/worker/reference.h"
#include "tests/worker/setup_message.h"
#include "worker/engine.h"
#include "worker/group.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture_layout {
    uint32_t n_stages, tensor, lanes;
    enum kv_type kv_type;
    const char *kernels;         /* NULL: auto */
    bool at_segments;            /* shards are cut where a plan cuts them; else unequally */
    const struct kernels *table; /* not NULL: that one, whatever `kernels` says */
};

struct fixture {
    struct reference_shape shape;
    struct group *group; /* the test's, opened before */
    struct setup *setup;
    struct thread_pool *pool;
    const struct kernels *kernels;
    struct device *device;
    struct shard *shard;
    struct engine engine;
    uint64_t next_step;
};

enum { FIXTURE_JOB = 1234, FIXTURE_ROWS = 256, FIXTURE_SEQUENCES = 8, FIXTURE_TOKENS = 2048 };

static inline void fixture_ok(enum status status, const struct error *error)
{
    if (status != STATUS_OK)
        fail_msg("%s: %s", status_name(status), error->text);
}

/* [begin of part i, of `n` in `parts` parts), unequal where it can be, at multiples of `grain`. */
static inline uint32_t fixture_cut(uint32_t n, uint32_t parts, uint32_t i, uint32_t grain)
{
    const uint32_t units = n / grain;
    if (i == 0 || i == parts)
        return i == 0 ? 0 : n;
    const uint32_t even = units * i / parts;
    return (even > i && units > parts ? even - 1 : even) * grain;
}

static inline struct weights_segments fixture_segments(const struct reference_shape *s,
                                                       const char *path)
{
    const struct hparams h = reference_hparams(s);
    struct weights_segments segments;
    struct error error;
    struct model_file *file;
    fixture_ok(model_open(&file, path, &error), &error);
    weights_segments(&segments, file, &h);
    model_close(file);
    return segments;
}

/* A WorkerSetup for this model and layout. */
static inline void fixture_fill_setup(struct setup_message *m, const struct reference_shape *s,
                                      const char *path, const struct fixture_layout *layout)
{
    struct error error;
    struct model_file *file;
    setup_message_init(m, layout->n_stages, layout->tensor);
    fixture_ok(model_open(&file, path, &error), &error);
    model_fingerprint(file, m->fingerprint);
    model_close(file);
    const struct weights_segments segments = fixture_segments(s, path);
    assert_true(!layout->at_segments || segments.n % layout->tensor == 0);

    m->setup.job = FIXTURE_JOB;
    m->setup.model_path = (char *)path;
    for (uint32_t i = 0; i < layout->n_stages; i++) {
        m->stages[i].first_layer = fixture_cut(s->n_layers, layout->n_stages, i, 1);
        m->stages[i].n_layers =
            fixture_cut(s->n_layers, layout->n_stages, i + 1, 1) - m->stages[i].first_layer;
    }
    for (uint32_t i = 0; i < layout->tensor; i++) {
        Longspan__Shard *shard = &m->shards[i];
        shard->kv_head_begin = fixture_cut(s->n_kv_heads, layout->tensor, i, 1);
        shard->kv_head_end = fixture_cut(s->n_kv_heads, layout->tensor, i + 1, 1);
        if (s->n_experts > 0) {
            shard->expert_begin = fixture_cut(s->n_experts, layout->tensor, i, 1);
            shard->expert_end = fixture_cut(s->n_experts, layout->tensor, i + 1, 1);
        } else {
            shard->ffn_begin = fixture_cut(s->ffn, layout->tensor, i, 32);
            shard->ffn_end = fixture_cut(s->ffn, layout->tensor, i + 1, 32);
        }
        if (layout->at_segments) {
            const uint32_t each = segments.n / layout->tensor;
            shard->kv_head_begin = segments.kv_head[each * i];
            shard->kv_head_end = segments.kv_head[each * (i + 1)];
            shard->ffn_begin = segments.ffn[each * i];
            shard->ffn_end = segments.ffn[each * (i + 1)];
            shard->expert_begin = s->n_experts / layout->tensor * i;
            shard->expert_end = s->n_experts / layout->tensor * (i + 1);
        }
        shard->vocab_begin = fixture_cut(s->vocab, layout->tensor, i, 1);
        shard->vocab_end = fixture_cut(s->vocab, layout->tensor, i + 1, 1);
    }
    m->setup.kv_type = layout->kv_type;
    m->setup.max_rows = m->setup.chunk = FIXTURE_ROWS;
    m->setup.max_sequences = FIXTURE_SEQUENCES;
    m->setup.max_tokens = FIXTURE_TOKENS;
    m->setup.local_kv_bytes = 64 << 20;
    m->setup.timeout_ms = 10000;
    m->setup.retry_ms = 1000;
    m->setup.kernels = "auto";
}

static inline void fixture_load(struct fixture *f, const struct reference_shape *shape,
                                const char *path, const struct fixture_layout *layout,
                                struct group *group)
{
    struct setup_message message;
    struct error error;
    *f = (struct fixture){.shape = *shape, .group = group, .next_step = 1};
    fixture_fill_setup(&message, shape, path, layout);
    fixture_ok(setup_create(&f->setup, &message.setup, layout->n_stages * layout->tensor, &error),
               &error);
    f->kernels = layout->table;
    if (f->kernels == NULL)
        fixture_ok(kernels_choose(&f->kernels, layout->kernels, &error), &error);
    fixture_ok(thread_pool_create(&f->pool, layout->lanes, &error), &error);
    fixture_ok(f->kernels->open(&f->device, f->pool, 0, &error), &error);
    const struct shard_source source = {.path = path,
                                        .setup = f->setup,
                                        .rank = group_rank(group),
                                        .kernels = f->kernels,
                                        .device = f->device};
    fixture_ok(shard_load(&f->shard, &source, &error), &error);
}

static inline void fixture_open_recording(struct fixture *f, const struct reference_shape *shape,
                                          const char *path, const struct fixture_layout *layout,
                                          struct group *group, enum forward_records records)
{
    struct error error;
    fixture_load(f, shape, path, layout, group);
    const struct setup *setup = f->setup;
    fixture_ok(group_arrange(group, setup->n_stages, setup->tensor,
                             (size_t)FIXTURE_ROWS * shape->hidden, f->kernels, f->device, &error),
               &error);
    const struct engine_config config = {.setup = setup,
                                         .shard = f->shard,
                                         .rank = group_rank(group),
                                         .group = group,
                                         .pool = f->pool,
                                         .kernels = f->kernels,
                                         .device = f->device,
                                         .local_kv_bytes = setup->local_kv_bytes,
                                         .records = records};
    fixture_ok(engine_open(&f->engine, &config, &error), &error);
}

static inline void fixture_open(struct fixture *f, const struct reference_shape *shape,
                                const char *path, const struct fixture_layout *layout,
                                struct group *group)
{
    fixture_open_recording(f, shape, path, layout, group, FORWARD_RECORDS_ALL);
}

static inline void fixture_close(struct fixture *f)
{
    engine_close(&f->engine);
    shard_destroy(f->shard);
    if (f->group != NULL)
        group_disperse(f->group);
    f->kernels->close(f->device);
    thread_pool_destroy(f->pool);
    setup_destroy(f->setup);
}

/* One segment of a step that a test composes. */
struct fixture_segment {
    uint64_t sequence;
    uint32_t position, n_tokens;
    const int32_t *tokens;
    Longspan__Want want;
    uint32_t n_candidates;
};

/* The message lives in *f's caller's hands until the next call: static parts suffice for one
 * thread. */
struct fixture_step {
    Longspan__Step step;
    Longspan__Segment segments[FIXTURE_SEQUENCES], *list[FIXTURE_SEQUENCES];
    Longspan__Span spans[FIXTURE_SEQUENCES], *span_lists[FIXTURE_SEQUENCES][1];
};

static inline void fixture_compose(struct fixture_step *m, uint64_t number,
                                   const struct fixture_segment *segments, uint32_t n)
{
    longspan__step__init(&m->step);
    m->step.job = FIXTURE_JOB;
    m->step.step = number;
    m->step.n_segments = n;
    m->step.segments = m->list;
    for (uint32_t i = 0; i < n; i++) {
        Longspan__Segment *s = m->list[i] = &m->segments[i];
        longspan__segment__init(s);
        s->sequence = segments[i].sequence;
        s->incarnation = 1;
        s->position = segments[i].position;
        s->tokens = (int32_t *)segments[i].tokens + segments[i].position;
        s->n_tokens = segments[i].n_tokens;
        s->want = segments[i].want;
        s->n_candidates = segments[i].n_candidates;
        if (s->position == 0) {
            longspan__span__init(&m->spans[i]);
            m->spans[i].end = FIXTURE_TOKENS;
            m->span_lists[i][0] = &m->spans[i];
            s->spans = m->span_lists[i];
            s->n_spans = 1;
        }
    }
}

/* Runs a step; no segment may fail. Results are in f->engine.results. */
static inline void fixture_run_step(struct fixture *f, const struct fixture_step *message)
{
    struct error error;
    fixture_ok(step_decode(f->engine.step, &message->step, &error), &error);
    fixture_ok(f->engine.step->fault.status, &f->engine.step->fault);
    fixture_ok(forward_run(f->engine.forward, f->engine.step, &error), &error);
    for (uint32_t i = 0; i < message->step.n_segments; i++) {
        fixture_ok(f->engine.step->segments[i].error.status, &f->engine.step->segments[i].error);
        const struct error *failed =
            attention_segment_error(f->engine.attention, f->engine.step->segments[i].attention);
        if (failed != NULL)
            fail_msg("segment %u: %s", i, failed->text);
    }
}

/* The same of a step that is composed of these. */
static inline void fixture_run(struct fixture *f, const struct fixture_segment *segments,
                               uint32_t n)
{
    struct fixture_step message;
    fixture_compose(&message, f->next_step++, segments, n);
    fixture_run_step(f, &message);
}

#endif
