/* tool_choice.c - the fields; schemas are in tool_schema.c. */
#include "coordinator/http/tool_choice.h"

#include "coordinator/http/fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tool_choice_free(struct tool_choice *choice)
{
    for (size_t i = 0; i < choice->n_names; i++)
        free(choice->names[i]);
    free(choice->names);
    *choice = (struct tool_choice){0};
}

bool tool_choice_offers(const struct tool_choice *choice, const char *name)
{
    for (size_t i = 0; i < choice->n_names; i++)
        if (strcmp(choice->names[i], name) == 0)
            return true;
    return false;
}

const json_t *tool_function(const json_t *tool)
{
    return json_object_get(tool, "function");
}

const char *tool_name(const json_t *tool)
{
    return json_string_value(json_object_get(tool_function(tool), "name"));
}

bool tool_no_memory(struct api_error *error)
{
    return api_error_set(error, 503, NULL, "unavailable", "no memory for the tools");
}

static bool check_tool(const json_t *tool, size_t number, struct api_error *error)
{
    const char *type = json_string_value(json_object_get(tool, "type"));
    const json_t *function = tool_function(tool), *parameters = fields_get(function, "parameters");
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

/* The mode, and in TOOL_NAMED the place of that tool. */
static bool read_mode(struct tool_choice *choice, const json_t *body, const json_t *tools,
                      struct api_error *error)
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
    const char *name = tool_name(value);
    if (name == NULL)
        return api_error_field(error, field,
                               "'%s' must be none, auto, required, or an object {\"type\": "
                               "\"function\", \"function\": {\"name\": ...}}",
                               field);
    choice->mode = TOOL_NAMED;
    for (choice->named = 0; choice->named < json_array_size(tools); choice->named++)
        if (strcmp(tool_name(json_array_get(tools, choice->named)), name) == 0)
            return true;
    return api_error_field(error, field, "'%s': there is no function '%.200s' among the tools",
                           field, name);
}

static bool add_name(struct tool_choice *choice, const json_t *tool)
{
    char *name = strdup(tool_name(tool));
    if (name == NULL)
        return false;
    choice->names[choice->n_names++] = name;
    return true;
}

bool tool_choice_read(struct tool_choice *choice, const json_t *body, struct api_error *error)
{
    const json_t *tools = fields_get(body, "tools");
    bool parallel = true;
    *choice = (struct tool_choice){.mode = TOOL_NONE};
    if (tools != NULL && !json_is_array(tools))
        return api_error_field(error, "tools", "'tools' must be an array, not %s",
                               fields_type_name(tools));
    const size_t n = json_array_size(tools);
    for (size_t i = 0; i < n; i++)
        if (!check_tool(json_array_get(tools, i), i, error))
            return false;
    if (!read_mode(choice, body, tools, error) ||
        !fields_bool(body, "parallel_tool_calls", &parallel, error))
        return false;
    choice->single = !parallel;
    if (choice->mode == TOOL_NONE)
        return true;
    choice->names = calloc(n, sizeof(*choice->names));
    if (choice->names == NULL)
        return tool_no_memory(error);
    for (size_t i = 0; i < n; i++)
        if ((choice->mode != TOOL_NAMED || i == choice->named) &&
            !add_name(choice, json_array_get(tools, i)))
            return tool_no_memory(error);
    return true;
}
