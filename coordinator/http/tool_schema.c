/* tool_schema.c - see tool_choice.h.
 *
 * A schema of arguments may refer into itself ("#/$defs/..."). In the schema of all calls it is no
 * longer the document: it stands in $defs there, under its number, and its references are led to
 * that place. */
#include "coordinator/http/fields.h"
#include "coordinator/http/tool_choice.h"

#include <stdio.h>
#include <string.h>

static bool is_one_of(const char *key, const char *const *keys)
{
    while (*keys != NULL && strcmp(key, *keys) != 0)
        keys++;
    return *keys != NULL;
}

/* A copy in which references into the document lead below `place`. `named`: its members are schemas
 * under names of the client's. NULL: no memory. As deep as the body, which its reader has
 * bounded. */
static json_t *moved(const json_t *schema, const char *place, bool named)
{
    static const char *const values[] = {"const", "enum", "default", "examples", NULL};
    static const char *const maps[] = {"properties", "patternProperties", "$defs", "definitions",
                                       NULL};
    const char *key;
    json_t *item;
    size_t index;
    if (!json_is_object(schema) && !json_is_array(schema))
        return json_deep_copy(schema);
    json_t *copy = json_is_object(schema) ? json_object() : json_array();
    bool good = copy != NULL;
    json_array_foreach(schema, index, item) good =
        good && json_array_append_new(copy, moved(item, place, false)) == 0;
    json_object_foreach((json_t *)schema, key, item)
    {
        const char *reference = !named && strcmp(key, "$ref") == 0 ? json_string_value(item) : NULL;
        json_t *value =
            !good                                      ? NULL
            : reference != NULL && reference[0] == '#' ? json_sprintf("%s%s", place, reference + 1)
            : !named && is_one_of(key, values)         ? json_deep_copy(item)
                                               : moved(item, place, !named && is_one_of(key, maps));
        good = good && json_object_set_new(copy, key, value) == 0;
    }
    if (!good) {
        json_decref(copy);
        return NULL;
    }
    return copy;
}

/* Of a function's arguments; one that names none has none. The caller's reference. */
static json_t *arguments_schema(const json_t *tool)
{
    const json_t *parameters = fields_get(tool_function(tool), "parameters");
    return json_object_size(parameters) > 0 ? json_incref((json_t *)parameters)
                                            : json_pack("{s:s, s:{}, s:b}", "type", "object",
                                                        "properties", "additionalProperties", 0);
}

/* {"name": NAME, "arguments": {...}} of one of the tools. */
static bool add_call(json_t *calls, json_t *definitions, const json_t *tool, size_t number)
{
    char name[24], place[40];
    snprintf(name, sizeof(name), "%zu", number);
    snprintf(place, sizeof(place), "#/$defs/%s", name);
    json_t *arguments = arguments_schema(tool), *call;
    const bool good = json_object_set_new(definitions, name, moved(arguments, place, false)) == 0 &&
                      (call = json_pack("{s:s, s:{s:{s:s}, s:{s:s}}, s:[s, s], s:b}", "type",
                                        "object", "properties", "name", "const", tool_name(tool),
                                        "arguments", "$ref", place, "required", "name", "arguments",
                                        "additionalProperties", 0)) != NULL &&
                      json_array_append_new(calls, call) == 0;
    json_decref(arguments);
    return good;
}

static json_t *calls_schema(const json_t *tools, bool single)
{
    json_t *calls = json_array(), *definitions = json_object(), *tool;
    bool good = calls != NULL && definitions != NULL;
    size_t index;
    json_array_foreach(tools, index, tool) good = good && add_call(calls, definitions, tool, index);
    json_t *schema = !good ? NULL
                           : json_pack("{s:s, s:i, s:{s:O}, s:O}", "type", "array", "minItems", 1,
                                       "items", "anyOf", calls, "$defs", definitions);
    json_decref(calls);
    json_decref(definitions);
    if (schema != NULL && single && json_object_set_new(schema, "maxItems", json_integer(1)) != 0) {
        json_decref(schema);
        return NULL;
    }
    return schema;
}

bool tool_choice_schema(const struct tool_choice *choice, const json_t *callable, char **schema,
                        struct api_error *error)
{
    *schema = NULL;
    if (choice->mode == TOOL_NONE || choice->mode == TOOL_AUTO)
        return true;
    json_t *tree = choice->mode == TOOL_NAMED ? arguments_schema(json_array_get(callable, 0))
                                              : calls_schema(callable, choice->single);
    *schema = tree == NULL ? NULL : json_dumps(tree, JSON_COMPACT);
    json_decref(tree);
    return *schema != NULL || tool_no_memory(error);
}
