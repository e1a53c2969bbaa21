/* load_options.c - see load_options.h. */
#include "cluster/load_options.h"

#include "proto/server_options.h"
#include "proto/shared_options.h"
#include "sys/parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_OPTIONS = 24, MOST_TOKENS = 1 << 24 };

static const char *const spreads[] = {"exponential", "uniform", "fixed", NULL};

struct words {
    const char *rates, *spread;
};

static void add_server(struct option_table *table, struct load_options *o)
{
    const struct option options[] = {{.kind = OPTION_SECTION, .help = "Server"},
                                     {.name = "url",
                                      .kind = OPTION_TEXT,
                                      .value = &o->url,
                                      .argument = "URL",
                                      .fallback = "http://127.0.0.1:8080",
                                      .help = "any server with OpenAI's /v1/completions"},
                                     {.name = "api-key-file",
                                      .kind = OPTION_TEXT,
                                      .value = &o->api_key_file,
                                      .argument = "FILE",
                                      .otherwise = SERVER_OPTIONS_API_KEY,
                                      .help = "the key is its first line"},
                                     {.name = "model",
                                      .letter = 'm',
                                      .kind = OPTION_TEXT,
                                      .value = &o->model,
                                      .argument = "NAME",
                                      .otherwise = "the first that the server lists",
                                      .help = "the model to ask"},
                                     {.kind = 0}};
    option_table_add(table, options);
}

static void add_load(struct option_table *table, struct load_options *o, struct words *w)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Load"},
        {.name = "rate",
         .letter = 'r',
         .kind = OPTION_TEXT,
         .value = &w->rates,
         .argument = "R,R...",
         .fallback = "1",
         .help = "requests per second (Poisson arrivals), one run for each; 0: all at once"},
        {.name = "prompts",
         .letter = 'p',
         .kind = OPTION_TEXT,
         .value = &o->prompts,
         .argument = "FILE|TRACE|P:N",
         .fallback = "azure-conv",
         .help = "one prompt a line; or random words: means of a published trace, or P prompt and "
                 "N answered tokens"},
        {.name = "lengths",
         .kind = OPTION_CHOICE,
         .value = &w->spread,
         .argument = "SPREAD",
         .fallback = "exponential",
         .choices = spreads,
         .help = "how random lengths lie around their means: exponential (cut at 8 means), uniform "
                 "(half to one and a half), fixed"},
        {.name = "common",
         .kind = OPTION_U32,
         .value = &o->n_common,
         .argument = "N",
         .most = MOST_TOKENS,
         .help =
             "the first N tokens of all random prompts are the same: what a prefix cache is for"},
        {.name = "requests",
         .letter = 'n',
         .kind = OPTION_U32,
         .value = &o->n_requests,
         .argument = "N",
         .fallback = "100",
         .least = 1,
         .most = 10000000,
         .help = "of each run"},
        {.name = "output",
         .kind = OPTION_U32,
         .value = &o->output,
         .argument = "N",
         .fallback = "128",
         .least = 1,
         .most = MOST_TOKENS,
         .help = "tokens answered to each line of a file"},
        {.name = "until-eos",
         .kind = OPTION_FLAG,
         .value = &o->until_eos,
         .help = "let the model end answers earlier; otherwise the server is asked to go on"},
        {.name = "seed",
         .letter = 's',
         .kind = OPTION_U64,
         .value = &o->seed,
         .argument = "N",
         .fallback = "1",
         .help = "of lengths, words and arrivals"},
        {.name = "timeout",
         .kind = OPTION_U32,
         .value = &o->timeout_s,
         .argument = "S",
         .fallback = "600",
         .least = 1,
         .most = 86400,
         .help = "seconds for one request"},
        {.kind = 0}};
    option_table_add(table, options);
}

static void add_output(struct option_table *table, struct load_options *o)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Output"},
        {.name = "csv",
         .kind = OPTION_TEXT,
         .value = &o->csv,
         .argument = "FILE",
         .help = "write one row for each rate as comma-separated values too"},
        {.name = "json",
         .kind = OPTION_TEXT,
         .value = &o->json,
         .argument = "FILE",
         .help = "write them as JSON too"},
        {.name = "quiet",
         .letter = 'q',
         .kind = OPTION_FLAG,
         .value = &o->quiet,
         .help = "no progress on standard error"},
        options_help(&o->help),
        {.kind = 0}};
    option_table_add(table, options);
}

static void fill_table(struct option entries[MOST_OPTIONS], struct load_options *o, struct words *w)
{
    struct option_table table = {.entries = entries, .capacity = MOST_OPTIONS};
    add_server(&table, o);
    add_load(&table, o, w);
    add_output(&table, o);
}

static enum status read_rates(struct load_options *o, const char *text, struct error *error)
{
    for (const char *next = text; next != NULL;) {
        char word[32];
        float rate;
        const char *end = strchr(next, ',');
        const size_t length = end != NULL ? (size_t)(end - next) : strlen(next);
        if (length == 0 || length >= sizeof(word) || o->n_rates == LOAD_OPTIONS_MOST_RATES)
            return error_set(error, STATUS_INVALID,
                             "--rate %.100s is not a list of 1 to %d numbers, such as 0.5,1,2",
                             text, LOAD_OPTIONS_MOST_RATES);
        memcpy(word, next, length);
        word[length] = '\0';
        const enum status status = parse_f32("--rate", word, 0, 1e6f, &rate, error);
        if (status != STATUS_OK)
            return status;
        o->rates[o->n_rates++] = rate;
        next = end != NULL ? end + 1 : NULL;
    }
    return STATUS_OK;
}

enum status load_options_read(struct load_options *options, int argc, char **argv,
                              struct error *error)
{
    struct load_options read = {0};
    struct words words = {0};
    struct option table[MOST_OPTIONS];
    fill_table(table, &read, &words);
    enum status status = options_parse(table, argc, argv, NULL, error);
    if (status == STATUS_OK && !read.help)
        status = read_rates(&read, words.rates, error);
    for (int i = 0; status == STATUS_OK && spreads[i] != NULL; i++)
        if (strcmp(words.spread, spreads[i]) == 0)
            read.spread = (enum load_spread)i;
    if (status == STATUS_OK)
        *options = read;
    return status;
}

void load_options_print_help(enum options_form form)
{
    struct load_options options = {0};
    struct words words = {0};
    struct option table[MOST_OPTIONS];
    char *traces = NULL;
    if (asprintf(&traces, "Traces, by their means:\n%s", load_shape_presets()) < 0)
        traces = NULL;
    const struct option_usage usage = {
        "longspan bench serve",
        "[OPTION...]",
        "Asks a running server as many clients would, and tells what they saw: time to first "
        "token, time between tokens, throughput, errors. Requests come at random times whether or "
        "not earlier ones have ended: a server that is too slow for the rate shows it by times "
        "that grow with the number of requests.",
        .notes = traces,
        .examples =
            "  longspan bench serve --rate 2 --prompts azure-conv --requests 200\n"
            "  longspan bench serve --url http://head:8080 --rate 0.5,1,2 --prompts 12000:340\n"
            "  longspan bench serve --rate 0 --prompts questions.txt --output 64 --json "
            "result.json\n",
        .exit_codes = "0, also when requests failed; 2 bad usage; 3 nobody answers there; 4 no "
                      "request was answered.",
        .environment = shared_options_client_environment};
    fill_table(table, &options, &words);
    options_print_help(stdout, form, &usage, table);
    free(traces);
}
