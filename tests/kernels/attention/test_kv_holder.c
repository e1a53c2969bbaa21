/* test_kv_holder.c - what was appended is what attention reads, pages are counted exactly, and
 * nothing that a peer may send does harm. test_kv_holder_model.c is its other half. */
#include "tests/cmocka.h"
#include "tests/kernels/attention/kv_holder_tokens.h"

#include <string.h>

/* Appends to all layers and heads. */
static enum status append_all(struct kv_holder *holder, uint64_t sequence, uint32_t first,
                              uint32_t n_tokens, uint32_t seed)
{
    enum status status = STATUS_OK;
    for (uint32_t layer = LAYER; layer < LAYER + N_LAYERS && status == STATUS_OK; layer++)
        status = append(holder, sequence, 1, layer, HEAD, N_HEADS, first, n_tokens, seed);
    return status;
}

static const struct kv_heads all_heads = {LAYER, HEAD, N_HEADS}, one_head = {LAYER, HEAD, 1};

static enum status source_of(const struct kv_holder *holder, uint64_t sequence, uint32_t begin,
                             uint32_t end, struct tile_source *source)
{
    const struct tile_range range = {begin, end};
    return kv_holder_source(holder, sequence, 1, LAYER, HEAD, &(struct kv_view){&range, 1, 0},
                            source, NULL);
}

/* Of the first incarnations. */
static enum status fork_to(struct kv_holder *holder, uint64_t parent, uint64_t child,
                           uint32_t n_tokens, struct kv_heads heads, struct error *error)
{
    const struct kv_fork fork = {.parent = parent,
                                 .parent_incarnation = 1,
                                 .child = child,
                                 .child_incarnation = 1,
                                 .n_tokens = n_tokens};
    return kv_holder_fork(holder, &fork, heads, error);
}

/* To sequence 1. Calls for more than four tokens are refused before they read any. */
static enum status append_zeros(struct kv_holder *holder, struct kv_heads heads, uint32_t first,
                                uint32_t n_tokens, struct error *error)
{
    static const float zeros[4 * D];
    const struct kv_append append = {.first = first, .n_tokens = n_tokens, .k = zeros, .v = zeros};
    return kv_holder_append(holder, 1, 1, heads, &append, error);
}

static enum status reserve(struct kv_holder *holder, uint64_t sequence, uint32_t begin,
                           uint32_t end, uint32_t shared)
{
    const struct span span = {begin, end};
    return kv_holder_reserve(holder, sequence, 1, &span, 1, shared, NULL);
}

static void test_appended_tokens_are_found_again(void **state)
{
    struct kv_holder *holder = holder_of(100);
    struct tile_source source = {0};
    const struct span spans[] = {{256, 1024}, {1536, 2048}}; /* two spans of a longer sequence */
    assert_int_equal(kv_holder_reserve(holder, 9, 1, spans, 2, 0, NULL), STATUS_OK);
    assert_int_equal(kv_holder_usage(holder).pages_reserved, 5 * N_PLANES);
    assert_int_equal(kv_holder_usage(holder).pages_taken, 0);

    /* All tokens are sent, only owned ones are kept. */
    for (uint32_t first = 0, n; first < 2100; first += n) {
        n = first % 3 == 0 ? 1 : 300;
        n = first + n < 2100 ? n : 2100 - first;
        assert_int_equal(append_all(holder, 9, first, n, 1), STATUS_OK);
        assert_int_equal(kv_holder_mark(holder, 9, 1, all_heads), first + n);
    }
    assert_int_equal(kv_holder_usage(holder).pages_taken, 5 * N_PLANES);
    for (uint32_t plane = 0; plane < N_PLANES; plane++) {
        const struct tile_range ranges[] = {{2, 8}, {12, 16}};
        assert_int_equal(kv_holder_source(holder, 9, 1, LAYER + plane / N_HEADS,
                                          HEAD + plane % N_HEADS, &(struct kv_view){ranges, 2, 0},
                                          &source, NULL),
                         STATUS_OK);
        for (uint32_t token = 256; token < 2048; token += token == 1023 ? 513 : 1)
            check_token(&source, plane, token, 1);
    }
    assert_int_equal(source_of(holder, 9, 1, 8, &source), STATUS_PROTOCOL);   /* not owned */
    assert_int_equal(source_of(holder, 9, 7, 9, &source), STATUS_PROTOCOL);   /* half of it */
    assert_int_equal(source_of(holder, 9, 15, 17, &source), STATUS_PROTOCOL); /* beyond */
    kv_holder_destroy(holder);
}

static void test_gaps_duplicates_and_overlaps(void **state)
{
    struct kv_holder *holder = holder_of(100);
    struct tile_source source = {0};
    struct error error;
    assert_int_equal(reserve(holder, 1, 0, 1024, 0), STATUS_OK);
    assert_int_equal(append_all(holder, 1, 0, 200, 1), STATUS_OK);
    assert_int_equal(append_all(holder, 1, 201, 5, 2), STATUS_PROTOCOL); /* token 200 is missing */
    assert_int_equal(append_zeros(holder, one_head, 300, 1, &error), STATUS_PROTOCOL);
    assert_non_null(strstr(error.text, "300"));
    assert_non_null(strstr(error.text, "200"));
    assert_int_equal(append_all(holder, 1, 0, 200, 3), STATUS_OK);   /* again: ignored */
    assert_int_equal(append_all(holder, 1, 150, 106, 4), STATUS_OK); /* 50 old, 56 new */
    assert_int_equal(kv_holder_mark(holder, 1, 1, all_heads), 256);
    assert_int_equal(source_of(holder, 1, 0, 2, &source), STATUS_OK);
    for (uint32_t token = 0; token < 256; token++)
        check_token(&source, 0, token, token < 200 ? 1 : 4);

    /* One head is ahead: the mark of all is the smallest; a query wants its own head's. */
    assert_int_equal(append(holder, 1, 1, LAYER, HEAD + 1, 1, 256, 128, 5), STATUS_OK);
    assert_int_equal(kv_holder_mark(holder, 1, 1, all_heads), 256);
    assert_int_equal(kv_holder_mark(holder, 1, 1, (struct kv_heads){LAYER, HEAD + 1, 1}), 384);
    assert_int_equal(source_of(holder, 1, 0, 3, &source), STATUS_PROTOCOL);
    assert_int_equal(kv_holder_source(holder, 1, 1, LAYER, HEAD + 1,
                                      &(struct kv_view){&(struct tile_range){2, 3}, 1, 0}, &source,
                                      NULL),
                     STATUS_OK);
    kv_holder_destroy(holder);
}

static void test_reservations_are_kept_and_exhausted(void **state)
{
    struct kv_holder *holder = holder_of(4 * N_PLANES);
    assert_int_equal(reserve(holder, 1, 0, 512, 0), STATUS_OK);
    assert_int_equal(reserve(holder, 2, 0, 768, 0), STATUS_EXHAUSTED);
    assert_int_equal(kv_holder_usage(holder).sequences, 1);
    assert_int_equal(reserve(holder, 1, 256, 1280, 0), STATUS_EXHAUSTED); /* as it was before */
    assert_int_equal(append_all(holder, 1, 0, 512, 1), STATUS_OK);
    assert_int_equal(append_all(holder, 1, 512, 1, 1), STATUS_OK); /* not owned: skipped */
    assert_int_equal(kv_holder_usage(holder).pages_taken, 2 * N_PLANES);
    assert_int_equal(reserve(holder, 2, 0, 512, 0), STATUS_OK);
    assert_int_equal(reserve(holder, 1, 0, 512, 0), STATUS_OK); /* known already */
    assert_int_equal(kv_holder_usage(holder).pages_reserved, 4 * N_PLANES);
    kv_holder_close(holder, 1, 1);
    assert_int_equal(kv_holder_usage(holder).pages_taken, 0);
    assert_int_equal(reserve(holder, 2, 512, 1024, 0), STATUS_OK);
    assert_int_equal(append_all(holder, 2, 0, 1024, 2), STATUS_OK);
    assert_int_equal(kv_holder_usage(holder).pages_taken, 4 * N_PLANES);
    kv_holder_close(holder, 2, 1);
    assert_int_equal(kv_holder_usage(holder).pages_reserved, 0);
    kv_holder_destroy(holder);

    holder = NULL;
    assert_int_equal(kv_holder_create(&holder, kernels_all[0], NULL, &shape, 100, NULL),
                     STATUS_EXHAUSTED);
    assert_null(holder);
}

static void test_growing_in_both_directions_keeps_tokens(void **state)
{
    struct kv_holder *holder = holder_of(100);
    struct tile_source source = {0};
    assert_int_equal(reserve(holder, 1, 1024, 1280, 0), STATUS_OK);
    assert_int_equal(reserve(holder, 1, 256, 512, 0), STATUS_OK); /* before it, nothing has come */
    assert_int_equal(append_all(holder, 1, 0, 600, 1), STATUS_OK);
    assert_int_equal(reserve(holder, 1, 512, 768, 0), STATUS_INVALID); /* token 512 has passed */
    assert_int_equal(reserve(holder, 1, 768, 1024, 0), STATUS_OK);
    assert_int_equal(reserve(holder, 1, 2048, 4096, 0), STATUS_OK);
    assert_int_equal(append_all(holder, 1, 600, 2000, 2), STATUS_OK);
    assert_int_equal(source_of(holder, 1, 2, 4, &source), STATUS_OK);
    check_token(&source, 0, 256, 1);
    check_token(&source, 0, 511, 1);
    assert_int_equal(source_of(holder, 1, 6, 10, &source), STATUS_OK); /* joined */
    check_token(&source, 0, 768, 2);
    check_token(&source, 0, 1279, 2);
    assert_int_equal(source_of(holder, 1, 4, 6, &source), STATUS_PROTOCOL);
    kv_holder_destroy(holder);
}

static void test_fork_shares_pages_and_outlives_the_parent(void **state)
{
    struct kv_holder *holder = holder_of(9 * N_PLANES);
    struct tile_source source = {0};
    assert_int_equal(reserve(holder, 1, 0, 1280, 0), STATUS_OK);
    assert_int_equal(append_all(holder, 1, 0, 1200, 1), STATUS_OK);
    for (uint64_t child = 2; child <= 3; child++) {
        assert_int_equal(reserve(holder, child, 0, 1536, 1024), STATUS_OK);
        for (uint32_t layer = LAYER; layer < LAYER + N_LAYERS; layer++)
            for (int again = 0; again < 2; again++)
                assert_int_equal(
                    fork_to(holder, 1, child, 1024, (struct kv_heads){layer, HEAD, N_HEADS}, NULL),
                    STATUS_OK);
        assert_int_equal(kv_holder_mark(holder, child, 1, all_heads), 1024);
    }
    assert_int_equal(kv_holder_usage(holder).pages_taken, 5 * N_PLANES);
    assert_int_equal(kv_holder_usage(holder).pages_reserved, 9 * N_PLANES);
    kv_holder_close(holder, 1, 1);
    assert_int_equal(kv_holder_usage(holder).pages_taken, 4 * N_PLANES);       /* four are shared */
    assert_int_equal(fork_to(holder, 1, 3, 1024, all_heads, NULL), STATUS_OK); /* late repetition */
    assert_int_equal(append_all(holder, 2, 1024, 512, 2), STATUS_OK);
    assert_int_equal(append_all(holder, 3, 1024, 512, 3), STATUS_OK);
    for (uint64_t child = 2; child <= 3; child++) {
        assert_int_equal(source_of(holder, child, 0, 12, &source), STATUS_OK);
        for (uint32_t token = 0; token < 1536; token++)
            check_token(&source, 0, token, token < 1024 ? 1 : (uint32_t)child);
    }
    kv_holder_close(holder, 3, 1);
    kv_holder_close(holder, 2, 1);
    assert_int_equal(kv_holder_usage(holder).pages_taken, 0);
    assert_int_equal(kv_holder_usage(holder).pages_reserved, 0);
    kv_holder_destroy(holder);
}

static void test_fork_that_cannot_be_exact_is_refused(void **state)
{
    struct kv_holder *holder = holder_of(100);
    assert_int_equal(reserve(holder, 1, 0, 1024, 0), STATUS_OK);
    assert_int_equal(append_all(holder, 1, 0, 511, 1), STATUS_OK);
    assert_int_equal(reserve(holder, 2, 0, 1024, 512), STATUS_OK);
    const struct {
        uint64_t parent, child;
        uint32_t n_tokens, layer, head, n_heads;
        enum status status;
    } cases[] = {
        {1, 2, 512, LAYER, HEAD, 1, STATUS_INVALID}, /* token 511 has not arrived */
        {1, 2, 200, LAYER, HEAD, 1, STATUS_INVALID}, /* not whole pages */
        {1, 2, UINT32_MAX - 255, LAYER, HEAD, 1, STATUS_INVALID},
        {7, 2, 256, LAYER, HEAD, 1, STATUS_NOT_FOUND},
        {1, 7, 256, LAYER, HEAD, 1, STATUS_NOT_FOUND},
        {1, 2, 256, LAYER - 1, HEAD, 1, STATUS_INVALID},
        {1, 2, 256, LAYER, HEAD, N_HEADS + 1, STATUS_INVALID},
        {1, 2, 256, LAYER, HEAD + 1, UINT32_MAX, STATUS_INVALID},
        {1, 2, 256, LAYER, HEAD, 0, STATUS_INVALID},
        {2, 2, 256, LAYER, HEAD, 1, STATUS_INVALID}, /* of itself */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(fork_to(holder, cases[i].parent, cases[i].child, cases[i].n_tokens,
                                 (struct kv_heads){cases[i].layer, cases[i].head, cases[i].n_heads},
                                 NULL),
                         cases[i].status);
    /* Until the fork has come, tokens below 512 have no pages. */
    assert_int_equal(append_all(holder, 2, 0, 100, 1), STATUS_PROTOCOL);
    assert_int_equal(append_all(holder, 2, 512, 100, 1), STATUS_PROTOCOL);
    /* The child has a page that the parent does not own. */
    assert_int_equal(reserve(holder, 3, 0, 512, 0), STATUS_OK);
    assert_int_equal(reserve(holder, 4, 256, 512, 0), STATUS_OK);
    assert_int_equal(append_all(holder, 4, 0, 512, 1), STATUS_OK);
    assert_int_equal(fork_to(holder, 4, 3, 512, one_head, NULL), STATUS_INVALID);
    /* The child has written already. */
    assert_int_equal(append_all(holder, 3, 0, 10, 1), STATUS_OK);
    assert_int_equal(append_all(holder, 1, 511, 1, 1), STATUS_OK);
    assert_int_equal(fork_to(holder, 1, 3, 512, one_head, NULL), STATUS_INVALID);
    kv_holder_destroy(holder);
}

static void test_incarnations(void **state)
{
    struct kv_holder *holder = holder_of(100);
    const struct span span = {0, 512};
    struct tile_source source = {0};
    assert_int_equal(kv_holder_reserve(holder, 1, 5, &span, 1, 0, NULL), STATUS_OK);
    assert_int_equal(append(holder, 1, 4, LAYER, HEAD, 1, 0, 10, 1), STATUS_NOT_FOUND);
    assert_int_equal(append(holder, 1, 6, LAYER, HEAD, 1, 0, 10, 1), STATUS_NOT_FOUND);
    assert_int_equal(append(holder, 1, 5, LAYER, HEAD, 1, 0, 256, 1), STATUS_OK);
    assert_int_equal(kv_holder_reserve(holder, 1, 4, &span, 1, 0, NULL), STATUS_INVALID);
    kv_holder_close(holder, 1, 4); /* a late one */
    assert_int_equal(kv_holder_mark(holder, 1, 5, one_head), 256);
    assert_int_equal(kv_holder_mark(holder, 1, 4, one_head), 0);
    assert_int_equal(kv_holder_reserve(holder, 1, 6, &span, 1, 0, NULL), STATUS_OK);
    assert_int_equal(kv_holder_usage(holder).sequences, 1);
    assert_int_equal(kv_holder_usage(holder).pages_taken, 0);
    assert_int_equal(kv_holder_source(holder, 1, 5, LAYER, HEAD,
                                      &(struct kv_view){&(struct tile_range){0, 1}, 1, 0}, &source,
                                      NULL),
                     STATUS_NOT_FOUND);
    kv_holder_close(holder, 1, 6);
    kv_holder_close(holder, 1, 6);
    kv_holder_close(holder, 77, 1);
    assert_int_equal(append(holder, 1, 6, LAYER, HEAD, 1, 0, 10, 1), STATUS_NOT_FOUND);
    assert_int_equal(kv_holder_usage(holder).sequences, 0);
    kv_holder_destroy(holder);
}

static void test_hostile_numbers_do_no_harm(void **state)
{
    struct kv_holder *holder = holder_of(64);
    struct tile_source source = {0};
    static const struct span bad[] = {
        {0, 0},   {256, 0},        {0, 100},
        {1, 256}, {0, UINT32_MAX}, {0x80000000u, 0x80000100u},
        {256, 1}, {128, 384},      {UINT32_MAX, 256},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(kv_holder_reserve(holder, 1, 1, &bad[i], 1, 0, NULL), STATUS_INVALID);
    const struct span twice[] = {{0, 512}, {256, 768}}, back[] = {{512, 768}, {0, 256}};
    assert_int_equal(kv_holder_reserve(holder, 1, 1, twice, 2, 0, NULL), STATUS_INVALID);
    assert_int_equal(kv_holder_reserve(holder, 1, 1, back, 2, 0, NULL), STATUS_INVALID);
    assert_int_equal(reserve(holder, 1, 0, 256, 100), STATUS_INVALID);
    assert_int_equal(reserve(holder, 1, 0, 0x80000000u, 0), STATUS_EXHAUSTED);
    assert_int_equal(reserve(holder, 1, 0, 0x80000000u, 0x80000000u), STATUS_EXHAUSTED);
    const struct span far[] = {{0, 256}, {0x7fffff00u, 0x80000000u}};
    assert_int_equal(kv_holder_reserve(holder, 1, 1, far, 2, 0, NULL), STATUS_EXHAUSTED);
    assert_int_equal(kv_holder_usage(holder).sequences, 0);

    /* The last page of the longest sequence is one like any other. */
    assert_int_equal(reserve(holder, 1, 0x7fffff00u, 0x80000000u, 0), STATUS_OK);
    assert_int_equal(append_zeros(holder, one_head, 0x7ffffffeu, 4, NULL), STATUS_PROTOCOL);
    assert_int_equal(append_zeros(holder, one_head, UINT32_MAX, UINT32_MAX, NULL), STATUS_PROTOCOL);
    assert_int_equal(append_all(holder, 1, 0x7fffff00u, 256, 1), STATUS_OK);
    assert_int_equal(source_of(holder, 1, 0xfffffe, 0x1000000, &source), STATUS_OK);
    check_token(&source, 0, 0x7fffffffu, 1);
    assert_int_equal(source_of(holder, 1, 0xffffff, 0x1000001, &source), STATUS_PROTOCOL);
    assert_int_equal(source_of(holder, 1, 0, UINT32_MAX, &source), STATUS_PROTOCOL);
    assert_int_equal(source_of(holder, 1, UINT32_MAX, 1, &source), STATUS_PROTOCOL);
    assert_int_equal(source_of(holder, 1, 5, 5, &source), STATUS_PROTOCOL);
    static const uint32_t planes[][3] = {
        {0, HEAD, 1},         {LAYER + N_LAYERS, HEAD, 1},  {UINT32_MAX, HEAD, 1},
        {LAYER, HEAD - 1, 1}, {LAYER, HEAD + N_HEADS, 1},   {LAYER, HEAD, N_HEADS + 1},
        {LAYER, HEAD, 0},     {LAYER, HEAD + 1, UINT32_MAX}};
    for (size_t i = 0; i < sizeof(planes) / sizeof(planes[0]); i++) {
        const uint32_t *p = planes[i];
        assert_int_equal(append_zeros(holder, (struct kv_heads){p[0], p[1], p[2]}, 0, 1, NULL),
                         STATUS_PROTOCOL);
        assert_int_equal(kv_holder_mark(holder, 1, 1, (struct kv_heads){p[0], p[1], p[2]}), 0);
    }
    /* Sequences without pages are bounded too. */
    uint64_t id = 100;
    while (kv_holder_reserve(holder, id, 1, NULL, 0, 0, NULL) == STATUS_OK && id < 1000000)
        id++;
    assert_true(id > 1000 && id < 1000000);
    kv_holder_destroy(holder);
    kv_holder_destroy(NULL);
}

static void test_many_sequences_are_found(void **state)
{
    struct kv_holder *holder = holder_of(3000 * N_PLANES);
    for (uint64_t id = 0; id < 3000; id++)
        assert_int_equal(reserve(holder, id << 32 | id * 64, 0, 256, 0), STATUS_OK);
    for (uint64_t id = 0; id < 3000; id += 2)
        kv_holder_close(holder, id << 32 | id * 64, 1);
    for (uint64_t id = 0; id < 3000; id++)
        assert_int_equal(append_all(holder, id << 32 | id * 64, 0, 1, 1),
                         id % 2 ? STATUS_OK : STATUS_NOT_FOUND);
    assert_int_equal(kv_holder_usage(holder).sequences, 1500);
    kv_holder_destroy(holder); /* closes what is open */
}

/* A forked sequence attends as one that was written afresh. */
static void test_attention_over_a_fork_has_the_same_bits(void **state)
{
    struct kv_holder *holder = holder_of(20 * N_PLANES);
    struct thread_pool *pool = NULL;
    struct attend *attend = NULL;
    const struct attend_shape attend_shape = {KV_F32, D, 2, 1e-5f, 0.0f};
    assert_int_equal(thread_pool_create(&pool, 2, NULL), STATUS_OK);
    assert_int_equal(attend_create(&attend, kernels_all[0], NULL, pool, &attend_shape, NULL),
                     STATUS_OK);
    assert_int_equal(reserve(holder, 1, 0, 1280, 0), STATUS_OK);
    assert_int_equal(append_all(holder, 1, 0, 1200, 7), STATUS_OK);
    assert_int_equal(reserve(holder, 2, 0, 1280, 1024), STATUS_OK);
    assert_int_equal(fork_to(holder, 1, 2, 1024, all_heads, NULL), STATUS_OK);
    kv_holder_close(holder, 1, 1);
    assert_int_equal(reserve(holder, 3, 0, 1280, 0), STATUS_OK);
    for (uint32_t t = 1024; t < 1280; t += 16)
        assert_int_equal(append(holder, 2, 1, LAYER, HEAD, N_HEADS, t, 16, 8), STATUS_OK);
    assert_int_equal(append(holder, 3, 1, LAYER, HEAD, N_HEADS, 0, 1024, 7), STATUS_OK);
    assert_int_equal(append(holder, 3, 1, LAYER, HEAD, N_HEADS, 1024, 256, 8), STATUS_OK);

    float q[2 * D], out[2][2 * (D + 2)];
    for (int i = 0; i < 2 * D; i++)
        q[i] = (float)(i - D) / 4.0f;
    for (uint64_t id = 2; id <= 3; id++) {
        const struct tile_range range = {0, 10};
        struct attend_work work = {.q = q,
                                   .q_token_stride = sizeof(q) / sizeof(q[0]),
                                   .n_tokens = 1,
                                   .position = 1280,
                                   .ranges = &range,
                                   .n_ranges = 1,
                                   .out = out[id - 2]};
        assert_int_equal(source_of(holder, id, 0, 10, &work.source), STATUS_OK);
        assert_int_equal(attend_out_floats(&attend_shape, &work), 2 * (D + 2));
        assert_int_equal(attend_run(attend, &work, 1, NULL), STATUS_OK);
    }
    assert_memory_equal(out[0], out[1], sizeof(out[0]));
    assert_true(out[0][2] > 1.0f); /* l: many tokens have weight */
    attend_destroy(attend);
    thread_pool_destroy(pool);
    kv_holder_destroy(holder);
}

/* Rows in steps of 300 over 40 pages: the layer without a window keeps all, the other one what rows
 * to come see; the reservation is of that from the beginning. */
static void test_what_no_row_to_come_sees_is_released(void **state)
{
    enum { WINDOW = 700, N_PAGES = 40, MOST = 3 + 1 + (254 + CHUNK) / 256 };
    struct kv_holder *holder = holder_with_window((N_PAGES + MOST) * N_HEADS, WINDOW);
    struct tile_source source = {0};
    struct error error;
    assert_int_equal(reserve(holder, 1, 0, N_PAGES * PAGE_TOKENS, 0), STATUS_OK);
    assert_int_equal(kv_holder_usage(holder).pages_reserved, (N_PAGES + MOST) * N_HEADS);
    for (uint32_t first = 0; first < N_PAGES * PAGE_TOKENS; first += 300) {
        const uint32_t left = N_PAGES * PAGE_TOKENS - first, n = left < 300 ? left : 300;
        assert_int_equal(append_all(holder, 1, first, n, 1), STATUS_OK);
        const uint32_t whole = (first + n + PAGE_TOKENS - 1) / PAGE_TOKENS;
        assert_true(kv_holder_usage(holder).pages_taken <= (whole + MOST) * N_HEADS);
        assert_int_equal(kv_holder_usage(holder).pages_reserved, (N_PAGES + MOST) * N_HEADS);
        /* all that the step's rows see is there */
        const uint32_t begin = first + 1 > WINDOW ? first + 1 - WINDOW : 0;
        const struct tile_range range = {0, (first + n) / TILE_TOKENS};
        for (uint32_t layer = 0; layer < N_LAYERS && begin / TILE_TOKENS < range.end; layer++) {
            assert_int_equal(kv_holder_source(holder, 1, 1, LAYER + layer, HEAD,
                                              &(struct kv_view){&range, 1, begin}, &source, NULL),
                             STATUS_OK);
            for (uint32_t token = begin; token < range.end * TILE_TOKENS; token += 31)
                check_token(&source, layer * N_HEADS, token, 1);
        }
    }
    /* The last step began at 10,200, in page 39: three pages before it are there. */
    assert_int_equal(kv_holder_usage(holder).pages_taken, (N_PAGES + 4) * N_HEADS);
    const struct tile_range gone = {71, 80}, there = {72, 80};
    assert_int_equal(kv_holder_source(holder, 1, 1, LAYER + 1, HEAD, &(struct kv_view){&gone, 1, 0},
                                      &source, &error),
                     STATUS_NOT_FOUND);
    assert_non_null(strstr(error.text, "9216"));
    assert_int_equal(kv_holder_source(holder, 1, 1, LAYER + 1, HEAD,
                                      &(struct kv_view){&there, 1, 0}, &source, NULL),
                     STATUS_OK);
    /* A repetition of what has gone changes nothing; the mark stays. */
    assert_int_equal(append_all(holder, 1, 300, 300, 2), STATUS_OK);
    assert_int_equal(kv_holder_mark(holder, 1, 1, (struct kv_heads){LAYER + 1, HEAD, N_HEADS}),
                     N_PAGES * PAGE_TOKENS);
    assert_int_equal(kv_holder_usage(holder).pages_taken, (N_PAGES + 4) * N_HEADS);
    kv_holder_destroy(holder);
}

/* Forks at the last page's edge have what they see, however far the parent goes; an earlier one
 * cannot be any more. What comes in larger steps than were counted for is refused. */
static void test_forks_of_a_windowed_layer(void **state)
{
    enum { WINDOW = 300 };
    struct kv_holder *holder = holder_with_window(400, WINDOW);
    struct tile_source source = {0};
    struct error error;
    assert_int_equal(reserve(holder, 1, 0, 10240, 0), STATUS_OK);
    for (uint32_t first = 0; first < 2304; first += 256)
        assert_int_equal(append_all(holder, 1, first, 256, 1), STATUS_OK);
    for (uint64_t child = 2; child <= 3; child++) {
        const uint32_t at = child == 2 ? 2048 : 1792;
        assert_int_equal(reserve(holder, child, 0, 4096, at), STATUS_OK);
        for (uint32_t layer = LAYER; layer < LAYER + N_LAYERS; layer++)
            assert_int_equal(
                fork_to(holder, 1, child, at, (struct kv_heads){layer, HEAD, N_HEADS}, &error),
                child == 2 || layer == LAYER ? STATUS_OK : STATUS_INVALID);
    }
    assert_non_null(strstr(error.text, "1536"));
    kv_holder_close(holder, 3, 1);
    const uint64_t before = kv_holder_usage(holder).pages_taken;
    for (uint32_t first = 2304; first < 10240; first += 256)
        assert_int_equal(append_all(holder, 1, first, 256, 1), STATUS_OK);
    assert_int_equal(kv_holder_usage(holder).pages_taken, before + 31 * N_HEADS);
    kv_holder_close(holder, 1, 1);

    const struct tile_range seen = {13, 16};
    assert_int_equal(kv_holder_source(holder, 2, 1, LAYER + 1, HEAD,
                                      &(struct kv_view){&seen, 1, 2048 + 1 - WINDOW}, &source,
                                      NULL),
                     STATUS_OK);
    for (uint32_t token = 13 * TILE_TOKENS; token < 2048; token++)
        check_token(&source, N_HEADS, token, 1);
    assert_int_equal(append_all(holder, 2, 2048, CHUNK + 1, 2), STATUS_PROTOCOL);
    assert_int_equal(append_all(holder, 2, 2048, CHUNK, 2), STATUS_OK);

    /* Kept at a page's edge it has a window there, and no more. */
    kv_holder_trim(holder, 2, 1, 2560);
    assert_int_equal(kv_holder_usage(holder).pages_taken, (10 + 2) * N_HEADS);
    assert_int_equal(reserve(holder, 4, 0, 4096, 2560), STATUS_OK);
    assert_int_equal(fork_to(holder, 2, 4, 2560, (struct kv_heads){LAYER + 1, HEAD, N_HEADS}, NULL),
                     STATUS_OK);
    kv_holder_close(holder, 2, 1);
    kv_holder_close(holder, 4, 1);
    assert_int_equal(kv_holder_usage(holder).pages_reserved, 0);
    kv_holder_destroy(holder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_appended_tokens_are_found_again),
        cmocka_unit_test(test_gaps_duplicates_and_overlaps),
        cmocka_unit_test(test_reservations_are_kept_and_exhausted),
        cmocka_unit_test(test_growing_in_both_directions_keeps_tokens),
        cmocka_unit_test(test_fork_shares_pages_and_outlives_the_parent),
        cmocka_unit_test(test_fork_that_cannot_be_exact_is_refused),
        cmocka_unit_test(test_incarnations),
        cmocka_unit_test(test_hostile_numbers_do_no_harm),
        cmocka_unit_test(test_many_sequences_are_found),
        cmocka_unit_test(test_attention_over_a_fork_has_the_same_bits),
        cmocka_unit_test(test_what_no_row_to_come_sees_is_released),
        cmocka_unit_test(test_forks_of_a_windowed_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
