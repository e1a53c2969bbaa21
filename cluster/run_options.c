/* run_options.c - one table, then the rules about options that do not go together. */
#include "cluster/run_options.h"

#include "proto/address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kv_types[] = {"f16", "f32", NULL};
static const char *const kernel_names[] = {"auto", "scalar", "avx2", "avx512", NULL};

enum {
    MOST_OPTIONS = 64,
    MOST_TOKENS = 1 << 30,
    DEFAULT_JOIN_S = 60,
    DEFAULT_REACH_S = 10,
    MOST_TOP_K = 1024
};

/* The table points into `o`. */
static void fill_table(struct option table[MOST_OPTIONS], struct run_options *o)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Model and prompts"},
        {.name = "model",
         .letter = 'm',
         .kind = OPTION_TEXT,
         .value = &o->model,
         .argument = "FILE",
         .help = "the GGUF file to run"},
        {.name = "prompt",
         .letter = 'p',
         .kind = OPTION_LIST,
         .value = &o->prompts,
         .argument = "TEXT",
         .help = "a text to continue; several prompts go through one batch"},
        {.name = "file",
         .letter = 'f',
         .kind = OPTION_LIST,
         .value = &o->prompts,
         .argument = "FILE",
         .help = "a whole file as one prompt; - is standard input"},
        {.name = "count",
         .letter = 'n',
         .kind = OPTION_U32,
         .value = &o->n_predict,
         .argument = "N",
         .fallback = "64",
         .most = MOST_TOKENS,
         .help = "tokens to generate for each prompt, at most; 0: until the text or the context "
                 "ends"},
        {.name = "ctx",
         .kind = OPTION_U32,
         .value = &o->ctx,
         .argument = "N",
         .least = 1,
         .most = MOST_TOKENS,
         .help = "tokens of one sequence, prompt and answer, at most; without it as many as the "
                 "model was made for, if the KV cache has room"},
        {.name = "ignore-eos",
         .kind = OPTION_FLAG,
         .value = &o->ignore_eos,
         .help = "go on after an end-of-text token"},
        {.name = "no-prefix-sharing",
         .kind = OPTION_FLAG,
         .value = &o->no_prefix_sharing,
         .help = "compute every prompt from its first token, also where several begin alike"},
        {.name = "fill",
         .kind = OPTION_U32,
         .value = &o->fill_tokens,
         .argument = "N",
         .most = MOST_TOKENS,
         .help = "for measuring: N tokens before each prompt, of which nobody computed anything; "
                 "their keys and values are seeded random numbers (--seed)"},

        {.kind = OPTION_SECTION, .help = "Sampling"},
        {.name = "temp",
         .kind = OPTION_F32,
         .value = &o->temperature,
         .argument = "T",
         .fallback = "0",
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

        {.kind = OPTION_SECTION, .help = "Output"},
        {.name = "json",
         .kind = OPTION_FLAG,
         .value = &o->json,
         .help = "one JSON object when done (a list for several prompts) instead of text"},
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
         .help = "raw f32 rows as wide as the vocabulary, prompt by prompt, step by step"},
        {.name = "trace",
         .kind = OPTION_TEXT,
         .value = &o->trace,
         .argument = "FILE",
         .help = "where the time went, on every process, in Chrome's trace format; and on standard "
                 "error what a decode step took"},
        {.name = "quiet",
         .letter = 'q',
         .kind = OPTION_FLAG,
         .value = &o->quiet,
         .help = "no progress and no summary on standard error"},
        {.name = "verbose",
         .letter = 'v',
         .kind = OPTION_COUNT,
         .value = &o->verbose,
         .help = "show what the started programs say; twice: all that they can say"},

        {.kind = OPTION_SECTION,
         .help = "Where it runs: on this machine (without any of these: one worker on all cores)"},
        {.name = "pipeline",
         .kind = OPTION_U32,
         .value = &o->pipeline,
         .given = &o->pipeline_given,
         .argument = "N",
         .least = 1,
         .most = RUN_OPTIONS_MOST_RANKS,
         .help = "stages: the layers are cut in N ranges, one worker each"},
        {.name = "tensor",
         .kind = OPTION_U32,
         .value = &o->tensor,
         .given = &o->tensor_given,
         .argument = "N",
         .least = 1,
         .most = RUN_OPTIONS_MOST_RANKS,
         .help = "each stage's weights are cut over N workers"},
        {.name = "attention-nodes",
         .kind = OPTION_U32,
         .value = &o->attention_nodes,
         .given = &o->attention_nodes_given,
         .argument = "N",
         .most = RUN_OPTIONS_MOST_NODES,
         .help = "processes that hold the KV cache and attend over it; without, workers do"},
        {.name = "threads",
         .letter = 't',
         .kind = OPTION_U32,
         .value = &o->threads,
         .argument = "N",
         .least = 1,
         .most = 1024,
         .help = "lanes of each worker and attention node; without: a fair share of the cores"},
        {.name = "memory",
         .kind = OPTION_BYTES,
         .value = &o->memory_bytes,
         .argument = "SIZE",
         .least = 1,
         .help = "KV cache of each attention node; without: its share of most of what is free"},

        {.kind = OPTION_SECTION, .help = "Where it runs: on other machines"},
        {.name = "cluster",
         .kind = OPTION_TEXT,
         .value = &o->cluster,
         .argument = "FILE",
         .help = "start the cluster that this YAML file describes (see cluster/example.yaml)"},
        {.name = "coordinator",
         .kind = OPTION_TEXT,
         .value = &o->coordinator,
         .argument = "ADDRESS",
         .help = "use a cluster that already runs, such as tcp://head:5600"},
        {.name = "cluster-key",
         .kind = OPTION_TEXT,
         .value = &o->cluster_key,
         .argument = "FILE",
         .help = "encrypt and admit by this key (longspan keygen); needed off this machine"},
        {.name = "insecure-network",
         .kind = OPTION_FLAG,
         .value = &o->insecure_network,
         .help = "go without a key over a network that you trust"},
        {.name = "dry-run",
         .kind = OPTION_FLAG,
         .value = &o->dry_run,
         .help = "print the command lines instead of running them: the same roles, by hand"},

        {.kind = OPTION_SECTION, .help = "How it computes"},
        {.name = "kv-type",
         .kind = OPTION_CHOICE,
         .value = &o->kv_type,
         .choices = kv_types,
         .help = "numbers in the KV cache; f16 unless given"},
        {.name = "kv-memory",
         .kind = OPTION_BYTES,
         .value = &o->kv_memory_bytes,
         .argument = "SIZE",
         .least = 1,
         .help = "KV cache of each worker, when there are no attention nodes"},
        {.name = "chunk",
         .kind = OPTION_U32,
         .value = &o->chunk,
         .argument = "N",
         .least = 1,
         .most = 32768,
         .help = "prompt tokens of one step; 512 unless given"},
        {.name = "stripe",
         .kind = OPTION_U32,
         .value = &o->stripe,
         .argument = "N",
         .least = 256,
         .most = 1u << 24,
         .help = "tokens that lie together on one KV holder, 256 times a power of two; 4096 unless "
                 "given"},
        {.name = "weights",
         .kind = OPTION_TEXT,
         .value = &o->weights,
         .argument = "W,W...",
         .help = "shares of the attention nodes; measured unless given"},
        {.name = "kernels",
         .kind = OPTION_CHOICE,
         .value = &o->kernels,
         .choices = kernel_names,
         .help = "variant of the numeric code; the fastest unless given"},
        {.name = "strict-bits",
         .kind = OPTION_FLAG,
         .value = &o->strict_bits,
         .help = "refuse processes with another variant, instead of relying on variants having the "
                 "same bits"},

        {.kind = OPTION_SECTION, .help = "Waiting"},
        {.name = "join-timeout",
         .kind = OPTION_U32,
         .value = &o->join_timeout_s,
         .argument = "S",
         .least = 1,
         .most = 86400,
         .help = "seconds until every process must have joined (60; with --coordinator 10: until "
                 "it must have answered)"},
        {.name = "timeout",
         .kind = OPTION_U32,
         .value = &o->timeout_s,
         .argument = "S",
         .least = 1,
         .most = 86400,
         .help = "seconds until an attention node must have answered a query"},
        {.name = "help",
         .letter = 'h',
         .kind = OPTION_FLAG,
         .value = &o->help,
         .help = "this text"},
        {.kind = 0}};
    _Static_assert(sizeof(options) / sizeof(options[0]) <= MOST_OPTIONS, "the table fits");
    memcpy(table, options, sizeof(options));
}

/* Options that describe a cluster have no meaning for one that is described elsewhere. */
static enum status check_place(const struct run_options *o, struct error *error)
{
    const struct {
        bool given;
        const char *name;
        bool with_cluster; /* allowed with --cluster: it overrides the file */
    } layout[] = {
        {o->model != NULL, "-m", true},
        {o->pipeline_given, "--pipeline", true},
        {o->tensor_given, "--tensor", true},
        {o->attention_nodes_given, "--attention-nodes", false},
        {o->threads != 0, "--threads", false},
        {o->memory_bytes != 0, "--memory", false},
        {o->weights != NULL, "--weights", false},
        {o->kv_type != NULL, "--kv-type", true},
        {o->kv_memory_bytes != 0, "--kv-memory", true},
        {o->stripe != 0, "--stripe", true},
        {o->chunk != 0, "--chunk", true},
        {o->ctx != 0, "--ctx", true},
        {o->kernels != NULL, "--kernels", true},
        {o->strict_bits, "--strict-bits", true},
        {o->timeout_s != 0, "--timeout", true},
        {o->trace != NULL, "--trace", true},
    };
    if (o->cluster != NULL && o->coordinator != NULL)
        return error_set(error, STATUS_INVALID,
                         "--cluster starts a cluster, --coordinator uses one that runs: say one of "
                         "them");
    for (size_t i = 0; i < sizeof(layout) / sizeof(layout[0]); i++) {
        if (layout[i].given && o->coordinator != NULL)
            return error_set(
                error, STATUS_INVALID,
                "%s has no effect on the cluster at %s, which already runs: give it to "
                "that cluster's programs, or leave it away",
                layout[i].name, o->coordinator);
        if (layout[i].given && o->cluster != NULL && !layout[i].with_cluster)
            return error_set(error, STATUS_INVALID,
                             "%s is for a cluster on this machine: with "
                             "--cluster, %s says it",
                             layout[i].name, o->cluster);
    }
    if (o->coordinator != NULL) {
        const enum status status =
            address_check(o->coordinator, o->cluster_key != NULL, o->insecure_network, error);
        if (status != STATUS_OK)
            return status;
    } else if (o->model == NULL) {
        return error_set(error, STATUS_INVALID,
                         "which model? -m FILE names a GGUF file (longspan run --help)");
    }
    if (o->coordinator != NULL && o->dry_run)
        return error_set(error, STATUS_INVALID,
                         "--dry-run prints what would be started; with --coordinator nothing is");
    return STATUS_OK;
}

static enum status check(struct run_options *o, struct error *error)
{
    enum status status = check_place(o, error);
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
    if ((uint64_t)o->pipeline * o->tensor > RUN_OPTIONS_MOST_RANKS)
        return error_set(error, STATUS_INVALID,
                         "--pipeline %u x --tensor %u are more than %d "
                         "workers",
                         o->pipeline, o->tensor, RUN_OPTIONS_MOST_RANKS);
    if (o->memory_bytes != 0 && o->attention_nodes == 0)
        return error_set(error, STATUS_INVALID,
                         "--memory is for attention nodes, and there are none: say --kv-memory for "
                         "the workers, or --attention-nodes N");
    if (o->weights != NULL && o->attention_nodes == 0)
        return error_set(error, STATUS_INVALID,
                         "--weights is for attention nodes, and there are "
                         "none: say --attention-nodes N");
    if (o->join_timeout_s == 0)
        o->join_timeout_s = o->coordinator != NULL ? DEFAULT_REACH_S : DEFAULT_JOIN_S;
    return STATUS_OK;
}

enum status run_options_read(struct run_options *options, int argc, char **argv,
                             struct error *error)
{
    struct run_options read = {.pipeline = 1, .tensor = 1};
    struct option table[MOST_OPTIONS];
    read.prompt_items = calloc((size_t)argc, sizeof(*read.prompt_items));
    if (read.prompt_items == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for options");
    read.prompts = (struct option_list){.items = read.prompt_items, .capacity = (uint32_t)argc};
    fill_table(table, &read);
    enum status status = options_parse(table, argc, argv, NULL, error);
    if (status == STATUS_OK && !read.help)
        status = check(&read, error);
    if (status == STATUS_OK)
        *options = read;
    else
        free(read.prompt_items);
    return status;
}

void run_options_free(struct run_options *options)
{
    free(options->prompt_items);
    *options = (struct run_options){0};
}

void run_options_print_help(void)
{
    struct run_options options = {0};
    struct option table[MOST_OPTIONS];
    const struct option_usage usage = {
        "longspan run", "-m MODEL (-p TEXT | -f FILE)... [OPTION...]",
        "Continues texts with a model. Starts what is needed on this machine, or the cluster of a "
        "file, or uses one that runs, and ends what it started. The text goes to standard output, "
        "everything else to standard error."};
    fill_table(table, &options);
    options_print_help(stdout, &usage, table);
    fputs(
        "\nExamples:\n"
        "  longspan run -m model.gguf -p \"Once upon a time\" -n 64\n"
        "  longspan run -m model.gguf -f book.txt --ctx 131072 --pipeline 2 --attention-nodes 2\n"
        "  longspan run -m model.gguf -p One -p Two --json --logprobs 5 --temp 0.7 --seed 1\n"
        "  longspan run -m model.gguf --cluster lab.yaml -f book.txt\n"
        "  longspan run --coordinator tcp://head:5600 --cluster-key lab.key -p Hello\n"
        "\nExit codes: 0 done; 2 bad usage or input; 3 something could not be started or reached; "
        "4 failed\nwhile running; 128 + N ended by signal N (130 is Ctrl-C).\n",
        stdout);
}
