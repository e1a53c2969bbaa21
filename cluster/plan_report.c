/* plan_report.c - one table for each list; what is null is "unknown". */
#include "cluster/plan_report.h"

#include "cluster/columns.h"
#include "cluster/field.h"
#include "kernels/kernels.h"
#include "sys/size.h"

#include <inttypes.h>
#include <string.h>

enum { CELL_BYTES = 96, DIGITS_BYTES = 32, MOST_LINKS = 24 };

static const char unknown[] = "unknown";

/* ---- fields ---------------------------------------------------------------------------------- */

static const char *text(const json_t *object, const char *name)
{
    return field_text(object, name, unknown);
}

static void add_size(struct columns *columns, const json_t *object, const char *name)
{
    char size[SIZE_TEXT_BYTES];
    columns_add(columns, field_is_number(object, name)
                             ? size_format(field_whole(object, name), size)
                             : unknown);
}

static void add_whole(struct columns *columns, const json_t *object, const char *name)
{
    if (field_is_number(object, name))
        columns_addf(columns, "%" PRIu64, field_whole(object, name));
    else
        columns_add(columns, unknown);
}

/* Three digits that matter, and no exponent. */
static const char *digits(double value, char out[DIGITS_BYTES])
{
    snprintf(out, DIGITS_BYTES, value >= 1000 ? "%.0f" : "%.3g", value);
    return out;
}

static void add_number(struct columns *columns, const json_t *object, const char *key, double unit,
                       const char *name)
{
    char shown[DIGITS_BYTES];
    if (field_is_number(object, key))
        columns_addf(columns, "%s%s", digits(field_number(object, key) * unit, shown), name);
    else
        columns_add(columns, unknown);
}

static void add_range(char *line, const json_t *object, const char *key, const char *name)
{
    uint64_t begin, end;
    const size_t used = strlen(line);
    if (field_range(object, key, &begin, &end) && end > begin)
        snprintf(line + used, CELL_BYTES - used, ", %s %" PRIu64 "-%" PRIu64, name, begin, end - 1);
}

/* ---- the model ------------------------------------------------------------------------------- */

static void print_model(FILE *out, const json_t *plan)
{
    const json_t *model = json_object_get(plan, "model"), *bytes;
    char size[SIZE_TEXT_BYTES], line[512] = "";
    const char *type;
    struct columns rows = {.n = 2};
    columns_add(&rows, "model");
    columns_addf(&rows,
                 "%s (%s): %" PRIu64 " layers of %" PRIu64 ", %" PRIu64 " heads, %" PRIu64
                 " KV heads of %" PRIu64 ", %" PRIu64 " tokens",
                 text(model, "name"), text(model, "architecture"), field_whole(model, "n_layers"),
                 field_whole(model, "hidden"), field_whole(model, "n_heads"),
                 field_whole(model, "n_kv_heads"), field_whole(model, "head_dim"),
                 field_whole(model, "vocab"));
    if (field_whole(model, "n_experts") > 0) {
        columns_add(&rows, "experts");
        columns_addf(&rows, "%" PRIu64 " of %" PRIu64 " columns, %" PRIu64 " for a token",
                     field_whole(model, "n_experts"), field_whole(model, "ffn"),
                     field_whole(model, "n_experts_used"));
    }
    json_object_foreach(json_object_get(model, "types"), type, bytes)
    {
        const size_t used = strlen(line);
        snprintf(line + used, sizeof(line) - used, "%s%s %s", used > 0 ? ", " : "", type,
                 size_format((uint64_t)json_integer_value(bytes), size));
    }
    columns_add(&rows, "weights");
    columns_addf(&rows, "%.3g billion parameters in %s: %s",
                 (double)field_whole(model, "parameters") * 1e-9,
                 size_format(field_whole(model, "weight_bytes"), size), line);
    columns_add(&rows, "KV cache");
    columns_addf(&rows,
                 "%s, %s a token, context %" PRIu64 " (the model was made for %" PRIu64 ")%s",
                 text(model, "kv_type"), size_format(field_whole(model, "kv_token_bytes"), size),
                 field_whole(plan, "context"), field_whole(model, "context_trained"),
                 field_whole(model, "window") > 0 ? "; some layers have a sliding window" : "");
    columns_print(&rows, out);
}

/* ---- who holds what -------------------------------------------------------------------------- */

/* A GPU has none of that kind. */
static void add_lanes(struct columns *columns, const json_t *process)
{
    if (kernels_device_is_cpu(text(process, "device")))
        add_whole(columns, process, "lanes");
    else
        columns_add(columns, "");
}

/* Its part of a token, behind nothing and behind the context. */
static void add_times(struct columns *columns, const json_t *process)
{
    const json_t *times = json_object_get(process, "token_ms");
    const json_t *near = json_array_get(times, 0), *far = json_array_get(times, 1);
    char a[DIGITS_BYTES], b[DIGITS_BYTES];
    if (json_is_number(near) && json_is_number(far))
        columns_addf(columns, "%s to %s", digits(json_number_value(near), a),
                     digits(json_number_value(far), b));
    else
        columns_add(columns, unknown);
}

static void print_processes(FILE *out, const json_t *plan)
{
    static const char *const names[] = {"process", "host",         "device",  "lanes",
                                        "holds",   "weights",      "working", "KV cache",
                                        "tokens",  "ms of a token"};
    struct columns rows = {.n = 10, .right = 1 << 3 | 31 << 5};
    const json_t *each, *holders = json_object_get(plan, "holders");
    const bool has_nodes = json_array_size(json_object_get(plan, "nodes")) > 0;
    size_t i;
    columns_heading(&rows, names);
    json_array_foreach(json_object_get(plan, "ranks"), i, each)
    {
        const uint64_t first = field_whole(each, "first_layer"), n = field_whole(each, "n_layers");
        char line[CELL_BYTES];
        snprintf(line, sizeof(line), "layers %" PRIu64 "-%" PRIu64, first, first + n - 1);
        add_range(line, each, "kv_heads", "KV heads");
        add_range(line, each, "experts", "experts");
        add_range(line, each, "ffn_columns", "columns");
        columns_addf(&rows, "worker %" PRIu64, field_whole(each, "rank"));
        columns_add(&rows, text(each, "host"));
        columns_add(&rows, text(each, "device"));
        add_lanes(&rows, each);
        columns_add(&rows, line);
        add_size(&rows, each, "weight_bytes");
        add_size(&rows, each, "working_bytes");
        if (has_nodes)
            columns_add(&rows, "");
        else
            add_size(&rows, each, "local_kv_bytes");
        if (has_nodes)
            columns_add(&rows, "");
        else
            add_whole(&rows, json_array_get(holders, 0), "tokens");
        add_times(&rows, each);
    }
    json_array_foreach(json_object_get(plan, "nodes"), i, each)
    {
        columns_add(&rows, text(each, "name"));
        columns_add(&rows, text(each, "host"));
        columns_add(&rows, text(each, "device"));
        add_lanes(&rows, each);
        columns_addf(&rows, "%.0f%% of the tokens", 100 * field_number(each, "share"));
        columns_add(&rows, "");
        columns_add(&rows, "");
        add_size(&rows, each, "memory_bytes");
        add_whole(&rows, json_array_get(holders, i), "tokens");
        add_times(&rows, each);
    }
    fputc('\n', out);
    columns_print(&rows, out);
}

/* Links are of interest where there are some. */
static bool has_links(const json_t *devices)
{
    const char *first = text(json_array_get(devices, 0), "host");
    const json_t *each;
    size_t i;
    json_array_foreach(devices, i, each)
    {
        if (strcmp(text(each, "host"), first) != 0)
            return true;
    }
    return false;
}

static void print_devices(FILE *out, const json_t *plan)
{
    static const char *const names[] = {"host",  "device", "processors", "memory",
                                        "from",  "needed", "reads",      "f32",
                                        "8 bit", "from",   "link",       "round trip"};
    const json_t *each, *list = json_object_get(plan, "devices");
    const bool links = has_links(list);
    struct columns rows = {.n = links ? 12 : 10, .right = 3 << 2 | 15 << 5 | 3 << 10};
    size_t i;
    columns_heading(&rows, names);
    json_array_foreach(list, i, each)
    {
        columns_add(&rows, text(each, "host"));
        columns_add(&rows, text(each, "device"));
        if (kernels_device_is_cpu(text(each, "device")))
            add_whole(&rows, each, "processors");
        else
            columns_add(&rows, "");
        add_size(&rows, each, "memory_bytes");
        columns_add(&rows,
                    field_is_number(each, "memory_bytes") ? text(each, "memory_source") : "");
        add_size(&rows, each, "needed_bytes");
        add_number(&rows, each, "read_bytes_per_s", 1e-9, " GB/s");
        add_number(&rows, each, "f32_per_s", 1e-9, " Gop/s");
        add_number(&rows, each, "int8_per_s", 1e-9, " Gop/s");
        columns_add(&rows,
                    field_is_number(each, "read_bytes_per_s") ? text(each, "rate_source") : "");
        if (links) {
            add_number(&rows, each, "link_bytes_per_s", 8e-9, " Gbit/s");
            add_number(&rows, each, "round_trip_s", 1e6, " us");
        }
    }
    fputc('\n', out);
    columns_print(&rows, out);
}

static void print_room(FILE *out, const json_t *plan)
{
    char size[SIZE_TEXT_BYTES];
    struct columns rows = {.n = 2};
    columns_add(&rows, "room");
    if (field_is_number(plan, "tokens"))
        columns_addf(&rows,
                     "%" PRIu64 " tokens: %" PRIu64 " sequence%s of %" PRIu64 " tokens (%s each)",
                     field_whole(plan, "tokens"), field_whole(plan, "sequences"),
                     field_whole(plan, "sequences") == 1 ? "" : "s", field_whole(plan, "context"),
                     size_format(field_whole(plan, "sequence_bytes"), size));
    else
        columns_addf(&rows, "unknown: a sequence of %" PRIu64 " tokens needs %s",
                     field_whole(plan, "context"),
                     size_format(field_whole(plan, "sequence_bytes"), size));
    columns_add(&rows, "runs out first");
    columns_add(&rows, text(plan, "runs_out_first"));
    if (json_is_false(json_object_get(plan, "fits"))) {
        columns_add(&rows, "DOES NOT FIT");
        columns_add(&rows, text(plan, "why_not"));
    }
    fputc('\n', out);
    columns_print(&rows, out);
}

/* ---- links ----------------------------------------------------------------------------------- */

static void print_links(FILE *out, const json_t *plan)
{
    static const char *const names[] = {"link, for a token", "carries", "messages", "bytes", "rate",
                                        "round trip"};
    struct columns rows = {.n = 6, .right = 0x3c};
    const json_t *each, *list = json_object_get(plan, "links");
    size_t i;
    if (json_array_size(list) == 0)
        return;
    columns_heading(&rows, names);
    json_array_foreach(list, i, each)
    {
        const bool within = json_is_true(json_object_get(each, "within_host"));
        if (i >= MOST_LINKS)
            break;
        columns_addf(&rows, "%s - %s", text(each, "from"), text(each, "to"));
        columns_add(&rows, text(each, "what"));
        columns_addf(&rows, "%.0f", field_number(each, "messages"));
        add_size(&rows, each, "bytes");
        if (within)
            columns_add(&rows, "one host");
        else
            add_number(&rows, each, "bytes_per_s", 8e-9, " Gbit/s");
        if (within)
            columns_add(&rows, "");
        else
            add_number(&rows, each, "round_trip_s", 1e6, " us");
    }
    fputc('\n', out);
    columns_print(&rows, out);
    if (json_array_size(list) > MOST_LINKS)
        fprintf(out, "and %zu more (--json)\n", json_array_size(list) - MOST_LINKS);
}

/* ---- time ------------------------------------------------------------------------------------ */

/* Whether anything of a token's time is known but its links'. */
static bool knows_times(const json_t *plan)
{
    const json_t *first = json_array_get(json_object_get(plan, "decode"), 0);
    return field_is_number(first, "weights_ms") || field_is_number(first, "kv_ms");
}

static void print_decode(FILE *out, const json_t *plan)
{
    static const char *const names[] = {"a token behind", "weights",  "KV cache", "links",
                                        "at best",        "expected", "tokens/s"};
    struct columns rows = {.n = 7, .right = 0x7e};
    const json_t *each;
    size_t i;
    columns_heading(&rows, names);
    json_array_foreach(json_object_get(plan, "decode"), i, each)
    {
        columns_addf(&rows, "%" PRIu64 " tokens", field_whole(each, "depth"));
        add_number(&rows, each, "weights_ms", 1, " ms");
        add_number(&rows, each, "kv_ms", 1, " ms");
        add_number(&rows, each, "links_ms", 1, " ms");
        add_number(&rows, each, "at_best_ms", 1, " ms");
        add_number(&rows, each, "expected_ms", 1, " ms");
        add_number(&rows, each, "tokens_s", 1, "");
    }
    fputc('\n', out);
    columns_print(&rows, out);
}

/* "0.728 s", "4 min 05 s", "1 h 02 min". */
static void add_duration(struct columns *rows, double seconds)
{
    const uint64_t s = seconds < 1e9 ? (uint64_t)(seconds + 0.5) : 1000000000;
    if (s < 60)
        columns_addf(rows, "%.3g s", seconds);
    else if (s < 3600)
        columns_addf(rows, "%" PRIu64 " min %02" PRIu64 " s", s / 60, s % 60);
    else
        columns_addf(rows, "%" PRIu64 " h %02" PRIu64 " min", s / 3600, s / 60 % 60);
}

static void print_offloading(struct columns *rows, const json_t *plan)
{
    if (json_array_size(json_object_get(plan, "nodes")) == 0)
        return;
    columns_add(rows, "attention nodes");
    if (field_is_number(plan, "break_even_tokens"))
        columns_addf(rows, "make a token faster from %" PRIu64 " tokens before it on",
                     field_whole(plan, "break_even_tokens"));
    else if (strcmp(text(plan, "offloading"), "never faster") == 0)
        columns_add(rows, "make no token faster here: they give room");
    else
        columns_add(rows, "from which depth on they make a token faster is unknown");
    if (field_is_number(plan, "tokens_without_nodes")) {
        columns_add(rows, "without them");
        columns_addf(rows, "the workers would have room for %" PRIu64 " tokens",
                     field_whole(plan, "tokens_without_nodes"));
    }
}

static void print_rates(FILE *out, const json_t *plan)
{
    const json_t *together = json_object_get(plan, "together");
    const json_t *prefill = json_object_get(plan, "prefill");
    const json_t *near = json_array_get(prefill, 0), *far = json_array_get(prefill, 1);
    char a[DIGITS_BYTES], b[DIGITS_BYTES];
    struct columns rows = {.n = 2};
    if (field_is_number(together, "tokens_s")) {
        columns_add(&rows, "all at once");
        const double rate = field_number(together, "tokens_s");
        columns_addf(&rows, "%" PRIu64 " sequences of %" PRIu64 " tokens: %s tokens/s, %s for each",
                     field_whole(together, "sequences"), field_whole(together, "depth"),
                     digits(rate, a), digits(rate / (double)field_whole(together, "sequences"), b));
    }
    columns_add(&rows, "reading a prompt");
    if (field_is_number(near, "tokens_s") && field_is_number(far, "tokens_s"))
        columns_addf(&rows, "%s tokens/s at its beginning, %s behind %" PRIu64 " tokens",
                     digits(field_number(near, "tokens_s"), a),
                     digits(field_number(far, "tokens_s"), b), field_whole(far, "depth"));
    else
        columns_add(&rows, unknown);
    if (field_is_number(plan, "prompt_s")) {
        columns_addf(&rows, "of %" PRIu64 " tokens", field_whole(plan, "context"));
        add_duration(&rows, field_number(plan, "prompt_s"));
    }
    print_offloading(&rows, plan);
    fputc('\n', out);
    columns_print(&rows, out);
}

static void print_assumptions(FILE *out, const json_t *plan)
{
    const json_t *each;
    size_t i;
    fputs("\ncounted with\n", out);
    json_array_foreach(json_object_get(plan, "counted_with"), i, each)
    {
        struct columns line = {.n = 2, .indent = 2};
        columns_add(&line, "-");
        columns_add(&line, json_string_value(each));
        columns_print(&line, out);
    }
}

void plan_report_print(FILE *out, const json_t *plan)
{
    print_model(out, plan);
    print_processes(out, plan);
    print_devices(out, plan);
    print_room(out, plan);
    print_links(out, plan);
    if (knows_times(plan)) {
        print_decode(out, plan);
        print_rates(out, plan);
    } else {
        fputs("\nhow fast  unknown: rates under hosts: of the cluster file, or --probe, would tell "
              "(below)\n",
              out);
    }
    print_assumptions(out, plan);
}
