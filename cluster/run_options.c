/* run_options.c - one table, then the rules about options that do not go together. */
#include "cluster/run_options.h"

#include "proto/shared_options.h"

#include <stdio.h>
#include <string.h>

enum { MOST_TOP_K = 1024 };

static void add_prompts(struct option_table *table, struct run_options *o)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Model and prompts"},
        place_options_model(&o->place),
        {.name = "prompt",
         .letter = 'p',
         .kind = OPTION_LIST,
         .value = &o->prompts,
         .argument = "TEXT",
         .help = "a text to continue; several prompts are computed in one batch"},
        {.name = "file",
         .letter = 'f',
         .kind = OPTION_LIST,
         .value = &o->prompts,
         .argument = "FILE",
         .help = "a whole file as one prompt; - is standard input. Each -p and "
                 "each -f is a prompt of its own"},
        {.name = "count",
         .letter = 'n',
         .kind = OPTION_U32,
         .value = &o->n_predict,
         .argument = "N",
         .fallback = "64",
         .most = PLACE_OPTIONS_MOST_TOKENS,
         .help = "most tokens to generate for each prompt; 0: until the text or the context ends"},
        place_options_ctx(&o->place),
        {.name = "ignore-eos",
         .kind = OPTION_FLAG,
         .value = &o->ignore_eos,
         .help = "go on after an end-of-text token"},
        {.name = "no-prefix-sharing",
         .kind = OPTION_FLAG,
         .value = &o->no_prefix_sharing,
         .help = "compute every prompt from its first token, even where several begin alike"},
        {.name = "fill",
         .kind = OPTION_U32,
         .value = &o->fill_tokens,
         .argument = "N",
         .most = PLACE_OPTIONS_MOST_TOKENS,
         .help = "for measuring: put N tokens before each prompt whose keys and values are not "
                 "computed but seeded random numbers (--seed)"},
        {.kind = 0}};
    option_table_add(table, options);
}

void run_options_add_sampling(struct option_table *table, struct run_options *o,
                              const char *temperature)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Sampling"},
        {.name = "temp",
         .kind = OPTION_F32,
         .value = &o->temperature,
         .argument = "T",
         .fallback = temperature,
         .least_f32 = 0,
         .most_f32 = 100,
         .help = "0 always takes the most likely token; 0.7 varies; higher is wilder"},
        {.name = "top-k",
         .kind = OPTION_U32,
         .value = &o->top_k,
         .argument = "K",
         .fallback = "40",
         .most = MOST_TOP_K,
         .help = "only the K most likely tokens, 1024 at most; 0: all"},
        {.name = "top-p",
         .kind = OPTION_F32,
         .value = &o->top_p,
         .argument = "P",
         .fallback = "0.95",
         .least_f32 = 0,
         .most_f32 = 1,
         .help = "only the most likely tokens that together have probability P; 1: all"},
        {.name = "min-p",
         .kind = OPTION_F32,
         .value = &o->min_p,
         .argument = "P",
         .fallback = "0.05",
         .least_f32 = 0,
         .most_f32 = 1,
         .help = "only tokens at least P times as likely as the best; 0: all"},
        {.name = "seed",
         .kind = OPTION_U64,
         .value = &o->seed,
         .argument = "N",
         .fallback = "0",
         .help = "the same seed, prompts and options give the same text"},
        {.kind = 0}};
    option_table_add(table, options);
}

static void add_output(struct option_table *table, struct run_options *o)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Output"},
        {.name = "json",
         .kind = OPTION_FLAG,
         .value = &o->json,
         .help = "print one JSON object at the end (a list for several prompts) instead of text"},
        {.name = "logprobs",
         .kind = OPTION_U32,
         .value = &o->n_logprobs,
         .given = &o->logprobs_given,
         .argument = "K",
         .most = RUN_OPTIONS_MOST_LOGPROBS,
         .help = "with --json: the log-probability of each token, and of the K most likely ones; "
                 "the model's, before temperature and cuts"},
        {.name = "dump-logits",
         .kind = OPTION_TEXT,
         .value = &o->dump_logits,
         .argument = "FILE",
         .help = "write raw f32 rows as wide as the vocabulary, prompt by prompt, step by step"},
        {.kind = 0}};
    option_table_add(table, options);
}

/* The table points into `o`. */
static void fill_table(struct option table[PLACE_OPTIONS_TABLE], struct run_options *o)
{
    static const struct place_options_texts texts = {
        .trace = "write where the time went, on every process, in Chrome's trace format; and print "
                 "on standard error what a decode step took",
        .dry_run = true,
        .quiet = "no progress and no summary on standard error",
        .verbose = "show the log of the started programs; twice: all of it"};
    struct option own[PLACE_OPTIONS_TABLE];
    struct option_table own_table = {.entries = own, .capacity = PLACE_OPTIONS_TABLE};
    add_prompts(&own_table, o);
    run_options_add_sampling(&own_table, o, "0");
    add_output(&own_table, o);
    place_options_table(table, own, &o->place, &texts);
}

static enum status check(struct run_options *o, struct error *error)
{
    enum status status = place_options_check(&o->place, error);
    if (status != STATUS_OK)
        return status;
    uint32_t n_stdin = 0;
    for (uint32_t i = 0; i < o->prompts.n; i++)
        n_stdin += strcmp(o->prompts.items[i].name, "file") == 0 &&
                   strcmp(o->prompts.items[i].text, "-") == 0;
    if (o->prompts.n == 0)
        return error_set(error, STATUS_INVALID,
                         "no prompt: -p TEXT or -f FILE (- is standard "
                         "input)");
    if (n_stdin > 1)
        return error_set(error, STATUS_INVALID,
                         "-f - can be given once: standard input is one "
                         "prompt");
    if (o->logprobs_given && !o->json)
        return error_set(error, STATUS_INVALID,
                         "--logprobs needs --json, which has a place for "
                         "them");
    if (o->place.coordinator != NULL && o->place.dry_run)
        return error_set(error, STATUS_INVALID,
                         "--dry-run prints what would be started; with --coordinator nothing is");
    return STATUS_OK;
}

enum status run_options_read(struct run_options *options, int argc, char **argv,
                             struct error *error)
{
    struct run_options read = {0};
    struct option table[PLACE_OPTIONS_TABLE];
    enum status status = option_list_create(&read.prompts, argc, error);
    fill_table(table, &read);
    if (status == STATUS_OK)
        status = options_parse(table, argc, argv, NULL, error);
    if (status == STATUS_OK && !read.place.help)
        status = check(&read, error);
    if (status == STATUS_OK)
        *options = read;
    else
        option_list_destroy(&read.prompts);
    return status;
}

void run_options_free(struct run_options *options)
{
    option_list_destroy(&options->prompts);
    *options = (struct run_options){0};
}

void run_options_print_help(enum options_form form)
{
    struct run_options options = {0};
    struct option table[PLACE_OPTIONS_TABLE];
    const struct option_usage usage = {
        "longspan run",
        "-m MODEL (-p TEXT | -f FILE)... [OPTION...]",
        "Continues texts with a model. Starts what is needed on this machine, starts the cluster "
        "of a file, or uses one that runs; and ends what it started. The text goes to standard "
        "output, everything else to standard error. A prompt is continued as it is, without the "
        "model's chat template: for chats see longspan chat and longspan serve.",
        .examples =
            "  longspan run -m model.gguf -p \"Once upon a time\" -n 64\n"
            "  longspan run -m model.gguf -f book.txt --ctx 131072 --pipeline 2 --attention-nodes "
            "2\n"
            "  longspan run -m model.gguf -p One -p Two --json --logprobs 5 --temp 0.7 --seed 1\n"
            "  longspan run -m model.gguf --cluster lab.yaml -f book.txt\n"
            "  longspan run --coordinator tcp://head:5600 --cluster-key lab.key -p Hello\n",
        .exit_codes = place_options_exit_codes,
        .environment = shared_options_environment};
    fill_table(table, &options);
    options_print_help(stdout, form, &usage, table);
}
