/* plan.c - reads, asks plan/, prints. */
#include "cluster/plan.h"

#include "cluster/cluster_file.h"
#include "cluster/layout.h"
#include "cluster/plan_facts.h"
#include "cluster/plan_json.h"
#include "cluster/plan_options.h"
#include "cluster/plan_probe.h"
#include "cluster/plan_report.h"
#include "cluster/standard_output.h"
#include "kernels/quant/kv_type.h"
#include "model/weights.h"
#include "plan/defaults.h"
#include "sys/log.h"

#include <stdio.h>
#include <stdlib.h>

/* Everything that a plan is made of. */
struct plan {
    struct plan_options options;
    struct cluster_file cluster;
    struct layout layout;
    struct model_file *file;
    struct hparams hparams;
    struct capacity capacity;
    struct plan_facts facts;
};

static enum status read_model(struct plan *plan, struct error *error)
{
    enum status status = model_open(&plan->file, plan->options.place.model, error);
    if (status == STATUS_OK)
        status = hparams_read(&plan->hparams, plan->file, error);
    return status == STATUS_OK ? weights_check(plan->file, &plan->hparams, error) : status;
}

static enum status read_cluster(struct plan *plan, struct error *error)
{
    const struct place_options *place = &plan->options.place;
    enum status status = STATUS_OK;
    if (place->cluster != NULL)
        status = cluster_file_read(&plan->cluster, place->cluster, error);
    return status == STATUS_OK ? layout_place(&plan->layout, place,
                                              place->cluster != NULL ? &plan->cluster : NULL, error)
                               : status;
}

static enum status divide(struct plan *plan, struct error *error)
{
    const struct place_options *place = &plan->options.place;
    const struct layout *layout = &plan->layout;
    struct capacity_options options = {.workers = layout->n_ranks,
                                       .nodes = layout->n_nodes,
                                       .pipeline = layout->pipeline,
                                       .tensor = layout->tensor,
                                       .ctx = place->ctx,
                                       .chunk = place->chunk > 0 ? place->chunk : DEFAULTS_CHUNK,
                                       .kv_memory = layout->kv_memory_bytes};
    const char *kv_type = layout->kv_type != NULL ? layout->kv_type : DEFAULTS_KV_TYPE;
    if (!kv_type_parse(&options.kv_type, kv_type))
        return error_set(error, STATUS_INVALID, "there is no KV type \"%s\"", kv_type);
    return capacity_open(&plan->capacity, &options, &plan->hparams, plan->file, error);
}

static enum status print(const json_t *json, bool as_json, struct error *error)
{
    if (!as_json)
        plan_report_print(stdout, json);
    else if (json_dumpf(json, stdout, JSON_INDENT(2)) == 0)
        fputc('\n', stdout);
    return standard_output_flush(error);
}

/* A plan that does not fit is printed, and is a failure. */
static enum status tell(const struct plan *plan, struct error *error)
{
    const struct plan_json_input input = {.file = plan->file,
                                          .hparams = &plan->hparams,
                                          .layout = &plan->layout,
                                          .facts = &plan->facts,
                                          .capacity = &plan->capacity,
                                          .probed = plan->options.probe,
                                          .max_batch = plan->options.max_batch,
                                          .stripe = plan->layout.stripe > 0 ? plan->layout.stripe
                                                                            : DEFAULTS_STRIPE};
    struct error does_not_fit = {0};
    json_t *json = NULL;
    enum status status = plan_json(&json, &input, &does_not_fit, error);
    if (status == STATUS_OK)
        status = print(json, plan->options.json, error);
    json_decref(json);
    return status == STATUS_OK && does_not_fit.status != STATUS_OK
               ? error_set(error, does_not_fit.status, "it does not fit: %s", does_not_fit.text)
               : status;
}

static enum status work(struct plan *plan, struct error *error)
{
    enum status status = read_model(plan, error);
    if (status == STATUS_OK)
        status = read_cluster(plan, error);
    if (status == STATUS_OK)
        status = divide(plan, error);
    if (status == STATUS_OK)
        status =
            plan_facts_read(&plan->facts, &plan->layout,
                            plan->options.place.cluster != NULL ? &plan->cluster : NULL, error);
    if (status == STATUS_OK && plan->options.probe)
        status = plan_probe(&plan->facts, &plan->layout, plan->options.place.quiet, error);
    if (status == STATUS_OK)
        status = plan_facts_apply(&plan->facts, &plan->layout, plan->options.place.shares,
                                  &plan->capacity, error);
    return status == STATUS_OK ? tell(plan, error) : status;
}

int plan_main(int argc, char **argv)
{
    struct plan plan = {0};
    struct log log;
    struct error error = {0};
    log_open(&log, "longspan plan", 0);
    enum status status = plan_options_read(&plan.options, argc, argv, &error);
    if (status == STATUS_OK && plan.options.place.help) {
        plan_options_print_help(plan.options.place.help);
        return EXIT_SUCCESS;
    }
    if (status == STATUS_OK)
        status = work(&plan, &error);
    plan_facts_free(&plan.facts);
    capacity_close(&plan.capacity);
    model_close(plan.file);
    layout_free(&plan.layout);
    cluster_file_free(&plan.cluster);
    if (status == STATUS_OK)
        return EXIT_SUCCESS;
    standard_output_log_failure(&log, &error);
    return status_exit_code(status);
}
