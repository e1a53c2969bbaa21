/* coordinator/http/errand.h - one RunRequest that the bridge carries to the coordinator, and what
 * becomes of its events.
 *
 * It may come unread, as the body that the client sent: the desk (desk.h) makes the message of it,
 * on its own threads, before the bridge sends it. Or there is nothing to be sent, since reading it
 * gave the answer.
 *
 * It has two users, the call that waits for it and the bridge; the last one frees it. */
#ifndef LONGSPAN_COORDINATOR_HTTP_ERRAND_H
#define LONGSPAN_COORDINATOR_HTTP_ERRAND_H

#include "proto/longspan.pb-c.h"
#include "sys/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct errand;

enum errand_outcome {
    ERRAND_TO_SEND,  /* it has its message */
    ERRAND_ANSWERED, /* there is nothing to send: its client has been told all */
    ERRAND_STOPPED,  /* errand->stop was set: its client has been told nothing */
};

/* What an errand does with what happens to it, in the bridge's thread; `destroy` in that of the
 * last user. */
struct errand_kind {
    /* Reads what the client sent, in a thread of the desk; nothing else happens to the errand
     * meanwhile. NULL: it comes with its message. */
    enum errand_outcome (*read)(struct errand *errand);
    /* False: the client does not take it, and the errand is cancelled. */
    bool (*take)(struct errand *errand, const Longspan__RunEvent *event);
    /* It ends without an event: its client has gone, or the server ends. */
    void (*lost)(struct errand *errand, enum status status, const char *text);
    /* Once a second while it waits or runs. NULL: nothing happens then. */
    void (*tick)(struct errand *errand, uint64_t now_us);
    /* In MHD's thread: the connection ends, and must not be woken any more. */
    void (*detach)(struct errand *errand);
    void (*destroy)(struct errand *errand);
};

/* The first member of what makes use of it. */
struct errand {
    const struct errand_kind *kind;
    uint64_t number;  /* RunRequest.request, from bridge_number */
    int descriptor;   /* of the client's connection, to be watched */
    uint8_t *message; /* a packed Control with the RunRequest; the errand's, freed once sent */
    size_t n_bytes;
    size_t n_unread;  /* of what has to be read first; 0: it comes with its message */
    atomic_bool stop; /* nobody waits for it any more: reading it ends soon */
    atomic_uint n_users;
    /* the bridge's and the desk's */
    struct errand *next, *next_at_desk;
    enum errand_outcome outcome;
    bool sent;
};

/* A new errand has one user: the caller. */
void errand_open(struct errand *errand, const struct errand_kind *kind, uint64_t number,
                 int descriptor);
/* One user less; the last one destroys it. NULL is fine. */
void errand_release(struct errand *errand);

#endif
