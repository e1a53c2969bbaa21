/* door.c - see door.h. Who waits is a queue in the order of coming, which is that of deadlines. */
#include "coordinator/http/door.h"

#include "sys/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MOST_EVENTS = 64,
    AGAIN_MS = 100, /* until accepting is tried again, when there was no place or no descriptor */
};

static const char refusal[] =
    "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 107\r\n"
    "Connection: close\r\n\r\n"
    "{\"error\":{\"message\":\"this server speaks HTTP/1.1\",\"type\":\"invalid_request_error\","
    "\"param\":null,\"code\":null}}";

struct visitor {
    struct visitor *before, *after;
    uint64_t deadline_us;
    int descriptor;
    struct sockaddr_storage address;
    socklen_t address_bytes;
};

/* A socket, by what tells it from a later one with its number. */
struct guest {
    int descriptor;
    dev_t device;
    ino_t inode;
};

struct door {
    struct door_config config;
    pthread_t thread;
    bool started, accepts; /* accepts: the listening socket is watched */
    uint64_t again_us;     /* not before; 0: at once */
    int watched, bell;
    struct visitor *first, *last;
    uint32_t n_visitors, n_guests;
    struct guest *guests; /* whom the daemon was given: [most] */
    char line[DOOR_LINE_BYTES];
};

/* ---- the first line -------------------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

enum door_verdict door_judge(const char *bytes, size_t n)
{
    const char *end = memchr(bytes, '\n', n);
    if (end == NULL)
        return n < DOOR_LINE_BYTES ? DOOR_WAITS : DOOR_ADMITS;
    if (end > bytes && end[-1] == '\r')
        end--;
    const char *version = end;
    while (version > bytes && version[-1] != ' ' && version[-1] != '\t')
        version--;
    const bool is_version = end - version == 8 && memcmp(version, "HTTP/", 5) == 0 &&
                            is_digit(version[5]) && version[6] == '.' && is_digit(version[7]);
    return is_version && version[5] != '1' ? DOOR_REFUSES : DOOR_ADMITS;
}

/* ---- visitors -------------------------------------------------------------------------------- */

static void forget(struct door *d, struct visitor *v)
{
    *(v->before != NULL ? &v->before->after : &d->first) = v->after;
    *(v->after != NULL ? &v->after->before : &d->last) = v->before;
    d->n_visitors--;
    free(v);
}

static void turn_away(struct door *d, struct visitor *v)
{
    close(v->descriptor);
    forget(d, v);
}

/* What it sent is read first: closing a socket with unread bytes takes the answer away too. */
static void refuse(struct door *d, struct visitor *v)
{
    while (recv(v->descriptor, d->line, sizeof(d->line), MSG_DONTWAIT) > 0)
        continue;
    (void)!send(v->descriptor, refusal, sizeof(refusal) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    turn_away(d, v);
}

/* Not fstat(2), which thread sanitizers take for a use of a descriptor that another thread closes:
 * that it may be closed, and be another one by now, is what is asked. */
static bool guest_of(struct guest *guest, int descriptor)
{
    struct stat info;
    if (fstatat(descriptor, "", &info, AT_EMPTY_PATH) != 0)
        return false;
    *guest = (struct guest){descriptor, info.st_dev, info.st_ino};
    return true;
}

static bool is_open(const struct guest *guest)
{
    struct guest now;
    return guest_of(&now, guest->descriptor) && now.device == guest->device &&
           now.inode == guest->inode;
}

static void forget_gone(struct door *d)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < d->n_guests; i++)
        if (is_open(&d->guests[i]))
            d->guests[n++] = d->guests[i];
    d->n_guests = n;
}

/* Whom the daemon cannot take, it closes. There is a place: visitors count too. */
static void admit(struct door *d, struct visitor *v)
{
    epoll_ctl(d->watched, EPOLL_CTL_DEL, v->descriptor, NULL);
    if (!guest_of(&d->guests[d->n_guests], v->descriptor)) {
        turn_away(d, v);
        return;
    }
    d->n_guests++;
    MHD_add_connection(d->config.daemon, v->descriptor, (struct sockaddr *)&v->address,
                       v->address_bytes);
    forget(d, v);
}

/* Bytes that have come, without empty lines before them, which are read; -1: it has gone. */
static ssize_t peek(struct door *d, const struct visitor *v)
{
    for (;;) {
        const ssize_t n = recv(v->descriptor, d->line, sizeof(d->line), MSG_PEEK | MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
        size_t blank = 0;
        while (blank < (size_t)n && (d->line[blank] == '\r' || d->line[blank] == '\n'))
            blank++;
        if (n == 0)
            return -1;
        if (blank == 0)
            return n;
        if (recv(v->descriptor, d->line, blank, MSG_DONTWAIT) < 0)
            return -1;
    }
}

static void look_at(struct door *d, struct visitor *v)
{
    const ssize_t n = peek(d, v);
    if (n < 0) {
        turn_away(d, v);
        return;
    }
    switch (door_judge(d->line, (size_t)n)) {
    case DOOR_ADMITS:
        admit(d, v);
        break;
    case DOOR_REFUSES:
        refuse(d, v);
        break;
    case DOOR_WAITS:
        break; /* there is another event once more has come */
    }
}

/* ---- accepting ------------------------------------------------------------------------------- */

static bool is_full(const struct door *d)
{
    return d->n_visitors + d->n_guests >= d->config.most;
}

/* Watches the listening socket, or leaves it until there is a place. */
static void watch_listening(struct door *d)
{
    const uint64_t now = clock_us();
    bool accepts = now >= d->again_us;
    if (accepts && is_full(d)) {
        forget_gone(d);
        accepts = !is_full(d);
        if (!accepts)
            d->again_us = now + AGAIN_MS * 1000ull;
    }
    if (accepts == d->accepts)
        return;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = d};
    if (epoll_ctl(d->watched, accepts ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, d->config.listening,
                  &event) == 0)
        d->accepts = accepts;
}

static bool add(struct door *d, int descriptor, const struct sockaddr_storage *address,
                socklen_t address_bytes)
{
    struct visitor *v = calloc(1, sizeof(*v));
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = v};
    if (v == NULL || epoll_ctl(d->watched, EPOLL_CTL_ADD, descriptor, &event) != 0) {
        free(v);
        return false;
    }
    v->descriptor = descriptor;
    v->address = *address;
    v->address_bytes = address_bytes;
    v->deadline_us = clock_us() + d->config.patience_s * 1000000ull;
    v->before = d->last;
    *(d->last != NULL ? &d->last->after : &d->first) = v;
    d->last = v;
    d->n_visitors++;
    return true;
}

static void accept_one(struct door *d)
{
    struct sockaddr_storage address;
    socklen_t n = sizeof(address);
    const int descriptor =
        accept4(d->config.listening, (struct sockaddr *)&address, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor >= 0 && add(d, descriptor, &address, n))
        return;
    if (descriptor >= 0)
        close(descriptor);
    else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
        d->again_us = clock_us() + AGAIN_MS * 1000ull; /* else it would be asked for ever */
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Until the next deadline. */
static int wait_ms(const struct door *d)
{
    uint64_t until = d->first != NULL ? d->first->deadline_us : UINT64_MAX;
    if (!d->accepts && d->again_us < until)
        until = d->again_us;
    const uint64_t now = clock_us();
    if (until == UINT64_MAX)
        return -1;
    return until <= now ? 0 : (int)((until - now) / 1000 + 1);
}

static void *run(void *closure)
{
    struct door *d = closure;
    struct epoll_event events[MOST_EVENTS];
    for (;;) {
        watch_listening(d);
        const int n = epoll_wait(d->watched, events, MOST_EVENTS, wait_ms(d));
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &d->bell)
                return NULL;
            if (events[i].data.ptr == d)
                accept_one(d);
            else
                look_at(d, events[i].data.ptr);
        }
        while (d->first != NULL && clock_us() >= d->first->deadline_us)
            turn_away(d, d->first);
    }
}

enum status door_open(struct door **door, const struct door_config *config, struct error *error)
{
    struct door *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        close(config->listening);
        return error_set(error, STATUS_NO_MEMORY, "no memory for the HTTP server");
    }
    d->config = *config;
    d->guests = calloc(config->most, sizeof(*d->guests));
    d->watched = epoll_create1(EPOLL_CLOEXEC);
    d->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &d->bell};
    d->started = d->guests != NULL && d->watched >= 0 && d->bell >= 0 &&
                 epoll_ctl(d->watched, EPOLL_CTL_ADD, d->bell, &event) == 0 &&
                 pthread_create(&d->thread, NULL, run, d) == 0;
    if (!d->started) {
        door_close(d);
        return error_set(error, STATUS_NO_MEMORY,
                         "no thread, memory or descriptor for the HTTP server: raise `ulimit -u`, "
                         "`-v` or `-n`");
    }
    *door = d;
    return STATUS_OK;
}

void door_close(struct door *door)
{
    if (door == NULL)
        return;
    if (door->started) {
        const uint64_t one = 1;
        (void)!write(door->bell, &one, sizeof(one));
        pthread_join(door->thread, NULL);
    }
    while (door->first != NULL)
        turn_away(door, door->first);
    close(door->config.listening);
    if (door->watched >= 0)
        close(door->watched);
    if (door->bell >= 0)
        close(door->bell);
    free(door->guests);
    free(door);
}
