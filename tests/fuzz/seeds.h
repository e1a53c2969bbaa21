/* tests/fuzz/seeds.h - puts inputs together and saves them; of seeds.c and what it includes. */
#ifndef LONGSPAN_TESTS_FUZZ_SEEDS_H
#define LONGSPAN_TESTS_FUZZ_SEEDS_H

#include "tests/fuzz/fuzz.h"
#include "tests/model/fixtures.h"

#include <sys/stat.h>

static const char *folder;

/* An input that is being put together. */
static uint8_t input[1 << 20];
static size_t n_input;

static void put(uint8_t kind, const void *data, size_t n)
{
    assert_true(n <= UINT16_MAX && n_input + 3 + n <= sizeof(input));
    input[n_input++] = kind;
    input[n_input++] = (uint8_t)n;
    input[n_input++] = (uint8_t)(n >> 8);
    memcpy(input + n_input, data, n);
    n_input += n;
}

static void put_string(uint8_t kind, const char *string)
{
    put(kind, string, strlen(string));
}

static void save(const char *target, const char *name, const void *data, size_t n)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder, target);
    mkdir(path, 0755);
    snprintf(path, sizeof(path), "%s/%s/%s", folder, target, name);
    fixture_write(path, data, n);
}

static void save_input(const char *target, const char *name)
{
    save(target, name, input, n_input);
    n_input = 0;
}

#endif
