/* serve_attend.c - queries: checked when they come, evaluated together, answered one by one.
 *
 * The works of all queries are one list, so that the lanes share it evenly (lean schedule), however
 * long or short each is. An answer is written where it is sent from. */
#include "attention_node/serve_state.h"

#include "kernels/attention/kv_window.h"
#include "sys/clock.h"

#include <inttypes.h>
#include <string.h>

enum { MOST_RANGES = 512 }; /* more partials than that a worker cannot merge (partial.h) */

/* ---- checking ---- */

/* Ranges: begin, end, begin, end... of whole tiles before the first row's own tile, ascending;
 * those that touch must be joined, as both sides derive the nodes from them. */
static enum status check_ranges(const struct serve *serve, const Longspan__AttendEntry *entry,
                                struct error *error)
{
    const uint32_t own = entry->position / TILE_TOKENS;
    if (entry->n_tiles % 2 != 0 || entry->n_tiles / 2 > MOST_RANGES)
        return error_set(error, STATUS_PROTOCOL,
                         "%s: %zu ends of tile ranges; they come in pairs, at most %d of them",
                         serve->config.name, entry->n_tiles, MOST_RANGES);
    for (size_t i = 0; i < entry->n_tiles; i += 2) {
        const uint32_t begin = entry->tiles[i], end = entry->tiles[i + 1];
        if (begin >= end || end > own || (i > 0 && begin <= entry->tiles[i - 1]))
            return error_set(error, STATUS_PROTOCOL,
                             "%s: tiles [%u, %u) of sequence %" PRIu64 " asked for at token %u: "
                             "ranges ascend, do not touch, and end before tile %u",
                             serve->config.name, begin, end, entry->sequence, entry->position, own);
    }
    return STATUS_OK;
}

static enum status check_entry(const struct serve *serve, const Longspan__AttendEntry *entry,
                               struct error *error)
{
    if ((uint64_t)entry->position + entry->n_tokens > serve->setup.max_tokens ||
        (entry->n_tokens == 0 && entry->n_tiles > 0))
        return error_set(error, STATUS_PROTOCOL,
                         "%s: %u tokens at %u of sequence %" PRIu64 " with %zu tile ranges; a "
                         "sequence of this job has at most %u tokens",
                         serve->config.name, entry->n_tokens, entry->position, entry->sequence,
                         entry->n_tiles / 2, serve->setup.max_tokens);
    return check_ranges(serve, entry, error);
}

static enum status keep_entry(struct serve *serve, const Longspan__AttendEntry *entry, size_t row,
                              struct error *error)
{
    const size_t n_ranges = entry->n_tiles / 2;
    enum status status = serve_grow(&serve->entries, &serve->entries_capacity, serve->n_entries + 1,
                                    sizeof(*serve->entries), error);
    if (status == STATUS_OK)
        status = serve_grow(&serve->ranges, &serve->ranges_capacity, serve->n_ranges + n_ranges,
                            sizeof(*serve->ranges), error);
    if (status != STATUS_OK)
        return status;
    serve->entries[serve->n_entries++] = (struct serve_entry){.sequence = entry->sequence,
                                                              .incarnation = entry->incarnation,
                                                              .position = entry->position,
                                                              .n_tokens = entry->n_tokens,
                                                              .window = entry->window,
                                                              .first_range = serve->n_ranges,
                                                              .n_ranges = n_ranges,
                                                              .row = row};
    for (size_t i = 0; i < n_ranges; i++)
        serve->ranges[serve->n_ranges++] =
            (struct tile_range){entry->tiles[2 * i], entry->tiles[2 * i + 1]};
    return STATUS_OK;
}

/* The tokens of an entry that lie in one tile, beginning at `position`. */
static uint32_t run_tokens(const struct serve_entry *entry, uint32_t position)
{
    const uint32_t room = TILE_TOKENS - position % TILE_TOKENS;
    const uint32_t left = entry->n_tokens - (position - entry->position);
    return room < left ? room : left;
}

static struct attend_work run_work(const struct serve *serve, const struct serve_entry *entry,
                                   uint32_t position)
{
    return (struct attend_work){.n_tokens = run_tokens(entry, position),
                                .position = position,
                                .window = entry->window,
                                .ranges = serve->ranges + entry->first_range,
                                .n_ranges = (uint32_t)entry->n_ranges};
}

/* Works and floats of the answer, which must not be too long. */
static enum status measure(const struct serve *serve, struct serve_query *query,
                           const struct serve_entry *entry, struct error *error)
{
    const size_t most = SERVE_MESSAGE_BYTES / sizeof(float) - SERVE_HEADER_BYTES;
    if (entry->n_ranges == 0)
        return STATUS_OK;
    uint32_t n;
    for (uint32_t position = entry->position; position < entry->position + entry->n_tokens;
         position += n) {
        const struct attend_work work = run_work(serve, entry, position);
        const size_t floats = attend_out_floats(&serve->shape, &work);
        if (floats > (most - query->reply_floats) / query->n_heads)
            return error_set(error, STATUS_EXHAUSTED,
                             "%s: the answer would be longer than %d MiB; ask with smaller chunks "
                             "or larger stripes",
                             serve->config.name, SERVE_MESSAGE_BYTES >> 20);
        query->reply_floats += floats * query->n_heads;
        query->n_works += query->n_heads;
        n = work.n_tokens;
    }
    return STATUS_OK;
}

static enum status check_query(struct serve *serve, const Longspan__Data *data,
                               struct serve_query *query, uint32_t *failed, struct error *error)
{
    struct frames *message = serve_inbox(serve);
    const Longspan__Attend *attend = data->attend;
    enum status status = serve_check_place(serve, data, error);
    if (status != STATUS_OK)
        return status;
    if (message->n != 2)
        return error_set(error, STATUS_PROTOCOL, "%s: a query of %u frames instead of 2",
                         serve->config.name, message->n);
    const size_t bytes = frames_size(message, 1);
    const size_t token_bytes =
        (size_t)data->n_heads * serve->shape.group * serve->shape.head_dim * sizeof(float);
    size_t rows = 0;
    for (size_t i = 0; i < attend->n_entries; i++) {
        const Longspan__AttendEntry *entry = attend->entries[i];
        *failed = (uint32_t)i;
        status = check_entry(serve, entry, error);
        if (status == STATUS_OK && entry->n_tokens > bytes / token_bytes - rows)
            status = error_set(error, STATUS_PROTOCOL,
                               "%s: %zu bytes of q are too few for its rows of %zu bytes",
                               serve->config.name, bytes, token_bytes);
        if (status == STATUS_OK)
            status = keep_entry(serve, entry, rows, error);
        if (status == STATUS_OK)
            status = measure(serve, query, &serve->entries[serve->n_entries - 1], error);
        if (status != STATUS_OK)
            return status;
        rows += entry->n_tokens;
    }
    if (rows * token_bytes != bytes)
        return error_set(error, STATUS_PROTOCOL, "%s: %zu bytes of q for %zu rows of %zu bytes",
                         serve->config.name, bytes, rows, token_bytes);
    return STATUS_OK;
}

/* The last one that was checked: its message, what is kept of it until it has run, its answer. */
static uint64_t query_bytes(const struct serve *serve, const struct serve_query *query)
{
    const struct frames *message = serve->frames[serve->n_queries - 1];
    uint64_t n_ranges = 0;
    for (size_t i = 0; i < query->n_entries; i++)
        n_ranges += serve->entries[query->first_entry + i].n_ranges;
    return frames_size(message, 0) + frames_size(message, 1) +
           query->n_entries * sizeof(*serve->entries) + n_ranges * sizeof(*serve->ranges) +
           query->n_works * sizeof(*serve->works) + query->reply_floats * sizeof(float);
}

enum status serve_query_add(struct serve *serve, const Longspan__Data *data, uint32_t *entry,
                            struct error *error)
{
    if (serve_is_repeated(serve, serve_inbox(serve), data->attend->query))
        return STATUS_OK;
    struct serve_query query = {.query = data->attend->query,
                                .came_us = clock_us(),
                                .step = data->step,
                                .layer = data->layer,
                                .head = data->head,
                                .n_heads = data->n_heads,
                                .first_entry = serve->n_entries,
                                .n_entries = data->attend->n_entries};
    const size_t n_entries = serve->n_entries, n_ranges = serve->n_ranges;
    const enum status status = check_query(serve, data, &query, entry, error);
    if (status != STATUS_OK) {
        serve->counts.malformed++;
        serve->n_entries = n_entries;
        serve->n_ranges = n_ranges;
        return status;
    }
    serve->queries[serve->n_queries++] = query;
    serve->waiting_bytes += query_bytes(serve, &query);
    return STATUS_OK;
}

/* ---- answering ---- */

/* Into serve->answer. Without memory there is none, and the peer asks again. */
static bool pack_answer(struct serve *serve, const Longspan__Data *place,
                        Longspan__AttendReply *reply, struct frame_buffer *partials, size_t bytes)
{
    Longspan__Data data = LONGSPAN__DATA__INIT;
    data.job = place->job;
    data.step = place->step;
    data.layer = place->layer;
    data.head = place->head;
    data.n_heads = place->n_heads;
    data.body_case = LONGSPAN__DATA__BODY_ATTEND_REPLY;
    data.attend_reply = reply;
    struct error error = {0};
    frames_clear(&serve->answer);
    enum status status = frames_add_message(&serve->answer, &data.base, &error);
    if (status == STATUS_OK && bytes > 0)
        status = frame_buffer_add(partials, 0, bytes, &serve->answer, &error);
    if (status == STATUS_OK)
        return true;
    frames_clear(&serve->answer);
    log_error(serve->config.log, "cannot answer a query: %s", error.text);
    return false;
}

void serve_refuse(struct serve *serve, const struct frames *request, const Longspan__Data *place,
                  const struct serve_refusal *refusal)
{
    const struct error *why = refusal->why;
    Longspan__Failure failure = LONGSPAN__FAILURE__INIT;
    Longspan__AttendReply reply = LONGSPAN__ATTEND_REPLY__INIT;
    char text[sizeof(why->text)];
    memcpy(text, why->text, sizeof(text));
    failure.status = (uint32_t)why->status;
    failure.text = text;
    reply.query = refusal->query;
    reply.failure = &failure;
    reply.failed_entry = refusal->entry;
    reply.missing = refusal->missing;
    reply.marks = refusal->marks;
    reply.n_marks = refusal->n_marks;
    log_debug(serve->config.log, "query %" PRIu64 " %s: %s", refusal->query,
              refusal->missing ? "lacks tokens" : "refused", why->text);
    if (pack_answer(serve, place, &reply, NULL, 0))
        serve_send_answer(serve, request);
}

static Longspan__Data query_place(const struct serve *serve, const struct serve_query *query)
{
    Longspan__Data place = LONGSPAN__DATA__INIT;
    place.job = serve->job;
    place.step = query->step;
    place.layer = query->layer;
    place.head = query->head;
    place.n_heads = query->n_heads;
    return place;
}

/* Adds the works of one entry; each finds its tiles, or the entry lacks them. */
static enum status entry_works(struct serve *serve, const struct serve_query *query,
                               const struct serve_entry *entry, const float *q, float **out,
                               size_t *n_works, struct error *error)
{
    const size_t head_floats = (size_t)serve->shape.group * serve->shape.head_dim;
    const size_t row_floats = query->n_heads * head_floats;
    uint32_t n;
    for (uint32_t position = entry->position; position < entry->position + entry->n_tokens;
         position += n) {
        struct attend_work work = run_work(serve, entry, position);
        const size_t floats = attend_out_floats(&serve->shape, &work);
        const struct kv_view view = {work.ranges, work.n_ranges,
                                     kv_window_begin(entry->window, position)};
        n = work.n_tokens;
        for (uint32_t head = 0; head < query->n_heads; head++) {
            const enum status status =
                kv_holder_source(serve->holder, entry->sequence, entry->incarnation, query->layer,
                                 query->head + head, &view, &work.source, error);
            if (status != STATUS_OK)
                return status;
            const size_t row = entry->row + (position - entry->position);
            work.q = q + row * row_floats + head * head_floats;
            work.q_token_stride = row_floats;
            work.out = *out;
            *out += floats;
            serve->works[(*n_works)++] = work;
        }
    }
    return STATUS_OK;
}

/* On a device: where the query's rows go. */
static const float *upload_q(struct serve *serve, const struct serve_query *query,
                             struct frames *request)
{
    unsigned char *q = (unsigned char *)serve->memory.q.memory + query->q_at;
    serve->config.kernels->upload(serve->config.device, q, frames_data(request, 1),
                                  frames_size(request, 1));
    return (const float *)(const void *)q;
}

/* Adds a query's works behind those that are there; or refuses it, and takes them back. */
static void query_works(struct serve *serve, size_t index, size_t *n_works)
{
    struct serve_query *query = &serve->queries[index];
    struct frames *request = serve->frames[index];
    const size_t n_before = *n_works;
    const Longspan__Data place = query_place(serve, query);
    uint32_t *marks = query->n_entries > 0 ? serve->marks + query->first_mark : NULL, failed = 0;
    struct error error = {0};
    enum status status =
        frame_pool_take(&serve->pool, query->reply_floats * sizeof(float), &query->reply, &error);
    const float *q = frames_data(request, 1);
    float *out = status == STATUS_OK ? frame_buffer_data(query->reply) : NULL;
    if (!serve->config.kernels->host_memory) {
        q = upload_q(serve, query, request);
        out = (float *)serve->memory.partials.memory + query->reply_at;
    }
    for (size_t i = 0; i < query->n_entries; i++) {
        const struct serve_entry *entry = &serve->entries[query->first_entry + i];
        marks[i] = kv_holder_mark(serve->holder, entry->sequence, entry->incarnation,
                                  (struct kv_heads){query->layer, query->head, query->n_heads});
        if (status != STATUS_OK || entry->n_ranges == 0)
            continue;
        failed = (uint32_t)i;
        status = entry_works(serve, query, entry, q, &out, n_works, &error);
    }
    if (status == STATUS_OK)
        return;
    struct error named = {0}; /* kv_holder does not know whose it is */
    error_set(&named, status, "%s: %s", serve->config.name, error.text);
    const struct serve_refusal refusal = {.query = query->query,
                                          .why = &named,
                                          .entry = failed,
                                          .missing = status == STATUS_PROTOCOL,
                                          .marks = marks,
                                          .n_marks = query->n_entries};
    serve_refuse(serve, request, &place, &refusal);
    frame_buffer_give(query->reply);
    query->reply = NULL;
    *n_works = n_before;
}

/* Sizes of the run's memory on a device, and each query's part of it. */
static enum status place_queries(struct serve *serve, size_t first, size_t end,
                                 size_t *reply_floats, struct error *error)
{
    size_t q_bytes = 0;
    *reply_floats = 0;
    for (size_t i = first; i < end; i++) {
        struct serve_query *query = &serve->queries[i];
        query->q_at = q_bytes;
        query->reply_at = *reply_floats;
        q_bytes += (frames_size(serve->frames[i], 1) + 255) / 256 * 256;
        *reply_floats += (query->reply_floats + 63) / 64 * 64;
    }
    return serve_memory_run(&serve->memory, q_bytes, *reply_floats * sizeof(float), error);
}

/* What was evaluated on a device comes into the answers. */
static enum status bring_partials(struct serve *serve, size_t first, size_t end,
                                  size_t reply_floats, struct error *error)
{
    struct serve_memory *memory = &serve->memory;
    if (serve->config.kernels->host_memory)
        return STATUS_OK;
    serve->config.kernels->download(serve->config.device, memory->partials_host.memory,
                                    memory->partials.memory, reply_floats * sizeof(float));
    const enum status status = serve_memory_finish(memory, serve->holder, error);
    for (size_t i = first; i < end && status == STATUS_OK; i++) {
        const struct serve_query *query = &serve->queries[i];
        if (query->reply != NULL)
            memcpy(frame_buffer_data(query->reply),
                   (const float *)memory->partials_host.memory + query->reply_at,
                   query->reply_floats * sizeof(float));
    }
    return status;
}

/* All that the query asks about fails, not one of its entries: asking with fewer would not help. */
static void refuse_whole(struct serve *serve, size_t index, const struct error *why)
{
    const struct serve_query *query = &serve->queries[index];
    const Longspan__Data place = query_place(serve, query);
    struct error named = {0};
    error_set(&named, why->status, "%s: %s", serve->config.name, why->text);
    log_error(serve->config.log, "a query is refused: %s", why->text);
    serve_refuse(serve, serve->frames[index], &place,
                 &(struct serve_refusal){
                     .query = query->query, .why = &named, .entry = (uint32_t)query->n_entries});
}

static void answer_query(struct serve *serve, size_t index)
{
    const struct serve_query *query = &serve->queries[index];
    const struct frames *request = serve->frames[index];
    const Longspan__Data place = query_place(serve, query);
    const uint64_t took_us = clock_us() - query->came_us;
    Longspan__AttendReply reply = LONGSPAN__ATTEND_REPLY__INIT;
    reply.query = query->query;
    reply.marks = query->n_entries > 0 ? serve->marks + query->first_mark : NULL;
    reply.n_marks = query->n_entries;
    if (!pack_answer(serve, &place, &reply, query->reply, query->reply_floats * sizeof(float)))
        return;
    if (serve->config.keep_after_us > 0 && took_us >= serve->config.keep_after_us)
        serve_keep_answer(serve, query, request);
    serve_send_answer(serve, request);
}

/* Memory for queries [first, end) at once. */
static enum status make_room(struct serve *serve, size_t first, size_t end, size_t *reply_floats,
                             struct error *error)
{
    size_t most_works = 0, n_marks = 0;
    for (size_t i = first; i < end; i++) {
        most_works += serve->queries[i].n_works;
        serve->queries[i].first_mark = n_marks;
        n_marks += serve->queries[i].n_entries;
    }
    enum status status =
        serve_grow(&serve->works, &serve->works_capacity, most_works, sizeof(*serve->works), error);
    if (status == STATUS_OK)
        status = serve_grow(&serve->marks, &serve->marks_capacity, n_marks, sizeof(*serve->marks),
                            error);
    return status == STATUS_OK ? place_queries(serve, first, end, reply_floats, error) : status;
}

/* Queries [first, end), for which there is memory: evaluated as one lean schedule, and answered. */
static void run_together(struct serve *serve, size_t first, size_t end, size_t reply_floats)
{
    size_t n_works = 0;
    struct error error = {0};
    enum status status = STATUS_OK;
    uint64_t at = trace_begin(serve->config.trace);
    for (size_t i = first; i < end; i++)
        query_works(serve, i, &n_works);
    at = trace_span(serve->config.trace, "find pages", at);
    kv_holder_flush(serve->holder);
    if (n_works > 0)
        status = attend_run(serve->attend, serve->works, n_works, &error);
    if (status == STATUS_OK)
        status = bring_partials(serve, first, end, reply_floats, &error);
    else /* q may still be on its way out of the frames */
        (void)serve_memory_finish(&serve->memory, serve->holder, NULL);
    at = trace_span(serve->config.trace, "attend", at);
    for (size_t i = first; i < end; i++) {
        struct serve_query *query = &serve->queries[i];
        if (query->reply == NULL)
            continue; /* it was refused */
        if (status == STATUS_OK)
            answer_query(serve, i);
        else
            refuse_whole(serve, i, &error);
        frame_buffer_give(query->reply);
        query->reply = NULL;
    }
    trace_span(serve->config.trace, "answer", at);
}

/* In halves where there is not memory for all at once; one that finds none alone is refused. */
static void run_queries(struct serve *serve, size_t first, size_t end)
{
    size_t reply_floats;
    struct error error = {0};
    if (make_room(serve, first, end, &reply_floats, &error) == STATUS_OK) {
        run_together(serve, first, end, reply_floats);
    } else if (end - first == 1) {
        refuse_whole(serve, first, &error);
    } else {
        const size_t middle = first + (end - first) / 2;
        run_queries(serve, first, middle);
        run_queries(serve, middle, end);
    }
}

void serve_run(struct serve *serve)
{
    if (serve->n_queries == 0)
        return;
    const uint64_t began_us = clock_us();
    run_queries(serve, 0, serve->n_queries);
    for (size_t i = 0; i < serve->n_queries; i++)
        frames_clear(serve->frames[i]);
    serve->counts.runs++;
    serve->counts.attend_us += clock_us() - began_us;
    serve->n_queries = serve->n_entries = serve->n_ranges = 0;
    serve->waiting_bytes = 0;
}
