/* attention_channel.c - builds Hello, Fork, Append and Attend messages, and sends them. */
#include "worker/attention_channel.h"

#include "proto/protocol.h"
#include "proto/waiting.h"
#include "sys/clock.h"
#include "sys/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MESSAGE_BYTES = 1 << 30, /* of one data message, at most; the nodes have the same bound */
    LINGER_MS = 300,         /* appends that are on their way when the rank leaves */
};

enum status attention_channel_open(struct attention_channel *channel, struct attention_wire *wire,
                                   struct wire_context *context,
                                   const struct attention_holder *holder, struct error *error)
{
    snprintf(channel->name, sizeof(channel->name), "%s", holder->name);
    if (holder->endpoint == NULL || holder->endpoint[0] == '\0')
        return STATUS_OK;

    /* The same identity after a reconnect, so that the node still knows who asks; another one in
     * every process, so that no late message of a dead one is taken for ours. */
    uint64_t unique;
    char identity[64];
    channel->reply = malloc(sizeof(*channel->reply));
    if (channel->reply == NULL)
        return error_set(error, STATUS_NO_MEMORY, "attention: no memory for %s", channel->name);
    frames_init(channel->reply);
    enum status status = random_unique(&unique, sizeof(unique), error);
    if (status != STATUS_OK)
        return status;
    snprintf(identity, sizeof(identity), "rank%u-%016" PRIx64, wire->config.rank, unique);
    channel->node = holder->node;
    /* Without one, or with a node that cannot open it, everything goes by ZeroMQ. */
    if (!wire->config.zeromq_only)
        wire_ring_create(
            &channel->ring,
            &(struct wire_ring_options){.name = channel->name, .max_message_bytes = MESSAGE_BYTES},
            NULL);
    status = attention_retention_open(&channel->retention, wire->config.n_layers, error);
    if (status != STATUS_OK)
        return status;
    return wire_socket_open(&channel->socket, context,
                            &(struct wire_socket_options){.kind = WIRE_DEALER,
                                                          .endpoint = holder->endpoint,
                                                          .name = channel->name,
                                                          .identity = identity,
                                                          .linger_ms = LINGER_MS,
                                                          .max_message_bytes = MESSAGE_BYTES},
                            error);
}

void attention_channel_close(struct attention_channel *channel)
{
    wire_socket_close(channel->socket);
    wire_ring_destroy(channel->ring);
    if (channel->reply != NULL)
        frames_clear(channel->reply);
    free(channel->reply);
    frame_buffer_give(channel->header);
    frame_buffer_give(channel->rows);
    free(channel->included);
    attention_retention_close(&channel->retention);
}

static enum status try_send(struct attention_channel *channel, struct attention_wire *wire,
                            struct error *error)
{
    if (!channel->ring_used)
        return frames_send(channel->socket, &wire->out, 0, error);
    const enum status status = wire_ring_send(channel->ring, &wire->out, error);
    if (status != STATUS_UNREACHABLE)
        return status;
    attention_channel_leave_ring(channel, wire);
    return STATUS_OK; /* lost; marks and retries find it out */
}

/* Sends what is in wire->out, now or while `deadline_us` has not passed: a full queue means that
 * the holder is slower than we are. wire->out is empty afterwards. A ring that has ended is left;
 * then, as with a connection that is made anew, what was sent is lost. */
static enum status send_out(struct attention_channel *channel, struct attention_wire *wire,
                            uint64_t deadline_us, struct error *error)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < wire->out.n; i++)
        bytes += frames_size(&wire->out, i);
    enum status status = try_send(channel, wire, error);
    if (status == STATUS_TIMEOUT && deadline_us > 0) {
        struct waiting waiting;
        waiting_begin(&waiting, deadline_us, 0); /* it works, and may need our processor */
        while (status == STATUS_TIMEOUT && waiting_pause(&waiting) == STATUS_OK) {
            if (wire->config.progress != NULL)
                wire->config.progress(wire->config.progress_context);
            status = try_send(channel, wire, error);
        }
    }
    frames_clear(&wire->out);
    if (status == STATUS_OK)
        channel->traffic.sent_bytes += bytes;
    if (status == STATUS_TIMEOUT)
        return error_set(error, STATUS_TIMEOUT,
                         "%s: takes no more messages since %u ms; is it alive, is the network?",
                         channel->name, wire->config.timeout_ms);
    return status;
}

static Longspan__Data data_for(const struct attention_wire *wire, uint32_t layer)
{
    Longspan__Data data = LONGSPAN__DATA__INIT;
    data.job = wire->config.job;
    data.step = wire->step;
    data.layer = layer;
    data.head = wire->config.first_kv_head;
    data.n_heads = wire->config.n_kv_heads;
    return data;
}

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY,
                     "attention: a message's header has too many entries; use fewer sequences at "
                     "once, or larger stripes");
}

static enum status pack(struct attention_wire *wire, const Longspan__Data *data,
                        struct frame_buffer **buffer, size_t *bytes, struct error *error)
{
    *bytes = longspan__data__get_packed_size(data);
    if (*bytes > ATTENTION_HEADER_BYTES)
        return no_memory(error);
    const enum status status = frame_pool_take(&wire->pool, *bytes, buffer, error);
    if (status == STATUS_OK)
        longspan__data__pack(data, frame_buffer_data(*buffer));
    return status;
}

/* A message of which nothing is kept. */
static enum status send_header(struct attention_channel *channel, struct attention_wire *wire,
                               const Longspan__Data *data, uint64_t deadline_us,
                               struct error *error)
{
    struct frame_buffer *buffer = NULL;
    size_t bytes;
    enum status status = pack(wire, data, &buffer, &bytes, error);
    if (status == STATUS_OK)
        status = frame_buffer_add(buffer, 0, bytes, &wire->out, error);
    if (status == STATUS_OK)
        status = send_out(channel, wire, deadline_us, error);
    frames_clear(&wire->out);
    frame_buffer_give(buffer);
    return status;
}

static uint64_t send_deadline(const struct attention_wire *wire)
{
    return clock_us() + (uint64_t)wire->config.timeout_ms * 1000;
}

static void describe_ring(const struct attention_channel *channel, struct attention_wire *wire,
                          struct wire_ring_offer *offer, Longspan__Ring *ring)
{
    wire_ring_describe(channel->ring, offer);
    longspan__ring__init(ring);
    ring->boot = wire->boot;
    ring->process = offer->process;
    ring->memory = offer->memory;
    ring->bell = offer->bell;
    ring->answer_bell = offer->answer_bell;
    ring->ring_bytes = offer->ring_bytes;
    ring->nonce.data = offer->nonce;
    ring->nonce.len = sizeof(offer->nonce);
}

void attention_channel_hello(struct attention_channel *channel, struct attention_wire *wire)
{
    struct wire_ring_offer offer;
    Longspan__Ring ring;
    Longspan__Constants constants = LONGSPAN__CONSTANTS__INIT;
    constants.protocol = PROTOCOL_VERSION;
    constants.tile_tokens = TILE_TOKENS;
    constants.page_tokens = PAGE_TOKENS;
    constants.kernels = wire->kernels;
    constants.version = wire->version;
    Longspan__Hello hello = LONGSPAN__HELLO__INIT;
    hello.constants = &constants;
    hello.rank = wire->config.rank;
    hello.node = channel->node;
    if (channel->ring != NULL) {
        describe_ring(channel, wire, &offer, &ring);
        hello.ring = &ring;
    }
    Longspan__Data data = data_for(wire, wire->config.first_layer);
    data.body_case = LONGSPAN__DATA__BODY_HELLO;
    data.hello = &hello;
    channel->hello_us = clock_us();
    struct frame_buffer *buffer = NULL;
    size_t bytes;
    if (pack(wire, &data, &buffer, &bytes, NULL) == STATUS_OK &&
        frame_buffer_add(buffer, 0, bytes, &wire->out, NULL) == STATUS_OK &&
        frames_send(channel->socket, &wire->out, 0, NULL) == STATUS_OK)
        channel->traffic.sent_bytes += bytes;
    frames_clear(&wire->out);
    frame_buffer_give(buffer);
}

static void drop_ring(struct attention_channel *channel)
{
    wire_ring_destroy(channel->ring);
    channel->ring = NULL;
    channel->ring_used = channel->traffic.ring = false;
}

bool attention_channel_settle(struct attention_channel *channel, const Longspan__HelloReply *reply)
{
    if (channel->ring == NULL)
        return true;
    if (reply->ring.len != NEIGHBOUR_NONCE_BYTES ||
        !wire_ring_is(channel->ring, reply->ring.data)) {
        const bool used = channel->ring_used;
        drop_ring(channel);
        return !used;
    }
    if (!channel->ring_used)
        wire_ring_begin(channel->ring);
    channel->ring_used = channel->traffic.ring = true;
    return true;
}

void attention_channel_leave_ring(struct attention_channel *channel, struct attention_wire *wire)
{
    drop_ring(channel);
    attention_channel_hello(channel, wire);
}

/* Whether this holder has to hear of the fork. */
static bool forks_here(const struct attention_channel *channel,
                       const struct attention_sequence *sequence)
{
    return sequence->fork_tokens > 0 &&
           attention_sequence_holds(sequence, channel->holder, sequence->fork_tokens / TILE_TOKENS);
}

static bool fork_entry(struct attention_wire *wire, Longspan__ForkEntry **entry,
                       const struct attention_sequence *sequence)
{
    *entry = arena_take(&wire->arena, sizeof(**entry));
    if (*entry == NULL)
        return false;
    longspan__fork_entry__init(*entry);
    (*entry)->parent = sequence->parent;
    (*entry)->parent_incarnation = sequence->parent_incarnation;
    (*entry)->child = sequence->id;
    (*entry)->child_incarnation = sequence->incarnation;
    (*entry)->n_tokens = sequence->fork_tokens;
    return true;
}

int attention_channel_fork(struct attention_channel *channel, struct attention_wire *wire,
                           uint32_t layer, uint64_t stamp, struct error *error)
{
    const size_t most = stamp == 0 ? wire->n_parts : channel->n_included;
    Longspan__Fork fork = LONGSPAN__FORK__INIT;
    for (size_t i = 0; i < most; i++) {
        const struct attention_sequence *sequence =
            stamp == 0 ? wire->parts[i].sequence
                       : wire->plan->entries[channel->included[i]].sequence;
        if (sequence == NULL || sequence->error.status != STATUS_OK ||
            !forks_here(channel, sequence))
            continue;
        if (stamp == 0 ? !sequence->forking
                       : sequence->stamp != stamp || sequence->mark >= sequence->fork_tokens)
            continue;
        if (fork.entries == NULL) {
            arena_reset(&wire->arena);
            fork.entries = arena_take(&wire->arena, most * sizeof(Longspan__ForkEntry *));
        }
        if (fork.entries == NULL || !fork_entry(wire, &fork.entries[fork.n_entries], sequence)) {
            no_memory(error);
            return -1;
        }
        fork.n_entries++;
    }
    if (fork.n_entries == 0)
        return 0;
    Longspan__Data data = data_for(wire, layer);
    data.body_case = LONGSPAN__DATA__BODY_FORK;
    data.fork = &fork;
    if (send_header(channel, wire, &data, send_deadline(wire), error) != STATUS_OK)
        return -1;
    return (int)fork.n_entries;
}

static enum status send_retained(struct attention_channel *channel, struct attention_wire *wire,
                                 const struct attention_retained *retained, struct error *error)
{
    enum status status =
        frame_buffer_add(retained->header, 0, retained->header_bytes, &wire->out, error);
    if (status == STATUS_OK)
        status = frame_buffer_add(retained->rows, 0, retained->rows_bytes, &wire->out, error);
    if (status == STATUS_OK)
        status = frame_buffer_add(retained->rows, retained->v_offset, retained->rows_bytes,
                                  &wire->out, error);
    if (status == STATUS_OK)
        status = send_out(channel, wire, send_deadline(wire), error);
    frames_clear(&wire->out);
    return status;
}

/* The parts' tokens for this holder, one behind the other. */
static size_t gather(const struct attention_channel *channel, struct attention_wire *wire,
                     Longspan__Append *append, struct attention_retained *retained,
                     const unsigned char *k, const unsigned char *v)
{
    const struct attention_plan_list *list = &wire->plan->lists[channel->holder];
    const size_t row_bytes = wire->kv_row_bytes;
    unsigned char *to = retained != NULL ? frame_buffer_data(retained->rows) : NULL;
    size_t n_tokens = 0, n = 0;
    for (size_t i = 0; i < list->n_appends; i++) {
        const struct attention_plan_append *item = &wire->plan->appends[list->first_append + i];
        const struct attention_part *part = &wire->parts[item->part];
        if (part->error.status != STATUS_OK)
            continue;
        const uint32_t count = item->tokens.end - item->tokens.begin;
        if (retained != NULL) {
            const size_t row = part->row + (item->tokens.begin - part->position);
            memcpy(to + n_tokens * row_bytes, k + row * row_bytes, count * row_bytes);
            memcpy(to + retained->v_offset + n_tokens * row_bytes, v + row * row_bytes,
                   count * row_bytes);
            Longspan__AppendEntry *entry = append->entries[n];
            longspan__append_entry__init(entry);
            entry->sequence = part->id;
            entry->incarnation = part->incarnation;
            entry->position = part->position;
            entry->first = item->tokens.begin;
            entry->n_tokens = count;
            retained->entries[n].sequence = part->sequence;
            retained->entries[n].end = item->tokens.end;
        }
        n_tokens += count;
        n++;
    }
    append->n_entries = n;
    return n_tokens;
}

enum status attention_channel_append(struct attention_channel *channel, struct attention_wire *wire,
                                     uint32_t layer, const unsigned char *k, const unsigned char *v,
                                     struct error *error)
{
    Longspan__Append append = LONGSPAN__APPEND__INIT;
    const size_t n_tokens = gather(channel, wire, &append, NULL, k, v);
    if (n_tokens == 0)
        return STATUS_OK;

    arena_reset(&wire->arena);
    Longspan__AppendEntry *entries =
        arena_array(&wire->arena, append.n_entries, sizeof(Longspan__AppendEntry));
    append.entries = arena_array(&wire->arena, append.n_entries, sizeof(Longspan__AppendEntry *));
    if (entries == NULL || append.entries == NULL)
        return no_memory(error);
    for (size_t i = 0; i < append.n_entries; i++)
        append.entries[i] = &entries[i];

    const size_t rows_bytes = n_tokens * wire->kv_row_bytes;
    const size_t v_offset = (rows_bytes + 63) / 64 * 64;
    struct frame_buffer *rows = NULL, *header = NULL;
    struct attention_retained *retained;
    enum status status = frame_pool_take(&wire->pool, 2 * v_offset, &rows, error);
    if (status == STATUS_OK)
        status = attention_retention_add(&channel->retention, layer - wire->config.first_layer,
                                         append.n_entries, &retained, error);
    if (status != STATUS_OK) {
        frame_buffer_give(rows);
        return status;
    }
    retained->rows = rows;
    retained->v_offset = v_offset;
    retained->rows_bytes = rows_bytes;
    retained->header = NULL;
    retained->step = wire->step;
    gather(channel, wire, &append, retained, k, v);

    Longspan__Data data = data_for(wire, layer);
    data.body_case = LONGSPAN__DATA__BODY_APPEND;
    data.append = &append;
    status = pack(wire, &data, &header, &retained->header_bytes, error);
    if (status != STATUS_OK) { /* nothing to keep: these sequences fail */
        for (size_t i = 0; i < retained->n_entries; i++)
            retained->entries[i].sequence = NULL;
        retained->n_open = 0;
        attention_retention_cover(&channel->retention, layer - wire->config.first_layer, 0);
        return status;
    }
    retained->header = header;
    channel->traffic.kv_bytes += 2 * rows_bytes;
    return send_retained(channel, wire, retained, error);
}

int attention_channel_append_again(struct attention_channel *channel, struct attention_wire *wire,
                                   uint32_t layer, bool older, struct error *error)
{
    int n = 0;
    const struct attention_retained *retained =
        channel->retention.first[layer - wire->config.first_layer];
    for (; retained != NULL; retained = retained->next) {
        if (older && retained->step == wire->step)
            continue;
        if (send_retained(channel, wire, retained, error) != STATUS_OK)
            return -1;
        n++;
    }
    return n;
}

/* The entry for the wire; its tiles are the plan's ranges, which have the same layout. */
static void attend_entry(const struct attention_wire *wire, const struct attention_entry *entry,
                         Longspan__AttendEntry *out)
{
    longspan__attend_entry__init(out);
    out->sequence = entry->sequence->id;
    out->incarnation = entry->sequence->incarnation;
    out->window = wire->plan->shape.window;
    if (entry->part == ATTENTION_NO_PART)
        return;
    const struct attention_asking asking =
        attention_plan_asking(wire->plan, &wire->parts[entry->part]);
    _Static_assert(sizeof(struct tile_range) == 2 * sizeof(uint32_t), "begin, end, begin...");
    out->position = asking.position;
    out->n_tokens = asking.n_tokens;
    out->n_tiles = 2 * entry->n_ranges;
    out->tiles = &wire->plan->ranges[entry->first_range].begin;
}

/* The reply holds the pieces of the parts that have not failed, head by head in each run. */
static void place_pieces(struct attention_channel *channel, const struct attention_wire *wire,
                         struct attention_piece *pieces)
{
    const struct attention_plan *plan = wire->plan;
    size_t floats = 0, i = plan->lists[channel->holder].first_piece;
    for (; i != ATTENTION_NONE; i = pieces[i].next) {
        if (wire->parts[plan->runs[pieces[i].run].part].error.status != STATUS_OK)
            continue;
        pieces[i].offset = floats;
        floats += pieces[i].head_floats * plan->shape.n_heads;
    }
    channel->reply_floats = floats;
}

enum status attention_channel_pack(struct attention_channel *channel, struct attention_wire *wire,
                                   struct attention_piece *pieces, struct error *error)
{
    place_pieces(channel, wire, pieces);
    if (channel->reply_floats > MESSAGE_BYTES / sizeof(float) - ATTENTION_HEADER_BYTES)
        return error_set(error, STATUS_EXHAUSTED,
                         "%s: its answer would take %zu MiB, more than a message may have; use "
                         "smaller chunks or larger stripes",
                         channel->name, channel->reply_floats >> 18);
    arena_reset(&wire->arena);
    Longspan__AttendEntry *entries =
        arena_array(&wire->arena, channel->n_included, sizeof(Longspan__AttendEntry));
    Longspan__Attend attend = LONGSPAN__ATTEND__INIT;
    attend.entries =
        arena_array(&wire->arena, channel->n_included, sizeof(Longspan__AttendEntry *));
    if (entries == NULL || attend.entries == NULL)
        return no_memory(error);
    for (size_t i = 0; i < channel->n_included; i++) {
        attend_entry(wire, &wire->plan->entries[channel->included[i]], &entries[i]);
        attend.entries[i] = &entries[i];
    }
    attend.n_entries = channel->n_included;
    attend.query = channel->query;
    Longspan__Data data = data_for(wire, channel->layer);
    data.body_case = LONGSPAN__DATA__BODY_ATTEND;
    data.attend = &attend;
    frame_buffer_give(channel->header);
    channel->header = NULL;
    return pack(wire, &data, &channel->header, &channel->header_bytes, error);
}

enum status attention_channel_ask(struct attention_channel *channel, struct attention_wire *wire,
                                  struct error *error)
{
    enum status status =
        frame_buffer_add(channel->header, 0, channel->header_bytes, &wire->out, error);
    if (status == STATUS_OK)
        status = frame_buffer_add(channel->rows, 0, channel->rows_bytes, &wire->out, error);
    if (status == STATUS_OK)
        status = send_out(channel, wire,
                          channel->began_us + (uint64_t)wire->config.timeout_ms * 1000, error);
    frames_clear(&wire->out);
    return status;
}

bool attention_channel_read(struct attention_wire *wire, struct frames *in, Longspan__Data **data)
{
    if (frames_size(in, 0) > ATTENTION_HEADER_BYTES)
        return false;
    arena_reset(&wire->arena);
    Longspan__Data *message =
        longspan__data__unpack(&wire->arena.allocator, frames_size(in, 0), frames_data(in, 0));
    if (message == NULL || message->job != wire->config.job)
        return false;
    *data = message;
    return true;
}
