/* interfaces.c - getifaddrs(3), and comparing the first bits of addresses. */
#include "sys/interfaces.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { ENTRY_BYTES = 64, NAMES_BYTES = 256, FAMILIES = 2 };

/* One entry of a list: a name, or the first `n_bits` of an address. */
struct entry {
    char text[ENTRY_BYTES];
    int family; /* AF_UNSPEC: a name */
    uint8_t bytes[16];
    unsigned n_bits;
};

static bool read_subnet(struct entry *entry, char *slash)
{
    char address[ENTRY_BYTES], *rest = NULL;
    snprintf(address, sizeof(address), "%.*s", (int)(slash - entry->text), entry->text);
    entry->family = strchr(address, ':') != NULL ? AF_INET6 : AF_INET;
    const unsigned long bits = strtoul(slash + 1, &rest, 10);
    entry->n_bits = (unsigned)bits;
    return slash[1] >= '0' && slash[1] <= '9' && *rest == '\0' &&
           bits <= (entry->family == AF_INET ? 32 : 128) &&
           inet_pton(entry->family, address, entry->bytes) == 1;
}

/* Takes the entry at *list and moves on; false at the end. `good`: whether it is one. */
static bool next_entry(const char **list, struct entry *entry, bool *good)
{
    if (*list == NULL)
        return false;
    const size_t length = strcspn(*list, ",");
    *entry = (struct entry){.family = AF_UNSPEC};
    *good = length > 0 && length < sizeof(entry->text);
    if (*good) {
        memcpy(entry->text, *list, length);
        char *slash = strchr(entry->text, '/');
        *good = slash != NULL
                    ? read_subnet(entry, slash)
                    : length < IF_NAMESIZE && entry->text[0] != '-' &&
                          strspn(entry->text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                              "0123456789._-@") == length;
    }
    *list = (*list)[length] == ',' ? *list + length + 1 : NULL;
    return true;
}

enum status interfaces_check(const char *list, const char *where, struct error *error)
{
    struct entry entry;
    bool good;
    for (const char *rest = list; next_entry(&rest, &entry, &good);)
        if (!good)
            return error_set(error, STATUS_INVALID,
                             "%s: interface: '%s' is neither an interface such as eth0, a subnet "
                             "such as 10.0.0.0/24, nor a list of them with commas",
                             where, list);
    return STATUS_OK;
}

static const void *bytes_of(const struct sockaddr *address)
{
    return address->sa_family == AF_INET
               ? (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr
               : (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
}

static bool matches(const struct entry *entry, const struct ifaddrs *own)
{
    if (entry->family == AF_UNSPEC)
        return strcmp(entry->text, own->ifa_name) == 0;
    const uint8_t *bytes = bytes_of(own->ifa_addr);
    const unsigned whole = entry->n_bits / 8, rest = entry->n_bits % 8;
    return entry->family == own->ifa_addr->sa_family && memcmp(bytes, entry->bytes, whole) == 0 &&
           (rest == 0 || (bytes[whole] ^ entry->bytes[whole]) >> (8 - rest) == 0);
}

static bool is_usable(const struct ifaddrs *own, int family)
{
    return own->ifa_addr != NULL && own->ifa_addr->sa_family == family &&
           (own->ifa_flags & IFF_UP) != 0 &&
           !(family == AF_INET6 &&
             IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)bytes_of(own->ifa_addr)));
}

static const struct ifaddrs *find(const struct ifaddrs *all, const struct entry *entry)
{
    static const int families[FAMILIES] = {AF_INET, AF_INET6};
    for (int i = 0; i < FAMILIES; i++)
        for (const struct ifaddrs *own = all; own != NULL; own = own->ifa_next)
            if (is_usable(own, families[i]) && matches(entry, own))
                return own;
    return NULL;
}

/* "eth0 10.0.0.1, eth1 ...", for a message. */
static void name_all(const struct ifaddrs *all, char names[NAMES_BYTES])
{
    char text[INET6_ADDRSTRLEN];
    size_t used = 0;
    names[0] = '\0';
    for (const struct ifaddrs *own = all; own != NULL; own = own->ifa_next) {
        if ((!is_usable(own, AF_INET) && !is_usable(own, AF_INET6)) ||
            inet_ntop(own->ifa_addr->sa_family, bytes_of(own->ifa_addr), text, sizeof(text)) ==
                NULL)
            continue;
        const int length = snprintf(names + used, NAMES_BYTES - used, "%s%s %s",
                                    used > 0 ? ", " : "", own->ifa_name, text);
        if (length < 0 || used + (size_t)length >= NAMES_BYTES)
            return;
        used += (size_t)length;
    }
}

enum status interfaces_address(const char *list, char address[INTERFACES_ADDRESS_BYTES],
                               struct error *error)
{
    struct ifaddrs *all = NULL;
    const struct ifaddrs *found = NULL;
    struct entry entry;
    bool good;
    const enum status status = interfaces_check(list, "networks", error);
    if (status != STATUS_OK)
        return status;
    if (getifaddrs(&all) != 0)
        return error_set(error, STATUS_IO, "the interfaces of this host: %s", strerror(errno));
    for (const char *rest = list; found == NULL && next_entry(&rest, &entry, &good);)
        found = find(all, &entry);
    char names[NAMES_BYTES];
    name_all(all, names);
    if (found != NULL)
        inet_ntop(found->ifa_addr->sa_family, bytes_of(found->ifa_addr), address,
                  INTERFACES_ADDRESS_BYTES);
    freeifaddrs(all);
    return found != NULL
               ? STATUS_OK
               : error_set(error, STATUS_NOT_FOUND,
                           "this host has no interface '%s' that is up; it has %s", list, names);
}

static unsigned n_bits_of(const struct sockaddr *mask)
{
    const uint8_t *bytes = mask != NULL ? bytes_of(mask) : NULL;
    const unsigned most = mask != NULL && mask->sa_family == AF_INET ? 32 : 128;
    unsigned n = 0;
    while (bytes != NULL && n < most && (bytes[n / 8] >> (7 - n % 8) & 1) != 0)
        n++;
    return n;
}

enum status interfaces_own(char (**list)[INTERFACES_ADDRESS_BYTES], uint32_t *n,
                           struct error *error)
{
    struct ifaddrs *all = NULL;
    char text[INET6_ADDRSTRLEN];
    uint32_t count = 0;
    if (getifaddrs(&all) != 0)
        return error_set(error, STATUS_IO, "the interfaces of this host: %s", strerror(errno));
    for (const struct ifaddrs *own = all; own != NULL; own = own->ifa_next)
        count++;
    char(*made)[INTERFACES_ADDRESS_BYTES] = calloc((size_t)count + 1, sizeof(*made));
    count = 0;
    for (const struct ifaddrs *own = all; made != NULL && own != NULL; own = own->ifa_next)
        if ((own->ifa_flags & IFF_LOOPBACK) == 0 &&
            (is_usable(own, AF_INET) || is_usable(own, AF_INET6)) &&
            inet_ntop(own->ifa_addr->sa_family, bytes_of(own->ifa_addr), text, sizeof(text)) !=
                NULL)
            snprintf(made[count++], sizeof(*made), "%s/%u", text, n_bits_of(own->ifa_netmask));
    freeifaddrs(all);
    if (made == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the addresses of this host");
    *list = made;
    *n = count;
    return STATUS_OK;
}
