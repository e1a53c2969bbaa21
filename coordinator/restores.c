/* restores.c - see restores.h. Few are under way at a time: a list. */
#include "coordinator/restores.h"

#include "kernels/attention/kv_holder.h"

#include <stdlib.h>
#include <string.h>

struct restore {
    struct restore *next;
    uint64_t number, deadline_us;
    uint32_t sequence, n_awaited;
    bool *awaited; /* [n_holders] have not answered */
    bool failed;
};

struct restores {
    struct reservations *reservations;
    struct scheduler *scheduler;
    struct prefix_index *stored; /* owners are nodes */
    struct restore *first;
};

enum status restores_create(struct restores **restores, struct reservations *reservations,
                            struct scheduler *scheduler, struct error *error)
{
    struct restores *r = calloc(1, sizeof(*r));
    if (r == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for what is stored");
    r->reservations = reservations;
    r->scheduler = scheduler;
    enum status status = prefix_index_create(&r->stored, error);
    const struct cluster *cluster = reservations->cluster;
    for (uint32_t node = 0; status == STATUS_OK && node < cluster->n_nodes; node++)
        for (size_t i = 0; status == STATUS_OK && i < cluster->nodes[node].n_stored; i++)
            status = prefix_index_add(r->stored, node, &cluster->nodes[node].stored[i], error);
    if (status != STATUS_OK) {
        restores_destroy(r);
        return status;
    }
    *restores = r;
    return STATUS_OK;
}

static void free_restore(struct restore *restore)
{
    if (restore != NULL)
        free(restore->awaited);
    free(restore);
}

void restores_destroy(struct restores *restores)
{
    if (restores == NULL)
        return;
    while (restores->first != NULL) {
        struct restore *next = restores->first->next;
        free_restore(restores->first);
        restores->first = next;
    }
    prefix_index_destroy(restores->stored);
    free(restores);
}

void restores_changed(struct restores *r, uint32_t node, const Longspan__NodeStored *stored)
{
    struct prefix_name name;
    if (stored->job != r->reservations->cluster->job)
        return;
    for (size_t i = 0; i + sizeof(name) <= stored->gone.len; i += sizeof(name)) {
        memcpy(&name, stored->gone.data + i, sizeof(name));
        prefix_index_remove_one(r->stored, node, &name);
    }
    for (size_t i = 0; i + sizeof(name) <= stored->added.len; i += sizeof(name)) {
        memcpy(&name, stored->added.data + i, sizeof(name));
        prefix_index_remove_one(r->stored, node, &name);      /* told twice */
        (void)prefix_index_add(r->stored, node, &name, NULL); /* without memory: not found */
    }
}

/* ---- beginning ------------------------------------------------------------------------------- */

/* The spans of one node, and the names of their pages, which lie together in `names`. */
static enum status send_restore(const struct restores *r, uint32_t node, uint64_t number,
                                const struct scheduler_sequence *q, const uint32_t *holders,
                                struct error *error)
{
    struct control *control = r->reservations->control;
    const uint32_t n_pages = q->n_tokens / PAGE_TOKENS;
    Longspan__Span *spans = arena_array(&control->arena, n_pages, sizeof(*spans));
    Longspan__Span **list = arena_array(&control->arena, n_pages, sizeof(*list));
    struct prefix_name *names = arena_array(&control->arena, n_pages, sizeof(*names));
    if (spans == NULL || list == NULL || names == NULL) {
        arena_reset(&control->arena);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a restore");
    }
    Longspan__Restore restore = LONGSPAN__RESTORE__INIT;
    size_t n_names = 0;
    for (uint32_t page = 0; page < n_pages; page++) {
        if (holders[page] != node)
            continue;
        if (page == 0 || holders[page - 1] != node) {
            longspan__span__init(&spans[restore.n_spans]);
            spans[restore.n_spans].begin = page * PAGE_TOKENS;
            list[restore.n_spans] = &spans[restore.n_spans];
            restore.n_spans++;
        }
        spans[restore.n_spans - 1].end = (page + 1) * PAGE_TOKENS;
        names[n_names++] = q->names[page];
    }
    restore.job = r->reservations->cluster->job;
    restore.request = number;
    restore.sequence = q->name;
    restore.incarnation = q->incarnation;
    restore.spans = list;
    restore.names.data = (uint8_t *)names;
    restore.names.len = n_names * sizeof(*names);
    Longspan__Control message = LONGSPAN__CONTROL__INIT;
    message.body_case = LONGSPAN__CONTROL__BODY_RESTORE;
    message.restore = &restore;
    return control_send(control, &r->reservations->cluster->nodes[node].peer, &message, NULL, 0,
                        error);
}

/* All answers are in: it is kept, or closed. */
static void end_restore(struct restores *r, struct restore *restore)
{
    struct restore **link = &r->first;
    while (*link != restore)
        link = &(*link)->next;
    *link = restore->next;
    scheduler_restored(r->scheduler, restore->sequence, !restore->failed);
    free_restore(restore);
}

static void send_all(struct restores *r, struct restore *restore, const uint32_t *holders)
{
    const struct scheduler_sequence *q = scheduler_sequence(r->scheduler, restore->sequence);
    const struct cluster *cluster = r->reservations->cluster;
    for (uint32_t node = 0; node < r->reservations->n_holders; node++) {
        struct error error;
        if (!placement_holds(r->reservations->placement, q->place, node))
            continue;
        if (send_restore(r, node, restore->number, q, holders, &error) == STATUS_OK) {
            restore->awaited[node] = true;
            restore->n_awaited++;
        } else {
            log_warn(r->reservations->log, "attention node %s: %s", cluster->nodes[node].label,
                     error.text);
            restore->failed = true;
        }
    }
    if (restore->n_awaited == 0)
        end_restore(r, restore);
}

void restores_begin(struct restores *r, uint32_t sequence, uint64_t now_us)
{
    const struct scheduler_sequence *q = scheduler_sequence(r->scheduler, sequence);
    if (!r->reservations->cluster->options->prefix_cache || !q->shares ||
        q->awaited != SCHEDULER_NONE)
        return;
    const uint32_t most = (q->n_prompt - 1) / PAGE_TOKENS;
    uint32_t *holders = malloc((most + 1u) * sizeof(*holders)), n = 0;
    struct restore *restore = calloc(1, sizeof(*restore));
    if (restore != NULL)
        restore->awaited = calloc(r->reservations->n_holders, sizeof(*restore->awaited));
    if (holders == NULL || restore == NULL || restore->awaited == NULL)
        goto out; /* it is computed */
    while (n < most &&
           (holders[n] = prefix_index_owner(r->stored, &q->names[n])) != PREFIX_INDEX_NONE)
        n++;
    if (n < scheduler_found(r->scheduler, sequence) + RESTORES_LEAST_PAGES)
        goto out;
    for (const struct restore *other = r->first; other != NULL; other = other->next) {
        const struct scheduler_sequence *same = scheduler_sequence(r->scheduler, other->sequence);
        if (prefix_name_equal(&same->names[same->n_named - 1], &q->names[n - 1])) {
            scheduler_await(r->scheduler, sequence, other->sequence);
            goto out;
        }
    }
    if (scheduler_restore(r->scheduler, q->names, holders, n, &restore->sequence, NULL) !=
        STATUS_OK)
        goto out; /* no room there */
    scheduler_await(r->scheduler, sequence, restore->sequence);
    restore->number = r->reservations->next_number++;
    restore->deadline_us = now_us + r->reservations->cluster->options->timeout_ms * 1000ull;
    restore->next = r->first;
    r->first = restore;
    log_debug(r->reservations->log, "%u stored pages are read again", n);
    send_all(r, restore, holders);
    restore = NULL;
out:
    free(holders);
    free_restore(restore);
}

/* ---- ending ---------------------------------------------------------------------------------- */

bool restores_answered(struct restores *r, uint32_t node, const Longspan__ReserveReply *reply)
{
    struct restore *restore = r->first;
    while (restore != NULL && restore->number != reply->request)
        restore = restore->next;
    if (restore == NULL)
        return false;
    if (!restore->awaited[node])
        return true; /* said twice */
    restore->awaited[node] = false;
    if (reply->failure != NULL) {
        log_warn(r->reservations->log, "attention node %s: %.800s; it is computed again",
                 r->reservations->cluster->nodes[node].label,
                 reply->failure->text != NULL ? reply->failure->text : "a restore failed");
        restore->failed = true;
    }
    if (--restore->n_awaited == 0)
        end_restore(r, restore);
    return true;
}

void restores_check(struct restores *r, uint64_t now_us)
{
    struct restore *next;
    for (struct restore *restore = r->first; restore != NULL; restore = next) {
        next = restore->next;
        if (now_us < restore->deadline_us)
            continue;
        log_warn(r->reservations->log, "stored pages were not read in time (--timeout)");
        restore->failed = true;
        end_restore(r, restore);
    }
}
