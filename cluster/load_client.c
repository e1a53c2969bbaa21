/* load_client.c - see load_client.h. A connection is used again by later requests; as many are open
 * as requests run at once, as with clients in the world. */
#include "cluster/load_client.h"

#include "cluster/http_ask.h"
#include "cluster/load_stream.h"
#include "sys/clock.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

enum { POLL_MS = 500, MOST_REFUSAL_BYTES = 4096, OK = 200 };

struct exchange {
    struct exchange *next; /* of those that run */
    CURL *curl;
    char *body;
    uint64_t began_us;
    struct load_stream stream;
    char refusal[MOST_REFUSAL_BYTES]; /* the beginning of an answer that is not 200 */
    size_t n_refusal;
    bool failed; /* the stream could not be kept */
};

struct run {
    const struct load_client *client;
    struct load_result *result;
    char address[HTTP_ASK_URL_BYTES];
    struct curl_slist *headers;
    CURLM *multi;
    struct exchange *running;
    uint32_t n_sent, n_running, n_ended;
};

static size_t take(char *bytes, size_t one, size_t n, void *context)
{
    struct exchange *exchange = context;
    long code = 0;
    (void)one; /* always 1 */
    curl_easy_getinfo(exchange->curl, CURLINFO_RESPONSE_CODE, &code);
    if (code == OK) {
        exchange->failed = !load_stream_take(&exchange->stream, bytes, n, clock_us());
        return exchange->failed ? 0 : n;
    }
    const size_t room = sizeof(exchange->refusal) - exchange->n_refusal;
    const size_t kept = n < room ? n : room;
    memcpy(exchange->refusal + exchange->n_refusal, bytes, kept);
    exchange->n_refusal += kept;
    return n;
}

static void free_exchange(struct run *run, struct exchange *exchange)
{
    if (exchange->curl != NULL)
        curl_multi_remove_handle(run->multi, exchange->curl);
    curl_easy_cleanup(exchange->curl);
    load_stream_free(&exchange->stream);
    free(exchange->body);
    free(exchange);
}

static enum status start(struct run *run, uint32_t i, struct error *error)
{
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    if (exchange == NULL || (exchange->curl = curl_easy_init()) == NULL ||
        (exchange->body = run->client->body(run->client->context, i)) == NULL) {
        if (exchange != NULL)
            free_exchange(run, exchange);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request");
    }
    CURL *curl = exchange->curl;
    curl_easy_setopt(curl, CURLOPT_URL, run->address);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, run->headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, exchange->body);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)run->client->timeout_s);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, exchange);
    curl_easy_setopt(curl, CURLOPT_PRIVATE, exchange);
    exchange->began_us = clock_us();
    curl_multi_add_handle(run->multi, curl);
    exchange->next = run->running;
    run->running = exchange;
    run->n_sent++;
    run->n_running++;
    return STATUS_OK;
}

static void judge(struct run *run, const struct exchange *exchange, CURLcode code)
{
    char text[LOAD_STREAM_ERROR_BYTES + 16], words[LOAD_STREAM_ERROR_BYTES];
    const struct load_stream *stream = &exchange->stream;
    long http = 0;
    curl_easy_getinfo(exchange->curl, CURLINFO_RESPONSE_CODE, &http);
    if (exchange->failed)
        load_result_bad(run->result, "an answer that cannot be kept");
    else if (code != CURLE_OK)
        load_result_bad(run->result, curl_easy_strerror(code));
    else if (http != OK) {
        load_stream_explain(words, exchange->refusal, exchange->n_refusal);
        snprintf(text, sizeof(text), "%ld %.190s", http, words);
        load_result_bad(run->result, text);
    } else if (stream->error[0] != '\0')
        load_result_bad(run->result, stream->error);
    else if (!stream->done)
        load_result_bad(run->result, "a stream without its end");
    else
        load_result_good(run->result, stream, exchange->began_us, clock_us());
}

static void take_ended(struct run *run)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(run->multi, &left)) != NULL) {
        struct exchange *exchange = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        const CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&exchange);
        struct exchange **link = &run->running;
        while (*link != exchange)
            link = &(*link)->next;
        *link = exchange->next;
        judge(run, exchange, code);
        free_exchange(run, exchange);
        run->n_running--;
        run->n_ended++;
    }
}

static enum status loop(struct run *run, uint32_t n, struct error *error)
{
    const struct load_client *client = run->client;
    const uint64_t began_us = clock_us();
    double next_s = n > 0 ? client->gap(client->context, 0) : 0.0; /* from the beginning */
    while (run->n_ended < n) {
        double now_s = (double)(clock_us() - began_us) * 1e-6;
        while (run->n_sent < n && next_s <= now_s) {
            const enum status status = start(run, run->n_sent, error);
            if (status != STATUS_OK)
                return status;
            if (run->n_sent < n)
                next_s += client->gap(client->context, run->n_sent);
        }
        int n_running = 0;
        curl_multi_perform(run->multi, &n_running);
        take_ended(run);
        if (client->progress != NULL)
            client->progress(client->context, run->n_sent, run->n_running, run->n_ended);
        now_s = (double)(clock_us() - began_us) * 1e-6;
        const double wait_ms = run->n_sent < n ? (next_s - now_s) * 1e3 : POLL_MS;
        if (run->n_ended < n && wait_ms > 0.0)
            curl_multi_poll(run->multi, NULL, 0, wait_ms < POLL_MS ? (int)wait_ms + 1 : POLL_MS,
                            NULL);
    }
    run->result->seconds = (double)(clock_us() - began_us) * 1e-6;
    return STATUS_OK;
}

enum status load_client_run(const struct load_client *client, uint32_t n,
                            struct load_result *result, struct error *error)
{
    struct run run = {.client = client, .result = result};
    enum status status = http_ask_address(run.address, client->url, "/v1/completions", error);
    if (status != STATUS_OK)
        return status;
    run.multi = curl_multi_init();
    run.headers = http_ask_headers(client->api_key, true);
    if (run.multi == NULL || run.headers == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for requests");
    if (status == STATUS_OK)
        status = loop(&run, n, error);
    result->n_requests = run.n_ended;
    while (run.running != NULL) {
        struct exchange *next = run.running->next;
        free_exchange(&run, run.running);
        run.running = next;
    }
    curl_slist_free_all(run.headers);
    curl_multi_cleanup(run.multi);
    if (status == STATUS_OK && result->failed)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for what was measured");
    return status;
}
