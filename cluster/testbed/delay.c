/* delay.c - joins network interfaces as a switch does, and holds each frame for a while: a link of
 * a given delay, for kernels without netem. Usage: delay MICROSECONDS INTERFACE INTERFACE...
 *
 * Packet sockets (packet(7)) with PACKET_VNET_HDR: frames come as the sender's kernel made them, up
 * to 64 KiB that a network card would cut and sum up, and go on with the header that says so. A
 * frame goes to the interface where its destination was last heard of, to all others while that is
 * unknown. The delay is the same for all, so that frames wait in one queue. Needs CAP_NET_RAW; ends
 * by a signal. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MOST_PORTS = 64,
    MOST_FRAMES = 1 << 15, /* that wait: a second of 10 Gbit/s in frames of 64 KiB is 20,000 */
    MOST_FRAME_BYTES = 10 + 65536 + ETH_HLEN, /* with the virtio_net header in front */
    VNET_BYTES = 10,
    SOCKET_BYTES = 64 << 20,
    SLACK_NS = 10000, /* a frame that is due this soon goes now: a sleep takes longer */
};

struct port {
    int socket;
    unsigned char mac[ETH_ALEN]; /* of the host behind it */
};

struct frame {
    uint64_t due_ns;
    uint32_t from, n_bytes;
    unsigned char *bytes;
};

struct relay {
    uint64_t delay_ns;
    struct port ports[MOST_PORTS];
    struct pollfd polls[MOST_PORTS];
    uint32_t n_ports;
    struct frame *frames; /* a ring */
    uint64_t first, end;
    unsigned char incoming[MOST_FRAME_BYTES];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool open_port(struct port *port, const char *name)
{
    const int yes = 1, bytes = SOCKET_BYTES;
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    address.sll_ifindex = (int)if_nametoindex(name);
    port->socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (address.sll_ifindex == 0 || port->socket < 0)
        return false;
    setsockopt(port->socket, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    setsockopt(port->socket, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    const struct packet_mreq promiscuous = {.mr_ifindex = address.sll_ifindex,
                                            .mr_type = PACKET_MR_PROMISC};
    return setsockopt(port->socket, SOL_PACKET, PACKET_VNET_HDR, &yes, sizeof(yes)) == 0 &&
           setsockopt(port->socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes)) == 0 &&
           setsockopt(port->socket, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous,
                      sizeof(promiscuous)) == 0 &&
           bind(port->socket, (struct sockaddr *)&address, sizeof(address)) == 0;
}

/* Takes what has come to a port. A frame too many is lost, as in a switch. */
static void take(struct relay *relay, uint32_t index)
{
    for (uint32_t i = 0; i < 256; i++) {
        const ssize_t got =
            recv(relay->ports[index].socket, relay->incoming, sizeof(relay->incoming), 0);
        if (got < VNET_BYTES + ETH_HLEN)
            return;
        const unsigned char *source = relay->incoming + VNET_BYTES + ETH_ALEN;
        memcpy(relay->ports[index].mac, source, ETH_ALEN);
        struct frame *frame = &relay->frames[relay->end % MOST_FRAMES];
        if (relay->end - relay->first == MOST_FRAMES ||
            (frame->bytes = malloc((size_t)got)) == NULL)
            continue;
        memcpy(frame->bytes, relay->incoming, (size_t)got);
        frame->due_ns = now_ns() + relay->delay_ns;
        frame->from = index;
        frame->n_bytes = (uint32_t)got;
        relay->end++;
    }
}

static void give(struct relay *relay, const struct frame *frame)
{
    const unsigned char *destination = frame->bytes + VNET_BYTES;
    uint32_t to = 0;
    while (to < relay->n_ports && memcmp(relay->ports[to].mac, destination, ETH_ALEN) != 0)
        to++;
    for (uint32_t i = 0; i < relay->n_ports; i++)
        if (i != frame->from && (to == relay->n_ports || i == to))
            (void)!send(relay->ports[i].socket, frame->bytes, frame->n_bytes, 0);
}

static void run(struct relay *relay)
{
    for (;;) {
        const bool waits = relay->first != relay->end;
        const uint64_t now = now_ns();
        const uint64_t due = waits ? relay->frames[relay->first % MOST_FRAMES].due_ns : 0;
        if (waits && due <= now + SLACK_NS) {
            struct frame *frame = &relay->frames[relay->first++ % MOST_FRAMES];
            give(relay, frame);
            free(frame->bytes);
            continue;
        }
        const uint64_t left = waits ? due - now : 0;
        const struct timespec timeout = {.tv_sec = (time_t)(left / 1000000000u),
                                         .tv_nsec = (long)(left % 1000000000u)};
        if (ppoll(relay->polls, relay->n_ports, waits ? &timeout : NULL, NULL) > 0)
            for (uint32_t i = 0; i < relay->n_ports; i++)
                if (relay->polls[i].revents != 0)
                    take(relay, i);
    }
}

int main(int argc, char **argv)
{
    static struct relay relay;
    char *rest = NULL;
    const long delay_us = argc > 1 ? strtol(argv[1], &rest, 10) : -1;
    if (argc < 4 || argc - 2 > MOST_PORTS || *rest != '\0' || delay_us < 0 || delay_us > 1000000) {
        fprintf(stderr, "usage: delay MICROSECONDS INTERFACE INTERFACE...\n");
        return 2;
    }
    relay.delay_ns = (uint64_t)delay_us * 1000;
    relay.frames = calloc(MOST_FRAMES, sizeof(*relay.frames));
    for (int i = 2; i < argc; i++) {
        struct port *port = &relay.ports[relay.n_ports];
        if (!open_port(port, argv[i]) || relay.frames == NULL) {
            fprintf(stderr, "delay: error: %s: %s\n", argv[i], strerror(errno));
            return 3;
        }
        relay.polls[relay.n_ports++] = (struct pollfd){.fd = port->socket, .events = POLLIN};
    }
    /* Like a wire: nobody who spins on a processor keeps a frame waiting. Not everywhere
     * allowed. */
    const struct sched_param first = {.sched_priority = 1};
    sched_setscheduler(0, SCHED_FIFO, &first);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    run(&relay);
}
