/* address.c - see address.h. Strict, so that nothing of libzmq's larger syntax (source addresses,
 * abstract sockets, wild-card files) slips past the rule of trust. */
#include "proto/address.h"

#include "proto/server_options.h"

#include "sys/parse.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

static const char forms[] = "give tcp://HOST:PORT or ipc://PATH";

static enum status parse_ipc(const char *endpoint, struct address *address, struct error *error)
{
    const char *path = endpoint + strlen("ipc://");
    const size_t length = strlen(path);
    if (length == 0 || path[0] == '@' || path[0] == '*')
        return error_set(error, STATUS_INVALID, "%.200s: give ipc:// and the path of a file",
                         endpoint);
    if (length >= ADDRESS_PATH_BYTES)
        return error_set(error, STATUS_INVALID,
                         "ipc path of %zu bytes, the system takes %d: use a shorter directory "
                         "(TMPDIR=/tmp): %.300s",
                         length, ADDRESS_PATH_BYTES - 1, path);
    address->kind = ADDRESS_IPC;
    address->is_local = true;
    memcpy(address->path, path, length + 1);
    return STATUS_OK;
}

/* What may stand in a host: letters of names, of interfaces, of literal addresses. */
static bool host_letters(const char *host, bool bracketed)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    for (; *host != '\0'; host++)
        if (strchr(name, *host) == NULL && !(bracketed && (*host == ':' || *host == '%')))
            return false;
    return true;
}

static void classify_host(struct address *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    char bare[ADDRESS_HOST_BYTES];
    snprintf(bare, sizeof(bare), "%s", address->host);
    bare[strcspn(bare, "%")] = '\0'; /* the zone, which inet_pton does not know */
    if (strcmp(bare, "*") == 0) {
        address->is_any = true;
    } else if (strcmp(bare, "localhost") == 0) {
        address->is_local = true;
    } else if (inet_pton(AF_INET, bare, &v4) == 1) {
        address->is_local = ntohl(v4.s_addr) >> 24 == 127;
        address->is_any = v4.s_addr == INADDR_ANY;
    } else if (inet_pton(AF_INET6, bare, &v6) == 1) {
        address->is_local =
            IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
        address->is_any = IN6_IS_ADDR_UNSPECIFIED(&v6);
        address->is_ipv6 = true;
    }
}

static enum status parse_tcp(const char *endpoint, struct address *address, struct error *error)
{
    const char *host = endpoint + strlen("tcp://");
    const char *colon = strrchr(host, ':');
    const bool bracketed = host[0] == '[';
    const char *end = bracketed ? strchr(host, ']') : colon;
    if (colon == NULL || end == NULL || (bracketed && end + 1 != colon))
        return error_set(error, STATUS_INVALID, "%.200s has no port: %s", endpoint, forms);
    host += bracketed;
    const size_t length = (size_t)(end - host);
    if (length == 0 || length >= ADDRESS_HOST_BYTES)
        return error_set(error, STATUS_INVALID, "%.200s has no valid host: %s", endpoint, forms);

    memcpy(address->host, host, length);
    address->host[length] = '\0';
    address->kind = ADDRESS_TCP;
    classify_host(address);
    if (strcmp(address->host, "*") != 0 &&
        (!host_letters(address->host, bracketed) || bracketed != address->is_ipv6))
        return error_set(error, STATUS_INVALID, "%.200s has no valid host: %s", endpoint, forms);
    if (strcmp(colon + 1, "*") == 0 || strcmp(colon + 1, "0") == 0)
        return STATUS_OK;

    char name[ADDRESS_BYTES];
    uint32_t port = 0;
    snprintf(name, sizeof(name), "the port of %.200s", endpoint);
    const enum status status = parse_u32(name, colon + 1, 1, UINT16_MAX, &port, error);
    address->port = (uint16_t)port;
    return status;
}

enum status address_parse(const char *endpoint, struct address *address, struct error *error)
{
    struct address parsed = {0};
    enum status status;
    if (strncmp(endpoint, "tcp://", 6) == 0) {
        status = parse_tcp(endpoint, &parsed, error);
    } else if (strncmp(endpoint, "ipc://", 6) == 0) {
        status = parse_ipc(endpoint, &parsed, error);
    } else {
        const char *mark = strstr(endpoint, "://");
        if (mark == NULL)
            return error_set(error, STATUS_INVALID, "\"%.200s\" is no address: %s", endpoint,
                             forms);
        return error_set(error, STATUS_UNSUPPORTED, "the transport %.*s is not supported: %s",
                         mark - endpoint > 40 ? 40 : (int)(mark - endpoint), endpoint, forms);
    }
    if (status == STATUS_OK)
        *address = parsed;
    return status;
}

enum status address_check(const char *endpoint, bool have_key, bool insecure_network,
                          struct error *error)
{
    struct address address;
    const enum status status = address_parse(endpoint, &address, error);
    if (status != STATUS_OK || address.is_local || have_key || insecure_network)
        return status;
    return error_set(error, STATUS_INVALID,
                     "%.200s can be reached from other hosts: give --cluster-key FILE (longspan "
                     "keygen FILE makes one), or --insecure-network if everybody on that network "
                     "may read and steer this cluster",
                     endpoint);
}

enum status address_check_http(const char *text, bool has_keys, struct address *address,
                               struct error *error)
{
    char endpoint[ADDRESS_BYTES];
    struct address parsed;
    const int n = snprintf(endpoint, sizeof(endpoint), "tcp://%s", text);
    if (n < 0 || (size_t)n >= sizeof(endpoint) ||
        address_parse(endpoint, &parsed, NULL) != STATUS_OK)
        return error_set(error, STATUS_INVALID,
                         "HTTP cannot listen at %.200s: give HOST:PORT, such as 127.0.0.1:8080 or "
                         "*:8080",
                         text);
    if (!parsed.is_local && !has_keys)
        return error_set(error, STATUS_INVALID,
                         "HTTP at %.200s can be reached from other hosts: give --api-key-file FILE "
                         "(one key a line), or a key in " SERVER_OPTIONS_API_KEY,
                         text);
    *address = parsed;
    return STATUS_OK;
}

const char *address_advice(const char *endpoint, char advice[ADDRESS_ADVICE_BYTES])
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct address address;
    struct addrinfo *found = NULL;
    const bool named = address_parse(endpoint, &address, NULL) == STATUS_OK &&
                       address.kind == ADDRESS_TCP && !address.is_any;
    const int failed = named ? getaddrinfo(address.host, NULL, &hints, &found) : 0;
    if (found != NULL)
        freeaddrinfo(found);
    if (failed != 0)
        snprintf(advice, ADDRESS_ADVICE_BYTES,
                 "the name %s has no address here (%s): correct it, or add it to DNS or /etc/hosts",
                 address.host, gai_strerror(failed));
    else
        snprintf(advice, ADDRESS_ADVICE_BYTES, "is it running, and is the address right?");
    return advice;
}

enum status address_with_port(const struct address *address, uint16_t port,
                              char endpoint[ADDRESS_BYTES], struct error *error)
{
    char text[ADDRESS_HOST_BYTES + 32];
    const int length =
        snprintf(text, sizeof(text), address->is_ipv6 ? "tcp://[%s]:%u" : "tcp://%s:%u",
                 address->host, port);
    if (address->kind != ADDRESS_TCP || length < 0 || length >= ADDRESS_BYTES)
        return error_set(error, STATUS_INVALID, "only a tcp address has a port");
    memcpy(endpoint, text, (size_t)length + 1);
    return STATUS_OK;
}
