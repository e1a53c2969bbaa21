/* network.c - see network.h. The kernel's own delaying queue (netem) is not everywhere, so the
 * relay holds pieces until they are due. */
#include "bench/measure/network.h"

#include "sys/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { COMMAND_BYTES = 1024, PIECE_BYTES = 64 << 10, MOST_PIECES = 256 };

/* ---- namespaces ---- */

enum status network_leave(struct error *error)
{
    if (unshare(CLONE_NEWNET) != 0)
        return error_set(error, STATUS_UNSUPPORTED, "no network namespace: %s", strerror(errno));
    return STATUS_OK;
}

enum status network_join(pid_t process, uint32_t megabits_per_s, struct error *error)
{
    static const char limit[] = "root tbf rate %umbit burst 256kb latency 100ms";
    char bucket[128], command[COMMAND_BYTES];
    snprintf(bucket, sizeof(bucket), limit, megabits_per_s);
    snprintf(command, sizeof(command),
             "exec >/dev/null 2>&1; far='nsenter -t %d -n'; "
             "ip link add lsx%d type veth peer name far0 netns %d && "
             "ip addr add 10.231.77.1/30 dev lsx%d && ip link set lsx%d up && "
             "tc qdisc add dev lsx%d %s && "
             "$far ip addr add " NETWORK_FAR_HOST "/30 dev far0 && $far ip link set far0 up && "
             "$far tc qdisc add dev far0 %s",
             (int)process, (int)process, (int)process, (int)process, (int)process, (int)process,
             bucket, bucket);
    if (system(command) != 0)
        return error_set(error, STATUS_UNSUPPORTED,
                         "no rate limit between namespaces: needs root, ip, nsenter, tc and tbf");
    return STATUS_OK;
}

/* ---- the relay ---- */

struct piece {
    uint64_t due_us;
    size_t bytes, sent;
    uint8_t data[PIECE_BYTES];
};

/* One way: a queue of pieces. */
struct way {
    int from, to;
    bool ended; /* nothing more comes; what has come is still passed on */
    uint32_t first, n;
    struct piece *pieces;
};

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void read_pieces(struct way *way, uint32_t delay_us)
{
    while (!way->ended && way->n < MOST_PIECES) {
        struct piece *piece = &way->pieces[(way->first + way->n) % MOST_PIECES];
        const ssize_t n = recv(way->from, piece->data, sizeof(piece->data), MSG_DONTWAIT);
        if (n <= 0) {
            way->ended = n == 0 || (errno != EAGAIN && errno != EINTR);
            return;
        }
        piece->due_us = clock_us() + delay_us;
        piece->bytes = (size_t)n;
        piece->sent = 0;
        way->n++;
    }
}

static void send_due(struct way *way)
{
    while (way->n > 0) {
        struct piece *piece = &way->pieces[way->first];
        if (clock_us() < piece->due_us)
            return;
        const ssize_t n = send(way->to, piece->data + piece->sent, piece->bytes - piece->sent,
                               MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
            return;
        piece->sent += (size_t)n;
        if (piece->sent == piece->bytes) {
            way->first = (way->first + 1) % MOST_PIECES;
            way->n--;
        }
    }
}

static void pass(struct way ways[2], uint32_t delay_us)
{
    for (;;) {
        uint64_t next_us = clock_us() + 1000000;
        struct pollfd polled[2];
        for (int i = 0; i < 2; i++) {
            read_pieces(&ways[i], delay_us);
            send_due(&ways[i]);
            if (ways[i].ended && ways[i].n == 0)
                return;
            if (ways[i].n > 0 && ways[i].pieces[ways[i].first].due_us < next_us)
                next_us = ways[i].pieces[ways[i].first].due_us;
            polled[i] = (struct pollfd){.fd = ways[i].ended ? -1 : ways[i].from, .events = POLLIN};
        }
        const uint64_t now = clock_us();
        const uint64_t left = next_us > now ? next_us - now : 0;
        const struct timespec timeout = {.tv_sec = (time_t)(left / 1000000),
                                         .tv_nsec = (long)(left % 1000000 * 1000)};
        ppoll(polled, 2, &timeout, NULL);
    }
}

void network_relay(uint16_t from, uint16_t to, uint32_t delay_us, int ready)
{
    const int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in here = loopback(from), there = loopback(to);
    struct way ways[2] = {{.pieces = malloc(MOST_PIECES * sizeof(struct piece))},
                          {.pieces = malloc(MOST_PIECES * sizeof(struct piece))}};
    prctl(PR_SET_TIMERSLACK, 1);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (ways[0].pieces == NULL || ways[1].pieces == NULL ||
        bind(listener, (const struct sockaddr *)&here, sizeof(here)) != 0 ||
        listen(listener, 1) != 0 || write(ready, "", 1) != 1)
        _exit(1);
    const int near = accept(listener, NULL, NULL);
    const int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (near < 0 || connect(far, (const struct sockaddr *)&there, sizeof(there)) != 0)
        _exit(1);
    setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    setsockopt(far, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    ways[0].from = ways[1].to = near;
    ways[0].to = ways[1].from = far;
    pass(ways, delay_us);
    _exit(0);
}
