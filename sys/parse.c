/* parse.c - see parse.h. Digits are counted by hand: strtoul takes blanks and wraps "-1". */
#include "sys/parse.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool read_digits(const char *text, uint64_t *value)
{
    uint64_t sum = 0;
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        const uint64_t digit = (uint64_t)(*text - '0');
        if (sum > (UINT64_MAX - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

enum status parse_u64(const char *name, const char *text, uint64_t least, uint64_t most,
                      uint64_t *value, struct error *error)
{
    uint64_t read;
    if (!read_digits(text, &read) || read < least || read > most)
        return error_set(error, STATUS_INVALID,
                         "%s is \"%.100s\": give a whole number from %llu to %llu", name, text,
                         (unsigned long long)least, (unsigned long long)most);
    *value = read;
    return STATUS_OK;
}

enum status parse_u32(const char *name, const char *text, uint32_t least, uint32_t most,
                      uint32_t *value, struct error *error)
{
    uint64_t read = 0;
    const enum status status = parse_u64(name, text, least, most, &read, error);
    if (status == STATUS_OK)
        *value = (uint32_t)read;
    return status;
}

enum status parse_f32(const char *name, const char *text, float least, float most, float *value,
                      struct error *error)
{
    /* Only these characters: strtof alone also takes blanks, 0x1p3, inf and nan. */
    const bool plain = *text != '\0' && text[strspn(text, "+-.0123456789eE")] == '\0';
    char *end = NULL;
    const float read = plain ? strtof(text, &end) : 0;
    if (!plain || end == text || *end != '\0' || !(read >= least && read <= most))
        return error_set(error, STATUS_INVALID, "%s is \"%.100s\": give a number from %g to %g",
                         name, text, (double)least, (double)most);
    *value = read;
    return STATUS_OK;
}
