/* test_attend_tile.c - what lanes read together lies in different banks of shared memory. Needs no GPU. */
#include "kernels/attention/cuda/attend_tile.h"
#include "tests/cmocka.h"

#include <stdbool.h>

/* A warp's vectors come a quarter of it at a time, of 16 bytes a lane, or a half, of 8: 128 bytes from 32 banks. */
enum { LANES = 32, BANKS = 32, BANK_BYTES = 4 };

static const uint32_t head_dims[] = {64, 128, 256};

/* Lane c of a row has tokens 8 c to 8 c + 7 of 32, two of each product (attend_rows.cuh). */
static uint32_t token_of_rows(uint32_t lane, uint32_t product)
{
    const uint32_t g = lane / 4;
    return product / 4 * 32 + g / 2 * 8 + product % 4 * 2 + g % 2;
}

static uint32_t token_of_mma(uint32_t lane, uint32_t product)
{
    return product * 8 + lane / 4;
}

/* Byte of K that a lane's vector begins with: 8 numbers of its token. */
static uint32_t k_at(uint32_t head_dim, uint32_t token, uint32_t d, bool bytes)
{
    return bytes ? piece_k_byte_at(head_dim, token, d) : 2 * piece_k_at(head_dim, token, d);
}

static void check_banks(uint32_t (*token_of)(uint32_t lane, uint32_t product), bool bytes)
{
    const uint32_t vector = bytes ? 8 : 16, n_together = BANKS * BANK_BYTES / vector;
    for (uint32_t i = 0; i < sizeof(head_dims) / sizeof(head_dims[0]); i++)
        for (uint32_t product = 0; product < PIECE_TOKENS / 8; product++)
            for (uint32_t first = 0; first < LANES; first += n_together) {
                uint32_t used = 0; /* a bit for each bank */
                for (uint32_t lane = first; lane < first + n_together; lane++) {
                    const uint32_t at = k_at(head_dims[i], token_of(lane, product),
                                             head_dims[i] - 32 + lane % 4 * 8, bytes);
                    assert_int_equal(at % vector, 0);
                    for (uint32_t word = 0; word < vector / BANK_BYTES; word++) {
                        const uint32_t bank = 1u << (at / BANK_BYTES + word) % BANKS;
                        assert_int_equal(used & bank, 0);
                        used |= bank;
                    }
                }
            }
}

static void test_decode_reads_k_without_conflicts(void **state)
{
    check_banks(token_of_mma, false);
    check_banks(token_of_mma, true);
}

static void test_prompts_read_k_without_conflicts(void **state)
{
    check_banks(token_of_rows, false);
    check_banks(token_of_rows, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_reads_k_without_conflicts),
        cmocka_unit_test(test_prompts_read_k_without_conflicts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
