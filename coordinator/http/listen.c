/* listen.c - see listen.h. */
#include "coordinator/http/listen.h"

#include "proto/address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 511 };

/* The first address of the host at which listening works. */
static int open_first(const struct addrinfo *list, int *reason)
{
    for (; list != NULL; list = list->ai_next) {
        const int on = 1, off = 0;
        const int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd >= 0) {
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
            if (list->ai_family == AF_INET6)
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
            if (bind(fd, list->ai_addr, list->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
                return fd;
        }
        *reason = errno;
        if (fd >= 0)
            close(fd);
    }
    return -1;
}

static void show(int fd, const struct address *address, char shown[LISTEN_SHOWN_BYTES])
{
    struct sockaddr_storage bound = {0};
    socklen_t size = sizeof(bound);
    char port[NI_MAXSERV] = "?";
    if (getsockname(fd, (struct sockaddr *)&bound, &size) == 0)
        getnameinfo((struct sockaddr *)&bound, size, NULL, 0, port, sizeof(port), NI_NUMERICSERV);
    snprintf(shown, LISTEN_SHOWN_BYTES, address->is_ipv6 ? "[%s]:%s" : "%s:%s", address->host,
             port);
}

enum status listen_open(int *descriptor, const char *text, bool has_keys,
                        char shown[LISTEN_SHOWN_BYTES], struct error *error)
{
    struct address address;
    const enum status status = address_check_http(text, has_keys, &address, error);
    if (status != STATUS_OK)
        return status;
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    char port[16];
    snprintf(port, sizeof(port), "%u", address.port);
    const bool all = strcmp(address.host, "*") == 0;
    const int code = getaddrinfo(all ? NULL : address.host, port, &hints, &list);
    if (code != 0)
        return error_set(error, STATUS_UNREACHABLE,
                         "cannot listen at %.200s: %s: give an address of this machine, or * for "
                         "every one",
                         text, gai_strerror(code));
    int reason = 0;
    const int fd = open_first(list, &reason);
    freeaddrinfo(list);
    if (fd < 0)
        return error_set(error, STATUS_UNREACHABLE, "cannot listen at %.200s: %s%s", text,
                         strerror(reason),
                         reason == EADDRINUSE      ? ": choose another port"
                         : reason == EADDRNOTAVAIL ? ": give an address of this machine, or * for "
                                                     "every one"
                         : reason == EACCES        ? ": ports below 1024 may be root's alone"
                                                   : "");
    show(fd, &address, shown);
    *descriptor = fd;
    return STATUS_OK;
}
