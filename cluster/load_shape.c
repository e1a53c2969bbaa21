/* load_shape.c - see load_shape.h. */
#include "cluster/load_shape.h"

#include "sys/parse.h"

#include <math.h>
#include <string.h>

enum { MOST_TOKENS = 1 << 24 };

/* Mean prompt and output lengths of the traces that Lamina was measured with (arXiv
 * 2405.01814v2). */
static const struct {
    const char *name;
    double prompt, output;
} presets[] = {
    {"azure-conv", 1154.7, 211.1},
    {"azure-code", 2047.8, 27.9},
    {"kimi-conv", 12035.1, 342.6},
    {"kimi-ta", 8560.0, 182.1},
};

const char *load_shape_presets(void)
{
    return "  azure-conv  1154.7 prompt tokens, 211.1 answered\n"
           "  azure-code  2047.8 prompt tokens, 27.9 answered\n"
           "  kimi-conv   12035.1 prompt tokens, 342.6 answered\n"
           "  kimi-ta     8560.0 prompt tokens, 182.1 answered\n";
}

enum status load_shape_read(struct load_shape *shape, const char *text, struct error *error)
{
    for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++)
        if (strcmp(presets[i].name, text) == 0) {
            shape->prompt = presets[i].prompt;
            shape->output = presets[i].output;
            return STATUS_OK;
        }
    const char *colon = strchr(text, ':');
    char word[32];
    float prompt, output;
    if (colon == NULL || (size_t)(colon - text) >= sizeof(word))
        return error_set(error, STATUS_INVALID,
                         "--prompts %.100s: no file, no trace, and not PROMPT:OUTPUT, such as "
                         "1000:200",
                         text);
    memcpy(word, text, (size_t)(colon - text));
    word[colon - text] = '\0';
    enum status status = parse_f32("--prompts", word, 1, MOST_TOKENS, &prompt, error);
    if (status == STATUS_OK)
        status = parse_f32("--prompts", colon + 1, 1, MOST_TOKENS, &output, error);
    if (status != STATUS_OK)
        return status;
    shape->prompt = prompt;
    shape->output = output;
    return STATUS_OK;
}

static double exponential(double mean, struct random_state *random)
{
    return -mean * log1p(-random_f64(random)); /* random_f64 is below 1 */
}

uint32_t load_shape_draw(enum load_spread spread, double mean, struct random_state *random)
{
    double length = mean;
    if (spread == LOAD_EXPONENTIAL)
        length = fmin(exponential(mean, random), LOAD_SHAPE_MOST_MEANS * mean);
    else if (spread == LOAD_UNIFORM)
        length = mean * (0.5 + random_f64(random));
    return length < 1.0 ? 1 : (uint32_t)lround(length);
}

double load_shape_gap(double rate, struct random_state *random)
{
    return rate > 0.0 ? exponential(1.0 / rate, random) : 0.0;
}

void load_shape_prompt(int32_t *ids, uint32_t n, uint32_t n_common, const int32_t *pool,
                       size_t n_pool, uint64_t seed, struct random_state *random)
{
    struct random_state common;
    random_seed(&common, random_mix(seed));
    for (uint32_t i = 0; i < n; i++)
        ids[i] = pool[random_below(i < n_common ? &common : random, n_pool)];
}
