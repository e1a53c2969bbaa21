/* hparams_rope.c - frequencies as base^(-2i/n) = 2^(-2i log2(base) / n), with a log2 and an exp2 of
 * our own: a C library's pow may differ in the last bit between machines, and positions of a
 * million multiply that bit. Both split off the power of two exactly; what is left runs through a
 * series short enough to read, so a base 2^48 over 16 pairs gives exactly 8^-i. */
#include "model/hparams.h"

#include <math.h>
#include <string.h>

#define LN2    0.693147180559945309417
#define TWO_PI 6.28318530717958647693

/* log2 of a normal x > 0: exponent + 2 atanh((m - 1) / (m + 1)) / ln 2, m in [sqrt(1/2), sqrt(2)).
 * |t| < 0.172, so the term t^27 / 27 is below 2^-70. */
static double log2_exact(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    bits = (bits & 0xfffffffffffffu) | (uint64_t)1023 << 52;
    double m;
    memcpy(&m, &bits, sizeof(m)); /* [1, 2) */
    if (m > 1.41421356237309504880) {
        m /= 2;
        exponent++;
    }
    const double t = (m - 1) / (m + 1), t2 = t * t;
    double sum = 0;
    for (int k = 25; k >= 1; k -= 2)
        sum = sum * t2 + 1.0 / k;
    return exponent + 2 * t * sum / LN2;
}

/* 2^x for -1000 < x <= 0: the whole part goes to the exponent, the rest, |f| <= 1/2, through
 * the series of e^(f ln 2); its term 18 is below 2^-80. */
static double exp2_exact(double x)
{
    int whole = (int)(x - 0.5); /* truncation of a negative number: rounds to nearest */
    const double f = (x - whole) * LN2;
    double sum = 1;
    for (int k = 18; k >= 1; k--)
        sum = 1 + f * sum / k;
    const uint64_t bits = (uint64_t)(1023 + whole) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof(scale));
    return sum * scale;
}

double hparams_yarn_growth(double factor, double weight)
{
    return factor > 1 ? 1 + 0.1 * weight * (log2_exact(factor) * LN2) : 1;
}

/* The pair, as a real number, that makes so many turns within the original context. */
static double pair_of_turns(const struct hparams_rope *rope, double n_dims, double turns)
{
    return n_dims * log2_exact(rope->original_context / (turns * TWO_PI)) /
           (2 * log2_exact(rope->base));
}

static double within(double least, double x, double most)
{
    return x < least ? least : x > most ? most : x;
}

/* How much of a pair's frequency is kept: 1 whole, 0 divided by the factor. */
struct ramp {
    enum rope_scaling scaling;
    double low, high; /* pairs, or turns */
};

static struct ramp make_ramp(const struct hparams_rope *rope, uint32_t n_dims)
{
    struct ramp ramp = {.scaling = rope->scaling, .low = rope->slow, .high = rope->fast};
    if (rope->scaling == ROPE_YARN) {
        ramp.low = within(0, floor(pair_of_turns(rope, n_dims, rope->fast)), n_dims);
        ramp.high = within(0, ceil(pair_of_turns(rope, n_dims, rope->slow)), n_dims - 1);
        if (ramp.high <= ramp.low)
            ramp.high = ramp.low + 0.001; /* a step */
    }
    return ramp;
}

static double kept(const struct hparams_rope *rope, const struct ramp *ramp, uint32_t pair,
                   double frequency)
{
    if (ramp->scaling == ROPE_YARN)
        return 1 - within(0, (pair - ramp->low) / (ramp->high - ramp->low), 1);
    const double turns = rope->original_context * frequency / TWO_PI;
    return ramp->scaling == ROPE_LLAMA3
               ? within(0, (turns - ramp->low) / (ramp->high - ramp->low), 1)
               : 0;
}

static enum status read_factors(const float **factors, const struct model_file *file, uint32_t n,
                                struct error *error)
{
    const struct model_tensor *tensor = model_tensor_find(file, "rope_freqs.weight");
    if (tensor == NULL || tensor->type != GGUF_TYPE_F32 || tensor->n_dims != 1 ||
        tensor->dims[0] != n)
        return error_set(error, STATUS_INVALID,
                         "%s: rope_freqs.weight is missing or not F32 of %u elements",
                         model_path(file), n);
    const float *values = tensor->data; /* aligned: only GGUF files have this tensor */
    for (uint32_t i = 0; i < n; i++)
        if (!(values[i] > 0 && values[i] <= 1e30f)) /* also NaN */
            return error_set(error, STATUS_INVALID,
                             "%s: factor %u in rope_freqs.weight is %g; it must be positive",
                             model_path(file), i, (double)values[i]);
    *factors = values;
    return STATUS_OK;
}

enum status hparams_rope_frequencies(const struct hparams *hparams, const struct hparams_rope *rope,
                                     const struct model_file *file, double *out,
                                     struct error *error)
{
    const uint32_t n = hparams->rope_dims / 2;
    const float *factors = NULL;
    if (hparams->rope_factors && rope != &hparams->local_rope) {
        const enum status status = read_factors(&factors, file, n, error);
        if (status != STATUS_OK)
            return status;
    }
    const double log2_base = log2_exact(rope->base);
    const struct ramp ramp = make_ramp(rope, hparams->rope_dims);
    for (uint32_t i = 0; i < n; i++) {
        const double plain = exp2_exact(-(log2_base * (2 * i)) / hparams->rope_dims);
        const double keep = kept(rope, &ramp, i, plain);
        out[i] = keep < 1 ? plain / rope->factor * (1 - keep) + plain * keep : plain;
        if (factors != NULL)
            out[i] /= (double)factors[i];
    }
    return STATUS_OK;
}
