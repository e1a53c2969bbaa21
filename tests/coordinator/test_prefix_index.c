/* test_prefix_index.c - the longest prefix is found, as long as somebody has it. */
#include "coordinator/prefix_index.h"

#include "kernels/attention/kv_holder.h"
#include "sys/random.h"
#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OWNERS = 40, MAX_PAGES = 30 };

static void test_names_tell_prefixes_apart(void **state)
{
    int32_t tokens[PAGE_TOKENS] = {0};
    struct prefix_name root = {{0}}, other_root = {{1}};
    const struct prefix_name one = prefix_name_next(&root, tokens);
    const struct prefix_name two = prefix_name_next(&one, tokens);
    const struct prefix_name elsewhere = prefix_name_next(&other_root, tokens);
    assert_false(prefix_name_equal(&one, &two)); /* the same page, one page further */
    assert_false(prefix_name_equal(&one, &elsewhere));
    struct prefix_name again = prefix_name_next(&root, tokens);
    assert_true(prefix_name_equal(&one, &again));
    tokens[PAGE_TOKENS - 1] = 1;
    again = prefix_name_next(&root, tokens);
    assert_false(prefix_name_equal(&one, &again));
}

/* All that hold the whole prefix of `asked` are found, each once. */
static void check_owners(const struct prefix_index *index,
                         struct prefix_name names[OWNERS][MAX_PAGES], const uint32_t *n_pages,
                         uint32_t asked)
{
    const uint32_t last = n_pages[asked] - 1;
    uint32_t at = PREFIX_INDEX_NONE, owner, n_expected = 0, n_found = 0;
    bool seen[OWNERS] = {false};
    for (uint32_t j = 0; j < OWNERS; j++)
        n_expected += n_pages[j] > last && prefix_name_equal(&names[j][last], &names[asked][last]);
    while (prefix_index_next(index, &names[asked][last], &at, &owner)) {
        assert_false(seen[owner]);
        seen[owner] = true;
        assert_true(prefix_name_equal(&names[owner][last], &names[asked][last]));
        n_found++;
    }
    assert_int_equal(n_found, n_expected);
}

/* Owners come and go; what is found is compared with looking at all of them. */
static void test_random_owners_agree_with_a_search(void **state)
{
    static struct prefix_name names[OWNERS][MAX_PAGES];
    static int32_t pages[OWNERS][MAX_PAGES];
    uint32_t n_pages[OWNERS] = {0};
    struct random_state random;
    struct prefix_index *index = NULL;
    random_seed(&random, 3);
    assert_int_equal(prefix_index_create(&index, NULL), STATUS_OK);
    for (int round = 0; round < 4000; round++) {
        const uint32_t i = (uint32_t)random_below(&random, OWNERS);
        if (round % 3 == 0)
            for (uint32_t p = 0; p < n_pages[i]; p++) /* in another order than they came */
                prefix_index_remove_one(index, i, &names[i][(p + n_pages[i] / 2) % n_pages[i]]);
        prefix_index_remove(index, i);
        n_pages[i] = (uint32_t)random_below(&random, MAX_PAGES + 1);
        struct prefix_name name = {{0}};
        for (uint32_t p = 0; p < n_pages[i]; p++) {
            int32_t tokens[PAGE_TOKENS] = {0};
            pages[i][p] = tokens[7] = (int32_t)random_below(&random, p < 3 ? 2 : 1 + p % 2);
            name = names[i][p] = prefix_name_next(&name, tokens);
            assert_int_equal(prefix_index_add(index, i, &name, NULL), STATUS_OK);
        }
        const uint32_t asked = (uint32_t)random_below(&random, OWNERS);
        uint32_t most = 0, owner = PREFIX_INDEX_NONE;
        for (uint32_t j = 0; j < OWNERS; j++) {
            uint32_t common = 0;
            while (j != asked && common < n_pages[asked] && common < n_pages[j] &&
                   pages[j][common] == pages[asked][common])
                common++;
            most = common > most ? common : most;
        }
        if (n_pages[asked] > 0)
            check_owners(index, names, n_pages, asked);
        prefix_index_remove(index, asked);
        const uint32_t found = prefix_index_find(index, names[asked], n_pages[asked], &owner);
        assert_int_equal(found, most);
        if (found > 0)
            assert_memory_equal(&names[owner][found - 1], &names[asked][found - 1],
                                sizeof(names[0][0]));
        n_pages[asked] = 0;
    }
    prefix_index_destroy(index);
}

/* Two thousand questions about one text: the oldest goes first, as when pages run out. Walking past
 * all others for each page would be a thousand times the work of adding it. */
static void test_who_shares_a_long_prefix_goes_without_a_search(void **state)
{
    enum { MANY = 2000, PAGES = 200 };
    struct prefix_index *index = NULL;
    struct prefix_name names[PAGES] = {{{0}}};
    const int32_t tokens[PAGE_TOKENS] = {0};
    assert_int_equal(prefix_index_create(&index, NULL), STATUS_OK);
    for (uint32_t p = 0; p < PAGES; p++)
        names[p] = prefix_name_next(&names[p > 0 ? p - 1 : 0], tokens);
    const clock_t begin = clock();
    for (uint32_t i = 0; i < MANY; i++)
        for (uint32_t p = 0; p < PAGES; p++)
            assert_int_equal(prefix_index_add(index, i, &names[p], NULL), STATUS_OK);
    const clock_t middle = clock();
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t owner;
        assert_int_equal(prefix_index_find(index, names, PAGES, &owner), PAGES);
        assert_int_equal(owner, MANY - 1);
        prefix_index_remove(index, i);
    }
    const clock_t end = clock();
    assert_int_equal(prefix_index_owner(index, &names[0]), PREFIX_INDEX_NONE);
    prefix_index_destroy(index);
    if (end - middle > 20 * (middle - begin))
        fail_msg("%ld us to remove what took %ld to add", (long)(end - middle),
                 (long)(middle - begin));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_tell_prefixes_apart),
        cmocka_unit_test(test_random_owners_agree_with_a_search),
        cmocka_unit_test(test_who_shares_a_long_prefix_goes_without_a_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
