/* sampling.c - what the coordinator takes to choose one token of a whole row of logits.
 *
 * All workers wait meanwhile, once for each sequence of a step. The rows are noise with forty
 * likely tokens in it; settings are those of the HTTP API, whose defaults are the first line. */
#include "bench/measure/program.h"
#include "coordinator/sampler.h"
#include "sys/clock.h"
#include "sys/samples.h"

#include <stdlib.h>

static const struct table_column columns[] = {
    {.name = "settings", .width = 24},
    {.name = "vocabulary", .kind = TABLE_NUMBER},
    {.name = "check_us", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "take_us", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = NULL}};

static const struct option_usage usage = {
    .command = "sampling",
    .about = "Times how the coordinator checks a row of logits and takes a token of it: medians. "
             "One thread."};

static const struct {
    const char *name;
    struct sampler_settings settings;
} cases[] = {
    {"temperature 1", {.temperature = 1.0f, .top_p = 1.0f}},
    {"top_p 0.95", {.temperature = 1.0f, .top_p = 0.95f}},
    {"min_p 0.05", {.temperature = 1.0f, .top_p = 1.0f, .min_p = 0.05f}},
    {"penalties, top_k 40", {.temperature = 1.0f, .top_p = 1.0f, .top_k = 40, .adjusts = true}},
    {"penalties, greedy", {.top_p = 1.0f, .adjusts = true}},
};

enum { LIKELY = 40, N_TOKENS = 20 };

static void fill(float *row, uint32_t vocab, struct random_state *random)
{
    for (uint32_t i = 0; i < vocab; i++)
        row[i] = 2.0f * random_normal(random);
    for (int i = 0; i < LIKELY; i++)
        row[random_below(random, vocab)] = 8.0f + 8.0f * random_f32(random);
}

static enum status measure(struct program *program, float *row, uint32_t *scratch, uint32_t vocab,
                           size_t which, struct error *error)
{
    struct random_state random;
    struct sampler sampler;
    double check[N_TOKENS], take[N_TOKENS];
    enum status status = STATUS_OK;
    random_seed(&random, 1);
    sampler_start(&sampler, &cases[which].settings);
    for (int i = 0; i < N_TOKENS && status == STATUS_OK; i++) {
        int32_t best = 0;
        float logprob;
        fill(row, vocab, &random);
        for (uint32_t id = 0; id < vocab; id++)
            best = row[id] > row[best] ? (int32_t)id : best;
        const struct sampler_row of = {.ids = &best,
                                       .logits = &row[best],
                                       .n = 1,
                                       .vocab = vocab,
                                       .row = row,
                                       .adjusted = cases[which].settings.adjusts ? row : NULL};
        const uint64_t began_ns = clock_ns();
        status = sampler_row_check(&of, 1, error);
        const uint64_t checked_ns = clock_ns();
        sampler_take(&sampler, &of, scratch, &logprob);
        check[i] = 1e-3 * (double)(checked_ns - began_ns);
        take[i] = 1e-3 * (double)(clock_ns() - checked_ns);
    }
    if (status == STATUS_OK) {
        table_text(program->table, cases[which].name);
        table_number(program->table, vocab);
        table_number(program->table, samples_of(check, N_TOKENS).median);
        table_number(program->table, samples_of(take, N_TOKENS).median);
    }
    return status;
}

int main(int argc, char **argv)
{
    uint32_t vocab = 0;
    struct program program;
    struct error error = {.status = STATUS_OK};
    int exit_code;
    const struct option own[] = {{.name = "vocab",
                                  .kind = OPTION_U32,
                                  .value = &vocab,
                                  .argument = "N",
                                  .fallback = "151936",
                                  .least = 1,
                                  .most = 1 << 24,
                                  .help = "tokens of the vocabulary"},
                                 {.kind = 0}};
    if (!program_open(&program, &usage, own, columns, argc, argv, &exit_code))
        return exit_code;
    float *row = calloc(vocab, sizeof(*row));
    uint32_t *scratch = calloc(vocab, sizeof(*scratch));
    enum status status =
        row != NULL && scratch != NULL
            ? STATUS_OK
            : error_set(&error, STATUS_NO_MEMORY, "no memory for a row of %u logits", vocab);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]) && status == STATUS_OK; i++)
        status = measure(&program, row, scratch, vocab, i, &error);
    free(row);
    free(scratch);
    return program_close(&program, status, &error);
}
