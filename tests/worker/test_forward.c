/* test_forward.c - one rank's layers against plain double precision, and its bits against chunking.
 */
#include "tests/directory.h"
#include "tests/kernels/fake_device.h"
#include "tests/thread_sanitizer.h"
#include "tests/worker/fixture.h"

#include "plan/working_size.h"
#include "sys/random.h"

#include "tests/worker/reference.c"

/* Grouped queries; multi-head with head_dim 96 and an odd layer count; tied, with rope factors. */
static const struct reference_shape SHAPES[] = {
    {2, 64, 8, 2, 32, 96, 97, false, false, WEIGHT_F32, .seed = 1},
    {3, 96, 2, 2, 96, 160, 131, false, false, WEIGHT_F32, .seed = 2},
    {1, 128, 4, 1, 64, 64, 64, true, true, WEIGHT_F32, .seed = 3},
};
enum { N_SHAPES = sizeof(SHAPES) / sizeof(SHAPES[0]) };

/* The others, llama with biases and with experts. gemma3: five layers with a window, one without;
 * smollm3: three layers that turn, one that does not. */
static const struct reference_shape ARCHITECTURES[] = {
    {2, 64, 8, 2, 32, 96, 97, false, true, WEIGHT_F32, 4, .biases = true},
    {2, 64, 4, 2, 32, 96, 97, true, false, WEIGHT_F32, 5, .architecture = ARCHITECTURE_QWEN2},
    {2, 64, 4, 2, 32, 96, 97, false, false, WEIGHT_F32, 6, .architecture = ARCHITECTURE_QWEN3},
    {2, 64, 4, 2, 32, 96, 97, false, false, WEIGHT_F32, .seed = 9, .n_experts = 8, .n_used = 2},
    {2, 64, 4, 2, 32, 64, 97, false, false, WEIGHT_F32, .seed = 10,
     .architecture = ARCHITECTURE_QWEN3MOE, .n_experts = 12, .n_used = 4, .softmax_of_all = true},
    {2, 64, 4, 2, 32, 96, 97, true, false, WEIGHT_F32, .seed = 7,
     .architecture = ARCHITECTURE_GEMMA2, .vectors = WEIGHT_BF16, .norm_offset = 1, .window = 40},
    {6, 64, 4, 1, 32, 96, 97, false, false, WEIGHT_F32, 8, .architecture = ARCHITECTURE_GEMMA3,
     .window = 30},
    {2, 64, 4, 2, 32, 96, 97, true, false, WEIGHT_F32, 12, .architecture = ARCHITECTURE_GRANITE,
     .scale = 0.125f},
    {4, 64, 4, 2, 32, 96, 97, true, false, WEIGHT_F32, 13, .architecture = ARCHITECTURE_SMOLLM3},
    {2, 64, 4, 2, 32, 96, 97, false, false, WEIGHT_F32, 14, .architecture = ARCHITECTURE_PHI3,
     .window = 40},
    {2, 64, 4, 2, 32, 96, 97, false, false, WEIGHT_F32, 15, .architecture = ARCHITECTURE_GLM4,
     .biases = true},
};
enum { N_ARCHITECTURES = sizeof(ARCHITECTURES) / sizeof(ARCHITECTURES[0]) };

static struct reference *make_model(const struct reference_shape *shape, char path[])
{
    snprintf(path, FILE_PATH_BYTES + 32, "%s/model.gguf", directory);
    return reference_create(shape, path);
}

static void random_tokens(int32_t *tokens, uint32_t n, uint32_t vocab)
{
    struct random_state random;
    random_seed(&random, 99);
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (int32_t)random_below(&random, vocab);
}

/* Logits after every `chunk` tokens of a prompt, one after the other, to out[][vocab]. */
static void run_chunks(struct fixture *f, uint64_t sequence, const int32_t *tokens, uint32_t n,
                       uint32_t chunk, float *out)
{
    for (uint32_t position = 0; position < n; position += chunk) {
        const struct fixture_segment segment = {sequence,
                                                position,
                                                n - position < chunk ? n - position : chunk,
                                                tokens,
                                                LONGSPAN__WANT__WANT_LOGITS,
                                                5};
        fixture_run(f, &segment, 1);
        assert_int_equal(f->engine.results->n_logits, 1);
        memcpy(out, f->engine.results->logits, f->shape.vocab * sizeof(float));
        out += f->shape.vocab;
    }
}

/* A model and its first tokens, as the judge has them, and the rank that is judged. */
struct judged {
    uint32_t n; /* tokens */
    int32_t *tokens;
    double *expected; /* [n][vocab] */
    float *found;     /* likewise */
    struct reference *reference;
    struct group *group;
    struct fixture f;
    char path[FILE_PATH_BYTES + 32];
};

static void open_judged(struct judged *j, const struct reference_shape *shape, uint32_t n,
                        enum kv_type kv_type, const char *kernels)
{
    struct error error;
    j->n = n;
    j->reference = make_model(shape, j->path);
    j->tokens = calloc(n, sizeof(*j->tokens));
    j->expected = calloc((size_t)n * shape->vocab, sizeof(*j->expected));
    j->found = calloc((size_t)n * shape->vocab, sizeof(*j->found));
    random_tokens(j->tokens, n, shape->vocab);
    reference_logits(j->reference, j->tokens, n, kv_type, j->expected);
    fixture_ok(group_create(&j->group, NULL, NULL, &error), &error);
    const struct fixture_layout layout = {1, 1, 2, kv_type, kernels, false, NULL};
    fixture_open(&j->f, shape, j->path, &layout, j->group);
}

static void close_judged(struct judged *j)
{
    fixture_close(&j->f);
    group_destroy(j->group);
    reference_destroy(j->reference);
    free(j->tokens);
    free(j->expected);
    free(j->found);
}

/* Every position of a prompt that spans two tiles, token by token, is near the double-precision
 * result. F32: about 1e3 roundings of 6e-8 in a logit, partly cancelling: 2e-5 of the root mean
 * square. F16: the products take the same f32 activations, the weights are the judge's own. Q8_0:
 * activations are rounded to 8 bits in blocks of 32, to 1/254 of the block's largest, which is 2.1
 * times a typical value: a deviation of 0.5% in each of four products per layer, 1.7% after three
 * layers; and the largest of 20,000 logits is 4.5 deviations off. */
static void check_against_reference(const struct reference_shape *shape, enum kv_type kv_type,
                                    const char *kernels, double tolerance)
{
    struct judged j;
    open_judged(&j, shape, 140, kv_type, kernels);
    run_chunks(&j.f, 1, j.tokens, j.n, 1, j.found);
    const double distance = reference_distance(j.found, j.expected, (size_t)j.n * shape->vocab);
    if (!(distance < tolerance))
        fail_msg("%s weights, %s KV, %s kernels: off by %g of the root mean square",
                 weight_traits(shape->type)->name, kv_type_name(kv_type), j.f.kernels->name,
                 distance);
    close_judged(&j);
}

static void test_f32_is_near_double_precision(void **state)
{
    for (int i = 0; i < N_SHAPES; i++)
        check_against_reference(&SHAPES[i], KV_F32, NULL, 2e-5);
}

static void test_every_architecture_is_near_double_precision(void **state)
{
    thread_sanitizer_skips();
    for (int i = 0; i < N_ARCHITECTURES; i++)
        check_against_reference(&ARCHITECTURES[i], KV_F32, NULL, 2e-5);
}

/* 1,500 tokens with windows of 100: whole pages have been released many times over, and every row
 * sees what the definition says, after chunks of any size. */
static void test_what_has_left_the_window_is_not_missed(void **state)
{
    thread_sanitizer_skips();
    static const struct reference_shape shapes[] = {
        {2, 64, 8, 2, 32, 96, 97, false, false, WEIGHT_F32, .seed = 11, .window = 100},
        {6, 64, 4, 1, 32, 96, 97, false, false, WEIGHT_F32, .seed = 12,
         .architecture = ARCHITECTURE_GEMMA3, .window = 100},
    };
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        static const uint32_t chunks[] = {FIXTURE_ROWS, 97};
        const size_t vocab = shapes[i].vocab;
        struct judged j;
        open_judged(&j, &shapes[i], 1500, KV_F32, NULL);
        for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
            run_chunks(&j.f, 1 + c, j.tokens, j.n, chunks[c], j.found);
            for (uint32_t end = 0, row = 0; end < j.n; row++) {
                end = end + chunks[c] < j.n ? end + chunks[c] : j.n;
                const double distance = reference_distance(j.found + row * vocab,
                                                           j.expected + (end - 1) * vocab, vocab);
                if (!(distance < 2e-5))
                    fail_msg("chunks of %u, %u tokens: off by %g", chunks[c], end, distance);
            }
        }
        close_judged(&j);
    }
}

/* KV rounds to half in both, but where the two disagree before rounding, they may round apart by
 * half a unit, 5e-4 relative, now and then. */
static void test_f16_kv_is_near_double_precision(void **state)
{
    for (int i = 0; i < N_SHAPES; i++)
        check_against_reference(&SHAPES[i], KV_F16, NULL, 5e-4);
}

/* As for f16, and a step of bf16 is eight times as large; of q8_0, 1/127 of the largest value of
 * 32, and queries are rounded so too, which the reference does not do. */
static void test_bf16_and_q8_0_kv_are_near_double_precision(void **state)
{
    thread_sanitizer_skips();
    for (int i = 0; i < N_SHAPES; i++) {
        check_against_reference(&SHAPES[i], KV_BF16, NULL, 4e-3);
        if (tile_check(KV_Q8_0, SHAPES[i].head_dim, NULL) == STATUS_OK)
            check_against_reference(&SHAPES[i], KV_Q8_0, NULL, 3e-2);
    }
}

static void test_q8_0_is_near_double_precision(void **state)
{
    thread_sanitizer_skips();
    for (int i = 0; i < N_SHAPES; i++) {
        struct reference_shape shape = SHAPES[i];
        shape.type = WEIGHT_Q8_0;
        check_against_reference(&shape, KV_F16, NULL, 0.12);
    }
}

/* SHAPES[0], with rows of whole super-blocks where the type has them. */
static struct reference_shape shape_with(enum weight_type type)
{
    struct reference_shape shape = SHAPES[0];
    shape.type = type;
    if (weight_traits(type)->block_elements > 32) {
        shape.hidden = shape.n_heads * shape.head_dim;
        shape.ffn = 512;
    }
    return shape;
}

/* All experts are used: between a few of many, rounded activations choose others where two are
 * nearly as good. */
static void test_quantized_experts_are_near_double_precision(void **state)
{
    thread_sanitizer_skips();
    static const enum weight_type types[] = {WEIGHT_Q8_0, WEIGHT_Q4_0, WEIGHT_Q4_K, WEIGHT_Q6_K};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct reference_shape shape = shape_with(types[i]);
        shape.n_experts = shape.n_used = 4;
        check_against_reference(&shape, KV_F32, NULL, 0.12);
    }
}

/* Weights are exact; with blocks, activations are rounded to steps of 1/127 of the largest of
 * 32. */
static void test_every_weight_type_is_near_double_precision(void **state)
{
    thread_sanitizer_skips();
    for (size_t t = 0; t < WEIGHT_TYPES; t++) {
        const struct reference_shape shape = shape_with(weight_types[t]);
        const bool blocks = weight_traits(shape.type)->block_elements > 1;
        check_against_reference(&shape, KV_F32, NULL, blocks ? 0.12 : 2e-5);
    }
}

static void test_every_variant_is_near_double_precision(void **state)
{
    thread_sanitizer_skips();
    for (size_t i = 0; kernels_all[i] != NULL; i++)
        if (kernels_all[i]->usable())
            check_against_reference(&SHAPES[0], KV_F32, kernels_all[i]->name, 2e-5);
}

/* Same bits: each usable variant, in products, norms and attention, with every weight type, and in
 * what the other architectures have. */
static void test_variants_leave_the_bits(void **state)
{
    thread_sanitizer_skips();
    enum { N = 140 };
    for (size_t t = 0; t < WEIGHT_TYPES + N_ARCHITECTURES; t++) {
        const struct reference_shape shape =
            t < WEIGHT_TYPES ? shape_with(weight_types[t]) : ARCHITECTURES[t - WEIGHT_TYPES];
        char path[FILE_PATH_BYTES + 32];
        reference_destroy(make_model(&shape, path));
        int32_t tokens[N];
        random_tokens(tokens, N, shape.vocab);
        const size_t n = N / 35 * shape.vocab;
        float *judge = NULL;
        for (size_t i = 0; kernels_all[i] != NULL; i++) {
            if (!kernels_all[i]->usable())
                continue;
            struct group *group;
            struct error error;
            fixture_ok(group_create(&group, NULL, NULL, &error), &error);
            struct fixture f;
            const struct fixture_layout layout = {1,     1,   1, KV_F16, kernels_all[i]->name,
                                                  false, NULL};
            fixture_open(&f, &shape, path, &layout, group);
            float *found = calloc(n, sizeof(*found));
            assert_non_null(found);
            run_chunks(&f, 1, tokens, N, 35, found);
            if (judge == NULL)
                judge = found;
            else
                assert_memory_equal(found, judge, n * sizeof(*found));
            if (judge != found)
                free(found);
            fixture_close(&f);
            group_destroy(group);
        }
        free(judge);
    }
}

/* Same bits: chunks of any size, lanes, and neighbours in the batch. */
static void test_chunks_lanes_and_neighbours_leave_the_bits(void **state)
{
    enum { N = 300 };
    const uint32_t chunks[] = {1, 7, 64, 256};
    for (int s = 0; s < 3; s++) {
        struct reference_shape shape = SHAPES[s % 2];
        shape.type = s == 0 ? WEIGHT_F32 : WEIGHT_Q8_0;
        shape.n_experts = s == 2 ? 12 : 0; /* with 256 rows more pairs than a block has */
        shape.n_used = s == 2 ? 5 : 0;
        char path[FILE_PATH_BYTES + 32];
        struct reference *reference = make_model(&shape, path);
        int32_t tokens[N];
        random_tokens(tokens, N, shape.vocab);
        float *rows = calloc((size_t)N * shape.vocab, sizeof(*rows));
        float *judge = calloc((size_t)N * shape.vocab, sizeof(*judge));
        for (uint32_t lanes = 1; lanes <= 3; lanes++) {
            struct group *group;
            struct error error;
            fixture_ok(group_create(&group, NULL, NULL, &error), &error);
            struct fixture f;
            const struct fixture_layout layout = {1, 1, lanes, KV_F16, NULL, false, NULL};
            fixture_open(&f, &shape, path, &layout, group);
            for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
                if (lanes > 1 && chunks[c] == 1)
                    continue; /* slow, and the others tell */
                float *to = lanes == 1 && c == 0 ? judge : rows;
                run_chunks(&f, 10 + c, tokens, N, chunks[c], to);
                for (uint32_t end = 0, i = 0; end < N; i++) {
                    end = end + chunks[c] < N ? end + chunks[c] : N;
                    assert_memory_equal(to + (size_t)i * shape.vocab,
                                        judge + (size_t)(end - 1) * shape.vocab,
                                        shape.vocab * sizeof(float));
                }
                attention_drop(f.engine.attention, 10 + c, 1, 0);
            }
            /* Two prompts and one decode in a step. */
            const struct fixture_segment first = {1, 0, 131, tokens, LONGSPAN__WANT__WANT_NOTHING,
                                                  0};
            fixture_run(&f, &first, 1);
            assert_int_equal(f.engine.results->answers.n_rows, 0);
            const struct fixture_segment mixed[] = {
                {2, 0, 17, tokens, LONGSPAN__WANT__WANT_LOGITS, 3},
                {1, 131, 1, tokens, LONGSPAN__WANT__WANT_CANDIDATES, 4},
                {3, 0, 200, tokens, LONGSPAN__WANT__WANT_LOGITS, 5}};
            fixture_run(&f, mixed, 3);
            assert_int_equal(f.engine.results->answers.n_rows, 3);
            assert_int_equal(f.engine.results->n_logits, 2);
            const uint32_t vocab = shape.vocab;
            assert_memory_equal(f.engine.results->logits, judge + (size_t)16 * vocab,
                                vocab * sizeof(float));
            assert_memory_equal(f.engine.results->logits + vocab, judge + (size_t)199 * vocab,
                                vocab * sizeof(float));
            /* The candidate's logit is that of the row. */
            const struct candidate best =
                f.engine.results->answers.best[f.engine.results->answers.stride];
            assert_true(best.logit == judge[(size_t)131 * vocab + (size_t)best.id]);
            for (uint32_t i = 0; i < vocab; i++)
                assert_true(judge[(size_t)131 * vocab + i] <= best.logit);
            fixture_close(&f);
            group_destroy(group);
        }
        reference_destroy(reference);
        free(rows);
        free(judge);
    }
}

/* A segment that attention refuses (a gap) has zeros there; its neighbour's bits stay. */
static void test_a_failed_segment_leaves_its_neighbours(void **state)
{
    enum { N = 20 };
    const struct reference_shape *shape = &SHAPES[0];
    char path[FILE_PATH_BYTES + 32];
    struct reference *reference = make_model(shape, path);
    int32_t tokens[64];
    random_tokens(tokens, 64, shape->vocab);
    struct group *group;
    struct error error;
    fixture_ok(group_create(&group, NULL, NULL, &error), &error);
    struct fixture f;
    const struct fixture_layout layout = {1, 1, 1, KV_F16, NULL, false, NULL};
    fixture_open(&f, shape, path, &layout, group);
    float judge[97];
    const struct fixture_segment alone = {1, 0, N, tokens, LONGSPAN__WANT__WANT_LOGITS, 1};
    fixture_run(&f, &alone, 1);
    memcpy(judge, f.engine.results->logits, sizeof(judge));

    for (uint32_t wants = 0; wants < 2; wants++) { /* has a row behind the last layer, or none */
        const struct fixture_segment both[] = {
            {7, 30, 3, tokens, wants ? LONGSPAN__WANT__WANT_LOGITS : LONGSPAN__WANT__WANT_NOTHING,
             0},
            {2 + wants, 0, N, tokens, LONGSPAN__WANT__WANT_LOGITS, 1}};
        struct fixture_step message;
        fixture_compose(&message, f.next_step++, both, 2);
        fixture_ok(step_decode(f.engine.step, &message.step, &error), &error);
        fixture_ok(forward_run(f.engine.forward, f.engine.step, &error), &error);
        assert_non_null(attention_segment_error(f.engine.attention, 0));
        assert_null(attention_segment_error(f.engine.attention, 1));
        assert_memory_equal(f.engine.results->logits + wants * shape->vocab, judge, sizeof(judge));
    }
    fixture_close(&f);
    group_destroy(group);
    reference_destroy(reference);
}

/* ---- a device with memory of its own -------------------------------------------------------- */

enum { ROWS_OF_TABLE = 200 + 2 + 9 + 4 };

/* Chunks of a prompt, then three sequences in one step, then tokens: rows of the CPU's bits. */
static float *rows_of_table(const struct reference_shape *shape, const char *path,
                            const struct kernels *table, enum kv_type kv_type)
{
    enum { N = 200, DECODED = 9, MOST = ROWS_OF_TABLE };
    int32_t tokens[N + DECODED];
    random_tokens(tokens, N + DECODED, shape->vocab);
    struct group *group;
    struct error error;
    fixture_ok(group_create(&group, NULL, NULL, &error), &error);
    struct fixture f;
    const struct fixture_layout layout = {1, 1, 2, kv_type, NULL, false, table};
    fixture_open(&f, shape, path, &layout, group);
    float *rows = calloc((size_t)MOST * shape->vocab, sizeof(*rows));
    assert_non_null(rows);
    run_chunks(&f, 1, tokens, N - 50, 60, rows);
    run_chunks(&f, 2, tokens, 40, 40, rows + (size_t)N / 2 * shape->vocab);
    const struct fixture_segment together[] = {
        {1, N - 50, 50, tokens, LONGSPAN__WANT__WANT_LOGITS, 5},
        {3, 0, 33, tokens, LONGSPAN__WANT__WANT_NOTHING, 0},
        {2, 40, 1, tokens, LONGSPAN__WANT__WANT_LOGITS, 7}};
    fixture_run(&f, together, 3);
    assert_int_equal(f.engine.results->answers.n_rows, 2);
    assert_int_equal(f.engine.results->answers.sums[1].count, 7);
    float *decoded = rows + (size_t)N * shape->vocab;
    memcpy(decoded, f.engine.results->logits, 2 * shape->vocab * sizeof(*rows));
    decoded += 2 * shape->vocab;
    for (uint32_t i = 0; i < DECODED; i++) { /* steps of one and of two rows in turn */
        const struct fixture_segment tokens_of[] = {
            {1, N + i, 1, tokens, LONGSPAN__WANT__WANT_LOGITS, 5},
            {2, 41 + i / 2, 1, tokens, LONGSPAN__WANT__WANT_LOGITS, 3}};
        fixture_run(&f, tokens_of, 1 + i % 2);
        const size_t n = (1 + i % 2) * (size_t)shape->vocab;
        memcpy(decoded, f.engine.results->logits, n * sizeof(*rows));
        decoded += n;
    }
    if (table != NULL && shape->n_experts == 0) /* all of them but the first of each shape */
        assert_true(forward_replayed(f.engine.forward) >= (DECODED - 2) * (shape->n_layers + 1));
    fixture_close(&f);
    group_destroy(group);
    return rows;
}

static void test_a_device_with_memory_of_its_own_has_the_same_bits(void **state)
{
    static const enum weight_type types[] = {WEIGHT_F16, WEIGHT_Q8_0};
    enum { N_TYPES = sizeof(types) / sizeof(types[0]) };
    for (size_t i = 0; i < N_TYPES + N_ARCHITECTURES; i++) {
        const struct reference_shape shape =
            i < N_TYPES ? shape_with(types[i]) : ARCHITECTURES[i - N_TYPES];
        const enum kv_type kv_type = i % 2 == 0 ? KV_F16 : KV_F32;
        char path[FILE_PATH_BYTES + 32];
        reference_destroy(make_model(&shape, path));
        float *judge = rows_of_table(&shape, path, NULL, kv_type);
        float *rows = rows_of_table(&shape, path, &kernels_fake, kv_type);
        assert_memory_equal(rows, judge, ROWS_OF_TABLE * shape.vocab * sizeof(*rows));
        free(judge);
        free(rows);
    }
}

/* Scores are what the rows say, of more rows than are made at once, beside segments that want
 * something or nothing; `table`: where they are found, NULL: on the CPU. */
static void check_scores(const struct reference_shape *shape, const char *path, const float *judge,
                         const struct kernels *table, const int32_t *tokens, uint32_t n)
{
    struct group *group;
    struct error error;
    fixture_ok(group_create(&group, NULL, NULL, &error), &error);
    struct fixture f;
    const struct fixture_layout layout = {1, 1, 2, KV_F16, NULL, false, table};
    fixture_open(&f, shape, path, &layout, group);
    const uint32_t vocab = shape->vocab;
    const struct fixture_segment segments[] = {{1, 0, n, tokens, LONGSPAN__WANT__WANT_LOGITS, 2},
                                               {2, 0, 20, tokens, LONGSPAN__WANT__WANT_NOTHING, 0},
                                               {3, 0, 9, tokens, LONGSPAN__WANT__WANT_NOTHING, 0}};
    struct fixture_step message;
    fixture_compose(&message, f.next_step++, segments, 3);
    message.segments[0].next = message.segments[2].next = (int32_t *)tokens + 1;
    message.segments[0].n_next = n - 1;
    message.segments[0].n_top = 5;
    message.segments[2].n_next = 9;
    message.segments[2].n_top = 1;
    fixture_run_step(&f, &message);
    const struct candidate_table *scores = &f.engine.results->scores;
    assert_int_equal(f.engine.results->answers.n_rows, 1);
    assert_int_equal(scores->n_rows, n - 1 + 9);
    assert_memory_equal(f.engine.results->logits, judge + (size_t)(n - 1) * vocab,
                        vocab * sizeof(*judge));
    for (uint32_t i = 0; i < scores->n_rows; i++) {
        const uint32_t position = i < n - 1 ? i : i - (n - 1);
        const float *row = judge + (size_t)position * vocab;
        assert_true(scores->named_logits[i] == row[tokens[position + 1]]);
        assert_int_equal(scores->sums[i].count, i < n - 1 ? 5 : 1);
        long double sum = 0;
        float most = -INFINITY;
        for (uint32_t id = 0; id < vocab; id++) {
            sum += expl((long double)row[id]);
            most = row[id] > most ? row[id] : most;
        }
        assert_true(scores->best[i * scores->stride].logit == most);
        for (uint32_t k = 0; k < scores->sums[i].count; k++) {
            const struct candidate best = scores->best[i * scores->stride + k];
            assert_true(row[best.id] == best.logit);
        }
        /* Rounded once to float in each of `vocab` sums of exponentials: 2e-7 of the sum. */
        assert_true(fabsl(candidates_log_sum_exp(&scores->sums[i]) - logl(sum)) < 1e-6L);
    }
    const struct fixture_segment next = {1, n, 1, tokens, LONGSPAN__WANT__WANT_CANDIDATES, 2};
    fixture_run(&f, &next, 1);
    assert_int_equal(scores->n_rows, 0);
    fixture_close(&f);
    group_destroy(group);
}

static void test_scores_are_those_of_the_rows(void **state)
{
    enum { N = 150 };
    const struct reference_shape *shape = &SHAPES[0];
    char path[FILE_PATH_BYTES + 32];
    reference_destroy(make_model(shape, path));
    int32_t tokens[N + 1];
    random_tokens(tokens, N + 1, shape->vocab);
    struct group *group;
    struct error error;
    fixture_ok(group_create(&group, NULL, NULL, &error), &error);
    struct fixture f;
    const struct fixture_layout layout = {1, 1, 1, KV_F16, NULL, false, NULL};
    fixture_open(&f, shape, path, &layout, group);
    float *judge = calloc((size_t)N * shape->vocab, sizeof(*judge));
    assert_non_null(judge);
    run_chunks(&f, 1, tokens, N, 1, judge);
    fixture_close(&f);
    group_destroy(group);
    check_scores(shape, path, judge, NULL, tokens, N);
    check_scores(shape, path, judge, &kernels_fake, tokens, N);
    free(judge);
}

/* What `longspan plan` counts is what is taken, of dense layers and of such with experts. */
static void test_takes_the_memory_that_was_planned(void **state)
{
    const struct reference_shape *const shapes[] = {&SHAPES[0], &ARCHITECTURES[3],
                                                    &ARCHITECTURES[4]};
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        char path[FILE_PATH_BYTES + 32];
        struct fixture f;
        struct group *group;
        const struct fixture_layout layout = {1, 1, 1, KV_F16, NULL, false, NULL};
        reference_destroy(make_model(shapes[i], path));
        assert_int_equal(group_create(&group, NULL, NULL, NULL), STATUS_OK);
        fixture_open(&f, shapes[i], path, &layout, group);
        const struct working_limits limits = {FIXTURE_ROWS, FIXTURE_SEQUENCES, KV_F16};
        assert_int_equal(
            engine_working_bytes(&f.engine),
            working_size_of(&f.shard->hparams, &f.shard->part, f.shard->n_layers, true, &limits));
        fixture_close(&f);
        group_destroy(group);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_the_memory_that_was_planned),
        cmocka_unit_test(test_f32_is_near_double_precision),
        cmocka_unit_test(test_every_architecture_is_near_double_precision),
        cmocka_unit_test(test_f16_kv_is_near_double_precision),
        cmocka_unit_test(test_bf16_and_q8_0_kv_are_near_double_precision),
        cmocka_unit_test(test_every_weight_type_is_near_double_precision),
        cmocka_unit_test(test_q8_0_is_near_double_precision),
        cmocka_unit_test(test_quantized_experts_are_near_double_precision),
        cmocka_unit_test(test_every_variant_is_near_double_precision),
        cmocka_unit_test(test_variants_leave_the_bits),
        cmocka_unit_test(test_chunks_lanes_and_neighbours_leave_the_bits),
        cmocka_unit_test(test_a_device_with_memory_of_its_own_has_the_same_bits),
        cmocka_unit_test(test_what_has_left_the_window_is_not_missed),
        cmocka_unit_test(test_scores_are_those_of_the_rows),
        cmocka_unit_test(test_a_failed_segment_leaves_its_neighbours),
    };
    return cmocka_run_group_tests_name("worker/forward", tests, make_directory, remove_directory);
}
