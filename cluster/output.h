/* cluster/output.h - the result on standard output: text, or JSON. */
#ifndef LONGSPAN_CLUSTER_OUTPUT_H
#define LONGSPAN_CLUSTER_OUTPUT_H

#include "cluster/prompts.h"
#include "cluster/result.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdio.h>

/* One object, or for several prompts a list of them:
 *   {"prompt_ids": [...], "ids": [...], "text", "finish_reason",
 *    "logprobs": [{"id", "logprob", "top": [{"id", "logprob"}...]}...]       (with `logprobs`)
 *    "timings": {"load_s", "prefill_s", "decode_s", "prefill_tokens_per_s",
 *                "decode_tokens_per_s"},                                     of the whole request
 *    "holders": [{"name", "kv_bytes", "sent_bytes", "received_bytes",        of the whole request
 *                 "spans": [[begin, end]...]}...]}                           of this prompt
 * STATUS_IO: the stream failed. STATUS_NO_MEMORY. */
enum status output_json(FILE *out, const struct result *result, bool logprobs, struct error *error);

/* Several prompts: each text under a line "==> 1: NAME <==". STATUS_IO. */
enum status output_texts(FILE *out, const struct result *result, const struct prompts *prompts,
                         struct error *error);

#endif
