/* server.c - see server.h: libmicrohttpd's callbacks, and the life of the server. */
#include "coordinator/http/server.h"

#include "coordinator/http/bridge.h"
#include "coordinator/http/call.h"
#include "coordinator/http/door.h"
#include "coordinator/http/listen.h"
#include "coordinator/http/readers.h"
#include "coordinator/http/routes.h"
#include "coordinator/http/status_source.h"
#include "model/model_name.h"
#include "proto/server_options.h"
#include "sys/clock.h"
#include "sys/descriptors.h"
#include "sys/random.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum {
    THREADS = 4,             /* each carries some connections; the desk reads what is long */
    SPARE_CONNECTIONS = 256, /* beside those of the requests that run or wait */
    DOOR_DESCRIPTORS = 2,    /* that the door opens for itself */
    NO_LIMIT = INT_MAX,      /* of libmicrohttpd: door.h */
    HEADER_BYTES = 32768,    /* of a request, and what MHD needs beside them */
    LATE_CALLS_MS = 5000,    /* after SIGTERM, for requests that are still being sent */
    LAST_BYTES_MS = 500,     /* at the end, for clients to take what was written */
    LAST_BYTES_LOOK_MS = 5,
};

struct server {
    struct site site;
    struct readers *readers;
    struct MHD_Daemon *daemon;
    struct door *door;
    char shown[LISTEN_SHOWN_BYTES]; /* where it listens */
    uint64_t
        late_until_us; /* who drains waits for calls that are not whole; 0: it does not drain */
};

/* ---- one call: its beginning ----------------------------------------------------------------- */

/* A client's own id, where it is one that a log line can carry. */
static bool is_sane_id(const char *id)
{
    const size_t n = strlen(id);
    return n > 0 && n <= 64 &&
           id[strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] ==
               '\0';
}

static void name_call(struct call *call)
{
    const char *given = call_header(call, "x-request-id");
    uint64_t words[2] = {0};
    if (given != NULL && is_sane_id(given)) {
        snprintf(call->id, sizeof(call->id), "%s", given);
        return;
    }
    if (random_unique(words, sizeof(words), NULL) != STATUS_OK)
        words[0] = atomic_fetch_add(&call->site->n_served, 1);
    snprintf(call->id, sizeof(call->id), "req-%016" PRIx64 "%016" PRIx64, words[0], words[1]);
}

/* Does the authority HOST[:PORT] name a machine by an address, or this one as localhost? No other
 * site can have such a name. */
static bool is_address(const char *authority)
{
    char host[INET6_ADDRSTRLEN + 1];
    struct in_addr address;
    const size_t n = strcspn(authority, ":");
    if (authority[0] == '[')
        return true;
    if (n >= sizeof(host))
        return false;
    memcpy(host, authority, n);
    host[n] = '\0';
    return strcasecmp(host, "localhost") == 0 || inet_pton(AF_INET, host, &address) == 1;
}

/* A page of another site may not use a server that its reader can reach, unless --cors says so:
 * browsers tell whose page asks. A site may have its own name lead to the reader's machine (DNS
 * rebinding), and is then taken for ours: where no key protects the server, it goes by no name. */
static bool origin_is_ours(const struct call *call)
{
    const char *origin = call_header(call, "Origin"), *host = call_header(call, "Host");
    const char *allowed = call->site->options->cors;
    if (origin == NULL || (allowed != NULL && strcmp(allowed, "*") == 0) ||
        (allowed != NULL && strcmp(allowed, origin) == 0))
        return true;
    const char *authority = strstr(origin, "://");
    return authority != NULL && host != NULL && strcmp(authority + 3, host) == 0 &&
           (call->site->keys != NULL || is_address(host));
}

static bool check(struct call *call)
{
    struct api_error *error = &call->refusal;
    const struct site *site = call->site;
    call->route = routes_find(call->method, call->path, &call->allow);
    if (call->route == NULL && call->allow != NULL)
        return api_error_set(error, 405, NULL, "method_not_allowed", "%s is for %s, not for %s",
                             call->path, call->allow, call->method);
    if (!origin_is_ours(call))
        return api_error_set(error, 403, NULL, "origin_not_allowed",
                             "pages of other sites may not use this server (--cors)");
    const bool open = call->route != NULL && (call->route->flags & ROUTE_OPEN) != 0;
    if (!open && !keys_admit(site->keys, call_header(call, "Authorization")))
        return api_error_set(error, 401, NULL, "invalid_api_key",
                             "an API key is missing or wrong: Authorization: Bearer KEY");
    if (call->route == NULL)
        return api_error_set(error, 404, NULL, "unknown_url", "there is nothing at %s %s",
                             call->method, call->path);
    const enum site_state state = atomic_load(&site->state);
    if ((call->route->flags & ROUTE_WORK) != 0 && state != SITE_READY)
        return api_error_set(error, 503, NULL, "unavailable",
                             state == SITE_LOADING ? "the model is being loaded"
                                                   : "the server is shutting down");
    return true;
}

static struct call *begin(struct server *server, struct MHD_Connection *connection,
                          const char *method, const char *path)
{
    struct call *call = calloc(1, sizeof(*call));
    if (call == NULL)
        return NULL;
    call->site = &server->site;
    call->connection = connection;
    call->began_us = clock_us();
    snprintf(call->method, sizeof(call->method), "%s", method);
    snprintf(call->path, sizeof(call->path), "%s", path);
    atomic_fetch_add(&server->site.n_calls, 1);
    name_call(call);
    return call;
}

/* ---- its body -------------------------------------------------------------------------------- */

/* By what its headers say. False: it is refused, before any of it is read.
 *
 * A body must come with its length. libmicrohttpd could read one in chunks, but ends those whose
 * chunk heads exceed its buffer with a 500 of its own, before anything here sees them. */
static bool check_announced(struct call *call)
{
    if (call_header(call, MHD_HTTP_HEADER_TRANSFER_ENCODING) != NULL)
        return api_error_set(&call->refusal, 411, NULL, "length_required",
                             "bodies are taken with Content-Length, not with Transfer-Encoding");
    const char *length = call_header(call, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (length != NULL && strtoull(length, NULL, 10) > call->site->bodies.each)
        return body_too_large(&call->site->bodies, &call->refusal);
    return true;
}

/* What is refused anyway is read, so that the client can read the answer, and dropped. */
static void take_body(struct call *call, const char *data, size_t n)
{
    if (call->refusal.http == 0)
        body_add(&call->body, &call->site->bodies, data, n, &call->refusal);
}

/* ---- MHD's callbacks ------------------------------------------------------------------------- */

static struct reader *reader_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

static void note_connection(void *closure, struct MHD_Connection *connection, void **context,
                            enum MHD_ConnectionNotificationCode code)
{
    struct server *server = closure;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = info != NULL ? readers_add(server->readers, info->connect_fd) : NULL;
        atomic_fetch_add(&server->site.tally.connections, 1);
    } else if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        readers_remove(server->readers, *context);
        *context = NULL;
        atomic_fetch_sub(&server->site.tally.connections, 1);
    }
}

/* First without a body, then with each part of it, then without again, once it is whole; and once
 * more each time that the connection was suspended and resumed. */
static enum MHD_Result access_call(void *closure, struct MHD_Connection *connection,
                                   const char *url, const char *method, const char *version,
                                   const char *data, size_t *n_bytes, void **context)
{
    struct server *server = closure;
    struct call *call = *context;
    (void)version;
    if (call == NULL) {
        call = begin(server, connection, method, url);
        if (call == NULL)
            return MHD_NO;
        *context = call;
        check(call);
        if (!check_announced(call))
            return call_error(call, &call->refusal); /* unread: the connection ends with it */
        return MHD_YES;
    }
    if (*n_bytes > 0) {
        take_body(call, data, *n_bytes);
        *n_bytes = 0;
        return MHD_YES;
    }
    readers_stop(server->readers, reader_of(connection));
    if (!call->is_whole)
        atomic_fetch_add(&server->site.n_whole, 1);
    call->is_whole = true;
    if (call->site->options->cors != NULL && strcmp(call->method, "OPTIONS") == 0)
        return call_preflight(call);
    if (call->refusal.http != 0)
        return call_error(call, &call->refusal);
    return call->route->handle(call);
}

static void log_call(const struct call *call, enum MHD_RequestTerminationCode code)
{
    const double seconds = (double)(clock_us() - call->began_us) * 1e-6;
    const bool quiet = call->route != NULL && (call->route->flags & ROUTE_QUIET) != 0;
    const char *end = code == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "" : ", cut off";
    if (quiet)
        log_debug(call->site->log, "http %s %s %s %u, %.3f s%s", call->id, call->method, call->path,
                  call->status, seconds, end);
    else
        log_info(call->site->log, "http %s %s %s %u, %.3f s%s%s%s", call->id, call->method,
                 call->path, call->status, seconds, end, call->note[0] != '\0' ? ": " : "",
                 call->note);
}

static void end_call(void *closure, struct MHD_Connection *connection, void **context,
                     enum MHD_RequestTerminationCode code)
{
    struct server *server = closure;
    struct call *call = *context;
    *context = NULL;
    if (call == NULL)
        return;
    readers_start(server->readers, reader_of(connection));
    log_call(call, code);
    tally_answer(&server->site.tally, call->route, call->status);
    if (call->streams)
        atomic_fetch_sub(&server->site.tally.streams, 1);
    if (call->errand != NULL) {
        call->errand->kind->detach(call->errand);
        bridge_abandon(call->site->bridge, call->errand);
        errand_release(call->errand);
    }
    status_question_end(call->question);
    if (call->is_whole)
        atomic_fetch_sub(&call->site->n_whole, 1);
    atomic_fetch_sub(&call->site->n_calls, 1);
    body_drop(&call->body);
    free(call);
}

/* Paths and names are compared as they came: none of ours has anything to unescape, and %00 would
 * end a string. */
static size_t keep_escapes(void *closure, struct MHD_Connection *connection, char *text)
{
    (void)closure;
    (void)connection;
    return strlen(text);
}

static void log_mhd(void *closure, const char *format, va_list arguments)
{
    const struct server *server = closure;
    char text[512];
    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\n")] = '\0';
    log_debug(server->site.log, "http: %s", text);
}

/* ---- the server ------------------------------------------------------------------------------ */

static void name_model(struct site *site, const struct server_model *model)
{
    const struct model_string name = model_name(model->path);
    const char *slash = strrchr(model->path, '/');
    site->names =
        (struct model_names){.id = site->model,
                             .file = slash != NULL && slash[1] != '\0' ? slash + 1 : model->path,
                             .general = model->name};
    if (site->options->model_name != NULL)
        snprintf(site->model, sizeof(site->model), "%s", site->options->model_name);
    else
        snprintf(site->model, sizeof(site->model), "%.*s", (int)name.n_bytes, name.data);
}

/* Connections at once: as many as are wanted, or as there may be beside `n_reserved` descriptors. */
static enum status count_places(uint32_t *places, const struct site *site, uint32_t n_reserved,
                                struct error *error)
{
    const uint32_t wanted = site->options->running + site->options->queued + SPARE_CONNECTIONS;
    const size_t left = descriptors_left(), others = (size_t)n_reserved + DOOR_DESCRIPTORS;
    if (left <= others)
        return error_set(error, STATUS_EXHAUSTED,
                         "%zu more files can be open (ulimit -n), the HTTP server needs %zu and "
                         "one for each connection: raise the limit",
                         left, others);
    *places = left - others < wanted ? (uint32_t)(left - others) : wanted;
    if (*places < wanted)
        log_warn(site->log,
                 "http: %u connections at once, not %u, which is all that the limit of open files "
                 "leaves room for: raise `ulimit -n`",
                 *places, wanted);
    return STATUS_OK;
}

/* `listening` is the door's, or closed. */
static enum status start_daemon(struct server *server, int listening, uint32_t n_reserved,
                                struct error *error)
{
    const struct http_options *options = server->site.options;
    uint32_t places = 0;
    server->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
            MHD_USE_ERROR_LOG | MHD_USE_NO_LISTEN_SOCKET,
        0, NULL, NULL, access_call, server, MHD_OPTION_EXTERNAL_LOGGER, log_mhd, server,
        MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)NO_LIMIT, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)options->idle_s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_BYTES, MHD_OPTION_NOTIFY_COMPLETED,
        end_call, server, MHD_OPTION_NOTIFY_CONNECTION, note_connection, server,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_END);
    if (server->daemon == NULL) {
        close(listening);
        return error_set(error, STATUS_NO_MEMORY, "the HTTP server cannot be started");
    }
    const enum status status = count_places(&places, &server->site, n_reserved, error);
    if (status != STATUS_OK) {
        close(listening);
        return status;
    }
    const struct door_config door = {.listening = listening,
                                     .daemon = server->daemon,
                                     .most = places,
                                     .patience_s = options->idle_s};
    return door_open(&server->door, &door, error);
}

static enum status open_templates(struct site *site, const struct server_model *model,
                                  struct error *error)
{
    const enum status status = chat_templates_open(&site->templates, model->file, model->tokenizer,
                                                   site->options->chat_template, error);
    const char *refusal = status == STATUS_OK ? chat_templates_refusal(site->templates) : NULL;
    if (refusal != NULL)
        log_info(site->log, "http: chats are refused: %s", refusal);
    return status;
}

/* A page's origin is compared as browsers write it: null of a file, or of a sandboxed frame. */
static enum status check_cors(const char *origin, struct error *error)
{
    const char *host = origin != NULL ? strstr(origin, "://") : NULL;
    if (origin == NULL || strcmp(origin, "*") == 0 || strcmp(origin, "null") == 0 ||
        (host != NULL && host[3] != '\0' && strchr(host + 3, '/') == NULL))
        return STATUS_OK;
    return error_set(error, STATUS_INVALID,
                     "--cors %.200s: give *, null or an origin, which has no path: https://host, "
                     "http://host:3000",
                     origin);
}

enum status server_open(struct server **server, const struct http_options *options,
                        const struct server_model *model, uint32_t n_reserved,
                        struct wire_context *wire, const struct log *log, struct error *error)
{
    struct server *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the HTTP server");
    struct site *site = &s->site;
    site->options = options;
    site->bodies.each = options->body_bytes;
    site->bodies.all = options->bodies_bytes;
    site->log = log;
    site->tokenizer = model->tokenizer;
    site->vocab = model->vocab;
    site->created_s = (uint64_t)time(NULL);
    name_model(site, model);
    const struct bridge_limits limits = {.running = options->running, .queued = options->queued};
    int listening = -1;
    enum status status = check_cors(options->cors, error);
    if (status == STATUS_OK && options->api_key_file != NULL)
        status = keys_read(&site->keys, options->api_key_file, error);
    else if (status == STATUS_OK && options->api_key != NULL)
        status = keys_parse(&site->keys, options->api_key, SERVER_OPTIONS_API_KEY, error);
    if (status == STATUS_OK)
        status = open_templates(site, model, error);
    if (status == STATUS_OK)
        status = status_source_create(&site->status, wire, SERVER_ENDPOINT, STATUS_SOURCE_WAIT_MS,
                                      error);
    if (status == STATUS_OK)
        status = bridge_create(&site->bridge, wire, SERVER_ENDPOINT, &limits, log, error);
    if (status == STATUS_OK)
        status = readers_create(&s->readers, options->read_s, error);
    if (status == STATUS_OK)
        status = listen_open(&listening, options->address, site->keys != NULL, s->shown, error);
    if (status == STATUS_OK)
        status = start_daemon(s, listening, n_reserved, error);
    if (status != STATUS_OK) {
        server_close(s);
        return status;
    }
    log_info(log, "http: listening at http://%s, model %s%s", s->shown, site->model,
             site->keys != NULL ? ", with API keys" : "");
    *server = s;
    return STATUS_OK;
}

void server_ready(struct server *server, uint32_t max_tokens)
{
    enum site_state loading = SITE_LOADING;
    atomic_store(&server->site.max_tokens, max_tokens);
    if (atomic_compare_exchange_strong(&server->site.state, &loading, SITE_READY))
        log_info(server->site.log, "http: ready: http://%s has the page, http://%s/v1 the API",
                 server->shown, server->shown);
}

void server_drain(struct server *server)
{
    atomic_store(&server->site.state, SITE_DRAINING);
    if (server->late_until_us == 0)
        server->late_until_us = clock_us() + LATE_CALLS_MS * 1000ull;
}

/* Who sends a byte a second keeps nobody from leaving. */
bool server_drained(const struct server *server)
{
    return atomic_load(&server->site.n_whole) == 0 &&
           (atomic_load(&server->site.n_calls) == 0 || clock_us() >= server->late_until_us);
}

/* What was written last, as the reason why a stream ends, is on its way to clients that read. */
static void wait_for_last_bytes(const struct server *server)
{
    const uint64_t end_us = clock_us() + LAST_BYTES_MS * 1000ull;
    while (!server_drained(server) && clock_us() < end_us)
        poll(NULL, 0, LAST_BYTES_LOOK_MS);
}

void server_close(struct server *server)
{
    if (server == NULL)
        return;
    server_drain(server);
    /* Every connection is woken: MHD ends none that is suspended. */
    bridge_close(server->site.bridge);
    status_source_close(server->site.status);
    wait_for_last_bytes(server);
    door_close(server->door);
    if (server->daemon != NULL)
        MHD_stop_daemon(server->daemon);
    bridge_destroy(server->site.bridge);
    status_source_destroy(server->site.status);
    readers_destroy(server->readers);
    chat_templates_close(server->site.templates);
    keys_destroy(server->site.keys);
    free(server);
}
