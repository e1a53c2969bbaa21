/* serve_options.c - one table; what only the coordinator reads is passed on as it was written. */
#include "cluster/serve_options.h"

#include "plan/run_options.h"
#include "proto/address.h"
#include "proto/server_options.h"
#include "proto/shared_options.h"

#include <stdio.h>
#include <string.h>

enum { MAX_BATCH = SERVER_OPTIONS, N_PASSED };

/* Options of the coordinator, under the same names: what was said, NULL: nothing. */
struct passed {
    const char *text[N_PASSED];
};

/* The entry of what is passed on: its text, instead of the number that it means there. */
static struct option passed_option(struct passed *passed, size_t i)
{
    struct option option = option_passed_on(i == MAX_BATCH ? run_option(RUN_OPTION_MAX_BATCH, NULL)
                                                           : server_options[i]);
    option.kind = OPTION_TEXT;
    option.value = &passed->text[i];
    return option;
}

/* The table points into `o` and `passed`. */
static void fill_table(struct option table[PLACE_OPTIONS_TABLE], struct serve_options *o,
                       struct passed *passed)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Model and address"},
        place_options_model(&o->place),
        {.name = "host",
         .kind = OPTION_TEXT,
         .value = &o->host,
         .argument = "ADDRESS",
         .fallback = "127.0.0.1",
         .help = "where to listen; * is every interface. An address that other hosts reach needs "
                 "--api-key-file or " SERVER_OPTIONS_API_KEY},
        {.name = "port",
         .kind = OPTION_U32,
         .value = &o->port,
         .argument = "N",
         .fallback = "8080",
         .most = UINT16_MAX,
         .help = "0: any free one, which the log names when the server listens"},
        place_options_ctx(&o->place),
        {.kind = OPTION_SECTION, .help = "HTTP"},
        {.kind = 0}};
    static const struct option output[] = {{.kind = OPTION_SECTION, .help = "Output"}, {.kind = 0}};
    static const struct place_options_texts texts = {
        .trace = "write where the time went, on every process, in Chrome's trace format",
        .dry_run = true,
        .only_starts = true,
        .quiet = "no line for each request",
        .verbose = "show the log of all started programs; twice: all of it"};
    struct option own[PLACE_OPTIONS_TABLE];
    struct option_table own_table = {.entries = own, .capacity = PLACE_OPTIONS_TABLE};
    option_table_add(&own_table, options);
    for (size_t i = 0; i < N_PASSED; i++) {
        const struct option one[] = {passed_option(passed, i), {.kind = 0}};
        option_table_add(&own_table, one);
    }
    option_table_add(&own_table, output);
    place_options_table(table, own, &o->place, &texts);
}

static enum status check(const struct serve_options *o, struct error *error)
{
    if (o->place.coordinator != NULL)
        return error_set(
            error, STATUS_INVALID,
            "serve starts a cluster; one that runs serves HTTP when its coordinator was "
            "started with --http HOST:PORT");
    if (strlen(o->host) + 8 > SERVE_OPTIONS_ADDRESS_BYTES)
        return error_set(error, STATUS_INVALID, "--host: %zu bytes are too many", strlen(o->host));
    return STATUS_OK;
}

enum status serve_options_read(struct serve_options *options, int argc, char **argv,
                               struct error *error)
{
    *options = (struct serve_options){0};
    struct passed passed = {0};
    struct option table[PLACE_OPTIONS_TABLE];
    fill_table(table, options, &passed);
    enum status status = options_parse(table, argc, argv, NULL, error);
    if (status != STATUS_OK || options->place.help)
        return status;
    status = check(options, error);
    if (status == STATUS_OK)
        status = place_options_check(&options->place, error);
    if (status != STATUS_OK)
        return status;
    const bool bare = strchr(options->host, ':') != NULL && options->host[0] != '[';
    snprintf(options->address, sizeof(options->address), bare ? "[%s]:%u" : "%s:%u", options->host,
             options->port);
    size_t n = 0;
    options->words[n++] = "--http";
    options->words[n++] = options->address;
    _Static_assert((int)N_PASSED <= (int)SERVE_OPTIONS_MOST_PASSED, "the words fit");
    for (size_t i = 0; i < N_PASSED; i++)
        if (passed.text[i] != NULL) {
            snprintf(options->names[i], sizeof(options->names[i]), "--%s",
                     passed_option(&passed, i).name);
            options->words[n++] = options->names[i];
            options->words[n++] = passed.text[i];
        }
    options->place.coordinator_words = options->words;
    options->place.coordinator_shown = !options->place.quiet;
    struct address address;
    const bool has_keys =
        passed.text[SERVER_OPTION_API_KEY_FILE] != NULL || server_options_api_key() != NULL;
    return address_check_http(options->address, has_keys, &address, error);
}

void serve_options_print_help(enum options_form form)
{
    struct serve_options options = {0};
    struct passed passed = {0};
    struct option table[PLACE_OPTIONS_TABLE];
    const struct option_usage usage = {
        "longspan serve",
        "-m MODEL [OPTION...]",
        "Answers OpenAI's HTTP API with a model until it is told to stop by SIGINT or SIGTERM. "
        "Running requests are then answered to their end; a second signal ends them too. Starts "
        "what is needed on this machine, or the cluster of a file.",
        .examples =
            "  longspan serve -m model.gguf\n"
            "  longspan serve -m model.gguf --host '*' --port 80 --api-key-file keys.txt\n"
            "  longspan serve -m model.gguf --cluster lab.yaml --ctx 131072\n"
            "  curl http://127.0.0.1:8080/v1/completions -d '{\"prompt\": \"Once upon a time\"}'\n",
        .exit_codes = "0 stopped; 2 bad usage or input; 3 something could not be started or "
                      "reached; 4 failed while running; 128 + N ended by a second signal N.",
        .environment = shared_options_environment};
    fill_table(table, &options, &passed);
    options_print_help(stdout, form, &usage, table);
}
