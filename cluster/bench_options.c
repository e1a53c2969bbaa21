/* bench_options.c - see bench_options.h. */
#include "cluster/bench_options.h"

#include "cluster/bench.h"
#include "proto/shared_options.h"

#include <stdio.h>
#include <string.h>

enum { MOST_PROMPT = 1 << 20, MOST_TOKENS = 100000 };

static void fill_table(struct option table[PLACE_OPTIONS_TABLE], struct bench_options *o)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Commands"},
        command_table_option(&bench_commands[0]),
        {.kind = OPTION_SECTION, .help = "What is measured"},
        place_options_model(&o->place),
        {.name = "depths",
         .letter = 'd',
         .kind = OPTION_TEXT,
         .value = &o->depths,
         .argument = "N,N...",
         .fallback = "0,4096,32768",
         .help = "tokens before the first one that is computed; their keys and values are random "
                 "numbers, which takes seconds where computing them would take minutes"},
        {.name = "prompt",
         .letter = 'p',
         .kind = OPTION_U32,
         .value = &o->prompt,
         .argument = "N",
         .most = MOST_PROMPT,
         .fallback = "512",
         .help = "prefill: prompt tokens that are read at each depth; 0: no prefill"},
        {.name = "tokens",
         .letter = 'n',
         .kind = OPTION_U32,
         .value = &o->n_tokens,
         .argument = "N",
         .most = MOST_TOKENS,
         .fallback = "16",
         .help = "decode: steps of one run; 0: no decode"},
        {.name = "batch",
         .letter = 'b',
         .kind = OPTION_TEXT,
         .value = &o->batches,
         .argument = "N,N...",
         .fallback = "1",
         .help = "decode: numbers of sequences of equal depth at once"},
        {.name = "ragged",
         .kind = OPTION_LIST,
         .value = &o->ragged,
         .argument = "N+N...",
         .help = "decode: sequences of these depths at once, such as 256+1024+32768"},
        {.name = "runs",
         .letter = 'r',
         .kind = OPTION_U32,
         .value = &o->runs,
         .argument = "N",
         .least = 1,
         .most = BENCH_OPTIONS_MOST_RUNS,
         .fallback = "5",
         .help = "runs of each row, of which the median is shown"},

        {.kind = OPTION_SECTION, .help = "Output"},
        {.name = "csv",
         .kind = OPTION_TEXT,
         .value = &o->csv,
         .argument = "FILE",
         .help = "write the rows as comma-separated values too"},
        {.name = "json",
         .kind = OPTION_TEXT,
         .value = &o->json,
         .argument = "FILE",
         .help = "write rows, memory, limits and machine as JSON too"},
        {.kind = 0}};
    static const struct place_options_texts texts = {
        .quiet = "no progress on standard error",
        .verbose = "show the log of the started programs; twice: all of it"};
    place_options_table(table, options, &o->place, &texts);
}

enum status bench_options_read(struct bench_options *options, int argc, char **argv,
                               struct error *error)
{
    struct bench_options read = {0};
    struct option table[PLACE_OPTIONS_TABLE];
    enum status status = option_list_create(&read.ragged, argc, error);
    fill_table(table, &read);
    if (status == STATUS_OK)
        status = options_parse(table, argc, argv, NULL, error);
    if (status == STATUS_OK && !read.place.help)
        status = place_options_check(&read.place, error);
    if (status == STATUS_OK && !read.place.help && read.prompt == 0 && read.n_tokens == 0)
        status =
            error_set(error, STATUS_INVALID, "--prompt 0 and --tokens 0 leave nothing to measure");
    if (read.place.prefix_cache == NULL)
        read.place.prefix_cache = "off"; /* nothing begins alike; the memory is told of what runs */
    if (status == STATUS_OK)
        *options = read;
    else
        option_list_destroy(&read.ragged);
    return status;
}

void bench_options_free(struct bench_options *options)
{
    option_list_destroy(&options->ragged);
    *options = (struct bench_options){0};
}

void bench_options_print_help(enum options_form form)
{
    struct bench_options options = {0};
    struct option table[PLACE_OPTIONS_TABLE];
    const struct option_usage usage = {
        "longspan bench",
        "-m MODEL [OPTION...]",
        "Measures prefill and decode behind contexts of several lengths, beside the limit of this "
        "hardware, which is probed before each row: the bytes of weights and KV cache that a step "
        "reads over the read bandwidth, or its arithmetic over what the processors can do, "
        "whichever takes longer; with --device cuda only the former, of the GPU's memory. Then the "
        "memory of every process. Starts and ends what is needed, "
        "like longspan run. Run nothing else meanwhile.",
        .examples =
            "  longspan bench -m model.gguf\n"
            "  longspan bench -m model.gguf -d 131072 --kv-type f16 --prompt 0\n"
            "  longspan bench -m model.gguf -d 2048 -b 1,4,16 --ragged 256+512+1024+32768\n"
            "  longspan bench -m model.gguf --attention-nodes 1 --threads 1 --json figures.json\n"
            "  longspan bench --cluster lab.yaml -m model.gguf\n",
        .exit_codes = place_options_exit_codes,
        .environment = shared_options_environment};
    fill_table(table, &options);
    options_print_help(stdout, form, &usage, table);
}
