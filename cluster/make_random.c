/* make_random.c - weights are drawn, rounded to their type and written some rows at a time.
 *
 * Each tensor has a seed of its own, made of the seed and its name's place in the file, so that
 * shapes that differ in one place still share the rest.
 *
 * Scales. A normed input has values around 1, so a matrix scaled by 1/sqrt(inputs) gives outputs
 * around 1. Queries get twice that: scores then have a deviation of about 2, and a softmax over
 * thousands of tokens has a few hundred that matter, neither one nor all. Logits get three times:
 * the best stands clear of rounding. A tied embedding is an output first, and small as an input. */
#include "cluster/make_random.h"

#include "cluster/model_keys.h"
#include "kernels/quant/types.h"
#include "model/weights.h"
#include "sys/clock.h"
#include "sys/random.h"
#include "sys/size.h"

#include <math.h>
#include <stdlib.h>

#define QUERY_SCALE 2.0f
#define LOGIT_SCALE 3.0f
#define NORM_SPREAD 0.1f

enum { PIECE_VALUES = 1 << 18, PROGRESS_US = 200000 };

struct maker {
    const struct make_random_options *options;
    struct hparams hparams;
    struct gguf_writer *writer;
    float *values;    /* one piece */
    uint8_t *encoded; /* the same, in the tensor's type */
    size_t piece_values;
    uint64_t n_written, n_all; /* bytes of tensor data */
    uint64_t shown_us;         /* when the line was last shown, at first when the work began */
    bool shown;
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

static bool is_norm(enum weights_id id)
{
    return id == WEIGHTS_ATTN_NORM || id == WEIGHTS_FFN_NORM || id == WEIGHTS_OUTPUT_NORM;
}

static float scale_of(const struct maker *maker, enum weights_id id, uint64_t n_columns)
{
    const float unit = 1.0f / sqrtf((float)n_columns);
    if (id == WEIGHTS_TOKEN_EMBD)
        return maker->options->tied ? LOGIT_SCALE * unit : 1.0f;
    if (id == WEIGHTS_ATTN_Q)
        return QUERY_SCALE * unit;
    return id == WEIGHTS_OUTPUT ? LOGIT_SCALE * unit : unit;
}

static void show_progress(struct maker *maker, bool last)
{
    FILE *out = maker->options->progress;
    const uint64_t now = clock_us();
    if (out == NULL || (!last && now - maker->shown_us < PROGRESS_US))
        return;
    char done[SIZE_TEXT_BYTES], all[SIZE_TEXT_BYTES];
    maker->shown_us = now;
    maker->shown = true;
    if (last)
        fputs("\r\033[K", out);
    else
        fprintf(out, "\rwriting %s of %s (%.0f%%)\033[K", size_format(maker->n_written, done),
                size_format(maker->n_all, all),
                100.0 * (double)maker->n_written / (double)maker->n_all);
    fflush(out);
}

static enum gguf_type type_of(const struct maker *maker, enum weights_id id)
{
    return is_norm(id) ? GGUF_TYPE_F32 : maker->options->type;
}

static enum status declare(struct maker *maker, enum weights_id id, uint32_t layer,
                           struct error *error)
{
    char name[WEIGHTS_NAME_BYTES];
    uint64_t dims[2] = {0, 1}, bytes = 0;
    const uint32_t n_dims = weights_shape(&maker->hparams, id, dims);
    weights_name(name, layer, id);
    const struct gguf_type_traits *traits = gguf_type_traits(type_of(maker, id));
    if (dims[0] % traits->block_elements != 0)
        return error_set(error, STATUS_INVALID,
                         "%s has rows of %llu values: --type %s needs multiples of %u", name,
                         (unsigned long long)dims[0], traits->name, traits->block_elements);
    enum status status = gguf_tensor_bytes(&bytes, type_of(maker, id), n_dims, dims, error);
    if (status == STATUS_OK)
        status = gguf_writer_declare(maker->writer, name, type_of(maker, id), n_dims, dims, error);
    maker->n_all += bytes;
    return status;
}

static enum status write(struct maker *maker, enum weights_id id, uint32_t layer,
                         struct error *error)
{
    (void)layer;
    uint64_t dims[2] = {0, 1};
    const uint32_t n_dims = weights_shape(&maker->hparams, id, dims);
    const uint64_t n = n_dims == 1 ? dims[0] : dims[0] * dims[1];
    const float scale = is_norm(id) ? NORM_SPREAD : scale_of(maker, id, dims[0]);
    const float middle = is_norm(id) ? 1.0f : 0.0f;
    const enum weight_type type = (enum weight_type)type_of(maker, id);
    struct random_state random;
    random_seed(&random, random_mix(maker->options->seed) + maker->n_tensors++);

    enum status status = STATUS_OK;
    for (uint64_t done = 0; status == STATUS_OK && done < n;) {
        const size_t count = n - done < maker->piece_values ? n - done : maker->piece_values;
        for (size_t i = 0; i < count; i++)
            maker->values[i] = middle + scale * draw(&random);
        weight_quantize(type, maker->encoded, maker->values, count);
        const size_t bytes = weight_row_bytes(type, (uint32_t)count);
        status = gguf_writer_data(maker->writer, maker->encoded, bytes, error);
        done += count;
        maker->n_written += bytes;
        show_progress(maker, false);
    }
    return status;
}

static enum status each_tensor(struct maker *maker,
                               enum status (*visit)(struct maker *, enum weights_id, uint32_t,
                                                    struct error *),
                               struct error *error)
{
    enum status status = visit(maker, WEIGHTS_TOKEN_EMBD, 0, error);
    for (uint32_t layer = 0; layer < maker->hparams.n_layers; layer++)
        for (int id = WEIGHTS_FIRST_OF_LAYER; status == STATUS_OK && id < WEIGHTS_COUNT; id++)
            status = visit(maker, (enum weights_id)id, layer, error);
    if (status == STATUS_OK)
        status = visit(maker, WEIGHTS_OUTPUT_NORM, 0, error);
    if (status == STATUS_OK && !maker->options->tied)
        status = visit(maker, WEIGHTS_OUTPUT, 0, error);
    return status;
}

/* Takes the vocabulary's size from the tokenizer, unless --shape said one that is large enough. */
static enum status choose_vocab(struct maker *maker, struct error *error)
{
    if (maker->options->tokenizer == NULL)
        return STATUS_OK;
    const char key_name[] = "tokenizer.ggml.tokens";
    const struct gguf_key *key = gguf_key_find(maker->options->tokenizer, key_name);
    if (key == NULL || key->type != GGUF_VALUE_ARRAY || key->n == 0 || key->n > UINT32_MAX)
        return error_set(error, STATUS_INVALID, "%s has no vocabulary (%s)",
                         gguf_path(maker->options->tokenizer), key_name);
    if (!maker->options->shape->vocab_given)
        maker->hparams.vocab = (uint32_t)key->n;
    if (maker->hparams.vocab < key->n)
        return error_set(
            error, STATUS_INVALID, "--shape vocab=%u is less than the %llu tokens of %s",
            maker->hparams.vocab, (unsigned long long)key->n, gguf_path(maker->options->tokenizer));
    return STATUS_OK;
}

static enum status write_file(struct maker *maker, const char *path, struct error *error)
{
    maker->piece_values = PIECE_VALUES; /* a multiple of every block */
    maker->values = malloc(maker->piece_values * sizeof(float));
    maker->encoded = malloc(maker->piece_values * sizeof(float));
    if (maker->values == NULL || maker->encoded == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu weights", maker->piece_values);
    enum status status = gguf_writer_create(&maker->writer, path, error);
    if (status == STATUS_OK)
        status = model_keys_hparams(maker->writer, &maker->hparams, error);
    if (status == STATUS_OK && maker->options->tokenizer != NULL)
        status = model_keys_copy_tokenizer(maker->writer, maker->options->tokenizer, error);
    else if (status == STATUS_OK)
        status = model_keys_byte_tokenizer(maker->writer, maker->hparams.vocab, true, error);
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
    struct maker maker = {
        .options = options, .hparams = options->shape->hparams, .shown_us = clock_us()};
    maker.hparams.tied = options->tied;
    enum status status = choose_vocab(&maker, error);
    if (status == STATUS_OK)
        status = write_file(&maker, path, error);
    if (maker.shown)
        show_progress(&maker, true);
    gguf_writer_destroy(maker.writer);
    free(maker.values);
    free(maker.encoded);
    return status;
}
