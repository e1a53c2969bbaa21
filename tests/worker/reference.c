/* reference.c - the judge: loops as the formulas are written, no blocking, no vectors. */
#include "tests/worker/reference.h"

#include "model/gguf_writer.h"
#include "sys/random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct reference_entry {
    float *values;
    uint8_t *bytes; /* as in the file */
    uint64_t dims[2];
    uint32_t n_dims;
};

struct reference {
    struct reference_shape shape;
    struct hparams hparams; /* as far as shapes need them */
    struct reference_entry *entries;
    size_t n_entries;
};

enum { REFERENCE_ONCE = WEIGHTS_FIRST_OF_LAYER };
static const double REFERENCE_ROPE_BASE = 10000.0, REFERENCE_EPSILON = 1e-5;

static size_t entry_index(uint32_t layer, enum weights_id id)
{
    return id < WEIGHTS_FIRST_OF_LAYER
               ? (size_t)id
               : REFERENCE_ONCE + (size_t)layer * (WEIGHTS_COUNT - WEIGHTS_FIRST_OF_LAYER) +
                     (id - WEIGHTS_FIRST_OF_LAYER);
}

static bool is_there(const struct reference_shape *shape, enum weights_id id)
{
    return !(id == WEIGHTS_OUTPUT && shape->tied) &&
           !(id == WEIGHTS_ROPE_FREQS && !shape->rope_factors);
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

static void write_keys(struct gguf_writer *writer, const struct reference_shape *s)
{
    struct error error;
    const struct {
        const char *name;
        uint32_t value;
    } keys[] = {
        {"llama.block_count", s->n_layers},
        {"llama.embedding_length", s->hidden},
        {"llama.attention.head_count", s->n_heads},
        {"llama.attention.head_count_kv", s->n_kv_heads},
        {"llama.attention.key_length", s->head_dim},
        {"llama.attention.value_length", s->head_dim},
        {"llama.feed_forward_length", s->ffn},
        {"llama.rope.dimension_count", s->head_dim},
        {"llama.context_length", 4096},
        {"llama.vocab_size", s->vocab},
    };
    reference_ok(gguf_writer_add_string(writer, "general.architecture", "llama", &error), &error);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        reference_ok(gguf_writer_add_u32(writer, keys[i].name, keys[i].value, &error), &error);
    reference_ok(gguf_writer_add_f32(writer, "llama.attention.layer_norm_rms_epsilon",
                                     (float)REFERENCE_EPSILON, &error),
                 &error);
    reference_ok(
        gguf_writer_add_f32(writer, "llama.rope.freq_base", (float)REFERENCE_ROPE_BASE, &error),
        &error);
}

/* Values that keep activations near 1; as the file rounds them. */
static void fill_entry(struct reference_entry *entry, const struct reference_shape *shape,
                       enum weights_id id, struct random_state *random)
{
    const size_t n = (size_t)entry->dims[0] * entry->dims[1];
    entry->values = malloc(n * sizeof(float));
    assert_non_null(entry->values);
    const double spread = id == WEIGHTS_TOKEN_EMBD ? 1.0 : 1.0 / sqrt((double)entry->dims[0]);
    for (size_t i = 0; i < n; i++)
        entry->values[i] = entry->n_dims == 2 ? (float)(random_normal(random) * spread)
                                              : 0.75f + 0.5f * random_f32(random);
    entry->bytes = malloc(n * sizeof(float)); /* no type takes more */
    assert_non_null(entry->bytes);
    const enum weight_type type = entry->n_dims == 2 ? shape->type : WEIGHT_F32;
    weight_quantize(type, entry->bytes, entry->values, n);
    weight_dequantize(type, entry->values, entry->bytes, n);
}

static void write_entry(struct gguf_writer *writer, const struct reference_entry *entry,
                        enum weight_type type)
{
    struct error error;
    const size_t row_bytes =
        weight_row_bytes(entry->n_dims == 2 ? type : WEIGHT_F32, (uint32_t)entry->dims[0]);
    reference_ok(gguf_writer_data(writer, entry->bytes, row_bytes * entry->dims[1], &error),
                 &error);
}

struct reference *reference_create(const struct reference_shape *shape, const char *path)
{
    struct reference *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    r->shape = *shape;
    r->hparams = (struct hparams){.n_layers = shape->n_layers,
                                  .hidden = shape->hidden,
                                  .n_heads = shape->n_heads,
                                  .n_kv_heads = shape->n_kv_heads,
                                  .head_dim = shape->head_dim,
                                  .ffn = shape->ffn,
                                  .vocab = shape->vocab,
                                  .rope_dims = shape->head_dim};
    r->n_entries = entry_index(shape->n_layers, WEIGHTS_FIRST_OF_LAYER);
    r->entries = calloc(r->n_entries, sizeof(*r->entries));
    assert_non_null(r->entries);

    struct error error;
    struct gguf_writer *writer;
    struct random_state random;
    random_seed(&random, shape->seed);
    reference_ok(gguf_writer_create(&writer, path, &error), &error);
    write_keys(writer, shape);
    /* All declarations come before all data. */
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t layer = 0; layer < shape->n_layers; layer++) {
            for (int i = layer == 0 ? 0 : WEIGHTS_FIRST_OF_LAYER; i < WEIGHTS_COUNT; i++) {
                const enum weights_id id = (enum weights_id)i;
                struct reference_entry *entry = &r->entries[entry_index(layer, id)];
                char name[WEIGHTS_NAME_BYTES];
                if (!is_there(shape, id))
                    continue;
                if (pass == 1) {
                    write_entry(writer, entry, shape->type);
                    continue;
                }
                entry->dims[1] = 1;
                entry->n_dims = weights_shape(&r->hparams, id, entry->dims);
                if (entry->n_dims == 1)
                    entry->dims[1] = 1;
                fill_entry(entry, shape, id, &random);
                reference_ok(gguf_writer_declare(writer, weights_name(name, layer, id),
                                                 entry->n_dims == 1 ? GGUF_TYPE_F32
                                                                    : (enum gguf_type)shape->type,
                                                 entry->n_dims, entry->dims, &error),
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

/* y[rows] = W x[columns] */
static void product(double *y, const struct reference *r, uint32_t layer, enum weights_id id,
                    const double *x)
{
    const struct reference_entry *w = &r->entries[entry_index(layer, id)];
    for (uint64_t row = 0; row < w->dims[1]; row++) {
        double sum = 0;
        for (uint64_t column = 0; column < w->dims[0]; column++)
            sum += (double)w->values[row * w->dims[0] + column] * x[column];
        y[row] = sum;
    }
}

static void norm(double *y, const double *x, const float *weight, uint32_t n)
{
    double squares = 0;
    for (uint32_t i = 0; i < n; i++)
        squares += x[i] * x[i];
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] / sqrt(squares / n + (double)(float)REFERENCE_EPSILON) * (double)weight[i];
}

/* Adjacent pairs, as llama's GGUF files have them. */
static void turn(const struct reference *r, double *head, uint32_t position)
{
    const float *factors = reference_tensor(r, 0, WEIGHTS_ROPE_FREQS);
    for (uint32_t i = 0; i < r->shape.head_dim / 2; i++) {
        const double frequency = pow(REFERENCE_ROPE_BASE, -2.0 * i / r->shape.head_dim) /
                                 (factors != NULL ? (double)factors[i] : 1.0);
        const double angle = position * frequency, a = head[2 * i], b = head[2 * i + 1];
        head[2 * i] = a * cos(angle) - b * sin(angle);
        head[2 * i + 1] = a * sin(angle) + b * cos(angle);
    }
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

/* One query head against tokens 0 to `position`, whose k and v of this KV head are `stride` apart.
 */
static void attend_head(double *out, const double *q, const double *k, const double *v,
                        size_t stride, uint32_t position, uint32_t head_dim)
{
    double *scores = doubles(position + 1), largest = -INFINITY, sum = 0;
    for (uint32_t t = 0; t <= position; t++) {
        for (uint32_t i = 0; i < head_dim; i++)
            scores[t] += q[i] * k[t * stride + i];
        scores[t] /= sqrt((double)head_dim);
        largest = fmax(largest, scores[t]);
    }
    memset(out, 0, head_dim * sizeof(*out));
    for (uint32_t t = 0; t <= position; t++) {
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
    for (uint32_t head = 0; head < s->n_heads; head++)
        turn(r, w->q + (size_t)head * s->head_dim, position);
    for (uint32_t head = 0; head < s->n_kv_heads; head++)
        turn(r, own_k + (size_t)head * s->head_dim, position);
    round_to(own_k, kv, kv_type);
    round_to(own_v, kv, kv_type);
    for (uint32_t head = 0; head < s->n_heads; head++) {
        const size_t kv_head = head / (s->n_heads / s->n_kv_heads) * (size_t)s->head_dim;
        attend_head(w->a + (size_t)head * s->head_dim, w->q + (size_t)head * s->head_dim,
                    k + kv_head, v + kv_head, kv, position, s->head_dim);
    }
    product(w->y, r, layer, WEIGHTS_ATTN_OUTPUT, w->a);
    for (uint32_t i = 0; i < s->hidden; i++)
        x[i] += w->y[i];

    norm(w->n, x, reference_tensor(r, layer, WEIGHTS_FFN_NORM), s->hidden);
    product(w->gate, r, layer, WEIGHTS_FFN_GATE, w->n);
    product(w->up, r, layer, WEIGHTS_FFN_UP, w->n);
    for (uint32_t i = 0; i < s->ffn; i++)
        w->gate[i] = w->gate[i] / (1 + exp(-w->gate[i])) * w->up[i];
    product(w->y, r, layer, WEIGHTS_FFN_DOWN, w->gate);
    for (uint32_t i = 0; i < s->hidden; i++)
        x[i] += w->y[i];
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
    for (uint32_t position = 0; position < n; position++) {
        const float *row = reference_tensor(reference, 0, WEIGHTS_TOKEN_EMBD) +
                           (size_t)tokens[position] * s->hidden;
        for (uint32_t i = 0; i < s->hidden; i++)
            x[i] = (double)row[i];
        for (uint32_t layer = 0; layer < s->n_layers; layer++)
            run_layer(reference, &w, layer, position, n, kv_type, x);
        norm(w.n, x, reference_tensor(reference, 0, WEIGHTS_OUTPUT_NORM), s->hidden);
        product(logits + (size_t)position * s->vocab, reference, 0,
                s->tied ? WEIGHTS_TOKEN_EMBD : WEIGHTS_OUTPUT, w.n);
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
