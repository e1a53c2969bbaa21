/* place_options.c - the table, a function for each section of the help; then the rules about
 * options that do not go together. */
#include "cluster/place_options.h"

#include "kernels/kernels.h"
#include "plan/run_options.h"
#include "proto/address.h"
#include "proto/shared_options.h"

#include <string.h>

enum { DEFAULT_JOIN_S = 60, DEFAULT_REACH_S = 10 };

const char place_options_exit_codes[] =
    "0 done; 2 bad usage or input; 3 something could not be started or reached; 4 failed while "
    "running; 128 + N ended by signal N (130 is Ctrl-C).";

static const char *const weights_choices[] = {"local", "push", NULL};

struct option place_options_model(struct place_options *o)
{
    return (struct option){
        .name = "model",
        .letter = 'm',
        .kind = OPTION_TEXT,
        .value = &o->model,
        .argument = "MODEL",
        .help = "the model: a GGUF file, any part of one that is split, or a Hugging Face "
                "directory",
        .is_main = true};
}

struct option place_options_ctx(struct place_options *o)
{
    return (struct option){.name = "ctx",
                           .letter = 'c',
                           .kind = OPTION_U32,
                           .value = &o->ctx,
                           .argument = "N",
                           .least = 1,
                           .most = PLACE_OPTIONS_MOST_TOKENS,
                           .otherwise = "what the model was made for, if the KV cache has room",
                           .help = "most tokens of one sequence, prompt and answer together"};
}

static void add_output(struct option_table *table, struct place_options *o,
                       const struct place_options_texts *texts)
{
    const struct option options[] = {
        {.name = "trace",
         .kind = OPTION_TEXT,
         .value = &o->trace,
         .argument = "FILE",
         .help = texts->trace},
        {.name = "dry-run",
         .kind = OPTION_FLAG,
         .value = &o->dry_run,
         .help = texts->dry_run ? "print the command lines that would start the same processes by "
                                  "hand, and start nothing"
                                : NULL},
        {.name = "quiet",
         .letter = 'q',
         .kind = OPTION_FLAG,
         .value = &o->quiet,
         .help = texts->quiet},
        {.name = "verbose",
         .letter = 'v',
         .kind = OPTION_COUNT,
         .value = &o->verbose,
         .help = texts->verbose},
    };
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        const struct option one[] = {options[i], {.kind = 0}};
        if (one[0].help != NULL)
            option_table_add(table, one);
    }
}

static void add_this_machine(struct option_table *table, struct place_options *o)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION,
         .help = "Where it runs: on this machine (without any of these: one worker on all cores)"},
        {.name = "pipeline",
         .kind = OPTION_U32,
         .value = &o->pipeline,
         .given = &o->pipeline_given,
         .argument = "N",
         .least = 1,
         .most = PLACE_OPTIONS_MOST_RANKS,
         .otherwise = "1",
         .help = "pipeline stages: the layers are cut in N ranges, one for each stage"},
        {.name = "tensor",
         .kind = OPTION_U32,
         .value = &o->tensor,
         .given = &o->tensor_given,
         .argument = "N",
         .least = 1,
         .most = PLACE_OPTIONS_MOST_RANKS,
         .otherwise = "1",
         .help = "workers of each stage: its weights are cut over them"},
        {.name = "attention-nodes",
         .kind = OPTION_U32,
         .value = &o->attention_nodes,
         .given = &o->attention_nodes_given,
         .argument = "N",
         .most = PLACE_OPTIONS_MOST_NODES,
         .otherwise = "0",
         .help = "processes that hold the KV cache and attend over it; 0: the workers do both"},
        {.name = "threads",
         .letter = 't',
         .kind = OPTION_U32,
         .value = &o->threads,
         .argument = "N",
         .least = 1,
         .most = 1024,
         .otherwise = "a fair share of the cores",
         .help = "lanes of each worker and attention node"},
        {.name = "memory",
         .kind = OPTION_BYTES,
         .value = &o->memory_bytes,
         .argument = "SIZE",
         .least = 1,
         .otherwise = "its share of most of what is free",
         .help = "KV cache of each attention node"},
        {.kind = 0}};
    option_table_add(table, options);
}

static void add_other_machines(struct option_table *table, struct place_options *o,
                               const struct place_options_texts *texts)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Where it runs: on other machines"},
        {.name = "cluster",
         .kind = OPTION_TEXT,
         .value = &o->cluster,
         .argument = "FILE",
         .help = "start the cluster that this YAML file describes; example.yaml explains one (in "
                 "cluster/, installed in share/longspan/)"},
        {.name = "weights",
         .kind = OPTION_CHOICE,
         .value = &o->weights,
         .choices = weights_choices,
         .argument = "local|push",
         .otherwise = "as the cluster file says",
         .help = "local: the model is at the same path on every machine; push: this machine sends "
                 "it to each one that lacks it, where it is kept"},
        {.name = "coordinator",
         .kind = OPTION_TEXT,
         .value = &o->coordinator,
         .argument = "ADDRESS",
         .help = texts->only_starts ? NULL
                                    : "use a cluster that already runs, such as tcp://head:5600"},
        shared_options_cluster_key(&o->cluster_key),
        shared_options_insecure_network(&o->insecure_network),
        {.kind = 0}};
    option_table_add(table, options);
}

static void add_cache(struct option_table *table, struct place_options *o)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "KV cache"},
        option_passed_on(run_option(RUN_OPTION_KV_TYPE, &o->kv_type)),
        {.name = "kv-memory",
         .kind = OPTION_BYTES,
         .value = &o->kv_memory_bytes,
         .argument = "SIZE",
         .least = 1,
         .otherwise = "what memory allows",
         .help = "KV cache of each worker, when there are no attention nodes"},
        {.name = "kv-store",
         .kind = OPTION_TEXT,
         .value = &o->kv_store,
         .argument = "DIR",
         .help = "attention nodes also keep it on disk, each in a folder of DIR under its own "
                 "name, and find it again after a restart"},
        {.name = "kv-store-bytes",
         .kind = OPTION_BYTES,
         .value = &o->kv_store_bytes,
         .argument = "SIZE",
         .least = 1,
         .otherwise = "64 GiB",
         .help = "the most that the files of one node take"},
        option_passed_on(run_option(RUN_OPTION_PREFIX_CACHE, &o->prefix_cache)),
        option_passed_on(run_option(RUN_OPTION_STRIPE, &o->stripe)),
        option_passed_on(run_option(RUN_OPTION_SHARES, &o->shares)),
        {.kind = 0}};
    option_table_add(table, options);
}

static void add_computing(struct option_table *table, struct place_options *o)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "How it computes"},
        option_passed_on(run_option(RUN_OPTION_CHUNK, &o->chunk)),
        option_passed_on(run_option(RUN_OPTION_STEP_TARGET_MS, &o->step_target_ms)),
        option_passed_on(shared_options_pin(&o->pin)),
        {.name = "device",
         .kind = OPTION_TEXT,
         .value = &o->device,
         .argument = "cpu|cuda[:N]",
         .otherwise = "cpu; a cluster file names one for each",
         .help = "where workers and attention nodes compute and have their memory"},
        {.name = "kernels",
         .kind = OPTION_CHOICE,
         .value = &o->kernels,
         .choices = kernels_names,
         .otherwise = "auto",
         .help = "variant of the numeric code. auto: the fastest of those with equal results. "
                 "bf16: F32, F16 and BF16 weights and their factors are rounded to bf16, which "
                 "reads prompts faster and changes results a little. cuda-blas: the same for "
                 "prompts on GPUs, by cuBLASLt"},
        option_passed_on(shared_options_exchange(&o->exchange)),
        {.name = "strict-bits",
         .kind = OPTION_FLAG,
         .value = &o->strict_bits,
         .help = "refuse processes with different variants, instead of relying on these having the "
                 "same bits"},
        {.kind = 0}};
    option_table_add(table, options);
}

static void add_waiting(struct option_table *table, struct place_options *o)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Waiting"},
        {.name = "join-timeout",
         .kind = OPTION_U32,
         .value = &o->join_timeout_s,
         .argument = "S",
         .least = 1,
         .most = 86400,
         .otherwise = "60; with --coordinator 10",
         .help = "seconds within which all processes must have joined; with --coordinator, within "
                 "which it must have answered"},
        option_passed_on(run_option(RUN_OPTION_TIMEOUT, &o->timeout_s)),
        options_help(&o->help),
        {.kind = 0}};
    option_table_add(table, options);
}

void place_options_table(struct option entries[PLACE_OPTIONS_TABLE], const struct option *own,
                         struct place_options *o, const struct place_options_texts *texts)
{
    struct option_table table = {.entries = entries, .capacity = PLACE_OPTIONS_TABLE};
    option_table_add(&table, own);
    add_output(&table, o, texts);
    add_this_machine(&table, o);
    add_other_machines(&table, o, texts);
    add_cache(&table, o);
    add_computing(&table, o);
    add_waiting(&table, o);
}

/* Options that describe a cluster have no meaning for one that is described elsewhere. */
static enum status check_where(const struct place_options *o, struct error *error)
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
        {o->shares != NULL, "--shares", false},
        {o->weights != NULL, "--weights", true},
        {o->device != NULL, "--device", false},
        {o->kv_type != NULL, "--kv-type", true},
        {o->kv_memory_bytes != 0, "--kv-memory", true},
        {o->stripe != 0, "--stripe", true},
        {o->chunk != 0, "--chunk", true},
        {o->step_target_ms != 0, "--step-target-ms", true},
        {o->prefix_cache != NULL, "--prefix-cache", true},
        {o->kv_store != NULL, "--kv-store", true},
        {o->kv_store_bytes != 0, "--kv-store-bytes", true},
        {o->ctx != 0, "--ctx", true},
        {o->pin != NULL, "--pin", true},
        {o->kernels != NULL, "--kernels", true},
        {o->exchange != NULL, "--exchange", true},
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
        return error_set(
            error, STATUS_INVALID,
            "which model? -m MODEL names a GGUF file or a Hugging Face directory (--help lists "
            "all options)");
    }
    return STATUS_OK;
}

enum status place_options_check(struct place_options *o, struct error *error)
{
    const enum status status = check_where(o, error);
    if (status != STATUS_OK)
        return status;
    if (!o->pipeline_given)
        o->pipeline = 1;
    if (!o->tensor_given)
        o->tensor = 1;
    if ((uint64_t)o->pipeline * o->tensor > PLACE_OPTIONS_MOST_RANKS)
        return error_set(error, STATUS_INVALID,
                         "--pipeline %u x --tensor %u are more than %d workers", o->pipeline,
                         o->tensor, PLACE_OPTIONS_MOST_RANKS);
    if (!kernels_device_is_name(o->device))
        return error_set(error, STATUS_INVALID, "--device %s: say cpu, cuda or cuda:N", o->device);
    if (o->kernels != NULL && o->cluster == NULL && !kernels_suit_device(o->kernels, o->device))
        return error_set(error, STATUS_INVALID,
                         "--kernels %s is not a variant of --device %s: cuda-blas is of GPUs, the "
                         "other ones of CPUs",
                         o->kernels, o->device != NULL ? o->device : "cpu");
    if (o->memory_bytes != 0 && o->attention_nodes == 0)
        return error_set(error, STATUS_INVALID,
                         "--memory is for attention nodes, and there are none: say --kv-memory for "
                         "the workers, or --attention-nodes N");
    if (o->kv_store != NULL && o->attention_nodes == 0 && o->cluster == NULL)
        return error_set(error, STATUS_INVALID,
                         "--kv-store is for attention nodes, and there are none: say "
                         "--attention-nodes N");
    if (o->shares != NULL && o->attention_nodes == 0)
        return error_set(error, STATUS_INVALID,
                         "--shares is for attention nodes, and there are none: say "
                         "--attention-nodes N");
    if (o->weights != NULL && o->cluster == NULL)
        return error_set(error, STATUS_INVALID,
                         "--weights %s is for the other machines of a cluster: say --cluster FILE "
                         "(what attention nodes hold is --shares)",
                         o->weights);
    if (o->join_timeout_s == 0)
        o->join_timeout_s = o->coordinator != NULL ? DEFAULT_REACH_S : DEFAULT_JOIN_S;
    return STATUS_OK;
}
