/* run_options.c - one table. */
#include "plan/run_options.h"

#include "kernels/quant/kv_type.h"
#include "plan/defaults.h"

static const char *const switches[] = {"on", "off", NULL};

struct option run_option(enum run_option which, void *value)
{
    const struct option options[RUN_OPTIONS] = {
        [RUN_OPTION_KV_TYPE] = {.name = "kv-type",
                                .kind = OPTION_CHOICE,
                                .argument = "f16|bf16|q8_0|f32",
                                .fallback = DEFAULTS_KV_TYPE,
                                .choices = kv_type_choices,
                                .help = "type of the numbers in the KV cache"},
        [RUN_OPTION_STRIPE] = {.name = "stripe",
                               .kind = OPTION_U32,
                               .argument = "TOKENS",
                               .fallback = DEFAULTS_TEXT(DEFAULTS_STRIPE),
                               .least = 256,
                               .most = 1u << 24,
                               .help = "consecutive tokens that lie together on one KV holder: 256 "
                                       "times a power of two"},
        [RUN_OPTION_SHARES] = {.name = "shares",
                               .kind = OPTION_TEXT,
                               .argument = "A,B,...",
                               .otherwise = "by measured read bandwidth",
                               .help =
                                   "how the tokens are shared among the attention nodes, in the "
                                   "order of their names (of joining, for those without a "
                                   "name)"},
        [RUN_OPTION_PREFIX_CACHE] = {.name = "prefix-cache",
                                     .kind = OPTION_CHOICE,
                                     .argument = "on|off",
                                     .fallback = "on",
                                     .choices = switches,
                                     .help = "keep what was computed until its memory is needed, "
                                             "for later prompts that begin alike"},
        [RUN_OPTION_CHUNK] = {.name = "chunk",
                              .kind = OPTION_U32,
                              .argument = "N",
                              .fallback = DEFAULTS_TEXT(DEFAULTS_CHUNK),
                              .least = 1,
                              .most = 32768,
                              .help = "prompt tokens of one step, all sequences together"},
        [RUN_OPTION_MAX_BATCH] = {.name = "max-batch",
                                  .kind = OPTION_U32,
                                  .argument = "N",
                                  .fallback = DEFAULTS_TEXT(DEFAULTS_MAX_BATCH),
                                  .least = 1,
                                  .most = 4096,
                                  .help = "sequences at once; others wait"},
        [RUN_OPTION_STEP_TARGET_MS] = {.name = "step-target-ms",
                                       .kind = OPTION_U32,
                                       .argument = "MS",
                                       .least = 1,
                                       .most = 3600000,
                                       .help =
                                           "milliseconds between two tokens of an answer while "
                                           "other prompts are read: each step takes as many prompt "
                                           "tokens as fit into them, at most --chunk"},
        [RUN_OPTION_TIMEOUT] = {.name = "timeout",
                                .kind = OPTION_U32,
                                .argument = "S",
                                .fallback = "60",
                                .least = 1,
                                .most = 86400,
                                .help = "seconds within which an attention node must have answered "
                                        "a query"},
    };
    struct option option = options[which];
    option.value = value;
    return option;
}
