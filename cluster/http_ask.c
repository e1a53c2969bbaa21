/* http_ask.c - see http_ask.h; libcurl does the work. */
#include "cluster/http_ask.h"

#include "proto/server_options.h"
#include "sys/file.h"
#include "sys/text_buffer.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADER_BYTES = 4200,
    KEY_FILE_BYTES = 1 << 20,
    SHOWN_BYTES = 300, /* of what a server says about a failure */
};
static const size_t MOST_BYTES = (size_t)64 << 20;

/* libcurl's write callback: another number than what came ends the transfer. */
static size_t take(char *bytes, size_t one, size_t n, void *context)
{
    struct text_buffer *body = context;
    (void)one; /* always 1 */
    return n <= MOST_BYTES - body->n && text_buffer_add(body, bytes, n) ? n : 0;
}

enum status http_ask_address(char address[HTTP_ASK_URL_BYTES], const char *url, const char *path,
                             struct error *error)
{
    const size_t n = strlen(url);
    const bool good = strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
    const int used = snprintf(address, HTTP_ASK_URL_BYTES, "%.*s%s",
                              (int)(n > 0 && url[n - 1] == '/' ? n - 1 : n), url, path);
    if (!good || used >= HTTP_ASK_URL_BYTES)
        return error_set(error, STATUS_INVALID,
                         "--url %.200s: an address such as http://127.0.0.1:8080", url);
    return STATUS_OK;
}

struct curl_slist *http_ask_headers(const char *api_key, bool json)
{
    char line[HEADER_BYTES];
    struct curl_slist *headers = NULL;
    if (json)
        headers = curl_slist_append(headers, "Content-Type: application/json");
    if (api_key == NULL)
        return headers;
    snprintf(line, sizeof(line), "Authorization: Bearer %.4000s", api_key);
    struct curl_slist *longer = curl_slist_append(headers, line);
    return longer != NULL ? longer : headers;
}

/* The bytes of an answer 200, which are freed with body->bytes; on failure there are none. */
static enum status transfer(struct text_buffer *body, const char *address,
                            const struct http_question *question, struct error *error)
{
    long code = 0;
    CURL *curl = curl_easy_init();
    if (curl == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request to %s", address);
    struct curl_slist *headers = http_ask_headers(question->api_key, question->body != NULL);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (question->body != NULL)
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, question->body);
    curl_easy_setopt(curl, CURLOPT_URL, address);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)question->timeout_s);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    const CURLcode result = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    if (question->nobody != NULL)
        *question->nobody = result == CURLE_COULDNT_CONNECT;
    enum status status = STATUS_OK;
    if (result != CURLE_OK)
        status = error_set(error, STATUS_UNREACHABLE, "%s: %s: is the server running there?",
                           address, curl_easy_strerror(result));
    else if (code != 200)
        status = error_set(error, STATUS_FAILED, "%s answers %ld: %.*s", address, code, SHOWN_BYTES,
                           body->bytes != NULL ? body->bytes : "");
    else if (body->bytes == NULL)
        status = error_set(error, STATUS_FAILED, "%s answers nothing", address);
    if (status != STATUS_OK) {
        free(body->bytes);
        *body = (struct text_buffer){0};
    }
    return status;
}

enum status http_ask(json_t **answer, const struct http_question *question, struct error *error)
{
    char address[HTTP_ASK_URL_BYTES];
    struct text_buffer body = {0};
    enum status status = http_ask_address(address, question->url, question->path, error);
    if (status == STATUS_OK)
        status = transfer(&body, address, question, error);
    if (status != STATUS_OK)
        return status;
    json_error_t why = {.text = ""};
    json_t *json = json_loadb(body.bytes, body.n, 0, &why);
    free(body.bytes);
    if (!json_is_object(json)) {
        json_decref(json);
        return error_set(error, STATUS_PROTOCOL, "%s answers no JSON object: %s", address,
                         why.text);
    }
    *answer = json;
    return STATUS_OK;
}

enum status http_ask_key(const char *file, char **key, struct error *error)
{
    const char *variable = file == NULL ? server_options_api_key() : NULL;
    char *data = NULL;
    size_t size;
    if (file != NULL) {
        const enum status status = file_read(file, KEY_FILE_BYTES, &data, &size, error);
        if (status != STATUS_OK)
            return status;
    } else if (variable == NULL) {
        *key = NULL;
        return STATUS_OK;
    } else if ((data = strdup(variable)) == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for an API key");
    }
    const size_t skip = strspn(data, " \t");
    const size_t n = strcspn(data + skip, " \t\r\n");
    memmove(data, data + skip, n);
    data[n] = '\0';
    if (n == 0) {
        free(data);
        return error_set(error, STATUS_INVALID, "%s: its first line has no API key",
                         file != NULL ? file : SERVER_OPTIONS_API_KEY);
    }
    *key = data;
    return STATUS_OK;
}
