/* cluster/this_host.h - which names of hosts are this machine. */
#ifndef LONGSPAN_CLUSTER_THIS_HOST_H
#define LONGSPAN_CLUSTER_THIS_HOST_H

#include "sys/interfaces.h"

#include <stdbool.h>
#include <stdint.h>

struct this_host {
    char name[256];                              /* as it calls itself */
    char (*addresses)[INTERFACES_ADDRESS_BYTES]; /* [n_addresses], "10.0.0.1/24" */
    uint32_t n_addresses;
};

/* Looked up once; addresses that cannot be read are none. The
 * caller ends it with this_host_free. */
void this_host_read(struct this_host *host);
/* Zeroed memory is fine. */
void this_host_free(struct this_host *host);

/* Whether `name` is this machine: localhost, 127.x, ::1, its own name, long or short, or one of its
 * addresses. */
bool this_host_is(const struct this_host *host, const char *name);

#endif
