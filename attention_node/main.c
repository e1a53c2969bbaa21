/* main.c - attention_node: options in, exit code out. */
#include "attention_node/node.h"

#include "proto/address.h"
#include "proto/protocol.h"
#include "proto/shared_options.h"
#include "sys/descriptors.h"
#include "sys/interfaces.h"
#include "sys/options.h"
#include "sys/stack.h"
#include "sys/topology.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct command_line {
    const char *coordinator, *bind, *interface, *advertise, *name, *device, *kernels, *key_file,
        *pin, *trace;
    const char *exchange;
    const char *kv_store;
    uint64_t memory_bytes, kv_store_bytes;
    uint32_t n_threads, silence_s, verbosity;
    float weight;
    bool insecure_network, version;
    enum options_form help;
    char bind_text[ADDRESS_BYTES]; /* what --interface became */
};

static const struct option_usage usage = {
    .command = "attention_node",
    .words = "--coordinator ADDR [OPTION...]",
    .about = "Keeps KV cache pages and computes attention over them, for the workers of a Longspan "
             "cluster. Start as many as there are machines with memory to spare; each joins the "
             "coordinator, serves its job, and waits for the next one when that ends. SIGTERM or "
             "Ctrl-C ends it.",
    .environment = shared_options_environment};

enum { MOST_OPTIONS = 32 };

static void add_addresses(struct option_table *table, struct command_line *line)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Addresses"},
        {.name = "coordinator",
         .kind = OPTION_TEXT,
         .value = &line->coordinator,
         .argument = "ADDR",
         .help = "the coordinator's address: tcp://head:5600, or ipc:///run/longspan/head.sock"},
        {.name = "bind",
         .kind = OPTION_TEXT,
         .value = &line->bind,
         .argument = "ADDR",
         .help = "where to listen for workers. Without it: a free port, on loopback if the "
                 "coordinator's address is loopback, else on all interfaces; with an ipc address, "
                 "beside the coordinator's socket"},
        {.name = "interface",
         .kind = OPTION_TEXT,
         .value = &line->interface,
         .argument = "NET",
         .help = "instead of --bind: the network on which workers reach this node, as an interface "
                 "(eth0) or a subnet (10.0.0.0/24); of several, with commas, the first that this "
                 "host has"},
        {.name = "advertise",
         .kind = OPTION_TEXT,
         .value = &line->advertise,
         .argument = "ADDR",
         .help =
             "the address that workers are told, where --bind's would not reach this node (NAT, "
             "several networks); a port of * becomes the one that was bound"},
        {.name = "name",
         .kind = OPTION_TEXT,
         .value = &line->name,
         .argument = "NAME",
         .otherwise = "the host's name",
         .help = "what reports call this node"},
        {.kind = 0}};
    option_table_add(table, options);
}

static void add_resources(struct option_table *table, struct command_line *line)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Resources"},
        {.name = "memory",
         .kind = OPTION_BYTES,
         .value = &line->memory_bytes,
         .argument = "SIZE",
         .least = 1,
         .otherwise = "80% of what is available now",
         .help = "memory for KV pages, such as 64GiB. On a CPU it is taken as pages fill, on a GPU "
                 "when a job begins"},
        {.name = "kv-store",
         .kind = OPTION_TEXT,
         .value = &line->kv_store,
         .argument = "DIR",
         .help =
             "write kept prefixes to files in DIR when there is nothing else to do, and find them "
             "again after a restart; each node needs a directory of its own"},
        {.name = "kv-store-bytes",
         .kind = OPTION_BYTES,
         .value = &line->kv_store_bytes,
         .argument = "SIZE",
         .fallback = "64GiB",
         .least = 1,
         .help = "the most that these files take: those that were used longest ago go first"},
        {.name = "threads",
         .kind = OPTION_U32,
         .value = &line->n_threads,
         .argument = "N",
         .least = 1,
         .most = 1024,
         .otherwise = "all processors it may use",
         .help = "lanes"},
        shared_options_pin(&line->pin),
        {.name = "weight",
         .kind = OPTION_F32,
         .value = &line->weight,
         .argument = "F",
         .least_f32 = 1e-6f,
         .most_f32 = 1e6f,
         .otherwise = "the read bandwidth in GB/s, measured at start",
         .help = "share of the tokens that are placed here, relative to the other nodes' weights"},
        {.name = "device",
         .kind = OPTION_TEXT,
         .value = &line->device,
         .argument = "cpu|cuda[:N]",
         .fallback = "cpu",
         .help = "what computes and has the pages in its memory: this machine's processors, or an "
                 "NVIDIA GPU (cuda: the first, cuda:N: the N-th, counted from 0)"},
        {.name = "kernels",
         .kind = OPTION_TEXT,
         .value = &line->kernels,
         .argument = "VARIANT",
         .fallback = "auto",
         .help =
             "scalar, avx2 or avx512 (on ARM scalar, neon or dotprod), which differ in speed and "
             "not in bits; bf16 means avx512 here"},
        {.kind = 0}};
    option_table_add(table, options);
}

static void add_security(struct option_table *table, struct command_line *line)
{
    const struct option options[] = {{.kind = OPTION_SECTION, .help = "Security"},
                                     shared_options_cluster_key(&line->key_file),
                                     shared_options_insecure_network(&line->insecure_network),
                                     {.kind = 0}};
    option_table_add(table, options);
}

static void add_other(struct option_table *table, struct command_line *line)
{
    const struct option options[] = {
        {.kind = OPTION_SECTION, .help = "Other"},
        {.name = "silence",
         .kind = OPTION_U32,
         .value = &line->silence_s,
         .argument = "SECONDS",
         .fallback = "10",
         .least = 1,
         .most = 86400,
         .help =
             "seconds without a word from the coordinator after which a job is given up and its "
             "pages are freed"},
        {.name = "trace",
         .kind = OPTION_TEXT,
         .value = &line->trace,
         .argument = "FILE",
         .help = "write where the time goes to FILE at the end, in Chrome's trace format"},
        shared_options_exchange(&line->exchange),
        {.name = "verbose",
         .letter = 'v',
         .kind = OPTION_COUNT,
         .value = &line->verbosity,
         .help = "say more"},
        options_help(&line->help),
        shared_options_version(&line->version),
        {.kind = 0}};
    option_table_add(table, options);
}

static void fill_table(struct option entries[MOST_OPTIONS], struct command_line *line)
{
    struct option_table table = {.entries = entries, .capacity = MOST_OPTIONS};
    add_addresses(&table, line);
    add_resources(&table, line);
    add_security(&table, line);
    add_other(&table, line);
}

/* SIGTERM and SIGINT become a descriptor, before any thread starts: they inherit the mask. */
static int stop_descriptor(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file past `ulimit -f` is an error of that write */
    return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* A free port of this host's address on that network. */
static enum status bind_to_interface(struct command_line *line, struct error *error)
{
    char own[INTERFACES_ADDRESS_BYTES];
    if (line->bind != NULL)
        return error_set(error, STATUS_INVALID, "--bind and --interface: one of them says where");
    const enum status status = interfaces_address(line->interface, own, error);
    if (status != STATUS_OK)
        return error_set(error, status, "--interface: %s", error->text);
    snprintf(line->bind_text, sizeof(line->bind_text),
             strchr(own, ':') != NULL ? "tcp://[%s]:*" : "tcp://%s:*", own);
    line->bind = line->bind_text;
    return STATUS_OK;
}

static enum status check(struct command_line *line, struct error *error)
{
    const enum status found = line->interface != NULL ? bind_to_interface(line, error) : STATUS_OK;
    if (found != STATUS_OK)
        return found;
    const char *addresses[] = {line->coordinator, line->bind, line->advertise};
    if (line->coordinator == NULL)
        return error_set(error, STATUS_INVALID,
                         "--coordinator ADDR is missing: the address that the coordinator says "
                         "when it starts, such as tcp://127.0.0.1:5600");
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        if (addresses[i] == NULL)
            continue;
        const enum status status =
            address_check(addresses[i], line->key_file != NULL, line->insecure_network, error);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

static enum status run(struct command_line *line, struct error *error)
{
    struct cluster_key key;
    struct log log;
    char role[LOG_ROLE_BYTES], name[64];
    const struct kernels *kernels = NULL;
    uint32_t device_index = 0;
    enum status status = check(line, error);
    if (status == STATUS_OK)
        status = kernels_choose_device(&kernels, line->device, line->kernels, error);
    if (status == STATUS_OK)
        status = kernels_device_index(&device_index, kernels, line->device, 0, error);
    if (status == STATUS_OK && line->key_file != NULL)
        status = cluster_key_read(line->key_file, &key, error);
    if (status != STATUS_OK)
        return status;
    topology_host_name(name, sizeof(name));
    snprintf(role, sizeof(role), "attention_node %.30s", line->name != NULL ? line->name : name);
    log_open(&log, role, line->verbosity > 0 ? 1 : 0);
    const struct node_config config = {.coordinator = line->coordinator,
                                       .bind = line->bind,
                                       .advertise = line->advertise,
                                       .name = line->name,
                                       .memory_bytes = line->memory_bytes,
                                       .n_threads = line->n_threads,
                                       .kernels = kernels,
                                       .device_index = device_index,
                                       .bytes_per_s = (double)line->weight * 1e9,
                                       .silence_ms = line->silence_s * 1000,
                                       .key = line->key_file != NULL ? &key : NULL,
                                       .insecure_network = line->insecure_network,
                                       .pin = strcmp(line->pin, "none") != 0,
                                       .trace = line->trace,
                                       .zeromq_only = strcmp(line->exchange, "zeromq") == 0,
                                       .kv_store = line->kv_store,
                                       .kv_store_bytes = line->kv_store_bytes,
                                       .stop = stop_descriptor(),
                                       .log = &log};
    status = node_run(&config, error);
    if (line->key_file != NULL)
        cluster_key_wipe(&key);
    if (config.stop >= 0)
        close(config.stop);
    return status;
}

int main(int argc, char **argv)
{
    struct command_line line = {0};
    struct option table[MOST_OPTIONS];
    struct error error = {0};
    descriptors_raise(); /* some for each rank */
    fill_table(table, &line);
    enum status status = stack_check(&error);
    if (status == STATUS_OK)
        status = options_parse(table, argc, argv, NULL, &error);
    if (status == STATUS_OK && line.help) {
        options_print_help(stdout, line.help, &usage, table);
        return 0;
    }
    if (status == STATUS_OK && line.version) {
        printf("attention_node (Longspan) %s, protocol %d\n", LONGSPAN_VERSION, PROTOCOL_VERSION);
        return 0;
    }
    if (status == STATUS_OK)
        status = run(&line, &error);
    if (status != STATUS_OK)
        fprintf(stderr, "attention_node: error: %s\n", error.text);
    return status_exit_code(status);
}
