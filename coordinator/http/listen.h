/* coordinator/http/listen.h - the socket at which the HTTP server listens. */
#ifndef LONGSPAN_COORDINATOR_HTTP_LISTEN_H
#define LONGSPAN_COORDINATOR_HTTP_LISTEN_H

#include "sys/status.h"

#include <stdbool.h>

enum { LISTEN_SHOWN_BYTES = 300 };

/* `address`: HOST:PORT; * listens on all, port 0 on a free one. *descriptor is the caller's;
 * `shown` is the address with the port that it became. STATUS_INVALID: not of that form, or
 * reachable from other hosts although has_keys is false. STATUS_UNREACHABLE: in use, or not
 * ours. */
enum status listen_open(int *descriptor, const char *address, bool has_keys,
                        char shown[LISTEN_SHOWN_BYTES], struct error *error);

#endif
