/* coordinator/http/keys.h - who may use the API: keys from a file or the environment, one a line.
 *
 * Blank lines, and lines that begin with #, do not count. What is kept and compared are SHA-256
 * digests, all of them and whole each time, so that the time of an answer tells nothing of a
 * key. */
#ifndef LONGSPAN_COORDINATOR_HTTP_KEYS_H
#define LONGSPAN_COORDINATOR_HTTP_KEYS_H

#include "sys/status.h"

#include <stdbool.h>

struct keys; /* opaque */

/* The caller ends *keys with keys_destroy. STATUS_INVALID: no key in the file, or one that no
 * header could carry. STATUS_NOT_FOUND, STATUS_IO, STATUS_NO_MEMORY. */
enum status keys_read(struct keys **keys, const char *path, struct error *error);

/* The same of a text, which `name` is the name of. */
enum status keys_parse(struct keys **keys, const char *text, const char *name, struct error *error);
void keys_destroy(struct keys *keys);

/* `authorization`: the header's value, or NULL. True: "Bearer " and one of the keys; or keys is
 * NULL: anybody may. */
bool keys_admit(const struct keys *keys, const char *authorization);

#endif
