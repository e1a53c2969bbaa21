/* cluster/http_ask.h - one request and its answer, whole, for commands that ask a server
 * something. */
#ifndef LONGSPAN_CLUSTER_HTTP_ASK_H
#define LONGSPAN_CLUSTER_HTTP_ASK_H

#include "sys/status.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct http_question {
    const char *url, *path; /* as http_ask_address joins them */
    const char *api_key;    /* NULL: none is sent */
    const char *body;       /* JSON, for a POST; NULL: a GET */
    uint32_t timeout_s;
    bool *nobody; /* NULL, or: set to whether no server listens there */
};

/* The JSON object that is answered, of 64 MiB at most; json_decref it. STATUS_INVALID: no http or
 * https URL. STATUS_UNREACHABLE: nobody there, or not in time. STATUS_FAILED: an answer that is not
 * 200; the text has what the server said. STATUS_PROTOCOL: no JSON object. STATUS_NO_MEMORY. */
enum status http_ask(json_t **answer, const struct http_question *question, struct error *error);

/* "http://host:1/" and "/path" as one. STATUS_INVALID as above. */
enum { HTTP_ASK_URL_BYTES = 2048 };
enum status http_ask_address(char address[HTTP_ASK_URL_BYTES], const char *url, const char *path,
                             struct error *error);

/* "Authorization: Bearer KEY" and "Content-Type: application/json", those that are needed; NULL:
 * none is, or no memory. For curl_slist_free_all. */
struct curl_slist *http_ask_headers(const char *api_key, bool json);

/* The first line of a file with API keys, without blanks; file NULL: that of the environment's, or
 * NULL where there are none. STATUS_IO, STATUS_INVALID (it is empty), STATUS_NO_MEMORY; the caller frees
 * *key. */
enum status http_ask_key(const char *file, char **key, struct error *error);

#endif
