/* commands.c - argument lists, word by word.
 *
 * Workers: one mpirun with an application context per entry of the layout, so that hosts may have
 * different options; a single local worker needs no mpirun (MPI calls it a singleton). Ranks share
 * this host's memory where all are here: TCP and every other transport are then left out, so that
 * no rank listens on the network. mpirun itself does, for ranks elsewhere, and has no option
 * against it. Over the network MPI is neither encrypted nor authenticated (cluster/README.md).
 *
 * Attention nodes elsewhere: ssh runs a small shell script that ends the node when its standard
 * input ends, that is, when the connection or this program does: sshd alone would leave it behind.
 */
#include "cluster/commands.h"

#include "cluster/ssh.h"
#include "kernels/kernels.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NUMBER_BYTES = 32 };

/* ---- programs -------------------------------------------------------------------------------- */

enum status commands_find_program(char path[LAYOUT_TEXT_BYTES], const char *name,
                                  struct error *error)
{
    char own[LAYOUT_TEXT_BYTES], tried[LAYOUT_TEXT_BYTES + 64];
    static const char *const places[] = {"", "../libexec/longspan/"};
    const ssize_t length = readlink("/proc/self/exe", own, sizeof(own) - 1);
    own[length < 0 ? 0 : length] = '\0';
    char *slash = strrchr(own, '/');
    if (slash != NULL)
        slash[1] = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        snprintf(tried, sizeof(tried), "%s%s%s", own, places[i], name);
        char *resolved = access(tried, X_OK) == 0 ? realpath(tried, NULL) : NULL;
        if (resolved != NULL && strlen(resolved) < LAYOUT_TEXT_BYTES) {
            strcpy(path, resolved);
            free(resolved);
            return STATUS_OK;
        }
        free(resolved);
    }
    return error_set(
        error, STATUS_UNREACHABLE,
        "the program '%s' is neither in %.400s nor in ../libexec/longspan of it: build "
        "(make) or install all programs together",
        name, own);
}

/* ---- roles ----------------------------------------------------------------------------------- */

struct maker {
    const struct layout *layout;
    const struct place_options *options;
    char coordinator[LAYOUT_TEXT_BYTES], worker[LAYOUT_TEXT_BYTES], node[LAYOUT_TEXT_BYTES];
};

/* `host` NULL: this machine. */
static void add_trust(struct words *words, const struct maker *maker,
                      const struct layout_host *host)
{
    words_add_text(words, "--cluster-key",
                   host != NULL && host->cluster_key != NULL ? host->cluster_key
                                                             : maker->layout->cluster_key);
    words_add_flag(words, "--insecure-network", maker->layout->insecure_network);
    words_add_flag(words, "-v", maker->options->verbose > 1);
}

/* Each process has a file of its own (trace_files.h). */
static void add_trace(struct words *words, const struct maker *maker, const char *name)
{
    char text[LAYOUT_TEXT_BYTES + LAYOUT_NAME_BYTES];
    snprintf(text, sizeof(text), "%s.%s", maker->layout->trace, name);
    words_add_text(words, "--trace", maker->layout->trace[0] != '\0' ? text : NULL);
}

static void make_coordinator(struct command *command, const struct maker *maker)
{
    struct words *words = &command->line;
    const struct layout *layout = maker->layout;
    const struct place_options *options = maker->options;
    command->role = COMMANDS_COORDINATOR;
    snprintf(command->label, sizeof(command->label), "coordinator");
    words_add(words, maker->coordinator);
    words_add_text(words, "--listen", layout->listen);
    words_add_text(words, "-m", layout->model);
    words_add_number(words, "--workers", layout->n_ranks);
    words_add_number(words, "--attention-nodes", layout->n_nodes);
    words_add_number(words, "--pipeline", layout->pipeline);
    words_add_number(words, "--tensor", layout->tensor);
    words_add_number(words, "--ctx", options->ctx);
    words_add_number(words, "--chunk", options->chunk);
    words_add_number(words, "--step-target-ms", options->step_target_ms);
    words_add_text(words, "--prefix-cache", options->prefix_cache);
    words_add_text(words, "--kv-type", layout->kv_type);
    words_add_bytes(words, "--kv-memory", layout->kv_memory_bytes);
    words_add_number(words, "--stripe", layout->stripe);
    words_add_text(words, "--shares", options->shares);
    words_add_flag(words, "--strict-bits", options->strict_bits);
    words_add_text(words, "--kernels", options->kernels);
    words_add_number(words, "--join-timeout", options->join_timeout_s);
    words_add_number(words, "--timeout", options->timeout_s);
    for (const char *const *word = options->coordinator_words; word != NULL && *word != NULL;
         word++)
        words_add(words, *word);
    add_trace(words, maker, "coordinator");
    add_trust(words, maker, NULL);
}

/* The program as the host's agent told it; without an agent (--dry-run) beside that host's
 * `longspan` as it is beside ours; `here` where nothing says otherwise. */
static void add_program(struct words *words, const struct layout_host *host, const char *told,
                        const char *here)
{
    if (told != NULL || host == NULL || host->bin == NULL) {
        words_add(words, told != NULL ? told : here);
        return;
    }
    char path[2 * LAYOUT_TEXT_BYTES];
    const char *slash = strrchr(here, '/'), *apart = "/libexec/longspan/";
    const bool is_apart = strstr(here, apart) != NULL;
    snprintf(path, sizeof(path), "%s%s%s", host->bin, is_apart ? "/../libexec/longspan" : "",
             slash != NULL ? slash : here);
    words_add(words, path);
}

/* The command line's variant, on the devices that have it; what the file says on others. */
static const char *variant(const struct maker *maker, const char *device, const char *of_file)
{
    const char *asked = maker->options->kernels;
    return asked != NULL && kernels_suit_device(asked, device) ? asked : of_file;
}

static void add_worker(struct words *words, const struct maker *maker,
                       const struct layout_worker *worker)
{
    const struct layout_host *host = worker->host;
    add_program(words, host, host != NULL ? host->worker : NULL, maker->worker);
    words_add_text(words, "--coordinator", maker->layout->address);
    words_add_text(words, "--model", host != NULL ? host->model : NULL);
    words_add_number(words, "--threads", worker->threads);
    words_add_text(words, "--device", worker->device);
    words_add_text(words, "--kernels", variant(maker, worker->device, worker->kernels));
    words_add_text(words, "--pin", maker->options->pin);
    words_add_text(words, "--exchange", maker->options->exchange);
    add_trace(words, maker, "worker");
    add_trust(words, maker, host);
}

/* Whether ranks may read each other's memory directly: a container may forbid it, and Open MPI
 * notices only when the first large message fails. */
static bool can_read_memory_of_others(void)
{
    char from = 1, to = 0;
    const struct iovec local = {&to, 1}, remote = {&from, 1};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

/* What mpirun needs to know once some ranks are elsewhere: how to log in, which networks to use,
 * where Open MPI is there, what else to tell the ranks. */
static void add_network(struct words *words, const struct layout *layout)
{
    struct words ssh = {0};
    ssh_add_options(&ssh, &layout->ssh);
    char *options = ssh.failed ? NULL : words_quoted(ssh.argv);
    words_add_list(words, "--mca", "plm_rsh_args", options != NULL ? options : "", (char *)NULL);
    words->failed |= options == NULL;
    free(options);
    words_free(&ssh);
    if (layout->interface != NULL)
        words_add_list(words, "--mca", "btl_tcp_if_include", layout->interface, "--mca",
                       "oob_tcp_if_include", layout->interface, (char *)NULL);
    else if (layout->shared_networks != NULL && getenv("OMPI_MCA_btl_tcp_if_include") == NULL)
        words_add_list(words, "--mca", "btl_tcp_if_exclude", layout->shared_networks, "--mca",
                       "oob_tcp_if_exclude", layout->shared_networks, (char *)NULL);
    for (uint32_t i = 0; i < layout->n_hosts; i++)
        if (strchr(layout->hosts[i].name, '.') != NULL) { /* else cut there, and not found */
            words_add_list(words, "--mca", "orte_keep_fqdn_hostnames", "1", (char *)NULL);
            break;
        }
    words_add_text(words, "--prefix", layout->mpi);
    for (uint32_t i = 0; i < layout->n_environment; i++)
        words_add_text(words, "-x", layout->environment[i]);
}

/* All ranks are here. What Open MPI keeps of them ends with our directories, also when nobody is left
 * to tidy up. */
static void add_own_machine(struct words *words, const struct layout *layout)
{
    words_add_list(words, "--mca", "pml", "ob1", "--mca", "btl", "self,vader", (char *)NULL);
    if (layout->mpi_files != NULL)
        words_add_list(words, "--mca", "orte_tmpdir_base", layout->mpi_files, (char *)NULL);
    if (layout->mpi_memory != NULL)
        words_add_list(words, "--mca", "btl_vader_backing_directory", layout->mpi_memory,
                       (char *)NULL);
}

static enum status make_workers(struct command *command, const struct maker *maker,
                                struct error *error)
{
    const struct layout *layout = maker->layout;
    struct words *words = &command->line;
    command->role = COMMANDS_WORKERS;
    snprintf(command->label, sizeof(command->label), "worker");
    if (layout->n_ranks == 1 && layout->workers[0].host == NULL) {
        add_worker(words, maker, &layout->workers[0]);
        return STATUS_OK;
    }
    if (!words_on_path("mpirun"))
        return error_set(
            error, STATUS_UNREACHABLE,
            "mpirun is not on PATH: install Open MPI (Debian: openmpi-bin), or run one "
            "worker");
    snprintf(command->label, sizeof(command->label), "mpirun of the workers");
    const bool has_remote = !layout_ranks_are_here(layout);
    words_add_list(words, "mpirun", "--bind-to", "none", "--oversubscribe", (char *)NULL);
    words_add_flag(words, "--allow-run-as-root", geteuid() == 0);
    words_add_list(words, "--mca", "mpi_yield_when_idle", "1", (char *)NULL);
    if (has_remote)
        add_network(words, layout);
    else
        add_own_machine(words, layout);
    if (!can_read_memory_of_others())
        words_add_list(words, "--mca", "btl_vader_single_copy_mechanism", "none", (char *)NULL);
    for (uint32_t i = 0; i < layout->n_workers; i++) {
        const struct layout_worker *worker = &layout->workers[i];
        char host[LAYOUT_TEXT_BYTES];
        snprintf(host, sizeof(host), "%s:%u",
                 worker->host != NULL ? worker->host->name : "localhost", worker->slots);
        words_add_flag(words, ":", i != 0);
        words_add_number(words, "-n", worker->slots);
        words_add_text(words, "--host", has_remote ? host : NULL);
        add_worker(words, maker, worker);
    }
    return STATUS_OK;
}

static void add_node(struct words *words, const struct maker *maker, const struct layout_node *node)
{
    char weight[NUMBER_BYTES], store[LAYOUT_TEXT_BYTES + LAYOUT_NAME_BYTES + 1];
    snprintf(weight, sizeof(weight), "%.9g", (double)node->weight);
    const struct layout_host *host = node->host;
    add_program(words, host, host != NULL ? host->node : NULL, maker->node);
    words_add_text(words, "--coordinator", maker->layout->address);
    words_add_text(words, "--name", node->name);
    words_add_bytes(words, "--memory", node->memory_bytes);
    snprintf(store, sizeof(store), "%s/%s", maker->layout->kv_store, node->name);
    words_add_text(words, "--kv-store", maker->layout->kv_store[0] != '\0' ? store : NULL);
    words_add_bytes(words, "--kv-store-bytes", maker->options->kv_store_bytes);
    words_add_text(words, "--bind", node->bind);
    if (node->bind[0] == '\0' && maker->layout->n_hosts > 0)
        words_add_text(words, "--interface", maker->layout->interface);
    words_add_text(words, "--advertise", node->advertise);
    words_add_number(words, "--threads", node->threads);
    words_add_text(words, "--device", node->device);
    /* A variant that rounds products is the workers': there are none here. */
    words_add_text(words, "--kernels",
                   kernels_without_rounding(variant(maker, node->device, node->kernels)));
    words_add_text(words, "--pin", maker->options->pin);
    words_add_text(words, "--exchange", maker->options->exchange);
    words_add_text(words, "--weight", node->weight != 0 ? weight : NULL);
    add_trace(words, maker, node->name);
    add_trust(words, maker, host);
}

/* The variables of the cluster file that have a value, in front of a program: mpirun does the
 * same. */
static void add_environment(struct words *words, const struct layout *layout)
{
    words_add_flag(words, "env", layout->n_environment > 0);
    for (uint32_t i = 0; i < layout->n_environment; i++) {
        const char *variable = layout->environment[i], *value = getenv(variable);
        char *pair = NULL;
        if (strchr(variable, '=') != NULL)
            words_add(words, variable);
        else if (value != NULL && asprintf(&pair, "%s=%s", variable, value) > 0)
            words_add(words, pair);
        free(pair);
    }
}

/* The node in the background, and a reader of standard input that ends it, by force where it does
 * not listen; then its exit status. NULL: no memory. The caller frees it. */
static char *remote_script(const struct words *node)
{
    char *words = node->failed ? NULL : words_quoted(node->argv), *script = NULL, *line = NULL;
    if (words != NULL &&
        asprintf(&script,
                 "exec 3<&0; %s </dev/null 3<&- & n=$!; "
                 "(cat <&3; kill $n; for i in 1 2 3 4 5; do sleep 1; kill -0 $n || exit; "
                 "done; kill -9 $n) >/dev/null 2>&1 & w=$!; "
                 "wait $n; s=$?; kill $w 2>/dev/null; exit $s",
                 words) < 0)
        script = NULL;
    if (script != NULL) { /* whatever shell the user has over there */
        char begin[] = "exec", shell[] = "sh", option[] = "-c";
        char *const outer[] = {begin, shell, option, script, NULL};
        line = words_quoted(outer);
    }
    free(words);
    free(script);
    return line;
}

static enum status make_node(struct command *command, const struct maker *maker,
                             const struct layout_node *node, struct error *error)
{
    command->role = COMMANDS_NODE;
    if (node->host == NULL) {
        snprintf(command->label, sizeof(command->label), "attention node %s", node->name);
        add_node(&command->line, maker, node);
        return STATUS_OK;
    }
    snprintf(command->label, sizeof(command->label), "attention node %.40s (%.30s)", node->name,
             node->host->name);
    struct words there = {0};
    add_environment(&there, maker->layout);
    add_node(&there, maker, node);
    char *line = remote_script(&there);
    words_free(&there);
    ssh_add_login(&command->line, &maker->layout->ssh, node->host->name, line != NULL ? line : "");
    command->needs_input = true;
    command->line.failed |= line == NULL;
    free(line);
    return ssh_check("starts attention nodes", error);
}

enum status commands_make(struct commands *commands, const struct layout *layout,
                          const struct place_options *options, struct error *error)
{
    struct maker maker = {.layout = layout, .options = options};
    enum status status = commands_find_program(maker.coordinator, "coordinator", error);
    if (status == STATUS_OK)
        status = commands_find_program(maker.worker, "worker", error);
    if (status == STATUS_OK && layout->n_nodes != 0)
        status = commands_find_program(maker.node, "attention_node", error);
    if (status != STATUS_OK)
        return status;

    struct commands made = {.n = 2 + layout->n_nodes};
    made.commands = calloc(made.n, sizeof(*made.commands));
    if (made.commands == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u command lines", made.n);
    make_coordinator(&made.commands[0], &maker);
    status = make_workers(&made.commands[1], &maker, error);
    for (uint32_t i = 0; status == STATUS_OK && i < layout->n_nodes; i++)
        status = make_node(&made.commands[2 + i], &maker, &layout->nodes[i], error);
    for (uint32_t i = 0; status == STATUS_OK && i < made.n; i++)
        if (made.commands[i].line.failed)
            status = error_set(error, STATUS_NO_MEMORY, "no memory for the command line of the %s",
                               made.commands[i].label);
    if (status == STATUS_OK)
        *commands = made;
    else
        commands_free(&made);
    return status;
}

static void add_real(struct words *words, const char *option, float value, float fallback)
{
    char text[NUMBER_BYTES];
    snprintf(text, sizeof(text), "%.9g", (double)value);
    words_add_text(words, option, value < fallback || value > fallback ? text : NULL);
}

/* Prompts that look like options are written with an equals sign. */
static void add_prompts(struct words *words, const struct run_options *options)
{
    for (uint32_t i = 0; i < options->prompts.n; i++) {
        const struct option_item *item = &options->prompts.items[i];
        char *word = NULL;
        words->failed |= asprintf(&word, "--%s=%s", item->name, item->text) < 0;
        if (item->text[0] != '-' || item->text[1] == '\0')
            words_add_list(words, strcmp(item->name, "file") == 0 ? "-f" : "-p", item->text,
                           (char *)NULL);
        else if (!words->failed)
            words_add(words, word);
        free(word);
    }
}

enum status commands_print_client(FILE *out, const struct layout *layout,
                                  const struct run_options *options, struct error *error)
{
    struct words words = {0};
    char count[NUMBER_BYTES], logprobs[NUMBER_BYTES];
    snprintf(count, sizeof(count), "%u", options->n_predict);
    snprintf(logprobs, sizeof(logprobs), "%u", options->n_logprobs);
    words_add_list(&words, "longspan", "run", "--coordinator", layout->address, (char *)NULL);
    words_add_text(&words, "--cluster-key", layout->cluster_key);
    words_add_flag(&words, "--insecure-network", layout->insecure_network);
    add_prompts(&words, options);
    words_add_text(&words, "-n", count);
    words_add_flag(&words, "--ignore-eos", options->ignore_eos);
    words_add_flag(&words, "--no-prefix-sharing", options->no_prefix_sharing);
    words_add_number(&words, "--fill", options->fill_tokens);
    add_real(&words, "--temp", options->temperature, 0);
    if (options->temperature > 0) {
        snprintf(count, sizeof(count), "%u", options->top_k);
        words_add_text(&words, "--top-k", count);
        add_real(&words, "--top-p", options->top_p, -1);
        add_real(&words, "--min-p", options->min_p, -1);
    }
    if (options->temperature > 0 || options->fill_tokens > 0)
        words_add_number(&words, "--seed", options->seed);
    words_add_flag(&words, "--json", options->json);
    words_add_text(&words, "--logprobs", options->logprobs_given ? logprobs : NULL);
    words_add_text(&words, "--dump-logits", options->dump_logits);
    words_add_flag(&words, "-q", options->place.quiet);
    const bool failed = words.failed;
    if (!failed)
        words_print(out, words.argv);
    words_free(&words);
    return failed ? error_set(error, STATUS_NO_MEMORY, "no memory for a command line") : STATUS_OK;
}

void commands_free(struct commands *commands)
{
    for (uint32_t i = 0; i < commands->n; i++)
        words_free(&commands->commands[i].line);
    free(commands->commands);
    *commands = (struct commands){0};
}
