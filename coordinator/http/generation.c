/* generation.c - see generation.h. */
#include "coordinator/http/generation.h"

#include "coordinator/http/chat_prompt.h"
#include "sys/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MOST_WAITING_BYTES = 1 << 20, /* that a client has not read: minutes of tokens */
    ECHO_TOKEN_BYTES = 256,       /* of a prompt's token in JSON, on average at most */
};

static struct generation *of(struct errand *errand)
{
    return (struct generation *)errand;
}

/* ---- the bridge's thread --------------------------------------------------------------------- */

/* One event of the stream; takes the reference. False: no memory, or nobody who reads. */
static bool send_object(struct generation *g, json_t *json)
{
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9));
    char *event = NULL;
    const int n = text == NULL ? -1 : asprintf(&event, "data: %s\n\n", text);
    const bool good = n >= 0 && stream_write(&g->stream, event, (size_t)n);
    g->spoke_us = clock_us();
    json_decref(json);
    free(text);
    if (n >= 0)
        free(event);
    return good;
}

/* What the choices of a prompt begin with. */
static bool send_first(struct generation *g, uint32_t prompt)
{
    const uint32_t first = prompt * g->request.n;
    for (uint32_t i = first; g->request.stream && i < first + g->request.n; i++) {
        bool none;
        json_t *chunk = answer_first_chunk(&g->answer, i, &none);
        if (!none && !send_object(g, chunk))
            return false;
    }
    return true;
}

static bool begin_stream(struct generation *g)
{
    g->begun = true;
    if (!g->request.stream)
        return true;
    stream_begin(&g->stream);
    for (uint32_t i = 0; i < g->request.n_prompts; i++)
        if (answer_is_scored(&g->answer, i) && !send_first(g, i))
            return false;
    return true;
}

static bool take_scores(struct generation *g, const Longspan__RunScores *scores)
{
    bool complete;
    return answer_scores(&g->answer, scores, &complete) &&
           (!complete || send_first(g, generate_request_prompt(&g->request, scores->prompt)));
}

static bool take_piece(struct generation *g, const struct answer_piece *piece)
{
    if (!g->request.stream ||
        (piece->n_bytes == 0 && piece->first_token == piece->end_token && !piece->finished))
        return true;
    bool none;
    json_t *chunk = answer_chunk(&g->answer, piece, &none);
    return none || send_object(g, chunk);
}

/* Of a prompt behind which nothing is to be generated. */
static bool finish_empty(struct generation *g, uint32_t prompt)
{
    const uint32_t first = prompt * g->request.n;
    struct answer_piece piece;
    for (uint32_t i = first; i < first + g->request.n; i++) {
        answer_finish_empty(&g->answer, i, &piece);
        if (!take_piece(g, &piece))
            return false;
    }
    return true;
}

static bool take_finished(struct generation *g, const Longspan__RunFinished *finished)
{
    struct answer_piece piece;
    if (g->request.max_tokens == 0)
        return finished->prompt < g->request.n_prompts && finish_empty(g, finished->prompt);
    return answer_finished(&g->answer, finished, &piece) && take_piece(g, &piece);
}

static bool take_done(struct generation *g)
{
    static const char end[] = "data: [DONE]\n\n";
    if (g->request.stream) {
        if (g->request.include_usage && !send_object(g, answer_usage_chunk(&g->answer)))
            return false;
        if (!stream_write(&g->stream, end, strlen(end)))
            return false;
    }
    stream_finish(&g->stream, STREAM_WHOLE);
    return true;
}

/* Of what a client asks, only its schema is checked behind the HTTP server. */
static void explain(const struct generation *g, enum status status, const char *text,
                    struct api_error *error)
{
    const bool is_call =
        g->request.tools.mode == TOOL_REQUIRED || g->request.tools.mode == TOOL_NAMED;
    api_error_from(error, status, text);
    if (error->http == 400 && g->request.json_schema != NULL)
        snprintf(error->param, sizeof(error->param), "%s", is_call ? "tools" : "response_format");
}

static void fail(struct generation *g, enum status status, const char *text)
{
    if (g->request.stream && g->begun) {
        struct api_error error;
        explain(g, status, text, &error);
        send_object(g, api_error_json(&error));
        stream_finish(&g->stream, STREAM_WHOLE);
        return;
    }
    explain(g, status, text, &g->failure);
    stream_finish(&g->stream, STREAM_WHOLE);
}

static bool take(struct errand *errand, const Longspan__RunEvent *event)
{
    struct generation *g = of(errand);
    struct answer_piece piece;
    switch (event->body_case) {
    case LONGSPAN__RUN_EVENT__BODY_PLAN:
        return begin_stream(g);
    case LONGSPAN__RUN_EVENT__BODY_TOKEN:
        return answer_token(&g->answer, event->token, &piece) && take_piece(g, &piece);
    case LONGSPAN__RUN_EVENT__BODY_FINISHED:
        return take_finished(g, event->finished);
    case LONGSPAN__RUN_EVENT__BODY_SCORES:
        return take_scores(g, event->scores);
    case LONGSPAN__RUN_EVENT__BODY_DONE:
        return take_done(g);
    case LONGSPAN__RUN_EVENT__BODY_FAILURE:
        fail(g, status_received(event->failure->status), event->failure->text);
        return true;
    default:
        return true;
    }
}

/* A client that has gone, or does not read, gets nothing more; one that waits learns why. */
static void lost(struct errand *errand, enum status status, const char *text)
{
    struct generation *g = of(errand);
    if (g->begun && g->request.stream) {
        stream_finish(&g->stream, STREAM_BROKEN);
        return;
    }
    fail(g, status, text);
}

/* A client that reads none of it is found out by what is written later. */
static void tick(struct errand *errand, uint64_t now_us)
{
    static const char comment[] = ": still at it\n\n";
    struct generation *g = of(errand);
    if (!g->request.stream || g->silence_us == 0 || now_us - g->spoke_us < g->silence_us)
        return;
    g->begun = true;
    g->spoke_us = now_us;
    stream_write(&g->stream, comment, strlen(comment));
}

static void detach(struct errand *errand)
{
    stream_detach(&of(errand)->stream);
}

static void destroy(struct errand *errand)
{
    struct generation *g = of(errand);
    answer_close(&g->answer);
    generate_request_free(&g->request);
    body_drop(&g->body);
    stream_close(&g->stream);
    free(g);
}

/* A stream with `echo` begins with all prompts at once. */
static size_t most_waiting(const struct generate_request *request)
{
    size_t n = 0;
    for (uint32_t i = 0; request->echo && i < request->n_prompts; i++)
        n += request->prompts[i].n_ids * request->n *
             (request->want_logprobs ? 1 + request->n_logprobs : 1);
    return MOST_WAITING_BYTES + n * ECHO_TOKEN_BYTES;
}

/* ---- reading: the desk's thread, or an MHD thread -------------------------------------------- */

static bool read_request(struct generation *g, struct api_error *error)
{
    struct site *site = g->site;
    const struct generate_limits limits = {.tokenizer = site->tokenizer,
                                           .vocab = site->vocab,
                                           .context = atomic_load(&site->max_tokens),
                                           .prompt_tokens = site->options->prompt_tokens,
                                           .names = site->names,
                                           .render = chat_prompt_render,
                                           .render_context = site,
                                           .stop = &g->errand.stop};
    json_t *body = body_object(&g->body, &g->errand.stop, error);
    const bool good =
        body != NULL && generate_request_read(&g->request, g->kind, body, &limits, error);
    json_decref(body);
    body_drop(&g->body);
    return good;
}

/* What is asked becomes a message, and an answer that waits for events. */
static bool make_message(struct generation *g, struct api_error *error)
{
    stream_allow(&g->stream, most_waiting(&g->request));
    if (!answer_open(&g->answer, &g->request, g->site->tokenizer, g->site->model, g->call_id,
                     (uint64_t)time(NULL)) ||
        !generate_request_pack(&g->request, g->errand.number, g->answer.id, &g->errand.message,
                               &g->errand.n_bytes))
        return api_error_set(error, 503, NULL, "unavailable", "no memory for the request");
    if (!g->request.echo)
        generate_request_drop_ids(&g->request);
    return true;
}

/* Of one of which nothing has to be computed: an echo without scores. */
static void finish(struct generation *g)
{
    bool good = begin_stream(g);
    for (uint32_t i = 0; good && i < g->request.n_prompts; i++)
        good = finish_empty(g, i);
    if (!good || !take_done(g))
        fail(g, STATUS_NO_MEMORY, "no memory for the answer");
}

static enum errand_outcome read_body(struct errand *errand)
{
    struct generation *g = of(errand);
    struct api_error error;
    const bool good = read_request(g, &error) && make_message(g, &error);
    if (!good && atomic_load(&errand->stop))
        return ERRAND_STOPPED;
    g->spoke_us = clock_us();
    if (good && (g->request.max_tokens > 0 || generate_request_scores(&g->request)))
        return ERRAND_TO_SEND;
    if (good) {
        finish(g);
    } else {
        g->failure = error;
        stream_finish(&g->stream, STREAM_WHOLE);
    }
    return ERRAND_ANSWERED;
}

static const struct errand_kind kind = {.read = read_body,
                                        .take = take,
                                        .lost = lost,
                                        .tick = tick,
                                        .detach = detach,
                                        .destroy = destroy};

/* ---- the MHD threads ------------------------------------------------------------------------- */

struct generation *generation_create(struct call *call, enum generate_kind wanted)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct generation *g = calloc(1, sizeof(*g));
    if (g == NULL || info == NULL) {
        free(g);
        return NULL;
    }
    g->site = call->site;
    g->kind = wanted;
    snprintf(g->call_id, sizeof(g->call_id), "%s", call->id);
    g->silence_us = call->site->options->silence_s * 1000000ull;
    errand_open(&g->errand, &kind, bridge_number(call->site->bridge), info->connect_fd);
    g->errand.n_unread = call->body.text.n;
    stream_open(&g->stream, call->connection, MOST_WAITING_BYTES);
    g->body = call->body;
    call->body = (struct body){0};
    return g;
}

bool generation_read(struct generation *g)
{
    g->errand.n_unread = 0;
    return read_body(&g->errand) == ERRAND_TO_SEND;
}

enum MHD_Result generation_answer(struct call *call, struct generation *g)
{
    if (g->failure.http != 0)
        return call_error(call, &g->failure);
    if (g->request.stream)
        return call_stream(call, "text/event-stream; charset=utf-8", &g->stream);
    snprintf(call->note, sizeof(call->note), "%llu prompt tokens, %llu generated",
             (unsigned long long)answer_prompt_tokens(&g->answer),
             (unsigned long long)answer_completion_tokens(&g->answer));
    return call_json(call, 200, answer_whole(&g->answer));
}
