/* cluster/serve_options.h - the command line of `longspan serve`. */
#ifndef LONGSPAN_CLUSTER_SERVE_OPTIONS_H
#define LONGSPAN_CLUSTER_SERVE_OPTIONS_H

#include "cluster/place_options.h"
#include "sys/status.h"

#include <stdint.h>

enum {
    SERVE_OPTIONS_MOST_PASSED = 16,
    SERVE_OPTIONS_NAME_BYTES = 24,
    SERVE_OPTIONS_ADDRESS_BYTES = 300
};

/* Strings point into argv. What is only passed on to the coordinator is checked there;
 * that nobody else can reach what has no keys, here too, before anything starts. The struct
 * must not move: place.coordinator_words points into it. */
struct serve_options {
    struct place_options place;
    const char *host;
    uint32_t port;
    char address[SERVE_OPTIONS_ADDRESS_BYTES]; /* host and port, as --http takes them */
    char names[SERVE_OPTIONS_MOST_PASSED][SERVE_OPTIONS_NAME_BYTES]; /* of options passed on */
    const char *words[2 * (SERVE_OPTIONS_MOST_PASSED + 1) + 1];      /* ended by NULL */
};

/* argv[0] is "serve". STATUS_INVALID: with the option and the remedy. */
enum status serve_options_read(struct serve_options *options, int argc, char **argv,
                               struct error *error);

void serve_options_print_help(enum options_form form);

#endif
