/* cluster/load_client.h - sends requests at their time, and reads the answers, all in one loop
 * (libcurl's multi interface). */
#ifndef LONGSPAN_CLUSTER_LOAD_CLIENT_H
#define LONGSPAN_CLUSTER_LOAD_CLIENT_H

#include "cluster/load_result.h"
#include "sys/status.h"

#include <stdint.h>

struct load_client {
    const char *url, *api_key; /* api_key NULL: none */
    uint32_t timeout_s;        /* of one request, from its sending to its end */
    /* The body of request i < n, owned by the client afterwards; NULL: no memory. */
    char *(*body)(void *context, uint32_t i);
    /* Seconds between the arrivals of requests i - 1 and i. */
    double (*gap)(void *context, uint32_t i);
    /* NULL, or: something has changed; for a line of progress. */
    void (*progress)(void *context, uint32_t n_sent, uint32_t n_running, uint32_t n_ended);
    void *context;
};

/* Sends n requests to /v1/completions and waits for their ends; a request that fails is one of the
 * result's failures, none of ours. STATUS_INVALID: a URL that is none. STATUS_NO_MEMORY. */
enum status load_client_run(const struct load_client *client, uint32_t n,
                            struct load_result *result, struct error *error);

#endif
