/* attention_ask.c - which entries a query has, and their rows; copied once for holders that are
 * asked about the same ones. */
#include "worker/attention_client_state.h"

#include "sys/clock.h"

#include <stdlib.h>
#include <string.h>

static bool entry_alive(const struct attention_client *client, const struct attention_entry *entry)
{
    return entry->sequence->error.status == STATUS_OK &&
           (entry->part == ATTENTION_NO_PART ||
            client->wire.parts[entry->part].error.status == STATUS_OK);
}

bool attention_ask_include(struct attention_client *client, struct attention_channel *channel)
{
    struct error error = {0};
    const struct attention_plan *plan = client->wire.plan;
    const struct attention_plan_list *list = &plan->lists[channel->holder];
    channel->n_included = 0;
    if (attention_grow(&channel->included, &channel->included_capacity, list->n_entries,
                       sizeof(*channel->included), &error) != STATUS_OK) {
        for (size_t i = list->first_entry; i != ATTENTION_NONE; i = plan->entries[i].next)
            attention_client_fail(client, plan->entries[i].sequence, &error);
        return false;
    }
    for (size_t i = list->first_entry; i != ATTENTION_NONE; i = plan->entries[i].next)
        if (entry_alive(client, &plan->entries[i]))
            channel->included[channel->n_included++] = i;
    return channel->n_included > 0;
}

/* Copies the rows of the included parts, unless the channel before asked about the same ones. */
static enum status copy_rows(struct attention_client *client, struct attention_channel *channel,
                             const float *q, struct error *error)
{
    const struct attention_plan *plan = client->wire.plan;
    const struct attention_part *parts = client->wire.parts;
    const size_t row_bytes = client->wire.row_floats * sizeof(float);
    enum status status = attention_grow(&client->shared, &client->shared_capacity,
                                        channel->n_included, sizeof(*client->shared), error);
    if (status != STATUS_OK)
        return status;
    bool same = client->rows != NULL;
    size_t n_parts = 0, n_tokens = 0;
    for (size_t i = 0; i < channel->n_included; i++) {
        const uint32_t part = plan->entries[channel->included[i]].part;
        if (part == ATTENTION_NO_PART)
            continue;
        same = same && n_parts < client->n_shared && client->shared[n_parts] == part;
        if (!same)
            client->shared[n_parts] = part;
        n_parts++;
        n_tokens += attention_plan_asking(plan, &parts[part]).n_tokens;
    }
    if (!same || n_parts != client->n_shared) {
        frame_buffer_give(client->rows);
        client->rows = NULL;
        client->n_shared = n_parts;
        client->rows_bytes = n_tokens * row_bytes;
        status = frame_pool_take(&client->wire.pool, client->rows_bytes, &client->rows, error);
        if (status != STATUS_OK)
            return status;
        unsigned char *to = frame_buffer_data(client->rows);
        for (size_t i = 0; i < n_parts; i++) {
            const struct attention_asking asking =
                attention_plan_asking(plan, &parts[client->shared[i]]);
            memcpy(to, q + asking.row * client->wire.row_floats, asking.n_tokens * row_bytes);
            to += asking.n_tokens * row_bytes;
        }
    }
    frame_buffer_give(channel->rows);
    channel->rows = frame_buffer_share(client->rows);
    channel->rows_bytes = client->rows_bytes;
    return STATUS_OK;
}

/* The rows of the living entries, taken out of the query before, when some have failed since. */
static enum status narrow_rows(struct attention_client *client, struct attention_channel *channel,
                               const size_t *before, size_t n_before, struct error *error)
{
    const size_t row_bytes = client->wire.row_floats * sizeof(float);
    struct frame_buffer *rows = NULL;
    const enum status status =
        frame_pool_take(&client->wire.pool, channel->rows_bytes, &rows, error);
    if (status != STATUS_OK)
        return status;
    const unsigned char *from = frame_buffer_data(channel->rows);
    unsigned char *to = frame_buffer_data(rows);
    size_t bytes = 0;
    for (size_t i = 0; i < n_before; i++) {
        const struct attention_entry *entry = &client->wire.plan->entries[before[i]];
        if (entry->part == ATTENTION_NO_PART)
            continue;
        const size_t n =
            attention_plan_asking(client->wire.plan, &client->wire.parts[entry->part]).n_tokens *
            row_bytes;
        if (entry_alive(client, entry)) {
            memcpy(to + bytes, from, n);
            bytes += n;
        }
        from += n;
    }
    frame_buffer_give(channel->rows);
    channel->rows = rows;
    channel->rows_bytes = bytes;
    return STATUS_OK;
}

/* The included entries, under a new number. */
static void send_query(struct attention_client *client, struct attention_channel *channel)
{
    struct error error = {0};
    const uint64_t now = clock_us();
    channel->query = ++client->n_queries;
    channel->waiting = true;
    channel->retry_after_us = (uint64_t)client->wire.config.retry_ms * 1000;
    channel->retry_us = now + channel->retry_after_us;
    channel->resend_us = channel->lacking_marks = 0;
    channel->sent_ns = clock_ns();
    if (attention_channel_pack(channel, &client->wire, client->pieces, &error) != STATUS_OK ||
        attention_channel_ask(channel, &client->wire, &error) != STATUS_OK)
        attention_client_fail_query(client, channel, &error);
}

void attention_ask_fewer(struct attention_client *client, struct attention_channel *channel)
{
    struct error error = {0};
    const size_t n_before = channel->n_included;
    size_t *before = malloc((n_before + 1) * sizeof(*before)); /* an error's path may allocate */
    channel->waiting = false;
    if (before == NULL) {
        error_set(&error, STATUS_NO_MEMORY, "%s: no memory to ask again", channel->name);
        attention_client_fail_query(client, channel, &error);
        return;
    }
    memcpy(before, channel->included, n_before * sizeof(*before));
    if (attention_ask_include(client, channel)) {
        if (narrow_rows(client, channel, before, n_before, &error) == STATUS_OK)
            send_query(client, channel);
        else
            attention_client_fail_query(client, channel, &error);
    }
    free(before);
}

void attention_ask(struct attention_client *client, struct attention_channel *channel,
                   uint32_t layer, const float *q)
{
    struct error error = {0};
    channel->layer = layer;
    channel->began_us = clock_us();
    channel->resent = false;
    if (copy_rows(client, channel, q, &error) == STATUS_OK)
        send_query(client, channel);
    else
        attention_client_fail_query(client, channel, &error);
}

void attention_ask_again(struct attention_client *client, struct attention_channel *channel)
{
    struct error error = {0};
    if (channel->waiting && attention_channel_ask(channel, &client->wire, &error) != STATUS_OK)
        attention_client_fail_query(client, channel, &error);
}
