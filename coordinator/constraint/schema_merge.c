/* schema_merge.c - see schema_merge.h. */
#include "coordinator/constraint/schema_merge.h"

#include <string.h>

bool schema_has_type(const json_t *type, const char *name)
{
    size_t index;
    json_t *one;
    if (type == NULL)
        return true;
    if (json_is_string(type))
        return strcmp(json_string_value(type), name) == 0 ||
               (strcmp(name, "integer") == 0 && strcmp(json_string_value(type), "number") == 0);
    json_array_foreach(type, index,
                       one) if (json_is_string(one) && schema_has_type(one, name)) return true;
    return false;
}

const char *schema_type_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "number";
    case JSON_NULL:
        return "null";
    default:
        return "boolean";
    }
}

static const char *const type_names[] = {"object", "array",   "string", "integer",
                                         "number", "boolean", "null",   NULL};

static json_t *join_types(const json_t *a, const json_t *b)
{
    json_t *both = json_array();
    for (size_t i = 0; both != NULL && type_names[i] != NULL; i++)
        if (schema_has_type(a, type_names[i]) && schema_has_type(b, type_names[i]))
            json_array_append_new(both, json_string(type_names[i]));
    return both;
}

static json_t *join_values(const json_t *a, const json_t *b)
{
    json_t *both = json_array(), *one, *other;
    size_t i, j;
    json_array_foreach(a, i, one) json_array_foreach(b, j, other) if (json_equal(one, other))
    {
        json_array_append(both, one);
        break;
    }
    return both;
}

static json_t *join_lists(const json_t *a, const json_t *b)
{
    json_t *both = json_copy((json_t *)a);
    if (both != NULL)
        json_array_extend(both, (json_t *)b);
    return both;
}

static json_t *join_schemas(const json_t *a, const json_t *b)
{
    return json_pack("{s:[O, O]}", "allOf", a, b);
}

/* The larger or the smaller of two numbers. */
static json_t *join_bounds(const json_t *a, const json_t *b, bool larger)
{
    const bool a_larger = json_number_value(a) > json_number_value(b);
    return json_incref((json_t *)(a_larger == larger ? a : b));
}

/* What `other` says about properties that it does not list, added to those of `a` it does not
 * list. */
static bool close_properties(json_t *properties, const json_t *other)
{
    const json_t *listed = json_object_get(other, "properties");
    const json_t *rest = json_object_get(other, "additionalProperties");
    const char *name;
    void *next;
    json_t *schema;
    if (rest == NULL || json_is_true(rest))
        return true;
    json_object_foreach_safe(properties, next, name, schema)
    {
        if (json_object_get(listed, name) != NULL)
            continue;
        json_t *closed = json_is_false(rest) ? json_false() : join_schemas(schema, rest);
        if (closed == NULL || json_object_set_new(properties, name, closed) != 0)
            return false;
    }
    return true;
}

static json_t *join_properties(const json_t *a, const json_t *b)
{
    const json_t *pa = json_object_get(a, "properties"), *pb = json_object_get(b, "properties");
    json_t *of_a = pa != NULL ? json_copy((json_t *)pa) : json_object();
    json_t *of_b = pb != NULL ? json_copy((json_t *)pb) : json_object();
    const char *name;
    json_t *schema;
    if (of_a == NULL || of_b == NULL || !close_properties(of_a, b) || !close_properties(of_b, a)) {
        json_decref(of_a);
        json_decref(of_b);
        return NULL;
    }
    json_object_foreach(of_b, name, schema)
    {
        json_t *both = json_object_get(of_a, name);
        /* What is false of one side only because the other lists it is false of both. */
        both = both == NULL || json_equal(both, schema) ? json_incref(schema)
                                                        : join_schemas(both, schema);
        json_object_set_new(of_a, name, both);
    }
    json_decref(of_b);
    return of_a;
}

/* One keyword that both have; NULL: it cannot be joined. */
static json_t *join(const char *key, const json_t *a, const json_t *b)
{
    static const struct {
        const char *key;
        bool larger;
    } bounds[] = {{"minimum", true},           {"exclusiveMinimum", true}, {"minLength", true},
                  {"minItems", true},          {"minProperties", true},    {"maximum", false},
                  {"exclusiveMaximum", false}, {"maxLength", false},       {"maxItems", false},
                  {"maxProperties", false}};
    if (json_equal(a, b))
        return json_incref((json_t *)a);
    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++)
        if (strcmp(key, bounds[i].key) == 0 && json_is_number(a) && json_is_number(b))
            return join_bounds(a, b, bounds[i].larger);
    if (strcmp(key, "type") == 0)
        return join_types(a, b);
    if (strcmp(key, "enum") == 0)
        return join_values(a, b);
    if (strcmp(key, "required") == 0 || strcmp(key, "allOf") == 0)
        return join_lists(a, b);
    if (strcmp(key, "items") == 0 && !json_is_array(a) && !json_is_array(b))
        return join_schemas(a, b);
    if (strcmp(key, "additionalProperties") == 0)
        return json_is_false(a) || json_is_false(b) ? json_false() : join_schemas(a, b);
    return NULL;
}

json_t *schema_merge(const json_t *a, const json_t *b, const char **keyword)
{
    static const char *const about[] = {
        "title",      "description", "default",   "examples", "$comment",    "$schema", "$id",
        "deprecated", "readOnly",    "writeOnly", "$defs",    "definitions", NULL};
    const char *key;
    json_t *value;
    *keyword = "allOf";
    if (json_is_false(a) || json_is_false(b))
        return json_false();
    if (!json_is_object(a) || !json_is_object(b))
        return json_incref((json_t *)(json_is_object(a) ? a : b));
    json_t *both = json_copy((json_t *)a);
    json_object_foreach((json_t *)b, key, value)
    {
        json_t *old = json_object_get(both, key), *joined = NULL;
        bool is_about = false;
        for (size_t i = 0; about[i] != NULL; i++)
            is_about = is_about || strcmp(key, about[i]) == 0;
        if (old == NULL)
            joined = json_incref(value);
        else if (is_about || strcmp(key, "properties") == 0)
            continue;
        else
            joined = join(key, old, value);
        if (joined == NULL || json_object_set_new(both, key, joined) != 0) {
            *keyword = key;
            json_decref(both);
            return NULL;
        }
    }
    if (json_object_get(a, "properties") != NULL || json_object_get(b, "properties") != NULL) {
        json_t *properties = join_properties(a, b);
        if (properties == NULL || json_object_set_new(both, "properties", properties) != 0) {
            json_decref(both);
            return NULL;
        }
    }
    return both;
}

/* ---- apart ----------------------------------------------------------------------------------- */

/* The values that a schema is limited to, as an array (json_decref); NULL: it is not. */
static json_t *values_of(const json_t *schema)
{
    json_t *values = json_object_get(schema, "enum"), *only = json_object_get(schema, "const");
    if (only != NULL)
        return json_pack("[O]", only);
    return json_is_array(values) ? json_incref(values) : NULL;
}

static bool values_apart(const json_t *a, const json_t *b)
{
    json_t *va = values_of(a), *vb = values_of(b);
    json_t *both = va != NULL && vb != NULL ? join_values(va, vb) : NULL;
    bool apart = both != NULL && json_array_size(both) == 0;
    /* 1 and 1.0 are the same number, and not the same JSON here. */
    size_t i, j;
    json_t *x, *y;
    if (apart)
        json_array_foreach(va, i, x) json_array_foreach(vb, j, y) apart =
            apart && json_is_string(x) && json_is_string(y);
    const json_t *values = va != NULL ? va : vb, *other = va != NULL ? b : a;
    if (!apart && values != NULL && json_object_get(other, "type") != NULL) {
        apart = true; /* no value is of the other's types */
        json_array_foreach(values, i, x) apart =
            apart && !schema_has_type(json_object_get(other, "type"), schema_type_of(x)) &&
            !json_is_real(x);
    }
    json_decref(va);
    json_decref(vb);
    json_decref(both);
    return apart;
}

static bool types_apart(const json_t *a, const json_t *b)
{
    const json_t *ta = json_object_get(a, "type"), *tb = json_object_get(b, "type");
    if (ta == NULL || tb == NULL)
        return false;
    for (size_t i = 0; type_names[i] != NULL; i++)
        if (schema_has_type(ta, type_names[i]) && schema_has_type(tb, type_names[i]))
            return false;
    return true;
}

bool schema_requires(const json_t *schema, const char *name)
{
    size_t index;
    json_t *one;
    bool found = false;
    json_array_foreach(json_object_get(schema, "required"), index, one) found =
        found || (json_is_string(one) && strcmp(json_string_value(one), name) == 0);
    return found;
}

static bool only_objects(const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type");
    return json_is_string(type) && strcmp(json_string_value(type), "object") == 0;
}

/* One requires what the other, which is closed, does not have. */
static bool closed_to(const json_t *a, const json_t *b)
{
    size_t index;
    json_t *one;
    if (!json_is_false(json_object_get(b, "additionalProperties")))
        return false;
    json_array_foreach(json_object_get(a, "required"), index,
                       one) if (json_is_string(one) &&
                                json_object_get(json_object_get(b, "properties"),
                                                json_string_value(one)) == NULL) return true;
    return false;
}

bool schema_apart(const json_t *a, const json_t *b,
                  const json_t *(*resolve)(void *context, const json_t *schema), void *context)
{
    const char *name;
    json_t *schema;
    a = resolve(context, a);
    b = resolve(context, b);
    if (json_is_false(a) || json_is_false(b) || types_apart(a, b) || values_apart(a, b))
        return true;
    if (!only_objects(a) || !only_objects(b))
        return false;
    if (closed_to(a, b) || closed_to(b, a))
        return true;
    json_object_foreach(json_object_get(a, "properties"), name, schema)
    {
        const json_t *other = json_object_get(json_object_get(b, "properties"), name);
        if (other == NULL || !schema_requires(a, name) || !schema_requires(b, name))
            continue;
        const json_t *x = resolve(context, schema), *y = resolve(context, other);
        if (types_apart(x, y) || values_apart(x, y))
            return true;
    }
    return false;
}

/* ---- work ------------------------------------------------------------------------------------ */

static uint64_t length_of(const json_t *schema, const char *key)
{
    const json_t *list = json_object_get(schema, key);
    return json_is_object(list) ? json_object_size(list) : json_array_size(list);
}

/* join_values compares each with each. */
static uint64_t values_work(const json_t *a, const json_t *b)
{
    return (1 + length_of(a, "enum")) * (1 + length_of(b, "enum"));
}

uint64_t schema_merge_work(const json_t *a, const json_t *b)
{
    enum { COPIED = 8 }; /* an entry of a list or an object */
    uint64_t copied = json_object_size(a) + json_object_size(b);
    static const char *const keys[] = {"properties", "required", "allOf", "type"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        copied += length_of(a, keys[i]) + length_of(b, keys[i]);
    return COPIED * copied + values_work(a, b);
}

uint64_t schema_apart_work(const json_t *a, const json_t *b,
                           const json_t *(*resolve)(void *context, const json_t *schema),
                           void *context)
{
    const char *name;
    json_t *schema;
    a = resolve(context, a);
    b = resolve(context, b);
    enum { N_TYPES = sizeof(type_names) / sizeof(type_names[0]) };
    const uint64_t n_required = length_of(a, "required") + length_of(b, "required");
    uint64_t work =
        values_work(a, b) + n_required + N_TYPES * (length_of(a, "type") + length_of(b, "type"));
    json_object_foreach(json_object_get(a, "properties"), name, schema)
    {
        const json_t *other = json_object_get(json_object_get(b, "properties"), name);
        if (other != NULL)
            work += n_required + values_work(resolve(context, schema), resolve(context, other));
    }
    return work;
}
