/* test_exchange.c - shared memory with a node of this host: used when both may, left when it
 * breaks, the same bits either way. A relay on the socket sees what goes there. */
#include "tests/worker/wire_relay.h"

#include <signal.h>

enum { TOKENS = 600, CHUNK = 60, RETRY_MS = 50, BREAK_AT = 240 };

/* Where wire_ring.c has the positions of what the node writes: how far it has written, and how far
 * the rank has read. */
enum { NODE_PRODUCED = 192, RANK_CONSUMED = 256 };

struct bench {
    struct cluster cluster;
    struct relay *relay;
    struct attention *attention;
    float *reference, *result;
};

static const struct text the_text = {.text = 5};

static float *new_result(void)
{
    float *result = calloc((size_t)N_LAYERS * TOKENS * Q_ROW, sizeof(*result));
    assert_non_null(result);
    return result;
}

static void step(struct bench *bench, struct attention *attention, uint32_t position, float *result)
{
    const struct attention_span span = {0, {0, 1024}};
    const struct attention_segment segment = {.sequence = 1,
                                              .incarnation = 1,
                                              .position = position,
                                              .n_tokens = CHUNK,
                                              .spans = &span,
                                              .n_spans = position == 0};
    cluster_step(&bench->cluster, attention, &segment, &the_text, 1, &result, TOKENS);
    const struct error *error = attention_segment_error(attention, 0);
    if (error != NULL)
        fail_msg("tokens from %u: %s", position, error->text);
}

/* A rank, a relay, one node; and what a local holder makes of the text. */
static void start_bench(struct bench *bench, bool rank_zeromq_only, bool node_zeromq_only)
{
    const struct attention_span span = {0, {0, 1024}};
    struct attention *local;
    struct error error = {0};
    memset(bench, 0, sizeof(*bench));
    bench->reference = new_result();
    bench->result = new_result();
    cluster_start_with(&bench->cluster, 1, node_zeromq_only);
    assert_int_equal(cluster_attention(&bench->cluster, 0, true, NULL, &local, NULL), STATUS_OK);
    for (uint32_t position = 0; position < TOKENS; position += CHUNK)
        step(bench, local, position, bench->reference);
    attention_close(local);

    bench->cluster.retry_ms = RETRY_MS;
    bench->cluster.zeromq_only = rank_zeromq_only;
    bench->relay = relay_start(&bench->cluster, 0, 1);
    cluster_reserve(&bench->cluster, 0, 1, &span, 1, 0);
    const char *endpoint = bench->relay->endpoint;
    if (cluster_attention(&bench->cluster, 1, false, &endpoint, &bench->attention, &error) !=
        STATUS_OK)
        fail_msg("%s", error.text);
}

static bool uses_ring(const struct bench *bench)
{
    struct attention_traffic traffic;
    attention_traffic(bench->attention, 0, &traffic);
    return traffic.ring;
}

static void run_steps(struct bench *bench, uint32_t begin, uint32_t end)
{
    for (uint32_t position = begin; position < end; position += CHUNK)
        step(bench, bench->attention, position, bench->result);
}

/* Ends everything; returns how many queries went through the socket. */
static uint32_t stop_bench(struct bench *bench)
{
    check_same_bits(bench->result, bench->reference, TOKENS, TOKENS, "against a local holder");
    attention_close(bench->attention);
    relay_join(bench->relay);
    const uint32_t n_asked = bench->relay->counts[RELAY_ATTEND];
    relay_free(bench->relay);
    cluster_stop(&bench->cluster);
    free(bench->reference);
    free(bench->result);
    return n_asked;
}

static void test_a_ring_is_used_when_both_may(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct bench bench;
        start_bench(&bench, i & 1, i & 2);
        assert_int_equal(uses_ring(&bench), i == 0);
        run_steps(&bench, 0, TOKENS);
        assert_int_equal(stop_bench(&bench) > 0, i != 0);
    }
}

/* The offer of the rank, as the relay saw it; the memory is still open to this process. */
static void scribble(struct bench *bench, size_t offset)
{
    const struct wire_ring_offer offer = relay_offer(bench->relay);
    char line[512];
    void *base = NULL;
    FILE *maps = fopen("/proc/self/maps", "r");
    char name[64] = "longspan-";
    for (size_t i = 0; i < sizeof(offer.nonce); i++)
        snprintf(name + strlen(name), 3, "%02x", offer.nonce[i]);
    assert_non_null(maps);
    while (base == NULL && fgets(line, sizeof(line), maps) != NULL)
        if (strstr(line, name) != NULL)
            sscanf(line, "%p", &base);
    fclose(maps);
    assert_non_null(base);
    atomic_store((_Atomic uint64_t *)(void *)((uint8_t *)base + offset), 3);
}

static void break_at(size_t offset)
{
    struct bench bench;
    start_bench(&bench, false, false);
    run_steps(&bench, 0, BREAK_AT);
    assert_true(uses_ring(&bench));
    scribble(&bench, offset);
    run_steps(&bench, BREAK_AT, TOKENS);
    assert_false(uses_ring(&bench));
    assert_true(stop_bench(&bench) > 0);
}

static void test_what_the_node_refuses_goes_by_the_socket(void **state)
{
    break_at(RANK_CONSUMED);
}

static void test_what_the_rank_refuses_goes_by_the_socket(void **state)
{
    break_at(NODE_PRODUCED);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_ring_is_used_when_both_may),
        cmocka_unit_test(test_what_the_node_refuses_goes_by_the_socket),
        cmocka_unit_test(test_what_the_rank_refuses_goes_by_the_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
