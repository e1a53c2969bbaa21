/* this_host.c - see this_host.h. */
#include "cluster/this_host.h"

#include "sys/topology.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

void this_host_read(struct this_host *host)
{
    *host = (struct this_host){0};
    topology_host_name(host->name, sizeof(host->name));
    interfaces_own(&host->addresses, &host->n_addresses, NULL);
}

void this_host_free(struct this_host *host)
{
    free(host->addresses);
    *host = (struct this_host){0};
}

/* One of 127.0.0.0/8, written out; "127.example" is a name. */
static bool is_loopback(const char *name)
{
    struct in_addr address;
    return strcmp(name, "localhost") == 0 || strcmp(name, "::1") == 0 ||
           (inet_pton(AF_INET, name, &address) == 1 && ntohl(address.s_addr) >> 24 == 127);
}

/* Of two long names all counts, otherwise what is before the first dot. */
static bool is_own_name(const struct this_host *host, const char *name)
{
    const size_t given = strcspn(name, "."), ours = strcspn(host->name, ".");
    const bool both_long = name[given] != '\0' && host->name[ours] != '\0';
    return strcmp(name, host->name) == 0 ||
           (!both_long && given == ours && ours > 0 && strncmp(name, host->name, ours) == 0);
}

bool this_host_is(const struct this_host *host, const char *name)
{
    bool found = is_loopback(name) || is_own_name(host, name);
    const size_t length = strlen(name);
    for (uint32_t i = 0; i < host->n_addresses && !found; i++)
        found = strcspn(host->addresses[i], "/") == length &&
                memcmp(host->addresses[i], name, length) == 0;
    return found;
}
