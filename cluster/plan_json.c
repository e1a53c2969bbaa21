/* plan_json.c - one function for each member of the object, in its order. */
#include "cluster/plan_json.h"

#include "cluster/plan_memory.h"
#include "kernels/attention/kv_holder.h"
#include "kernels/kernels.h"
#include "sys/size.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_BYTES = 512, MS = 1000 };

struct maker {
    const struct plan_json_input *in;
    struct plan_memory memory;
    struct estimate_cluster estimate;
    json_t *json;
    bool complete;
    bool kv_known; /* what all holders have */
    uint64_t tokens;
    uint32_t context;
    struct error does_not_fit;
};

/* ---- values ---------------------------------------------------------------------------------- */

static void put(struct maker *m, json_t *object, const char *key, json_t *value)
{
    m->complete = json_object_set_new(object, key, value) == 0 && m->complete;
}

static json_t *whole(uint64_t value)
{
    return json_integer(value <= INT64_MAX ? (json_int_t)value : INT64_MAX);
}

/* 0: not known. */
static json_t *whole_or_null(uint64_t value)
{
    return value > 0 ? whole(value) : json_null();
}

/* NaN and infinities: not known. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *number_or_null(double value)
{
    return value > 0 ? number(value) : json_null();
}

static json_t *text(const char *value)
{
    json_t *made = value != NULL ? json_string(value) : json_null();
    return made != NULL ? made : json_string("?"); /* no UTF-8 */
}

static json_t *range(uint32_t begin, uint32_t end)
{
    return json_pack("[I, I]", (json_int_t)begin, (json_int_t)end);
}

static json_t *list_in(struct maker *m, const char *key)
{
    json_t *list = json_array();
    put(m, m->json, key, list);
    return list;
}

static json_t *item_in(struct maker *m, json_t *list)
{
    json_t *object = json_object();
    m->complete = json_array_append_new(list, object) == 0 && m->complete;
    return object;
}

/* ---- the model ------------------------------------------------------------------------------- */

static void add_types(struct maker *m, json_t *model)
{
    uint64_t bytes[GGUF_TYPE_COUNT] = {0}, parameters = 0, all = 0;
    json_t *types = json_object();
    for (size_t i = 0; i < model_tensor_count(m->in->file); i++) {
        const struct model_tensor *tensor = model_tensor_at(m->in->file, i);
        uint64_t elements = 1;
        for (uint32_t k = 0; k < tensor->n_dims; k++)
            elements *= tensor->dims[k];
        parameters += elements;
        bytes[tensor->type] += tensor->n_bytes;
        all += tensor->n_bytes;
    }
    put(m, model, "parameters", whole(parameters));
    put(m, model, "weight_bytes", whole(all));
    for (int type = 0; type < GGUF_TYPE_COUNT; type++) {
        const struct gguf_type_traits *traits = gguf_type_traits((enum gguf_type)type);
        if (bytes[type] > 0 && traits != NULL)
            put(m, types, traits->name, whole(bytes[type]));
    }
    put(m, model, "types", types);
}

static void add_model(struct maker *m)
{
    const struct hparams *h = m->in->hparams;
    const enum kv_type type = m->in->capacity->options.kv_type;
    json_t *to = json_object();
    put(m, m->json, "model", to);
    put(m, to, "name", text(h->name));
    put(m, to, "architecture", text(architecture_traits(h->architecture)->name));
    put(m, to, "path", text(m->in->layout->model));
    add_types(m, to);
    put(m, to, "n_layers", whole(h->n_layers));
    put(m, to, "n_heads", whole(h->n_heads));
    put(m, to, "n_kv_heads", whole(h->n_kv_heads));
    put(m, to, "head_dim", whole(h->head_dim));
    put(m, to, "hidden", whole(h->hidden));
    put(m, to, "ffn", whole(h->n_experts > 0 ? h->ffn_expert : h->ffn));
    put(m, to, "n_experts", whole(h->n_experts));
    put(m, to, "n_experts_used", whole(h->n_experts_used));
    put(m, to, "vocab", whole(h->vocab));
    put(m, to, "window", whole(h->window));
    put(m, to, "context_trained", whole_or_null(h->context_train));
    put(m, to, "kv_type", text(kv_type_name(type)));
    put(m, to, "kv_token_bytes", whole(planner_kv_bytes(&m->in->capacity->model, type)));
    put(m, m->json, "page_tokens", whole(PAGE_TOKENS));
    put(m, m->json, "page_bytes", whole(m->in->capacity->unit_bytes));
}

/* ---- processes ------------------------------------------------------------------------------- */

static void add_place(struct maker *m, json_t *to, const struct plan_process *process)
{
    const struct plan_device *device = &m->in->facts->devices[process->device];
    put(m, to, "host", text(m->in->facts->hosts[device->host].name));
    put(m, to, "device", text(device->name));
    put(m, to, "lanes",
        kernels_device_is_cpu(device->name) ? whole_or_null(process->lanes) : json_null());
}

/* Milliseconds of its part of a token, behind nothing and behind the context. */
static json_t *times(struct maker *m,
                     double (*of)(const struct estimate_cluster *, uint32_t, uint64_t), uint32_t i)
{
    return json_pack("[o, o]", number(of(&m->estimate, i, 0) * MS),
                     number(of(&m->estimate, i, m->context) * MS));
}

static void add_ranks(struct maker *m)
{
    const struct capacity *c = m->in->capacity;
    json_t *list = list_in(m, "ranks");
    for (uint32_t i = 0; i < c->options.workers; i++) {
        const uint32_t stage = i / c->plan.tensor, shard = i % c->plan.tensor;
        const struct shard_part *part = &c->plan.shards[shard];
        json_t *to = item_in(m, list);
        put(m, to, "rank", whole(i));
        add_place(m, to, &m->in->facts->ranks[i]);
        put(m, to, "stage", whole(stage));
        put(m, to, "shard", whole(shard));
        put(m, to, "first_layer", whole(c->plan.stages[stage].first_layer));
        put(m, to, "n_layers", whole(c->plan.stages[stage].n_layers));
        put(m, to, "kv_heads", range(part->kv_head_begin, part->kv_head_end));
        if (c->model.n_experts > 0)
            put(m, to, "experts", range(part->expert_begin, part->expert_end));
        else
            put(m, to, "ffn_columns", range(part->ffn_begin, part->ffn_end));
        put(m, to, "vocabulary", range(part->vocab_begin, part->vocab_end));
        put(m, to, "memory_bytes", whole_or_null(c->ranks[i].memory_bytes));
        put(m, to, "weight_bytes", whole(c->ranks[i].cost.weight_bytes));
        put(m, to, "working_bytes", whole(plan_memory_working(&m->memory, i)));
        put(m, to, "token_ms", times(m, estimate_rank, i));
        put(m, to, "local_kv_bytes",
            c->options.nodes > 0 || c->options.kv_memory > 0 || c->ranks[i].memory_bytes > 0
                ? whole(plan_memory_local_kv(&m->memory, i))
                : json_null());
    }
}

static void add_nodes(struct maker *m)
{
    const struct plan_facts *facts = m->in->facts;
    json_t *list = list_in(m, "nodes");
    for (uint32_t i = 0; i < facts->n_nodes; i++) {
        json_t *to = item_in(m, list);
        put(m, to, "name", text(m->in->layout->nodes[i].name));
        add_place(m, to, &facts->nodes[i]);
        put(m, to, "memory_bytes", whole_or_null(m->in->capacity->nodes[i].kv_bytes));
        put(m, to, "read_bytes_per_s", number(facts->node_estimates[i].machine.read_bytes_per_s));
        put(m, to, "share", number(facts->shares[i]));
        put(m, to, "token_ms", times(m, estimate_node, i));
    }
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void does_not_fit(struct maker *m, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The first one counts. */
static void does_not_fit(struct maker *m, const char *format, ...)
{
    va_list arguments;
    char line[TEXT_BYTES];
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    if (m->does_not_fit.status == STATUS_OK)
        error_set(&m->does_not_fit, STATUS_EXHAUSTED, "%s", line);
}

static void add_devices(struct maker *m)
{
    const struct plan_facts *facts = m->in->facts;
    json_t *list = list_in(m, "devices");
    for (uint32_t i = 0; i < facts->n_devices; i++) {
        const struct plan_device *device = &facts->devices[i];
        const uint64_t memory = plan_memory_of_device(&m->memory, i);
        const uint64_t needed = plan_memory_needed(&m->memory, i);
        char a[SIZE_TEXT_BYTES], b[SIZE_TEXT_BYTES];
        json_t *to = item_in(m, list);
        put(m, to, "host", text(facts->hosts[device->host].name));
        put(m, to, "device", text(device->name));
        put(m, to, "memory_bytes", whole_or_null(memory));
        put(m, to, "needed_bytes", whole(needed));
        put(m, to, "memory_source", text(device->memory_source));
        put(m, to, "processors", whole_or_null(device->processors));
        put(m, to, "read_bytes_per_s", number_or_null(device->read_bytes_per_s));
        put(m, to, "f32_per_s", number_or_null(device->f32_per_s));
        put(m, to, "int8_per_s", number_or_null(device->int8_per_s));
        put(m, to, "rate_source", text(device->rate_source));
        put(m, to, "link_bytes_per_s", number_or_null(facts->hosts[device->host].link_bytes_per_s));
        put(m, to, "round_trip_s", number_or_null(facts->hosts[device->host].round_trip_s));
        if (memory > 0 && needed > memory)
            does_not_fit(
                m,
                "%s (%s) has %s of memory, its processes need %s: give less to its attention "
                "nodes (memory:) or workers (--kv-memory), or put some elsewhere",
                facts->hosts[device->host].name, device->name, size_format(memory, a),
                size_format(needed, b));
    }
}

static void add_holders(struct maker *m)
{
    const struct capacity *c = m->in->capacity;
    json_t *list = list_in(m, "holders");
    for (uint32_t i = 0; i < capacity_n_holders(c); i++) {
        const uint64_t units = capacity_holder_units(c, i);
        const bool known = m->kv_known || (c->options.nodes > 0 && c->nodes[i].kv_bytes > 0);
        json_t *to = item_in(m, list);
        put(m, to, "name", text(c->options.nodes > 0 ? m->in->layout->nodes[i].name : "local"));
        put(m, to, "pages_total", known ? whole(units) : json_null());
        put(m, to, "tokens", known ? whole(capacity_tokens(c, units)) : json_null());
    }
}

static void add_room(struct maker *m)
{
    const struct capacity *c = m->in->capacity;
    struct error error = {0};
    m->kv_known = plan_memory_known(&m->memory);
    add_holders(m);
    m->context = c->options.ctx > 0 ? c->options.ctx : c->context_train;
    if (m->kv_known) {
        if (capacity_settle(c, &m->context, &error) != STATUS_OK)
            does_not_fit(m, "%s", error.text);
        m->tokens = capacity_all_tokens(c);
    }
    const uint64_t n = m->kv_known && m->context > 0 ? capacity_sequences(c, m->context) : 0;
    put(m, m->json, "tokens", m->kv_known ? whole(m->tokens) : json_null());
    put(m, m->json, "context", whole_or_null(m->context));
    put(m, m->json, "sequence_bytes", whole(capacity_sequence_bytes(c, m->context)));
    put(m, m->json, "sequences", m->kv_known ? whole(n) : json_null());
    put(m, m->json, "max_batch", whole(m->in->max_batch));
    char line[TEXT_BYTES];
    if (m->kv_known)
        plan_memory_runs_out(&m->memory, m->context, n, line, sizeof(line));
    put(m, m->json, "runs_out_first", text(m->kv_known ? line : NULL));
}

/* ---- links ----------------------------------------------------------------------------------- */

/* What a token sends from one process to another. */
struct traffic {
    const char *from, *to, *what;
    uint32_t from_host, to_host; /* indices in the estimate */
    double messages, bytes;
};

static void add_link(struct maker *m, json_t *list, const struct traffic *t)
{
    const uint32_t a = t->from_host, b = t->to_host;
    const struct estimate_host *x = &m->estimate.hosts[a], *y = &m->estimate.hosts[b];
    json_t *item = item_in(m, list);
    put(m, item, "from", text(t->from));
    put(m, item, "to", text(t->to));
    put(m, item, "what", text(t->what));
    put(m, item, "messages", whole((uint64_t)t->messages));
    put(m, item, "bytes", whole((uint64_t)t->bytes));
    put(m, item, "within_host", json_boolean(a == b));
    put(m, item, "bytes_per_s",
        a == b ? json_null() : number(fmin(x->bytes_per_s, y->bytes_per_s)));
    put(m, item, "round_trip_s",
        a == b ? json_null() : number(fmax(x->round_trip_s, y->round_trip_s)));
}

/* So many messages of one row each. */
static void add_between_ranks(struct maker *m, json_t *list, uint32_t from, uint32_t to,
                              const char *what, double messages)
{
    const struct estimate_cluster *e = &m->estimate;
    char from_name[64], to_name[64];
    snprintf(from_name, sizeof(from_name), "worker %u", from);
    snprintf(to_name, sizeof(to_name), "worker %u", to);
    const struct traffic rows = {.from = from_name,
                                 .to = to_name,
                                 .what = what,
                                 .from_host = e->ranks[from].host,
                                 .to_host = e->ranks[to].host,
                                 .messages = messages,
                                 .bytes = messages * estimate_row_bytes(e)};
    add_link(m, list, &rows);
}

/* Of a token behind the context. */
static void add_links(struct maker *m)
{
    const struct capacity *c = m->in->capacity;
    const struct estimate_cluster *e = &m->estimate;
    const uint32_t tensor = c->plan.tensor;
    json_t *list = list_in(m, "links");
    char from[64];
    for (uint32_t i = 0; i < c->options.workers; i++) {
        const uint32_t n_layers = c->plan.stages[i / tensor].n_layers;
        snprintf(from, sizeof(from), "worker %u", i);
        for (uint32_t k = 0; k < c->options.nodes; k++) {
            const struct estimate_exchange x = estimate_exchange(e, i, m->context);
            const struct traffic queries = {
                .from = from,
                .to = m->in->layout->nodes[k].name,
                .what = "queries and partials",
                .from_host = e->ranks[i].host,
                .to_host = e->nodes[k].host,
                .messages = 2.0 * n_layers,
                .bytes = n_layers * (x.query + x.answer + m->in->facts->shares[k] * x.append)};
            add_link(m, list, &queries);
        }
        if (i % tensor + 1 < tensor)
            add_between_ranks(m, list, i, i + 1, "sums", 4.0 * n_layers);
        if (i + tensor < c->options.workers)
            add_between_ranks(m, list, i, i + tensor, "rows", 1);
    }
}

/* ---- time ------------------------------------------------------------------------------------ */

static void add_decode(struct maker *m, json_t *list, uint64_t depth)
{
    const struct estimate_time time =
        estimate_decode(&m->estimate, ESTIMATE_AT_BEST, 1, depth, NULL);
    const struct estimate_time taken =
        estimate_decode(&m->estimate, ESTIMATE_EXPECTED, 1, depth, NULL);
    const double at_best = estimate_sum(&time), expected = estimate_sum(&taken);
    json_t *to = item_in(m, list);
    put(m, to, "depth", whole(depth));
    put(m, to, "weights_ms", number(time.weights_s * MS));
    put(m, to, "kv_ms", number(time.kv_s * MS));
    put(m, to, "links_ms", number(time.links_s * MS));
    put(m, to, "at_best_ms", number(at_best * MS));
    put(m, to, "expected_ms", number(expected * MS));
    put(m, to, "tokens_s", number(1 / expected));
}

static void add_prefill(struct maker *m, json_t *list, uint64_t depth)
{
    json_t *to = item_in(m, list);
    put(m, to, "depth", whole(depth));
    put(m, to, "tokens_s", number(estimate_prefill_rate(&m->estimate, depth)));
}

static void add_times(struct maker *m)
{
    const uint64_t depth = m->context;
    json_t *list = list_in(m, "decode");
    add_decode(m, list, 0);
    add_decode(m, list, depth);
    const uint64_t fits = m->kv_known && depth > 0 ? capacity_sequences(m->in->capacity, depth) : 0;
    const uint32_t n = (uint32_t)(fits < m->in->max_batch ? fits : m->in->max_batch);
    json_t *together = json_object();
    put(m, m->json, "together", together);
    put(m, together, "sequences", whole(n));
    put(m, together, "depth", whole(depth));
    put(m, together, "tokens_s",
        n > 0 ? number(estimate_decode_rate(&m->estimate, n, depth)) : json_null());
    list = list_in(m, "prefill");
    add_prefill(m, list, 0);
    add_prefill(m, list, depth);
    put(m, m->json, "prompt_s",
        depth > 0 ? number(estimate_prefill(&m->estimate, depth)) : json_null());
    const double even =
        m->in->capacity->options.nodes > 0 ? estimate_break_even(&m->estimate) : NAN;
    put(m, m->json, "break_even_tokens",
        isfinite(even) ? whole((uint64_t)ceil(even)) : json_null());
    struct capacity without = *m->in->capacity;
    without.options.nodes = 0;
    bool known = without.options.nodes < m->in->capacity->options.nodes;
    for (uint32_t i = 0; i < without.options.workers; i++)
        known = known && (without.options.kv_memory > 0 || without.ranks[i].memory_bytes > 0);
    put(m, m->json, "tokens_without_nodes",
        known ? whole(capacity_all_tokens(&without)) : json_null());
    put(m, m->json, "offloading",
        text(m->in->capacity->options.nodes == 0 ? "none"
             : isnan(even)                       ? "unknown"
             : isinf(even)                       ? "never faster"
                                                 : "faster from break_even_tokens on"));
}

/* ---- what it was counted with ---------------------------------------------------------------- */

static void add_assumption(struct maker *m, json_t *list, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add_assumption(struct maker *m, json_t *list, const char *format, ...)
{
    va_list arguments;
    char line[TEXT_BYTES];
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    m->complete = json_array_append_new(list, text(line)) == 0 && m->complete;
}

/* Of the kinds of devices that there are. */
static void add_reach(struct maker *m, json_t *list)
{
    bool cpus = false, gpus = false;
    for (uint32_t i = 0; i < m->in->facts->n_devices; i++) {
        const bool cpu = kernels_device_is_cpu(m->in->facts->devices[i].name);
        cpus = cpus || cpu;
        gpus = gpus || !cpu;
    }
    const struct estimate_reach decode = estimate_reached(false, false);
    const struct estimate_reach prompt = estimate_reached(false, true);
    const struct estimate_reach gpu = estimate_reached(true, false);
    if (cpus)
        add_assumption(m, list,
                       "expected of CPUs: %.2f of what memory or arithmetic would allow in "
                       "decode, in prompts %.2f of products' arithmetic and %.2f of attention's; "
                       "measured on one kind of machine (docs/performance.md)",
                       decode.read, prompt.int8, prompt.attend);
    if (gpus)
        add_assumption(m, list,
                       "expected of GPUs: %.2f of read_GB_s and %.0f us for each layer of a step; "
                       "in prompts %.3f of int8_Gop_s, and of f32_GFLOP_s %.2f by products, %.2f "
                       "by attention; measured on one H200, whose data sheet says 1979000 and "
                       "67000 (docs/performance.md)",
                       gpu.read, gpu.layer_s * 1e6, gpu.int8, gpu.floats, gpu.attend);
}

/* What else than the cluster file could tell it. */
static const char *or_probe(const struct maker *m, bool measurable)
{
    return !measurable ? "" : !m->in->probed ? ", or --probe" : "; --probe could not tell";
}

static void add_unknown_devices(struct maker *m, json_t *list)
{
    const struct plan_facts *facts = m->in->facts;
    for (uint32_t i = 0; i < facts->n_devices; i++) {
        const struct plan_device *d = &facts->devices[i];
        const char *host = facts->hosts[d->host].name;
        if (d->memory_bytes == 0)
            add_assumption(m, list, "%s (%s): its memory is not known (memory%s)", host, d->name,
                           or_probe(m, true));
        if (d->read_bytes_per_s <= 0)
            add_assumption(m, list, "%s (%s): how fast it reads memory is not known (read_GB_s%s)",
                           host, d->name, or_probe(m, true));
        else if (d->f32_per_s <= 0 || d->int8_per_s <= 0)
            add_assumption(m, list,
                           "%s (%s): its arithmetic is not known (f32_GFLOP_s and int8_Gop_s%s): "
                           "decode counts its memory alone, prefill is unknown",
                           host, d->name, or_probe(m, kernels_device_is_cpu(d->name)));
    }
}

/* The rate of a link is not measured; a round trip is to hosts that have processes, and to this one
 * as to the nearest of them. */
static void add_unknown_links(struct maker *m, json_t *list)
{
    const struct plan_facts *facts = m->in->facts;
    const bool others = m->in->layout->n_hosts > 0;
    for (uint32_t i = 0; i < facts->n_hosts && facts->n_hosts > 1; i++) {
        const struct plan_host *host = &facts->hosts[i];
        const bool rate = host->link_bytes_per_s <= 0, trip = host->round_trip_s <= 0;
        if (rate || trip)
            add_assumption(m, list, "%s%s: its link to others is not known (%s%s%s%s)", host->name,
                           i == facts->head ? ", the coordinator's host" : "",
                           rate ? "link_Gbit_s" : "", rate && trip ? "; " : "",
                           trip ? "rtt_us" : "",
                           or_probe(m, trip && (host->remote != NULL || (host->here && others))));
    }
}

static void add_assumptions(struct maker *m)
{
    json_t *list = list_in(m, "counted_with");
    add_unknown_devices(m, list);
    add_unknown_links(m, list);
    if (m->in->probed && !m->in->facts->measured)
        add_assumption(m, list, "--probe measured nothing: the cluster file says it already");
    add_reach(m, list);
    add_assumption(m, list,
                   "a process with some of a host's processors has as much of its rates; messages "
                   "within a host cost nothing; nothing overlaps");
}

/* ---- all ------------------------------------------------------------------------------------- */

enum status plan_json(json_t **json, const struct plan_json_input *input, struct error *fits,
                      struct error *error)
{
    const struct plan_facts *facts = input->facts;
    struct maker m = {.in = input,
                      .memory = {.hparams = input->hparams,
                                 .layout = input->layout,
                                 .facts = facts,
                                 .capacity = input->capacity,
                                 .max_batch = input->max_batch},
                      .estimate = {.capacity = input->capacity,
                                   .hparams = input->hparams,
                                   .ranks = facts->rank_estimates,
                                   .nodes = facts->node_estimates,
                                   .shares = facts->shares,
                                   .hosts = facts->host_estimates,
                                   .head = facts->head,
                                   .stripe = input->stripe},
                      .json = json_object(),
                      .complete = true};
    add_model(&m);
    add_room(&m);
    add_ranks(&m);
    add_nodes(&m);
    add_devices(&m);
    add_links(&m);
    add_times(&m);
    add_assumptions(&m);
    put(&m, m.json, "fits",
        m.does_not_fit.status != STATUS_OK ? json_false()
        : m.kv_known                       ? json_true()
                                           : json_null());
    put(&m, m.json, "why_not",
        m.does_not_fit.status != STATUS_OK ? text(m.does_not_fit.text) : json_null());
    *fits = m.does_not_fit;
    if (!m.complete) {
        json_decref(m.json);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a plan");
    }
    *json = m.json;
    return STATUS_OK;
}
