/* command_line.c - the table of options, a function for each section of the help; then what the
 * words mean. */
#include "coordinator/command_line.h"

#include "kernels/kernels.h"
#include "plan/run_options.h"
#include "plan/shares.h"
#include "proto/address.h"
#include "proto/server_options.h"
#include "proto/shared_options.h"
#include "sys/options.h"

#include <stdlib.h>
#include <string.h>

enum {
    MOST_OPTIONS = 64,
    /* Until a connection that ended is given up. A socket in the file system ends with its
     * process. */
    LOST_IPC_MS = 500,
    LOST_TCP_MS = 2000,
    SILENCE_MS = 20000
};

static const struct option_usage usage = {
    .command = "coordinator",
    .words = "--model FILE [OPTION...]",
    .about =
        "The control process of a Longspan cluster: it waits for the workers and attention nodes "
        "that it was told to expect, plans who holds what, and serves HTTP clients and `longspan "
        "run --coordinator`. It runs until SIGINT or SIGTERM; the workers then end too.",
    .examples =
        "A cluster by hand, one terminal each:\n"
        "  coordinator -m model.gguf --workers 2 --attention-nodes 1\n"
        "  mpirun -n 2 --bind-to none --oversubscribe worker --coordinator tcp://127.0.0.1:5600\n"
        "  attention_node --coordinator tcp://127.0.0.1:5600 --memory 4GiB\n"
        "  longspan run --coordinator tcp://127.0.0.1:5600 -p \"Once upon a time\"\n",
    .exit_codes = "0 stopped; 2 bad usage or input; 3 somebody did not join; 4 failed while "
                  "running.",
    .environment = shared_options_environment};

/* ---- the table ------------------------------------------------------------------------------- */

static void add_cluster(struct option_table *table, struct command_line *line)
{
    struct coordinator_options *o = &line->options;
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Cluster"},
        {.name = "listen",
         .kind = OPTION_TEXT,
         .value = &o->listen,
         .argument = "ADDR",
         .fallback = "tcp://127.0.0.1:5600",
         .help = "where everybody joins: tcp://HOST:PORT or ipc://PATH; an address that other "
                 "hosts reach needs --cluster-key or --insecure-network"},
        {.name = "workers",
         .kind = OPTION_U32,
         .value = &o->workers,
         .argument = "W",
         .fallback = "1",
         .least = 1,
         .most = 4096,
         .help = "MPI ranks to wait for"},
        {.name = "attention-nodes",
         .kind = OPTION_U32,
         .value = &o->nodes,
         .argument = "M",
         .fallback = "0",
         .most = 1024,
         .help = "attention nodes to wait for; 0: the workers hold the KV cache themselves"},
        {.name = "join-timeout",
         .kind = OPTION_U32,
         .value = &line->join_s,
         .argument = "S",
         .fallback = "60",
         .least = 1,
         .most = 86400,
         .help = "seconds within which all of them must have joined"},
        shared_options_cluster_key(&o->cluster_key),
        shared_options_insecure_network(&o->insecure_network),
        {.kind = 0}};
    option_table_add(table, options);
}

static void add_plan(struct option_table *table, struct command_line *line)
{
    struct coordinator_options *o = &line->options;
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Model and plan"},
        {.name = "model",
         .letter = 'm',
         .kind = OPTION_TEXT,
         .value = &o->model,
         .argument = "MODEL",
         .help = "a GGUF file, any part of one that is split, or a Hugging Face directory; workers "
                 "open the same path and check that it is the same model"},
        {.name = "pipeline",
         .kind = OPTION_U32,
         .value = &o->pipeline,
         .argument = "P",
         .least = 1,
         .most = 4096,
         .otherwise = "workers / tensor",
         .help = "pipeline stages, each with some layers"},
        {.name = "tensor",
         .kind = OPTION_U32,
         .value = &o->tensor,
         .argument = "T",
         .fallback = "1",
         .least = 1,
         .most = 4096,
         .help = "ranks that share each layer, at most the model's KV heads; P x T = W"},
        {.name = "kernels",
         .kind = OPTION_CHOICE,
         .value = &o->kernels,
         .argument = "NAME",
         .fallback = "auto",
         .choices = kernels_names,
         .help = "variant of the numeric code, for workers that were not given one of their own"},
        {.name = "strict-bits",
         .kind = OPTION_FLAG,
         .value = &o->strict_bits,
         .help = "refuse workers and nodes with different variants, instead of relying on these "
                 "having the same bits"},
        {.kind = 0}};
    option_table_add(table, options);
}

static void add_cache(struct option_table *table, struct command_line *line)
{
    struct coordinator_options *o = &line->options;
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Context and KV cache"},
        {.name = "ctx",
         .kind = OPTION_U32,
         .value = &o->ctx,
         .argument = "N",
         .least = 1,
         .most = 1u << 30,
         .otherwise = "what the model was made for, if the KV cache has room",
         .help = "most tokens of one sequence, prompt and answer together"},
        run_option(RUN_OPTION_KV_TYPE, &line->kv_type),
        {.name = "kv-memory",
         .kind = OPTION_BYTES,
         .value = &o->kv_memory,
         .argument = "SIZE",
         .otherwise = "what memory allows",
         .help = "KV cache of each rank, when there are no attention nodes"},
        run_option(RUN_OPTION_STRIPE, &o->stripe),
        run_option(RUN_OPTION_SHARES, &line->shares),
        {.kind = 0}};
    option_table_add(table, options);
}

static void add_steps(struct option_table *table, struct command_line *line)
{
    struct coordinator_options *o = &line->options;
    const struct option options[] = {{.kind = OPTION_SECTION, .help = "Steps"},
                                     run_option(RUN_OPTION_CHUNK, &o->chunk),
                                     run_option(RUN_OPTION_MAX_BATCH, &o->max_batch),
                                     run_option(RUN_OPTION_STEP_TARGET_MS, &o->step_target_ms),
                                     run_option(RUN_OPTION_PREFIX_CACHE, &line->prefix_cache),
                                     {.kind = 0}};
    option_table_add(table, options);
}

static void add_waiting(struct option_table *table, struct command_line *line)
{
    struct coordinator_options *o = &line->options;
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Waiting"},
        run_option(RUN_OPTION_TIMEOUT, &line->timeout_s),
        {.name = "retry-ms",
         .kind = OPTION_U32,
         .value = &o->retry_ms,
         .argument = "MS",
         .fallback = "2000",
         .least = 1,
         .most = 3600000,
         .help = "milliseconds after which a query that was not answered is sent again"},
        {.name = "step-timeout",
         .kind = OPTION_U32,
         .value = &line->step_s,
         .argument = "S",
         .most = 86400,
         .otherwise = "10 times --timeout",
         .help = "seconds within which all ranks must have computed a step"},
        {.name = "load-timeout",
         .kind = OPTION_U32,
         .value = &line->load_s,
         .argument = "S",
         .fallback = "1800",
         .least = 1,
         .most = 86400,
         .help = "seconds within which all ranks must have loaded their weights"},
        {.kind = 0}};
    option_table_add(table, options);
}

static void add_http(struct option_table *table, struct command_line *line)
{
    struct http_options *http = &line->options.http;
    const struct option own[] = {
        {.kind = OPTION_SECTION, .help = "HTTP"},
        {.name = "http",
         .kind = OPTION_TEXT,
         .value = &http->address,
         .argument = "HOST:PORT",
         .help = "serve OpenAI's API there (docs/http.md): 127.0.0.1:8080; an address that other "
                 "hosts reach, such as *:8080, needs --api-key-file"},
        {.kind = 0}};
    struct option entries[SERVER_OPTIONS + 1] = {{0}};
    void *const values[SERVER_OPTIONS] = {
        [SERVER_OPTION_API_KEY_FILE] = &http->api_key_file,
        [SERVER_OPTION_MODEL_NAME] = &http->model_name,
        [SERVER_OPTION_CHAT_TEMPLATE] = &http->chat_template,
        [SERVER_OPTION_CORS] = &http->cors,
        [SERVER_OPTION_BODY] = &http->body_bytes,
        [SERVER_OPTION_BODIES] = &http->bodies_bytes,
        [SERVER_OPTION_PROMPT] = &http->prompt_tokens,
        [SERVER_OPTION_REQUESTS] = &http->running,
        [SERVER_OPTION_QUEUE] = &http->queued,
        [SERVER_OPTION_IDLE] = &http->idle_s,
        [SERVER_OPTION_READ] = &http->read_s,
        [SERVER_OPTION_SILENCE] = &http->silence_s,
        [SERVER_OPTION_DRAIN] = &http->drain_s,
    };
    for (size_t i = 0; i < SERVER_OPTIONS; i++) {
        entries[i] = server_options[i];
        entries[i].value = values[i];
    }
    option_table_add(table, own);
    option_table_add(table, entries);
}

static void add_other(struct option_table *table, struct command_line *line)
{
    struct coordinator_options *o = &line->options;
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Other"},
        {.name = "trace",
         .kind = OPTION_TEXT,
         .value = &o->trace,
         .argument = "FILE",
         .help = "write where the time goes to FILE at the end, in Chrome's trace format"},
        {.name = "verbose",
         .letter = 'v',
         .kind = OPTION_COUNT,
         .value = &line->verbose,
         .help = "say more, with the time of day"},
        shared_options_version(&line->version),
        options_help(&line->help),
        {.kind = 0}};
    option_table_add(table, options);
}

static void fill(struct option entries[MOST_OPTIONS], struct command_line *line)
{
    struct option_table table = {.entries = entries, .capacity = MOST_OPTIONS};
    add_cluster(&table, line);
    add_plan(&table, line);
    add_cache(&table, line);
    add_steps(&table, line);
    add_waiting(&table, line);
    add_http(&table, line);
    add_other(&table, line);
}

/* ---- what it means --------------------------------------------------------------------------- */

static enum status settle(struct command_line *line, struct error *error)
{
    struct coordinator_options *o = &line->options;
    if (o->model == NULL)
        return error_set(error, STATUS_INVALID, "--model FILE is missing (--help explains)");
    kv_type_parse(&o->kv_type, line->kv_type); /* a choice: it parses */
    o->prefix_cache = strcmp(line->prefix_cache, "on") == 0;
    o->join_timeout_ms = line->join_s * 1000;
    o->load_timeout_ms = line->load_s * 1000;
    o->timeout_ms = line->timeout_s * 1000;
    o->lost_ms = strncmp(o->listen, "ipc://", 6) == 0 ? LOST_IPC_MS : LOST_TCP_MS;
    o->silence_ms = SILENCE_MS;
    o->step_timeout_ms = (line->step_s > 0 ? line->step_s : 10 * line->timeout_s) * 1000;
    o->http.api_key = server_options_api_key();
    if (o->http.address != NULL) {
        struct address address;
        const bool has_keys = o->http.api_key_file != NULL || o->http.api_key != NULL;
        const enum status status = address_check_http(o->http.address, has_keys, &address, error);
        if (status != STATUS_OK)
            return status;
    }
    if (line->shares != NULL) {
        o->shares = line->node_shares = calloc(o->nodes + 1u, sizeof(*line->node_shares));
        return line->node_shares != NULL
                   ? shares_parse(line->node_shares, o->nodes, line->shares, error)
                   : error_set(error, STATUS_NO_MEMORY, "no memory for %u shares", o->nodes);
    }
    return STATUS_OK;
}

enum status command_line_read(struct command_line *line, int argc, char **argv, struct error *error)
{
    struct option table[MOST_OPTIONS];
    *line = (struct command_line){0};
    fill(table, line);
    const enum status status = options_parse(table, argc, argv, NULL, error);
    return status == STATUS_OK && !line->help && !line->version ? settle(line, error) : status;
}

void command_line_free(struct command_line *line)
{
    free(line->node_shares);
    line->node_shares = NULL;
}

void command_line_print_help(FILE *out, enum options_form form)
{
    struct command_line line;
    struct option table[MOST_OPTIONS];
    fill(table, &line);
    options_print_help(out, form, &usage, table);
}
