/* cluster/plan_options.h - the command line of `longspan plan`. */
#ifndef LONGSPAN_CLUSTER_PLAN_OPTIONS_H
#define LONGSPAN_CLUSTER_PLAN_OPTIONS_H

#include "cluster/place_options.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdint.h>

/* Strings point into argv. */
struct plan_options {
    struct place_options place;
    uint32_t max_batch;
    bool probe, json;
};

/* argv[0] is "plan". STATUS_INVALID: with the option and the remedy. */
enum status plan_options_read(struct plan_options *options, int argc, char **argv,
                              struct error *error);

void plan_options_print_help(enum options_form form);

#endif
