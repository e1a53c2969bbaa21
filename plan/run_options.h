/* plan/run_options.h - how a cluster keeps its KV cache and makes its steps: options that the
 * coordinator reads, and that `longspan run` and `serve` have too and pass on.
 *
 * Entries for tables of sys/options.h, with the coordinator's defaults. */
#ifndef LONGSPAN_PLAN_RUN_OPTIONS_H
#define LONGSPAN_PLAN_RUN_OPTIONS_H

#include "sys/options.h"

enum run_option {
    RUN_OPTION_KV_TYPE,        /* const char *, a choice: kv_type_parse */
    RUN_OPTION_STRIPE,         /* uint32_t: tokens */
    RUN_OPTION_SHARES,         /* const char *: shares_parse */
    RUN_OPTION_PREFIX_CACHE,   /* const char *, a choice: "on", "off" */
    RUN_OPTION_CHUNK,          /* uint32_t: tokens */
    RUN_OPTION_MAX_BATCH,      /* uint32_t: sequences */
    RUN_OPTION_STEP_TARGET_MS, /* uint32_t: milliseconds */
    RUN_OPTION_TIMEOUT,        /* uint32_t: seconds */
    RUN_OPTIONS                /* how many there are */
};

/* `value`: of the type named above. */
struct option run_option(enum run_option which, void *value);

#endif
