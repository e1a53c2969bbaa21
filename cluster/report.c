/* report.c - the table is as wide as its contents. */
#include "cluster/report.h"

#include "sys/size.h"

#include <inttypes.h>
#include <string.h>

enum { RANGES_BYTES = 120, MOST_RANGES = 4 };

/* "0-49151, 53248-57343 and 3 more": inclusive, as people read it. */
static void format_ranges(char text[RANGES_BYTES], const struct result_holder *holder)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < holder->n_spans && i < MOST_RANGES; i++)
        used += (size_t)snprintf(text + used, RANGES_BYTES - used, "%s%u-%u", i == 0 ? "" : ", ",
                                 holder->spans[i].begin, holder->spans[i].end - 1);
    if (holder->n_spans > MOST_RANGES)
        snprintf(text + used, RANGES_BYTES - used, " and %u more", holder->n_spans - MOST_RANGES);
}

static uint64_t count_tokens(const struct result_holder *holder)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < holder->n_spans; i++)
        n += holder->spans[i].end - holder->spans[i].begin;
    return n;
}

void report_print(FILE *out, const struct result *result)
{
    uint64_t n_prompt = 0, n_generated = 0;
    for (uint32_t i = 0; i < result->n_prompts; i++) {
        n_prompt += result->prompts[i].n_ids;
        n_generated += result->prompts[i].n_tokens;
    }
    fprintf(out, "loaded in %.1f s\n", result->load_s);
    fprintf(out, "read    %8" PRIu64 " tokens in %8.2f s  %10.1f tokens/s", n_prompt,
            result->prefill_s, result_rate(result->prefill_tokens, result->prefill_s));
    if (result->prefill_tokens < n_prompt)
        fprintf(out, "  (%" PRIu64 " shared)", n_prompt - result->prefill_tokens);
    fprintf(out, "\nwrote   %8" PRIu64 " tokens in %8.2f s  %10.1f tokens/s\n", n_generated,
            result->decode_s, result_rate(result->decode_tokens, result->decode_s));
    if (result->n_holders == 0 || strcmp(result->holders[0].name, "local") == 0)
        return;
    fprintf(out, "\n%-12s %10s %12s %12s  %s\n", "KV holder", "KV cache", "sent to it", "came back",
            result->n_prompts == 1 ? "tokens held" : "tokens held, of all prompts");
    for (uint32_t i = 0; i < result->n_holders; i++) {
        const struct result_holder *holder = &result->holders[i];
        char kv[SIZE_TEXT_BYTES], sent[SIZE_TEXT_BYTES], received[SIZE_TEXT_BYTES];
        char ranges[RANGES_BYTES];
        format_ranges(ranges, holder);
        fprintf(out, "%-12s %10s %12s %12s  ", holder->name, size_format(holder->kv_bytes, kv),
                size_format(holder->sent_bytes, sent),
                size_format(holder->received_bytes, received));
        if (result->n_prompts == 1 && holder->n_spans != 0)
            fprintf(out, "%s\n", ranges);
        else
            fprintf(out, "%" PRIu64 "\n", count_tokens(holder));
    }
}
