/* bench_cases.c - lists of numbers to batches of sequences. */
#include "cluster/bench_cases.h"

#include "sys/parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NUMBERS = 1024, MOST_DEPTH = 1 << 30, MOST_BATCH = 1024 };

struct numbers {
    uint32_t values[MOST_NUMBERS];
    uint32_t n;
};

/* "1,4,16": decimal numbers between `separator`s. */
static enum status read_numbers(struct numbers *numbers, const char *name, const char *text,
                                char separator, uint32_t least, uint32_t most, struct error *error)
{
    numbers->n = 0;
    for (const char *next = text; next != NULL;) {
        char word[32];
        const char *end = strchr(next, separator);
        const size_t length = end != NULL ? (size_t)(end - next) : strlen(next);
        if (length == 0 || length >= sizeof(word) || numbers->n == MOST_NUMBERS)
            return error_set(error, STATUS_INVALID,
                             "%s: \"%.100s\" is not a list of 1 to %d numbers with %c between them",
                             name, text, MOST_NUMBERS, separator);
        memcpy(word, next, length);
        word[length] = '\0';
        const enum status status =
            parse_u32(name, word, least, most, &numbers->values[numbers->n], error);
        if (status != STATUS_OK)
            return status;
        numbers->n++;
        next = end != NULL ? end + 1 : NULL;
    }
    return STATUS_OK;
}

/* The sequences' depths are `depths`, or n times the first of them. */
static enum status add_case(struct bench_cases *cases, bool prefill, uint32_t n_tokens,
                            const uint32_t *depths, uint32_t n, bool equal, struct error *error)
{
    struct bench_case *grown = realloc(cases->cases, (cases->n + 1) * sizeof(*grown));
    uint32_t *copy = malloc(n * sizeof(*copy));
    if (grown != NULL)
        cases->cases = grown;
    if (grown == NULL || copy == NULL) {
        free(copy);
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u cases", cases->n + 1);
    }
    for (uint32_t i = 0; i < n; i++)
        copy[i] = equal ? depths[0] : depths[i];
    struct bench_case *made = &cases->cases[cases->n++];
    *made = (struct bench_case){
        .prefill = prefill, .n_sequences = n, .n_tokens = n_tokens, .depths = copy};
    snprintf(made->depth, sizeof(made->depth), "%u", copy[0]);
    return STATUS_OK;
}

static void name_ragged(struct bench_case *made, const char *text)
{
    if (strlen(text) <= 24) {
        snprintf(made->depth, sizeof(made->depth), "%s", text);
        return;
    }
    uint32_t least = UINT32_MAX, most = 0;
    for (uint32_t i = 0; i < made->n_sequences; i++) {
        least = made->depths[i] < least ? made->depths[i] : least;
        most = made->depths[i] > most ? made->depths[i] : most;
    }
    snprintf(made->depth, sizeof(made->depth), "%u from %u to %u", made->n_sequences, least, most);
}

static enum status add_uniform(struct bench_cases *cases, const struct bench_options *options,
                               struct error *error)
{
    struct numbers depths, batches;
    enum status status =
        read_numbers(&depths, "--depths", options->depths, ',', 0, MOST_DEPTH, error);
    if (status == STATUS_OK)
        status = read_numbers(&batches, "--batch", options->batches, ',', 1, MOST_BATCH, error);
    for (uint32_t i = 0; status == STATUS_OK && i < depths.n; i++) {
        const uint32_t *depth = &depths.values[i];
        if (options->prompt > 0)
            status = add_case(cases, true, options->prompt, depth, 1, true, error);
        for (uint32_t j = 0; options->n_tokens > 0 && status == STATUS_OK && j < batches.n; j++)
            status =
                add_case(cases, false, options->n_tokens, depth, batches.values[j], true, error);
    }
    return status;
}

enum status bench_cases_make(struct bench_cases *cases, const struct bench_options *options,
                             struct error *error)
{
    struct bench_cases made = {0};
    struct numbers depths;
    enum status status =
        options->depths[0] != '\0' ? add_uniform(&made, options, error) : STATUS_OK;
    for (uint32_t i = 0; status == STATUS_OK && i < options->ragged.n; i++) {
        const char *text = options->ragged.items[i].text;
        status = read_numbers(&depths, "--ragged", text, '+', 0, MOST_DEPTH, error);
        if (status == STATUS_OK)
            status =
                add_case(&made, false, options->n_tokens, depths.values, depths.n, false, error);
        if (status == STATUS_OK)
            name_ragged(&made.cases[made.n - 1], text);
    }
    if (status == STATUS_OK && made.n == 0)
        status = error_set(error, STATUS_INVALID,
                           "no depths and no ragged batch: nothing to "
                           "measure");
    if (status == STATUS_OK)
        *cases = made;
    else
        bench_cases_free(&made);
    return status;
}

void bench_cases_free(struct bench_cases *cases)
{
    for (uint32_t i = 0; i < cases->n; i++)
        free(cases->cases[i].depths);
    free(cases->cases);
    *cases = (struct bench_cases){0};
}

uint64_t bench_case_depth(const struct bench_case *bench_case)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < bench_case->n_sequences; i++)
        sum += bench_case->depths[i];
    return sum;
}

uint64_t bench_case_longest(const struct bench_case *bench_case,
                            const struct bench_options *options)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < bench_case->n_sequences; i++)
        most = bench_case->depths[i] > most ? bench_case->depths[i] : most;
    /* A decode reads one token first. */
    return most + (bench_case->prefill ? bench_case->n_tokens
                                       : 2 + BENCH_OPTIONS_WARM_UP +
                                             (uint64_t)options->runs * bench_case->n_tokens);
}
