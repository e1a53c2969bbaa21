/* place_options.c - one table, then the rules about options that do not go together. */
#include "cluster/place_options.h"

#include "kernels/kernels.h"
#include "kernels/quant/kv_type.h"
#include "plan/defaults.h"
#include "proto/address.h"
#include "proto/shared_options.h"

#include <assert.h>
#include <string.h>

enum { DEFAULT_JOIN_S = 60, DEFAULT_REACH_S = 10, MOST_OUTPUT = 4 };

static const char *const switches[] = {"on", "off", NULL};
static const char *const weights_choices[] = {"local", "push", NULL};

struct option place_options_model(struct place_options *o)
{
    return (struct option){
        .name = "model",
        .letter = 'm',
        .kind = OPTION_TEXT,
        .value = &o->model,
        .argument = "MODEL",
        .help =
            "the model: a GGUF file, any part of one that is split, or a Hugging Face directory"};
}

struct option place_options_ctx(struct place_options *o)
{
    return (struct option){
        .name = "ctx",
        .kind = OPTION_U32,
        .value = &o->ctx,
        .argument = "N",
        .least = 1,
        .most = PLACE_OPTIONS_MOST_TOKENS,
        .help = "tokens of one sequence, prompt and answer, at most; without it as many as the "
                "model was made for, if the KV cache has room"};
}

static size_t add_output(struct option *table, size_t n, struct place_options *o,
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
         .help = texts->dry_run
                     ? "print the command lines instead of running them: the same roles, by hand"
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
    _Static_assert(sizeof(options) / sizeof(options[0]) == MOST_OUTPUT, "all of them");
    for (size_t i = 0; i < MOST_OUTPUT; i++)
        if (options[i].help != NULL)
            table[n++] = options[i];
    return n;
}

static void add_places(struct option *table, size_t n, struct place_options *o,
                       const struct place_options_texts *texts)
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
         .help = "stages: the layers are cut in N ranges, one worker each"},
        {.name = "tensor",
         .kind = OPTION_U32,
         .value = &o->tensor,
         .given = &o->tensor_given,
         .argument = "N",
         .least = 1,
         .most = PLACE_OPTIONS_MOST_RANKS,
         .help = "each stage's weights are cut over N workers"},
        {.name = "attention-nodes",
         .kind = OPTION_U32,
         .value = &o->attention_nodes,
         .given = &o->attention_nodes_given,
         .argument = "N",
         .most = PLACE_OPTIONS_MOST_NODES,
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
        {.name = "weights",
         .kind = OPTION_CHOICE,
         .value = &o->weights,
         .choices = weights_choices,
         .argument = "local|push",
         .help =
             "local: the model is at the same path on every machine; push: this one sends it to "
             "each that lacks it, which keeps it; as the cluster file says unless given"},
        {.name = "coordinator",
         .kind = OPTION_TEXT,
         .value = &o->coordinator,
         .argument = "ADDRESS",
         .help = texts->only_starts ? NULL
                                    : "use a cluster that already runs, such as tcp://head:5600"},
        shared_options_cluster_key(&o->cluster_key),
        shared_options_insecure_network(&o->insecure_network),

        {.kind = OPTION_SECTION, .help = "How it computes"},
        {.name = "kv-type",
         .kind = OPTION_CHOICE,
         .value = &o->kv_type,
         .choices = kv_type_choices,
         .help = "numbers in the KV cache; " DEFAULTS_KV_TYPE " unless given"},
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
         .help = "prompt tokens of one step; " DEFAULTS_TEXT(DEFAULTS_CHUNK) " unless given"},
        {.name = "step-target-ms",
         .kind = OPTION_U32,
         .value = &o->step_target_ms,
         .argument = "MS",
         .least = 1,
         .most = 3600000,
         .help = "time between the tokens of an answer while other prompts are read: a step has as "
                 "many prompt tokens, --chunk at most, as fit"},
        {.name = "kv-store",
         .kind = OPTION_TEXT,
         .value = &o->kv_store,
         .argument = "DIR",
         .help = "attention nodes keep it on disk too, each in a folder of DIR that is called "
                 "after it, and "
                 "find it again after a restart"},
        {.name = "kv-store-bytes",
         .kind = OPTION_BYTES,
         .value = &o->kv_store_bytes,
         .argument = "SIZE",
         .least = 1,
         .help = "of each node's files, at most; 64 GiB unless given"},
        {.name = "prefix-cache",
         .kind = OPTION_CHOICE,
         .value = &o->prefix_cache,
         .choices = switches,
         .argument = "on|off",
         .help = "keep what was computed, as long as nobody needs its memory, for prompts that "
                 "begin alike; on unless given"},
        {.name = "stripe",
         .kind = OPTION_U32,
         .value = &o->stripe,
         .argument = "N",
         .least = 256,
         .most = 1u << 24,
         .help =
             "tokens that lie together on one KV holder, 256 times a power of two; " DEFAULTS_TEXT(
                 DEFAULTS_STRIPE) " unless given"},
        {.name = "shares",
         .kind = OPTION_TEXT,
         .value = &o->shares,
         .argument = "W,W...",
         .help = "shares of the attention nodes; measured unless given"},
        shared_options_pin(&o->pin, NULL),
        {.name = "device",
         .kind = OPTION_TEXT,
         .value = &o->device,
         .argument = "cpu|cuda[:N]",
         .help =
             "what workers and attention nodes compute on, and have their memory in; cpu unless "
             "given. A cluster file says it for each"},
        {.name = "kernels",
         .kind = OPTION_CHOICE,
         .value = &o->kernels,
         .choices = kernels_names,
         .help = "variant of the numeric code; the fastest of equal results unless given. bf16: "
                 "weights of F32, "
                 "F16 and BF16, and what they are multiplied with, are rounded to bf16; prompts "
                 "are read "
                 "faster, results differ a little. cuda-blas: the same of prompts on GPUs, by "
                 "cuBLASLt"},
        shared_options_exchange(&o->exchange, NULL),
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
        options_help(&o->help),
        {.kind = 0}};
    _Static_assert(PLACE_OPTIONS_MOST_OWN + MOST_OUTPUT + sizeof(options) / sizeof(options[0]) <=
                       PLACE_OPTIONS_TABLE,
                   "the table fits");
    memcpy(table + n, options, sizeof(options));
}

void place_options_table(struct option table[PLACE_OPTIONS_TABLE], const struct option *own,
                         size_t n, struct place_options *o, const struct place_options_texts *texts)
{
    assert(n <= PLACE_OPTIONS_MOST_OWN);
    memcpy(table, own, n * sizeof(*own));
    add_places(table, add_output(table, n, o, texts), o, texts);
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
