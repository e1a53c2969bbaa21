/* schema.c - see schema.h: references, alternatives, and what is common to all types.
 * schema_types.c writes the values of each type. */
#include "coordinator/constraint/schema_compiler.h"
#include "coordinator/constraint/schema_merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_NESTING = 100,
    MAX_ALTERNATIVES = 256,
    MAX_WORK = 1 << 23, /* half a second */
};

uint32_t schema_refuse(struct schema_compiler *c, const json_t *schema, const char *what)
{
    const char *title = json_string_value(json_object_get(schema, "title"));
    return grammar_fail(c->grammar, "%.300s%s%.80s%s (at %.200s)", what,
                        title != NULL ? ", in \"" : "", title != NULL ? title : "",
                        title != NULL ? "\"" : "", c->place[0] != '\0' ? c->place : "the top");
}

bool schema_spend(struct schema_compiler *c, const json_t *schema, uint64_t work)
{
    c->work += work < MAX_WORK ? work : MAX_WORK;
    if (c->work >= MAX_WORK)
        schema_refuse(c, schema, "the schema combines too much with too much");
    return c->work < MAX_WORK;
}

static bool good(const struct schema_compiler *c)
{
    return c->grammar->status == STATUS_OK;
}

/* ---- keywords -------------------------------------------------------------------------------- */

static bool is_one_of(const char *const *names, const char *name)
{
    for (; *names != NULL; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

/* Every keyword is one that we keep, or one that asks for nothing. */
static void check_keywords(struct schema_compiler *c, const json_t *schema)
{
    static const char *const known[] = {"title",
                                        "description",
                                        "default",
                                        "examples",
                                        "example",
                                        "$comment",
                                        "$schema",
                                        "$id",
                                        "deprecated",
                                        "readOnly",
                                        "writeOnly",
                                        "$defs",
                                        "definitions",
                                        "type",
                                        "enum",
                                        "const",
                                        "anyOf",
                                        "oneOf",
                                        "allOf",
                                        "$ref",
                                        "properties",
                                        "required",
                                        "additionalProperties",
                                        "minProperties",
                                        "maxProperties",
                                        "items",
                                        "prefixItems",
                                        "additionalItems",
                                        "minItems",
                                        "maxItems",
                                        "minLength",
                                        "maxLength",
                                        "pattern",
                                        "format",
                                        "minimum",
                                        "maximum",
                                        "exclusiveMinimum",
                                        "exclusiveMaximum",
                                        "nullable",
                                        NULL};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)schema, key, value)
    {
        char what[200];
        if (is_one_of(known, key) || (strcmp(key, "uniqueItems") == 0 && json_is_false(value)) ||
            (strcmp(key, "multipleOf") == 0 && json_integer_value(value) == 1))
            continue;
        snprintf(what, sizeof(what), "the schema keyword '%.100s' is not supported", key);
        schema_refuse(c, schema, what);
        return;
    }
}

/* ---- references ------------------------------------------------------------------------------ */

/* The part of the document that "#/a/b" names; NULL: there is none. */
static const json_t *find_reference(const struct schema_compiler *c, const char *reference)
{
    const json_t *at = c->root;
    if (reference[0] != '#')
        return NULL;
    for (const char *p = reference + 1; *p == '/' && at != NULL;) {
        char name[256];
        size_t n = 0;
        for (p++; *p != '\0' && *p != '/' && n < sizeof(name) - 1; p++) {
            if (p[0] == '~' && (p[1] == '0' || p[1] == '1'))
                name[n++] = *++p == '0' ? '~' : '/';
            else
                name[n++] = *p;
        }
        name[n] = '\0';
        if (*p != '\0' && *p != '/')
            return NULL;
        at = json_is_array(at) ? json_array_get(at, strtoul(name, NULL, 10))
                               : json_object_get(at, name);
    }
    return at;
}

/* Through $ref that stand alone; the schema itself where there is none, or a bad one. */
static const json_t *resolve(void *context, const json_t *schema)
{
    for (int i = 0; i < MAX_NESTING; i++) {
        const char *reference = json_string_value(json_object_get(schema, "$ref"));
        const json_t *target = reference != NULL ? find_reference(context, reference) : NULL;
        if (target == NULL)
            break;
        schema = target;
    }
    return schema;
}

/* ---- combinations ---------------------------------------------------------------------------- */

/* A new schema, kept until the end. */
static const json_t *keep(struct schema_compiler *c, json_t *schema)
{
    if (schema == NULL || json_array_append_new(c->made, schema) != 0) {
        grammar_fail(c->grammar, "no memory for the schema");
        return NULL;
    }
    return schema;
}

static const json_t *without(struct schema_compiler *c, const json_t *schema, const char *key)
{
    json_t *copy = json_copy((json_t *)schema);
    if (copy != NULL)
        json_object_del(copy, key);
    return keep(c, copy);
}

static const json_t *merged(struct schema_compiler *c, const json_t *a, const json_t *b)
{
    const char *keyword = "";
    if (!schema_spend(c, a, schema_merge_work(a, b)))
        return NULL;
    json_t *both = schema_merge(a, b, &keyword);
    if (both == NULL) {
        char what[200];
        snprintf(what, sizeof(what), "two schemas with '%.100s' that must hold together", keyword);
        schema_refuse(c, a, what);
        return NULL;
    }
    return keep(c, both);
}

/* Nothing but words about it. */
static bool says_nothing(const json_t *schema)
{
    static const char *const about[] = {
        "title", "description", "default",  "examples",  "example", "$comment",    "$schema",
        "$id",   "deprecated",  "readOnly", "writeOnly", "$defs",   "definitions", NULL};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)schema, key, value) if (!is_one_of(about, key)) return false;
    return true;
}

/* Can no two of the list hold together? */
static bool all_apart(struct schema_compiler *c, const json_t *schema, const json_t *list)
{
    for (size_t j = 1; j < json_array_size(list); j++)
        for (size_t i = 0; i < j; i++) {
            const json_t *one = json_array_get(list, i), *other = json_array_get(list, j);
            if (!schema_spend(c, schema, schema_apart_work(one, other, resolve, c)))
                return false;
            if (!schema_apart(one, other, resolve, c)) {
                schema_refuse(c, schema,
                              "oneOf whose alternatives may hold together is not supported (anyOf "
                              "is)");
                return false;
            }
        }
    return true;
}

static uint32_t alternatives(struct schema_compiler *c, const json_t *schema, const char *key)
{
    const json_t *list = json_object_get(schema, key);
    const json_t *base = without(c, schema, key);
    uint32_t entry = GRAMMAR_NEVER;
    size_t i;
    json_t *one;
    if (!json_is_array(list) || json_array_size(list) == 0)
        return schema_refuse(c, schema, "anyOf or oneOf that is no list of schemas");
    if (json_array_size(list) > MAX_ALTERNATIVES)
        return schema_refuse(c, schema, "anyOf or oneOf of more than 256 schemas");
    if (strcmp(key, "oneOf") == 0 && !all_apart(c, schema, list))
        return 0;
    json_array_foreach(list, i, one)
    {
        const json_t *whole = base == NULL || says_nothing(base) ? one : merged(c, base, one);
        if (whole == NULL || !good(c))
            return 0;
        if (json_is_false(whole))
            continue;
        const uint32_t call =
            grammar_call(c->grammar, schema_rule(c, whole), grammar_return(c->grammar));
        entry = entry == GRAMMAR_NEVER ? call : grammar_split(c->grammar, call, entry);
    }
    return entry != GRAMMAR_NEVER ? entry : schema_refuse(c, schema, "a schema without any value");
}

static uint32_t all_of(struct schema_compiler *c, const json_t *schema)
{
    const json_t *list = json_object_get(schema, "allOf");
    const json_t *whole = without(c, schema, "allOf");
    size_t i;
    json_t *one;
    if (!json_is_array(list))
        return schema_refuse(c, schema, "allOf that is no list of schemas");
    json_array_foreach(list, i, one)
    {
        if (!json_is_object(one) && !json_is_boolean(one))
            return schema_refuse(c, schema, "allOf of something that is no schema");
        if (whole != NULL && good(c))
            whole = merged(c, whole, resolve(c, one));
    }
    if (whole == NULL || !good(c))
        return 0;
    return grammar_call(c->grammar, schema_rule(c, whole), grammar_return(c->grammar));
}

static uint32_t reference(struct schema_compiler *c, const json_t *schema)
{
    const char *name = json_string_value(json_object_get(schema, "$ref"));
    const json_t *target = name != NULL ? find_reference(c, name) : NULL;
    const json_t *beside = without(c, schema, "$ref");
    if (target == NULL) {
        char what[300];
        snprintf(what, sizeof(what), "$ref '%.200s' leads nowhere", name != NULL ? name : "");
        return schema_refuse(c, schema, what);
    }
    if (beside != NULL && !says_nothing(beside))
        target = merged(c, beside, target);
    if (target == NULL || !good(c))
        return 0;
    return grammar_call(c->grammar, schema_rule(c, target), grammar_return(c->grammar));
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Does a listed value keep to the keywords beside the list? Only its type can be told. */
static uint32_t listed_values(struct schema_compiler *c, const json_t *schema, const json_t *values)
{
    static const char *const beside[] = {"pattern",
                                         "format",
                                         "minLength",
                                         "maxLength",
                                         "minimum",
                                         "maximum",
                                         "exclusiveMinimum",
                                         "exclusiveMaximum",
                                         "properties",
                                         "required",
                                         "additionalProperties",
                                         "items",
                                         "minItems",
                                         "maxItems",
                                         "prefixItems",
                                         NULL};
    const json_t *type = json_object_get(schema, "type");
    uint32_t entry = GRAMMAR_NEVER;
    size_t i;
    json_t *value;
    for (i = 0; beside[i] != NULL; i++)
        if (json_object_get(schema, beside[i]) != NULL)
            return schema_refuse(c, schema, "enum or const beside other keywords than type");
    if (json_object_get(schema, "enum") != NULL && json_object_get(schema, "const") != NULL)
        return schema_refuse(c, schema, "enum beside const");
    json_array_foreach(values, i, value)
    {
        if (!schema_has_type(type, schema_type_of(value)))
            continue;
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        if (text == NULL)
            return schema_refuse(c, schema, "a value that cannot be written");
        const uint32_t one =
            grammar_text(c->grammar, text, strlen(text), grammar_return(c->grammar));
        entry = entry == GRAMMAR_NEVER ? one : grammar_split(c->grammar, one, entry);
        free(text);
    }
    return entry != GRAMMAR_NEVER ? entry
                                  : schema_refuse(c, schema, "enum or const without any value");
}

/* The types that a schema without `type` means: those that its keywords are about. */
static json_t *meant_types(const json_t *schema)
{
    static const struct {
        const char *key, *type;
    } about[] = {{"properties", "object"},
                 {"required", "object"},
                 {"additionalProperties", "object"},
                 {"minProperties", "object"},
                 {"maxProperties", "object"},
                 {"items", "array"},
                 {"prefixItems", "array"},
                 {"minItems", "array"},
                 {"maxItems", "array"},
                 {"minLength", "string"},
                 {"maxLength", "string"},
                 {"pattern", "string"},
                 {"format", "string"},
                 {"minimum", "number"},
                 {"maximum", "number"},
                 {"exclusiveMinimum", "number"},
                 {"exclusiveMaximum", "number"}};
    json_t *types = json_array();
    for (size_t i = 0; i < sizeof(about) / sizeof(about[0]); i++)
        if (json_object_get(schema, about[i].key) != NULL &&
            (json_array_size(types) == 0 || !schema_has_type(types, about[i].type)))
            json_array_append_new(types, json_string(about[i].type));
    return types;
}

static uint32_t typed(struct schema_compiler *c, const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type");
    json_t *meant = NULL;
    uint32_t entry = GRAMMAR_NEVER;
    bool any = false;
    if (type == NULL)
        type = meant = meant_types(schema);
    if (json_is_array(type) && json_array_size(type) == 0 && meant != NULL) {
        json_decref(meant);
        return grammar_call(c->grammar, schema_any(c), grammar_return(c->grammar));
    }
    static const char *const names[] = {"object",  "array",   "string", "number",
                                        "integer", "boolean", "null"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && good(c); i++) {
        /* An integer is among the numbers already. */
        if (!schema_has_type(type, names[i]) ||
            (strcmp(names[i], "integer") == 0 && schema_has_type(type, "number")))
            continue;
        const uint32_t one = schema_value(c, schema, names[i], grammar_return(c->grammar));
        entry = any ? grammar_split(c->grammar, one, entry) : one;
        any = true;
    }
    if (any && json_is_true(json_object_get(schema, "nullable")))
        entry = grammar_split(
            c->grammar, grammar_text(c->grammar, "null", 4, grammar_return(c->grammar)), entry);
    json_decref(meant);
    return any ? entry : schema_refuse(c, schema, "a type that does not exist, or none");
}

static uint32_t compile(struct schema_compiler *c, const json_t *schema)
{
    if (json_is_true(schema) || says_nothing(schema))
        return json_is_true(schema) || json_is_object(schema)
                   ? grammar_call(c->grammar, schema_any(c), grammar_return(c->grammar))
                   : schema_refuse(c, schema, "a schema that is neither an object nor true");
    check_keywords(c, schema);
    if (!good(c))
        return 0;
    if (json_object_get(schema, "$ref") != NULL)
        return reference(c, schema);
    if (json_object_get(schema, "allOf") != NULL)
        return all_of(c, schema);
    if (json_object_get(schema, "anyOf") != NULL)
        return alternatives(c, schema, "anyOf");
    if (json_object_get(schema, "oneOf") != NULL)
        return alternatives(c, schema, "oneOf");
    json_t *only = json_object_get(schema, "const");
    if (only != NULL) {
        json_t *list = json_pack("[O]", only);
        const uint32_t entry = listed_values(c, schema, list);
        json_decref(list);
        return entry;
    }
    if (json_object_get(schema, "enum") != NULL)
        return listed_values(c, schema, json_object_get(schema, "enum"));
    return typed(c, schema);
}

uint32_t schema_rule(struct schema_compiler *c, const json_t *schema)
{
    char key[32];
    if (!good(c))
        return 0;
    snprintf(key, sizeof(key), "%p", (const void *)schema);
    const json_t *known = json_object_get(c->rules, key);
    if (known != NULL)
        return (uint32_t)json_integer_value(known);
    if (c->depth >= MAX_NESTING)
        return schema_refuse(c, schema,
                             "the schema is nested too deeply, or refers to itself "
                             "through allOf, or has keywords beside such a $ref");
    const uint32_t rule = grammar_rule(c->grammar);
    if (json_object_set_new(c->rules, key, json_integer(rule)) != 0)
        return grammar_fail(c->grammar, "no memory for the schema");
    c->depth++;
    grammar_rule_set(c->grammar, rule, compile(c, schema));
    c->depth--;
    return rule;
}

enum status schema_compile(struct grammar *grammar, const json_t *schema, struct error *error)
{
    struct schema_compiler c = {
        .grammar = grammar, .root = schema, .rules = json_object(), .made = json_array()};
    const uint32_t whole = grammar_rule(grammar); /* rule 0 */
    if (c.rules == NULL || c.made == NULL)
        grammar_fail(grammar, "no memory for the schema");
    json_t *any_object = json_pack("{s:s}", "type", "object");
    const uint32_t inner = schema_rule(&c, schema != NULL ? schema : any_object);
    grammar_rule_set(grammar, whole, grammar_call(grammar, inner, grammar_return(grammar)));
    json_decref(any_object);
    json_decref(c.rules);
    json_decref(c.made);
    if (grammar_finish(grammar) != STATUS_OK)
        return error_set(error, grammar->status, "%s", grammar->error.text);
    return STATUS_OK;
}
