/* The hash is SHA-256: the examples of FIPS 180-4 (NIST's SHA256.pdf) and the secure hash
 * validation system's, and any cut of the input. */
#include "sys/sha256.h"
#include "tests/cmocka.h"

#include <stdio.h>
#include <string.h>

static void expect(const char *hex, const char *text, size_t n_bytes)
{
    struct sha256 hash;
    uint8_t digest[SHA256_BYTES];
    char shown[2 * SHA256_BYTES + 1];
    sha256_init(&hash);
    sha256_update(&hash, text, n_bytes);
    sha256_final(&hash, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(shown + 2 * i, 3, "%02x", digest[i]);
    assert_string_equal(shown, hex);
}

static void test_standard_examples(void **state)
{
    expect("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "", 0);
    expect("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "abc", 3);
    expect("248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
           "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56);
    expect(
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
        "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlm"
        "nopqrsmnopqrstnopqrstu",
        112);
}

static void test_a_million_letters_in_pieces(void **state)
{
    static const uint8_t expected[SHA256_BYTES] = {0xcd, 0xc7, 0x6e, 0x5c, 0x99, 0x14, 0xfb, 0x92,
                                                   0x81, 0xa1, 0xc7, 0xe2, 0x84, 0xd7, 0x3e, 0x67,
                                                   0xf1, 0x80, 0x9a, 0x48, 0xa4, 0x97, 0x20, 0x0e,
                                                   0x04, 0x6d, 0x39, 0xcc, 0xc7, 0x11, 0x2c, 0xd0};
    char letters[977]; /* prime: every offset in a block is met */
    uint8_t digest[SHA256_BYTES];
    struct sha256 hash;
    memset(letters, 'a', sizeof(letters));
    sha256_init(&hash);
    for (size_t left = 1000000; left > 0;) {
        const size_t n = left < sizeof(letters) ? left : sizeof(letters);
        sha256_update(&hash, letters, n);
        left -= n;
    }
    sha256_final(&hash, digest);
    assert_memory_equal(digest, expected, sizeof(digest));
}

static void test_every_cut_gives_the_same_hash(void **state)
{
    uint8_t text[200], whole[SHA256_BYTES], cut[SHA256_BYTES];
    struct sha256 hash;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)(i * 7);
    for (size_t n = 0; n <= sizeof(text); n++) {
        sha256_init(&hash);
        sha256_update(&hash, text, n);
        sha256_final(&hash, whole);
        for (size_t at = 0; at <= n; at++) {
            sha256_init(&hash);
            sha256_update(&hash, text, at);
            sha256_update(&hash, text + at, n - at);
            sha256_final(&hash, cut);
            assert_memory_equal(whole, cut, sizeof(cut));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_standard_examples),
        cmocka_unit_test(test_a_million_letters_in_pieces),
        cmocka_unit_test(test_every_cut_gives_the_same_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
