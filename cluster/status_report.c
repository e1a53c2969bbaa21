/* status_report.c - see status_report.h: one table for each list, those that are empty left out. */
#include "cluster/status_report.h"

#include "cluster/columns.h"
#include "cluster/field.h"
#include "sys/size.h"

#include <inttypes.h>
#include <string.h>

enum { TIME_BYTES = 32, RANGE_BYTES = 64 };

/* ---- fields ---------------------------------------------------------------------------------- */

static const char *text(const json_t *object, const char *name)
{
    return field_text(object, name, "?");
}

/* "3 s", "4:05", "1:02:03", "2 d 01:02". */
static const char *time_text(double seconds, char out[TIME_BYTES])
{
    const uint64_t s = seconds > 0.0 && seconds < 1e12 ? (uint64_t)seconds : 0;
    if (s < 60)
        snprintf(out, TIME_BYTES, "%" PRIu64 " s", s);
    else if (s < 3600)
        snprintf(out, TIME_BYTES, "%" PRIu64 ":%02" PRIu64, s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, TIME_BYTES, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, s / 3600, s / 60 % 60,
                 s % 60);
    else
        snprintf(out, TIME_BYTES, "%" PRIu64 " d %02" PRIu64 ":%02" PRIu64, s / 86400,
                 s / 3600 % 24, s / 60 % 60);
    return out;
}

static const char *size_text_of(uint64_t bytes, char out[SIZE_TEXT_BYTES])
{
    return bytes == 0 ? "-" : size_format(bytes, out);
}

static const char *size_text(const json_t *object, const char *name, char out[SIZE_TEXT_BYTES])
{
    return size_text_of(field_whole(object, name), out);
}

/* "layers 0-15, heads 0-3" */
static const char *part_text(const json_t *object, char out[RANGE_BYTES])
{
    const uint64_t first = field_whole(object, "first_layer"), n = field_whole(object, "n_layers");
    uint64_t begin, end;
    field_range(object, "kv_heads", &begin, &end);
    if (n == 0)
        snprintf(out, RANGE_BYTES, "-");
    else
        snprintf(out, RANGE_BYTES, "layers %" PRIu64 "-%" PRIu64 ", KV heads %" PRIu64 "-%" PRIu64,
                 first, first + n - 1, begin, end > begin ? end - 1 : begin);
    return out;
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void print_head(FILE *out, const json_t *status)
{
    const json_t *model = json_object_get(status, "model");
    const json_t *coordinator = json_object_get(status, "coordinator");
    char up[TIME_BYTES];
    struct columns lines = {.n = 2};
    columns_add(&lines, "model");
    columns_addf(&lines, "%s, %" PRIu64 " layers, %" PRIu64 " KV heads, KV %s, context %" PRIu64,
                 text(model, "name"), field_whole(model, "n_layers"),
                 field_whole(model, "n_kv_heads"), text(model, "kv_type"),
                 field_whole(model, "context"));
    columns_add(&lines, "coordinator");
    columns_addf(&lines, "%s at %s on %s, version %s, up %s", text(coordinator, "phase"),
                 text(coordinator, "listen"), text(coordinator, "host"),
                 text(coordinator, "version"),
                 time_text(field_number(coordinator, "uptime_s"), up));
    columns_add(&lines, "prompts");
    columns_addf(&lines, "%" PRIu64 " running, %" PRIu64 " waiting", field_whole(status, "running"),
                 field_whole(status, "waiting"));
    columns_print(&lines, out);
}

/* What ranks and nodes have in common. */
static void add_process(struct columns *columns, const json_t *process)
{
    columns_add(columns, text(process, "state"));
    columns_add(columns, text(process, "host"));
    columns_addf(columns, "%" PRIu64, field_whole(process, "pid"));
    columns_addf(columns, "%" PRIu64, field_whole(process, "lanes"));
    columns_add(columns, text(process, "device"));
    columns_add(columns, text(process, "kernels"));
}

static void print_processes(FILE *out, const json_t *status)
{
    static const char *const names[] = {"process", "state", "host",    "pid",  "lanes", "device",
                                        "kernels", "holds", "weights", "peak", "steps"};
    struct columns columns = {.n = 11, .right = 1 << 3 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 10};
    char size[SIZE_TEXT_BYTES], range[RANGE_BYTES];
    size_t i;
    const json_t *each;
    columns_heading(&columns, names);
    json_array_foreach(json_object_get(status, "ranks"), i, each)
    {
        columns_addf(&columns, "worker %" PRIu64, field_whole(each, "rank"));
        add_process(&columns, each);
        columns_add(&columns, part_text(each, range));
        columns_add(&columns, size_text(each, "weight_bytes", size));
        columns_add(&columns, size_text(each, "peak_bytes", size));
        columns_addf(&columns, "%" PRIu64, field_whole(each, "steps"));
    }
    json_array_foreach(json_object_get(status, "nodes"), i, each)
    {
        const char *name = text(each, "name");
        columns_add(&columns, name[0] != '\0' ? name : "(attention node)");
        add_process(&columns, each);
        if (field_whole(each, "memory_bytes") == 0)
            columns_add(&columns, "");
        else
            columns_addf(&columns, "KV, %s, reads %.1f GB/s", size_text(each, "memory_bytes", size),
                         field_number(each, "read_bytes_per_s") * 1e-9);
        columns_add(&columns, "-");
        columns_add(&columns, size_text(each, "peak_bytes", size));
        columns_add(&columns, "-");
    }
    fputc('\n', out);
    columns_print(&columns, out);
}

static void print_holders(FILE *out, const json_t *status)
{
    static const char *const names[] = {"KV holder", "pages used", "kept of them", "of", "filled"};
    struct columns columns = {.n = 5, .right = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4};
    const json_t *list = json_object_get(status, "holders"), *each;
    size_t i;
    if (json_array_size(list) == 0)
        return;
    columns_heading(&columns, names);
    json_array_foreach(list, i, each)
    {
        const double used = field_number(each, "pages_used"),
                     total = field_number(each, "pages_total");
        columns_add(&columns, text(each, "name"));
        columns_addf(&columns, "%.0f", used);
        columns_addf(&columns, "%.0f", field_number(each, "pages_kept"));
        columns_addf(&columns, "%.0f", total);
        columns_addf(&columns, "%.1f%%", total > 0.0 ? 100.0 * used / total : 0.0);
    }
    fputc('\n', out);
    columns_print(&columns, out);
}

/* Links that are shown one by one; of more, all of a node's are one row. */
enum { MOST_LINKS = 24 };

/* Of some links, added; and the one with the longest round trips. */
struct traffic {
    uint64_t n_links, slowest_rank, sent, received, kv;
    double trips, seconds, slowest_us;
};

static void add_link(struct traffic *sum, const json_t *link)
{
    const double trips = field_number(link, "round_trips"),
                 seconds = field_number(link, "round_trip_s");
    const double us = trips > 0.0 ? seconds / trips * 1e6 : 0.0;
    sum->n_links++;
    sum->sent += field_whole(link, "sent_bytes");
    sum->received += field_whole(link, "received_bytes");
    sum->kv += field_whole(link, "kv_bytes");
    sum->trips += trips;
    sum->seconds += seconds;
    if (us > sum->slowest_us) {
        sum->slowest_us = us;
        sum->slowest_rank = field_whole(link, "rank");
    }
}

static void add_traffic(struct columns *columns, const struct traffic *sum)
{
    char bytes[SIZE_TEXT_BYTES];
    columns_add(columns, size_text_of(sum->sent, bytes));
    columns_add(columns, size_text_of(sum->received, bytes));
    columns_add(columns, size_text_of(sum->kv, bytes));
    columns_addf(columns, "%.0f", sum->trips);
    columns_addf(columns, "%.0f us", sum->trips > 0.0 ? sum->seconds / sum->trips * 1e6 : 0.0);
}

static void print_each_link(FILE *out, const json_t *links, const json_t *holders)
{
    static const char *const names[] = {"link", "sent", "received", "KV", "round trips", "mean"};
    struct columns columns = {.n = 6, .right = 0x3e};
    const json_t *each;
    size_t i;
    columns_heading(&columns, names);
    json_array_foreach(links, i, each)
    {
        struct traffic sum = {0};
        add_link(&sum, each);
        columns_addf(&columns, "worker %" PRIu64 " - %s", field_whole(each, "rank"),
                     text(json_array_get(holders, field_whole(each, "holder")), "name"));
        add_traffic(&columns, &sum);
    }
    columns_print(&columns, out);
}

static void print_links_of_holders(FILE *out, const json_t *links, const json_t *holders)
{
    static const char *const names[] = {"links",       "sent", "received", "KV",
                                        "round trips", "mean", "slowest"};
    struct columns columns = {.n = 7, .right = 0x3e};
    const json_t *each;
    size_t i;
    columns_heading(&columns, names);
    for (size_t h = 0; h < json_array_size(holders); h++) {
        struct traffic sum = {0};
        json_array_foreach(links, i, each)
        {
            if (field_whole(each, "holder") == h)
                add_link(&sum, each);
        }
        if (sum.n_links == 0)
            continue;
        columns_addf(&columns, "%" PRIu64 " workers - %s", sum.n_links,
                     text(json_array_get(holders, h), "name"));
        add_traffic(&columns, &sum);
        columns_addf(&columns, "worker %" PRIu64 ", %.0f us", sum.slowest_rank, sum.slowest_us);
    }
    columns_print(&columns, out);
}

static void print_links(FILE *out, const json_t *status)
{
    const json_t *links = json_object_get(status, "links");
    const json_t *holders = json_object_get(status, "holders");
    if (json_array_size(links) == 0)
        return;
    fputc('\n', out);
    if (json_array_size(links) <= MOST_LINKS)
        print_each_link(out, links, holders);
    else
        print_links_of_holders(out, links, holders);
}

/* "node0 node1": who has any of its tokens. */
static void add_holders_of(struct columns *columns, const json_t *status, const json_t *prompt)
{
    const json_t *holders = json_object_get(status, "holders");
    const json_t *span, *spans = json_object_get(prompt, "spans");
    char line[256] = "";
    for (size_t h = 0; h < json_array_size(holders); h++) {
        uint64_t tokens = 0;
        size_t i;
        json_array_foreach(spans, i, span)
        {
            const json_int_t begin = json_integer_value(json_array_get(span, 1));
            const json_int_t end = json_integer_value(json_array_get(span, 2));
            if (json_integer_value(json_array_get(span, 0)) == (json_int_t)h && end > begin)
                tokens += (uint64_t)(end - begin);
        }
        const size_t used = strlen(line);
        if (tokens > 0)
            snprintf(line + used, sizeof(line) - used, "%s%s %" PRIu64, used > 0 ? ", " : "",
                     text(json_array_get(holders, h), "name"), tokens);
    }
    columns_add(columns, line[0] != '\0' ? line : "-");
}

static void print_prompts(FILE *out, const json_t *status)
{
    static const char *const names[] = {"request", "state",  "age",       "prompt",
                                        "read",    "cached", "generated", "tokens at"};
    struct columns columns = {.n = 8, .right = 0x7c};
    const json_t *list = json_object_get(status, "prompts"), *each;
    char age[TIME_BYTES];
    size_t i;
    if (json_array_size(list) == 0)
        return;
    columns_heading(&columns, names);
    json_array_foreach(list, i, each)
    {
        const char *id = text(each, "id");
        const double tokens = field_number(each, "prompt_tokens"),
                     done = field_number(each, "prompt_done");
        if (id[0] != '\0' && id[0] != '?')
            columns_addf(&columns, "%s.%" PRIu64, id, field_whole(each, "prompt"));
        else
            columns_addf(&columns, "%" PRIu64 ".%" PRIu64, field_whole(each, "request"),
                         field_whole(each, "prompt"));
        if (field_whole(each, "preemptions") > 0)
            columns_addf(&columns, "%s, put back %" PRIu64 " x", text(each, "state"),
                         field_whole(each, "preemptions"));
        else
            columns_add(&columns, text(each, "state"));
        columns_add(&columns, time_text(field_number(each, "age_s"), age));
        columns_addf(&columns, "%.0f", tokens);
        columns_addf(&columns, "%.0f%%", tokens > 0.0 ? 100.0 * done / tokens : 0.0);
        columns_addf(&columns, "%" PRIu64, field_whole(each, "cached_tokens"));
        columns_addf(&columns, "%" PRIu64, field_whole(each, "generated"));
        add_holders_of(&columns, status, each);
    }
    fputc('\n', out);
    columns_print(&columns, out);
}

/* The mean of a histogram in milliseconds; false: nothing was counted. */
static bool mean_ms(const json_t *status, const char *name, double *ms)
{
    const json_t *histogram = json_object_get(json_object_get(status, "histograms"), name);
    const double count = field_number(histogram, "count");
    *ms = count > 0.0 ? field_number(histogram, "sum") / count * 1e3 : 0.0;
    return count > 0.0;
}

static void print_counts(FILE *out, const json_t *status)
{
    const json_t *counters = json_object_get(status, "counters");
    double first, next;
    if (json_object_size(counters) == 0)
        return;
    fprintf(out,
            "\ntokens     %" PRIu64 " read, %" PRIu64 " found in the cache, %" PRIu64
            " generated, in %" PRIu64 " steps\n",
            field_whole(counters, "prefill_tokens_total"),
            field_whole(counters, "cached_tokens_total"),
            field_whole(counters, "decode_tokens_total"), field_whole(counters, "steps_total"));
    fprintf(out,
            "requests   %" PRIu64 " done, %" PRIu64 " failed, %" PRIu64 " cancelled, %" PRIu64
            " refused; %" PRIu64 " preemptions\n",
            field_whole(counters, "requests_done_total"),
            field_whole(counters, "requests_failed_total"),
            field_whole(counters, "requests_cancelled_total"),
            field_whole(counters, "requests_refused_total"),
            field_whole(counters, "preemptions_total"));
    if (mean_ms(status, "time_to_first_token_seconds", &first))
        fprintf(out, "means      %.1f ms to the first token", first);
    else
        return;
    if (mean_ms(status, "time_between_tokens_seconds", &next))
        fprintf(out, ", %.2f ms between tokens", next);
    fputc('\n', out);
}

void status_report_print(FILE *out, const json_t *status)
{
    print_head(out, status);
    print_processes(out, status);
    print_holders(out, status);
    print_links(out, status);
    print_prompts(out, status);
    print_counts(out, status);
}
