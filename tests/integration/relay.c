/* relay.c - stands between the workers and one attention node, and zeroes the K and V of some
 * tokens.
 *
 *     relay FRONT BACK FIRST END        FRONT, BACK: ZeroMQ endpoints; tokens [FIRST, END)
 *
 * The node never sees the true K and V of these tokens, as if its pages of them had been wiped.
 * What a run then answers shows whether the answer came out of these pages. On SIGTERM it prints
 * how many rows it zeroed. */
#include "proto/longspan.pb-c.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum { MAX_PEERS = 64, MAX_FRAMES = 16 };

struct peer {
    char identity[256];
    size_t identity_bytes;
    void *back; /* DEALER to the node */
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "relay: %s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(4);
}

static int receive(void *socket, zmq_msg_t frames[MAX_FRAMES])
{
    int n = 0;
    do {
        if (n == MAX_FRAMES)
            die("too many frames");
        zmq_msg_init(&frames[n]);
        if (zmq_msg_recv(&frames[n], socket, 0) < 0)
            die("receive");
    } while (zmq_msg_more(&frames[n++]));
    return n;
}

static void send_all(void *socket, zmq_msg_t *frames, int n)
{
    for (int i = 0; i < n; i++)
        if (zmq_msg_send(&frames[i], socket, i + 1 < n ? ZMQ_SNDMORE : 0) < 0)
            die("send");
}

/* Rows of K and V that were zeroed in this message; frames are header, k, v. */
static unsigned long zero(zmq_msg_t *frames, int n, unsigned long first, unsigned long end)
{
    unsigned long zeroed = 0, row = 0, rows = 0;
    Longspan__Data *data =
        longspan__data__unpack(NULL, zmq_msg_size(&frames[0]), zmq_msg_data(&frames[0]));
    if (data != NULL && data->body_case == LONGSPAN__DATA__BODY_APPEND && n == 3) {
        const Longspan__Append *append = data->append;
        for (size_t i = 0; i < append->n_entries; i++)
            rows += append->entries[i]->n_tokens;
        for (size_t i = 0; i < append->n_entries; i++) {
            for (unsigned long t = 0; t < append->entries[i]->n_tokens; t++, row++) {
                const unsigned long token = append->entries[i]->first + t;
                if (token < first || token >= end)
                    continue;
                for (int f = 1; f < 3; f++) {
                    const size_t bytes = zmq_msg_size(&frames[f]) / rows;
                    memset((char *)zmq_msg_data(&frames[f]) + row * bytes, 0, bytes);
                }
                zeroed++;
            }
        }
    }
    longspan__data__free_unpacked(data, NULL);
    return zeroed;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: relay FRONT BACK FIRST END\n");
        return 2;
    }
    const unsigned long first = strtoul(argv[3], NULL, 10), end = strtoul(argv[4], NULL, 10);
    unsigned long zeroed = 0;
    static struct peer peers[MAX_PEERS];
    int n_peers = 0, linger = 0;

    signal(SIGTERM, on_signal);
    void *context = zmq_ctx_new();
    void *front = zmq_socket(context, ZMQ_ROUTER);
    zmq_setsockopt(front, ZMQ_LINGER, &linger, sizeof(linger));
    if (zmq_bind(front, argv[1]) != 0)
        die(argv[1]);
    while (!stopped) {
        zmq_pollitem_t items[MAX_PEERS + 1] = {{.socket = front, .events = ZMQ_POLLIN}};
        zmq_msg_t frames[MAX_FRAMES];
        for (int i = 0; i < n_peers; i++)
            items[i + 1] = (zmq_pollitem_t){.socket = peers[i].back, .events = ZMQ_POLLIN};
        if (zmq_poll(items, n_peers + 1, 100) < 0)
            continue;
        for (int i = 0; i < n_peers; i++) {
            if ((items[i + 1].revents & ZMQ_POLLIN) == 0)
                continue;
            const int n = receive(peers[i].back, frames);
            if (zmq_send(front, peers[i].identity, peers[i].identity_bytes, ZMQ_SNDMORE) < 0)
                die("answer");
            send_all(front, frames, n);
        }
        if ((items[0].revents & ZMQ_POLLIN) != 0) {
            const int n = receive(front, frames);
            const size_t bytes = zmq_msg_size(&frames[0]);
            int i = 0;
            while (i < n_peers && (peers[i].identity_bytes != bytes ||
                                   memcmp(peers[i].identity, zmq_msg_data(&frames[0]), bytes) != 0))
                i++;
            if (i == n_peers) {
                if (n_peers == MAX_PEERS || bytes > sizeof(peers[i].identity))
                    die("too many peers");
                memcpy(peers[i].identity, zmq_msg_data(&frames[0]), bytes);
                peers[i].identity_bytes = bytes;
                peers[i].back = zmq_socket(context, ZMQ_DEALER);
                zmq_setsockopt(peers[i].back, ZMQ_LINGER, &linger, sizeof(linger));
                if (zmq_connect(peers[i].back, argv[2]) != 0)
                    die(argv[2]);
                n_peers++;
            }
            zmq_msg_close(&frames[0]);
            zeroed += zero(frames + 1, n - 1, first, end);
            send_all(peers[i].back, frames + 1, n - 1);
        }
    }
    printf("%lu\n", zeroed);
    return 0;
}
