/* reach.c - see reach.h. */
#include "cluster/reach.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECT_MS = 5000, PORT_BYTES = 8, BACKLOG = 64 };

static int look_up(struct addrinfo **found, const char *host, uint16_t port, int flags)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags};
    char text[PORT_BYTES];
    snprintf(text, sizeof(text), "%u", port);
    return getaddrinfo(host, text, &hints, found);
}

/* What an error number usually means between hosts of a cluster. */
static const char *meaning(int code)
{
    switch (code) {
    case ECONNREFUSED:
        return "refused: a firewall rejects it, or that address is another machine's";
    case EHOSTUNREACH:
    case ENETUNREACH:
        return "no route: the host is down, on another network, or behind a firewall";
    case ETIMEDOUT:
        return "no answer: a firewall drops it, or the address is another network's";
    default:
        return strerror(code);
    }
}

static uint16_t port_of(int descriptor)
{
    struct sockaddr_storage own;
    socklen_t size = sizeof(own);
    char text[PORT_BYTES] = "0";
    unsigned port = 0;
    if (getsockname(descriptor, (struct sockaddr *)&own, &size) == 0 &&
        getnameinfo((struct sockaddr *)&own, size, NULL, 0, text, sizeof(text), NI_NUMERICSERV) ==
            0)
        sscanf(text, "%u", &port);
    return (uint16_t)port;
}

enum status reach_listen(int *listener, const char *host, uint16_t *port, struct error *error)
{
    struct addrinfo *found = NULL;
    const int failed = look_up(&found, host, *port, AI_PASSIVE);
    if (failed != 0)
        return error_set(error, STATUS_UNREACHABLE, "%s: %s", host != NULL ? host : "*",
                         gai_strerror(failed));
    const int yes = 1,
              descriptor = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int code = descriptor < 0 ? errno : 0;
    if (descriptor >= 0) {
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
        if (bind(descriptor, found->ai_addr, found->ai_addrlen) != 0 ||
            listen(descriptor, BACKLOG) != 0)
            code = errno;
    }
    freeaddrinfo(found);
    if (code != 0) {
        if (descriptor >= 0)
            close(descriptor);
        return error_set(error, STATUS_UNREACHABLE, "cannot listen at %s:%u: %s",
                         host != NULL ? host : "*", *port, strerror(code));
    }
    *port = port_of(descriptor);
    *listener = descriptor;
    return STATUS_OK;
}

/* 0, or an error number. */
static int try_one(const struct addrinfo *info)
{
    int code = 0;
    socklen_t size = sizeof(code);
    const int descriptor = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0)
        return errno;
    if (connect(descriptor, info->ai_addr, info->ai_addrlen) != 0)
        code = errno;
    if (code == EINPROGRESS) {
        struct pollfd item = {.fd = descriptor, .events = POLLOUT};
        code = ETIMEDOUT;
        if (poll(&item, 1, CONNECT_MS) > 0)
            getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size);
    }
    close(descriptor);
    return code;
}

enum status reach_connect(const char *host, uint16_t port, struct error *error)
{
    struct addrinfo *found = NULL;
    int code = 0;
    const int failed = look_up(&found, host, port, 0);
    if (failed != 0)
        return error_set(error, STATUS_UNREACHABLE,
                         "the name %s has no address there (%s): add it to DNS or /etc/hosts", host,
                         gai_strerror(failed));
    for (const struct addrinfo *info = found; info != NULL; info = info->ai_next)
        if ((code = try_one(info)) == 0)
            break;
    freeaddrinfo(found);
    return code == 0 ? STATUS_OK
                     : error_set(error, STATUS_UNREACHABLE, "%s:%u: %s", host, port, meaning(code));
}
