/* bench.c - requests to one session, one after the other, and a row for each.
 *
 * The first request is short: it waits until everybody is ready. Before each case the read
 * bandwidth is probed here, while the processes sleep; a case is one request, or one per run of a
 * prefill. Times of decode steps are taken where a user would: when tokens arrive. The last request
 * is short again, after a second in which every process has told its peak memory. */
#include "cluster/bench.h"

#include "cluster/ask.h"
#include "cluster/bench_cases.h"
#include "cluster/bench_limit.h"
#include "cluster/bench_options.h"
#include "cluster/bench_probe.h"
#include "cluster/bench_steps.h"
#include "cluster/load.h"
#include "cluster/progress.h"
#include "cluster/session.h"
#include "cluster/standard_output.h"
#include "sys/clock.h"
#include "sys/file.h"
#include "sys/log.h"
#include "sys/machine.h"
#include "sys/random.h"
#include "sys/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PING_US = 1200000, /* everybody pings once a second */
    LEAST_VOCAB = 2,   /* where the model is only known elsewhere */
};

struct bench {
    struct bench_options options;
    struct log log;
    struct bench_cases cases;
    struct session session;
    struct progress progress;
    struct ask ask;
    struct result result;
    struct bench_steps steps; /* of the case that runs */
    struct bench_probe probe; /* all zeros: the cluster is elsewhere */
    struct bench_limit_model model;
    struct table *speed, *memory;
    double kv_bytes; /* the most that all holders had at once */
};

static const struct table_column speed_columns[] = {
    {.name = "phase", .width = 7},
    {.name = "sequences", .kind = TABLE_NUMBER},
    {.name = "depth", .width = 14},
    {.name = "tokens", .kind = TABLE_NUMBER},
    {.name = "ms", .width = 9, .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "min_ms", .width = 9, .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "max_ms", .width = 9, .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "tokens_s", .width = 8, .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "GB_s", .width = 6, .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "Gop_s", .width = 6, .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "read_GB_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "limit_ms", .width = 8, .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "limit_percent", .kind = TABLE_NUMBER},
    {.name = "limit_by"},
    {.name = NULL}};

static const struct table_column memory_columns[] = {
    {.name = "process", .width = 24},
    {.name = "weights_MiB", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "kv_MiB", .width = 9, .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "peak_MiB", .width = 9, .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "peak_ratio", .kind = TABLE_NUMBER, .decimals = 3},
    {.name = NULL}};

/* ---- requests -------------------------------------------------------------------------------- */

static enum status take(void *context, const struct ask_event *event, struct error *error)
{
    struct bench *bench = context;
    if (event->event->body_case == LONGSPAN__RUN_EVENT__BODY_TOKEN && bench->steps.n_steps > 0)
        bench_steps_token(&bench->steps, event->prompt, clock_us());
    if (event->event->body_case == LONGSPAN__RUN_EVENT__BODY_PLAN)
        for (size_t i = 0; i < event->event->plan->n_prompts; i++)
            if (event->event->plan->prompts[i]->n_spans == 0)
                return error_set(error, STATUS_EXHAUSTED,
                                 "the KV cache has no room for all %zu sequences at once: use "
                                 "smaller batches or depths, or more memory",
                                 event->event->plan->n_prompts);
    return STATUS_OK;
}

/* Sequences behind `depths`, each with a prompt of n_tokens, then n_predict tokens. All prompts are
 * of different tokens: which experts a row uses follows from its token. */
static enum status ask(struct bench *bench, const uint32_t *depths, uint32_t n_sequences,
                       uint32_t n_tokens, uint32_t n_predict, struct error *error)
{
    struct client_prompt *prompts = calloc(n_sequences, sizeof(*prompts));
    const uint32_t vocab = bench->model.vocab > 0 ? bench->model.vocab : LEAST_VOCAB;
    int32_t *ids = calloc((size_t)n_sequences * n_tokens, sizeof(*ids));
    enum status status = prompts == NULL || ids == NULL
                             ? error_set(error, STATUS_NO_MEMORY, "no memory for a request")
                             : STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < (size_t)n_sequences * n_tokens; i++)
        ids[i] = (int32_t)(random_mix(i) % vocab);
    for (uint32_t i = 0; status == STATUS_OK && i < n_sequences; i++)
        prompts[i] = (struct client_prompt){.ids = ids + (size_t)i * n_tokens,
                                            .n_ids = n_tokens,
                                            .fill_tokens = depths[i],
                                            .fill_seed = i};
    const struct client_request request = {.prompts = prompts,
                                           .n_prompts = n_sequences,
                                           .n_predict = n_predict,
                                           .top_p = 1,
                                           .ignore_eos = true,
                                           .no_prefix_sharing = true};
    result_close(&bench->result);
    if (status == STATUS_OK)
        status = result_open(&bench->result, n_sequences, error);
    if (status == STATUS_OK)
        status = ask_run(&bench->ask, &request, &bench->options.place, error);
    free(prompts);
    free(ids);
    return status;
}

static enum status ask_briefly(struct bench *bench, struct error *error)
{
    const uint32_t depth = 0;
    return ask(bench, &depth, 1, 1, 1, error);
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* What can be probed here, where all processes are. */
static enum status open_limits(struct bench *bench, struct error *error)
{
    const struct place_options *place = &bench->options.place;
    enum kv_type kv_type;
    if (bench->session.n_lanes == 0)
        return STATUS_OK;
    if (!kv_type_parse(&kv_type, bench->session.kv_type))
        return error_set(error, STATUS_INVALID, "there is no KV type \"%s\"",
                         bench->session.kv_type);
    enum status status = bench_limit_model_read(&bench->model, place->model, kv_type, error);
    if (status == STATUS_OK)
        status = bench_probe_open(&bench->probe, place, bench->session.n_lanes, error);
    return status;
}

static void note_machine(struct bench *bench)
{
    const struct place_options *place = &bench->options.place;
    const struct shard_cost *weights = &bench->model.weights;
    char machine[512];
    machine_describe(machine, sizeof(machine));
    table_note_text(bench->speed, "machine", machine);
    if (place->model != NULL)
        table_note_text(bench->speed, "model", place->model);
    table_note_number(bench->speed, "runs", bench->options.runs, 0);
    if (bench->session.started) {
        table_note_text(bench->speed, "kv", bench->session.kv_type);
        table_note_number(bench->speed, "workers", bench->session.n_ranks, 0);
        table_note_number(bench->speed, "tensor", place->tensor, 0);
        table_note_number(bench->speed, "attention_nodes", bench->session.n_nodes, 0);
    }
    if (bench->probe.pool == NULL)
        return;
    table_note_number(bench->speed, "lanes", bench->session.n_lanes, 0);
    if (bench->probe.device == NULL) {
        table_note_number(bench->speed, "f32_GFLOP_s", bench->probe.machine.f32_per_s / 1e9, 1);
        table_note_number(bench->speed, "int8_Gop_s", bench->probe.machine.int8_per_s / 1e9, 1);
    } else {
        table_note_text(bench->speed, "device", place->device);
    }
    table_note_number(bench->speed, "weights_GB",
                      (double)(weights->read_bytes + weights->expert_bytes) / 1e9, 3);
    if (weights->expert_bytes > 0)
        table_note_number(
            bench->speed, "weights_GB_of_a_row",
            ((double)weights->read_bytes + weights->expert_share * (double)weights->expert_bytes) /
                1e9,
            3);
    table_note_number(bench->speed, "kv_bytes_per_token", bench->model.kv_token_bytes, 0);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* `seconds`: of a decode step, or of a whole prefill. */
static void add_row(struct bench *bench, const struct bench_case *c, const struct samples *seconds)
{
    struct table *table = bench->speed;
    const double n = c->prefill ? c->n_tokens : c->n_sequences;
    const struct bench_limit limit = bench_limit_of(&bench->model, &bench->probe.machine, c);
    const bool known = bench->probe.pool != NULL;
    table_text(table, c->prefill ? "prefill" : "decode");
    table_number(table, c->n_sequences);
    table_text(table, c->depth);
    table_number(table, c->n_tokens);
    table_number(table, seconds->median * 1e3);
    table_number(table, seconds->min * 1e3);
    table_number(table, seconds->max * 1e3);
    table_number(table, n / seconds->median);
    table_number(table, known ? limit.bytes / seconds->median / 1e9 : NAN);
    table_number(table, known ? limit.operations / seconds->median / 1e9 : NAN);
    table_number(table, known ? bench->probe.machine.read_bytes_per_s / 1e9 : NAN);
    table_number(table, known ? limit.seconds * 1e3 : NAN);
    table_number(table, known ? limit.seconds / seconds->median * 100 : NAN);
    table_text(table, !known ? "-" : limit.arithmetic ? "arithmetic" : "memory");
}

static enum status run_prefill(struct bench *bench, const struct bench_case *c, double *values,
                               struct error *error)
{
    enum status status = STATUS_OK;
    for (uint32_t i = 0; status == STATUS_OK && i < bench->options.runs; i++) {
        status = ask(bench, c->depths, 1, c->n_tokens, 1, error);
        values[i] = bench->result.prefill_s;
    }
    if (status != STATUS_OK)
        return status;
    const struct samples seconds = samples_of(values, bench->options.runs);
    add_row(bench, c, &seconds);
    return STATUS_OK;
}

/* A cluster that runs has a context of its own, at whose end it stops. */
static enum status check_tokens(const struct bench *bench, const struct bench_case *c,
                                uint32_t n_steps, struct error *error)
{
    for (uint32_t i = 0; i < c->n_sequences; i++)
        if (bench->result.prompts[i].n_tokens < n_steps)
            return error_set(error, STATUS_INVALID,
                             "a sequence behind %u tokens ended after %u of %u more: the cluster's "
                             "context is too short for it (--ctx of its coordinator)",
                             c->depths[i], bench->result.prompts[i].n_tokens, n_steps);
    return STATUS_OK;
}

static enum status run_decode(struct bench *bench, const struct bench_case *c, double *values,
                              struct error *error)
{
    const uint32_t runs = bench->options.runs;
    const uint32_t n_steps = 1 + BENCH_OPTIONS_WARM_UP + runs * c->n_tokens;
    enum status status = bench_steps_open(&bench->steps, c->n_sequences, n_steps, error);
    if (status == STATUS_OK)
        status = ask(bench, c->depths, c->n_sequences, 1, n_steps, error);
    if (status == STATUS_OK)
        status = check_tokens(bench, c, n_steps, error);
    if (status == STATUS_OK) {
        const struct samples seconds =
            bench_steps_seconds(&bench->steps, BENCH_OPTIONS_WARM_UP, runs, c->n_tokens, values);
        add_row(bench, c, &seconds);
    }
    bench_steps_close(&bench->steps);
    return status;
}

static void note_kv(struct bench *bench, const struct bench_case *c)
{
    const double longer =
        c->prefill ? c->n_tokens : BENCH_OPTIONS_WARM_UP + 1.0 * bench->options.runs * c->n_tokens;
    const double tokens = (double)bench_case_depth(c) + longer * c->n_sequences;
    const double bytes = tokens * bench->model.kv_token_bytes;
    bench->kv_bytes = bytes > bench->kv_bytes ? bytes : bench->kv_bytes;
}

static enum status run_cases(struct bench *bench, struct error *error)
{
    enum status status = STATUS_OK;
    double *values = malloc(bench->options.runs * sizeof(*values));
    if (values == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u runs", bench->options.runs);
    for (uint32_t i = 0; status == STATUS_OK && i < bench->cases.n; i++) {
        const struct bench_case *c = &bench->cases.cases[i];
        if (bench->probe.pool != NULL)
            bench_probe_read(&bench->probe);
        status =
            c->prefill ? run_prefill(bench, c, values, error) : run_decode(bench, c, values, error);
        note_kv(bench, c);
        if (status == STATUS_OK)
            status = standard_output_flush(error);
    }
    free(values);
    return status;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static enum status show_memory(struct bench *bench, struct error *error)
{
    clock_sleep_us(PING_US);
    const enum status status = ask_briefly(bench, error);
    if (status != STATUS_OK)
        return status;
    const double mib = 1 << 20, kv = bench->probe.pool != NULL ? bench->kv_bytes : NAN;
    double weights = 0, peak = 0;
    putchar('\n');
    for (uint32_t i = 0; i < bench->result.n_processes; i++) {
        const struct result_process *process = &bench->result.processes[i];
        weights += (double)process->weight_bytes;
        peak += (double)process->peak_bytes;
        table_text(bench->memory, process->name);
        table_number(bench->memory, (double)process->weight_bytes / mib);
        table_number(bench->memory, NAN);
        table_number(bench->memory, (double)process->peak_bytes / mib);
        table_number(bench->memory, NAN);
    }
    table_text(bench->memory, "all, of weights + KV");
    table_number(bench->memory, weights / mib);
    table_number(bench->memory, kv / mib);
    table_number(bench->memory, peak / mib);
    table_number(bench->memory, peak / (weights + kv));
    return STATUS_OK;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Both tables in one object. */
static enum status save_json(const struct bench *bench, const char *path, struct error *error)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (stream == NULL)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for the tables", path);
    fputs("{\"speed\": ", stream);
    table_print_json(bench->speed, stream);
    fputs(", \"memory\": ", stream);
    table_print_json(bench->memory, stream);
    fputs("}\n", stream);
    const enum status status = fclose(stream) != 0
                                   ? error_set(error, STATUS_NO_MEMORY, "%s: no memory", path)
                                   : file_write(path, text, size, 0644, error);
    free(text);
    return status;
}

static enum status save(const struct bench *bench, struct error *error)
{
    enum status status = standard_output_flush(error);
    if (status == STATUS_OK)
        status = table_save(bench->memory, NULL, NULL, error);
    if (status == STATUS_OK)
        status = table_save(bench->speed, bench->options.csv, NULL, error);
    if (status == STATUS_OK && bench->options.json != NULL)
        status = save_json(bench, bench->options.json, error);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* As long as the longest case needs; a cluster that runs has its own. */
static enum status choose_context(struct bench *bench, struct error *error)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < bench->cases.n; i++) {
        const uint64_t longest = bench_case_longest(&bench->cases.cases[i], &bench->options);
        most = longest > most ? longest : most;
    }
    if (most >= 1u << 31)
        return error_set(error, STATUS_INVALID, "a sequence of %llu tokens is too long",
                         (unsigned long long)most);
    if (bench->options.place.coordinator == NULL)
        bench->options.place.ctx = (uint32_t)most;
    return STATUS_OK;
}

static enum status work(struct bench *bench, struct error *error)
{
    struct bench_options *options = &bench->options;
    enum status status = bench_cases_make(&bench->cases, options, error);
    if (status == STATUS_OK && options->csv != NULL)
        status = file_try_write(options->csv, error);
    if (status == STATUS_OK && options->json != NULL)
        status = file_try_write(options->json, error);
    if (status == STATUS_OK)
        status = choose_context(bench, error);
    if (status == STATUS_OK)
        status = table_create(&bench->speed, "bench", speed_columns, stdout, error);
    if (status == STATUS_OK)
        status = table_create(&bench->memory, "memory", memory_columns, stdout, error);
    if (status == STATUS_OK)
        status = session_open(&bench->session, &options->place, error);
    if (status != STATUS_OK)
        return status;
    progress_begin(&bench->progress,
                   isatty(2) && !options->place.quiet && options->place.verbose == 0);
    bench->ask = (struct ask){.session = &bench->session,
                              .result = &bench->result,
                              .progress = &bench->progress,
                              .texts_at_end = true,
                              .take = take,
                              .context = bench};
    status = ask_briefly(bench, error);
    if (status == STATUS_OK)
        status = open_limits(bench, error);
    if (status == STATUS_OK) {
        note_machine(bench);
        status = run_cases(bench, error);
    }
    if (status == STATUS_OK)
        status = show_memory(bench, error);
    if (status == STATUS_OK)
        status = save(bench, error);
    session_close(&bench->session, status == STATUS_OK);
    return status;
}

const struct command_entry bench_commands[] = {
    {"serve", "ask a running server as many clients would", load_main, NULL},
    {NULL, NULL, NULL, NULL},
};

int bench_main(int argc, char **argv)
{
    const struct command_entry *command =
        argc > 1 ? command_table_find(bench_commands, argv[1]) : NULL;
    if (command != NULL)
        return command->main(argc - 1, argv + 1);
    struct bench bench = {0};
    struct error error = {0};
    log_open(&bench.log, "longspan bench", 0);
    enum status status = bench_options_read(&bench.options, argc, argv, &error);
    if (status == STATUS_OK && bench.options.place.help) {
        bench_options_print_help(bench.options.place.help);
        bench_options_free(&bench.options);
        return EXIT_SUCCESS;
    }
    if (status == STATUS_OK)
        status = work(&bench, &error);
    session_close(&bench.session, false);
    if (status != STATUS_OK)
        standard_output_log_failure(&bench.log, &error);
    bench_probe_close(&bench.probe);
    table_destroy(bench.speed);
    table_destroy(bench.memory);
    result_close(&bench.result);
    bench_cases_free(&bench.cases);
    bench_options_free(&bench.options);
    if (status == STATUS_OK)
        return EXIT_SUCCESS;
    return bench.ask.exit_code != 0 ? bench.ask.exit_code : status_exit_code(status);
}
