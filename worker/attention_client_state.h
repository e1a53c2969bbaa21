/* worker/attention_client_state.h - what attention_client.c (connections, time), attention_ask.c
 * (queries) and attention_answers.c share. */
#ifndef LONGSPAN_WORKER_ATTENTION_CLIENT_STATE_H
#define LONGSPAN_WORKER_ATTENTION_CLIENT_STATE_H

#include "worker/attention_channel.h"
#include "worker/attention_client.h"

struct attention_client {
    struct attention_wire wire;
    struct attention_channel *channels; /* one for each holder, local ones too */
    uint32_t n_channels;
    const struct attention_plans *plans;
    struct attention_piece *pieces; /* the layer's plan's, to be placed */
    struct frames *in;
    uint64_t n_queries, n_stamps;
    /* Holders that are asked about the same parts share one copy of the rows. */
    struct frame_buffer *rows;
    size_t rows_bytes, n_shared, shared_capacity;
    uint32_t *shared; /* parts whose rows it has */
};

/* The sequence can only be dropped now; its rows in this step become zeros. */
void attention_client_fail(struct attention_client *client, struct attention_sequence *sequence,
                           const struct error *error);

/* The query under way, or about to be: it ends, and all it asks about fails. */
void attention_client_fail_query(struct attention_client *client, struct attention_channel *channel,
                                 const struct error *error);

/* Lists the plan's entries for this holder that have not failed, in channel->included. False: none.
 * Without memory for the list they all fail. */
bool attention_ask_include(struct attention_client *client, struct attention_channel *channel);

/* Asks about the included entries, rows of q. */
void attention_ask(struct attention_client *client, struct attention_channel *channel,
                   uint32_t layer, const float *q);

/* Asks again, under another number, without those that have failed since. */
void attention_ask_fewer(struct attention_client *client, struct attention_channel *channel);

/* The query again, when the one that was sent is lost; nothing without one under way. */
void attention_ask_again(struct attention_client *client, struct attention_channel *channel);

/* Takes everything that has come from this holder. True: there was something. */
bool attention_answers_receive(struct attention_client *client, struct attention_channel *channel);

#endif
