/* make_retrieval.c - the construction of docs/retrieval-model.md, in its order.
 *
 * A tensor is computed in double, in one written order, and rounded once to F32; only operations
 * that IEEE 754 rounds correctly are used (also sqrt), so that the bytes do not depend on the host.
 */
#include "cluster/make_retrieval.h"

#include "cluster/model_keys.h"
#include "kernels/numeric.h"
#include "model/gguf_writer.h"
#include "model/weights.h"
#include "sys/random.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Shape, and where things lie in the residual stream. */
enum {
    HIDDEN = 128,
    N_LAYERS = 4,
    N_KV_HEADS = 2,
    HEAD_DIM = 32,
    FFN = 256,
    N_TOKENS = MODEL_KEYS_BOS + 1,
    CODE = 16,       /* dims of a token's code M and of the suffix code S */
    OUT_CODE = 32,   /* dims of a token's output code E */
    AT_CONSTANT = 0, /* one dim: C */
    AT_SUFFIX = 32,  /* S */
    AT_TOKEN = 48,   /* TOKEN_GAIN M[token] */
    AT_CODE = 64,    /* TOKEN_GAIN E[token] */
    AT_OUTPUT = 96,  /* what the look-up found */
    N_LADDER = 7,    /* pairs 0..6 of a head turn: a ladder of positions */
    AT_CONTENT = 16, /* dims 16..31 of a head practically do not turn: content */
};

#define CONSTANT     512.0 /* C: dominates the root mean square in layers 0 to 2 */
#define TOKEN_GAIN   0.2
#define LADDER_SCORE 80.0   /* of the wanted offset, times the number of pairs */
#define LOOKUP_SCORE 3000.0 /* of a suffix that agrees in everything */
#define DECAY        0.92   /* of a token's weight in S per step back */
#define FFN_GATE     20.0   /* silu(20) = 20 to nine digits */
#define VALUE_GAIN   20.0
#define OUTPUT_GAIN  4.0
#define LOGIT_GAIN   3.0
#define SQRT_HIDDEN  11.313708498984761 /* of 128 */
#define ROOT_HEAD    5.6568542494923806 /* of 32: scores are divided by it */
#define ROPE_BASE    281474976710656.0f /* 2^48 with 16 pairs: pair i turns by 8^-i exactly */

/* Layer, KV head -> how many tokens back it looks, and the power of the rotation it writes with. */
static const struct {
    uint32_t offset, power;
} gather[3][2] = {{{1, 0}, {2, 1}}, {{2, 2}, {4, 4}}, {{6, 6}, {12, 12}}};

struct codes {
    double token[N_TOKENS][CODE];      /* M: unit vectors */
    double output[N_TOKENS][OUT_CODE]; /* E: unit vectors */
    double rotation[CODE][CODE];       /* R: orthogonal, times DECAY */
};

/* ---- codes ----------------------------------------------------------------------------------- */

static uint32_t parity(uint32_t bits)
{
    bits ^= bits >> 16;
    bits ^= bits >> 8;
    bits ^= bits >> 4;
    return (0x6996u >> (bits & 15)) & 1;
}

/* M: the Nordstrom-Robinson code, 256 words of 16 signs of which any two agree in at most 10
 * places: inner products 1, 0.25, 0, -0.25, -1 (MacWilliams and Sloane 1977, chapter 15). As a
 * Kerdock code: a word is a quadratic form + a linear form + a constant over the 16 points of
 * GF(2)^4, and the forms are eight of which any two differ by one of full rank. BOS has none. */
static void make_token_codes(struct codes *codes)
{
    /* bits: x0x1, x0x2, x0x3, x1x2, x1x3, x2x3 */
    static const uint32_t forms[8] = {0, 12, 22, 27, 39, 41, 53, 58};
    for (uint32_t token = 0; token < 256; token++)
        for (uint32_t point = 0; point < CODE; point++) {
            uint32_t products = 0, n = 0;
            for (uint32_t a = 0; a < 4; a++)
                for (uint32_t b = a + 1; b < 4; b++)
                    products |= ((point >> a) & (point >> b) & 1) << n++;
            const uint32_t sign = parity(products & forms[token & 7]) ^
                                  parity(point & (token >> 3) & 15) ^ (token >> 7);
            codes->token[token][point] = sign != 0 ? -0.25 : 0.25;
        }
}

static uint32_t times_in_gf32(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (; b != 0; b >>= 1, a = a & 16 ? (a << 1) ^ 37 : a << 1) /* x^5 + x^2 + 1 */
        if (b & 1)
            product ^= a;
    return product;
}

static uint32_t trace_in_gf32(uint32_t a)
{
    uint32_t sum = 0;
    for (int i = 0; i < 5; i++, a = times_in_gf32(a, a))
        sum ^= a;
    return sum & 1;
}

/* E: words trace(a x + b x^3) over the 32 points of GF(32), with token = 32 b + a: any two have
 * inner product 0, 0.25 or -0.25 (Gold 1968), so that the right logit stands clear of all others.
 */
static void make_output_codes(struct codes *codes)
{
    const double unit = 1 / ROOT_HEAD;
    for (uint32_t token = 0; token < N_TOKENS; token++)
        for (uint32_t x = 0; x < OUT_CODE; x++) {
            const uint32_t cube = times_in_gf32(x, times_in_gf32(x, x));
            const uint32_t sign = trace_in_gf32(times_in_gf32(token & 31, x)) ^
                                  trace_in_gf32(times_in_gf32(token >> 5, cube));
            codes->output[token][x] = sign != 0 ? -unit : unit;
        }
}

/* R: rows of random numbers made orthonormal, one after the other (Gram-Schmidt, twice). */
static void make_rotation(struct codes *codes)
{
    struct random_state random;
    random_seed(&random, 18);
    for (uint32_t i = 0; i < CODE; i++) {
        double *row = codes->rotation[i];
        for (uint32_t k = 0; k < CODE; k++)
            row[k] = random_normal(&random);
        for (uint32_t j = 0; j < 2 * i; j++) {
            const double *other = codes->rotation[j % i];
            double dot = 0;
            for (uint32_t k = 0; k < CODE; k++)
                dot += row[k] * other[k];
            for (uint32_t k = 0; k < CODE; k++)
                row[k] -= dot * other[k];
        }
        double square = 0;
        for (uint32_t k = 0; k < CODE; k++)
            square += row[k] * row[k];
        for (uint32_t k = 0; k < CODE; k++)
            row[k] /= sqrt(square);
    }
    for (uint32_t i = 0; i < CODE; i++)
        for (uint32_t k = 0; k < CODE; k++)
            codes->rotation[i][k] *= DECAY;
}

static void rotation_power(const struct codes *codes, uint32_t power, double out[CODE][CODE])
{
    for (uint32_t i = 0; i < CODE; i++)
        for (uint32_t k = 0; k < CODE; k++)
            out[i][k] = i == k;
    for (uint32_t n = 0; n < power; n++) {
        double next[CODE][CODE] = {{0}};
        for (uint32_t i = 0; i < CODE; i++)
            for (uint32_t k = 0; k < CODE; k++)
                for (uint32_t j = 0; j < CODE; j++)
                    next[i][k] += codes->rotation[i][j] * out[j][k];
        memcpy(out, next, sizeof(next));
    }
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* Where a tensor is built: rows are outputs, zero at first. */
struct tensor {
    float *values;
    uint64_t n_columns;
};

static void put(struct tensor *tensor, uint32_t row, uint32_t column, double value)
{
    tensor->values[row * tensor->n_columns + column] = (float)value;
}

static void fill_embedding(struct tensor *tensor, const struct codes *codes)
{
    for (uint32_t token = 0; token < N_TOKENS; token++) {
        put(tensor, token, AT_CONSTANT, CONSTANT);
        for (uint32_t i = 0; i < CODE; i++)
            put(tensor, token, AT_TOKEN + i, TOKEN_GAIN * codes->token[token][i]);
        for (uint32_t i = 0; i < OUT_CODE; i++)
            put(tensor, token, AT_CODE + i, TOKEN_GAIN * codes->output[token][i]);
    }
}

static void fill_output(struct tensor *tensor, const struct codes *codes)
{
    for (uint32_t token = 0; token < N_TOKENS; token++)
        for (uint32_t i = 0; i < OUT_CODE; i++)
            put(tensor, token, AT_OUTPUT + i, LOGIT_GAIN * codes->output[token][i]);
}

/* The query turned back by `offset` tokens: its product with a key at distance d is
 * LADDER_SCORE times the sum of cos(8^-i (d - offset)), greatest at d = offset. */
static void fill_gather_query(struct tensor *tensor, uint32_t first_row, uint32_t offset)
{
    const double gain = sqrt(LADDER_SCORE * ROOT_HEAD) / SQRT_HIDDEN;
    double angle = offset;
    for (uint32_t pair = 0; pair < N_LADDER; pair++, angle /= 8) {
        double sine, cosine;
        sincos_f64(angle, &sine, &cosine);
        put(tensor, first_row + 2 * pair, AT_CONSTANT, gain * cosine);
        put(tensor, first_row + 2 * pair + 1, AT_CONSTANT, -gain * sine);
    }
}

static void fill_gather_key(struct tensor *tensor, uint32_t first_row)
{
    const double gain = sqrt(LADDER_SCORE * ROOT_HEAD) / SQRT_HIDDEN;
    for (uint32_t pair = 0; pair < N_LADDER; pair++)
        put(tensor, first_row + 2 * pair, AT_CONSTANT, gain);
}

/* Undoes the norm, whose root mean square is the constant's; layer 0 also undoes the gain of M. */
static void fill_gather_value(struct tensor *tensor, uint32_t first_row, uint32_t layer)
{
    const double gain = CONSTANT / SQRT_HIDDEN / (layer == 0 ? TOKEN_GAIN : 1);
    for (uint32_t i = 0; i < CODE; i++)
        put(tensor, first_row + i, (layer == 0 ? AT_TOKEN : AT_SUFFIX) + i, gain);
}

static void fill_gather_output(struct tensor *tensor, const struct codes *codes,
                               uint32_t first_column, uint32_t power, double share)
{
    double rotation[CODE][CODE];
    rotation_power(codes, power, rotation);
    for (uint32_t i = 0; i < CODE; i++)
        for (uint32_t k = 0; k < CODE; k++)
            put(tensor, AT_SUFFIX + i, first_column + k, share * rotation[i][k]);
}

/* The suffix that a token at p + 1 would have: R S + M. */
static void fill_lookup_query(struct tensor *tensor, const struct codes *codes, uint32_t first_row)
{
    const double gain = sqrt(LOOKUP_SCORE * ROOT_HEAD) / SQRT_HIDDEN;
    for (uint32_t i = 0; i < CODE; i++) {
        for (uint32_t k = 0; k < CODE; k++)
            put(tensor, first_row + AT_CONTENT + i, AT_SUFFIX + k, gain * codes->rotation[i][k]);
        put(tensor, first_row + AT_CONTENT + i, AT_TOKEN + i, gain / TOKEN_GAIN);
    }
}

static void fill_lookup_key(struct tensor *tensor, uint32_t first_row)
{
    const double gain = sqrt(LOOKUP_SCORE * ROOT_HEAD) / SQRT_HIDDEN;
    for (uint32_t i = 0; i < CODE; i++)
        put(tensor, first_row + AT_CONTENT + i, AT_SUFFIX + i, gain);
}

/* KV head h carries half h of E; in the content dims, of which there are just as many. */
static void fill_lookup_value(struct tensor *tensor, uint32_t first_row, uint32_t half)
{
    for (uint32_t i = 0; i < CODE; i++)
        put(tensor, first_row + AT_CONTENT + i, AT_CODE + half * CODE + i, VALUE_GAIN);
}

static void fill_lookup_output(struct tensor *tensor, uint32_t first_column, uint32_t half,
                               double share)
{
    for (uint32_t i = 0; i < CODE; i++)
        put(tensor, AT_OUTPUT + half * CODE + i, first_column + AT_CONTENT + i,
            share * OUTPUT_GAIN);
}

/* Query head h works for KV head h / group. In the layers that gather, the heads of one group look
 * at different offsets, and every offset is looked at by `group` heads that write 1/group each. */
static void fill_attention(struct tensor *tensor, const struct codes *codes, enum weights_id id,
                           uint32_t layer, uint32_t group)
{
    const bool lookup = layer == N_LAYERS - 1;
    const double share = 1.0 / group;
    if (id == WEIGHTS_ATTN_K || id == WEIGHTS_ATTN_V)
        for (uint32_t head = 0; head < N_KV_HEADS; head++) {
            const uint32_t first = head * HEAD_DIM;
            if (id == WEIGHTS_ATTN_K && lookup)
                fill_lookup_key(tensor, first);
            else if (id == WEIGHTS_ATTN_K)
                fill_gather_key(tensor, first);
            else if (lookup)
                fill_lookup_value(tensor, first, head);
            else
                fill_gather_value(tensor, first, layer);
        }
    else
        for (uint32_t head = 0; head < N_KV_HEADS * group; head++) {
            const uint32_t first = head * HEAD_DIM;
            if (id == WEIGHTS_ATTN_Q && lookup)
                fill_lookup_query(tensor, codes, first);
            else if (id == WEIGHTS_ATTN_Q)
                fill_gather_query(tensor, first, gather[layer][head % N_KV_HEADS].offset);
            else if (lookup)
                fill_lookup_output(tensor, first, head / group, share);
            else
                fill_gather_output(tensor, codes, first, gather[layer][head % N_KV_HEADS].power,
                                   share);
        }
}

/* Only before the look-up: every column gives -C/256, so that the last norms see S alone. */
static void fill_ffn(struct tensor *tensor, enum weights_id id, uint32_t layer)
{
    if (layer != N_LAYERS - 2)
        return;
    for (uint32_t i = 0; i < FFN; i++)
        if (id == WEIGHTS_FFN_DOWN)
            put(tensor, AT_CONSTANT, i, -CONSTANT / (FFN_GATE * FFN));
        else
            put(tensor, i, AT_CONSTANT, (id == WEIGHTS_FFN_GATE ? FFN_GATE : 1) / SQRT_HIDDEN);
}

static void fill(struct tensor *tensor, const struct codes *codes, enum weights_id id,
                 uint32_t layer, uint32_t group)
{
    switch (id) {
    case WEIGHTS_TOKEN_EMBD:
        fill_embedding(tensor, codes);
        break;
    case WEIGHTS_OUTPUT:
        fill_output(tensor, codes);
        break;
    case WEIGHTS_OUTPUT_NORM:
    case WEIGHTS_ATTN_NORM:
    case WEIGHTS_FFN_NORM:
        for (uint32_t i = 0; i < HIDDEN; i++)
            tensor->values[i] = 1;
        break;
    case WEIGHTS_FFN_GATE:
    case WEIGHTS_FFN_UP:
    case WEIGHTS_FFN_DOWN:
        fill_ffn(tensor, id, layer);
        break;
    default:
        fill_attention(tensor, codes, id, layer, group);
        break;
    }
}

/* ---- the file -------------------------------------------------------------------------------- */

/* First pass (data false) announces a tensor, second pass writes it. */
static enum status write_tensor(struct gguf_writer *writer, const struct codes *codes,
                                const struct hparams *hparams, enum weights_id id, uint32_t layer,
                                bool data, struct error *error)
{
    char name[WEIGHTS_NAME_BYTES];
    uint64_t dims[WEIGHTS_DIMS];
    const uint32_t n_dims = weights_shape(hparams, id, dims);
    if (!data)
        return gguf_writer_declare(writer, weights_name(name, layer, id), GGUF_TYPE_F32, n_dims,
                                   dims, error);
    const uint64_t n = dims[0] * dims[1];
    struct tensor tensor = {calloc(n, sizeof(float)), dims[0]};
    if (tensor.values == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a tensor of %llu values",
                         (unsigned long long)n);
    fill(&tensor, codes, id, layer, hparams->n_heads / hparams->n_kv_heads);
    const enum status status = gguf_writer_data(writer, tensor.values, n * sizeof(float), error);
    free(tensor.values);
    return status;
}

static enum status write_tensors(struct gguf_writer *writer, const struct codes *codes,
                                 const struct hparams *hparams, bool data, struct error *error)
{
    enum status status = write_tensor(writer, codes, hparams, WEIGHTS_TOKEN_EMBD, 0, data, error);
    for (uint32_t layer = 0; layer < hparams->n_layers; layer++)
        for (int id = WEIGHTS_FIRST_OF_LAYER; status == STATUS_OK && id < WEIGHTS_COUNT; id++)
            if (weights_has(hparams, (enum weights_id)id))
                status =
                    write_tensor(writer, codes, hparams, (enum weights_id)id, layer, data, error);
    if (status == STATUS_OK)
        status = write_tensor(writer, codes, hparams, WEIGHTS_OUTPUT_NORM, 0, data, error);
    if (status == STATUS_OK)
        status = write_tensor(writer, codes, hparams, WEIGHTS_OUTPUT, 0, data, error);
    return status;
}

enum status make_retrieval(const char *path, uint32_t group, struct error *error)
{
    if (group != 1 && group != 2)
        return error_set(error, STATUS_INVALID, "--group %u: 1 or 2 query heads share a KV head",
                         group);
    struct hparams hparams = {
        .name = "Longspan retrieval",
        .n_layers = N_LAYERS,
        .hidden = HIDDEN,
        .n_heads = N_KV_HEADS * group,
        .n_kv_heads = N_KV_HEADS,
        .head_dim = HEAD_DIM,
        .ffn = FFN,
        .vocab = N_TOKENS,
        .context_train = 1u << 20,
        .rms_eps = 1e-5f,
    };
    hparams_complete(&hparams, ARCHITECTURE_LLAMA);
    hparams.rope.base = ROPE_BASE;
    struct codes *codes = calloc(1, sizeof(*codes));
    if (codes == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the codes of tokens");
    make_token_codes(codes);
    make_output_codes(codes);
    make_rotation(codes);

    struct gguf_writer *writer = NULL;
    enum status status = gguf_writer_create(&writer, path, error);
    if (status == STATUS_OK)
        status = model_keys_hparams(writer, &hparams, error);
    if (status == STATUS_OK)
        status = model_keys_byte_tokenizer(writer, N_TOKENS, false, error);
    if (status == STATUS_OK)
        status = write_tensors(writer, codes, &hparams, false, error);
    if (status == STATUS_OK)
        status = write_tensors(writer, codes, &hparams, true, error);
    if (status == STATUS_OK)
        status = gguf_writer_finish(writer, error);
    else
        gguf_writer_destroy(writer);
    free(codes);
    return status;
}
