/* test_metrics_text.c - every line is one of the text format, belongs to the family above it, and
 * every family is in docs/operations.md. */
#include "coordinator/http/metrics_text.h"
#include "coordinator/http/routes.h"
#include "coordinator/metrics.h"
#include "tests/cmocka.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANKS = 2, NODES = 2, LAYERS = 3 };

/* A reply with everything in it. */
struct full {
    Longspan__StatusReply reply;
    Longspan__CoordinatorStatus coordinator;
    Longspan__ModelStatus model;
    Longspan__RankStatus rank[RANKS], *ranks[RANKS];
    Longspan__NodeStatus node[NODES], *nodes[NODES];
    Longspan__NodeUsage usage;
    Longspan__HolderStatus holder[NODES], *holders[NODES];
    Longspan__LinkStatus link[RANKS * NODES], *links[RANKS * NODES];
    Longspan__HolderTraffic traffic[RANKS * NODES];
    Longspan__CounterStatus counter[METRICS_N_COUNTERS], *counters[METRICS_N_COUNTERS];
    Longspan__HistogramStatus histogram[METRICS_N_HISTOGRAMS], *histograms[METRICS_N_HISTOGRAMS];
    uint64_t counts[METRICS_MOST_BOUNDS + 1];
    double waits[LAYERS];
};

static void fill(struct full *f)
{
    memset(f, 0, sizeof(*f));
    longspan__status_reply__init(&f->reply);
    longspan__coordinator_status__init(&f->coordinator);
    longspan__model_status__init(&f->model);
    longspan__node_usage__init(&f->usage);
    f->coordinator.phase = "ready";
    f->model.name = "a \"quoted\" name\\\n";
    for (int i = 0; i < RANKS; i++) {
        longspan__rank_status__init(&f->rank[i]);
        f->rank[i].rank = (uint32_t)i;
        f->rank[i].first_layer = (uint32_t)i * LAYERS;
        f->rank[i].layer_wait_s = f->waits;
        f->rank[i].n_layer_wait_s = LAYERS;
        f->ranks[i] = &f->rank[i];
    }
    for (int i = 0; i < NODES; i++) {
        longspan__node_status__init(&f->node[i]);
        longspan__holder_status__init(&f->holder[i]);
        f->node[i].name = i == 0 ? "node0" : ""; /* the second one has not joined */
        f->holder[i].name = i == 0 ? "node0" : "node1";
        f->nodes[i] = &f->node[i];
        f->holders[i] = &f->holder[i];
    }
    f->node[0].usage = &f->usage;
    f->node[0].state = LONGSPAN__PROCESS_STATE__PROCESS_READY;
    f->holder[0].pages_used = 30;
    f->holder[0].pages_total = 100;
    f->holder[0].pages_kept = 20;
    f->node[0].device = "cuda:1";
    f->node[0].host = "mem01";
    f->node[0].kernels = "cuda";
    for (int i = 0; i < RANKS * NODES; i++) {
        longspan__link_status__init(&f->link[i]);
        longspan__holder_traffic__init(&f->traffic[i]);
        f->link[i].rank = (uint32_t)i / NODES;
        f->traffic[i].holder = (uint32_t)i % NODES;
        f->link[i].traffic = &f->traffic[i];
        f->links[i] = &f->link[i];
    }
    for (int i = 0; i < METRICS_N_COUNTERS; i++) {
        longspan__counter_status__init(&f->counter[i]);
        f->counter[i].value = (uint64_t)1 << 60;
        f->counters[i] = &f->counter[i];
    }
    f->counts[0] = 2;
    f->counts[1] = 3;
    for (int i = 0; i < METRICS_N_HISTOGRAMS; i++) {
        size_t n;
        longspan__histogram_status__init(&f->histogram[i]);
        f->histogram[i].bounds = (double *)metrics_histogram_bounds((enum metrics_histogram)i, &n);
        f->histogram[i].n_bounds = n;
        f->histogram[i].counts = f->counts;
        f->histogram[i].n_counts = n + 1;
        f->histogram[i].count = 5;
        f->histograms[i] = &f->histogram[i];
    }
    f->reply.coordinator = &f->coordinator;
    f->reply.model = &f->model;
    f->reply.ranks = f->ranks;
    f->reply.nodes = f->nodes;
    f->reply.holders = f->holders;
    f->reply.links = f->links;
    f->reply.counters = f->counters;
    f->reply.histograms = f->histograms;
    f->reply.n_ranks = RANKS;
    f->reply.n_nodes = f->reply.n_holders = NODES;
    f->reply.n_links = RANKS * NODES;
    f->reply.n_counters = METRICS_N_COUNTERS;
    f->reply.n_histograms = METRICS_N_HISTOGRAMS;
}

static char *text_of(const Longspan__StatusReply *reply)
{
    static struct tally tally;
    const char *allow;
    const struct metrics_http http = {
        .tally = &tally, .running = 3, .waiting = 4, .body_bytes = 70000};
    memset(&tally, 0, sizeof(tally));
    tally_answer(&tally, routes_find("POST", "/v1/completions", &allow), 429);
    tally_answer(&tally, routes_find("GET", "/health", &allow), 0);
    tally_answer(&tally, NULL, 404);
    tally_answer(&tally, NULL, 404);
    tally.streams = 2;
    tally.connections = 5;
    char *text = NULL;
    size_t bytes = 0;
    assert_int_equal(metrics_text(reply, &http, &text, &bytes, NULL), STATUS_OK);
    assert_int_equal(strlen(text), bytes);
    assert_true(bytes > 0 && text[bytes - 1] == '\n');
    return text;
}

static const char *skip_name(const char *at)
{
    assert_true(isalpha((unsigned char)*at) || *at == '_');
    while (isalnum((unsigned char)*at) || *at == '_')
        at++;
    return at;
}

/* {name="value",...} */
static const char *skip_labels(const char *at)
{
    if (*at != '{')
        return at;
    do {
        at = skip_name(at + 1);
        assert_true(at[0] == '=' && at[1] == '"');
        for (at += 2; *at != '"'; at++) {
            assert_true(*at >= ' ' && *at <= '~');
            if (*at == '\\') {
                at++;
                assert_non_null(strchr("\\\"n", *at));
            }
        }
        at++;
    } while (*at == ',');
    assert_true(*at == '}');
    return at + 1;
}

static void check_sample(const char *line, const char *family)
{
    const char *name_end = skip_name(line);
    const size_t n = strlen(family);
    assert_memory_equal(line, family, n);
    const char *rest = line + n;
    assert_true(rest == name_end || strncmp(rest, "_bucket{", 8) == 0 ||
                strncmp(rest, "_sum ", 5) == 0 || strncmp(rest, "_count ", 7) == 0);
    const char *at = skip_labels(name_end);
    assert_true(*at == ' ');
    char *end;
    strtod(at + 1, &end);
    assert_true(end > at + 1 && *end == '\0');
}

/* Calls `each` with the name of every family. */
static void walk(char *text, void (*each)(const char *family, void *context), void *context)
{
    char family[128] = "", *line, *rest = text;
    while ((line = strsep(&rest, "\n")) != NULL) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            snprintf(family, sizeof(family), "%.*s", (int)(skip_name(line + 7) - line - 7),
                     line + 7);
            assert_memory_equal(family, "longspan_", 9);
            assert_true(line[strlen(line) - 1] == '.');
            char expected[160];
            snprintf(expected, sizeof(expected), "# TYPE %s ", family);
            assert_memory_equal(rest, expected, strlen(expected)); /* the next line */
            each(family, context);
        } else if (line[0] != '#' && line[0] != '\0') {
            check_sample(line, family);
        }
    }
}

struct seen {
    char names[128][128];
    size_t n;
};

static void see_once(const char *family, void *context)
{
    struct seen *seen = context;
    for (size_t i = 0; i < seen->n; i++)
        assert_string_not_equal(seen->names[i], family);
    assert_true(seen->n < 128);
    snprintf(seen->names[seen->n++], sizeof(seen->names[0]), "%s", family);
}

static void test_every_line_is_of_the_format_and_every_family_comes_once(void **state)
{
    struct full f;
    struct seen seen = {.n = 0};
    fill(&f);
    char *text = text_of(&f.reply);
    walk(text, see_once, &seen);
    assert_true(seen.n > METRICS_N_COUNTERS + METRICS_N_HISTOGRAMS + 20);
    free(text);
}

static void test_values_labels_and_buckets(void **state)
{
    struct full f;
    fill(&f);
    char *text = text_of(&f.reply);
    assert_non_null(strstr(text, "model=\"a \\\"quoted\\\" name\\\\?\""));
    assert_non_null(strstr(text, "longspan_decode_tokens_total 1152921504606846976\n"));
    assert_non_null(strstr(text, "longspan_step_seconds_bucket{le=\"0.001\"} 2\n"));
    assert_non_null(strstr(text, "longspan_step_seconds_bucket{le=\"0.002\"} 5\n"));
    assert_non_null(strstr(text, "longspan_step_seconds_bucket{le=\"+Inf\"} 5\n"));
    assert_non_null(strstr(text, "longspan_kv_pages_free{holder=\"node0\"} 70\n"));
    assert_non_null(strstr(text, "longspan_kv_pages_kept{holder=\"node0\"} 20\n"));
    assert_non_null(strstr(text, "longspan_process_info{process=\"node0\",host=\"mem01\","
                                 "device=\"cuda:1\",kernels=\"cuda\"} 1\n"));
    assert_non_null(strstr(text, "longspan_process_ready{process=\"node0\"} 1\n"));
    assert_non_null(strstr(text, "longspan_process_ready{process=\"missing1\"} 0\n"));
    assert_non_null(
        strstr(text, "longspan_attention_wait_seconds_total{rank=\"1\",layer=\"5\"} 0\n"));
    assert_non_null(strstr(text, "longspan_link_round_trips_total{rank=\"1\",node=\"node1\"} 0\n"));
    free(text);
}

static void test_the_server_tells_what_it_answered(void **state)
{
    static const char *const lines[] = {
        "longspan_http_requests_total{path=\"/v1/completions\",code=\"429\"} 1\n",
        "longspan_http_requests_total{path=\"/v1/completions\",code=\"200\"} 0\n",
        "longspan_http_requests_total{path=\"/health\",code=\"none\"} 1\n",
        "longspan_http_requests_total{path=\"other\",code=\"404\"} 2\n",
        "longspan_http_requests_running 3\n",
        "longspan_http_requests_waiting 4\n",
        "longspan_http_body_bytes 70000\n",
        "longspan_http_streams 2\n",
        "longspan_http_connections 5\n"};
    Longspan__StatusReply reply = LONGSPAN__STATUS_REPLY__INIT;
    char *text = text_of(&reply);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (strstr(text, lines[i]) == NULL)
            fail_msg("not there: %s", lines[i]);
    assert_null(strstr(text, "path=\"/health\",code=\"200\""));
    free(text);
}

static void test_a_cluster_that_is_not_ready_has_metrics_too(void **state)
{
    Longspan__StatusReply reply = LONGSPAN__STATUS_REPLY__INIT;
    struct seen seen = {.n = 0};
    char *text = text_of(&reply);
    assert_non_null(strstr(text, "longspan_ready 0\n"));
    walk(text, see_once, &seen);
    assert_true(seen.n > 0);
    free(text);
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 20) - 1, file) > 0);
    fclose(file);
    return text;
}

/* "| `longspan_ready` | ..." */
static void see_documented(const char *family, void *context)
{
    char row[160];
    snprintf(row, sizeof(row), "| `%s`", family);
    if (strstr(context, row) == NULL)
        fail_msg("docs/operations.md has no row for %s", family);
}

static void test_the_manual_lists_every_metric_and_no_other(void **state)
{
    struct full f;
    struct seen seen = {.n = 0};
    fill(&f);
    char *manual = read_file("docs/operations.md");
    char *text = text_of(&f.reply);
    walk(text, see_once, &seen);
    free(text);
    for (size_t i = 0; i < seen.n; i++)
        see_documented(seen.names[i], manual);
    for (const char *at = manual; (at = strstr(at, "| `longspan_")) != NULL;) {
        at += 3;
        const size_t n = (size_t)(skip_name(at) - at);
        bool known = false;
        for (size_t i = 0; i < seen.n; i++)
            known |= strlen(seen.names[i]) == n && strncmp(seen.names[i], at, n) == 0;
        if (!known)
            fail_msg("docs/operations.md lists %.*s, which nobody tells", (int)n, at);
    }
    free(manual);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_line_is_of_the_format_and_every_family_comes_once),
        cmocka_unit_test(test_values_labels_and_buckets),
        cmocka_unit_test(test_the_server_tells_what_it_answered),
        cmocka_unit_test(test_a_cluster_that_is_not_ready_has_metrics_too),
        cmocka_unit_test(test_the_manual_lists_every_metric_and_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
