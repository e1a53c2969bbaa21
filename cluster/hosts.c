/* hosts.c - questions to all agents, in the order in which their answers are needed. */
#include "cluster/hosts.h"

#include "cluster/agent.h"
#include "cluster/agents.h"
#include "cluster/program_says.h"
#include "cluster/reach.h"
#include "cluster/weights_set.h"
#include "model/model_file.h"
#include "sys/clock.h"
#include "sys/file.h"
#include "sys/interfaces.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct preparation {
    struct layout *layout;
    struct agents *agents;
    struct agents_question *questions; /* one per host; answers are dropped before the next ones */
    FILE *show;
};

static bool has_workers(const struct layout *layout, const struct layout_host *host)
{
    for (uint32_t i = 0; i < layout->n_workers; i++)
        if (layout->workers[i].host == host)
            return true;
    return false;
}

static bool has_nodes(const struct layout *layout, const struct layout_host *host)
{
    for (uint32_t i = 0; i < layout->n_nodes; i++)
        if (layout->nodes[i].host == host)
            return true;
    return false;
}

static const char *text_of(const struct agents_question *question, const char *key)
{
    const char *text = json_string_value(json_object_get(question->answer, key));
    return text != NULL ? text : "";
}

static void forget_answers(struct preparation *p)
{
    for (uint32_t i = 0; i < p->layout->n_hosts; i++) {
        json_decref(p->questions[i].answer);
        p->questions[i] = (struct agents_question){0};
    }
}

static enum status ask(struct preparation *p, struct write_progress *progress, struct error *error)
{
    return agents_ask(p->agents, p->questions, progress, error);
}

/* A path that an agent told becomes a word of command lines: absolute, or nothing of ours. */
static enum status keep_path(char **path, const struct layout_host *host, const char *told,
                             struct error *error)
{
    if (told[0] != '/')
        return error_set(error, STATUS_PROTOCOL, "%s: its agent told no path", host->name);
    *path = strdup(told);
    return *path != NULL ? STATUS_OK : error_set(error, STATUS_NO_MEMORY, "no memory for a path");
}

/* ---- networks that are none ------------------------------------------------------------------ */

/* How many hosts have the address, this one among them. */
static uint32_t n_having(const struct preparation *p, const char *address)
{
    char(*own)[INTERFACES_ADDRESS_BYTES] = NULL;
    uint32_t n = 0, having = 0;
    interfaces_own(&own, &n, NULL);
    for (uint32_t i = 0; i < n; i++)
        having += strcmp(own[i], address) == 0;
    free(own);
    for (uint32_t i = 0; i < p->layout->n_hosts; i++) {
        const json_t *list = json_object_get(p->questions[i].answer, "addresses");
        for (size_t k = 0; k < json_array_size(list); k++) {
            const char *theirs = json_string_value(json_array_get(list, k));
            having += theirs != NULL && strcmp(theirs, address) == 0;
        }
    }
    return having;
}

static bool is_listed(const char *networks, const char *address)
{
    const size_t length = strlen(address);
    for (const char *at = networks; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strcspn(at, ",") == length && memcmp(at, address, length) == 0)
            return true;
    }
    return false;
}

/* Adds those addresses of a host that another has too: of IPv4, the only subnets that Open MPI
 * reads. It takes the interfaces that have them, so that these are left out with their IPv6. NULL:
 * no memory. */
static char *add_shared(char *networks, const struct preparation *p, uint32_t host)
{
    const json_t *list = json_object_get(p->questions[host].answer, "addresses");
    for (size_t i = 0; networks != NULL && i < json_array_size(list); i++) {
        const char *address = json_string_value(json_array_get(list, i));
        char *longer = NULL;
        if (address == NULL || interfaces_check(address, "", NULL) != STATUS_OK ||
            strchr(address, ':') != NULL || is_listed(networks, address) ||
            n_having(p, address) < 2)
            continue;
        if (asprintf(&longer, "%s,%s", networks, address) < 0)
            longer = NULL;
        free(networks);
        networks = longer;
    }
    return networks;
}

/* Container bridges have the same address on every host. MPI would try it, meet itself, and wait:
 * such networks are left out, beside loopback, unless the cluster file names those to use. */
static enum status find_shared_networks(struct preparation *p, struct error *error)
{
    struct layout *layout = p->layout;
    const char loopback[] = "127.0.0.1/8";
    char *networks = strdup(loopback);
    for (uint32_t i = 0; i < layout->n_hosts; i++)
        networks = add_shared(networks, p, i);
    if (networks == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the names of networks");
    if (strcmp(networks, loopback) != 0)
        layout->shared_networks = networks;
    else
        free(networks);
    return STATUS_OK;
}

/* ---- programs -------------------------------------------------------------------------------- */

static enum status take_programs(struct preparation *p, struct layout_host *host,
                                 const struct agents_question *question, const char *mpi,
                                 struct error *error)
{
    enum status status = STATUS_OK;
    if (has_workers(p->layout, host)) {
        if (strcmp(text_of(question, "mpi"), mpi) != 0)
            return error_set(
                error, STATUS_UNREACHABLE,
                "%s: has Open MPI %.40s, here is %s, and mpirun needs the same everywhere: "
                "install it, or name one installation by programs: {mpi: FOLDER} in the cluster "
                "file",
                host->name, text_of(question, "mpi"), mpi);
        status = keep_path(&host->worker, host, text_of(question, "worker"), error);
    }
    if (status == STATUS_OK && has_nodes(p->layout, host))
        status = keep_path(&host->node, host, text_of(question, "node"), error);
    return status;
}

static enum status check_programs(struct preparation *p, struct error *error)
{
    struct layout *layout = p->layout;
    char mpi[PROGRAM_SAYS_VERSION_BYTES] = "";
    bool workers = false;
    for (uint32_t i = 0; i < layout->n_hosts; i++) {
        const struct layout_host *host = &layout->hosts[i];
        workers |= has_workers(layout, host);
        p->questions[i].request = json_pack(
            "{s:s, s:b, s:b, s:s}", "do", "programs", "workers", has_workers(layout, host), "nodes",
            has_nodes(layout, host), "mpi", layout->mpi != NULL ? layout->mpi : "");
    }
    enum status status = ask(p, NULL, error);
    if (status == STATUS_OK && workers)
        status = program_says_mpi(mpi, NULL, error);
    for (uint32_t i = 0; i < layout->n_hosts && status == STATUS_OK; i++)
        status = take_programs(p, &layout->hosts[i], &p->questions[i], mpi, error);
    if (status == STATUS_OK)
        status = find_shared_networks(p, error);
    forget_answers(p);
    return status;
}

/* ---- network --------------------------------------------------------------------------------- */

struct meeting {
    char host[ADDRESS_HOST_BYTES];
    uint16_t port;
};

static enum status meet(struct preparation *p, const struct meeting *meetings, const char *what,
                        struct error *error)
{
    struct error inner = {0};
    for (uint32_t i = 0; i < p->layout->n_hosts; i++)
        p->questions[i].request = json_pack("{s:s, s:s, s:i}", "do", "reach", "host",
                                            meetings[i].host, "port", (int)meetings[i].port);
    const enum status status = ask(p, NULL, &inner);
    forget_answers(p);
    return status == STATUS_OK
               ? STATUS_OK
               : error_set(error, status, "%s (from there to %s)", inner.text, what);
}

/* To the coordinator's port, which nobody else has yet, and to a free one, as mpirun will have. */
static enum status reach_head(struct preparation *p, struct meeting *meetings, struct error *error)
{
    const struct layout *layout = p->layout;
    struct address address, listen;
    int known = -1, any = -1;
    uint16_t port = 0;
    enum status status = address_parse(layout->address, &address, error);
    if (status == STATUS_OK)
        status = address_parse(layout->listen, &listen, error);
    if (status != STATUS_OK || address.kind != ADDRESS_TCP || listen.kind != ADDRESS_TCP)
        return status;
    status = reach_listen(&known, listen.is_any && !listen.is_ipv6 ? NULL : listen.host,
                          &listen.port, error);
    if (status == STATUS_OK)
        status = reach_listen(&any, NULL, &port, error);
    for (uint32_t i = 0; i < layout->n_hosts; i++) {
        snprintf(meetings[i].host, sizeof(meetings[i].host), "%s", address.host);
        meetings[i].port = address.port;
    }
    if (status == STATUS_OK)
        status = meet(p, meetings, "the coordinator here", error);
    for (uint32_t i = 0; i < layout->n_hosts; i++)
        meetings[i] = (struct meeting){.port = port};
    if (status == STATUS_OK)
        status = meet(p, meetings, "this machine, at any port", error);
    if (known >= 0)
        close(known);
    if (any >= 0)
        close(any);
    return status;
}

/* Each host from here, and from the one before it. */
static enum status reach_each_other(struct preparation *p, struct meeting *meetings,
                                    struct error *error)
{
    const struct layout *layout = p->layout;
    const uint32_t n = layout->n_hosts;
    for (uint32_t i = 0; i < n; i++)
        p->questions[i].request = json_pack("{s:s, s:s}", "do", "listen", "interface",
                                            layout->interface != NULL ? layout->interface : "");
    enum status status = ask(p, NULL, error);
    for (uint32_t i = 0; i < n && status == STATUS_OK; i++) {
        const uint32_t from = (i + n - 1) % n;
        struct error inner = {0};
        snprintf(meetings[from].host, sizeof(meetings[from].host), "%s",
                 text_of(&p->questions[i], "host"));
        meetings[from].port =
            (uint16_t)json_integer_value(json_object_get(p->questions[i].answer, "port"));
        if (reach_connect(meetings[from].host, meetings[from].port, &inner) != STATUS_OK)
            status = error_set(error, STATUS_UNREACHABLE, "%s: %s (from here to %s, at any port)",
                               layout->hosts[i].name, inner.text, layout->hosts[i].name);
    }
    forget_answers(p);
    return status == STATUS_OK
               ? meet(p, meetings, "another host of the cluster, at any port", error)
               : status;
}

static enum status check_network(struct preparation *p, struct error *error)
{
    struct meeting *meetings = calloc(p->layout->n_hosts, sizeof(*meetings));
    if (meetings == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u hosts", p->layout->n_hosts);
    enum status status = reach_head(p, meetings, error);
    if (status == STATUS_OK)
        status = reach_each_other(p, meetings, error);
    free(meetings);
    return status;
}

/* ---- the key --------------------------------------------------------------------------------- */

static enum status give_key(struct preparation *p, struct error *error)
{
    struct layout *layout = p->layout;
    char *key = NULL;
    size_t n_bytes;
    if (layout->cluster_key[0] == '\0')
        return STATUS_OK;
    enum status status =
        file_read(layout->cluster_key, AGENT_MOST_KEY_BYTES, &key, &n_bytes, error);
    for (uint32_t i = 0; i < layout->n_hosts && status == STATUS_OK; i++)
        p->questions[i] = (struct agents_question){
            .request = json_pack("{s:s, s:I}", "do", "key", "bytes", (json_int_t)n_bytes),
            .bytes = key,
            .n_bytes = n_bytes};
    if (status == STATUS_OK)
        status = ask(p, NULL, error);
    for (uint32_t i = 0; i < layout->n_hosts && status == STATUS_OK; i++)
        status = keep_path(&layout->hosts[i].cluster_key, &layout->hosts[i],
                           text_of(&p->questions[i], "path"), error);
    forget_answers(p);
    if (key != NULL)
        explicit_bzero(key, n_bytes);
    free(key);
    return status;
}

/* ---- the model ------------------------------------------------------------------------------- */

static enum status compare_models(struct preparation *p, struct error *error)
{
    struct layout *layout = p->layout;
    struct model_file *model = NULL;
    uint8_t fingerprint[MODEL_FINGERPRINT_BYTES];
    char ours[2 * MODEL_FINGERPRINT_BYTES + 1];
    struct error inner = {0};
    enum status status = model_open(&model, layout->model, error);
    if (status != STATUS_OK)
        return status;
    model_fingerprint(model, fingerprint);
    model_close(model);
    for (size_t i = 0; i < sizeof(fingerprint); i++)
        snprintf(ours + 2 * i, 3, "%02x", fingerprint[i]);
    for (uint32_t i = 0; i < layout->n_hosts; i++)
        if (has_workers(layout, &layout->hosts[i]))
            p->questions[i].request = json_pack("{s:s, s:s}", "do", "model", "path", layout->model);
    status = ask(p, NULL, &inner);
    if (status != STATUS_OK)
        error_set(error, status,
                  "%s: copy the model there, to the same path, or have it sent: --weights push",
                  inner.text);
    for (uint32_t i = 0; i < layout->n_hosts && status == STATUS_OK; i++)
        if (p->questions[i].answer != NULL &&
            strcmp(text_of(&p->questions[i], "fingerprint"), ours) != 0)
            status =
                error_set(error, STATUS_INVALID,
                          "%s: has another file at %s than this machine: copy it there, or have "
                          "it sent: --weights push",
                          layout->hosts[i].name, layout->model);
    forget_answers(p);
    return status;
}

/* Asks those hosts of which `wanted` says so; the others' paths stay. */
static enum status ask_weights(struct preparation *p, const struct weights_set *set, bool take,
                               struct write_progress *progress, struct error *error)
{
    struct layout *layout = p->layout;
    for (uint32_t i = 0; i < layout->n_hosts; i++)
        if (has_workers(layout, &layout->hosts[i]) && layout->hosts[i].model == NULL)
            p->questions[i] = (struct agents_question){
                .request = json_pack("{s:s, s:s, s:o}", "do", take ? "take" : "find", "dir",
                                     layout->weights_dir != NULL ? layout->weights_dir : "", "set",
                                     weights_set_json(set)),
                .files = take ? set : NULL};
    enum status status = ask(p, progress, error);
    for (uint32_t i = 0; i < layout->n_hosts && status == STATUS_OK; i++)
        if (p->questions[i].answer != NULL &&
            !json_is_true(json_object_get(p->questions[i].answer, "missing")))
            status = keep_path(&layout->hosts[i].model, &layout->hosts[i],
                               text_of(&p->questions[i], "path"), error);
    forget_answers(p);
    return status;
}

static enum status push_models(struct preparation *p, struct error *error)
{
    const struct layout *layout = p->layout;
    struct weights_set set = {0};
    enum status status = weights_set_read(&set, layout->model, p->show, error);
    if (status != STATUS_OK)
        return status;
    status = ask_weights(p, &set, false, NULL, error);
    uint32_t n_missing = 0;
    for (uint32_t i = 0; i < layout->n_hosts; i++)
        n_missing += has_workers(layout, &layout->hosts[i]) && layout->hosts[i].model == NULL;
    char verb[64];
    snprintf(verb, sizeof(verb), "sending the model to %u host%s:", n_missing,
             n_missing == 1 ? "" : "s");
    struct write_progress progress = {
        .out = p->show, .verb = verb, .n_all = set.n_bytes * n_missing, .began_us = clock_us()};
    if (status == STATUS_OK && n_missing > 0)
        status = ask_weights(p, &set, true, &progress, error);
    write_progress_clear(&progress);
    weights_set_free(&set);
    return status;
}

/* ---- all ------------------------------------------------------------------------------------- */

enum status hosts_prepare(struct layout *layout, struct launch *launch, FILE *show,
                          struct error *error)
{
    struct preparation p = {.layout = layout, .show = show};
    if (layout->n_hosts == 0)
        return STATUS_OK;
    p.questions = calloc(layout->n_hosts, sizeof(*p.questions));
    enum status status = p.questions != NULL ? agents_open(&p.agents, launch, layout, error)
                                             : error_set(error, STATUS_NO_MEMORY,
                                                         "no memory for %u hosts", layout->n_hosts);
    if (status == STATUS_OK)
        status = check_programs(&p, error);
    if (status == STATUS_OK)
        status = check_network(&p, error);
    if (status == STATUS_OK)
        status = give_key(&p, error);
    if (status == STATUS_OK)
        status = layout->push ? push_models(&p, error) : compare_models(&p, error);
    agents_close(p.agents);
    free(p.questions);
    return status;
}
