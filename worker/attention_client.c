/* attention_client.c - connections and time: one query per holder and layer is under way, until it
 * is answered or its time is over. */
#include "worker/attention_client.h"

#include "proto/waiting.h"
#include "sys/clock.h"
#include "worker/attention_client_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROGRESS_US = 20, /* between two looks at MPI while answers are looked for */
    MANY_HOLDERS_US = 200
};

/* ---- failures ---- */

void attention_client_fail(struct attention_client *client, struct attention_sequence *sequence,
                           const struct error *error)
{
    if (sequence->error.status == STATUS_OK)
        sequence->error = *error;
    if (sequence->part != ATTENTION_NO_PART &&
        client->wire.parts[sequence->part].error.status == STATUS_OK)
        client->wire.parts[sequence->part].error = *error;
}

void attention_client_fail_query(struct attention_client *client, struct attention_channel *channel,
                                 const struct error *error)
{
    channel->waiting = false;
    for (size_t i = 0; i < channel->n_included; i++)
        attention_client_fail(client, client->wire.plan->entries[channel->included[i]].sequence,
                              error);
}

enum status attention_client_check(const struct attention_client *client, uint32_t holder,
                                   struct error *error)
{
    const struct attention_channel *channel = &client->channels[holder];
    if (channel->socket == NULL)
        return STATUS_OK;
    if (channel->lost.status != STATUS_OK)
        return error_set(error, channel->lost.status, "%s", channel->lost.text);
    if (channel->silent)
        return error_set(error, STATUS_UNREACHABLE, "%s: has not answered since %llu s",
                         channel->name,
                         (unsigned long long)((clock_us() - channel->heard_us) / 1000000));
    return STATUS_OK;
}

/* ---- questions ---- */

/* From now on it is about this layer, counted from the rank's first. */
static void use_plan(struct attention_client *client, uint32_t layer)
{
    client->wire.plan = attention_plans_of(client->plans, layer);
    client->pieces = client->wire.plan->pieces;
}

void attention_client_query(struct attention_client *client, uint32_t layer, const float *q)
{
    use_plan(client, layer - client->wire.config.first_layer);
    frame_buffer_give(client->rows);
    client->rows = NULL;
    client->n_shared = 0;
    for (uint32_t i = 0; i < client->n_channels; i++) {
        struct attention_channel *channel = &client->channels[i];
        struct error error = {0};
        if (channel->socket == NULL)
            continue;
        const bool some = attention_ask_include(client, channel);
        if (attention_client_check(client, i, &error) != STATUS_OK) {
            attention_client_fail_query(client, channel, &error);
            continue;
        }
        if (attention_channel_fork(channel, &client->wire, layer, 0, &error) < 0) {
            for (uint32_t part = 0; part < client->wire.n_parts; part++)
                if (client->wire.parts[part].sequence != NULL &&
                    client->wire.parts[part].sequence->forking)
                    attention_client_fail(client, client->wire.parts[part].sequence, &error);
            attention_client_fail_query(client, channel, &error);
            continue;
        }
        if (!some)
            continue;
        attention_ask(client, channel, layer, q);
    }
}

void attention_client_append(struct attention_client *client, uint32_t layer, const void *k,
                             const void *v)
{
    for (uint32_t i = 0; i < client->n_channels; i++) {
        struct attention_channel *channel = &client->channels[i];
        const struct attention_plan_list *list = &client->wire.plan->lists[i];
        struct error error = {0};
        if (channel->socket == NULL || list->n_appends == 0)
            continue;
        if (attention_client_check(client, i, &error) == STATUS_OK &&
            attention_channel_append(channel, &client->wire, layer, k, v, &error) == STATUS_OK)
            continue;
        for (size_t j = 0; j < list->n_appends; j++) {
            const uint32_t part = client->wire.plan->appends[list->first_append + j].part;
            if (client->wire.parts[part].sequence != NULL)
                attention_client_fail(client, client->wire.parts[part].sequence, &error);
        }
    }
}

/* ---- waiting ---- */

static void out_of_time(struct attention_client *client, struct attention_channel *channel)
{
    struct error error = {0};
    channel->silent = channel->heard_us < channel->began_us;
    error_set(&error, STATUS_TIMEOUT, "%s: %s within %u ms (layer %u, step %llu)", channel->name,
              channel->resent ? "did not get the tokens it lacks" : "no answer",
              client->wire.config.timeout_ms, channel->layer,
              (unsigned long long)client->wire.step);
    attention_client_fail_query(client, channel, &error);
}

static void timers(struct attention_client *client, struct attention_channel *channel)
{
    const uint64_t now = clock_us();
    if (now >= channel->began_us + (uint64_t)client->wire.config.timeout_ms * 1000) {
        out_of_time(client, channel);
    } else if (now >= channel->retry_us) {
        channel->retry_after_us *= 2;
        channel->retry_us = now + channel->retry_after_us;
        attention_channel_hello(channel, &client->wire);
        attention_ask_again(client, channel);
    }
}

static bool anyone_waiting(const struct attention_client *client)
{
    for (uint32_t i = 0; i < client->n_channels; i++)
        if (client->channels[i].waiting)
            return true;
    return false;
}

static uint64_t next_timer(const struct attention_channel *channel, uint32_t timeout_ms)
{
    const uint64_t end_us = channel->began_us + (uint64_t)timeout_ms * 1000;
    return end_us < channel->retry_us ? end_us : channel->retry_us;
}

/* Looks, or sleeps, until something comes from those that we wait for: at most until the next
 * timer, and only for a moment when there is MPI to progress. */
static void rest(struct attention_client *client, const struct waiting *waiting)
{
    struct wire_poll_item items[WIRE_POLL_ITEMS];
    size_t n = 0;
    uint64_t until_us = UINT64_MAX;
    uint32_t spin_us = client->wire.spin_us;
    for (uint32_t i = 0; i < client->n_channels; i++) {
        const struct attention_channel *channel = &client->channels[i];
        if (!channel->waiting)
            continue;
        const uint64_t timer = next_timer(channel, client->wire.config.timeout_ms);
        until_us = timer < until_us ? timer : until_us;
        if (n + 2 > WIRE_POLL_ITEMS) { /* all are looked at, but not all end a sleep */
            until_us = clock_us() + MANY_HOLDERS_US;
            break;
        }
        items[n++] = (struct wire_poll_item){.socket = channel->socket};
        if (channel->ring_used)
            items[n++] = (struct wire_poll_item){.ring = channel->ring};
    }
    if (client->wire.config.progress != NULL) {
        const uint64_t sleep_us = waiting_sleep_us(waiting), now = clock_us();
        spin_us = sleep_us == 0 ? PROGRESS_US : 0;
        until_us = now + (sleep_us == 0 ? PROGRESS_US : sleep_us);
    }
    (void)wire_poll(items, n, spin_us, until_us, NULL); /* errors are the receiver's to find */
}

void attention_client_wait(struct attention_client *client)
{
    struct waiting waiting;
    waiting_begin(&waiting, UINT64_MAX, client->wire.spin_us); /* the timers end it */
    while (anyone_waiting(client)) {
        bool some = false;
        for (uint32_t i = 0; i < client->n_channels; i++) {
            struct attention_channel *channel = &client->channels[i];
            if (!channel->waiting)
                continue;
            some = attention_answers_receive(client, channel) || some;
            if (channel->waiting)
                timers(client, channel);
        }
        if (client->wire.config.progress != NULL)
            client->wire.config.progress(client->wire.config.progress_context);
        if (some)
            waiting_reset(&waiting);
        else if (anyone_waiting(client))
            rest(client, &waiting);
    }
}

float *attention_client_reply(const struct attention_client *client, uint32_t holder)
{
    return client->channels[holder].data;
}

void attention_client_release(struct attention_client *client)
{
    for (uint32_t i = 0; i < client->n_channels; i++)
        if (client->channels[i].data != NULL) {
            frames_clear(client->channels[i].reply);
            client->channels[i].data = NULL;
        }
}

/* ---- steps ---- */

void attention_client_listen(struct attention_client *client)
{
    for (uint32_t i = 0; i < client->n_channels; i++) {
        struct attention_channel *channel = &client->channels[i];
        struct wire_event event;
        if (channel->socket == NULL)
            continue;
        while (wire_socket_event(channel->socket, &event))
            ; /* retries tell what they do; unread events would pile up */
        attention_answers_receive(client, channel);
        const uint64_t retry_us = (uint64_t)client->wire.config.retry_ms * 1000;
        if (channel->silent && clock_us() - channel->hello_us >= retry_us)
            attention_channel_hello(channel, &client->wire);
    }
}

/* A holder that was appended to and is asked nothing, in layers of this plan, would never tell what
 * it has. */
static enum status confirm(struct attention_client *client, struct attention_channel *channel,
                           const struct attention_plans *plans, struct attention_plan *plan,
                           struct error *error)
{
    const uint64_t stamp = ++client->n_stamps;
    const struct attention_plan_list *list = &plan->lists[channel->holder];
    for (size_t i = list->first_entry; i != ATTENTION_NONE; i = plan->entries[i].next)
        plan->entries[i].sequence->stamp = stamp;
    for (uint32_t layer = 0; layer < channel->retention.n_layers; layer++) {
        const struct attention_retained *retained = channel->retention.first[layer];
        if (attention_plans_of(plans, layer) != plan)
            continue;
        for (; retained != NULL; retained = retained->next)
            for (size_t i = 0; i < retained->n_entries; i++) {
                struct attention_sequence *sequence = retained->entries[i].sequence;
                if (sequence == NULL || sequence->stamp == stamp ||
                    sequence->error.status != STATUS_OK)
                    continue;
                sequence->stamp = stamp;
                const enum status status =
                    attention_plan_confirm(plan, channel->holder, sequence, error);
                if (status != STATUS_OK)
                    return status;
            }
    }
    return STATUS_OK;
}

enum status attention_client_begin(struct attention_client *client, uint64_t step,
                                   struct attention_plans *plans, struct attention_part *parts,
                                   uint32_t n_parts, struct error *error)
{
    client->wire.step = step;
    client->wire.parts = parts;
    client->wire.n_parts = n_parts;
    client->plans = plans;
    use_plan(client, 0);
    for (uint32_t i = 0; i < client->n_channels; i++)
        for (uint32_t j = 0; client->channels[i].socket != NULL && j < plans->n; j++) {
            const enum status status =
                confirm(client, &client->channels[i], plans, &plans->plans[j], error);
            if (status != STATUS_OK)
                return status;
        }
    return STATUS_OK;
}

void attention_client_forget(struct attention_client *client,
                             const struct attention_sequence *sequence)
{
    for (uint32_t i = 0; i < client->n_channels; i++)
        if (client->channels[i].socket != NULL)
            attention_retention_forget(&client->channels[i].retention, sequence);
}

void attention_client_traffic(const struct attention_client *client, uint32_t holder,
                              struct attention_traffic *traffic)
{
    *traffic = client->channels[holder].traffic;
}

/* ---- opening ---- */

/* Time does not mend a wrong key: that is told at once. */
static enum status check_handshake(struct attention_channel *channel, struct error *error)
{
    struct wire_event event;
    char text[512];
    while (wire_socket_event(channel->socket, &event))
        if (event.kind == WIRE_HANDSHAKE_FAILED)
            return error_set(error, STATUS_UNREACHABLE, "%s: %s", channel->name,
                             wire_event_text(&event, text));
    return STATUS_OK;
}

static enum status greet(struct attention_client *client, struct error *error)
{
    const struct attention_config *config = &client->wire.config;
    const uint64_t began = clock_us();
    uint64_t again_us = 0, retry_us = (uint64_t)config->retry_ms * 1000;
    struct waiting waiting;
    waiting_begin(&waiting, began + (uint64_t)config->timeout_ms * 1000, 0);
    for (;;) {
        const struct attention_channel *absent = NULL;
        const bool again = clock_us() >= again_us;
        bool some = false;
        if (again) {
            again_us = clock_us() + retry_us;
            retry_us *= 2;
        }
        for (uint32_t i = 0; i < client->n_channels; i++) {
            struct attention_channel *channel = &client->channels[i];
            if (channel->socket == NULL || channel->greeted)
                continue;
            if (again)
                attention_channel_hello(channel, &client->wire);
            const enum status status = check_handshake(channel, error);
            if (status != STATUS_OK)
                return status;
            some = attention_answers_receive(client, channel) || some;
            if (channel->lost.status != STATUS_OK)
                return error_set(error, channel->lost.status, "%s", channel->lost.text);
            if (!channel->greeted)
                absent = channel;
        }
        if (absent == NULL)
            return STATUS_OK;
        if (config->progress != NULL)
            config->progress(config->progress_context);
        if (!some && waiting_pause(&waiting) != STATUS_OK)
            return error_set(error, STATUS_UNREACHABLE,
                             "%s: no answer at %s within %u ms; is the attention node running, and "
                             "can this host reach that address?",
                             absent->name, wire_socket_endpoint(absent->socket),
                             config->timeout_ms);
    }
}

enum status attention_client_open(struct attention_client **client, struct wire_context *context,
                                  const struct attention_config *config, const char *kernels,
                                  struct error *error)
{
    struct attention_client *c = calloc(1, sizeof(*c));
    if (c == NULL || (c->in = malloc(sizeof(*c->in))) == NULL ||
        (c->channels = calloc(config->n_holders + 1, sizeof(*c->channels))) == NULL) {
        if (c != NULL)
            free(c->in);
        free(c);
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory for %u holders",
                         config->n_holders);
    }
    c->wire.config = *config;
    c->wire.config.holders = NULL;
    if (c->wire.config.retry_ms == 0)
        c->wire.config.retry_ms = 1;
    snprintf(c->wire.version, sizeof(c->wire.version), "%s",
             config->constants_version != NULL ? config->constants_version : "");
    snprintf(c->wire.kernels, sizeof(c->wire.kernels), "%s", kernels);
    c->wire.kv_row_bytes =
        kv_row_bytes(config->shape.type, (size_t)config->n_kv_heads * config->shape.head_dim);
    c->wire.row_floats = (size_t)config->n_kv_heads * config->shape.group * config->shape.head_dim;
    c->wire.spin_us =
        waiting_answer_us(config->seat != NULL ? config->seat->sharing : SHARING_NONE);
    neighbour_boot(c->wire.boot);
    arena_init(&c->wire.arena, 0);
    frames_init(&c->wire.out);
    frames_init(c->in);

    enum status status = STATUS_OK;
    for (; status == STATUS_OK && c->n_channels < config->n_holders; c->n_channels++) {
        c->channels[c->n_channels].holder = c->n_channels;
        status = attention_channel_open(&c->channels[c->n_channels], &c->wire, context,
                                        &config->holders[c->n_channels], error);
    }
    if (status == STATUS_OK)
        status = greet(c, error);
    if (status != STATUS_OK) {
        attention_client_close(c);
        return status;
    }
    *client = c;
    return STATUS_OK;
}

void attention_client_close(struct attention_client *client)
{
    if (client == NULL)
        return;
    for (uint32_t i = 0; i < client->n_channels; i++)
        attention_channel_close(&client->channels[i]);
    frames_clear(client->in);
    free(client->in);
    frames_clear(&client->wire.out);
    frame_buffer_give(client->rows);
    frame_pool_destroy(&client->wire.pool);
    arena_destroy(&client->wire.arena);
    free(client->shared);
    free(client->channels);
    free(client);
}
