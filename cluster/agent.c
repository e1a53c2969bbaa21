/* agent.c - one loop over requests. What comes is believed no more than any other input. */
#include "cluster/agent.h"

#include "cluster/commands.h"
#include "cluster/plan_probe.h"
#include "cluster/program_says.h"
#include "cluster/reach.h"
#include "cluster/weights_cache.h"
#include "cluster/weights_set.h"
#include "model/model_file.h"
#include "proto/protocol.h"
#include "sys/held_folder.h"
#include "sys/interfaces.h"
#include "sys/options.h"
#include "sys/topology.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOST_BYTES = 256, MOST_LISTENERS = 4 };

struct agent {
    struct held_folder folder; /* of the key */
    int listeners[MOST_LISTENERS];
    uint32_t n_listeners;
};

/* ---- programs -------------------------------------------------------------------------------- */

/* A program of ours that is there, starts, and is of this version: libraries may be missing. */
static enum status check_program(json_t *answer, const char *key, const char *name,
                                 struct error *error)
{
    char path[LAYOUT_TEXT_BYTES], said[PROGRAM_SAYS_BYTES];
    const enum status status = commands_find_program(path, name, error);
    if (status != STATUS_OK)
        return status;
    const bool good = program_says(said, path, "--version");
    if (!good)
        return error_set(error, STATUS_UNREACHABLE, "%s does not start: %.400s", path, said);
    if (strstr(said, LONGSPAN_VERSION) == NULL)
        return error_set(error, STATUS_UNREACHABLE,
                         "%s is another version than the longspan beside it ('%.100s', not %s): "
                         "install all programs together",
                         path, said, LONGSPAN_VERSION);
    json_object_set_new(answer, key, json_string(path));
    return STATUS_OK;
}

/* Of all networks that this host is in. */
static enum status tell_addresses(json_t *answer, struct error *error)
{
    char(*own)[INTERFACES_ADDRESS_BYTES] = NULL;
    uint32_t n = 0;
    const enum status status = interfaces_own(&own, &n, error);
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(list, json_string(own[i]));
    json_object_set_new(answer, "addresses", list);
    free(own);
    return status;
}

static enum status do_programs(json_t *answer, const json_t *request, struct error *error)
{
    const char *prefix = json_string_value(json_object_get(request, "mpi"));
    const bool workers = json_is_true(json_object_get(request, "workers"));
    char mpi[PROGRAM_SAYS_VERSION_BYTES] = "";
    enum status status = STATUS_OK;
    if (workers) /* before the worker, which does not start without MPI */
        status = program_says_mpi(mpi, prefix, error);
    json_object_set_new(answer, "mpi", json_string(mpi));
    if (status == STATUS_OK && workers)
        status = check_program(answer, "worker", "worker", error);
    if (status == STATUS_OK && json_is_true(json_object_get(request, "nodes")))
        status = check_program(answer, "node", "attention_node", error);
    return status == STATUS_OK ? tell_addresses(answer, error) : status;
}

/* ---- the key --------------------------------------------------------------------------------- */

static bool read_bytes(void *context, void *data, size_t n_bytes)
{
    (void)context;
    return fread(data, 1, n_bytes, stdin) == n_bytes;
}

/* In memory where the system has such a folder: a key has no business on a disk. */
static enum status do_key(struct agent *agent, json_t *answer, const json_t *request,
                          struct error *error)
{
    const json_int_t n_bytes = json_integer_value(json_object_get(request, "bytes"));
    char key[AGENT_MOST_KEY_BYTES], path[FILE_PATH_BYTES + 16];
    if (n_bytes <= 0 || n_bytes > AGENT_MOST_KEY_BYTES || agent->folder.path[0] != '\0')
        return error_set(error, STATUS_PROTOCOL, "key: that is none");
    if (!read_bytes(NULL, key, (size_t)n_bytes))
        return error_set(error, STATUS_PROTOCOL, "key: the connection ended within it");
    const char *parent =
        access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : file_temporary_parent();
    enum status status = held_folder_make(&agent->folder, parent, error);
    snprintf(path, sizeof(path), "%s/cluster.key", agent->folder.path);
    if (status == STATUS_OK)
        status = file_write(path, key, (size_t)n_bytes, 0600, error);
    explicit_bzero(key, sizeof(key));
    if (status == STATUS_OK)
        json_object_set_new(answer, "path", json_string(path));
    return status;
}

/* ---- the model ------------------------------------------------------------------------------- */

static enum status do_model(json_t *answer, const json_t *request, struct error *error)
{
    const char *path = json_string_value(json_object_get(request, "path"));
    struct model_file *model = NULL;
    uint8_t fingerprint[MODEL_FINGERPRINT_BYTES];
    char text[2 * MODEL_FINGERPRINT_BYTES + 1];
    const enum status status = model_open(&model, path != NULL ? path : "", error);
    if (status != STATUS_OK)
        return status;
    model_fingerprint(model, fingerprint);
    model_close(model);
    for (size_t i = 0; i < sizeof(fingerprint); i++)
        snprintf(text + 2 * i, 3, "%02x", fingerprint[i]);
    json_object_set_new(answer, "fingerprint", json_string(text));
    return STATUS_OK;
}

/* "find" and "take". */
static enum status do_weights(json_t *answer, const json_t *request, bool take, struct error *error)
{
    const char *wanted = json_string_value(json_object_get(request, "dir"));
    char folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    struct weights_set set = {0};
    bool found = take;
    enum status status = weights_set_parse(&set, json_object_get(request, "set"), error);
    if (status == STATUS_OK)
        status = weights_cache_folder(folder, wanted != NULL && wanted[0] != '\0' ? wanted : NULL,
                                      "weights", error);
    if (status == STATUS_OK && take)
        status = weights_cache_take(path, folder, &set, read_bytes, NULL, error);
    else if (status == STATUS_OK)
        status = weights_cache_find(&found, path, folder, &set, error);
    weights_set_free(&set);
    if (status == STATUS_OK && found)
        json_object_set_new(answer, "path", json_string(path));
    else if (status == STATUS_OK)
        json_object_set_new(answer, "missing", json_true());
    return status;
}

/* ---- the network ----------------------------------------------------------------------------- */

/* A word of SSH_CONNECTION: "client port server port". */
static bool of_connection(char host[HOST_BYTES], int index)
{
    const char *connection = getenv("SSH_CONNECTION");
    char words[4][64];
    if (connection == NULL ||
        sscanf(connection, "%63s %63s %63s %63s", words[0], words[1], words[2], words[3]) != 4)
        return false;
    snprintf(host, HOST_BYTES, "%s", words[index]);
    return true;
}

static enum status do_listen(struct agent *agent, json_t *answer, const json_t *request,
                             struct error *error)
{
    const char *interface = json_string_value(json_object_get(request, "interface"));
    char host[HOST_BYTES];
    uint16_t port = 0;
    enum status status = STATUS_OK;
    if (agent->n_listeners == MOST_LISTENERS)
        return error_set(error, STATUS_PROTOCOL, "listen: more than %d times", MOST_LISTENERS);
    if (interface != NULL && interface[0] != '\0')
        status = interfaces_address(interface, host, error);
    else if (!of_connection(host, 2))
        topology_host_name(host, sizeof(host));
    if (status == STATUS_OK)
        status = reach_listen(&agent->listeners[agent->n_listeners], NULL, &port, error);
    if (status != STATUS_OK)
        return status;
    agent->n_listeners++;
    json_object_set_new(answer, "host", json_string(host));
    json_object_set_new(answer, "port", json_integer(port));
    return STATUS_OK;
}

static enum status do_reach(const json_t *request, struct error *error)
{
    const char *wanted = json_string_value(json_object_get(request, "host"));
    const json_int_t port = json_integer_value(json_object_get(request, "port"));
    char host[HOST_BYTES];
    if (wanted == NULL || port <= 0 || port > UINT16_MAX || strlen(wanted) >= sizeof(host))
        return error_set(error, STATUS_PROTOCOL, "reach: no host and port");
    snprintf(host, sizeof(host), "%s", wanted);
    if (host[0] == '\0' && !of_connection(host, 0))
        return STATUS_OK; /* not through ssh: there is no way to know */
    return reach_connect(host, (uint16_t)port, error);
}

/* ---- hardware -------------------------------------------------------------------------------- */

static enum status do_measure(json_t *answer, const json_t *request, struct error *error)
{
    json_t *measured = NULL;
    const enum status status =
        plan_probe_devices(&measured, json_object_get(request, "devices"), error);
    if (status == STATUS_OK)
        json_object_set_new(answer, "devices", measured);
    return status;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void say(const char *prefix, json_t *answer)
{
    char *text = json_dumps(answer, JSON_COMPACT);
    if (text != NULL)
        printf("%s%s\n", prefix, text);
    fflush(stdout);
    free(text);
    json_decref(answer);
}

static enum status answer_one(struct agent *agent, json_t *answer, const json_t *request,
                              struct error *error)
{
    const char *what = json_string_value(json_object_get(request, "do"));
    what = what != NULL ? what : "";
    if (strcmp(what, "programs") == 0)
        return do_programs(answer, request, error);
    if (strcmp(what, "key") == 0)
        return do_key(agent, answer, request, error);
    if (strcmp(what, "model") == 0)
        return do_model(answer, request, error);
    if (strcmp(what, "find") == 0 || strcmp(what, "take") == 0)
        return do_weights(answer, request, strcmp(what, "take") == 0, error);
    if (strcmp(what, "listen") == 0)
        return do_listen(agent, answer, request, error);
    if (strcmp(what, "reach") == 0)
        return do_reach(request, error);
    if (strcmp(what, "measure") == 0)
        return do_measure(answer, request, error);
    return error_set(error, STATUS_PROTOCOL, "the agent does not know the request '%.40s'", what);
}

/* False at the end of standard input, or of patience with it. */
static bool read_line(char *line)
{
    if (fgets(line, AGENT_MOST_REQUEST_BYTES, stdin) == NULL)
        return false;
    return strchr(line, '\n') != NULL;
}

static int serve(struct agent *agent, char *line)
{
    char host[HOST_BYTES];
    topology_host_name(host, sizeof(host));
    say(AGENT_GREETING, json_pack("{s:i, s:s, s:s}", "protocol", AGENT_PROTOCOL, "version",
                                  LONGSPAN_VERSION, "host", host));
    while (read_line(line)) {
        struct error error = {0};
        json_t *request = json_loads(line, JSON_REJECT_DUPLICATES, NULL), *answer = json_object();
        const enum status status =
            request != NULL ? answer_one(agent, answer, request, &error)
                            : error_set(&error, STATUS_PROTOCOL, "a request is not JSON");
        json_decref(request);
        if (status != STATUS_OK) {
            json_decref(answer);
            const bool of_input = status == STATUS_INVALID || status == STATUS_NOT_FOUND ||
                                  status == STATUS_UNSUPPORTED;
            const int code = status_exit_code(of_input ? STATUS_INVALID : STATUS_UNREACHABLE);
            say("", json_pack("{s:s, s:i}", "error", error.text, "exit", code));
            return code;
        }
        say("", answer);
    }
    return EXIT_SUCCESS;
}

/* Reading ends with EINTR, and then the agent in order. */
static void stop(int number)
{
    (void)number;
    close(0);
}

int agent_main(int argc, char **argv)
{
    enum options_form help = OPTIONS_NO_HELP;
    struct error error = {0};
    const struct option_usage usage = {
        .command = "longspan agent",
        .words = "",
        .about =
            "What `longspan run --cluster` and `serve` start through ssh on the other machines of "
            "a cluster: it checks what is there, takes the cluster key and weights that are "
            "pushed, and ends with its standard input. Nothing to be typed by hand."};
    const struct option table[] = {
        {.kind = OPTION_SECTION, .help = "Options"}, options_help(&help), {.kind = 0}};
    if (options_parse(table, argc, argv, NULL, &error) != STATUS_OK) {
        fprintf(stderr, "longspan agent: error: %s\n", error.text);
        return status_exit_code(STATUS_INVALID);
    }
    if (help) {
        options_print_help(stdout, help, &usage, table);
        return EXIT_SUCCESS;
    }
    const struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    struct agent agent = {0};
    char *line = malloc(AGENT_MOST_REQUEST_BYTES);
    const int code = line != NULL ? serve(&agent, line) : status_exit_code(STATUS_NO_MEMORY);
    free(line);
    for (uint32_t i = 0; i < agent.n_listeners; i++)
        close(agent.listeners[i]);
    held_folder_remove(&agent.folder);
    return code;
}
