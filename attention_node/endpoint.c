/* endpoint.c - addresses derived from the coordinator's, so that a user names only that one. */
#include "attention_node/endpoint.h"

#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static enum status copy(char to[ADDRESS_BYTES], const char *from, struct error *error)
{
    if (strlen(from) >= ADDRESS_BYTES)
        return error_set(error, STATUS_INVALID, "an endpoint has at most %d bytes: %s",
                         ADDRESS_BYTES - 1, from);
    strcpy(to, from);
    return STATUS_OK;
}

enum status endpoint_bind(const char *wanted, const char *coordinator, uint64_t node,
                          char bind[ADDRESS_BYTES], struct error *error)
{
    struct address address;
    if (wanted != NULL)
        return copy(bind, wanted, error);
    const enum status status = address_parse(coordinator, &address, error);
    if (status != STATUS_OK)
        return status;
    if (address.kind == ADDRESS_TCP)
        return copy(bind,
                    !address.is_local ? "tcp://*:*"
                    : address.is_ipv6 ? "tcp://[::1]:*"
                                      : "tcp://127.0.0.1:*",
                    error);
    const char *slash = strrchr(address.path, '/');
    const int directory = slash != NULL ? (int)(slash - address.path) + 1 : 0;
    char path[ADDRESS_PATH_BYTES + 64];
    snprintf(path, sizeof(path), "%.*snode-%08" PRIx32 ".sock", directory, address.path,
             (uint32_t)node);
    if (strlen(path) >= ADDRESS_PATH_BYTES)
        return error_set(error, STATUS_INVALID,
                         "the directory of %s is too long for another socket (%zu bytes, %d are "
                         "allowed); say where to listen with --bind",
                         coordinator, strlen(path), ADDRESS_PATH_BYTES - 1);
    snprintf(bind, ADDRESS_BYTES, "ipc://%.*s", ADDRESS_PATH_BYTES, path);
    return STATUS_OK;
}

/* Our address on the way to that host: what the kernel would send from. No packet is sent. */
static bool own_address(const struct address *to, char host[ADDRESS_HOST_BYTES])
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM};
    struct addrinfo *found = NULL;
    bool known = false;
    if (getaddrinfo(to->host, "9", &hints, &found) != 0)
        return false;
    for (const struct addrinfo *info = found; info != NULL && !known; info = info->ai_next) {
        struct sockaddr_storage own;
        socklen_t own_bytes = sizeof(own);
        const int descriptor = socket(info->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (descriptor < 0)
            continue;
        known = connect(descriptor, info->ai_addr, info->ai_addrlen) == 0 &&
                getsockname(descriptor, (struct sockaddr *)&own, &own_bytes) == 0 &&
                getnameinfo((struct sockaddr *)&own, own_bytes, host, ADDRESS_HOST_BYTES, NULL, 0,
                            NI_NUMERICHOST) == 0;
        close(descriptor);
    }
    freeaddrinfo(found);
    return known;
}

enum status endpoint_advertise(const char *wanted, const char *bound, const char *coordinator,
                               const char *host, char advertised[ADDRESS_BYTES],
                               struct error *error)
{
    struct address address, real, to;
    enum status status = address_parse(bound, &real, error);
    if (status == STATUS_OK && wanted != NULL)
        status = address_parse(wanted, &address, error);
    if (status != STATUS_OK)
        return status;
    if (wanted != NULL) {
        if (address.is_any)
            return error_set(error, STATUS_INVALID,
                             "--advertise %s: workers cannot connect to that; name this host",
                             wanted);
        if (address.kind == ADDRESS_TCP && address.port == 0 && real.kind == ADDRESS_TCP)
            return address_with_port(&address, real.port, advertised, error);
        return copy(advertised, wanted, error);
    }
    if (real.kind == ADDRESS_IPC || !real.is_any)
        return copy(advertised, bound, error);
    status = address_parse(coordinator, &to, error);
    if (status != STATUS_OK)
        return status;
    if (to.kind != ADDRESS_TCP || !own_address(&to, real.host))
        snprintf(real.host, sizeof(real.host), "%s", host);
    real.is_ipv6 = strchr(real.host, ':') != NULL;
    real.is_any = false;
    return address_with_port(&real, real.port, advertised, error);
}

void endpoint_remove(const char *bound)
{
    struct address address;
    if (address_parse(bound, &address, NULL) == STATUS_OK && address.kind == ADDRESS_IPC)
        unlink(address.path);
}
