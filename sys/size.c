/* size.c - see size.h. */
#include "sys/size.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char unit_letters[] = "kmgtp";

/* The factor of a unit's name. False: no such unit. */
static bool unit_factor(const char *unit, uint64_t *factor)
{
    *factor = 1;
    if (*unit == '\0' || strcasecmp(unit, "b") == 0)
        return true;
    const char lower = (char)(*unit | 0x20);
    const char *letter = strchr(unit_letters, lower);
    if (letter == NULL)
        return false;
    const bool binary = unit[1] == '\0' || strcasecmp(unit + 1, "ib") == 0;
    if (!binary && strcasecmp(unit + 1, "b") != 0)
        return false;
    for (const char *step = unit_letters; step <= letter; step++)
        *factor *= binary ? 1024 : 1000;
    return true;
}

enum status size_parse(const char *name, const char *text, uint64_t *bytes, struct error *error)
{
    const char *at = text;
    uint64_t count = 0, factor;
    bool fits = true;
    for (; *at >= '0' && *at <= '9'; at++) {
        const uint64_t digit = (uint64_t)(*at - '0');
        if (count > (UINT64_MAX - digit) / 10)
            fits = false;
        count = count * 10 + digit;
    }
    const bool has_digits = at != text;
    if (*at == ' ')
        at++;
    if (!has_digits || !unit_factor(at, &factor) || (at[-1] == ' ' && *at == '\0'))
        return error_set(error, STATUS_INVALID,
                         "%s is \"%.100s\": give bytes, such as 64GiB, 512M or 4096", name, text);
    if (!fits || count > UINT64_MAX / factor)
        return error_set(error, STATUS_INVALID, "%s is \"%.100s\": more than 2^64 bytes", name,
                         text);
    *bytes = count * factor;
    return STATUS_OK;
}

const char *size_format(uint64_t bytes, char text[SIZE_TEXT_BYTES])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(text, SIZE_TEXT_BYTES, "%u B", (unsigned)bytes);
        return text;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    /* 1023.5 would be printed as 1024 of this unit: it is 1.00 of the next. */
    while (value >= 1023.5 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(text, SIZE_TEXT_BYTES, "%.*f %s", decimals, value, units[unit]);
    return text;
}

const char *size_progress(uint64_t n_done, uint64_t n_all, uint64_t n_timed, uint64_t us,
                          char text[SIZE_PROGRESS_BYTES])
{
    char done[SIZE_TEXT_BYTES], all[SIZE_TEXT_BYTES], speed[SIZE_TEXT_BYTES];
    const double per_s = us == 0 ? 0 : 1e6 * (double)n_timed / (double)us;
    const uint64_t n_left = n_done < n_all ? n_all - n_done : 0;
    const int n = snprintf(text, SIZE_PROGRESS_BYTES, "%s of %s", size_format(n_done, done),
                           size_format(n_all, all));
    if (per_s >= 1)
        snprintf(text + n, SIZE_PROGRESS_BYTES - (size_t)n, ", %s/s, %.0f s left",
                 size_format((uint64_t)per_s, speed), (double)n_left / per_s);
    return text;
}
