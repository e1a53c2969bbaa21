/* load_result.c - see load_result.h. */
#include "cluster/load_result.h"

#include "cluster/columns.h"
#include "sys/array.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct table_column load_result_columns[] = {
    {.name = "requests_per_s", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "requests", .kind = TABLE_NUMBER},
    {.name = "errors", .kind = TABLE_NUMBER},
    {.name = "seconds", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "done_per_s", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "prompt_tokens_per_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "cached_percent", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "output_tokens_per_s", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "ttft_mean_ms", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "ttft_p50_ms", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "ttft_p90_ms", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "ttft_p99_ms", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "tbt_mean_ms", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "tbt_p50_ms", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "tbt_p90_ms", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "tbt_p99_ms", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "request_p50_s", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = "request_p99_s", .kind = TABLE_NUMBER, .decimals = 2},
    {.name = NULL}};

static bool add(struct load_values *values, double value)
{
    if (!array_grow(&values->items, &values->capacity, values->n + 1, sizeof(*values->items)))
        return false;
    values->items[values->n++] = value;
    values->sum += value;
    return true;
}

void load_result_good(struct load_result *result, const struct load_stream *stream,
                      uint64_t began_us, uint64_t ended_us)
{
    bool complete = add(&result->whole_s, (double)(ended_us - began_us) * 1e-6);
    if (stream->first_us != 0) /* an answer may be empty */
        complete &= add(&result->first_s, (double)(stream->first_us - began_us) * 1e-6);
    for (uint32_t i = 0; i < stream->n_gaps; i++)
        complete &= add(&result->gap_s, stream->gaps_s[i]);
    result->failed |= !complete;
    result->n_good++;
    result->prompt_tokens += stream->prompt_tokens;
    result->cached_tokens += stream->cached_tokens;
    /* Without the server's count: pieces of text, most of which are a token. */
    result->output_tokens += stream->has_usage      ? stream->output_tokens
                             : stream->first_us > 0 ? stream->n_gaps + 1
                                                    : 0;
}

void load_result_bad(struct load_result *result, const char *why)
{
    uint32_t i = 0;
    while (i < result->n_failures && strcmp(result->failures[i].text, why) != 0)
        i++;
    if (i >= LOAD_RESULT_FAILURES - 1) {
        i = LOAD_RESULT_FAILURES - 1;
        why = "others";
    }
    if (i >= result->n_failures) {
        snprintf(result->failures[i].text, sizeof(result->failures[i].text), "%s", why);
        result->n_failures = i + 1;
    }
    result->failures[i].n++;
}

void load_result_free(struct load_result *result)
{
    free(result->first_s.items);
    free(result->gap_s.items);
    free(result->whole_s.items);
    *result = (struct load_result){0};
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double load_values_quantile(struct load_values *values, double q)
{
    if (values->n == 0)
        return NAN;
    qsort(values->items, values->n, sizeof(values->items[0]), compare);
    const double rank = ceil(q * (double)values->n);
    const size_t at = rank < 1.0 ? 0 : (size_t)rank - 1;
    return values->items[at < values->n ? at : values->n - 1];
}

static double mean(const struct load_values *values)
{
    return values->n > 0 ? values->sum / (double)values->n : NAN;
}

void load_result_row(struct load_result *r, struct table *table)
{
    table_number(table, r->rate);
    table_number(table, r->n_requests);
    table_number(table, r->n_requests - r->n_good);
    table_number(table, r->seconds);
    table_number(table, r->n_good / r->seconds);
    table_number(table, (double)r->prompt_tokens / r->seconds);
    table_number(table, r->prompt_tokens > 0
                            ? 100.0 * (double)r->cached_tokens / (double)r->prompt_tokens
                            : NAN);
    table_number(table, (double)r->output_tokens / r->seconds);
    table_number(table, 1e3 * mean(&r->first_s));
    table_number(table, 1e3 * load_values_quantile(&r->first_s, 0.5));
    table_number(table, 1e3 * load_values_quantile(&r->first_s, 0.9));
    table_number(table, 1e3 * load_values_quantile(&r->first_s, 0.99));
    table_number(table, 1e3 * mean(&r->gap_s));
    table_number(table, 1e3 * load_values_quantile(&r->gap_s, 0.5));
    table_number(table, 1e3 * load_values_quantile(&r->gap_s, 0.9));
    table_number(table, 1e3 * load_values_quantile(&r->gap_s, 0.99));
    table_number(table, load_values_quantile(&r->whole_s, 0.5));
    table_number(table, load_values_quantile(&r->whole_s, 0.99));
}

static void print_line(struct columns *columns, const char *name, struct load_values *values,
                       double scale, int decimals)
{
    columns_add(columns, name);
    if (values->n == 0)
        for (int i = 0; i < 4; i++)
            columns_add(columns, "-");
    else
        columns_addf(columns, "%.*f", decimals, scale * mean(values));
    static const double parts[] = {0.5, 0.9, 0.99};
    for (int i = 0; values->n > 0 && i < 3; i++)
        columns_addf(columns, "%.*f", decimals, scale * load_values_quantile(values, parts[i]));
}

void load_result_print(struct load_result *r, FILE *out)
{
    if (r->rate > 0.0)
        fprintf(out, "%g requests/s: ", r->rate);
    else
        fputs("all at once: ", out);
    fprintf(out, "%u requests, %u errors, %.1f s\n", r->n_requests, r->n_requests - r->n_good,
            r->seconds);
    for (uint32_t i = 0; i < r->n_failures; i++)
        fprintf(out, "    %u x %s\n", r->failures[i].n, r->failures[i].text);
    fprintf(out, "  %.2f requests/s, %.1f prompt tokens/s", r->n_good / r->seconds,
            (double)r->prompt_tokens / r->seconds);
    if (r->cached_tokens > 0)
        fprintf(out, " (%.1f%% of them cached)",
                100.0 * (double)r->cached_tokens / (double)r->prompt_tokens);
    fprintf(out, ", %.1f output tokens/s\n", (double)r->output_tokens / r->seconds);
    static const char *const heading[] = {"", "mean", "p50", "p90", "p99"};
    struct columns columns = {.n = 5, .right = 0x1e, .indent = 2, .blank = true};
    for (int i = 0; i < 5; i++)
        columns_add(&columns, heading[i]);
    print_line(&columns, "time to first token, ms", &r->first_s, 1e3, 1);
    print_line(&columns, "time between tokens, ms", &r->gap_s, 1e3, 2);
    print_line(&columns, "request, s", &r->whole_s, 1.0, 2);
    columns_print(&columns, out);
}
