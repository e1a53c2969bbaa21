/* wire_context.c - see wire_context.h. */
#include "proto/wire_context.h"

#include "proto/wire_parts.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <zmq.h>

enum { REAPERS = 1 }; /* threads of ZeroMQ beside those that move bytes: it ends sockets */

/* libzmq 4.3 ends the process when a listener at an ipc address is told EMFILE; ENFILE, which asks
 * for the same patience, it knows. It finds this accept4 before the C library's. */
int wire_accept4(int listening, struct sockaddr *address, socklen_t *bytes,
                 int flags) __asm__("accept4");

int wire_accept4(int listening, struct sockaddr *address, socklen_t *bytes, int flags)
{
    const int fd = (int)syscall(SYS_accept4, listening, address, bytes, flags);
    if (fd < 0 && errno == EMFILE)
        errno = ENFILE;
    return fd;
}

enum status wire_context_create(struct wire_context **context,
                                const struct wire_context_options *options, struct error *error)
{
    const uint32_t n_io_threads = options->n_io_threads > 0 ? options->n_io_threads : 1;
    enum status status = wire_threads_check(n_io_threads + REAPERS, error);
    if (status != STATUS_OK)
        return status;
    struct wire_context *c = calloc(1, sizeof(*c));
    if (c == NULL || (c->zmq = zmq_ctx_new()) == NULL) {
        free(c);
        return error_set(error, STATUS_NO_MEMORY, "cannot start ZeroMQ: %s", zmq_strerror(errno));
    }
    c->insecure_network = options->insecure_network;
    zmq_ctx_set(c->zmq, ZMQ_IO_THREADS, (int)n_io_threads);
    wire_threads_open(&c->threads, c->zmq); /* before they start, with the first socket */
    /* Room for two sockets (its own, and its events) of every attention node there may be. */
    zmq_ctx_set(c->zmq, ZMQ_MAX_SOCKETS, zmq_ctx_get(c->zmq, ZMQ_SOCKET_LIMIT));
    zmq_ctx_set(c->zmq, ZMQ_BLOCKY, 0); /* sockets drop what is unsent unless told to linger */

    if (options->key != NULL) {
        c->key = *options->key;
        c->have_key = true;
        status = wire_authenticator_start(c, error);
    }
    if (status != STATUS_OK) {
        wire_context_destroy(c);
        return status;
    }
    *context = c;
    return STATUS_OK;
}

void wire_context_destroy(struct wire_context *context)
{
    if (context == NULL)
        return;
    assert(atomic_load(&context->n_sockets) == 0);
    zmq_ctx_shutdown(context->zmq); /* wakes the authenticator, which then closes its socket */
    if (context->authenticator_runs)
        pthread_join(context->authenticator_thread, NULL);
    else if (context->authenticator != NULL)
        zmq_close(context->authenticator);
    while (zmq_ctx_term(context->zmq) != 0 && errno == EINTR)
        continue;
    cluster_key_wipe(&context->key);
    free(context);
}
