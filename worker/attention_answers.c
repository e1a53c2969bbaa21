/* attention_answers.c - what holders say: each answer is judged against the query that is under
 * way, and marks tell what was lost on its way and is sent again (docs/protocol.md). */
#include "sys/clock.h"
#include "worker/attention_client_state.h"

enum { HELLO_AGAIN_US = 5000 }; /* between introductions that the node asks for */

static void lose(struct attention_client *client, struct attention_channel *channel,
                 const struct error *error)
{
    if (channel->lost.status == STATUS_OK)
        channel->lost = *error;
    if (channel->waiting)
        attention_client_fail_query(client, channel, &channel->lost);
}

static void hello_reply(struct attention_client *client, struct attention_channel *channel,
                        const Longspan__HelloReply *reply)
{
    struct error error = {0};
    if (reply->node != channel->node) {
        error_set(&error, STATUS_UNREACHABLE,
                  "%s: another process answers there now: the tokens it held are lost",
                  channel->name);
        lose(client, channel, &error);
    } else if (reply->failure != NULL) {
        error_set(&error, status_received(reply->failure->status), "%s: %s", channel->name,
                  reply->failure->text);
        lose(client, channel, &error);
    } else {
        channel->greeted = true;
        if (!attention_channel_settle(channel, reply))
            attention_ask_again(client, channel);
    }
}

/* Notes the marks of a reply in the sequences, under a new stamp. */
static uint64_t note_marks(struct attention_client *client, struct attention_channel *channel,
                           const uint32_t *marks)
{
    const uint64_t stamp = ++client->n_stamps;
    for (size_t i = 0; i < channel->n_included; i++) {
        struct attention_sequence *sequence =
            client->wire.plan->entries[channel->included[i]].sequence;
        sequence->stamp = stamp;
        sequence->mark = marks[i];
    }
    attention_retention_cover(&channel->retention, channel->layer - client->wire.config.first_layer,
                              stamp);
    return stamp;
}

/* Sends again what the holder lacks. Returns how many messages; -1: the query has failed. */
static int send_lacking(struct attention_client *client, struct attention_channel *channel,
                        uint64_t stamp, bool older, struct error *error)
{
    const int n_forks =
        attention_channel_fork(channel, &client->wire, channel->layer, stamp, error);
    if (n_forks < 0)
        return -1;
    const int n_appends =
        attention_channel_append_again(channel, &client->wire, channel->layer, older, error);
    return n_appends < 0 ? -1 : n_forks + n_appends;
}

static void failed_entry(struct attention_client *client, struct attention_channel *channel,
                         uint32_t index, const struct error *error)
{
    attention_client_fail(client, client->wire.plan->entries[channel->included[index]].sequence,
                          error);
    attention_ask_fewer(client, channel);
}

/* A repeated `missing` is answered only if the holder has got further, or after a while: otherwise
 * one answer could be the cause of the next, for as long as the network loses what it lacks. */
static void missing(struct attention_client *client, struct attention_channel *channel,
                    const Longspan__AttendReply *reply, const struct error *why)
{
    const uint64_t now = clock_us();
    const uint32_t index = reply->failed_entry; /* what is sent now uses the reply's memory */
    uint64_t marks = 0;
    struct error error = {0};
    for (size_t i = 0; i < reply->n_marks; i++)
        marks += reply->marks[i];
    if (now < channel->resend_us && marks <= channel->lacking_marks)
        return; /* the timer repeats the query */
    const uint64_t stamp = note_marks(client, channel, reply->marks);
    const int n = send_lacking(client, channel, stamp, false, &error);
    if (n == 0) {
        failed_entry(client, channel, index, why);
        return;
    }
    channel->resent = true;
    channel->resend_us = now + channel->retry_after_us;
    channel->lacking_marks = marks;
    if (n < 0 || attention_channel_ask(channel, &client->wire, &error) != STATUS_OK)
        attention_client_fail_query(client, channel, &error);
}

/* The node does not know us: the connection was made anew by something in between, and what was on
 * its way may be lost. */
static void introduce(struct attention_client *client, struct attention_channel *channel)
{
    if (clock_us() - channel->hello_us < HELLO_AGAIN_US)
        return; /* the timer does it */
    channel->resend_us = 0;
    attention_channel_hello(channel, &client->wire);
    attention_ask_again(client, channel);
}

static void attend_reply(struct attention_client *client, struct attention_channel *channel,
                         const Longspan__Data *data)
{
    struct frames *in = client->in;
    const Longspan__AttendReply *reply = data->attend_reply;
    struct error error = {0};
    if (!channel->waiting || reply->query != channel->query || data->layer != channel->layer ||
        data->head != client->wire.config.first_kv_head ||
        data->n_heads != client->wire.config.n_kv_heads)
        return; /* late, or repeated */

    if (reply->failure != NULL) {
        error_set(&error, status_received(reply->failure->status), "%s: %s", channel->name,
                  reply->failure->text);
        if (reply->missing && reply->n_marks == 0)
            introduce(client, channel);
        else if (reply->failed_entry >= channel->n_included)
            attention_client_fail_query(client, channel, &error);
        else if (reply->missing && reply->n_marks == channel->n_included)
            missing(client, channel, reply, &error);
        else
            failed_entry(client, channel, reply->failed_entry, &error);
        return;
    }
    const size_t bytes = in->n > 1 ? frames_size(in, 1) : 0;
    if (reply->n_marks != channel->n_included || in->n > 2 ||
        bytes != channel->reply_floats * sizeof(float)) {
        error_set(&error, STATUS_PROTOCOL,
                  "%s: its answer has %u frames, %zu marks and %zu bytes instead of 2, %zu and %zu",
                  channel->name, in->n, reply->n_marks, bytes, channel->n_included,
                  channel->reply_floats * sizeof(float));
        attention_client_fail_query(client, channel, &error);
        return;
    }
    const uint64_t stamp = note_marks(client, channel, reply->marks);
    channel->waiting = false;
    channel->traffic.round_trips++;
    channel->traffic.round_trip_ns += clock_ns() - channel->sent_ns;
    channel->data = bytes > 0 ? frames_data(in, 1) : NULL;
    client->in = channel->reply;
    channel->reply = in;

    /* What was sent before this query and is not covered was lost on the way: the channel keeps
     * order. The holder does not need it yet, so nobody waits. */
    send_lacking(client, channel, stamp, true, NULL);
}

static void handle(struct attention_client *client, struct attention_channel *channel)
{
    struct frames *in = client->in;
    Longspan__Data *data;
    for (uint32_t i = 0; i < in->n; i++)
        channel->traffic.received_bytes += frames_size(in, i);
    if (!attention_channel_read(&client->wire, in, &data))
        return;
    channel->heard_us = clock_us();
    channel->silent = false;
    if (data->body_case == LONGSPAN__DATA__BODY_HELLO_REPLY)
        hello_reply(client, channel, data->hello_reply);
    else if (data->body_case == LONGSPAN__DATA__BODY_ATTEND_REPLY)
        attend_reply(client, channel, data);
}

/* What has come through the ring. True: there was something. */
static bool receive_ring(struct attention_client *client, struct attention_channel *channel)
{
    bool some = false;
    while (channel->ring_used && wire_ring_readable(channel->ring)) {
        const enum status status = wire_ring_receive(channel->ring, client->in, NULL);
        if (status == STATUS_TIMEOUT)
            break;
        some = true;
        if (status == STATUS_OK) {
            handle(client, channel);
        } else { /* as with a connection that ended: what was under way is lost */
            attention_channel_leave_ring(channel, &client->wire);
            attention_ask_again(client, channel);
        }
    }
    return some;
}

bool attention_answers_receive(struct attention_client *client, struct attention_channel *channel)
{
    bool some = receive_ring(client, channel);
    for (;;) {
        struct error error = {0};
        const enum status status = frames_receive(channel->socket, client->in, 0, &error);
        if (status == STATUS_OK) {
            handle(client, channel);
            some = true;
        } else if (status == STATUS_PROTOCOL) {
            some = true;
            if (channel->waiting)
                attention_client_fail_query(client, channel, &error);
        } else {
            if (status != STATUS_TIMEOUT)
                lose(client, channel, &error);
            return some;
        }
    }
}
