/* sha256.c - the compression function of FIPS 180-4, section 6.2.2: in portable C, and by the
 * instructions that x86 processors have for it (Gulley et al. 2013, Intel SHA Extensions), several
 * times as fast. */
#include "sys/sha256.h"

#include <string.h>

/* Clang before 19 does not know the name of the feature. SHA256_PORTABLE: a test's. */
#if defined(__x86_64__) && !defined(__clang__) && !defined(SHA256_PORTABLE)
#define HAS_SHA_EXTENSIONS 1
#include <immintrin.h>
#else
#define HAS_SHA_EXTENSIONS 0
#endif

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes (4.2.2). */
static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate_right(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static uint32_t load_big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void store_big_endian(uint8_t *bytes, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void compress_portably(uint32_t state[8], const uint8_t block[64])
{
    uint32_t w[64];
    for (unsigned t = 0; t < 16; t++)
        w[t] = load_big_endian(block + 4 * t);
    for (unsigned t = 16; t < 64; t++) {
        const uint32_t x = w[t - 15], y = w[t - 2];
        const uint32_t sigma0 = rotate_right(x, 7) ^ rotate_right(x, 18) ^ x >> 3;
        const uint32_t sigma1 = rotate_right(y, 17) ^ rotate_right(y, 19) ^ y >> 10;
        w[t] = sigma1 + w[t - 7] + sigma0 + w[t - 16];
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (unsigned t = 0; t < 64; t++) {
        const uint32_t sum1 = rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25);
        const uint32_t sum0 = rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22);
        const uint32_t t1 = h + sum1 + ((e & f) ^ (~e & g)) + round_constants[t] + w[t];
        const uint32_t t2 = sum0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g;
        g = f;
        f = e;
        e = d + t1;
        d = c;
        c = b;
        b = a;
        a = t1 + t2;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
    state[5] += f;
    state[6] += g;
    state[7] += h;
}

#if HAS_SHA_EXTENSIONS
/* Two registers hold the state as the instructions want it, from the top: (a b e f) and (c d g h).
 * `w` are the last sixteen words of the message schedule, four in a register. */
__attribute__((target("sha,sse4.1"))) static void compress_by_extensions(uint32_t state[8],
                                                                         const uint8_t *blocks,
                                                                         size_t n_blocks)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    const __m128i cdab =
        _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0xb1);
    const __m128i efgh =
        _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
    for (; n_blocks > 0; n_blocks--, blocks += 64) {
        const __m128i old_abef = abef, old_cdgh = cdgh;
        __m128i w[4];
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(
                _mm_loadu_si128((const __m128i *)(const void *)(blocks + 16 * i)), big_endian);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) { /* four rounds each */
            __m128i *newest = &w[i % 4];
            const __m128i sum = _mm_add_epi32(
                *newest, _mm_loadu_si128((const __m128i *)(const void *)(round_constants + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
            if (i < 12) /* becomes the words that are wanted four groups later */
                *newest = _mm_sha256msg2_epu32(
                    _mm_add_epi32(_mm_sha256msg1_epu32(*newest, w[(i + 1) % 4]),
                                  _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4)),
                    w[(i + 3) % 4]);
        }
        abef = _mm_add_epi32(abef, old_abef);
        cdgh = _mm_add_epi32(cdgh, old_cdgh);
    }
    const __m128i feba = _mm_shuffle_epi32(abef, 0x1b), dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}
#endif

static void compress(uint32_t state[8], const uint8_t *blocks, size_t n_blocks)
{
#if HAS_SHA_EXTENSIONS
    if (__builtin_cpu_supports("sha") && __builtin_cpu_supports("sse4.1")) {
        compress_by_extensions(state, blocks, n_blocks);
        return;
    }
#endif
    for (; n_blocks > 0; n_blocks--, blocks += 64)
        compress_portably(state, blocks);
}

void sha256_init(struct sha256 *hash)
{
    /* The first 32 bits of the fractional parts of the square roots of the first 8 primes (5.3.3).
     */
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, initial, sizeof(initial));
    hash->n_bytes = 0;
}

void sha256_update(struct sha256 *hash, const void *data, size_t n_bytes)
{
    const uint8_t *bytes = data;
    while (n_bytes > 0) {
        const size_t used = hash->n_bytes % sizeof(hash->block);
        if (used == 0 && n_bytes >= sizeof(hash->block)) { /* whole blocks need no copy */
            const size_t n_blocks = n_bytes / sizeof(hash->block);
            compress(hash->state, bytes, n_blocks);
            hash->n_bytes += n_blocks * sizeof(hash->block);
            bytes += n_blocks * sizeof(hash->block);
            n_bytes -= n_blocks * sizeof(hash->block);
            continue;
        }
        size_t n = sizeof(hash->block) - used;
        if (n > n_bytes)
            n = n_bytes;
        memcpy(hash->block + used, bytes, n);
        hash->n_bytes += n;
        bytes += n;
        n_bytes -= n;
        if (used + n == sizeof(hash->block))
            compress(hash->state, hash->block, 1);
    }
}

void sha256_final(struct sha256 *hash, uint8_t digest[SHA256_BYTES])
{
    /* Padding (5.1.1): one bit, zeros, then the length in bits; at least 9 bytes. */
    const uint64_t n_bits = hash->n_bytes * 8;
    uint8_t padding[72] = {0x80};
    const size_t n = 64 - (hash->n_bytes + 8) % 64;
    for (unsigned i = 0; i < 8; i++)
        padding[n + i] = (uint8_t)(n_bits >> (56 - 8 * i));
    sha256_update(hash, padding, n + 8);
    for (unsigned i = 0; i < 8; i++)
        store_big_endian(digest + 4 * i, hash->state[i]);
}
