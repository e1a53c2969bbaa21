/* load.c - what is sent (words of the server's own vocabulary, or lines of a file), one run for
 * each rate, and the report.
 *
 * Random prompts are token ids, so that their lengths are what was asked for whatever the
 * tokenizer: the server tokenizes a text of common words once (/tokenize), and prompts are drawn
 * from those ids. A server without /tokenize is sent as many words instead. */
#include "cluster/load.h"

#include "cluster/http_ask.h"
#include "cluster/load_client.h"
#include "cluster/load_options.h"
#include "cluster/load_result.h"
#include "cluster/standard_output.h"
#include "sys/clock.h"
#include "sys/file.h"
#include "sys/log.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ASK_S = 30, MODEL_BYTES = 256, SHOW_US = 200000 };
static const uint64_t MOST_FILE_BYTES = UINT64_C(1) << 30;

static const char *const words[] = {
    "time",   "year",     "people", "way",    "day",    "man",     "thing",  "woman",   "life",
    "child",  "world",    "school", "state",  "family", "student", "group",  "country", "problem",
    "hand",   "part",     "place",  "case",   "week",   "company", "system", "program", "question",
    "work",   "number",   "night",  "point",  "home",   "water",   "room",   "mother",  "area",
    "money",  "story",    "fact",   "month",  "right",  "study",   "book",   "eye",     "job",
    "word",   "business", "issue",  "side",   "kind",   "head",    "house",  "service", "friend",
    "father", "power",    "hour",   "game",   "line",   "end",     "member", "law",     "car",
    "city",   "name",     "team",   "minute", "idea",   "body",    "back",
};
enum { N_WORDS = sizeof(words) / sizeof(words[0]) };

struct load {
    struct load_options options;
    struct log log;
    char *api_key;
    char model[MODEL_BYTES];
    struct load_shape shape;
    char *text; /* of the file of prompts */
    char **lines;
    size_t n_lines;
    int32_t *pool; /* token ids; NULL: words are sent */
    size_t n_pool;
    struct random_state lengths, arrivals;
    double rate; /* of the run */
    struct table *table;
    bool show_progress;
    uint64_t shown_us;
};

/* ---- what is sent ---------------------------------------------------------------------------- */

static enum status find_model(struct load *load, struct error *error)
{
    json_t *json = NULL;
    if (load->options.model != NULL) {
        snprintf(load->model, sizeof(load->model), "%s", load->options.model);
        return STATUS_OK;
    }
    const struct http_question question = {.url = load->options.url,
                                           .path = "/v1/models",
                                           .api_key = load->api_key,
                                           .timeout_s = ASK_S};
    const enum status status = http_ask(&json, &question, error);
    if (status != STATUS_OK)
        return status;
    const char *id =
        json_string_value(json_object_get(json_array_get(json_object_get(json, "data"), 0), "id"));
    if (id != NULL)
        snprintf(load->model, sizeof(load->model), "%s", id);
    json_decref(json);
    return id != NULL
               ? STATUS_OK
               : error_set(error, STATUS_PROTOCOL,
                           "%s/v1/models lists no model: name one with --model", load->options.url);
}

/* The ids of our words; those that begin a text (a BOS) come twice at most, and are left out. */
static enum status fill_pool(struct load *load, const json_t *ids, struct error *error)
{
    const size_t n = json_array_size(ids);
    load->pool = calloc(n + 1, sizeof(*load->pool));
    if (load->pool == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu tokens", n);
    for (size_t i = 1; i < n; i++) {
        const json_int_t id = json_integer_value(json_array_get(ids, i));
        if (id >= 0 && id <= INT32_MAX)
            load->pool[load->n_pool++] = (int32_t)id;
    }
    return STATUS_OK;
}

static enum status make_pool(struct load *load, struct error *error)
{
    char text[16 * N_WORDS] = "", *body;
    size_t used = 0;
    for (size_t i = 0; i < N_WORDS; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, " %s", words[i]);
    json_t *json = json_pack("{s:s, s:s}", "model", load->model, "prompt", text);
    body = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    if (body == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    const struct http_question question = {.url = load->options.url,
                                           .path = "/tokenize",
                                           .api_key = load->api_key,
                                           .body = body,
                                           .timeout_s = ASK_S};
    enum status status = http_ask(&json, &question, error);
    free(body);
    if (status == STATUS_FAILED || status == STATUS_PROTOCOL) {
        log_warn(&load->log, "%s has no /tokenize: prompts are words, not tokens of that number",
                 load->options.url);
        return STATUS_OK;
    }
    if (status != STATUS_OK)
        return status;
    status = fill_pool(load, json_object_get(json, "tokens"), error);
    json_decref(json);
    return status;
}

/* Lines that are not blank. */
static enum status read_lines(struct load *load, struct error *error)
{
    size_t n_bytes;
    const enum status status =
        file_read(load->options.prompts, MOST_FILE_BYTES, &load->text, &n_bytes, error);
    if (status != STATUS_OK)
        return status;
    size_t most = 1;
    for (size_t i = 0; i < n_bytes; i++)
        most += load->text[i] == '\n';
    load->lines = calloc(most, sizeof(*load->lines));
    if (load->lines == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu prompts", most);
    char *rest = load->text, *line;
    while ((line = strsep(&rest, "\n")) != NULL)
        if (line[strspn(line, " \t\r")] != '\0')
            load->lines[load->n_lines++] = line;
    return load->n_lines > 0
               ? STATUS_OK
               : error_set(error, STATUS_INVALID, "%s: has no prompt in it", load->options.prompts);
}

static enum status prepare(struct load *load, struct error *error)
{
    struct stat file;
    load->shape.spread = load->options.spread;
    if (stat(load->options.prompts, &file) == 0)
        return read_lines(load, error);
    const enum status status = load_shape_read(&load->shape, load->options.prompts, error);
    return status == STATUS_OK ? make_pool(load, error) : status;
}

static json_t *random_words(struct random_state *random, uint32_t n)
{
    char *text = malloc(16 * (size_t)n + 1);
    size_t used = 0;
    for (uint32_t i = 0; text != NULL && i < n; i++)
        used += (size_t)sprintf(text + used, "%s%s", i == 0 ? "" : " ",
                                words[random_below(random, N_WORDS)]);
    json_t *json = text != NULL ? json_stringn(text, used) : NULL;
    free(text);
    return json;
}

/* The prompts of each run are the same, whatever the rate; and none is another one's. */
static json_t *random_prompt(struct load *load, uint32_t n, uint32_t i)
{
    struct random_state random;
    random_seed(&random, random_mix(load->options.seed) + i + 1);
    if (load->n_pool == 0)
        return random_words(&random, n);
    int32_t *ids = calloc(n, sizeof(*ids));
    json_t *list = json_array();
    if (ids != NULL)
        load_shape_prompt(ids, n, load->options.n_common, load->pool, load->n_pool,
                          load->options.seed, &random);
    for (uint32_t k = 0; ids != NULL && k < n; k++)
        json_array_append_new(list, json_integer(ids[k]));
    free(ids);
    return list;
}

static char *body_of(void *context, uint32_t i)
{
    struct load *load = context;
    uint32_t n_output = load->options.output;
    json_t *prompt;
    if (load->lines != NULL) {
        prompt = json_string(load->lines[i % load->n_lines]);
    } else {
        const uint32_t n = load_shape_draw(load->shape.spread, load->shape.prompt, &load->lengths);
        n_output = load_shape_draw(load->shape.spread, load->shape.output, &load->lengths);
        prompt = random_prompt(load, n, i);
    }
    json_t *json =
        json_pack("{s:s, s:o, s:I, s:b, s:{s:b}, s:b, s:i}", "model", load->model, "prompt", prompt,
                  "max_tokens", (json_int_t)n_output, "stream", 1, "stream_options",
                  "include_usage", 1, "ignore_eos", !load->options.until_eos, "temperature", 0);
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text;
}

static double gap_of(void *context, uint32_t i)
{
    struct load *load = context;
    return i == 0 ? 0.0 : load_shape_gap(load->rate, &load->arrivals);
}

/* ---- runs ------------------------------------------------------------------------------------ */

static void show_progress(void *context, uint32_t n_sent, uint32_t n_running, uint32_t n_ended)
{
    struct load *load = context;
    const uint64_t now_us = clock_us();
    if (!load->show_progress || now_us - load->shown_us < SHOW_US)
        return;
    load->shown_us = now_us;
    fprintf(stderr, "\r\033[K%g requests/s: %u of %u sent, %u running, %u ended", load->rate,
            n_sent, load->options.n_requests, n_running, n_ended);
}

static enum status run_rate(struct load *load, double rate, bool *answered, struct error *error)
{
    struct load_result result = {.rate = rate};
    const struct load_client client = {.url = load->options.url,
                                       .api_key = load->api_key,
                                       .timeout_s = load->options.timeout_s,
                                       .body = body_of,
                                       .gap = gap_of,
                                       .progress = show_progress,
                                       .context = load};
    load->rate = rate;
    random_seed(&load->lengths, load->options.seed);
    random_seed(&load->arrivals, random_mix(load->options.seed));
    enum status status = load_client_run(&client, load->options.n_requests, &result, error);
    if (load->show_progress)
        fputs("\r\033[K", stderr);
    if (status == STATUS_OK) {
        load_result_print(&result, stdout);
        load_result_row(&result, load->table);
        *answered |= result.n_good > 0;
        status = standard_output_flush(error);
    }
    load_result_free(&result);
    return status;
}

static enum status work(struct load *load, struct error *error)
{
    const struct load_options *options = &load->options;
    bool answered = false;
    load->show_progress = !options->quiet && isatty(2);
    enum status status = http_ask_key(options->api_key_file, &load->api_key, error);
    if (status == STATUS_OK && options->csv != NULL)
        status = file_try_write(options->csv, error);
    if (status == STATUS_OK && options->json != NULL)
        status = file_try_write(options->json, error);
    if (status == STATUS_OK)
        status = find_model(load, error);
    if (status == STATUS_OK)
        status = prepare(load, error);
    if (status == STATUS_OK)
        status = table_create(&load->table, "serve", load_result_columns, NULL, error);
    if (status != STATUS_OK)
        return status;
    table_note_text(load->table, "url", options->url);
    table_note_text(load->table, "model", load->model);
    table_note_text(load->table, "prompts", options->prompts);
    for (uint32_t i = 0; status == STATUS_OK && i < options->n_rates; i++)
        status = run_rate(load, options->rates[i], &answered, error);
    if (status == STATUS_OK)
        status = table_save(load->table, options->csv, options->json, error);
    if (status == STATUS_OK && !answered)
        status = error_set(error, STATUS_FAILED, "%s answered no request", options->url);
    return status;
}

int load_main(int argc, char **argv)
{
    struct load load = {0};
    struct error error = {0};
    log_open(&load.log, "longspan bench serve", 0);
    enum status status = load_options_read(&load.options, argc, argv, &error);
    if (status == STATUS_OK && load.options.help) {
        load_options_print_help(load.options.help);
        return EXIT_SUCCESS;
    }
    if (status == STATUS_OK)
        status = work(&load, &error);
    if (status != STATUS_OK)
        standard_output_log_failure(&load.log, &error);
    table_destroy(load.table);
    free(load.pool);
    free(load.lines);
    free(load.text);
    free(load.api_key);
    return status == STATUS_OK ? EXIT_SUCCESS : status_exit_code(status);
}
