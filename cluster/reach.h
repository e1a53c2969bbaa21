/* cluster/reach.h - whether one host reaches another by TCP: before programs are started that would
 * wait for each other in vain. */
#ifndef LONGSPAN_CLUSTER_REACH_H
#define LONGSPAN_CLUSTER_REACH_H

#include "sys/status.h"

#include <stdint.h>

/* Listens at `host` (NULL: everywhere); port 0: a free one. Connections are made by the kernel,
 * nobody answers. The caller closes *listener. STATUS_UNREACHABLE: the port is in use, or there is
 * no such address here. */
enum status reach_listen(int *listener, const char *host, uint16_t *port, struct error *error);

/* Connects and hangs up, 5 s at most. STATUS_UNREACHABLE: with what that usually means. */
enum status reach_connect(const char *host, uint16_t port, struct error *error);

#endif
