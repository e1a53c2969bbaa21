/* make_random.c - weights are drawn, rounded to their type and written some rows at a time.
 *
 * Each piece of each tensor has a seed of its own, made of the seed and its place in the file, so
 * that lanes can draw pieces side by side, and shapes that differ in one place still share the
 * rest.
 *
 * Scales. A normed input has values around 1, so a matrix scaled by 1/sqrt(inputs) gives outputs
 * around 1. Queries get twice that: scores then have a deviation of about 2, and a softmax over
 * thousands of tokens has a few hundred that matter, neither one nor all. Logits get three times:
 * the best stands clear of rounding; routers' twice, so that some experts of a row weigh more than
 * others. A tied embedding is an output first, and small as an input. */
#include "cluster/make_random.h"

#include "cluster/make_random_blocks.h"
#include "cluster/model_keys.h"
#include "cluster/write_progress.h"
#include "kernels/quant/superblock.h"
#include "model/weights.h"
#include "sys/clock.h"
#include "sys/random.h"
#include "sys/thread_pool.h"

#include <math.h>
#include <stdlib.h>

#define QUERY_SCALE 2.0f
#define LOGIT_SCALE 3.0f
#define ROUTE_SCALE 2.0f
#define NORM_SPREAD 0.1f
#define BIAS_SPREAD 0.3f

enum { PIECE_VALUES = 1 << 18 }; /* a multiple of every block */

struct maker {
    const struct make_random_options *options;
    struct hparams hparams;
    struct gguf_writer *writer;
    struct thread_pool *pool;
    float *values;    /* one piece per lane */
    uint8_t *encoded; /* the same, in the tensor's type */
    struct write_progress progress;
    uint32_t n_tensors;
};

/* Mean 0, variance 1: the sum of four 16-bit uniform numbers of one draw. Its tails end at 3.5;
 * random_normal would take twelve draws, which is minutes for a large model. */
static float draw(struct random_state *random)
{
    const uint64_t bits = random_u64(random);
    const int32_t sum = (int32_t)((bits & 0xffff) + ((bits >> 16) & 0xffff) +
                                  ((bits >> 32) & 0xffff) + (bits >> 48)) -
                        2 * 0xffff;
    return (float)sum * (1.7320508f / 65536.0f); /* variance of a uniform number: 1/12 */
}

static float scale_of(const struct maker *maker, enum weights_id id, uint64_t n_columns)
{
    const float unit = 1.0f / sqrtf((float)n_columns);
    if (weights_is_norm(id))
        return NORM_SPREAD;
    if (weights_extent(id, 1) == WEIGHTS_NO_EXTENT)
        return BIAS_SPREAD;
    if (id == WEIGHTS_TOKEN_EMBD)
        return maker->options->tied ? LOGIT_SCALE * unit : 1.0f / maker->hparams.embedding_scale;
    if (id == WEIGHTS_ATTN_Q)
        return QUERY_SCALE * unit;
    if (id == WEIGHTS_FFN_ROUTER)
        return ROUTE_SCALE * unit;
    return id == WEIGHTS_OUTPUT ? LOGIT_SCALE * unit : unit;
}

static enum gguf_type type_of(const struct maker *maker, enum weights_id id, uint32_t layer)
{
    uint64_t dims[WEIGHTS_DIMS];
    weights_shape(&maker->hparams, id, dims);
    return mixture_fitting_type(mixture_type(maker->options->mixture, &maker->hparams, id, layer),
                                dims[0]);
}

static enum status declare(struct maker *maker, enum weights_id id, uint32_t layer,
                           struct error *error)
{
    char name[WEIGHTS_NAME_BYTES];
    uint64_t dims[WEIGHTS_DIMS], bytes = 0;
    const uint32_t n_dims = weights_shape(&maker->hparams, id, dims);
    weights_name(name, layer, id);
    const enum gguf_type type = type_of(maker, id, layer);
    const enum gguf_type wanted = mixture_type(maker->options->mixture, &maker->hparams, id, layer);
    if (type != wanted)
        log_info(maker->options->log, "%s: rows of %llu are no whole blocks of %s: it gets %s",
                 name, (unsigned long long)dims[0], gguf_type_traits(wanted)->name,
                 gguf_type_traits(type)->name);
    enum status status = gguf_tensor_bytes(&bytes, type, n_dims, dims, error);
    if (status == STATUS_OK)
        status = gguf_writer_declare(maker->writer, name, type, n_dims, dims, error);
    maker->progress.n_all += bytes;
    return status;
}

/* The pieces of a tensor that the lanes draw together, one each. */
struct drawing {
    const struct maker *maker;
    enum weight_type type;
    float scale, middle;
    uint64_t seed;        /* the tensor's; piece i has seed + i */
    uint64_t n;           /* weights of the tensor */
    uint64_t first_piece; /* lane 0's */
};

static size_t piece_values(const struct drawing *drawing, uint64_t piece)
{
    const uint64_t begin = piece * PIECE_VALUES;
    if (begin >= drawing->n)
        return 0;
    return drawing->n - begin < PIECE_VALUES ? drawing->n - begin : PIECE_VALUES;
}

static void draw_lane(void *context, uint32_t lane, uint32_t n_lanes)
{
    const struct drawing *drawing = context;
    const uint64_t piece = drawing->first_piece + lane;
    const size_t n = piece_values(drawing, piece), at = (size_t)lane * PIECE_VALUES;
    float *values = drawing->maker->values + at;
    uint8_t *encoded = drawing->maker->encoded + at * sizeof(float);
    struct random_state random;

    (void)n_lanes;
    random_seed(&random, drawing->seed + piece);
    if (superblock_holds(drawing->type)) {
        make_random_blocks(drawing->type, encoded, n, drawing->scale, &random);
        return;
    }
    for (size_t i = 0; i < n; i++)
        values[i] = drawing->middle + drawing->scale * draw(&random);
    weight_quantize(drawing->type, encoded, values, n);
}

/* Nothing is drawn of rope_freqs.weight: it is what the scaling makes of frequencies. */
static enum status write_factors(struct maker *maker, struct error *error)
{
    const struct hparams *h = &maker->hparams;
    const uint32_t n = h->rope_dims / 2;
    struct hparams without = *h;
    struct hparams_rope plain = h->rope;
    without.rope_factors = false;
    plain.scaling = ROPE_PLAIN;
    plain.factor = 1;
    double *frequencies = malloc(2 * (size_t)n * sizeof(*frequencies));
    float *factors = malloc((size_t)n * sizeof(*factors));
    enum status status = STATUS_OK;
    if (frequencies == NULL || factors == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for %u rope factors", n);
    if (status == STATUS_OK)
        status = hparams_rope_frequencies(&without, &plain, NULL, frequencies, error);
    if (status == STATUS_OK)
        status = hparams_rope_frequencies(&without, &h->rope, NULL, frequencies + n, error);
    for (uint32_t i = 0; i < n && status == STATUS_OK; i++)
        factors[i] = (float)(frequencies[i] / frequencies[n + i]);
    if (status == STATUS_OK)
        status = gguf_writer_data(maker->writer, factors, n * sizeof(*factors), error);
    free(frequencies);
    free(factors);
    return status;
}

static enum status write(struct maker *maker, enum weights_id id, uint32_t layer,
                         struct error *error)
{
    if (id == WEIGHTS_ROPE_FREQS)
        return write_factors(maker, error);
    uint64_t dims[WEIGHTS_DIMS];
    weights_shape(&maker->hparams, id, dims);
    const uint32_t n_lanes = thread_pool_lanes(maker->pool);
    const uint64_t tensor_seed = random_mix(maker->options->seed) + maker->n_tensors++;
    struct drawing drawing = {
        .maker = maker,
        .type = (enum weight_type)type_of(maker, id, layer),
        .scale = scale_of(maker, id, dims[0]),
        .middle = weights_is_norm(id) ? 1.0f : 0.0f,
        .seed = random_mix(tensor_seed),
        .n = dims[0] * dims[1] * dims[2],
    };
    enum status status = STATUS_OK;
    while (status == STATUS_OK && piece_values(&drawing, drawing.first_piece) > 0) {
        thread_pool_run(maker->pool, draw_lane, &drawing);
        for (uint32_t lane = 0; status == STATUS_OK && lane < n_lanes; lane++) {
            const size_t n = piece_values(&drawing, drawing.first_piece + lane);
            const size_t bytes = weight_row_bytes(drawing.type, (uint32_t)n);
            status = gguf_writer_data(maker->writer,
                                      maker->encoded + (size_t)lane * PIECE_VALUES * sizeof(float),
                                      bytes, error);
            write_progress_add(&maker->progress, bytes);
        }
        drawing.first_piece += n_lanes;
    }
    return status;
}

static enum status each_tensor(struct maker *maker,
                               enum status (*visit)(struct maker *, enum weights_id, uint32_t,
                                                    struct error *),
                               struct error *error)
{
    const struct hparams *h = &maker->hparams;
    enum status status = visit(maker, WEIGHTS_TOKEN_EMBD, 0, error);
    if (status == STATUS_OK && weights_has(h, WEIGHTS_ROPE_FREQS))
        status = visit(maker, WEIGHTS_ROPE_FREQS, 0, error);
    for (uint32_t layer = 0; layer < h->n_layers; layer++)
        for (int id = WEIGHTS_FIRST_OF_LAYER; status == STATUS_OK && id < WEIGHTS_COUNT; id++)
            if (weights_has(h, (enum weights_id)id))
                status = visit(maker, (enum weights_id)id, layer, error);
    if (status == STATUS_OK)
        status = visit(maker, WEIGHTS_OUTPUT_NORM, 0, error);
    if (status == STATUS_OK && weights_has(h, WEIGHTS_OUTPUT))
        status = visit(maker, WEIGHTS_OUTPUT, 0, error);
    return status;
}

/* Takes the vocabulary's size from the tokenizer, unless --shape said one that is large enough. */
static enum status choose_vocab(struct maker *maker, struct error *error)
{
    if (maker->options->tokenizer == NULL)
        return STATUS_OK;
    const char key_name[] = "tokenizer.ggml.tokens";
    const struct model_key *key = model_key_find(maker->options->tokenizer, key_name);
    if (key == NULL || key->type != GGUF_VALUE_ARRAY || key->n == 0 || key->n > UINT32_MAX)
        return error_set(error, STATUS_INVALID, "%s has no vocabulary (%s)",
                         model_path(maker->options->tokenizer), key_name);
    if (!maker->options->shape->vocab_given)
        maker->hparams.vocab = (uint32_t)key->n;
    if (maker->hparams.vocab < key->n)
        return error_set(error, STATUS_INVALID,
                         "--shape vocab=%u is less than the %llu tokens of %s",
                         maker->hparams.vocab, (unsigned long long)key->n,
                         model_path(maker->options->tokenizer));
    return STATUS_OK;
}

static enum status write_file(struct maker *maker, const char *path, struct error *error)
{
    enum status status = thread_pool_create(&maker->pool, 0, error);
    if (status != STATUS_OK)
        return status;
    const size_t n_values = (size_t)thread_pool_lanes(maker->pool) * PIECE_VALUES;
    maker->values = malloc(n_values * sizeof(float));
    maker->encoded = malloc(n_values * sizeof(float));
    if (maker->values == NULL || maker->encoded == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu weights", n_values);
    status = gguf_writer_create(&maker->writer, path, error);
    if (status == STATUS_OK)
        status = model_keys_hparams(maker->writer, &maker->hparams, error);
    if (status == STATUS_OK && maker->options->tokenizer != NULL)
        status = model_keys_copy_tokenizer(maker->writer, maker->options->tokenizer, error);
    else if (status == STATUS_OK)
        status = model_keys_byte_tokenizer(maker->writer, maker->hparams.vocab, true, error);
    if (status == STATUS_OK)
        status = mixture_add_keys(maker->options->mixture, maker->writer, error);
    if (status == STATUS_OK)
        status = each_tensor(maker, declare, error);
    if (status == STATUS_OK)
        status = each_tensor(maker, write, error);
    if (status != STATUS_OK)
        return status;
    status = gguf_writer_finish(maker->writer, error);
    maker->writer = NULL;
    return status;
}

enum status make_random(const char *path, const struct make_random_options *options,
                        struct error *error)
{
    struct maker maker = {.options = options,
                          .hparams = options->shape->hparams,
                          .progress = {.out = options->progress, .began_us = clock_us()}};
    maker.hparams.tied = options->tied;
    enum status status = choose_vocab(&maker, error);
    if (status == STATUS_OK)
        status = write_file(&maker, path, error);
    write_progress_clear(&maker.progress);
    gguf_writer_destroy(maker.writer);
    thread_pool_destroy(maker.pool);
    free(maker.values);
    free(maker.encoded);
    return status;
}
