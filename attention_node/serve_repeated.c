/* serve_repeated.c - queries that come again: a rank repeats its query when no answer comes in time
 * (retry_ms), and cannot know whether it or the answer was lost, or the node is at work on it.
 *
 * A node at work reads nothing. So what was repeated meanwhile is read right behind the answer, and
 * evaluating it would take as long once more, in which the rank's next query waits and is repeated
 * in its turn. Therefore answers that took long are kept, one for each rank: a rank has one query
 * at a time. */
#include "attention_node/serve_state.h"

#include <string.h>

void serve_send_answer(struct serve *serve, const struct frames *request)
{
    frames_reply_to(&serve->answer, request);
    serve->config.send(serve->config.context, &serve->answer, SERVE_ANSWER);
}

/* ---- answers that are kept ------------------------------------------------------------------- */

void serve_forget_kept(struct serve *serve, struct serve_peer *peer)
{
    struct serve_kept *kept = &peer->kept;
    if (kept->header != NULL)
        serve->kept_bytes -= kept->header_bytes + kept->partials_bytes;
    frame_buffer_give(kept->header);
    frame_buffer_give(kept->partials);
    *kept = (struct serve_kept){0};
}

void serve_keep_answer(struct serve *serve, const struct serve_query *query,
                       const struct frames *request)
{
    struct serve_peer *peer = serve_find_peer(serve, request);
    if (peer == NULL)
        return;
    serve_forget_kept(serve, peer);
    struct serve_kept *kept = &peer->kept;
    const size_t header_bytes = frames_size(&serve->answer, 0);
    const size_t partials_bytes = query->reply_floats * sizeof(float);
    if (header_bytes + partials_bytes > SERVE_KEPT_BYTES - serve->kept_bytes ||
        frame_pool_take(&serve->pool, header_bytes, &kept->header, NULL) != STATUS_OK)
        return;
    memcpy(frame_buffer_data(kept->header), frames_data(&serve->answer, 0), header_bytes);
    kept->query = query->query;
    kept->partials = frame_buffer_share(query->reply);
    kept->header_bytes = header_bytes;
    kept->partials_bytes = partials_bytes;
    serve->kept_bytes += header_bytes + partials_bytes;
}

/* Into serve->answer. */
static enum status pack_kept(struct serve *serve, const struct serve_kept *kept)
{
    frames_clear(&serve->answer);
    enum status status =
        frame_buffer_add(kept->header, 0, kept->header_bytes, &serve->answer, NULL);
    if (status == STATUS_OK && kept->partials_bytes > 0)
        status = frame_buffer_add(kept->partials, 0, kept->partials_bytes, &serve->answer, NULL);
    return status;
}

/* ---- queries --------------------------------------------------------------------------------- */

static bool is_waiting(const struct serve *serve, const struct frames *message, uint64_t query)
{
    for (size_t i = 0; i < serve->n_queries; i++)
        if (serve->queries[i].query == query &&
            frames_same_peer(&serve->frames[i]->peer, &message->peer))
            return true;
    return false;
}

/* Any other query of the peer says that it waits for the last answer no longer. */
static bool answer_again(struct serve *serve, const struct frames *message, uint64_t query)
{
    struct serve_peer *peer = serve_find_peer(serve, message);
    if (peer == NULL || peer->kept.header == NULL)
        return false;
    if (peer->kept.query == query && pack_kept(serve, &peer->kept) == STATUS_OK) {
        serve_send_answer(serve, message);
        return true;
    }
    frames_clear(&serve->answer);
    serve_forget_kept(serve, peer);
    return false;
}

bool serve_is_repeated(struct serve *serve, const struct frames *message, uint64_t query)
{
    return is_waiting(serve, message, query) || answer_again(serve, message, query);
}
