/* test_load.c - shards of every split, put together, are the model; a wrong file is refused. */
#include "tests/directory.h"
#include "tests/worker/fixture.h"

#include "tests/worker/reference.c"

static struct reference *make_model(const struct reference_shape *shape, char path[])
{
    snprintf(path, FILE_PATH_BYTES + 32, "%s/model.gguf", directory);
    return reference_create(shape, path);
}

/* The rows of a loaded matrix as floats, by the device's own way of reading a row. */
static float *read_matrix(const struct fixture *f, const struct matrix *matrix)
{
    float *rows = calloc((size_t)matrix->n_rows * matrix->n_columns, sizeof(*rows));
    int32_t *ids = calloc(matrix->n_rows, sizeof(*ids));
    assert_non_null(rows);
    for (uint32_t i = 0; i < matrix->n_rows; i++)
        ids[i] = (int32_t)i;
    f->kernels->embed(f->device, rows, matrix, ids, matrix->n_rows, 0);
    free(ids);
    return rows;
}

/* `matrix` holds rows from row_begin and columns from column_begin on of the whole tensor. */
static void check_matrix(const struct fixture *f, const struct reference *reference,
                         const struct matrix *matrix, uint32_t layer, enum weights_id id,
                         uint32_t row_begin, uint32_t column_begin, uint32_t whole_columns)
{
    const float *whole = reference_tensor(reference, layer, id);
    float *rows = read_matrix(f, matrix);
    for (uint32_t row = 0; row < matrix->n_rows; row++)
        assert_memory_equal(rows + (size_t)row * matrix->n_columns,
                            whole + (size_t)(row_begin + row) * whole_columns + column_begin,
                            matrix->n_columns * sizeof(float));
    free(rows);
}

/* `vector` has n values of the whole one from `first` on, where the model has it at all. */
static void check_vector(const struct fixture *f, const struct reference *reference,
                         const struct matrix *vector, uint32_t layer, enum weights_id id,
                         uint32_t first, uint32_t n)
{
    if (reference_tensor(reference, layer, id) == NULL) {
        assert_null(vector->data);
        return;
    }
    assert_int_equal(vector->n_columns, n);
    check_matrix(f, reference, vector, layer, id, 0, first, 0);
}

/* The model's segments that lie in these columns, wherever the rank was cut. */
static void check_segments(const struct matrix *matrix, const uint32_t *begins, uint32_t n,
                           uint32_t columns_each, uint32_t column_begin)
{
    uint32_t n_segments = 0;
    for (uint32_t i = 1; i <= n; i++) {
        const uint32_t end = begins[i] * columns_each;
        if (end > column_begin && end < column_begin + matrix->n_columns)
            assert_int_equal(matrix->segment_end[n_segments++], end - column_begin);
    }
    assert_int_equal(matrix->n_segments, n_segments + 1);
    assert_int_equal(matrix->segment_end[n_segments], matrix->n_columns);
}

static void check_ffn(const struct fixture *f, const struct reference *reference,
                      const struct weights_segments *segments, const struct shard_layer *l,
                      uint32_t layer)
{
    const struct reference_shape *s = &f->shape;
    const struct shard_part *part = &f->shard->part;
    const uint32_t ffn_rows = part->ffn_end - part->ffn_begin;
    assert_int_equal(l->gate.n_rows, ffn_rows);
    assert_int_equal(l->up.n_rows, ffn_rows);
    assert_int_equal(l->down.n_columns, ffn_rows);
    check_matrix(f, reference, &l->gate, layer, WEIGHTS_FFN_GATE, part->ffn_begin, 0, s->hidden);
    check_matrix(f, reference, &l->up, layer, WEIGHTS_FFN_UP, part->ffn_begin, 0, s->hidden);
    check_matrix(f, reference, &l->down, layer, WEIGHTS_FFN_DOWN, 0, part->ffn_begin, s->ffn);
    check_segments(&l->down, segments->ffn, segments->n, 1, part->ffn_begin);
    assert_null(l->router.data);
    assert_null(l->gate_experts);
}

/* A rank has its experts whole, and the router of all. */
static void check_experts(const struct fixture *f, const struct reference *reference,
                          const struct shard_layer *l, uint32_t layer)
{
    const struct reference_shape *s = &f->shape;
    const struct shard_part *part = &f->shard->part;
    assert_int_equal(l->router.n_rows, s->n_experts);
    check_matrix(f, reference, &l->router, layer, WEIGHTS_FFN_ROUTER, 0, 0, s->hidden);
    for (uint32_t e = part->expert_begin; e < part->expert_end; e++) {
        const uint32_t i = e - part->expert_begin;
        assert_int_equal(l->gate_experts[i].n_rows, s->ffn);
        assert_int_equal(l->down_experts[i].n_rows, s->hidden);
        assert_int_equal(l->down_experts[i].n_columns, s->ffn);
        check_matrix(f, reference, &l->gate_experts[i], layer, WEIGHTS_FFN_GATE_EXPS, e * s->ffn, 0,
                     s->hidden);
        check_matrix(f, reference, &l->up_experts[i], layer, WEIGHTS_FFN_UP_EXPS, e * s->ffn, 0,
                     s->hidden);
        check_matrix(f, reference, &l->down_experts[i], layer, WEIGHTS_FFN_DOWN_EXPS, e * s->hidden,
                     0, s->ffn);
    }
    assert_null(l->gate.data);
}

static void check_layer(const struct fixture *f, const struct reference *reference,
                        const struct weights_segments *segments, uint32_t layer)
{
    const struct reference_shape *s = &f->shape;
    const struct shard_part *part = &f->shard->part;
    const struct shard_layer *l = &f->shard->layers[layer - f->shard->first_layer];
    const uint32_t kv = part->kv_head_begin * s->head_dim, q = kv * (s->n_heads / s->n_kv_heads);
    const uint32_t kv_rows = (part->kv_head_end - part->kv_head_begin) * s->head_dim;
    const uint32_t q_rows = kv_rows * (s->n_heads / s->n_kv_heads);

    assert_int_equal(l->q.n_rows, q_rows);
    assert_int_equal(l->k.n_rows, kv_rows);
    assert_int_equal(l->v.n_rows, kv_rows);
    assert_int_equal(l->attn_output.n_columns, q_rows);
    assert_int_equal(l->attn_output.n_rows, s->hidden);
    check_matrix(f, reference, &l->q, layer, WEIGHTS_ATTN_Q, q, 0, s->hidden);
    check_matrix(f, reference, &l->k, layer, WEIGHTS_ATTN_K, kv, 0, s->hidden);
    check_matrix(f, reference, &l->v, layer, WEIGHTS_ATTN_V, kv, 0, s->hidden);
    check_matrix(f, reference, &l->attn_output, layer, WEIGHTS_ATTN_OUTPUT, 0, q,
                 s->n_heads * s->head_dim);
    if (s->n_experts > 0)
        check_experts(f, reference, l, layer);
    else
        check_ffn(f, reference, segments, l, layer);
    check_segments(&l->attn_output, segments->kv_head, segments->n,
                   s->n_heads / s->n_kv_heads * s->head_dim, q);
    check_vector(f, reference, &l->q_bias, layer, WEIGHTS_ATTN_Q_BIAS, q, q_rows);
    check_vector(f, reference, &l->k_bias, layer, WEIGHTS_ATTN_K_BIAS, kv, kv_rows);
    check_vector(f, reference, &l->v_bias, layer, WEIGHTS_ATTN_V_BIAS, kv, kv_rows);
    check_vector(f, reference, &l->output_bias, layer, WEIGHTS_ATTN_OUTPUT_BIAS, 0, s->hidden);
    check_vector(f, reference, &l->q_norm, layer, WEIGHTS_ATTN_Q_NORM, 0, s->head_dim);
    check_vector(f, reference, &l->k_norm, layer, WEIGHTS_ATTN_K_NORM, 0, s->head_dim);
    check_vector(f, reference, &l->attn_post_norm, layer, WEIGHTS_ATTN_POST_NORM, 0, s->hidden);
    check_vector(f, reference, &l->ffn_post_norm, layer, WEIGHTS_FFN_POST_NORM, 0, s->hidden);
    check_matrix(f, reference, &l->attn_norm, layer, WEIGHTS_ATTN_NORM, 0, 0, s->hidden);
    check_matrix(f, reference, &l->ffn_norm, layer, WEIGHTS_FFN_NORM, 0, 0, s->hidden);
}

/* A rank of a larger job, without MPI: loading needs only its number. */
static void load_rank(struct fixture *f, const struct reference_shape *shape, const char *path,
                      const struct fixture_layout *layout, uint32_t rank)
{
    struct setup_message message;
    struct error error;
    *f = (struct fixture){.shape = *shape};
    fixture_fill_setup(&message, shape, path, layout);
    fixture_ok(setup_create(&f->setup, &message.setup, layout->n_stages * layout->tensor, &error),
               &error);
    fixture_ok(kernels_choose(&f->kernels, NULL, &error), &error);
    fixture_ok(thread_pool_create(&f->pool, 1, &error), &error);
    fixture_ok(f->kernels->open(&f->device, f->pool, 0, &error), &error);
    const struct shard_source source = {
        .path = path, .setup = f->setup, .rank = rank, .kernels = f->kernels, .device = f->device};
    fixture_ok(shard_load(&f->shard, &source, &error), &error);
}

static void check_layout(const struct reference_shape *shape, uint32_t n_stages, uint32_t tensor)
{
    char path[FILE_PATH_BYTES + 32];
    struct reference *reference = make_model(shape, path);
    const struct fixture_layout layout = {n_stages, tensor, 1, KV_F16, NULL, false, NULL};
    const struct weights_segments segments = fixture_segments(shape, path);
    uint32_t layers = 0, heads = 0, ffn = 0, experts = 0, embedded = 0, output = 0;
    for (uint32_t rank = 0; rank < n_stages * tensor; rank++) {
        struct fixture f;
        load_rank(&f, shape, path, &layout, rank);
        const struct shard *shard = f.shard;
        for (uint32_t i = 0; i < shard->n_layers; i++)
            check_layer(&f, reference, &segments, shard->first_layer + i);
        assert_true(shard->first == (rank < tensor));
        assert_true(shard->last == (rank + tensor >= n_stages * tensor));
        if (shard->first) {
            check_matrix(&f, reference, &shard->token_embd, 0, WEIGHTS_TOKEN_EMBD,
                         shard->part.vocab_begin, 0, shape->hidden);
            embedded += shard->token_embd.n_rows;
            heads += shard->part.kv_head_end - shard->part.kv_head_begin;
            ffn += shard->part.ffn_end - shard->part.ffn_begin;
            experts += shard->part.expert_end - shard->part.expert_begin;
        } else {
            assert_null(shard->token_embd.data);
        }
        if (shard->last) {
            check_matrix(&f, reference, shard_output(shard), 0,
                         shape->tied ? WEIGHTS_TOKEN_EMBD : WEIGHTS_OUTPUT, shard->part.vocab_begin,
                         0, shape->hidden);
            check_matrix(&f, reference, &shard->output_norm, 0, WEIGHTS_OUTPUT_NORM, 0, 0,
                         shape->hidden);
            output += shard_output(shard)->n_rows;
            assert_true(shard->output_is_token_embd == (shape->tied && n_stages == 1));
        } else {
            assert_null(shard->output.data);
        }
        if (rank % tensor == 0)
            layers += shard->n_layers;
        fixture_close(&f);
    }
    assert_int_equal(layers, shape->n_layers);
    assert_int_equal(heads, shape->n_kv_heads);
    assert_int_equal(ffn, shape->n_experts > 0 ? 0 : shape->ffn);
    assert_int_equal(experts, shape->n_experts);
    assert_int_equal(embedded, shape->vocab);
    assert_int_equal(output, shape->vocab);
    reference_destroy(reference);
}

static void test_shards_put_together_are_the_model(void **state)
{
    const struct reference_shape shape = {3,  64,    8,    4,          32,       160,
                                          97, false, true, WEIGHT_F32, .seed = 7};
    for (uint32_t n_stages = 1; n_stages <= 3; n_stages++)
        for (uint32_t tensor = 1; tensor <= 4; tensor++)
            check_layout(&shape, n_stages, tensor);
}

static void test_quantized_and_tied_shards_too(void **state)
{
    struct reference_shape shape = {2, 64, 4, 2, 32, 96, 70, true, false, WEIGHT_Q8_0, .seed = 8};
    check_layout(&shape, 1, 1);
    check_layout(&shape, 1, 2);
    check_layout(&shape, 2, 2);
    shape.type = WEIGHT_F16;
    check_layout(&shape, 2, 2);
}

/* Biases and norms of every architecture, in every type that vectors have; what norms count
 * from. */
static void test_parts_of_every_architecture_are_cut(void **state)
{
    static const enum weight_type vectors[] = {WEIGHT_F32, WEIGHT_F16, WEIGHT_BF16};
    for (int i = 0; i < ARCHITECTURE_COUNT; i++) {
        const enum architecture architecture = (enum architecture)i;
        const struct reference_shape shape = {
            2,
            64,
            8,
            4,
            32,
            96,
            70,
            true,
            false,
            WEIGHT_F32,
            .seed = 11 + (uint64_t)i,
            .architecture = architecture,
            .biases = architecture_traits(architecture)->qkv_bias != PART_NEVER,
            .vectors = vectors[i % 3],
            .norm_offset = architecture_traits(architecture)->post_norms ? 1 : 0,
            .n_experts = architecture_traits(architecture)->experts == PART_ALWAYS ? 5 : 0,
            .n_used = 2};
        check_layout(&shape, 1, 1);
        check_layout(&shape, 2, 2);
        check_layout(&shape, 1, 3);
    }
}

static void test_experts_too(void **state)
{
    struct reference_shape shape = {
        3, 64, 8, 4, 32, 64, 97, false, false, WEIGHT_Q8_0, .seed = 9, .n_experts = 7, .n_used = 2};
    for (uint32_t n_stages = 1; n_stages <= 2; n_stages++)
        for (uint32_t tensor = 1; tensor <= 4; tensor++)
            check_layout(&shape, n_stages, tensor);
}

/* Loads with something wrong; the error names the path. */
static void check_refused(const struct setup_message *message, uint32_t n_ranks, const char *path,
                          enum status expected)
{
    struct error error = {.status = STATUS_OK};
    struct setup *setup;
    const struct kernels *kernels;
    struct thread_pool *pool;
    struct device *device;
    struct shard *shard = NULL;
    fixture_ok(setup_create(&setup, &message->setup, n_ranks, &error), &error);
    fixture_ok(kernels_choose(&kernels, NULL, &error), &error);
    fixture_ok(thread_pool_create(&pool, 1, &error), &error);
    fixture_ok(kernels->open(&device, pool, 0, &error), &error);
    const struct shard_source source = {
        .path = path, .setup = setup, .rank = n_ranks - 1, .kernels = kernels, .device = device};
    assert_int_equal(shard_load(&shard, &source, &error), expected);
    assert_null(shard);
    assert_non_null(strstr(error.text, path));
    kernels->close(device);
    thread_pool_destroy(pool);
    setup_destroy(setup);
}

static void test_a_wrong_file_or_split_is_refused_by_name(void **state)
{
    const struct reference_shape shape = {2,  64,    4,     2,           32,       96,
                                          70, false, false, WEIGHT_Q8_0, .seed = 9};
    struct reference_shape other = shape;
    other.seed = 10;
    char path[FILE_PATH_BYTES + 32], other_path[FILE_PATH_BYTES + 32];
    reference_destroy(make_model(&shape, path));
    snprintf(other_path, sizeof(other_path), "%s/other.gguf", directory);
    reference_destroy(reference_create(&other, other_path));
    const struct fixture_layout one = {1, 1, 1, KV_F16, NULL, false, NULL},
                                two = {1, 2, 1, KV_F16, NULL, false, NULL};
    struct setup_message message;

    fixture_fill_setup(&message, &shape, path, &one);
    check_refused(&message, 1, other_path, STATUS_INVALID);
    check_refused(&message, 1, "/nonexistent/model.gguf", STATUS_NOT_FOUND);
    message.stages[0].n_layers = 3;
    check_refused(&message, 1, path, STATUS_INVALID);
    fixture_fill_setup(&message, &shape, path, &one);
    message.shards[0].kv_head_end = 3;
    check_refused(&message, 1, path, STATUS_INVALID);
    fixture_fill_setup(&message, &shape, path, &two); /* a cut inside a block of 32 */
    message.shards[0].ffn_end = message.shards[1].ffn_begin = 33;
    check_refused(&message, 2, path, STATUS_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards_put_together_are_the_model),
        cmocka_unit_test(test_quantized_and_tied_shards_too),
        cmocka_unit_test(test_parts_of_every_architecture_are_cut),
        cmocka_unit_test(test_experts_too),
        cmocka_unit_test(test_a_wrong_file_or_split_is_refused_by_name),
    };
    return cmocka_run_group_tests_name("worker/load", tests, make_directory, remove_directory);
}
