/* wire_poll.c - waiting for several sockets and descriptors: first by looking, then in the kernel.
 */
#include "proto/wire_parts.h"
#include "proto/wire_socket.h"

#include "sys/clock.h"
#include "sys/spin.h"

#include <errno.h>
#include <zmq.h>

enum { LONGEST_POLL_MS = 60000 /* a deadline of "never" does not fit zmq_poll's type */ };

bool wire_socket_readable(struct wire_socket *socket)
{
    int events = 0;
    size_t size = sizeof(events);
    return zmq_getsockopt(socket->zmq, ZMQ_EVENTS, &events, &size) == 0 &&
           (events & ZMQ_POLLIN) != 0;
}

/* One zmq_poll of all items. Returns how many can be read; -1 with errno. */
static int poll_once(struct wire_poll_item *items, size_t n, long timeout_ms)
{
    zmq_pollitem_t polled[WIRE_POLL_ITEMS];
    for (size_t i = 0; i < n; i++) {
        polled[i] = (zmq_pollitem_t){.events = ZMQ_POLLIN | ZMQ_POLLERR};
        if (items[i].socket != NULL)
            polled[i].socket = items[i].socket->zmq;
        else
            polled[i].fd = items[i].descriptor;
    }
    const int found = zmq_poll(polled, (int)n, timeout_ms);
    for (size_t i = 0; i < n; i++)
        items[i].readable = found > 0 && polled[i].revents != 0;
    return found;
}

static bool any_readable(struct wire_poll_item *items, size_t n)
{
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        items[i].readable = items[i].socket != NULL && wire_socket_readable(items[i].socket);
        any = any || items[i].readable;
    }
    return any;
}

enum status wire_poll(struct wire_poll_item *items, size_t n, uint32_t spin_us,
                      uint64_t deadline_us, struct error *error)
{
    if (n > WIRE_POLL_ITEMS)
        return error_set(error, STATUS_INVALID, "%zu sockets to wait for, at most %d", n,
                         WIRE_POLL_ITEMS);
    const uint64_t began = clock_us();
    uint64_t now = began;
    while (now - began < spin_us && now < deadline_us) {
        if (any_readable(items, n)) {
            (void)poll_once(items, n, 0); /* descriptors too: nobody starves behind a busy socket */
            return STATUS_OK;
        }
        spin_pause();
        now = clock_us();
    }
    for (;;) {
        const uint64_t left_ms = now < deadline_us ? (deadline_us - now - 1) / 1000 + 1 : 0;
        const int found =
            poll_once(items, n, left_ms > LONGEST_POLL_MS ? LONGEST_POLL_MS : (long)left_ms);
        if (found > 0 || (found < 0 && errno == EINTR))
            return STATUS_OK;
        if (found < 0)
            return error_set(error, errno == ETERM ? STATUS_CANCELLED : STATUS_IO,
                             "waiting for sockets: %s", zmq_strerror(errno));
        now = clock_us();
        if (now >= deadline_us)
            return error_set(error, STATUS_TIMEOUT, "nothing came before the deadline");
    }
}
