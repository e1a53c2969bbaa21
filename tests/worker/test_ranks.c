/* test_ranks.c - several ranks: sums, rows, broadcasts, and the layers cut in stages and shards.
 *
 * The program starts itself under mpirun for each test, with the role of a rank as its arguments,
 * and skips where there is no mpirun. */
#include "tests/directory.h"
#include "tests/kernels/fake_device.h"
#include "tests/worker/fixture.h"

#include "sys/random.h"

#include <mpi.h>
#include <unistd.h>

#include "tests/worker/reference.c"

enum { N_TOKENS = 150 };
static const struct reference_shape SHAPES[] = {
    {3, 64, 8, 4, 32, 160, 97, false, false, WEIGHT_F32, .seed = 21},
    {4, 128, 8, 4, 32, 256, 130, true, false, WEIGHT_Q8_0, .seed = 22},
    {2, 64, 8, 8, 32, 352, 97, true, false, WEIGHT_F16, .seed = 23},
    /* biases, of which that of attn_output is added once; norms of heads and of what is added */
    {2, 64, 8, 4, 32, 96, 97, true, false, WEIGHT_F32, .seed = 24, .biases = true},
    {6, 64, 8, 2, 32, 96, 97, true, false, WEIGHT_F32, .seed = 25,
     .architecture = ARCHITECTURE_GEMMA3, .window = 30},
    {3, 64, 8, 8, 32, 96, 97, false, false, WEIGHT_F32, .seed = 26, .n_experts = 16, .n_used = 5},
    {2, 64, 8, 4, 32, 64, 130, true, false, WEIGHT_Q8_0, .seed = 27,
     .architecture = ARCHITECTURE_QWEN3MOE, .n_experts = 12, .n_used = 3},
};

static char program[FILE_PATH_BYTES];

static void random_tokens(int32_t *tokens, uint32_t n, uint32_t vocab)
{
    struct random_state random;
    random_seed(&random, 99);
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (int32_t)random_below(&random, vocab);
}

/* ---- in a rank: a failed check ends the job with status 1 ------------------------------------ */

static void must(bool ok, const char *what, const struct error *error)
{
    if (ok)
        return;
    fprintf(stderr, "%s%s%s\n", what, error != NULL ? ": " : "", error != NULL ? error->text : "");
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static struct group *new_group(void)
{
    struct group *group;
    struct error error;
    must(group_create(&group, NULL, NULL, &error) == STATUS_OK, "group_create", &error);
    return group;
}

static float part_of(uint32_t rank, size_t i)
{
    struct random_state random;
    random_seed(&random, rank * 1000003u + i);
    return random_normal(&random);
}

/* ((part 0 + part 1) + (part 2 + part 3)) + ..., those of ranks [first, end). */
static float tree_of(uint32_t first, uint32_t end, size_t i)
{
    uint32_t half = 1;
    if (end - first == 1)
        return part_of(first, i);
    while (2 * half < end - first)
        half *= 2;
    return tree_of(first, first + half, i) + tree_of(first + half, end, i);
}

static void rank_sums(struct kernels const *kernels, struct device *device)
{
    struct group *group = new_group();
    const uint32_t n_ranks = group_ranks(group);
    const size_t sizes[] = {1, 3, 4096, 16384, 16385, 50001};
    struct error error;
    must(group_arrange(group, 1, n_ranks, 50001, kernels, device, &error) == STATUS_OK, "arrange",
         &error);
    float *x = calloc(50001, sizeof(*x));
    void *there;
    must(kernels->memory_take(device, &there, 50001 * sizeof(*x), &error) == STATUS_OK, "memory",
         &error);
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        for (size_t i = 0; i < sizes[s]; i++)
            x[i] = part_of(group_rank(group), i);
        kernels->upload(device, there, x, sizes[s] * sizeof(*x));
        must(group_sum(group, there, sizes[s], &error) == STATUS_OK, "sum", &error);
        kernels->download(device, x, there, sizes[s] * sizeof(*x));
        must(kernels->finish(device, &error) == STATUS_OK, "finish", &error);
        for (size_t i = 0; i < sizes[s]; i++) {
            const float expected = tree_of(0, n_ranks, i);
            must(memcmp(&x[i], &expected, sizeof(float)) == 0, "a sum is not the tree's", NULL);
        }
    }
    uint64_t mine[2] = {group_rank(group), 77}, all[32] = {0};
    must(group_collect(group, mine, all, sizeof(mine), &error) == STATUS_OK, "collect", &error);
    for (uint32_t i = 0; i < n_ranks && group_rank(group) == 0; i++)
        must(all[2 * i] == i && all[2 * i + 1] == 77, "collected in order", NULL);
    uint32_t largest = group_rank(group) == 1 ? 9 : group_rank(group);
    must(group_largest(group, &largest, &error) == STATUS_OK && largest == 9, "largest", &error);
    kernels->memory_give(device, there);
    free(x);
    group_destroy(group);
}

/* Bursts of messages of very different sizes arrive whole and in order. */
static void rank_broadcasts(void)
{
    enum { MESSAGES = 60 };
    struct group *group = new_group();
    struct error error;
    uint8_t *bytes = calloc(MESSAGES, 30000);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        const size_t size = (size_t)i * i * i % 30000;
        memset(bytes, (int)i, size);
        if (group_rank(group) == 0) {
            must(group_broadcast(group, bytes, size, &error) == STATUS_OK, "broadcast", &error);
            continue;
        }
        const uint8_t *received;
        size_t n;
        must(group_receive(group, &received, &n, &error) == STATUS_OK, "receive", &error);
        must(n == size && (n == 0 || memcmp(received, bytes, n) == 0), "broadcast arrives as sent",
             NULL);
    }
    must(group_flush(group, &error) == STATUS_OK && !group_is_sending(group), "flush", &error);
    free(bytes);
    group_destroy(group);
}

/* Runs the prompt in chunks; who has the results writes each chunk's last logits to `out`. Two
 * steps are in flight, as a stage goes on to the next one when it has sent its rows. The first half of
 * each chunk is a step of its own of which nobody wants anything: in the last layer its ranks sum nothing. */
static void rank_forward(const char *path, const char *out, uint32_t shape_index, uint32_t n_stages,
                         uint32_t tensor, uint32_t chunk, enum kv_type kv_type, bool at_segments,
                         const struct kernels *table)
{
    const struct reference_shape *shape = &SHAPES[shape_index];
    struct group *group = new_group();
    struct fixture f;
    const struct fixture_layout layout = {n_stages, tensor, 1, kv_type, NULL, at_segments, table};
    fixture_open(&f, shape, path, &layout, group);
    int32_t tokens[N_TOKENS];
    random_tokens(tokens, N_TOKENS, shape->vocab);
    const bool answers =
        group_rank(group) / group_tensor(group) + 1 == n_stages && group_shard(group) == 0;
    FILE *file = answers ? fopen(out, "wb") : NULL;
    must(!answers || file != NULL, out, NULL);
    for (uint32_t position = 0; position < N_TOKENS; position += chunk) {
        const uint32_t n = N_TOKENS - position < chunk ? N_TOKENS - position : chunk;
        const struct fixture_segment halves[] = {
            {1, position, n / 2, tokens, LONGSPAN__WANT__WANT_NOTHING, 0},
            {1, position + n / 2, n - n / 2, tokens, LONGSPAN__WANT__WANT_LOGITS, 9}};
        if (n / 2 > 0)
            fixture_run(&f, &halves[0], 1);
        fixture_run(&f, &halves[1], 1);
        must(f.engine.results->answers.n_rows == answers, "results are where they belong", NULL);
        if (!answers)
            continue;
        fwrite(f.engine.results->logits, sizeof(float), shape->vocab, file);
        for (uint32_t i = 0; i < 9; i++) {
            const struct candidate *best = &f.engine.results->answers.best[i];
            must(f.engine.results->logits[best->id] == best->logit, "a candidate is of the row",
                 NULL);
            must(i == 0 || best[-1].logit >= best->logit, "candidates descend", NULL);
        }
    }
    struct error error;
    must(group_flush(group, &error) == STATUS_OK, "flush", &error);
    if (answers)
        must(fclose(file) == 0, out, NULL);
    fixture_close(&f);
    group_destroy(group);
}

static int run_rank(int argc, char **argv)
{
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    if (strcmp(argv[1], "group") == 0) {
        struct thread_pool *pool;
        struct device *device = NULL;
        const struct kernels *kernels = argc > 2 ? &kernels_fake : &kernels_cpu_scalar;
        must(thread_pool_create(&pool, 1, NULL) == STATUS_OK &&
                 kernels->open(&device, pool, 0, NULL) == STATUS_OK,
             "a device", NULL);
        rank_sums(kernels, device);
        rank_broadcasts();
        kernels->close(device);
        thread_pool_destroy(pool);
    } else {
        rank_forward(argv[2], argv[3], (uint32_t)atoi(argv[4]), (uint32_t)atoi(argv[5]),
                     (uint32_t)atoi(argv[6]), (uint32_t)atoi(argv[7]), (enum kv_type)atoi(argv[8]),
                     atoi(argv[9]) != 0, atoi(argv[10]) != 0 ? &kernels_fake : NULL);
    }
    MPI_Finalize();
    return 0;
}

/* ---- in the test ----------------------------------------------------------------------------- */

/* Open MPI unloads its plugins, so that LeakSanitizer can neither name nor be told to pass over
 * what they kept: it looks at the tests that run in one process. */
#define NO_LEAK_CHECK "ASAN_OPTIONS=\"$ASAN_OPTIONS:detect_leaks=0\" "

static int mpirun(uint32_t n_ranks, const char *arguments)
{
    char command[8 * FILE_PATH_BYTES];
    snprintf(command, sizeof(command),
             NO_LEAK_CHECK
             "mpirun -n %u --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 %s %s %s",
             n_ranks, geteuid() == 0 ? "--allow-run-as-root" : "", program, arguments);
    return system(command);
}

static void skip_without_mpirun(void)
{
    if (system("mpirun --version >/dev/null 2>&1") != 0)
        skip();
}

static void test_sums_are_one_tree_on_all_ranks(void **state)
{
    skip_without_mpirun();
    assert_int_equal(mpirun(2, "group"), 0);
    assert_int_equal(mpirun(3, "group"), 0);
    assert_int_equal(mpirun(8, "group"), 0);
    assert_int_equal(mpirun(2, "group elsewhere"), 0); /* through host memory */
    assert_int_equal(mpirun(3, "group elsewhere"), 0);
}

/* Logits of each chunk's last token, by one rank in this process, which has no MPI. */
static float *one_rank(const struct reference_shape *shape, const char *path, uint32_t chunk,
                       enum kv_type kv_type)
{
    struct group *group;
    struct error error;
    fixture_ok(group_create(&group, NULL, NULL, &error), &error);
    struct fixture f;
    const struct fixture_layout layout = {1, 1, 1, kv_type, NULL, false, NULL};
    fixture_open(&f, shape, path, &layout, group);
    int32_t tokens[N_TOKENS];
    random_tokens(tokens, N_TOKENS, shape->vocab);
    float *rows = calloc((size_t)N_TOKENS * shape->vocab, sizeof(*rows)), *to = rows;
    assert_non_null(rows);
    for (uint32_t position = 0; position < N_TOKENS; position += chunk) {
        const uint32_t n = N_TOKENS - position < chunk ? N_TOKENS - position : chunk;
        const struct fixture_segment segment = {1, position, n, tokens, LONGSPAN__WANT__WANT_LOGITS,
                                                1};
        fixture_run(&f, &segment, 1);
        memcpy(to, f.engine.results->logits, shape->vocab * sizeof(float));
        to += shape->vocab;
    }
    fixture_close(&f);
    group_destroy(group);
    return rows;
}

static bool elsewhere; /* the ranks' memory is a device's */

static float *many_ranks(uint32_t shape, const char *path, uint32_t n_stages, uint32_t tensor,
                         uint32_t chunk, enum kv_type kv_type, bool at_segments)
{
    char arguments[4 * FILE_PATH_BYTES], out[FILE_PATH_BYTES + 32];
    snprintf(out, sizeof(out), "%s/logits", directory);
    snprintf(arguments, sizeof(arguments), "forward %s %s %u %u %u %u %d %d %d", path, out, shape,
             n_stages, tensor, chunk, (int)kv_type, (int)at_segments, (int)elsewhere);
    assert_int_equal(mpirun(n_stages * tensor, arguments), 0);
    char *data;
    size_t size;
    struct error error;
    fixture_ok(file_read(out, 1u << 30, &data, &size, &error), &error);
    assert_int_equal(size, (size_t)(N_TOKENS + chunk - 1) / chunk * SHAPES[shape].vocab * 4);
    return (float *)data;
}

static void make_model(uint32_t shape, char path[])
{
    snprintf(path, FILE_PATH_BYTES + 32, "%s/model.gguf", directory);
    reference_destroy(reference_create(&SHAPES[shape], path));
}

static void test_stages_leave_the_bits(void **state)
{
    skip_without_mpirun();
    static const uint32_t stages[][2] = {{0, 2}, {1, 3}, {5, 2}}; /* shape, stages */
    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
        char path[FILE_PATH_BYTES + 32];
        const uint32_t shape = stages[i][0], n_stages = stages[i][1];
        make_model(shape, path);
        const size_t vocab = SHAPES[shape].vocab;
        float *judge = one_rank(&SHAPES[shape], path, 16, KV_F16);
        float *rows = many_ranks(shape, path, n_stages, 1, 16, KV_F16, false);
        assert_memory_equal(rows, judge, (N_TOKENS + 15) / 16 * vocab * sizeof(float));
        free(judge);
        free(rows);
    }
}

static void test_stages_and_shards_with_memory_of_their_own(void **state)
{
    skip_without_mpirun();
    for (uint32_t shape = 1; shape <= 6; shape += 5) { /* dense, and with experts */
        char path[FILE_PATH_BYTES + 32];
        make_model(shape, path);
        float *judge = one_rank(&SHAPES[shape], path, 50, KV_F16);
        elsewhere = true;
        float *rows = many_ranks(shape, path, 2, 2, 50, KV_F16, true);
        elsewhere = false;
        assert_memory_equal(rows, judge,
                            (size_t)N_TOKENS / 50 * SHAPES[shape].vocab * sizeof(float));
        free(judge);
        free(rows);
    }
}

static double distance(const float *a, const float *b, size_t n)
{
    double *judge = calloc(n, sizeof(*judge));
    assert_non_null(judge);
    for (size_t i = 0; i < n; i++)
        judge[i] = (double)b[i];
    const double result = reference_distance(a, judge, n);
    free(judge);
    return result;
}

/* Shards as a plan cuts them, in every weight type and up to as many as there are segments. */
static void test_shards_cut_at_segments_leave_the_bits(void **state)
{
    skip_without_mpirun();
    static const struct {
        uint32_t shape, n_stages, tensor;
    } cases[] = {{0, 1, 4}, {1, 2, 2}, {2, 1, 8}, {3, 1, 2},
                 {4, 2, 2}, {5, 1, 2}, {5, 1, 8}, {6, 2, 4}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const uint32_t shape = cases[i].shape;
        char path[FILE_PATH_BYTES + 32];
        make_model(shape, path);
        float *judge = one_rank(&SHAPES[shape], path, 50, KV_F16);
        float *rows = many_ranks(shape, path, cases[i].n_stages, cases[i].tensor, 50, KV_F16, true);
        if (memcmp(rows, judge, (size_t)N_TOKENS / 50 * SHAPES[shape].vocab * sizeof(float)) != 0)
            fail_msg("shape %u, tensor %u: other bits than one rank", shape, cases[i].tensor);
        free(judge);
        free(rows);
    }
}

/* Shards cut elsewhere. Another order of sums, in f32: 1e-6. Where something is rounded to less (k
 * and v to half, activations to the 8 bits of Q8_0), a value close to the edge between two steps
 * may go to the other one; then half of the Q8_0 activations behind it round differently, and the
 * results differ by the noise of that rounding, as in test_forward.c: 4 deviations of 1.7%. With
 * f16 KV that happens in every prompt, so Q8_0 is tried with f32 here. */
static void test_other_shards_are_equal_up_to_rounding(void **state)
{
    skip_without_mpirun();
    const struct {
        uint32_t shape, n_stages, tensor;
        enum kv_type kv_type;
        double tolerance;
    } cases[] = {
        {0, 1, 3, KV_F16, 1e-4},
        {1, 2, 2, KV_F32, 1e-2},
        {5, 1, 3, KV_F32, 1e-4}, /* experts cut unevenly */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const uint32_t shape = cases[i].shape;
        char path[FILE_PATH_BYTES + 32];
        make_model(shape, path);
        float *judge = one_rank(&SHAPES[shape], path, 16, cases[i].kv_type);
        float *rows = many_ranks(shape, path, cases[i].n_stages, cases[i].tensor, 16,
                                 cases[i].kv_type, false);
        const double off =
            distance(rows, judge, (size_t)(N_TOKENS + 15) / 16 * SHAPES[shape].vocab);
        if (!(off < cases[i].tolerance))
            fail_msg("case %zu: off by %g", i, off);
        free(rows);
        free(judge);
    }
}

/* Sums have one order whatever the number of rows, so bits do not depend on chunks with shards
 * either. */
static void test_chunks_leave_the_bits_of_shards(void **state)
{
    skip_without_mpirun();
    char path[FILE_PATH_BYTES + 32];
    make_model(0, path);
    const size_t vocab = SHAPES[0].vocab;
    float *small = many_ranks(0, path, 1, 3, 5, KV_F16, false);
    float *large = many_ranks(0, path, 1, 3, 150, KV_F16, false);
    assert_memory_equal(small + (size_t)29 * vocab, large, vocab * sizeof(float));
    free(small);
    free(large);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return run_rank(argc, argv);
    if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums_are_one_tree_on_all_ranks),
        cmocka_unit_test(test_stages_leave_the_bits),
        cmocka_unit_test(test_stages_and_shards_with_memory_of_their_own),
        cmocka_unit_test(test_shards_cut_at_segments_leave_the_bits),
        cmocka_unit_test(test_other_shards_are_equal_up_to_rounding),
        cmocka_unit_test(test_chunks_leave_the_bits_of_shards),
    };
    return cmocka_run_group_tests_name("worker/ranks", tests, make_directory, remove_directory);
}
