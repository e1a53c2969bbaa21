/* plan_options.c - see plan_options.h. */
#include "cluster/plan_options.h"

#include "plan/defaults.h"
#include "proto/shared_options.h"

#include <stdio.h>
#include <string.h>

static void fill_table(struct option table[PLACE_OPTIONS_TABLE], struct plan_options *o)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "What is planned"},
        place_options_model(&o->place),
        place_options_ctx(&o->place),
        {.name = "max-batch",
         .kind = OPTION_U32,
         .value = &o->max_batch,
         .argument = "N",
         .fallback = DEFAULTS_TEXT(DEFAULTS_MAX_BATCH),
         .least = 1,
         .most = 4096,
         .help = "sequences at once"},
        {.name = "probe",
         .kind = OPTION_FLAG,
         .value = &o->probe,
         .help =
             "measure what the cluster file does not say: how fast each host reads memory and "
             "computes, how much memory is free there, and the round trip to it. Other machines "
             "are asked through ssh, as by run and serve. Takes seconds; run nothing else "
             "meanwhile"},
        {.name = "json",
         .kind = OPTION_FLAG,
         .value = &o->json,
         .help = "one JSON object instead of tables (docs/operations.md)"},
        {.kind = 0}};
    static const struct place_options_texts texts = {.quiet = "no progress on standard error",
                                                     .only_starts = true};
    place_options_table(table, options, &o->place, &texts);
}

enum status plan_options_read(struct plan_options *options, int argc, char **argv,
                              struct error *error)
{
    *options = (struct plan_options){0};
    struct option table[PLACE_OPTIONS_TABLE];
    fill_table(table, options);
    const enum status status = options_parse(table, argc, argv, NULL, error);
    if (status != STATUS_OK || options->place.help)
        return status;
    if (options->place.coordinator != NULL)
        return error_set(error, STATUS_INVALID,
                         "plan is about a cluster that does not run yet; longspan status "
                         "--coordinator %s tells of one that does",
                         options->place.coordinator);
    return place_options_check(&options->place, error);
}

void plan_options_print_help(enum options_form form)
{
    struct plan_options options = {0};
    struct option table[PLACE_OPTIONS_TABLE];
    const struct option_usage usage = {
        "longspan plan",
        "-m MODEL [OPTION...]",
        "Tells what a cluster would hold and how fast it would be, before anything starts: which "
        "layers, heads and experts each worker has, how much memory that needs, how many tokens "
        "and sequences fit, what runs out first, what crosses each link, how long a token and a "
        "prompt take. It divides the model as run and serve do, takes their options, and reads "
        "only the model's headers. Speeds come from the cluster file (hosts:) or from --probe; "
        "what neither tells is shown as unknown.",
        .examples =
            "  longspan plan -m model.gguf --probe                     is this machine enough?\n"
            "  longspan plan -m model.gguf --cluster lab.yaml --ctx 131072 --kv-type q8_0\n",
        .notes =
            "In lab.yaml, beside workers and attention_nodes (example.yaml, as above, has all "
            "keys):\n"
            "  hosts:\n"
            "    - {host: gpu01, device: cuda, memory: 80GiB, read_GB_s: 3000, link_Gbit_s: 100, "
            "rtt_us: 20}\n"
            "    - {host: mem01, memory: 768GiB, read_GB_s: 300, f32_GFLOP_s: 4000, int8_Gop_s: "
            "9000,\n"
            "       processors: 64, link_Gbit_s: 25, rtt_us: 40}\n",
        .exit_codes =
            "0 it fits, or that is unknown; 2 bad usage or input, or it does not fit (the reason "
            "and the remedy are told); 3 a host could not be reached (--probe).",
        .environment = shared_options_environment};
    fill_table(table, &options);
    options_print_help(stdout, form, &usage, table);
}
