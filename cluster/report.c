/* report.c - the table is as wide as its contents. */
#include "cluster/report.h"

#include "sys/size.h"

#include <inttypes.h>
#include <string.h>

enum { COLUMNS = 92, MARGIN = 4, MOST_RANGES = 64, WORD_BYTES = 64 };

/* "node0 held tokens 0-4095, 8192-12287...": inclusive, as people read it; wrapped. */
static void print_ranges(FILE *out, const struct result_holder *holder)
{
    size_t column = (size_t)fprintf(out, "%s held tokens", holder->name);
    for (uint32_t i = 0; i < holder->n_spans; i++) {
        char word[WORD_BYTES];
        const bool last = i + 1 == holder->n_spans || i == MOST_RANGES;
        if (i == MOST_RANGES)
            snprintf(word, sizeof(word), "and %u ranges more", holder->n_spans - i);
        else
            snprintf(word, sizeof(word), "%u-%u%s", holder->spans[i].begin,
                     holder->spans[i].end - 1, last ? "" : ",");
        if (column + 1 + strlen(word) > COLUMNS)
            column = (size_t)fprintf(out, "\n%*s", MARGIN - 1, "") - 1;
        column += (size_t)fprintf(out, " %s", word);
        if (last)
            break;
    }
    fputc('\n', out);
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
    fprintf(out, "\n%-16s %10s %10s %12s %12s\n", "KV holder", "tokens", "KV cache", "sent to it",
            "came back");
    for (uint32_t i = 0; i < result->n_holders; i++) {
        const struct result_holder *holder = &result->holders[i];
        char kv[SIZE_TEXT_BYTES], sent[SIZE_TEXT_BYTES], received[SIZE_TEXT_BYTES];
        fprintf(out, "%-16s %10" PRIu64 " %10s %12s %12s\n", holder->name, count_tokens(holder),
                size_format(holder->kv_bytes, kv), size_format(holder->sent_bytes, sent),
                size_format(holder->received_bytes, received));
    }
    for (uint32_t i = 0; result->n_prompts == 1 && i < result->n_holders; i++)
        if (result->holders[i].n_spans != 0)
            print_ranges(out, &result->holders[i]);
}
