/* rings.c - see rings.h. */
#include "attention_node/rings.h"

#include "attention_node/serve.h"

#include <string.h>

void rings_open(struct rings *rings, bool refuse, const struct log *log)
{
    *rings = (struct rings){.refuse = refuse, .log = log};
    neighbour_boot(rings->boot);
}

void rings_end(struct rings *rings)
{
    for (uint32_t i = 0; i < rings->n; i++)
        rings->entries[i].ended = true;
}

void rings_sweep(struct rings *rings)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < rings->n; i++) {
        if (rings->entries[i].ended)
            wire_ring_destroy(rings->entries[i].ring);
        else
            rings->entries[kept++] = rings->entries[i];
    }
    rings->n = kept;
}

static struct rings_entry *find(struct rings *rings, const struct frames *frames)
{
    for (uint32_t i = 0; i < rings->n; i++)
        if (!rings->entries[i].ended && wire_ring_has_peer(rings->entries[i].ring, frames))
            return &rings->entries[i];
    return NULL;
}

struct wire_ring *rings_find(struct rings *rings, const struct frames *frames)
{
    const struct rings_entry *entry = find(rings, frames);
    return entry != NULL ? entry->ring : NULL;
}

/* Opens what the offer describes. NULL: it stays with the socket, and why is only worth a line for
 * who wants to know. */
static struct wire_ring *open_offer(const struct rings *rings, const Longspan__Ring *offer)
{
    struct wire_ring *ring = NULL;
    struct error why = {0};
    struct wire_ring_offer plain = {.process = offer->process,
                                    .memory = offer->memory,
                                    .bell = offer->bell,
                                    .answer_bell = offer->answer_bell,
                                    .ring_bytes = offer->ring_bytes};
    if (rings->refuse || rings->n == RINGS_MAX || offer->nonce.len != sizeof(plain.nonce) ||
        rings->boot[0] == '\0' || strcmp(offer->boot, rings->boot) != 0)
        return NULL;
    memcpy(plain.nonce, offer->nonce.data, sizeof(plain.nonce));
    if (wire_ring_open(&ring, &plain,
                       &(struct wire_ring_options){.name = "a rank of this host",
                                                   .max_message_bytes = SERVE_MESSAGE_BYTES},
                       &why) != STATUS_OK)
        log_debug(rings->log, "stays on the socket: %s", why.text);
    return ring;
}

bool rings_offer(struct rings *rings, const struct frames *hello, const Longspan__Ring *offer)
{
    struct rings_entry *entry = find(rings, hello);
    if (entry != NULL) {
        if (offer != NULL && offer->nonce.len == NEIGHBOUR_NONCE_BYTES &&
            wire_ring_is(entry->ring, offer->nonce.data))
            return true;
        entry->ended = true;
    }
    struct wire_ring *ring = offer != NULL ? open_offer(rings, offer) : NULL;
    if (ring == NULL)
        return false;
    wire_ring_set_peer(ring, hello);
    rings->entries[rings->n++] = (struct rings_entry){.ring = ring};
    log_debug(rings->log, "a rank of this host talks through shared memory");
    return true;
}
