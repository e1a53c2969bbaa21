/* coordinator/restores.h - prefixes that attention nodes have on disk (--kv-store), brought back.
 *
 * Nodes tell which pages they have stored, by name. When a longer prefix of a new prompt is stored
 * than any sequence has in memory, by RESTORES_LEAST_PAGES at least, each node reads its pages of it
 * into a new sequence, which is then kept like others; the prompt waits for it (scheduler_restore,
 * scheduler_await). If a page cannot be read, or a node does not answer in time, the prompt is
 * computed.
 *
 * One thread. */
#ifndef LONGSPAN_COORDINATOR_RESTORES_H
#define LONGSPAN_COORDINATOR_RESTORES_H

#include "coordinator/reservations.h"

struct restores; /* opaque */

enum { RESTORES_LEAST_PAGES = 2 }; /* more than memory has, for a restore to be worth its while */

/* Takes what the cluster's nodes said when they got ready. `reservations` outlives it; its numbers
 * are used. STATUS_NO_MEMORY. */
enum status restores_create(struct restores **restores, struct reservations *reservations,
                            struct scheduler *scheduler, struct error *error);
void restores_destroy(struct restores *restores);

/* What a node has stored, or has no more: names, 32 bytes each. */
void restores_changed(struct restores *restores, uint32_t node, const Longspan__NodeStored *stored);

/* A sequence that has just been added: what it can have from disk is on its way, or nothing is. */
void restores_begin(struct restores *restores, uint32_t sequence, uint64_t now_us);

/* True: the answer was to a restore. */
bool restores_answered(struct restores *restores, uint32_t node,
                       const Longspan__ReserveReply *reply);

/* Gives up those whose time is over. */
void restores_check(struct restores *restores, uint64_t now_us);

#endif
