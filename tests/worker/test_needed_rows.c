/* test_needed_rows.c - rows that nobody needs behind the last layer are left out, and only they.
 *
 * Products are counted by matrix, in a table of kernels around the CPU's; logits and scores are compared
 * with those of a prompt that was read token by token, of which every row is needed. */
#include "tests/directory.h"
#include "tests/kernels/fake_device.h"
#include "tests/worker/fixture.h"

#include "sys/random.h"
#include "worker/needed_rows.h"

#include "tests/worker/reference.c"

/* ---- rows that are moved --------------------------------------------------------------------- */

enum { HIDDEN = 3, MOST_SEGMENTS = 6, MOST_TOKENS = 9 };

static uint32_t n_copies;

/* Like a device's, whose areas must not overlap. */
static void copy_apart(struct device *device, void *to, const void *from, size_t bytes)
{
    assert_true((char *)to + bytes <= (const char *)from ||
                (const char *)from + bytes <= (char *)to);
    memcpy(to, from, bytes);
    n_copies++;
}

static const struct kernels moving = {.copy = copy_apart};
static const struct needed_rows moved = {&moving, NULL, HIDDEN};

/* Rows that count up. */
static void count_rows(float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n * HIDDEN; i++)
        x[i] = (float)i;
}

static void check_row(const float *x, uint32_t at, uint32_t row)
{
    for (uint32_t i = 0; i < HIDDEN; i++)
        assert_true(x[at * HIDDEN + i] == (float)(row * HIDDEN + i));
}

static void test_needed_rows_move_to_the_beginning(void **state)
{
    struct random_state random;
    random_seed(&random, 5);
    for (int c = 0; c < 500; c++) {
        struct step_segment segments[MOST_SEGMENTS] = {0};
        struct step step = {.n_segments = 1 + (uint32_t)random_below(&random, MOST_SEGMENTS),
                            .segments = segments};
        float x[MOST_SEGMENTS * MOST_TOKENS * HIDDEN], last[MOST_SEGMENTS * HIDDEN];
        for (uint32_t i = 0; i < step.n_segments; i++) {
            struct step_segment *segment = &segments[i];
            if (random_below(&random, 5) == 0) { /* has no rows */
                segment->error.status = STATUS_INVALID;
                continue;
            }
            segment->row = step.n_rows;
            segment->n_tokens = 1 + (uint32_t)random_below(&random, MOST_TOKENS);
            segment->n_needed = (uint32_t)random_below(&random, segment->n_tokens + 1);
            segment->needed = step.n_needed;
            segment->want = segment->n_needed > 0 && random_below(&random, 2) == 0
                                ? STEP_WANT_CANDIDATES
                                : STEP_WANT_NOTHING;
            step.n_rows += segment->n_tokens;
            step.n_needed += segment->n_needed;
        }
        count_rows(x, step.n_rows);
        needed_rows_gather(&moved, &step, x);
        memset(last, 0, sizeof(last));
        const float *wanted = needed_rows_wanted(&moved, &step, last, x);
        for (uint32_t i = 0, n = 0; i < step.n_segments; i++) {
            const struct step_segment *segment = &segments[i];
            const uint32_t end = segment->row + segment->n_tokens;
            if (segment->error.status != STATUS_OK)
                continue;
            for (uint32_t row = 0; row < segment->n_needed; row++)
                check_row(x, segment->needed + row, end - segment->n_needed + row);
            if (segment->want != STEP_WANT_NOTHING)
                check_row(wanted, n++, end - 1);
        }
    }
}

static void test_rows_that_stay_are_not_copied(void **state)
{
    struct step_segment segments[MOST_SEGMENTS] = {0};
    struct step step = {.n_segments = MOST_SEGMENTS, .segments = segments};
    float x[(MOST_SEGMENTS + MOST_TOKENS) * HIDDEN], last[MOST_SEGMENTS * HIDDEN];
    for (uint32_t i = 0; i < MOST_SEGMENTS; i++)
        segments[i] = (struct step_segment){
            .row = i, .n_tokens = 1, .n_needed = 1, .needed = i, .want = STEP_WANT_CANDIDATES};
    n_copies = 0;
    count_rows(x, MOST_SEGMENTS);
    needed_rows_gather(&moved, &step, x);
    assert_int_equal(n_copies, 0);
    assert_ptr_equal(needed_rows_wanted(&moved, &step, last, x), x);
    assert_int_equal(n_copies, 0);
    segments[2].want = STEP_WANT_NOTHING; /* two before it, three behind: two copies */
    assert_ptr_equal(needed_rows_wanted(&moved, &step, last, x), last);
    assert_int_equal(n_copies, 2);
    for (uint32_t i = 0; i + 1 < MOST_SEGMENTS; i++)
        check_row(last, i, i + (i >= 2));
    segments[0] = (struct step_segment){.n_tokens = MOST_TOKENS}; /* a chunk before them */
    for (uint32_t i = 1; i < MOST_SEGMENTS; i++) {
        segments[i].row += MOST_TOKENS - 1;
        segments[i].needed--;
    }
    n_copies = 0;
    count_rows(x, MOST_SEGMENTS + MOST_TOKENS);
    needed_rows_gather(&moved, &step, x);
    assert_int_equal(n_copies, 1);
    for (uint32_t i = 1; i < MOST_SEGMENTS; i++)
        check_row(x, i - 1, MOST_TOKENS - 1 + i);
}

/* ---- rows that are multiplied ---------------------------------------------------------------- */

static struct {
    const struct kernels *inner;
    struct kernels table; /* inner's, but for what counts */
    uint32_t n_prepared;
    uint32_t n_grouped; /* rows of experts, of all layers */
    struct {
        const struct matrix *weights;
        uint32_t n_rows;
    } products[256];
    uint32_t n_products;
} counter;

static void count_prepare(struct device *device, const float *x, uint32_t n_rows,
                          uint32_t n_columns, uint32_t types)
{
    assert_true(n_rows > 0);
    counter.n_prepared = n_rows;
    counter.inner->prepare(device, x, n_rows, n_columns, types);
}

static void count_matmul(struct device *device, const struct product *products, uint32_t n)
{
    assert_true(counter.n_products + n <= 256);
    for (uint32_t i = 0; i < n; i++) {
        counter.products[counter.n_products].weights = products[i].weights;
        counter.products[counter.n_products++].n_rows = counter.n_prepared;
    }
    counter.inner->matmul(device, products, n);
}

static void count_groups(struct device *device, const float *x, const struct row_groups *groups,
                         uint32_t n_columns, const struct group_product *products,
                         uint32_t n_products)
{
    counter.n_grouped += groups->end[groups->n - 1] * n_products;
    counter.inner->multiply_groups(device, x, groups, n_columns, products, n_products);
}

static const struct kernels *counting(const struct kernels *inner)
{
    struct error error;
    if (inner == NULL)
        fixture_ok(kernels_choose(&inner, NULL, &error), &error);
    counter.inner = inner;
    counter.table = *inner;
    counter.table.prepare = count_prepare;
    counter.table.matmul = count_matmul;
    counter.table.multiply_groups = count_groups;
    return &counter.table;
}

/* Rows that were multiplied by a matrix, in all. */
static uint32_t rows_of(const struct matrix *weights)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < counter.n_products; i++)
        n += counter.products[i].weights == weights ? counter.products[i].n_rows : 0;
    return n;
}

static void check_counts(const struct fixture *f, uint32_t n_rows, uint32_t n_needed)
{
    const struct reference_shape *shape = &f->shape;
    const uint32_t n_layers = f->shard->n_layers;
    for (uint32_t i = 0; i < n_layers; i++) {
        const struct shard_layer *layer = &f->shard->layers[i];
        const uint32_t behind = i + 1 < n_layers ? n_rows : n_needed;
        assert_int_equal(rows_of(&layer->k), n_rows);
        assert_int_equal(rows_of(&layer->v), n_rows);
        assert_int_equal(rows_of(&layer->q), behind);
        assert_int_equal(rows_of(&layer->attn_output), behind);
        if (shape->n_experts > 0) {
            assert_int_equal(rows_of(&layer->router), behind);
            continue;
        }
        assert_int_equal(rows_of(&layer->gate), behind);
        assert_int_equal(rows_of(&layer->up), behind);
        assert_int_equal(rows_of(&layer->down), behind);
    }
    if (shape->n_experts > 0) /* gate, up and down of each pair */
        assert_int_equal(counter.n_grouped,
                         3 * shape->n_used * ((n_layers - 1) * n_rows + n_needed));
}

/* Dense; a window and norms behind each part; experts; one layer, which is first and last. */
static const struct reference_shape SHAPES[] = {
    {3, 64, 8, 2, 32, 96, 97, false, false, WEIGHT_Q8_0, .seed = 1, .biases = true},
    {2, 64, 4, 2, 32, 96, 97, true, false, WEIGHT_F32, .seed = 7,
     .architecture = ARCHITECTURE_GEMMA2, .vectors = WEIGHT_BF16, .norm_offset = 1, .window = 40},
    {2, 64, 4, 2, 32, 96, 97, false, false, WEIGHT_F16, .seed = 9, .n_experts = 8, .n_used = 2},
    {1, 64, 4, 2, 32, 96, 97, true, false, WEIGHT_F16, .seed = 3},
};
enum { N_SHAPES = sizeof(SHAPES) / sizeof(SHAPES[0]), N_TOKENS = 300 };

/* Every sequence is the beginning of one text: row i of the judge is behind token i of each. */
struct text {
    int32_t tokens[N_TOKENS + 1];
    float *judge; /* [N_TOKENS][vocab] */
};

static void open_fixture(struct fixture *f, const struct reference_shape *shape, const char *path,
                         const struct kernels *table)
{
    struct group *group;
    struct error error;
    fixture_ok(group_create(&group, NULL, NULL, &error), &error);
    const struct fixture_layout layout = {1, 1, 2, KV_F16, NULL, false, table};
    fixture_open(f, shape, path, &layout, group);
}

static void close_fixture(struct fixture *f)
{
    struct group *group = f->group;
    fixture_close(f);
    group_destroy(group);
}

static void read_text(struct text *text, const struct reference_shape *shape, const char *path)
{
    struct random_state random;
    struct fixture f;
    random_seed(&random, 99);
    for (uint32_t i = 0; i <= N_TOKENS; i++)
        text->tokens[i] = (int32_t)random_below(&random, shape->vocab);
    text->judge = calloc((size_t)N_TOKENS * shape->vocab, sizeof(*text->judge));
    assert_non_null(text->judge);
    open_fixture(&f, shape, path, NULL);
    for (uint32_t i = 0; i < N_TOKENS; i++) {
        const struct fixture_segment segment = {1, i, 1, text->tokens, LONGSPAN__WANT__WANT_LOGITS,
                                                1};
        fixture_run(&f, &segment, 1);
        memcpy(text->judge + (size_t)i * shape->vocab, f.engine.results->logits,
               shape->vocab * sizeof(float));
    }
    close_fixture(&f);
}

/* Segments of a step; the first `n_scored` rows of each are scored. */
struct planned {
    struct fixture_segment segments[4];
    uint32_t n_scored[4];
    uint32_t n, n_needed;
};

static void run_planned(struct fixture *f, const struct text *text, const struct planned *planned)
{
    const struct results *results = f->engine.results;
    const uint32_t vocab = f->shape.vocab;
    struct fixture_step message;
    fixture_compose(&message, f->next_step++, planned->segments, planned->n);
    uint32_t n_rows = 0;
    for (uint32_t i = 0; i < planned->n; i++) {
        message.segments[i].next = (int32_t *)text->tokens + planned->segments[i].position + 1;
        message.segments[i].n_next = planned->n_scored[i];
        n_rows += planned->segments[i].n_tokens;
    }
    counter.n_products = counter.n_grouped = 0;
    fixture_run_step(f, &message);
    check_counts(f, n_rows, planned->n_needed);
    uint32_t n_logits = 0, n_scored = 0;
    for (uint32_t i = 0; i < planned->n; i++) {
        const struct fixture_segment *segment = &planned->segments[i];
        const float *rows = text->judge + (size_t)segment->position * vocab;
        for (uint32_t row = 0; row < planned->n_scored[i]; row++)
            assert_true(
                results->scores.named_logits[n_scored++] ==
                rows[(size_t)row * vocab + (size_t)text->tokens[segment->position + row + 1]]);
        if (segment->want == LONGSPAN__WANT__WANT_LOGITS)
            assert_memory_equal(results->logits + (size_t)vocab * n_logits++,
                                rows + (size_t)(segment->n_tokens - 1) * vocab,
                                vocab * sizeof(float));
    }
    assert_int_equal(results->n_logits, n_logits);
    assert_int_equal(results->scores.n_rows, n_scored);
}

static void check_steps(const struct reference_shape *shape, const char *path,
                        const struct text *text, const struct kernels *table)
{
    static const Longspan__Want NOTHING = LONGSPAN__WANT__WANT_NOTHING,
                                LOGITS = LONGSPAN__WANT__WANT_LOGITS;
    const int32_t *t = text->tokens;
    const struct planned steps[] = {
        /* the middle of a prompt */
        {{{1, 0, 60, t, NOTHING, 0}}, {0}, 1, 0},
        /* scored rows, which move by one; beside them another prompt */
        {{{1, 60, 1, t, NOTHING, 0}, {2, 0, 140, t, NOTHING, 0}, {3, 0, 20, t, NOTHING, 0}},
         {0, 140, 0},
         3,
         140},
        /* ends of prompts, over a tile's edge, decodes that nobody or somebody waits for */
        {{{1, 61, 150, t, LOGITS, 1},
          {2, 140, 1, t, NOTHING, 0},
          {3, 20, 1, t, LOGITS, 1},
          {4, 0, 33, t, LOGITS, 1}},
         {0, 0, 0, 32},
         4,
         1 + 1 + 33},
        /* all are needed */
        {{{1, 211, 1, t, LOGITS, 1}, {3, 21, 1, t, LOGITS, 1}}, {0}, 2, 2},
        /* none, in a step that could be recorded */
        {{{1, 212, 1, t, NOTHING, 0}, {3, 22, 1, t, NOTHING, 0}}, {0}, 2, 0},
        {{{1, 213, 1, t, NOTHING, 0}, {3, 23, 1, t, LOGITS, 1}}, {0}, 2, 1},
        {{{1, 214, 86, t, LOGITS, 1}}, {0}, 1, 1},
        {{{2, 141, 159, t, NOTHING, 0}}, {159}, 1, 159},
    };
    struct fixture f;
    open_fixture(&f, shape, path, counting(table));
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        run_planned(&f, text, &steps[i]);
    close_fixture(&f);
}

static void test_the_last_layer_leaves_rows_out(void **state)
{
    for (int i = 0; i < N_SHAPES; i++) {
        char path[FILE_PATH_BYTES + 32];
        struct text text;
        snprintf(path, sizeof(path), "%s/model.gguf", directory);
        reference_destroy(reference_create(&SHAPES[i], path));
        read_text(&text, &SHAPES[i], path);
        check_steps(&SHAPES[i], path, &text, NULL);
        check_steps(&SHAPES[i], path, &text, &kernels_fake);
        free(text.judge);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_needed_rows_move_to_the_beginning),
        cmocka_unit_test(test_rows_that_stay_are_not_copied),
        cmocka_unit_test(test_the_last_layer_leaves_rows_out),
    };
    return cmocka_run_group_tests_name("worker/needed_rows", tests, make_directory,
                                       remove_directory);
}
