/* penalties.c - see penalties.h: a count for each token of the vocabulary, and a list of those that
 * occurred, so that a row costs what was said and not what could be. */
#include "coordinator/penalties.h"

#include <math.h>
#include <stdlib.h>

#define MOST             100.0f
#define LEAST_REPETITION 0.01f

struct penalties {
    struct penalties_settings settings;
    uint32_t *counts; /* [vocab] in the answer */
    bool *seen;       /* [vocab] is in `list` */
    int32_t *list;    /* [vocab] distinct tokens of prompt and answer */
    uint32_t n_list;
};

static bool in_range(float value)
{
    return value >= -MOST && value <= MOST; /* NaN is not */
}

enum status penalties_check(const struct penalties_settings *settings, uint32_t vocab,
                            struct error *error)
{
    if (!in_range(settings->presence) || !in_range(settings->frequency))
        return error_set(error, STATUS_INVALID,
                         "penalties %g (presence) and %g (frequency): must be from %g to %g",
                         (double)settings->presence, (double)settings->frequency, -(double)MOST,
                         (double)MOST);
    if (!(settings->repetition == 0.0f ||
          (settings->repetition >= LEAST_REPETITION && settings->repetition <= MOST)))
        return error_set(error, STATUS_INVALID,
                         "repetition penalty %g: must be from %g to %g, 1 is none",
                         (double)settings->repetition, (double)LEAST_REPETITION, (double)MOST);
    for (size_t i = 0; i < settings->n_biases; i++) {
        const struct penalties_bias *bias = &settings->biases[i];
        if (bias->id < 0 || (uint32_t)bias->id >= vocab)
            return error_set(error, STATUS_INVALID,
                             "bias for token %d, which is outside the vocabulary of %u", bias->id,
                             vocab);
        if (!in_range(bias->bias))
            return error_set(error, STATUS_INVALID, "bias %g for token %d: must be from %g to %g",
                             (double)bias->bias, bias->id, -(double)MOST, (double)MOST);
    }
    return STATUS_OK;
}

static bool repeats(const struct penalties_settings *settings)
{
    return settings->repetition != 0.0f && settings->repetition != 1.0f;
}

bool penalties_needed(const struct penalties_settings *settings)
{
    return settings->presence != 0.0f || settings->frequency != 0.0f || repeats(settings) ||
           settings->n_biases > 0;
}

static void see(struct penalties *p, int32_t id)
{
    if (p->seen[id])
        return;
    p->seen[id] = true;
    p->list[p->n_list++] = id;
}

enum status penalties_create(struct penalties **penalties,
                             const struct penalties_settings *settings, uint32_t vocab,
                             const int32_t *prompt, size_t n_prompt, struct error *error)
{
    struct penalties *p = calloc(1, sizeof(*p));
    if (p == NULL || (p->counts = calloc(vocab, sizeof(*p->counts))) == NULL ||
        (p->seen = calloc(vocab, sizeof(*p->seen))) == NULL ||
        (p->list = calloc(vocab, sizeof(*p->list))) == NULL) {
        penalties_destroy(p);
        return error_set(error, STATUS_NO_MEMORY, "no memory for penalties of %u tokens", vocab);
    }
    p->settings = *settings;
    for (size_t i = 0; repeats(settings) && i < n_prompt; i++)
        see(p, prompt[i]);
    *penalties = p;
    return STATUS_OK;
}

void penalties_destroy(struct penalties *penalties)
{
    if (penalties == NULL)
        return;
    free(penalties->counts);
    free(penalties->seen);
    free(penalties->list);
    free(penalties);
}

void penalties_count(struct penalties *penalties, int32_t id)
{
    penalties->counts[id]++;
    see(penalties, id);
}

void penalties_apply(const struct penalties *penalties, float *logits)
{
    const struct penalties_settings *settings = &penalties->settings;
    const float repetition = repeats(settings) ? settings->repetition : 1.0f;
    for (uint32_t i = 0; i < penalties->n_list; i++) {
        const int32_t id = penalties->list[i];
        const float count = (float)penalties->counts[id];
        float logit = logits[id];
        logit = logit > 0.0f ? logit / repetition : logit * repetition;
        if (count > 0.0f)
            logit -= fmaf(settings->frequency, count, settings->presence);
        logits[id] = logit;
    }
    for (size_t i = 0; i < settings->n_biases; i++)
        logits[settings->biases[i].id] += settings->biases[i].bias;
}
