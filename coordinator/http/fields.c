/* fields.c - see fields.h. */
#include "coordinator/http/fields.h"

#include <inttypes.h>

const json_t *fields_get(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

const char *fields_type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number that is not whole";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

static bool wrong_type(struct api_error *error, const char *name, const char *wanted,
                       const json_t *value)
{
    return api_error_field(error, name, "'%s' must be %s, not %s", name, wanted,
                           fields_type_name(value));
}

bool fields_bool(const json_t *object, const char *name, bool *value, struct api_error *error)
{
    const json_t *field = fields_get(object, name);
    if (field == NULL)
        return true;
    if (!json_is_boolean(field))
        return wrong_type(error, name, "a boolean", field);
    *value = json_is_true(field);
    return true;
}

/* However it is written: 16.0 is whole too. */
static bool is_whole(const json_t *field, json_int_t *number)
{
    const double most = 9007199254740992.0, real = json_real_value(field); /* 2^53 */
    if (json_is_integer(field))
        *number = json_integer_value(field);
    else if (json_is_real(field) && real >= -most && real <= most)
        *number = (json_int_t)real;
    else
        return false;
    return json_is_integer(field) || (double)*number == real;
}

bool fields_i64(const json_t *object, const char *name, int64_t least, int64_t most, int64_t *value,
                struct api_error *error)
{
    const json_t *field = fields_get(object, name);
    if (field == NULL)
        return true;
    json_int_t number;
    if (!is_whole(field, &number))
        return wrong_type(error, name, "an integer", field);
    if (number < least || number > most)
        return api_error_field(error, name,
                               "'%s' is %" JSON_INTEGER_FORMAT ": it must be from %" PRId64
                               " to %" PRId64,
                               name, number, least, most);
    *value = number;
    return true;
}

bool fields_u32(const json_t *object, const char *name, uint32_t least, uint32_t most,
                uint32_t *value, struct api_error *error)
{
    int64_t number = *value;
    if (!fields_i64(object, name, least, most, &number, error))
        return false;
    *value = (uint32_t)number;
    return true;
}

bool fields_f32(const json_t *object, const char *name, double least, double most, float *value,
                struct api_error *error)
{
    const json_t *field = fields_get(object, name);
    if (field == NULL)
        return true;
    if (!json_is_number(field))
        return wrong_type(error, name, "a number", field);
    const double number = json_number_value(field);
    if (!(number >= least && number <= most))
        return api_error_field(error, name, "'%s' is %g: it must be from %g to %g", name, number,
                               least, most);
    *value = (float)number;
    return true;
}

bool fields_text(const json_t *object, const char *name, const json_t **value,
                 struct api_error *error)
{
    const json_t *field = fields_get(object, name);
    if (field != NULL && !json_is_string(field))
        return wrong_type(error, name, "a string", field);
    if (field != NULL)
        *value = field;
    return true;
}
