/* random.c - see random.h. */
#include "sys/random.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

uint64_t random_mix(uint64_t value)
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
    return value ^ (value >> 31);
}

void random_seed(struct random_state *state, uint64_t seed)
{
    for (uint64_t i = 0; i < 4; i++)
        state->words[i] = random_mix(seed + i * UINT64_C(0x9e3779b97f4a7c15));
}

static uint64_t rotate_left(uint64_t word, unsigned n)
{
    return word << n | word >> (64 - n);
}

uint64_t random_u64(struct random_state *state)
{
    uint64_t *s = state->words;
    const uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    const uint64_t shifted = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t random_below(struct random_state *state, uint64_t n)
{
    if (n == 0)
        return 0;
    /* The first 2^64 mod n words would make small results likelier: drawn again. */
    const uint64_t refused = (UINT64_MAX - n + 1) % n;
    uint64_t word;
    do {
        word = random_u64(state);
    } while (word < refused);
    return word % n;
}

float random_f32(struct random_state *state)
{
    return (float)(random_u64(state) >> 40) * 0x1p-24f;
}

double random_f64(struct random_state *state)
{
    return (double)(random_u64(state) >> 11) * 0x1p-53;
}

float random_normal(struct random_state *state)
{
    uint64_t sum = 0; /* in multiples of 2^-32, exact, so that the order does not matter */
    for (int i = 0; i < 6; i++) {
        const uint64_t word = random_u64(state);
        sum += (word >> 32) + (word & UINT32_MAX);
    }
    return (float)((double)sum * 0x1p-32 - 6.0);
}

enum status random_unique(void *bytes, size_t size, struct error *error)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = getrandom((char *)bytes + done, size - done, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(error, STATUS_IO, "the kernel gave no random bytes: %s",
                             strerror(errno));
        done += (size_t)n;
    }
    return STATUS_OK;
}
