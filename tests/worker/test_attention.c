/* test_attention.c - whoever holds the tokens, and however a prompt is cut: the same bits, and
 * right. */
#include "tests/kernels/fake_device.h"
#include "tests/thread_sanitizer.h"
#include "tests/worker/attention_harness.h"

enum { LONGEST = 1100 };

static float *new_result(void)
{
    float *result = calloc((size_t)N_LAYERS * LONGEST * Q_ROW, sizeof(*result));
    assert_non_null(result);
    return result;
}

/* Stripes of `stripe` tokens, dealt in turn over the holders. */
static uint32_t deal(struct attention_span *spans, uint32_t n_tokens, uint32_t stripe,
                     uint32_t n_holders)
{
    uint32_t n = 0;
    for (uint32_t begin = 0; begin < n_tokens; begin += stripe, n++)
        spans[n] = (struct attention_span){n % n_holders, {begin, begin + stripe}};
    return n;
}

static void expect_fine(const struct attention *attention, uint32_t n_segments)
{
    for (uint32_t i = 0; i < n_segments; i++) {
        const struct error *error = attention_segment_error(attention, i);
        if (error != NULL)
            fail_msg("segment %u: %s", i, error->text);
    }
}

/* Runs a whole sequence in chunks. */
static void run_sequence(struct cluster *cluster, struct attention *attention, uint64_t sequence,
                         const struct text *text, uint32_t n_tokens, uint32_t chunk,
                         uint32_t stripe, uint32_t n_remote, uint32_t n_holders, float *result)
{
    struct attention_span spans[64];
    const uint32_t n_spans = deal(spans, n_tokens, stripe, n_holders);
    for (uint32_t i = 0; i < n_remote; i++)
        cluster_reserve(cluster, i, sequence, spans, n_spans, 0);
    for (uint32_t position = 0; position < n_tokens;) {
        const uint32_t left = n_tokens - position, n = chunk < left ? chunk : left;
        const struct attention_segment segment = {.sequence = sequence,
                                                  .incarnation = 1,
                                                  .position = position,
                                                  .n_tokens = n,
                                                  .spans = spans,
                                                  .n_spans = position == 0 ? n_spans : 0};
        cluster_step(cluster, attention, &segment, text, 1, &result, LONGEST);
        expect_fine(attention, 1);
        position += n;
    }
}

struct layout {
    const char *name;
    uint32_t n_nodes;
    bool local;
};

static const struct layout layouts[] = {{"local", 0, true},
                                        {"1 node", 1, false},
                                        {"2 nodes", 2, false},
                                        {"3 nodes", 3, false},
                                        {"2 nodes and local", 2, true}};

static void same_bits_on(enum kv_type type, uint32_t window, size_t each,
                         struct harness_devices devices)
{
    static const struct {
        uint32_t n_tokens, chunk, stripe;
    } cases[] = {
        {LONGEST, 512, 256}, /* ends inside a tile */
        {512, 7, 256},       /* on a page's edge, chunks that cross tiles anywhere */
        {300, 1, 256},       /* token by token */
        {1024, 64, 512},     /* on a stripe's edge */
        {897, 512, 256},     /* one token behind a tile's edge */
        {896, 200, 256},     /* on a tile's edge */
    };
    enum { N_CASES = THREAD_SANITIZER ? 3 : sizeof(cases) / sizeof(cases[0]) };
    struct cluster cluster;
    struct attention *attention;
    struct error error = {0};
    float *reference = new_result(), *result = new_result();
    const struct text text = {.text = 1};
    thread_sanitizer_leaves_out("prompts that end at edges of stripes and tiles");
    cluster_start_on(&cluster, MAX_NODES, type, false, devices, window);
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i += each) {
        const struct layout *layout = &layouts[i];
        const uint32_t n_holders = layout->n_nodes + layout->local;
        if (cluster_attention(&cluster, layout->n_nodes, layout->local, NULL, &attention, &error) !=
            STATUS_OK)
            fail_msg("%s", error.text);
        for (size_t c = 0; c < N_CASES; c++) {
            const bool first = i == 0 && c == 0;
            const uint64_t sequence = 100 * i + c;
            run_sequence(&cluster, attention, sequence, &text, cases[c].n_tokens, cases[c].chunk,
                         cases[c].stripe, layout->n_nodes, n_holders, first ? reference : result);
            if (first)
                check_reference(&cluster, &text, cases[c].n_tokens, reference, LONGEST);
            else /* all are prefixes of one text */
                check_same_bits(reference, result, cases[c].n_tokens, LONGEST, layout->name);
            attention_drop(attention, sequence, 1, 0);
            cluster_free(&cluster, sequence);
        }
        attention_close(attention);
    }
    cluster_stop(&cluster);
    free(reference);
    free(result);
}

static void same_bits(enum kv_type type, uint32_t window, size_t each)
{
    same_bits_on(type, window, each, (struct harness_devices){0});
}

static void test_same_bits_for_all_layouts_f16(void **state)
{
    same_bits(KV_F16, 0, 1);
}

static void test_same_bits_for_all_layouts_f32(void **state)
{
    thread_sanitizer_skips();
    same_bits(KV_F32, 0, 2);
}

static void test_same_bits_for_all_layouts_bf16(void **state)
{
    thread_sanitizer_skips();
    same_bits(KV_BF16, 0, 2);
}

static void test_same_bits_for_all_layouts_q8_0(void **state)
{
    thread_sanitizer_skips();
    same_bits(KV_Q8_0, 0, 2);
}

/* All layouts, where what is device memory cannot be touched from outside (fake_device.h): at the
 * rank, at the nodes, at both, and at one node beside others. */
static void test_a_rank_with_memory_of_its_own(void **state)
{
    same_bits_on(KV_F16, 0, 1, (struct harness_devices){.rank = &kernels_fake});
    same_bits_on(KV_Q8_0, 300, 4, (struct harness_devices){.rank = &kernels_fake});
}

static void test_nodes_with_memory_of_their_own(void **state)
{
    same_bits_on(KV_F16, 0, 1,
                 (struct harness_devices){.nodes = {&kernels_fake, &kernels_fake, &kernels_fake}});
    same_bits_on(KV_BF16, 300, 2, (struct harness_devices){.nodes = {NULL, &kernels_fake, NULL}});
}

static void test_all_with_memory_of_their_own(void **state)
{
    same_bits_on(KV_F16, 300, 1,
                 (struct harness_devices){.rank = &kernels_fake,
                                          .nodes = {&kernels_fake, NULL, &kernels_fake}});
}

static void test_sliding_window_leaves_holders_out(void **state)
{
    same_bits(KV_F16, 300, 2);
}

/* Sequences of different lengths in one step, decode beside prefill, as each alone. */
static void test_batch_mates_change_nothing(void **state)
{
    enum { N = 4 };
    static const uint32_t lengths[N] = {3, 300, 513, 900};
    struct cluster cluster;
    struct attention *attention;
    float *alone[N], *together[N];
    struct text texts[N];
    struct attention_span spans[N][16];
    uint32_t n_spans[N], position[N] = {0};
    cluster_start(&cluster, 2);
    assert_int_equal(cluster_attention(&cluster, 2, false, NULL, &attention, NULL), STATUS_OK);
    for (uint32_t i = 0; i < N; i++) {
        alone[i] = new_result();
        together[i] = new_result();
        texts[i] = (struct text){.text = 10 + i};
        run_sequence(&cluster, attention, i, &texts[i], lengths[i], 512, 256, 2, 2, alone[i]);
        n_spans[i] = deal(spans[i], lengths[i], 256, 2);
        for (uint32_t node = 0; node < 2; node++)
            cluster_reserve(&cluster, node, 50 + i, spans[i], n_spans[i], 0);
    }
    for (uint32_t step = 0, left = N; left > 0; step++) {
        struct attention_segment segments[N];
        struct text segment_texts[N];
        float *results[N];
        uint32_t n = 0;
        left = 0;
        for (uint32_t i = 0; i < N; i++) {
            const uint32_t rest = lengths[i] - position[i], chunk = 1 + (step * 7 + i * 61) % 199;
            if (rest == 0 || (step + i) % 5 == 4) { /* not every sequence in every step */
                left += rest > 0;
                continue;
            }
            segments[n] = (struct attention_segment){.sequence = 50 + i,
                                                     .incarnation = 1,
                                                     .position = position[i],
                                                     .n_tokens = chunk < rest ? chunk : rest,
                                                     .spans = spans[i],
                                                     .n_spans = position[i] == 0 ? n_spans[i] : 0};
            position[i] += segments[n].n_tokens;
            segment_texts[n] = texts[i];
            results[n++] = together[i];
            left++;
        }
        cluster_step(&cluster, attention, segments, segment_texts, n, results, LONGEST);
        expect_fine(attention, n);
    }
    for (uint32_t i = 0; i < N; i++) {
        check_same_bits(alone[i], together[i], lengths[i], LONGEST, "batch");
        free(alone[i]);
        free(together[i]);
    }
    attention_close(attention);
    cluster_stop(&cluster);
}

/* ---- rows that are not needed behind the model's last layer ---- */

/* Two sequences in chunks, in the same steps. Chunk i of either needs its last wanted[i % 5] rows. */
static void run_needed(struct cluster *cluster, struct attention *attention, uint64_t sequence,
                       const struct layout *layout, const float *reference)
{
    static const uint32_t wanted[] = {0, 1, UINT32_MAX, 0, 130}, chunks[] = {200, 71};
    const struct text text = {.text = 1};
    const uint32_t n_holders = layout->n_nodes + layout->local;
    struct attention_span spans[2][16];
    uint32_t n_spans[2], position[2] = {0}, n_chunks = 0;
    float *result = new_result();
    for (uint32_t i = 0; i < 2; i++) {
        n_spans[i] = deal(spans[i], LONGEST, 256, n_holders);
        for (uint32_t node = 0; node < layout->n_nodes; node++)
            cluster_reserve(cluster, node, sequence + i, spans[i], n_spans[i], 0);
    }
    for (; position[0] < LONGEST; n_chunks++) {
        struct attention_segment segments[2];
        const struct text texts[] = {text, text};
        for (uint32_t i = 0; i < 2; i++) {
            const uint32_t left = LONGEST - position[i], some = wanted[(n_chunks + 2 * i) % 5];
            const uint32_t n = chunks[i] < left ? chunks[i] : left;
            segments[i] = (struct attention_segment){.sequence = sequence + i,
                                                     .incarnation = 1,
                                                     .position = position[i],
                                                     .n_tokens = n,
                                                     .n_needed = some < n ? some : n,
                                                     .spans = spans[i],
                                                     .n_spans = n_chunks == 0 ? n_spans[i] : 0};
        }
        float *results[] = {result, result};
        for (uint32_t i = 0; i < 2; i++) /* rows that are not asked for stay the judge's */
            for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
                const size_t at = ((size_t)layer * LONGEST + position[i]) * Q_ROW;
                memcpy(result + at, reference + at, segments[i].n_tokens * Q_ROW * sizeof(float));
            }
        cluster_step(cluster, attention, segments, texts, 2, results, LONGEST);
        expect_fine(attention, 2);
        for (uint32_t i = 0; i < 2; i++)
            position[i] += segments[i].n_tokens;
        check_same_bits(reference, result, position[0], LONGEST, layout->name);
    }
    free(result);
}

static void needed_rows_keep_their_bits(uint32_t window, size_t each,
                                        struct harness_devices devices)
{
    struct cluster cluster;
    struct attention *attention;
    float *reference = new_result();
    const struct text text = {.text = 1};
    cluster_start_on(&cluster, MAX_NODES, KV_F16, false, devices, window);
    assert_int_equal(cluster_attention(&cluster, 0, true, NULL, &attention, NULL), STATUS_OK);
    run_sequence(&cluster, attention, 1, &text, LONGEST, 512, 256, 0, 1, reference);
    attention_close(attention);
    cluster.last_stage = true;
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i += each) {
        assert_int_equal(cluster_attention(&cluster, layouts[i].n_nodes, layouts[i].local, NULL,
                                           &attention, NULL),
                         STATUS_OK);
        run_needed(&cluster, attention, 10 * (i + 1), &layouts[i], reference);
        attention_close(attention);
    }
    cluster_stop(&cluster);
    free(reference);
}

static void test_rows_that_are_not_needed_change_nothing(void **state)
{
    needed_rows_keep_their_bits(0, 1, (struct harness_devices){0});
    needed_rows_keep_their_bits(300, 2, (struct harness_devices){0});
    needed_rows_keep_their_bits(0, 1, (struct harness_devices){.rank = &kernels_fake});
    needed_rows_keep_their_bits(
        300, 2, (struct harness_devices){.rank = &kernels_fake, .nodes = {&kernels_fake}});
}

/* Bytes to and from the only node for a prompt in chunks of 256, of which the last n_needed rows of each
 * are needed. */
static struct attention_traffic traffic_of(struct cluster *cluster, uint64_t sequence,
                                           uint32_t n_tokens, uint32_t n_needed)
{
    struct attention *attention;
    struct attention_span spans[16];
    struct attention_traffic traffic;
    const struct text text = {.text = 1};
    float *results[] = {NULL};
    const uint32_t n_spans = deal(spans, n_tokens, 256, 1);
    assert_int_equal(cluster_attention(cluster, 1, false, NULL, &attention, NULL), STATUS_OK);
    cluster_reserve(cluster, 0, sequence, spans, n_spans, 0);
    for (uint32_t position = 0; position < n_tokens; position += 256) {
        const struct attention_segment segment = {.sequence = sequence,
                                                  .incarnation = 1,
                                                  .position = position,
                                                  .n_tokens = 256,
                                                  .n_needed = n_needed,
                                                  .spans = spans,
                                                  .n_spans = position == 0 ? n_spans : 0};
        cluster_step(cluster, attention, &segment, &text, 1, results, LONGEST);
        expect_fine(attention, 1);
    }
    attention_traffic(attention, 0, &traffic);
    attention_close(attention);
    return traffic;
}

static void test_holders_are_not_asked_about_rows_that_nobody_needs(void **state)
{
    enum { N = 1024, ASKED = N - 256 }; /* the first chunk has no tiles at the node before it */
    struct cluster cluster;
    cluster_start(&cluster, 1);
    cluster.last_stage = true;
    const struct attention_traffic all = traffic_of(&cluster, 1, N, 256),
                                   one = traffic_of(&cluster, 2, N, 1),
                                   none = traffic_of(&cluster, 3, N, 0);
    const uint64_t q_bytes = (uint64_t)Q_ROW * sizeof(float), n_steps = N / 256;
    assert_int_equal(all.kv_bytes, none.kv_bytes);
    assert_int_equal(one.kv_bytes, none.kv_bytes);
    assert_true(all.sent_bytes - none.sent_bytes >= ASKED * q_bytes);
    assert_true(all.received_bytes - none.received_bytes >= ASKED * q_bytes);
    assert_true(one.sent_bytes - none.sent_bytes >= (n_steps - 1) * q_bytes);
    assert_true(one.sent_bytes - none.sent_bytes < n_steps * (q_bytes + 64)); /* 64: a header */
    cluster_stop(&cluster);
}

static void forks_equal_fresh_prefill(uint32_t window, struct harness_devices devices)
{
    struct cluster cluster;
    struct attention *attention;
    float *fresh = new_result(), *forked = new_result();
    struct attention_span spans[16];
    const struct text parent = {.text = 77};
    cluster_start_on(&cluster, 2, KV_F16, false, devices, window);
    assert_int_equal(cluster_attention(&cluster, 2, true, NULL, &attention, NULL), STATUS_OK);
    run_sequence(&cluster, attention, 1, &parent, 700, 512, 256, 2, 3, fresh);
    for (uint32_t shared = 256; shared <= 512; shared += 256) {
        /* The texts part one token behind the shared pages: the tail is prefilled again. */
        const struct text child = {.text = 78, .parent = 77, .shared = shared + 1};
        const uint64_t sequence = 10 + shared;
        const uint32_t n_spans = deal(spans, 900, 256, 3);
        if (shared == 512) { /* the parent is forgotten, and its pages are kept */
            attention_drop(attention, 1, 1, shared);
            cluster_keep(&cluster, 1, shared);
        }
        run_sequence(&cluster, attention, sequence + 1, &child, 900, 300, 256, 2, 3, fresh);
        for (uint32_t node = 0; node < 2; node++)
            cluster_reserve(&cluster, node, sequence, spans, n_spans, shared);
        memcpy(forked, fresh, sizeof(float) * N_LAYERS * LONGEST * Q_ROW);
        for (uint32_t position = shared; position < 900; position += 100) {
            const struct attention_segment segment = {
                .sequence = sequence,
                .incarnation = 1,
                .position = position,
                .n_tokens = 900 - position < 100 ? 900 - position : 100,
                .spans = spans,
                .n_spans = position == shared ? n_spans : 0,
                .fork = position == shared,
                .parent = 1,
                .parent_incarnation = 1};
            for (uint32_t layer = 0; layer < N_LAYERS; layer++)
                memset(forked + ((size_t)layer * LONGEST + position) * Q_ROW, 0,
                       segment.n_tokens * Q_ROW * sizeof(float));
            cluster_step(&cluster, attention, &segment, &child, 1, &forked, LONGEST);
            expect_fine(attention, 1);
        }
        check_same_bits(fresh, forked, 900, LONGEST, "fork");
        check_reference(&cluster, &child, 900, forked, LONGEST);
    }
    /* The parent may go before its children. */
    attention_drop(attention, 1, 1, 0);
    cluster_free(&cluster, 1);
    struct attention_segment next = {
        .sequence = 522, .incarnation = 1, .position = 900, .n_tokens = 1};
    const struct text child = {.text = 78, .parent = 77, .shared = 513};
    float *results[] = {forked};
    cluster_step(&cluster, attention, &next, &child, 1, results, LONGEST);
    expect_fine(attention, 1);
    attention_close(attention);
    cluster_stop(&cluster);
    free(fresh);
    free(forked);
}

static void test_forks_equal_fresh_prefill(void **state)
{
    forks_equal_fresh_prefill(0, (struct harness_devices){0});
}

/* What lies in the window is copied, in host memory and on devices. */
static void test_forks_of_windowed_layers(void **state)
{
    forks_equal_fresh_prefill(300, (struct harness_devices){0});
    forks_equal_fresh_prefill(
        300, (struct harness_devices){.rank = &kernels_fake, .nodes = {&kernels_fake, NULL}});
}

/* Wrong segments fail alone; the others of the step are right, and their own rows become zeros. */
static void test_bad_segments_fail_alone(void **state)
{
    struct cluster cluster;
    struct attention *attention;
    float *result = new_result(), *other = new_result();
    struct attention_span spans[4] = {{0, {0, 512}}};
    const struct attention_span wrong[] = {{0, {0, 100}}}, foreign[] = {{9, {0, 256}}};
    const struct text texts[] = {{.text = 1}, {.text = 2}, {.text = 3}, {.text = 4}, {.text = 5}};
    cluster_start(&cluster, 0);
    assert_int_equal(cluster_attention(&cluster, 0, true, NULL, &attention, NULL), STATUS_OK);
    run_sequence(&cluster, attention, 1, &texts[0], 300, 512, 512, 0, 1, result);
    const struct attention_segment segments[] = {
        {.sequence = 1, .incarnation = 1, .position = 300, .n_tokens = 5},
        {.sequence = 2, .incarnation = 1, .position = 4, .n_tokens = 5}, /* begins in the middle */
        {.sequence = 3, .incarnation = 1, .n_tokens = 5, .spans = wrong, .n_spans = 1},
        {.sequence = 4, .incarnation = 1, .n_tokens = 5, .spans = foreign, .n_spans = 1},
        {.sequence = 5,
         .incarnation = 1,
         .position = 256,
         .n_tokens = 5,
         .fork = true,
         .parent = 99}};
    float *results[] = {result, other, other, other, other};
    cluster_step(&cluster, attention, segments, texts, 5, results, LONGEST);
    assert_null(attention_segment_error(attention, 0));
    for (uint32_t i = 1; i < 5; i++)
        assert_non_null(attention_segment_error(attention, i));
    for (size_t i = 0; i < 5 * Q_ROW; i++)
        assert_true(other[i] == 0.0f);
    check_reference(&cluster, &texts[0], 305, result, LONGEST);

    /* A gap; then the sequence can only be dropped. A dropped one may come again. */
    struct attention_segment gap = {
        .sequence = 1, .incarnation = 1, .position = 306, .n_tokens = 1};
    cluster_step(&cluster, attention, &gap, texts, 1, results, LONGEST);
    assert_non_null(strstr(attention_segment_error(attention, 0)->text, "305"));
    gap.position = 305;
    cluster_step(&cluster, attention, &gap, texts, 1, results, LONGEST);
    assert_non_null(attention_segment_error(attention, 0));
    attention_drop(attention, 1, 1, 0);
    attention_drop(attention, 1, 1, 0);
    const struct attention_segment again = {
        .sequence = 1, .incarnation = 2, .n_tokens = 9, .spans = spans, .n_spans = 1};
    cluster_step(&cluster, attention, &again, texts, 1, results, LONGEST);
    assert_null(attention_segment_error(attention, 0));

    /* More rows than a step may have, no rows, an unplaced past. */
    const struct attention_segment many[] = {
        {.sequence = 20, .incarnation = 1, .n_tokens = MAX_ROWS},
        {.sequence = 21, .incarnation = 1, .n_tokens = 1},
        {.sequence = 22, .incarnation = 1, .n_tokens = 0}};
    float *none[] = {NULL, NULL, NULL};
    cluster_step(&cluster, attention, many, texts, 3, none, LONGEST);
    assert_null(attention_segment_error(attention, 0));
    assert_non_null(attention_segment_error(attention, 1));
    assert_non_null(attention_segment_error(attention, 2));
    const struct attention_segment unplaced = {
        .sequence = 20, .incarnation = 1, .position = MAX_ROWS, .n_tokens = 1};
    cluster_step(&cluster, attention, &unplaced, texts, 1, none, LONGEST);
    assert_non_null(strstr(attention_segment_error(attention, 0)->text, "nobody"));
    attention_close(attention);
    cluster_stop(&cluster);
    free(result);
    free(other);
}

/* Nothing grows with the tokens: what a holder has confirmed is let go. */
static void test_traffic_counts_kv_once(void **state)
{
    struct cluster cluster;
    struct attention *attention;
    float *result = new_result();
    const struct text text = {.text = 1};
    cluster_start(&cluster, 2);
    assert_int_equal(cluster_attention(&cluster, 2, false, NULL, &attention, NULL), STATUS_OK);
    run_sequence(&cluster, attention, 1, &text, 768, 64, 256, 2, 2, result);
    struct attention_traffic traffic[2];
    attention_traffic(attention, 0, &traffic[0]);
    attention_traffic(attention, 1, &traffic[1]);
    const uint64_t token_bytes = (uint64_t)2 * KV_ROW * 2 * N_LAYERS;
    assert_int_equal(traffic[0].kv_bytes, 512 * token_bytes);
    assert_int_equal(traffic[1].kv_bytes, 256 * token_bytes);
    for (int i = 0; i < 2; i++) {
        assert_true(traffic[i].sent_bytes > traffic[i].kv_bytes);
        assert_true(traffic[i].received_bytes > 0);
    }
    attention_close(attention);
    cluster_stop(&cluster);
    free(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits_for_all_layouts_f16),
        cmocka_unit_test(test_same_bits_for_all_layouts_f32),
        cmocka_unit_test(test_same_bits_for_all_layouts_bf16),
        cmocka_unit_test(test_same_bits_for_all_layouts_q8_0),
        cmocka_unit_test(test_a_rank_with_memory_of_its_own),
        cmocka_unit_test(test_nodes_with_memory_of_their_own),
        cmocka_unit_test(test_all_with_memory_of_their_own),
        cmocka_unit_test(test_sliding_window_leaves_holders_out),
        cmocka_unit_test(test_batch_mates_change_nothing),
        cmocka_unit_test(test_rows_that_are_not_needed_change_nothing),
        cmocka_unit_test(test_holders_are_not_asked_about_rows_that_nobody_needs),
        cmocka_unit_test(test_forks_equal_fresh_prefill),
        cmocka_unit_test(test_forks_of_windowed_layers),
        cmocka_unit_test(test_bad_segments_fail_alone),
        cmocka_unit_test(test_traffic_counts_kv_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
