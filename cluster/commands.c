/* commands.c - argument lists, word by word.
 *
 * Workers: one mpirun with an application context per entry of the layout, so that hosts may have
 * different options; a single local worker needs no mpirun (MPI calls it a singleton). Ranks share
 * this host's memory where all are here: TCP and every other transport are then left out, which
 * keeps MPI from listening on the network. Over the network MPI itself is neither encrypted nor
 * authenticated (docs, cluster/README.md).
 *
 * Attention nodes elsewhere: ssh runs a small shell script that ends the node when its standard
 * input ends, that is, when the connection or this program does: sshd alone would leave it behind.
 */
#include "cluster/commands.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NUMBER_BYTES = 32, FIRST_WORDS = 64 };

/* ---- lists of words -------------------------------------------------------------------------- */

static void add(struct command *command, const char *word)
{
    if (command->n + 1 >= command->capacity) {
        const uint32_t capacity = command->capacity == 0 ? FIRST_WORDS : 2 * command->capacity;
        char **words = realloc(command->words, capacity * sizeof(*words));
        command->failed |= words == NULL;
        if (words == NULL)
            return;
        command->words = words;
        command->capacity = capacity;
    }
    char *copy = strdup(word);
    command->failed |= copy == NULL;
    if (copy == NULL)
        return;
    command->words[command->n++] = copy;
    command->words[command->n] = NULL;
}

static void add_words(struct command *command, ...)
{
    va_list words;
    va_start(words, command);
    for (const char *word = va_arg(words, const char *); word != NULL;
         word = va_arg(words, const char *))
        add(command, word);
    va_end(words);
}

/* An option and its value; nothing where the value is absent (NULL, "" or 0). */
static void add_text(struct command *command, const char *option, const char *value)
{
    if (value != NULL && value[0] != '\0')
        add_words(command, option, value, (char *)NULL);
}

static void add_number(struct command *command, const char *option, uint64_t value)
{
    char text[NUMBER_BYTES];
    snprintf(text, sizeof(text), "%" PRIu64, value);
    add_text(command, option, value == 0 ? NULL : text);
}

/* In the largest unit that says it exactly. */
static void add_bytes(struct command *command, const char *option, uint64_t value)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    char text[NUMBER_BYTES];
    uint32_t unit = 0;
    for (; value != 0 && value % 1024 == 0 && unit < 4; unit++)
        value /= 1024;
    snprintf(text, sizeof(text), "%" PRIu64 "%s", value, units[unit]);
    add_text(command, option, value == 0 ? NULL : text);
}

static void add_flag(struct command *command, const char *option, bool value)
{
    if (value)
        add(command, option);
}

static void free_command(struct command *command)
{
    for (uint32_t i = 0; i < command->n; i++)
        free(command->words[i]);
    free(command->words);
    *command = (struct command){0};
}

/* ---- quoting --------------------------------------------------------------------------------- */

static bool is_plain(const char *word)
{
    return word[0] != '\0' &&
           word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                             "-_./:=,+@%")] == '\0';
}

static void print_word(FILE *out, const char *word)
{
    if (is_plain(word)) {
        fputs(word, out);
        return;
    }
    fputc('\'', out);
    for (; *word != '\0'; word++)
        if (*word == '\'')
            fputs("'\\''", out);
        else
            fputc(*word, out);
    fputc('\'', out);
}

void commands_print(FILE *out, char *const *words)
{
    for (uint32_t i = 0; words[i] != NULL; i++) {
        if (i != 0)
            fputc(' ', out);
        print_word(out, words[i]);
    }
    fputc('\n', out);
}

/* The same, without its newline, as a string that the caller frees; NULL: no memory. */
static char *quoted(char *const *words)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (stream == NULL)
        return NULL;
    commands_print(stream, words);
    if (fclose(stream) != 0 || size == 0) {
        free(text);
        return NULL;
    }
    text[size - 1] = '\0';
    return text;
}

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

static bool is_on_path(const char *name)
{
    const char *path = getenv("PATH");
    char *copy = strdup(path != NULL ? path : "/usr/local/bin:/usr/bin:/bin"), *rest = copy;
    bool found = false;
    while (copy != NULL && !found && rest != NULL) {
        char tried[LAYOUT_TEXT_BYTES];
        const char *folder = strsep(&rest, ":");
        const int length = snprintf(tried, sizeof(tried), "%s/%s", folder[0] ? folder : ".", name);
        found = length > 0 && (size_t)length < sizeof(tried) && access(tried, X_OK) == 0;
    }
    free(copy);
    return found;
}

/* ---- roles ----------------------------------------------------------------------------------- */

struct maker {
    const struct layout *layout;
    const struct place_options *options;
    char coordinator[LAYOUT_TEXT_BYTES], worker[LAYOUT_TEXT_BYTES], node[LAYOUT_TEXT_BYTES];
};

static void add_trust(struct command *command, const struct maker *maker)
{
    add_text(command, "--cluster-key", maker->layout->cluster_key);
    add_flag(command, "--insecure-network", maker->layout->insecure_network);
    add_flag(command, "-v", maker->options->verbose > 1);
}

/* Each process has a file of its own (trace_files.h). */
static void add_trace(struct command *command, const struct maker *maker, const char *name)
{
    char text[LAYOUT_TEXT_BYTES + LAYOUT_NAME_BYTES];
    snprintf(text, sizeof(text), "%s.%s", maker->layout->trace, name);
    add_text(command, "--trace", maker->layout->trace[0] != '\0' ? text : NULL);
}

static void make_coordinator(struct command *command, const struct maker *maker)
{
    const struct layout *layout = maker->layout;
    const struct place_options *options = maker->options;
    command->role = COMMANDS_COORDINATOR;
    snprintf(command->label, sizeof(command->label), "coordinator");
    add(command, maker->coordinator);
    add_text(command, "--listen", layout->listen);
    add_text(command, "-m", layout->model);
    add_number(command, "--workers", layout->n_ranks);
    add_number(command, "--attention-nodes", layout->n_nodes);
    add_number(command, "--pipeline", layout->pipeline);
    add_number(command, "--tensor", layout->tensor);
    add_number(command, "--ctx", options->ctx);
    add_number(command, "--chunk", options->chunk);
    add_number(command, "--step-target-ms", options->step_target_ms);
    add_text(command, "--prefix-cache", options->prefix_cache);
    add_text(command, "--kv-type", layout->kv_type);
    add_bytes(command, "--kv-memory", layout->kv_memory_bytes);
    add_number(command, "--stripe", layout->stripe);
    add_text(command, "--weights", options->weights);
    add_flag(command, "--strict-bits", options->strict_bits);
    add_text(command, "--kernels", options->kernels);
    add_number(command, "--join-timeout", options->join_timeout_s);
    add_number(command, "--timeout", options->timeout_s);
    for (const char *const *word = options->coordinator_words; word != NULL && *word != NULL;
         word++)
        add(command, *word);
    add_trace(command, maker, "coordinator");
    add_trust(command, maker);
}

/* The command line's variant is of CPUs; of other devices only what the file says. */
static const char *variant(const struct maker *maker, const char *device, const char *of_file)
{
    const bool is_cpu = device == NULL || strcmp(device, "cpu") == 0;
    return is_cpu && maker->options->kernels != NULL ? maker->options->kernels : of_file;
}

static void add_worker(struct command *command, const struct maker *maker,
                       const struct layout_worker *worker)
{
    add(command, maker->worker);
    add_text(command, "--coordinator", maker->layout->address);
    add_number(command, "--threads", worker->threads);
    add_text(command, "--device", worker->device);
    add_text(command, "--kernels", variant(maker, worker->device, worker->kernels));
    add_text(command, "--pin", maker->options->pin);
    add_text(command, "--exchange", maker->options->exchange);
    add_trace(command, maker, "worker");
    add_trust(command, maker);
}

/* Whether ranks may read each other's memory directly: a container may forbid it, and Open MPI
 * notices only when the first large message fails. */
static bool can_read_memory_of_others(void)
{
    char from = 1, to = 0;
    const struct iovec local = {&to, 1}, remote = {&from, 1};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

static enum status make_workers(struct command *command, const struct maker *maker,
                                struct error *error)
{
    const struct layout *layout = maker->layout;
    command->role = COMMANDS_WORKERS;
    snprintf(command->label, sizeof(command->label),
             layout->n_ranks == 1 ? "worker" : "workers (mpirun)");
    if (layout->n_ranks == 1 && layout->workers[0].host == NULL) {
        add_worker(command, maker, &layout->workers[0]);
        return STATUS_OK;
    }
    if (!is_on_path("mpirun"))
        return error_set(
            error, STATUS_UNREACHABLE,
            "mpirun is not on PATH: install Open MPI (Debian: openmpi-bin), or run one "
            "worker");
    snprintf(command->label, sizeof(command->label), "mpirun of the workers");
    bool has_remote = false;
    for (uint32_t i = 0; i < layout->n_workers; i++)
        has_remote |= layout->workers[i].host != NULL;
    add_words(command, "mpirun", "--bind-to", "none", "--oversubscribe", (char *)NULL);
    add_flag(command, "--allow-run-as-root", geteuid() == 0);
    add_words(command, "--mca", "mpi_yield_when_idle", "1", (char *)NULL);
    if (has_remote)
        add_words(command, "--mca", "plm_rsh_args", "-o BatchMode=yes", (char *)NULL);
    else
        add_words(command, "--mca", "pml", "ob1", "--mca", "btl", "self,vader", (char *)NULL);
    if (!can_read_memory_of_others())
        add_words(command, "--mca", "btl_vader_single_copy_mechanism", "none", (char *)NULL);
    for (uint32_t i = 0; i < layout->n_workers; i++) {
        const struct layout_worker *worker = &layout->workers[i];
        char host[LAYOUT_TEXT_BYTES];
        snprintf(host, sizeof(host), "%s:%u", worker->host != NULL ? worker->host : "localhost",
                 worker->slots);
        add_flag(command, ":", i != 0);
        add_number(command, "-n", worker->slots);
        add_text(command, "--host", has_remote ? host : NULL);
        add_worker(command, maker, worker);
    }
    return STATUS_OK;
}

static void add_node(struct command *command, const struct maker *maker,
                     const struct layout_node *node)
{
    char weight[NUMBER_BYTES], store[LAYOUT_TEXT_BYTES + LAYOUT_NAME_BYTES + 1];
    snprintf(weight, sizeof(weight), "%.9g", (double)node->weight);
    add(command, maker->node);
    add_text(command, "--coordinator", maker->layout->address);
    add_text(command, "--name", node->name);
    add_bytes(command, "--memory", node->memory_bytes);
    snprintf(store, sizeof(store), "%s/%s", maker->layout->kv_store, node->name);
    add_text(command, "--kv-store", maker->layout->kv_store[0] != '\0' ? store : NULL);
    add_bytes(command, "--kv-store-bytes", maker->options->kv_store_bytes);
    add_text(command, "--bind", node->bind);
    add_text(command, "--advertise", node->advertise);
    add_number(command, "--threads", node->threads);
    add_text(command, "--device", node->device);
    add_text(command, "--kernels", variant(maker, node->device, node->kernels));
    add_text(command, "--pin", maker->options->pin);
    add_text(command, "--exchange", maker->options->exchange);
    add_text(command, "--weight", node->weight != 0 ? weight : NULL);
    add_trace(command, maker, node->name);
    add_trust(command, maker);
}

/* The node in the background, and a reader of standard input that ends it; then its exit status. */
static enum status make_remote(struct command *command, const struct layout_node *node,
                               struct error *error)
{
    char *words = quoted(command->words), *script = NULL, *line = NULL;
    if (words != NULL && asprintf(&script,
                                  "exec 3<&0; %s </dev/null 3<&- & n=$!; "
                                  "(cat <&3; kill $n) >/dev/null 2>&1 & w=$!; "
                                  "wait $n; s=$?; kill $w 2>/dev/null; exit $s",
                                  words) < 0)
        script = NULL;
    if (script != NULL) { /* whatever shell the user has over there */
        char begin[] = "exec", shell[] = "sh", option[] = "-c";
        char *const outer[] = {begin, shell, option, script, NULL};
        line = quoted(outer);
    }
    free(words);
    const struct command inner = *command;
    *command = (struct command){.role = inner.role, .needs_input = true, .failed = inner.failed};
    memcpy(command->label, inner.label, sizeof(command->label));
    add_words(command, "ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o",
              "ServerAliveInterval=5", node->host, (char *)NULL);
    add(command, line != NULL ? line : "");
    command->failed |= line == NULL;
    free(line);
    free(script);
    struct command old = inner;
    free_command(&old);
    if (!is_on_path("ssh"))
        return error_set(error, STATUS_UNREACHABLE,
                         "ssh is not on PATH: it starts the attention node on %s", node->host);
    return STATUS_OK;
}

static enum status make_node(struct command *command, const struct maker *maker,
                             const struct layout_node *node, struct error *error)
{
    command->role = COMMANDS_NODE;
    if (node->host != NULL)
        snprintf(command->label, sizeof(command->label), "attention node %.40s (%.30s)", node->name,
                 node->host);
    else
        snprintf(command->label, sizeof(command->label), "attention node %s", node->name);
    add_node(command, maker, node);
    return node->host != NULL ? make_remote(command, node, error) : STATUS_OK;
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
        if (made.commands[i].failed)
            status = error_set(error, STATUS_NO_MEMORY, "no memory for the command line of the %s",
                               made.commands[i].label);
    if (status == STATUS_OK)
        *commands = made;
    else
        commands_free(&made);
    return status;
}

static void add_real(struct command *command, const char *option, float value, float fallback)
{
    char text[NUMBER_BYTES];
    snprintf(text, sizeof(text), "%.9g", (double)value);
    add_text(command, option, value < fallback || value > fallback ? text : NULL);
}

/* Prompts that look like options are written with an equals sign. */
static void add_prompts(struct command *command, const struct run_options *options)
{
    for (uint32_t i = 0; i < options->prompts.n; i++) {
        const struct option_item *item = &options->prompts.items[i];
        char *word = NULL;
        command->failed |= asprintf(&word, "--%s=%s", item->name, item->text) < 0;
        if (item->text[0] != '-' || item->text[1] == '\0')
            add_words(command, strcmp(item->name, "file") == 0 ? "-f" : "-p", item->text,
                      (char *)NULL);
        else if (!command->failed)
            add(command, word);
        free(word);
    }
}

enum status commands_print_client(FILE *out, const struct layout *layout,
                                  const struct run_options *options, struct error *error)
{
    struct command command = {0};
    char count[NUMBER_BYTES], logprobs[NUMBER_BYTES];
    snprintf(count, sizeof(count), "%u", options->n_predict);
    snprintf(logprobs, sizeof(logprobs), "%u", options->n_logprobs);
    add_words(&command, "longspan", "run", "--coordinator", layout->address, (char *)NULL);
    add_text(&command, "--cluster-key", layout->cluster_key);
    add_flag(&command, "--insecure-network", layout->insecure_network);
    add_prompts(&command, options);
    add_text(&command, "-n", count);
    add_flag(&command, "--ignore-eos", options->ignore_eos);
    add_flag(&command, "--no-prefix-sharing", options->no_prefix_sharing);
    add_number(&command, "--fill", options->fill_tokens);
    add_real(&command, "--temp", options->temperature, 0);
    if (options->temperature > 0) {
        snprintf(count, sizeof(count), "%u", options->top_k);
        add_text(&command, "--top-k", count);
        add_real(&command, "--top-p", options->top_p, -1);
        add_real(&command, "--min-p", options->min_p, -1);
    }
    if (options->temperature > 0 || options->fill_tokens > 0)
        add_number(&command, "--seed", options->seed);
    add_flag(&command, "--json", options->json);
    add_text(&command, "--logprobs", options->logprobs_given ? logprobs : NULL);
    add_text(&command, "--dump-logits", options->dump_logits);
    add_flag(&command, "-q", options->place.quiet);
    const bool failed = command.failed;
    if (!failed)
        commands_print(out, command.words);
    free_command(&command);
    return failed ? error_set(error, STATUS_NO_MEMORY, "no memory for a command line") : STATUS_OK;
}

void commands_free(struct commands *commands)
{
    for (uint32_t i = 0; i < commands->n; i++)
        free_command(&commands->commands[i]);
    free(commands->commands);
    *commands = (struct commands){0};
}
