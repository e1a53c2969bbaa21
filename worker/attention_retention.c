/* attention_retention.c - a queue for each layer; emptied messages wait in a list to be used again.
 */
#include "worker/attention_retention.h"

#include "sys/array.h"

#include <stdlib.h>
#include <string.h>

enum status attention_retention_open(struct attention_retention *retention, uint32_t n_layers,
                                     struct error *error)
{
    struct attention_retention r = {.n_layers = n_layers};
    r.first = calloc(n_layers, sizeof(struct attention_retained *));
    r.last = calloc(n_layers, sizeof(struct attention_retained *));
    if (r.first == NULL || r.last == NULL) {
        free(r.first);
        free(r.last);
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory for %u layers", n_layers);
    }
    *retention = r;
    return STATUS_OK;
}

static void drop_buffers(struct attention_retained *retained)
{
    frame_buffer_give(retained->header);
    frame_buffer_give(retained->rows);
    retained->header = retained->rows = NULL;
}

static void free_list(struct attention_retained *retained)
{
    while (retained != NULL) {
        struct attention_retained *next = retained->next;
        drop_buffers(retained);
        free(retained->entries);
        free(retained);
        retained = next;
    }
}

void attention_retention_close(struct attention_retention *retention)
{
    for (uint32_t i = 0; i < retention->n_layers; i++)
        free_list(retention->first[i]);
    free_list(retention->idle);
    free(retention->first);
    free(retention->last);
    memset(retention, 0, sizeof(*retention));
}

enum status attention_retention_add(struct attention_retention *retention, uint32_t layer,
                                    size_t n_entries, struct attention_retained **retained,
                                    struct error *error)
{
    struct attention_retained *r = retention->idle;
    if (r != NULL)
        retention->idle = r->next;
    else
        r = calloc(1, sizeof(*r));
    if (r != NULL && !array_grow(&r->entries, &r->capacity, n_entries, sizeof(*r->entries))) {
        r->next = retention->idle;
        retention->idle = r;
        r = NULL;
    }
    if (r == NULL)
        return error_set(error, STATUS_NO_MEMORY,
                         "attention: no memory to keep an append of %zu sequences", n_entries);
    r->next = NULL;
    r->n_entries = r->n_open = n_entries;
    if (retention->first[layer] == NULL)
        retention->first[layer] = r;
    else
        retention->last[layer]->next = r;
    retention->last[layer] = r;
    *retained = r;
    return STATUS_OK;
}

/* Moves what has no open entry any more to the idle list. */
static void sweep(struct attention_retention *retention, uint32_t layer)
{
    struct attention_retained **link = &retention->first[layer], *last = NULL;
    while (*link != NULL) {
        struct attention_retained *r = *link;
        if (r->n_open > 0) {
            last = r;
            link = &r->next;
            continue;
        }
        *link = r->next;
        drop_buffers(r);
        r->next = retention->idle;
        retention->idle = r;
    }
    retention->last[layer] = last;
}

void attention_retention_cover(struct attention_retention *retention, uint32_t layer,
                               uint64_t stamp)
{
    for (struct attention_retained *r = retention->first[layer]; r != NULL; r = r->next)
        for (size_t i = 0; i < r->n_entries; i++) {
            const struct attention_sequence *sequence = r->entries[i].sequence;
            if (sequence != NULL && sequence->stamp == stamp &&
                r->entries[i].end <= sequence->mark) {
                r->entries[i].sequence = NULL;
                r->n_open--;
            }
        }
    sweep(retention, layer);
}

void attention_retention_forget(struct attention_retention *retention,
                                const struct attention_sequence *sequence)
{
    for (uint32_t layer = 0; layer < retention->n_layers; layer++) {
        for (struct attention_retained *r = retention->first[layer]; r != NULL; r = r->next)
            for (size_t i = 0; i < r->n_entries; i++)
                if (r->entries[i].sequence == sequence) {
                    r->entries[i].sequence = NULL;
                    r->n_open--;
                }
        sweep(retention, layer);
    }
}
