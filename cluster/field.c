/* field.c - see field.h. */
#include "cluster/field.h"

#include <math.h>

const char *field_text(const json_t *object, const char *name, const char *absent)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value != NULL ? value : absent;
}

bool field_is_number(const json_t *object, const char *name)
{
    return json_is_number(json_object_get(object, name));
}

double field_number(const json_t *object, const char *name)
{
    const double value = json_number_value(json_object_get(object, name));
    return isfinite(value) ? value : 0;
}

static uint64_t whole_of(const json_t *value)
{
    const double real = json_number_value(value);
    if (json_is_integer(value))
        return json_integer_value(value) > 0 ? (uint64_t)json_integer_value(value) : 0;
    return real > 0 && real < 1e18 ? (uint64_t)real : 0;
}

uint64_t field_whole(const json_t *object, const char *name)
{
    return whole_of(json_object_get(object, name));
}

bool field_range(const json_t *object, const char *name, uint64_t *begin, uint64_t *end)
{
    const json_t *range = json_object_get(object, name);
    const uint64_t first = whole_of(json_array_get(range, 0)),
                   past = whole_of(json_array_get(range, 1));
    const bool is_range = json_array_size(range) == 2 && first <= past;
    *begin = is_range ? first : 0;
    *end = is_range ? past : 0;
    return is_range;
}
