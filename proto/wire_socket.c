/* wire_socket.c - see wire_socket.h: opening and closing; wire_events.c and wire_poll.c the rest.
 */
#include "proto/wire_socket.h"

#include "proto/address.h"
#include "proto/wire_parts.h"
#include "sys/array.h"
#include "sys/memory.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

enum {
    DEFAULT_QUEUE_MESSAGES = 1000,
    MAX_RECEIVE_MESSAGES = 64, /* per peer; then the sender's queue, bounded in bytes, fills */
    RECONNECT_MS = 10,
    RECONNECT_MAX_MS = 1000,
    CONNECT_TIMEOUT_MS = 5000,
    HANDSHAKE_MS = 10000,
    /* A dead host is told apart from a slow one by pings above; this frees its connection. */
    KEEPALIVE_IDLE_S = 30,
    KEEPALIVE_INTERVAL_S = 5,
    KEEPALIVE_COUNT = 3,
    MAX_IDENTITY_BYTES = 255
};
#define INSIDE "inproc://"
static const uint64_t default_max_message_bytes = UINT64_C(256) << 20;
static const uint64_t default_queue_bytes = UINT64_C(512) << 20;
static const uint64_t default_all_queues_bytes = UINT64_C(4) << 30; /* where memory is unknown */
enum { SHARE_OF_QUEUES = 8 };                                       /* of memory: an eighth */

/* Whether this host has IPv6 at all: then `*` means both versions. */
static bool host_has_ipv6(void)
{
    const struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
    const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool good = fd >= 0 && bind(fd, (const struct sockaddr *)&any, sizeof(any)) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

/* libzmq tries one address of a name only. `localhost` is ::1 first on many hosts, where nobody
 * listens: so a name is looked up with IPv6 only when it has no other address. */
static bool wants_ipv6(const struct address *address)
{
    struct in_addr v4;
    if (address->kind != ADDRESS_TCP || inet_pton(AF_INET, address->host, &v4) == 1)
        return false;
    if (address->is_ipv6)
        return true;
    if (address->is_any)
        return host_has_ipv6();
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    bool v4_found = false, v6_found = false;
    if (getaddrinfo(address->host, NULL, &hints, &found) != 0)
        return false; /* an interface's name, or a host that will be known later */
    for (const struct addrinfo *one = found; one != NULL; one = one->ai_next) {
        v4_found = v4_found || one->ai_family == AF_INET;
        v6_found = v6_found || one->ai_family == AF_INET6;
    }
    freeaddrinfo(found);
    return v6_found && !v4_found;
}

static bool set_int(void *zmq, int option, int value)
{
    return zmq_setsockopt(zmq, option, &value, sizeof(value)) == 0;
}

static bool set_linger(void *zmq, uint32_t linger_ms)
{
    return set_int(zmq, ZMQ_LINGER, linger_ms > INT32_MAX ? INT32_MAX : (int)linger_ms);
}

static bool set_text(void *zmq, int option, const char *text)
{
    return zmq_setsockopt(zmq, option, text, strlen(text)) == 0;
}

static bool set_curve(void *zmq, const struct wire_context *context, bool listen)
{
    if (!context->have_key)
        return true;
    if (!set_text(zmq, ZMQ_CURVE_SECRETKEY, context->key.secret_text))
        return false;
    if (listen) /* without its authenticator there is no context: nobody is let in unchecked */
        return set_int(zmq, ZMQ_CURVE_SERVER, 1) && set_text(zmq, ZMQ_ZAP_DOMAIN, "longspan");
    return set_text(zmq, ZMQ_CURVE_PUBLICKEY, context->key.public_text) &&
           set_text(zmq, ZMQ_CURVE_SERVERKEY, context->key.public_text);
}

static bool set_options(struct wire_socket *s, const struct wire_socket_options *options,
                        const struct address *address)
{
    void *zmq = s->zmq;
    const uint32_t asked =
        options->queue_messages == 0 ? DEFAULT_QUEUE_MESSAGES : options->queue_messages;
    const int n_messages = asked > INT32_MAX ? INT32_MAX : (int)asked;
    const int64_t max_frame =
        s->max_message_bytes > INT64_MAX / 2 ? INT64_MAX : (int64_t)(s->max_message_bytes * 2);
    bool good =
        set_linger(zmq, options->linger_ms) && set_int(zmq, ZMQ_SNDHWM, n_messages) &&
        set_int(zmq, ZMQ_RCVHWM,
                n_messages < MAX_RECEIVE_MESSAGES ? n_messages : MAX_RECEIVE_MESSAGES) &&
        zmq_setsockopt(zmq, ZMQ_MAXMSGSIZE, &max_frame, sizeof(max_frame)) == 0 &&
        set_int(zmq, ZMQ_RECONNECT_IVL, RECONNECT_MS) &&
        set_int(zmq, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS) &&
        set_int(zmq, ZMQ_CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS) &&
        set_int(zmq, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) && set_int(zmq, ZMQ_TCP_KEEPALIVE, 1) &&
        set_int(zmq, ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S) &&
        set_int(zmq, ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S) &&
        set_int(zmq, ZMQ_TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT) &&
        set_int(zmq, ZMQ_IMMEDIATE, options->immediate) &&
        set_int(zmq, ZMQ_IPV6, wants_ipv6(address)) && set_curve(zmq, s->context, options->listen);
    if (good && s->kind == WIRE_ROUTER)
        good = set_int(zmq, ZMQ_ROUTER_MANDATORY, 1) &&
               set_int(zmq, ZMQ_ROUTER_HANDOVER, options->handover);
    if (good && options->identity != NULL)
        good = set_text(zmq, ZMQ_ROUTING_ID, options->identity);
    return good;
}

/* libzmq removes what stands at an ipc path before it listens there: not a file of the user's. */
static enum status spare_file(const struct address *address, struct error *error)
{
    struct stat info;
    if (address->kind != ADDRESS_IPC || lstat(address->path, &info) != 0 || S_ISSOCK(info.st_mode))
        return STATUS_OK;
    return error_set(error, STATUS_INVALID,
                     "cannot listen at ipc://%s: a file that is no socket "
                     "is there; choose another path",
                     address->path);
}

static enum status listen_at(struct wire_socket *s, const struct address *address,
                             struct error *error)
{
    const enum status status = spare_file(address, error);
    if (status != STATUS_OK)
        return status;
    size_t size = sizeof(s->endpoint);
    if (zmq_bind(s->zmq, s->endpoint) != 0) {
        const int reason = errno;
        return error_set(
            error, STATUS_UNREACHABLE, "cannot listen at %s: %s%s", s->endpoint,
            zmq_strerror(reason),
            reason == EADDRINUSE ? "; another program listens there, choose another port"
            : reason == ENODEV   ? "; this machine has no interface, and no address, of that name"
                                 : "");
    }
    if (zmq_getsockopt(s->zmq, ZMQ_LAST_ENDPOINT, s->endpoint, &size) != 0)
        return error_set(error, STATUS_IO, "ZeroMQ does not say where it listens: %s",
                         zmq_strerror(errno));
    return STATUS_OK;
}

static enum status connect_to(struct wire_socket *s, const struct address *address,
                              struct error *error)
{
    if (address->is_any || (address->kind == ADDRESS_TCP && address->port == 0))
        return error_set(error, STATUS_INVALID,
                         "%s can only be listened at: give the host and port to connect to",
                         s->endpoint);
    if (zmq_connect(s->zmq, s->endpoint) != 0)
        return error_set(error, STATUS_UNREACHABLE, "cannot connect to %s: %s", s->endpoint,
                         zmq_strerror(errno));
    return STATUS_OK;
}

/* *address is what the endpoint says; inside the process it says nothing: no port, no name to look
 * up. */
static enum status check_options(const struct wire_socket_options *options,
                                 const struct wire_context *context, struct address *address,
                                 struct error *error)
{
    enum status status = STATUS_OK;
    *address = (struct address){.kind = ADDRESS_IPC};
    if (!options->inside)
        status =
            address_check(options->endpoint, context->have_key, context->insecure_network, error);
    if (status == STATUS_OK && !options->inside)
        status = address_parse(options->endpoint, address, error);
    if (status != STATUS_OK)
        return status;
    if (options->inside &&
        (options->listen || strncmp(options->endpoint, INSIDE, strlen(INSIDE)) != 0))
        return error_set(error, STATUS_INVALID, "%.200s is no address inside this process",
                         options->endpoint);
    if (strlen(options->endpoint) >= ADDRESS_BYTES)
        return error_set(error, STATUS_INVALID, "%.200s...: an address has at most %d bytes",
                         options->endpoint, ADDRESS_BYTES - 1);
    const size_t identity_bytes = options->identity == NULL ? 1 : strlen(options->identity);
    if (identity_bytes == 0 || identity_bytes > MAX_IDENTITY_BYTES)
        return error_set(error, STATUS_INVALID, "an identity has 1 to %d bytes, not %zu",
                         MAX_IDENTITY_BYTES, identity_bytes);
    return STATUS_OK;
}

static uint64_t share_of_memory(void)
{
    const uint64_t bytes = memory_total_bytes();
    return bytes > 0 ? bytes / SHARE_OF_QUEUES : default_all_queues_bytes;
}

enum status wire_socket_open(struct wire_socket **socket, struct wire_context *context,
                             const struct wire_socket_options *options, struct error *error)
{
    struct address address;
    enum status status = check_options(options, context, &address, error);
    if (status != STATUS_OK)
        return status;

    struct wire_socket *s = calloc(1, sizeof(*s));
    if (s == NULL || (s->queue = wire_queue_create(NULL)) == NULL) {
        free(s);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a socket to %s",
                         options->endpoint);
    }
    s->context = context;
    s->kind = options->kind;
    s->listen = options->listen;
    s->max_message_bytes =
        options->max_message_bytes == 0 ? default_max_message_bytes : options->max_message_bytes;
    s->queue_bytes = options->queue_bytes == 0 ? default_queue_bytes : options->queue_bytes;
    s->all_queues_bytes = options->all_queues_bytes;
    if (s->kind == WIRE_ROUTER && s->all_queues_bytes == 0)
        s->all_queues_bytes = share_of_memory();
    snprintf(s->endpoint, sizeof(s->endpoint), "%s", options->endpoint);
    atomic_fetch_add(&context->n_sockets, 1);

    s->zmq = zmq_socket(context->zmq, s->kind == WIRE_ROUTER ? ZMQ_ROUTER : ZMQ_DEALER);
    if (s->zmq == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "cannot open a socket to %s: %s", s->endpoint,
                           zmq_strerror(errno));
    else if (!set_options(s, options, &address))
        status = error_set(error, STATUS_UNSUPPORTED, "cannot set up the socket to %s: %s",
                           s->endpoint, zmq_strerror(errno));
    if (status == STATUS_OK)
        status = wire_events_open(s, error);
    if (status == STATUS_OK)
        status = s->listen ? listen_at(s, &address, error) : connect_to(s, &address, error);
    if (status != STATUS_OK) {
        wire_socket_close(s);
        return status;
    }
    snprintf(s->name, sizeof(s->name), "%s", options->name != NULL ? options->name : s->endpoint);
    *socket = s;
    return STATUS_OK;
}

enum status wire_socket_listen_inside(struct wire_socket *socket, const char *endpoint,
                                      struct error *error)
{
    if (strncmp(endpoint, INSIDE, strlen(INSIDE)) != 0 || zmq_bind(socket->zmq, endpoint) != 0)
        return error_set(error, STATUS_UNREACHABLE, "cannot listen at %s: %s", endpoint,
                         zmq_strerror(errno));
    return STATUS_OK;
}

void wire_socket_close(struct wire_socket *socket)
{
    if (socket == NULL)
        return;
    if (socket->zmq != NULL) {
        zmq_socket_monitor(socket->zmq, NULL, 0);
        zmq_close(socket->zmq);
    }
    if (socket->monitor != NULL)
        zmq_close(socket->monitor);
    wire_queue_release(socket->queue);
    for (size_t i = 0; i < socket->n_peers; i++)
        wire_queue_release(socket->peers[i].queue);
    free(socket->peers);
    atomic_fetch_sub(&socket->context->n_sockets, 1);
    free(socket);
}

void wire_socket_set_linger(struct wire_socket *socket, uint32_t linger_ms)
{
    (void)set_linger(socket->zmq, linger_ms); /* an open socket takes every number */
}

const char *wire_socket_endpoint(const struct wire_socket *socket)
{
    return socket->endpoint;
}

const char *wire_socket_name(const struct wire_socket *socket)
{
    return socket->name;
}

/* ---- what is on its way ---- */

struct wire_queue *wire_queue_create(struct wire_queue *all)
{
    struct wire_queue *queue = calloc(1, sizeof(*queue));
    if (queue == NULL)
        return NULL;
    atomic_init(&queue->n_users, 1);
    queue->all = all;
    if (all != NULL)
        atomic_fetch_add(&all->n_users, 1);
    return queue;
}

void wire_queue_release(struct wire_queue *queue)
{
    while (queue != NULL && atomic_fetch_sub(&queue->n_users, 1) == 1) {
        struct wire_queue *const all = queue->all;
        free(queue);
        queue = all;
    }
}

/* One message may always go to who has none on its way. Beyond that a peer may have as much as is
 * free of the whole (Choudhury and Hahne 1998, dynamic queue length thresholds): however many do not
 * read, as much stays free for others as each of them has. */
bool wire_queue_has_room(const struct wire_socket *socket, const struct wire_queue *queue,
                         size_t bytes)
{
    const size_t queued = atomic_load(&queue->bytes);
    uint64_t most = socket->queue_bytes;
    if (socket->kind == WIRE_ROUTER) {
        const size_t all = atomic_load(&socket->queue->bytes);
        const uint64_t free_bytes =
            all < socket->all_queues_bytes ? socket->all_queues_bytes - all : 0;
        most = free_bytes < most ? free_bytes : most;
    }
    return queued == 0 || (bytes <= most && queued <= most - bytes);
}

void wire_queue_add(struct wire_queue *queue, size_t bytes)
{
    for (; queue != NULL; queue = queue->all)
        atomic_fetch_add(&queue->bytes, bytes);
}

void wire_queue_take(struct wire_queue *queue, size_t bytes)
{
    for (; queue != NULL; queue = queue->all)
        atomic_fetch_sub(&queue->bytes, bytes);
}

/* Peers to whom nothing is on its way need no queue. */
static void drop_idle_peers(struct wire_socket *socket)
{
    size_t kept = 0;
    for (size_t i = 0; i < socket->n_peers; i++)
        if (atomic_load(&socket->peers[i].queue->bytes) > 0)
            socket->peers[kept++] = socket->peers[i];
        else
            wire_queue_release(socket->peers[i].queue);
    socket->n_peers = kept;
}

/* Without memory all peers share one. */
struct wire_queue *wire_queue_of(struct wire_socket *socket, const struct frames_peer *peer)
{
    if (socket->kind != WIRE_ROUTER)
        return socket->queue;
    for (size_t i = 0; i < socket->n_peers; i++)
        if (frames_same_peer(&socket->peers[i].peer, peer))
            return socket->peers[i].queue;
    if (socket->n_peers == socket->peers_capacity)
        drop_idle_peers(socket);
    struct wire_queue *queue = wire_queue_create(socket->queue);
    if (queue == NULL || !array_grow(&socket->peers, &socket->peers_capacity, socket->n_peers + 1,
                                     sizeof(*socket->peers))) {
        wire_queue_release(queue);
        return socket->queue;
    }
    socket->peers[socket->n_peers++] = (struct wire_peer_queue){.peer = *peer, .queue = queue};
    return queue;
}
