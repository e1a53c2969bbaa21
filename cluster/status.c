/* status.c - asks, prints; with --watch again and again, until a signal or a failure ends it. */
#include "cluster/status.h"

#include "cluster/http_ask.h"
#include "cluster/standard_output.h"
#include "cluster/status_ask.h"
#include "cluster/status_report.h"
#include "proto/address.h"
#include "proto/server_options.h"
#include "proto/shared_options.h"
#include "sys/clock.h"
#include "sys/log.h"
#include "sys/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_URL         "http://127.0.0.1:8080"
#define DEFAULT_COORDINATOR "tcp://127.0.0.1:5600"

struct asked {
    const char *coordinator, *url, *api_key_file, *key_file;
    bool insecure_network, json;
    enum options_form help;
    uint32_t watch_s, timeout_s;
    /* read from files */
    char *api_key;
    struct cluster_key key;
};

static enum status check(const struct asked *asked, struct error *error)
{
    if (asked->coordinator != NULL && asked->url != NULL)
        return error_set(error, STATUS_INVALID, "--coordinator and --url: only one of them");
    if (asked->coordinator == NULL)
        return STATUS_OK;
    return address_check(asked->coordinator, asked->key_file != NULL, asked->insecure_network,
                         error);
}

static enum status ask_url(const struct asked *asked, const char *url, json_t **json, bool *nobody,
                           struct error *error)
{
    const struct http_question question = {.url = url,
                                           .path = "/cluster",
                                           .api_key = asked->api_key,
                                           .timeout_s = asked->timeout_s,
                                           .nobody = nobody};
    return http_ask(json, &question, error);
}

static enum status ask_coordinator(const struct asked *asked, const char *coordinator,
                                   json_t **json, bool *nobody, struct error *error)
{
    return status_ask(coordinator, asked->key_file != NULL ? &asked->key : NULL,
                      asked->insecure_network, asked->timeout_s, json, nobody, error);
}

/* Where longspan serve listens on this machine, and where a coordinator does that was started by
 * hand, when nobody says otherwise. */
static enum status ask_here(const struct asked *asked, json_t **json, struct error *error)
{
    bool no_server = false, nobody = false;
    struct error other = {0};
    const enum status served = ask_url(asked, DEFAULT_URL, json, &no_server, error);
    if (served == STATUS_OK ||
        ask_coordinator(asked, DEFAULT_COORDINATOR, json, &nobody, &other) == STATUS_OK)
        return STATUS_OK;
    if (no_server && nobody)
        return error_set(error, served,
                         "no cluster answers at " DEFAULT_URL " or " DEFAULT_COORDINATOR
                         ": is one running? --url or --coordinator says where");
    if (nobody)
        return served;
    return no_server ? error_set(error, other.status, "%s", other.text)
                     : error_set(error, served, "%.400s; %.600s", error->text, other.text);
}

static enum status print_once(const struct asked *asked, struct error *error)
{
    json_t *json = NULL;
    bool nobody;
    enum status status = asked->url != NULL ? ask_url(asked, asked->url, &json, &nobody, error)
                         : asked->coordinator != NULL
                             ? ask_coordinator(asked, asked->coordinator, &json, &nobody, error)
                             : ask_here(asked, &json, error);
    if (status == STATUS_OK) {
        if (asked->watch_s > 0 && !asked->json && isatty(1))
            fputs("\033[H\033[J", stdout); /* home, and clear to the end */
        if (!asked->json)
            status_report_print(stdout, json);
        else if (json_dumpf(json, stdout, JSON_INDENT(2)) == 0)
            fputc('\n', stdout);
        status = standard_output_flush(error);
    }
    json_decref(json);
    return status;
}

static enum status work(struct asked *asked, struct error *error)
{
    enum status status = http_ask_key(asked->api_key_file, &asked->api_key, error);
    if (status == STATUS_OK && asked->key_file != NULL)
        status = cluster_key_read(asked->key_file, &asked->key, error);
    while (status == STATUS_OK) {
        status = print_once(asked, error);
        if (asked->watch_s == 0 || status != STATUS_OK)
            break;
        clock_sleep_us(asked->watch_s * UINT64_C(1000000));
    }
    free(asked->api_key);
    cluster_key_wipe(&asked->key);
    return status;
}

static const struct option_usage usage = {
    "longspan status", "[OPTION...]",
    "Shows which processes a running cluster has, what each holds, how full the KV holders are, "
    "what moved between workers and attention nodes, and which prompts wait or run.",
    .exit_codes = "0; 2 bad usage; 3 nobody answers there; 4 the answer is a failure.",
    .environment = shared_options_client_environment};

enum { N_OPTIONS = 12 };

static void fill_table(struct option table[N_OPTIONS], struct asked *asked)
{
    const struct option options[N_OPTIONS] = {
        {.kind = OPTION_SECTION, .help = "Which cluster"},
        {.name = "coordinator",
         .kind = OPTION_TEXT,
         .value = &asked->coordinator,
         .argument = "ADDRESS",
         .help = "the coordinator's own socket, such as tcp://head:5600; without this and --url: "
                 "whichever answers of " DEFAULT_URL " and " DEFAULT_COORDINATOR},
        {.name = "url",
         .kind = OPTION_TEXT,
         .value = &asked->url,
         .argument = "URL",
         .help = "its HTTP server, such as http://head:8080"},
        shared_options_cluster_key(&asked->key_file),
        shared_options_insecure_network(&asked->insecure_network),
        {.name = "api-key-file",
         .kind = OPTION_TEXT,
         .value = &asked->api_key_file,
         .argument = "FILE",
         .otherwise = SERVER_OPTIONS_API_KEY,
         .help = "for the HTTP server: the key is its first line"},
        {.kind = OPTION_SECTION, .help = "Output"},
        {.name = "json",
         .kind = OPTION_FLAG,
         .value = &asked->json,
         .help = "the JSON of GET /cluster, instead of tables"},
        {.name = "watch",
         .letter = 'w',
         .kind = OPTION_U32,
         .value = &asked->watch_s,
         .argument = "S",
         .least = 1,
         .most = 86400,
         .help = "show it again every S seconds, until Ctrl-C"},
        {.name = "timeout",
         .kind = OPTION_U32,
         .value = &asked->timeout_s,
         .argument = "S",
         .fallback = "5",
         .least = 1,
         .most = 3600,
         .help = "seconds to wait for an answer"},
        options_help(&asked->help),
        {.kind = 0}};
    memcpy(table, options, sizeof(options));
}

int status_main(int argc, char **argv)
{
    struct log log;
    struct error error = {0};
    struct asked asked = {0};
    log_open(&log, "longspan status", 0);
    struct option table[N_OPTIONS];
    fill_table(table, &asked);
    enum status status = options_parse(table, argc, argv, NULL, &error);
    if (status == STATUS_OK && asked.help) {
        options_print_help(stdout, asked.help, &usage, table);
        return EXIT_SUCCESS;
    }
    if (status == STATUS_OK)
        status = check(&asked, &error);
    if (status == STATUS_OK)
        status = work(&asked, &error);
    if (status == STATUS_OK)
        return EXIT_SUCCESS;
    standard_output_log_failure(&log, &error);
    return status_exit_code(status);
}
