/* test_setup.c - a WorkerSetup is taken whole or refused, saying what is wrong. */
#include "tests/directory.h"
#include "tests/worker/fixture.h"

#include "tests/worker/reference.c"

static char path[FILE_PATH_BYTES + 32];
static const struct reference_shape SHAPE = {4,  64,    4,     2,          32,       96,
                                             70, false, false, WEIGHT_F32, .seed = 5};

static void test_a_good_setup_is_taken(void **state)
{
    struct setup_message message;
    const struct fixture_layout layout = {2, 2, 1, KV_F16, NULL, false, NULL};
    fixture_fill_setup(&message, &SHAPE, path, &layout);
    uint32_t host_lanes[4] = {2, 2, 8, 8};
    message.setup.n_host_lanes = 4;
    message.setup.host_lanes = host_lanes;
    struct setup *setup = NULL;
    struct error error;
    fixture_ok(setup_create(&setup, &message.setup, 4, &error), &error);
    assert_int_equal(setup->job, FIXTURE_JOB);
    assert_int_equal(setup->n_stages, 2);
    assert_int_equal(setup->tensor, 2);
    assert_int_equal(setup->stages[1].end, 4);
    assert_int_equal(setup->shards[1].kv_head_begin, 1);
    assert_int_equal(setup->shards[1].kv_head_end, 2);
    assert_int_equal(setup->shards[1].vocab_end, 70);
    assert_string_equal(setup->model_path, path);
    assert_string_equal(setup->holders[0].name, "local");
    assert_string_equal(setup->holders[0].endpoint, "");
    assert_int_equal(setup->max_rows, FIXTURE_ROWS);
    assert_int_equal(setup->host_lanes[2], 8);
    setup_destroy(setup);
}

static void test_experts_in_place_of_columns(void **state)
{
    struct setup_message m;
    const struct fixture_layout layout = {2, 2, 1, KV_F16, NULL, false, NULL};
    fixture_fill_setup(&m, &SHAPE, path, &layout);
    m.shards[0].ffn_end = m.shards[1].ffn_begin = m.shards[1].ffn_end = 0;
    m.shards[0].expert_end = m.shards[1].expert_begin = 3;
    m.shards[1].expert_end = 5;
    struct setup *setup = NULL;
    struct error error;
    fixture_ok(setup_create(&setup, &m.setup, 4, &error), &error);
    assert_int_equal(setup->shards[1].expert_begin, 3);
    assert_int_equal(setup->shards[1].expert_end, 5);
    assert_int_equal(setup->shards[1].ffn_end, 0);
    setup_destroy(setup);
    static const uint32_t bad[][4] = {{0, 3, 4, 5}, {0, 3, 3, 3}, {1, 3, 3, 5}, {0, 3, 3, 2}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        m.shards[0].expert_begin = bad[i][0];
        m.shards[0].expert_end = bad[i][1];
        m.shards[1].expert_begin = bad[i][2];
        m.shards[1].expert_end = bad[i][3];
        assert_int_equal(setup_create(&setup, &m.setup, 4, &error), STATUS_PROTOCOL);
    }
}

static void test_a_bad_setup_is_refused(void **state)
{
    enum { CASES = 26 };
    uint32_t host_lanes[4] = {1, 1, 1, 1};
    for (int c = 0; c < CASES; c++) {
        struct setup_message m;
        const struct fixture_layout layout = {2, 2, 1, KV_F16, NULL, false, NULL};
        fixture_fill_setup(&m, &SHAPE, path, &layout);
        uint32_t n_ranks = 4;
        switch (c) {
        case 0:
            m.setup.constants = NULL;
            break;
        case 1:
            m.constants.protocol++;
            break;
        case 2:
            m.constants.tile_tokens = 64;
            break;
        case 3:
            m.constants.page_tokens = 512;
            break;
        case 4:
            n_ranks = 3;
            break;
        case 5:
            m.setup.n_stages = 0;
            break;
        case 6:
            m.setup.n_shards = 0;
            break;
        case 7:
            m.stages[1].first_layer++;
            break;
        case 8:
            m.stages[1].n_layers = 0;
            break;
        case 9:
            m.stages[1].n_layers = UINT32_MAX;
            break;
        case 10:
            m.shards[1].kv_head_begin = 0;
            break;
        case 11:
            m.shards[1].kv_head_end = 1;
            break;
        case 12:
            m.shards[1].ffn_end = 1;
            break;
        case 13:
            m.shards[0].vocab_end = 0;
            break;
        case 14:
            m.setup.max_rows = 0;
            break;
        case 15:
            m.setup.max_rows = UINT32_MAX;
            break;
        case 16:
            m.setup.max_sequences = UINT32_MAX;
            break;
        case 17:
            m.setup.max_tokens = 0;
            break;
        case 18:
            m.setup.kv_type = 77;
            break;
        case 19:
            m.setup.fingerprint.len = 31;
            break;
        case 20:
            m.setup.n_holders = 0;
            break;
        case 21:
            m.setup.n_host_lanes = 3;
            m.setup.host_lanes = host_lanes;
            break;
        case 22: /* FFN columns and experts */
            m.shards[0].expert_end = m.shards[1].expert_begin = 1;
            m.shards[1].expert_end = 2;
            break;
        case 23: /* experts of one shard alone */
            m.shards[0].ffn_end = m.shards[1].ffn_begin = m.shards[1].ffn_end = 0;
            m.shards[0].expert_end = 2;
            break;
        case 24:
            m.setup.chunk = 0;
            break;
        case 25:
            m.setup.chunk = m.setup.max_rows + 1;
            break;
        default:
            break;
        }
        struct setup *setup = NULL;
        struct error error = {.status = STATUS_OK};
        assert_int_not_equal(setup_create(&setup, &m.setup, n_ranks, &error), STATUS_OK);
        assert_null(setup);
        assert_true(error.text[0] != '\0');
    }
    setup_destroy(NULL);
}

static int make_model(void **state)
{
    if (file_make_temporary(directory, NULL) != STATUS_OK)
        return -1;
    snprintf(path, sizeof(path), "%s/model.gguf", directory);
    reference_destroy(reference_create(&SHAPE, path));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_setup_is_taken),
        cmocka_unit_test(test_experts_in_place_of_columns),
        cmocka_unit_test(test_a_bad_setup_is_refused),
    };
    return cmocka_run_group_tests_name("worker/setup", tests, make_model, remove_directory);
}
