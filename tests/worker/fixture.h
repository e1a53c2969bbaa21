/* tests/worker/fixture.h - one rank as worker/rank.c builds it, over a tiny model, without a
 * coordinator.
 *
 * Works alone, without MPI, and in a rank of a small MPI job. KV is local. Every failure fails the
 * test. */
#ifndef LONGSPAN_TESTS_WORKER_FIXTURE_H
#define LONGSPAN_TESTS_WORKER_FIXTURE_H

#include "model/model_file.h"
#include "model/weights.h"
#include "proto/protocol.h"
#include "sys/file.h"
#include "tests/worker/reference.h"
#include "worker/attention.h"
#include "worker/forward.h"
#include "worker/group.h"
#include "worker/load.h"
#include "worker/results.h"
#include "worker/setup.h"
#include "worker/step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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
    struct attention *attention;
    struct results *results;
    struct forward *forward;
    struct step *step;
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

/* A WorkerSetup for this model and layout, in `memory` (the message's parts). */
struct fixture_message {
    Longspan__WorkerSetup setup;
    Longspan__Constants constants;
    Longspan__Stage stages[8], *stage_list[8];
    Longspan__Shard shards[8], *shard_list[8];
    Longspan__Holder holder, *holder_list[1];
    uint8_t fingerprint[MODEL_FINGERPRINT_BYTES];
};

static inline void fixture_fill_setup(struct fixture_message *m, const struct reference_shape *s,
                                      const char *path, const struct fixture_layout *layout)
{
    struct error error;
    struct model_file *file;
    fixture_ok(model_open(&file, path, &error), &error);
    model_fingerprint(file, m->fingerprint);
    model_close(file);
    const struct weights_segments segments = fixture_segments(s, path);
    assert_true(!layout->at_segments || segments.n % layout->tensor == 0);

    longspan__worker_setup__init(&m->setup);
    longspan__constants__init(&m->constants);
    m->constants.protocol = PROTOCOL_VERSION;
    m->constants.tile_tokens = TILE_TOKENS;
    m->constants.page_tokens = PAGE_TOKENS;
    m->setup.constants = &m->constants;
    m->setup.job = FIXTURE_JOB;
    m->setup.model_path = (char *)path;
    m->setup.fingerprint.data = m->fingerprint;
    m->setup.fingerprint.len = sizeof(m->fingerprint);
    for (uint32_t i = 0; i < layout->n_stages; i++) {
        longspan__stage__init(&m->stages[i]);
        m->stages[i].first_layer = fixture_cut(s->n_layers, layout->n_stages, i, 1);
        m->stages[i].n_layers =
            fixture_cut(s->n_layers, layout->n_stages, i + 1, 1) - m->stages[i].first_layer;
        m->stage_list[i] = &m->stages[i];
    }
    for (uint32_t i = 0; i < layout->tensor; i++) {
        Longspan__Shard *shard = m->shard_list[i] = &m->shards[i];
        longspan__shard__init(shard);
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
    longspan__holder__init(&m->holder);
    m->holder.name = "local";
    m->holder_list[0] = &m->holder;
    m->setup.n_stages = layout->n_stages;
    m->setup.stages = m->stage_list;
    m->setup.n_shards = layout->tensor;
    m->setup.shards = m->shard_list;
    m->setup.n_holders = 1;
    m->setup.holders = m->holder_list;
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
    struct fixture_message message;
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
    fixture_ok(shard_load(&f->shard, path, f->setup, group_rank(group), f->kernels, f->device, NULL,
                          NULL, NULL, &error),
               &error);
}

static inline void fixture_open(struct fixture *f, const struct reference_shape *shape,
                                const char *path, const struct fixture_layout *layout,
                                struct group *group)
{
    struct error error;
    fixture_load(f, shape, path, layout, group);
    const struct setup *setup = f->setup;
    fixture_ok(group_arrange(group, setup->n_stages, setup->tensor,
                             (size_t)FIXTURE_ROWS * shape->hidden, f->kernels, f->device, &error),
               &error);
    uint32_t windows[64];
    assert_true(f->shard->n_layers <= 64);
    for (uint32_t i = 0; i < f->shard->n_layers; i++)
        windows[i] = hparams_window(&f->shard->hparams, f->shard->first_layer + i);
    const struct attention_config attention = {
        .job = setup->job,
        .rank = group_rank(group),
        .first_layer = f->shard->first_layer,
        .n_layers = f->shard->n_layers,
        .first_kv_head = f->shard->part.kv_head_begin,
        .n_kv_heads = f->shard->part.kv_head_end - f->shard->part.kv_head_begin,
        .shape = shard_attend_shape(f->shard, setup->kv_type),
        .windows = windows,
        .chunk = setup->chunk,
        .max_rows = setup->max_rows,
        .max_sequences = setup->max_sequences,
        .max_tokens = setup->max_tokens,
        .holders = setup->holders,
        .n_holders = setup->n_holders,
        .local_kv_bytes = setup->local_kv_bytes,
        .timeout_ms = setup->timeout_ms,
        .retry_ms = setup->retry_ms,
        .kernels = f->kernels,
        .device = f->device,
        .constants_version = LONGSPAN_VERSION,
    };
    fixture_ok(attention_open(&f->attention, f->pool, NULL, &attention, &error), &error);
    const struct step_limits limits = {setup->job,           setup->n_holders,  setup->max_rows,
                                       setup->max_sequences, setup->max_tokens, shape->vocab};
    fixture_ok(step_create(&f->step, &limits, &error), &error);
    const struct candidate_source source = {f->pool, f->kernels, f->device, group, setup->shards};
    fixture_ok(results_create(&f->results, &source, &error), &error);
    const struct forward_config config = {.pool = f->pool,
                                          .shard = f->shard,
                                          .attention = f->attention,
                                          .group = group,
                                          .results = f->results,
                                          .max_rows = setup->max_rows};
    fixture_ok(forward_create(&f->forward, &config, &error), &error);
}

static inline void fixture_close(struct fixture *f)
{
    forward_destroy(f->forward);
    results_destroy(f->results);
    step_destroy(f->step);
    attention_close(f->attention);
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

/* Runs a step; no segment may fail. Results are in f->results. */
static inline void fixture_run_step(struct fixture *f, const struct fixture_step *message)
{
    struct error error;
    fixture_ok(step_decode(f->step, &message->step, &error), &error);
    fixture_ok(f->step->fault.status, &f->step->fault);
    fixture_ok(forward_run(f->forward, f->step, &error), &error);
    for (uint32_t i = 0; i < message->step.n_segments; i++) {
        fixture_ok(f->step->segments[i].error.status, &f->step->segments[i].error);
        const struct error *failed =
            attention_segment_error(f->attention, f->step->segments[i].attention);
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
