/* tool_choice.c - see tool_choice.h.
 *
 * A schema of arguments may refer into itself ("#/$defs/..."). In the schema of all calls it is no
 * longer the document: it stands in $defs there, under its number, and its references are led to
 * that place. */
#include "coordinator/http/tool_choice.h"

#include "coordinator/http/fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool no_memory(struct api_error *error)
{
    return api_error_set(error, 503, NULL, "unavailable", "no memory for the tools");
}

void tool_choice_free(struct tool_choice *choice)
{
    for (size_t i = 0; i < choice->n_names; i++)
        free(choice->names[i]);
    free(choice->names);
    free(choice->schema);
    *choice = (struct tool_choice){0};
}

bool tool_choice_offers(const struct tool_choice *choice, const char *name)
{
    for (size_t i = 0; i < choice->n_names; i++)
        if (strcmp(choice->names[i], name) == 0)
            return true;
    return false;
}

/* ---- fields ---------------------------------------------------------------------------------- */

static const json_t *function_of(const json_t *tool)
{
    return json_object_get(tool, "function");
}

static bool check_tool(const json_t *tool, size_t number, struct api_error *error)
{
    const char *type = json_string_value(json_object_get(tool, "type"));
    const json_t *function = function_of(tool), *parameters = fields_get(function, "parameters");
    char field[API_ERROR_PARAM_BYTES];
    if (type == NULL || strcmp(type, "function") != 0) {
        snprintf(field, sizeof(field), "tools[%zu].type", number);
        return api_error_field(error, field, "'%s' must be \"function\"", field);
    }
    if (json_string_length(json_object_get(function, "name")) == 0) {
        snprintf(field, sizeof(field), "tools[%zu].function.name", number);
        return api_error_field(error, field, "'%s' must be a string", field);
    }
    if (parameters != NULL && !json_is_object(parameters)) {
        snprintf(field, sizeof(field), "tools[%zu].function.parameters", number);
        return api_error_field(error, field, "'%s' must be an object, not %s", field,
                               fields_type_name(parameters));
    }
    return true;
}

static const char *name_of(const json_t *tool)
{
    return json_string_value(json_object_get(function_of(tool), "name"));
}

/* The mode, and in TOOL_NAMED the place of that tool. */
static bool read_mode(struct tool_choice *choice, const json_t *body, const json_t *tools,
                      size_t *named, struct api_error *error)
{
    static const char field[] = "tool_choice";
    const json_t *value = fields_get(body, field);
    const char *word = json_string_value(value);
    choice->mode = json_array_size(tools) > 0 ? TOOL_AUTO : TOOL_NONE;
    if (value == NULL || (word != NULL && strcmp(word, "auto") == 0))
        return true;
    if (word != NULL && strcmp(word, "none") == 0) {
        choice->mode = TOOL_NONE;
        return true;
    }
    if (choice->mode == TOOL_NONE)
        return api_error_field(error, field, "'%s' is only allowed where there are 'tools'", field);
    if (word != NULL && strcmp(word, "required") == 0) {
        choice->mode = TOOL_REQUIRED;
        return true;
    }
    const char *name = name_of(value);
    if (name == NULL)
        return api_error_field(error, field,
                               "'%s' must be none, auto, required, or an object {\"type\": "
                               "\"function\", \"function\": {\"name\": ...}}",
                               field);
    choice->mode = TOOL_NAMED;
    for (*named = 0; *named < json_array_size(tools); (*named)++)
        if (strcmp(name_of(json_array_get(tools, *named)), name) == 0)
            return true;
    return api_error_field(error, field, "'%s': there is no function '%.200s' among the tools",
                           field, name);
}

static bool add_name(struct tool_choice *choice, const json_t *tool)
{
    char *name = strdup(name_of(tool));
    if (name == NULL)
        return false;
    choice->names[choice->n_names++] = name;
    return true;
}

/* ---- schemas --------------------------------------------------------------------------------- */

static bool is_one_of(const char *key, const char *const *keys)
{
    while (*keys != NULL && strcmp(key, *keys) != 0)
        keys++;
    return *keys != NULL;
}

/* A copy in which references into the document lead below `place`. `named`: its members are schemas under
 * names of the client's. NULL: no memory. As deep as the body, which its reader has bounded. */
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
    const json_t *parameters = fields_get(function_of(tool), "parameters");
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
    const bool good =
        json_object_set_new(definitions, name, moved(arguments, place, false)) == 0 &&
        (call = json_pack("{s:s, s:{s:{s:s}, s:{s:s}}, s:[s, s], s:b}", "type", "object",
                          "properties", "name", "const", name_of(tool), "arguments", "$ref", place,
                          "required", "name", "arguments", "additionalProperties", 0)) != NULL &&
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

bool tool_choice_read(struct tool_choice *choice, const json_t *body, struct api_error *error)
{
    const json_t *tools = fields_get(body, "tools");
    size_t named = 0;
    bool parallel = true;
    *choice = (struct tool_choice){.mode = TOOL_NONE};
    if (tools != NULL && !json_is_array(tools))
        return api_error_field(error, "tools", "'tools' must be an array, not %s",
                               fields_type_name(tools));
    const size_t n = json_array_size(tools);
    for (size_t i = 0; i < n; i++)
        if (!check_tool(json_array_get(tools, i), i, error))
            return false;
    if (!read_mode(choice, body, tools, &named, error) ||
        !fields_bool(body, "parallel_tool_calls", &parallel, error))
        return false;
    choice->single = !parallel;
    if (choice->mode == TOOL_NONE)
        return true;
    choice->names = calloc(n, sizeof(*choice->names));
    if (choice->names == NULL)
        return no_memory(error);
    for (size_t i = 0; i < n; i++)
        if ((choice->mode != TOOL_NAMED || i == named) &&
            !add_name(choice, json_array_get(tools, i)))
            return no_memory(error);
    if (choice->mode == TOOL_AUTO)
        return true;
    json_t *schema = choice->mode == TOOL_NAMED ? arguments_schema(json_array_get(tools, named))
                                                : calls_schema(tools, choice->single);
    choice->schema = schema == NULL ? NULL : json_dumps(schema, JSON_COMPACT);
    json_decref(schema);
    return choice->schema != NULL || no_memory(error);
}
