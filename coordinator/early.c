/* early.c - see early.h. */
#include "coordinator/early.h"

#include <stdlib.h>
#include <string.h>

enum status early_add(struct early *early, const struct frames_peer *client, uint64_t number,
                      const void *bytes, size_t n_bytes, uint64_t now_us, const char *what,
                      struct error *error)
{
    if (early->n == EARLY_MAX_REQUESTS ||
        (early->n > 0 && early->n_bytes + n_bytes > EARLY_MAX_BYTES))
        return error_set(error, STATUS_EXHAUSTED,
                         "%u requests wait for %s already, and there is no room for one of %zu "
                         "bytes: try later",
                         early->n, what, n_bytes);
    struct early_request *request = malloc(sizeof(*request) + n_bytes);
    if (request == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request of %zu bytes", n_bytes);
    request->next = NULL;
    request->client = *client;
    request->number = number;
    request->heard_us = now_us;
    request->n_bytes = n_bytes;
    memcpy(request->bytes, bytes, n_bytes);
    struct early_request **end = &early->first;
    while (*end != NULL)
        end = &(*end)->next;
    *end = request;
    early->n++;
    early->n_bytes += n_bytes;
    return STATUS_OK;
}

struct early_request *early_take(struct early *early)
{
    struct early_request *request = early->first;
    if (request != NULL) {
        early->first = request->next;
        early->n--;
        early->n_bytes -= request->n_bytes;
    }
    return request;
}

void early_heard(struct early *early, const struct frames_peer *client, uint64_t now_us)
{
    for (struct early_request *r = early->first; r != NULL; r = r->next)
        if (frames_same_peer(&r->client, client))
            r->heard_us = now_us;
}

static void drop(struct early *early, struct early_request **link)
{
    struct early_request *request = *link;
    *link = request->next;
    early->n--;
    early->n_bytes -= request->n_bytes;
    free(request);
}

void early_drop(struct early *early, const struct frames_peer *client, bool all, uint64_t number)
{
    for (struct early_request **link = &early->first; *link != NULL;)
        if (frames_same_peer(&(*link)->client, client) && (all || (*link)->number == number))
            drop(early, link);
        else
            link = &(*link)->next;
}

bool early_drop_silent(struct early *early, uint64_t since_us, struct frames_peer *client,
                       uint64_t *number)
{
    struct early_request **link = &early->first;
    while (*link != NULL && (*link)->heard_us >= since_us)
        link = &(*link)->next;
    if (*link == NULL)
        return false;
    *client = (*link)->client;
    *number = (*link)->number;
    drop(early, link);
    return true;
}
