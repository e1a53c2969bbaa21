/* reference.c - the judge: loops as the formulas are written, no blocking, no vectors. */
#include "tests/worker/reference.h"

#include "model/gguf_writer.h"
#include "sys/random.h"
#include "tests/cmocka.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reference_entry {
    float *values;
    uint8_t *bytes; /* as in the file */
    enum weight_type type;
    uint64_t dims[WEIGHTS_DIMS];
    uint32_t n_dims;
};

struct reference {
    struct reference_shape shape;
    struct hparams hparams;
    struct reference_entry *entries;
    size_t n_entries;
};

enum { REFERENCE_ONCE = WEIGHTS_FIRST_OF_LAYER };
static const double REFERENCE_ROPE_BASE = 20000.0, REFERENCE_EPSILON = 1e-5;

static size_t entry_index(uint32_t layer, enum weights_id id)
{
    return id < WEIGHTS_FIRST_OF_LAYER
               ? (size_t)id
               : REFERENCE_ONCE + (size_t)layer * (WEIGHTS_COUNT - WEIGHTS_FIRST_OF_LAYER) +
                     (id - WEIGHTS_FIRST_OF_LAYER);
}

struct hparams reference_hparams(const struct reference_shape *shape)
{
    struct hparams h = {.n_layers = shape->n_layers,
                        .hidden = shape->hidden,
                        .n_heads = shape->n_heads,
                        .n_kv_heads = shape->n_kv_heads,
                        .head_dim = shape->head_dim,
                        .ffn = shape->ffn,
                        .vocab = shape->vocab};
    hparams_complete(&h, shape->architecture);
    const struct architecture_traits *traits = architecture_traits(shape->architecture);
    h.tied = shape->tied;
    h.rope_factors = shape->rope_factors;
    h.qkv_bias |= shape->biases;
    h.output_bias = shape->biases && traits->output_bias != PART_NEVER;
    h.window = shape->window > 0 ? shape->window : h.window;
    h.has_local_rope = h.has_local_rope && h.window > 0;
    h.norm_offset = shape->norm_offset;
    h.n_experts = shape->n_experts;
    h.n_experts_used = shape->n_used;
    h.ffn_expert = shape->n_experts > 0 ? shape->ffn : 0;
    h.ffn = shape->n_experts > 0 ? 0 : shape->ffn;
    h.experts_normalised = shape->n_experts > 0 && !shape->softmax_of_all;
    if (shape->scale > 0) {
        h.attention_scale = shape->scale;
        h.embedding_scale = 24 * shape->scale;
        h.residual_scale = 2 * shape->scale;
        h.logit_scale = 64 * shape->scale;
    }
    return h;
}

const float *reference_tensor(const struct reference *reference, uint32_t layer, enum weights_id id)
{
    return reference->entries[entry_index(layer, id)].values;
}

static void reference_ok(enum status status, const struct error *error)
{
    if (status != STATUS_OK)
        fail_msg("%s", error->text);
}

static void write_keys(struct gguf_writer *writer, const struct hparams *h)
{
    struct error error;
    const char *name = architecture_traits(h->architecture)->name;
    char key[96];
    const struct {
        const char *suffix;
        uint32_t value;
    } keys[] = {
        {"block_count", h->n_layers},
        {"embedding_length", h->hidden},
        {"attention.head_count", h->n_heads},
        {"attention.head_count_kv", h->n_kv_heads},
        {"attention.key_length", h->head_dim},
        {"attention.value_length", h->head_dim},
        {"feed_forward_length", h->n_experts > 0 ? h->ffn_expert : h->ffn},
        {"expert_count", h->n_experts},
        {"expert_used_count", h->n_experts_used},
        {"rope.dimension_count", h->head_dim},
        {"context_length", 4096},
        {"vocab_size", h->vocab},
        {"attention.sliding_window", h->window},
    };
    reference_ok(gguf_writer_add_string(writer, "general.architecture", name, &error), &error);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        snprintf(key, sizeof(key), "%s.%s", name, keys[i].suffix);
        reference_ok(gguf_writer_add_u32(writer, key, keys[i].value, &error), &error);
    }
    snprintf(key, sizeof(key), "%s.attention.layer_norm_rms_epsilon", name);
    reference_ok(gguf_writer_add_f32(writer, key, (float)REFERENCE_EPSILON, &error), &error);
    if (h->norm_offset != 0)
        reference_ok(gguf_writer_add_f32(writer, "longspan.norm.offset", h->norm_offset, &error),
                     &error);
    const struct {
        const char *suffix;
        float value;
    } scales[] = {{"attention.scale", h->attention_scale},
                  {"embedding_scale", h->embedding_scale},
                  {"residual_scale", h->residual_scale},
                  {"logit_scale", h->logit_scale}};
    for (size_t i = 0; i < (architecture_traits(h->architecture)->scales ? 4 : 0); i++) {
        snprintf(key, sizeof(key), "%s.%s", name, scales[i].suffix);
        reference_ok(gguf_writer_add_f32(writer, key, scales[i].value, &error), &error);
    }
    snprintf(key, sizeof(key), "%s.expert_weights_norm", name);
    reference_ok(gguf_writer_add_bool(writer, key, h->experts_normalised, &error), &error);
    snprintf(key, sizeof(key), "%s.rope.freq_base", name);
    reference_ok(gguf_writer_add_f32(writer, key, (float)REFERENCE_ROPE_BASE, &error), &error);
}

/* Values that keep activations near 1; as the file rounds them. */
static void fill_entry(struct reference_entry *entry, const struct reference_shape *shape,
                       enum weights_id id, struct random_state *random)
{
    const size_t n = (size_t)entry->dims[0] * entry->dims[1] * entry->dims[2];
    entry->values = malloc(n * sizeof(float));
    assert_non_null(entry->values);
    const double spread = id == WEIGHTS_TOKEN_EMBD ? 1.0 : 1.0 / sqrt((double)entry->dims[0]);
    const bool bias = entry->n_dims == 1 && !weights_is_norm(id) && id != WEIGHTS_ROPE_FREQS;
    for (size_t i = 0; i < n; i++)
        entry->values[i] = entry->n_dims > 1 ? (float)(random_normal(random) * spread)
                           : bias            ? random_f32(random) - 0.5f
                                             : 0.75f + 0.5f * random_f32(random);
    entry->bytes = malloc(n * sizeof(float)); /* no type takes more */
    assert_non_null(entry->bytes);
    const float offset = weights_is_norm(id) ? shape->norm_offset : 0;
    for (size_t i = 0; i < n && offset != 0; i++)
        entry->values[i] -= offset;
    weight_quantize(entry->type, entry->bytes, entry->values, n);
    weight_dequantize(entry->type, entry->values, entry->bytes, n);
    for (size_t i = 0; i < n && offset != 0; i++)
        entry->values[i] += offset;
}

static void write_entry(struct gguf_writer *writer, const struct reference_entry *entry)
{
    struct error error;
    const size_t row_bytes = weight_row_bytes(entry->type, (uint32_t)entry->dims[0]);
    const size_t n_rows = entry->dims[1] * entry->dims[2];
    reference_ok(gguf_writer_data(writer, entry->bytes, row_bytes * n_rows, &error), &error);
}

struct reference *reference_create(const struct reference_shape *shape, const char *path)
{
    struct reference *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    r->shape = *shape;
    r->hparams = reference_hparams(shape);
    r->hparams.rope.base = REFERENCE_ROPE_BASE;
    r->n_entries = entry_index(shape->n_layers, WEIGHTS_FIRST_OF_LAYER);
    r->entries = calloc(r->n_entries, sizeof(*r->entries));
    assert_non_null(r->entries);

    struct error error;
    struct gguf_writer *writer;
    struct random_state random;
    random_seed(&random, shape->seed);
    reference_ok(gguf_writer_create(&writer, path, &error), &error);
    write_keys(writer, &r->hparams);
    /* All declarations come before all data. */
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t layer = 0; layer < shape->n_layers; layer++) {
            for (int i = layer == 0 ? 0 : WEIGHTS_FIRST_OF_LAYER; i < WEIGHTS_COUNT; i++) {
                const enum weights_id id = (enum weights_id)i;
                struct reference_entry *entry = &r->entries[entry_index(layer, id)];
                char name[WEIGHTS_NAME_BYTES];
                if (!weights_has(&r->hparams, id))
                    continue;
                if (pass == 1) {
                    write_entry(writer, entry);
                    continue;
                }
                entry->n_dims = weights_shape(&r->hparams, id, entry->dims);
                /* A router's F32, as in all files: rounded activations would choose other
                 * experts. */
                entry->type = entry->n_dims == 1
                                  ? (id == WEIGHTS_ROPE_FREQS ? WEIGHT_F32 : shape->vectors)
                                  : (id == WEIGHTS_FFN_ROUTER ? WEIGHT_F32 : shape->type);
                fill_entry(entry, shape, id, &random);
                reference_ok(gguf_writer_declare(writer, weights_name(name, layer, id),
                                                 (enum gguf_type)entry->type, entry->n_dims,
                                                 entry->dims, &error),
                             &error);
            }
        }
    }
    reference_ok(gguf_writer_finish(writer, &error), &error);
    return r;
}

void reference_destroy(struct reference *reference)
{
    for (size_t i = 0; i < reference->n_entries; i++) {
        free(reference->entries[i].values);
        free(reference->entries[i].bytes);
    }
    free(reference->entries);
    free(reference);
}

/* ---- the forward pass ------------------------------------------------------------------------ */

static double *doubles(size_t n)
{
    double *values = calloc(n, sizeof(*values));
    assert_non_null(values);
    return values;
}

/* y[rows] = W[expert] x[columns] */
static void product_of_expert(double *y, const struct reference *r, uint32_t layer,
                              enum weights_id id, uint32_t expert, const double *x)
{
    const struct reference_entry *w = &r->entries[entry_index(layer, id)];
    for (uint64_t row = 0; row < w->dims[1]; row++) {
        double sum = 0;
        for (uint64_t column = 0; column < w->dims[0]; column++)
            sum += (double)w->values[(expert * w->dims[1] + row) * w->dims[0] + column] * x[column];
        y[row] = sum;
    }
}

static void product(double *y, const struct reference *r, uint32_t layer, enum weights_id id,
                    const double *x)
{
    product_of_expert(y, r, layer, id, 0, x);
}

static void norm(double *y, const double *x, const float *weight, uint32_t n)
{
    double squares = 0;
    for (uint32_t i = 0; i < n; i++)
        squares += x[i] * x[i];
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] / sqrt(squares / n + (double)(float)REFERENCE_EPSILON) * (double)weight[i];
}

static void turn(const struct reference *r, uint32_t layer, double *head, uint32_t position)
{
    const float *factors = reference_tensor(r, 0, WEIGHTS_ROPE_FREQS);
    const struct hparams_rope *rope = hparams_layer_rope(&r->hparams, layer);
    if (rope == NULL)
        return;
    const double base = rope->base;
    const uint32_t n_pairs = r->shape.head_dim / 2;
    for (uint32_t i = 0; i < n_pairs; i++) {
        const double frequency =
            pow(base, -2.0 * i / r->shape.head_dim) / (factors != NULL ? (double)factors[i] : 1.0);
        const uint32_t first = r->hparams.rope_neox ? i : 2 * i;
        const uint32_t second = r->hparams.rope_neox ? i + n_pairs : first + 1;
        const double angle = position * frequency, a = head[first], b = head[second];
        head[first] = a * cos(angle) - b * sin(angle);
        head[second] = a * sin(angle) + b * cos(angle);
    }
}

static void add_bias(const struct reference *r, uint32_t layer, enum weights_id id, double *y,
                     size_t n)
{
    const float *bias = reference_tensor(r, layer, id);
    for (size_t i = 0; i < n && bias != NULL; i++)
        y[i] += (double)bias[i];
}

/* Heads of q or k: bias, norm, rope. */
static void make_heads(const struct reference *r, uint32_t layer, double *x, enum weights_id bias,
                       enum weights_id norms, uint32_t n_heads, uint32_t position)
{
    const uint32_t head_dim = r->shape.head_dim;
    add_bias(r, layer, bias, x, (size_t)n_heads * head_dim);
    for (uint32_t head = 0; head < n_heads; head++, x += head_dim) {
        if (r->hparams.qk_norm)
            norm(x, x, reference_tensor(r, layer, norms), head_dim);
        turn(r, layer, x, position);
    }
}

static double capped(double x, float cap)
{
    return cap > 0 ? (double)cap * tanh(x / (double)cap) : x;
}

/* What gates the feed-forward part. */
static double gate_of(const struct reference *r, double x)
{
    if (architecture_traits(r->shape.architecture)->activation == ACTIVATION_SILU)
        return x / (1 + exp(-x));
    return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

/* n: whole rows. */
static void round_to(double *values, size_t n, enum kv_type type)
{
    float *floats = malloc(n * sizeof(*floats));
    void *rows = malloc(kv_row_bytes(type, n));
    for (size_t i = 0; i < n; i++)
        floats[i] = (float)values[i];
    kv_round(type, rows, floats, n);
    kv_widen(type, floats, rows, n);
    for (size_t i = 0; i < n; i++)
        values[i] = (double)floats[i];
    free(floats);
    free(rows);
}

/* One query head against the tokens of its window up to `position`, whose k and v of this KV head
 * are `stride` apart. */
static void attend_head(double *out, const struct hparams *h, uint32_t layer, const double *q,
                        const double *k, const double *v, size_t stride, uint32_t position)
{
    const uint32_t head_dim = h->head_dim, window = hparams_window(h, layer);
    const double scale = architecture_traits(h->architecture)->scales ? (double)h->attention_scale
                                                                      : 1 / sqrt((double)head_dim);
    const uint32_t first = window > 0 && position + 1 > window ? position + 1 - window : 0;
    double *scores = doubles(position + 1), largest = -INFINITY, sum = 0;
    for (uint32_t t = first; t <= position; t++) {
        for (uint32_t i = 0; i < head_dim; i++)
            scores[t] += q[i] * k[t * stride + i];
        scores[t] = capped(scores[t] * scale, h->attention_cap);
        largest = fmax(largest, scores[t]);
    }
    memset(out, 0, head_dim * sizeof(*out));
    for (uint32_t t = first; t <= position; t++) {
        const double weight = exp(scores[t] - largest);
        sum += weight;
        for (uint32_t i = 0; i < head_dim; i++)
            out[i] += weight * v[t * stride + i];
    }
    for (uint32_t i = 0; i < head_dim; i++)
        out[i] /= sum;
    free(scores);
}

struct reference_work {
    double *n, *q, *a, *y, *gate, *up;
    double *k, *v; /* [layers][tokens][KV heads][head_dim] */
};

static void add_to_stream(const struct reference *r, uint32_t layer, enum weights_id post_norm,
                          double *x, double *y)
{
    if (r->hparams.post_norms)
        norm(y, y, reference_tensor(r, layer, post_norm), r->shape.hidden);
    for (uint32_t i = 0; i < r->shape.hidden; i++)
        x[i] += (double)r->hparams.residual_scale * y[i];
}

/* Whether fewer than n_used experts are before this one: larger, or equal with a lower index. */
static bool is_chosen(const struct reference_shape *s, const double *routes, uint32_t expert)
{
    uint32_t before = 0;
    for (uint32_t e = 0; e < s->n_experts; e++)
        before += routes[e] > routes[expert] || (routes[e] == routes[expert] && e < expert);
    return before < s->n_used;
}

/* y = sum of w[e] Wdown[e] (act(Wgate[e] n) * Wup[e] n) over the chosen. */
static void run_experts(const struct reference *r, const struct reference_work *w, uint32_t layer)
{
    const struct reference_shape *s = &r->shape;
    double *routes = doubles(s->n_experts), *y = doubles(s->hidden), sum = 0;
    product(routes, r, layer, WEIGHTS_FFN_ROUTER, w->n);
    for (uint32_t e = 0; e < s->n_experts; e++)
        if (s->softmax_of_all || is_chosen(s, routes, e))
            sum += exp(routes[e]);
    memset(w->y, 0, s->hidden * sizeof(*w->y));
    for (uint32_t e = 0; e < s->n_experts; e++) {
        if (!is_chosen(s, routes, e))
            continue;
        product_of_expert(w->gate, r, layer, WEIGHTS_FFN_GATE_EXPS, e, w->n);
        product_of_expert(w->up, r, layer, WEIGHTS_FFN_UP_EXPS, e, w->n);
        for (uint32_t i = 0; i < s->ffn; i++)
            w->gate[i] = gate_of(r, w->gate[i]) * w->up[i];
        product_of_expert(y, r, layer, WEIGHTS_FFN_DOWN_EXPS, e, w->gate);
        for (uint32_t i = 0; i < s->hidden; i++)
            w->y[i] += exp(routes[e]) / sum * y[i];
    }
    free(routes);
    free(y);
}

static void run_layer(const struct reference *r, const struct reference_work *w, uint32_t layer,
                      uint32_t position, uint32_t n_tokens, enum kv_type kv_type, double *x)
{
    const struct reference_shape *s = &r->shape;
    const size_t kv = (size_t)s->n_kv_heads * s->head_dim;
    double *k = w->k + (size_t)layer * n_tokens * kv, *v = w->v + (size_t)layer * n_tokens * kv;
    double *own_k = k + position * kv, *own_v = v + position * kv;

    norm(w->n, x, reference_tensor(r, layer, WEIGHTS_ATTN_NORM), s->hidden);
    product(w->q, r, layer, WEIGHTS_ATTN_Q, w->n);
    product(own_k, r, layer, WEIGHTS_ATTN_K, w->n);
    product(own_v, r, layer, WEIGHTS_ATTN_V, w->n);
    add_bias(r, layer, WEIGHTS_ATTN_V_BIAS, own_v, kv);
    make_heads(r, layer, w->q, WEIGHTS_ATTN_Q_BIAS, WEIGHTS_ATTN_Q_NORM, s->n_heads, position);
    make_heads(r, layer, own_k, WEIGHTS_ATTN_K_BIAS, WEIGHTS_ATTN_K_NORM, s->n_kv_heads, position);
    round_to(own_k, kv, kv_type);
    round_to(own_v, kv, kv_type);
    for (uint32_t head = 0; head < s->n_heads; head++) {
        const size_t kv_head = head / (s->n_heads / s->n_kv_heads) * (size_t)s->head_dim;
        attend_head(w->a + (size_t)head * s->head_dim, &r->hparams, layer,
                    w->q + (size_t)head * s->head_dim, k + kv_head, v + kv_head, kv, position);
    }
    product(w->y, r, layer, WEIGHTS_ATTN_OUTPUT, w->a);
    add_bias(r, layer, WEIGHTS_ATTN_OUTPUT_BIAS, w->y, s->hidden);
    add_to_stream(r, layer, WEIGHTS_ATTN_POST_NORM, x, w->y);

    norm(w->n, x, reference_tensor(r, layer, WEIGHTS_FFN_NORM), s->hidden);
    if (s->n_experts > 0) {
        run_experts(r, w, layer);
    } else {
        product(w->gate, r, layer, WEIGHTS_FFN_GATE, w->n);
        product(w->up, r, layer, WEIGHTS_FFN_UP, w->n);
        for (uint32_t i = 0; i < s->ffn; i++)
            w->gate[i] = gate_of(r, w->gate[i]) * w->up[i];
        product(w->y, r, layer, WEIGHTS_FFN_DOWN, w->gate);
    }
    add_to_stream(r, layer, WEIGHTS_FFN_POST_NORM, x, w->y);
}

void reference_logits(const struct reference *reference, const int32_t *tokens, uint32_t n,
                      enum kv_type kv_type, double *logits)
{
    const struct reference_shape *s = &reference->shape;
    const size_t heads = (size_t)s->n_heads * s->head_dim;
    const size_t kv = (size_t)s->n_layers * n * s->n_kv_heads * s->head_dim;
    struct reference_work w = {doubles(s->hidden), doubles(heads),  doubles(heads),
                               doubles(s->hidden), doubles(s->ffn), doubles(s->ffn),
                               doubles(kv),        doubles(kv)};
    double *x = doubles(s->hidden);
    const bool scaled = architecture_traits(s->architecture)->scaled_embedding;
    for (uint32_t position = 0; position < n; position++) {
        const float *row = reference_tensor(reference, 0, WEIGHTS_TOKEN_EMBD) +
                           (size_t)tokens[position] * s->hidden;
        for (uint32_t i = 0; i < s->hidden; i++)
            x[i] = (double)row[i] *
                   (scaled ? sqrt((double)s->hidden) : (double)reference->hparams.embedding_scale);
        for (uint32_t layer = 0; layer < s->n_layers; layer++)
            run_layer(reference, &w, layer, position, n, kv_type, x);
        norm(w.n, x, reference_tensor(reference, 0, WEIGHTS_OUTPUT_NORM), s->hidden);
        product(logits + (size_t)position * s->vocab, reference, 0,
                s->tied ? WEIGHTS_TOKEN_EMBD : WEIGHTS_OUTPUT, w.n);
        for (uint32_t i = 0; i < s->vocab; i++)
            logits[(size_t)position * s->vocab + i] = capped(
                logits[(size_t)position * s->vocab + i] / (double)reference->hparams.logit_scale,
                reference->hparams.logit_cap);
    }
    double *all[] = {w.n, w.q, w.a, w.y, w.gate, w.up, w.k, w.v, x};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
}

double reference_distance(const float *a, const double *b, size_t n)
{
    double largest = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        const double difference = fabs((double)a[i] - b[i]);
        largest = difference > largest || isnan(difference) ? difference : largest;
        squares += b[i] * b[i];
    }
    return largest / sqrt(squares / (double)n);
}
