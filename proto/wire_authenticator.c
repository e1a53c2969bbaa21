/* wire_authenticator.c - answers ZAP requests (ZeroMQ RFC 27): one public key may come in.
 *
 * ZeroMQ asks on a channel inside the process for every handshake of a listening socket. CURVE
 * has then already proved that the peer has the secret key; what is left is to compare. The
 * requests come from libzmq, not from the peer, but hold the peer's words, and are checked. */
#include "proto/wire_parts.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <zmq.h>

enum {
    PART_VERSION,
    PART_REQUEST_ID,
    PART_DOMAIN,
    PART_ADDRESS,
    PART_IDENTITY,
    PART_MECHANISM,
    PART_PUBLIC_KEY,
    N_PARTS,
    PART_BYTES = 256 /* more than any part that we would say yes to */
};

struct zap_request {
    struct {
        uint8_t bytes[PART_BYTES];
        size_t size; /* as sent, may be more than PART_BYTES */
    } parts[N_PARTS];
    unsigned n_parts; /* as sent, may be more than N_PARTS */
};

/* False: the context ends. */
static bool receive_request(void *socket, struct zap_request *request)
{
    int more = 1;
    size_t more_size = sizeof(more);
    memset(request, 0, sizeof(*request));
    while (more) {
        uint8_t ignored[1];
        const bool kept = request->n_parts < N_PARTS;
        void *target = kept ? request->parts[request->n_parts].bytes : ignored;
        const int n = zmq_recv(socket, target, kept ? PART_BYTES : sizeof(ignored), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        if (kept)
            request->parts[request->n_parts].size = (size_t)n;
        request->n_parts++;
        if (zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &more_size) != 0)
            return false;
    }
    return true;
}

static bool part_is(const struct zap_request *request, unsigned part, const void *bytes,
                    size_t size)
{
    return request->parts[part].size == size && size <= PART_BYTES &&
           memcmp(request->parts[part].bytes, bytes, size) == 0;
}

static bool send_part(void *socket, const void *bytes, size_t size, int flags)
{
    int sent;
    do {
        sent = zmq_send(socket, bytes, size, flags);
    } while (sent < 0 && errno == EINTR);
    return sent >= 0;
}

static bool answer(void *socket, const struct zap_request *request, bool admitted)
{
    const char *code = admitted ? "200" : "400";
    const char *text = admitted ? "OK" : "not the key of this cluster";
    size_t id_size = request->parts[PART_REQUEST_ID].size;
    id_size = id_size > PART_BYTES ? PART_BYTES : id_size;
    return send_part(socket, "1.0", 3, ZMQ_SNDMORE) &&
           send_part(socket, request->parts[PART_REQUEST_ID].bytes, id_size, ZMQ_SNDMORE) &&
           send_part(socket, code, strlen(code), ZMQ_SNDMORE) &&
           send_part(socket, text, strlen(text), ZMQ_SNDMORE) &&
           send_part(socket, "", 0, ZMQ_SNDMORE) && send_part(socket, "", 0, 0);
}

static void *authenticate(void *argument)
{
    struct wire_context *context = argument;
    struct zap_request request;
    while (receive_request(context->authenticator, &request)) {
        const bool admitted = request.n_parts == N_PARTS &&
                              part_is(&request, PART_VERSION, "1.0", 3) &&
                              part_is(&request, PART_MECHANISM, "CURVE", 5) &&
                              part_is(&request, PART_PUBLIC_KEY, context->admitted_key,
                                      sizeof(context->admitted_key));
        if (!answer(context->authenticator, &request, admitted))
            break;
    }
    zmq_close(context->authenticator);
    return NULL;
}

enum status wire_authenticator_start(struct wire_context *context, struct error *error)
{
    if (zmq_z85_decode(context->admitted_key, context->key.public_text) == NULL)
        return error_set(error, STATUS_INVALID, "the cluster's public key is not valid");
    context->authenticator = zmq_socket(context->zmq, ZMQ_REP);
    if (context->authenticator == NULL ||
        zmq_bind(context->authenticator, "inproc://zeromq.zap.01") != 0)
        return error_set(error, STATUS_NO_MEMORY, "cannot start the key check: %s",
                         zmq_strerror(errno));

    sigset_t all, before; /* signals are for the main thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(&context->authenticator_thread, NULL, authenticate, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0)
        return error_set(error, STATUS_NO_MEMORY, "cannot start the key check: %s", strerror(code));
    context->authenticator_runs = true;
    return STATUS_OK;
}
