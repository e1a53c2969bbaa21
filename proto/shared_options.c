/* shared_options.c - see shared_options.h. */
#include "proto/shared_options.h"

#include "proto/server_options.h"

#include <stddef.h>

static const char *const pins[] = {"auto", "none", NULL};
static const char *const exchanges[] = {"auto", "zeromq", NULL};

#define API_KEY                                                                                    \
    SERVER_OPTIONS_API_KEY, "the key of the HTTP server where there is no --api-key-file: serve "  \
                            "and coordinator admit it, status and bench serve send it"
const char *const shared_options_client_environment[] = {API_KEY, NULL};
const char *const shared_options_environment[] = {
    "TMPDIR",
    "where sockets, and files that do not outlive a program, go; without it /tmp",
    "XDG_CACHE_HOME",
    "where hosts keep weights and hashes; without it ~/.cache",
    "LONGSPAN_KERNELS",
    "the variant of the kernels where options and cluster say auto: scalar, avx2, avx512, bf16; on "
    "64-bit ARM scalar, neon, dotprod",
    API_KEY,
    "LONGSPAN_SPIN_US",
    "how long a waiting lane spins before it yields, in microseconds",
    "LONGSPAN_RECORD",
    "what a worker on a GPU records of decode steps",
    NULL};

struct option shared_options_cluster_key(const char **file)
{
    return (struct option){.name = "cluster-key",
                           .kind = OPTION_TEXT,
                           .value = file,
                           .argument = "FILE",
                           .help = "encrypt, and admit only processes that have this key (longspan "
                                   "keygen); needed at every address that other hosts reach"};
}

struct option shared_options_insecure_network(bool *insecure)
{
    return (struct option){.name = "insecure-network",
                           .kind = OPTION_FLAG,
                           .value = insecure,
                           .help = "use no key, over a network that you trust: whoever reaches the "
                                   "addresses can read and control everything"};
}

struct option shared_options_pin(const char **pin)
{
    return (struct option){.name = "pin",
                           .kind = OPTION_CHOICE,
                           .value = pin,
                           .choices = pins,
                           .argument = "auto|none",
                           .fallback = "auto",
                           .help = "auto: keep each lane on a processor of its own, where this job "
                                   "and the others of the host leave it one; none: let the kernel "
                                   "move lanes"};
}

struct option shared_options_exchange(const char **exchange)
{
    return (struct option){.name = "exchange",
                           .kind = OPTION_CHOICE,
                           .value = exchange,
                           .choices = exchanges,
                           .argument = "auto|zeromq",
                           .fallback = "auto",
                           .help = "how workers and attention nodes talk. auto: through shared "
                                   "memory where both are on one host and can open it; zeromq: "
                                   "through sockets only"};
}

struct option shared_options_version(bool *version)
{
    return (struct option){
        .name = "version", .kind = OPTION_FLAG, .value = version, .help = "print the version"};
}
