/* cluster/http_get.h - one GET, whole, for commands that ask a server something. */
#ifndef LONGSPAN_CLUSTER_HTTP_GET_H
#define LONGSPAN_CLUSTER_HTTP_GET_H

#include "sys/status.h"

#include <stddef.h>
#include <stdint.h>

/* `api_key` NULL: none is sent. The caller frees *body, which has a zero behind its bytes. At most
 * 64 MiB. STATUS_INVALID: no http or https URL. STATUS_UNREACHABLE: nobody there, or not in time.
 * STATUS_FAILED: an answer that is not 200; the text has what the server said. STATUS_NO_MEMORY. */
enum status http_get(const char *url, const char *path, const char *api_key, uint32_t timeout_s,
                     char **body, size_t *n_bytes, struct error *error);

/* The first line of a file with API keys, without blanks. STATUS_IO, STATUS_INVALID (it is empty),
 * STATUS_NO_MEMORY; the caller frees *key. */
enum status http_read_key(const char *file, char **key, struct error *error);

#endif
