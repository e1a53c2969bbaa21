/* tool_choice.c - the fields; schemas are in tool_schema.c. */
#include "coordinator/http/tool_choice.h"

#include "coordinator/http/fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOOLS = 256 }; /* alternatives of a schema (constraint/schema.c); OpenAI takes 128 */

static const char field[] = "tool_choice";

void tool_choice_free(struct tool_choice *choice)
{
    for (size_t i = 0; i < choice->n_names; i++)
        free(choice->names[i]);
    free(choice->names);
    *choice = (struct tool_choice){0};
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool tool_choice_offers(const struct tool_choice *choice, const char *name)
{
    return bsearch(&name, choice->names, choice->n_names, sizeof(*choice->names), compare_names) !=
           NULL;
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
    char place[API_ERROR_PARAM_BYTES];
    if (type == NULL || strcmp(type, "function") != 0) {
        snprintf(place, sizeof(place), "tools[%zu].type", number);
        return api_error_field(error, place, "'%s' must be \"function\"", place);
    }
    if (json_string_length(json_object_get(function, "name")) == 0) {
        snprintf(place, sizeof(place), "tools[%zu].function.name", number);
        return api_error_field(error, place, "'%s' must be a string", place);
    }
    if (parameters != NULL && !json_is_object(parameters)) {
        snprintf(place, sizeof(place), "tools[%zu].function.parameters", number);
        return api_error_field(error, place, "'%s' must be an object, not %s", place,
                               fields_type_name(parameters));
    }
    return true;
}

static bool is_word(const json_t *value, const char *word)
{
    return json_is_string(value) && strcmp(json_string_value(value), word) == 0;
}

/* The first of that name; NULL: there is none. */
static json_t *find_tool(const json_t *tools, const char *name)
{
    for (size_t i = 0; i < json_array_size(tools); i++)
        if (strcmp(tool_name(json_array_get(tools, i)), name) == 0)
            return json_array_get(tools, i);
    return NULL;
}

/* Adds the tool that an object {"type": "function", "function": {"name": ...}} names. */
static bool add_named(json_t *callable, const json_t *tools, const json_t *value,
                      struct api_error *error)
{
    const char *name = tool_name(value);
    json_t *tool = name != NULL ? find_tool(tools, name) : NULL;
    if (name == NULL)
        return api_error_field(error, field,
                               "'%s' must be none, auto, required, or an object {\"type\": "
                               "\"function\", \"function\": {\"name\": ...}}",
                               field);
    if (tool == NULL)
        return api_error_field(error, field, "'%s': there is no function '%.200s' among the tools",
                               field, name);
    return json_array_append(callable, tool) == 0 || tool_no_memory(error);
}

/* {"type": "allowed_tools", "allowed_tools": {"mode": ..., "tools": [...]}} */
static bool read_allowed(struct tool_choice *choice, const json_t *allowed, const json_t *tools,
                         json_t *callable, struct api_error *error)
{
    const json_t *mode = json_object_get(allowed, "mode"),
                 *list = json_object_get(allowed, "tools");
    const bool is_auto = is_word(mode, "auto");
    if (!is_auto && !is_word(mode, "required"))
        return api_error_field(error, field, "'%s.allowed_tools.mode' must be auto or required",
                               field);
    if (json_array_size(list) == 0 || json_array_size(list) > MOST_TOOLS)
        return api_error_field(error, field,
                               "'%s.allowed_tools.tools' must be an array of 1 to %d functions",
                               field, MOST_TOOLS);
    choice->mode = is_auto ? TOOL_AUTO : TOOL_REQUIRED;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!add_named(callable, tools, json_array_get(list, i), error))
            return false;
    return true;
}

/* The mode, and in `callable` the tools that may be called. */
static bool read_mode(struct tool_choice *choice, const json_t *body, const json_t *tools,
                      json_t *callable, struct api_error *error)
{
    const json_t *value = fields_get(body, field), *allowed;
    const bool is_auto = value == NULL || is_word(value, "auto");
    choice->mode = TOOL_NONE;
    if (is_word(value, "none"))
        return true;
    if (json_array_size(tools) == 0)
        return is_auto ||
               api_error_field(error, field, "'%s' is only allowed where there are 'tools'", field);
    if (is_auto || is_word(value, "required")) {
        choice->mode = is_auto ? TOOL_AUTO : TOOL_REQUIRED;
        return json_array_extend(callable, (json_t *)tools) == 0 || tool_no_memory(error);
    }
    if ((allowed = json_object_get(value, "allowed_tools")) != NULL)
        return read_allowed(choice, allowed, tools, callable, error);
    choice->mode = TOOL_NAMED;
    return add_named(callable, tools, value, error);
}

static bool add_name(struct tool_choice *choice, const json_t *tool)
{
    char *name = strdup(tool_name(tool));
    if (name == NULL)
        return false;
    choice->names[choice->n_names++] = name;
    return true;
}

static bool take_names(struct tool_choice *choice, const json_t *callable, struct api_error *error)
{
    const size_t n = json_array_size(callable);
    choice->names = calloc(n + 1, sizeof(*choice->names));
    if (choice->names == NULL)
        return tool_no_memory(error);
    for (size_t i = 0; i < n; i++)
        if (!add_name(choice, json_array_get(callable, i)))
            return tool_no_memory(error);
    qsort(choice->names, n, sizeof(*choice->names), compare_names);
    return true;
}

static bool check_tools(const json_t *tools, struct api_error *error)
{
    if (tools != NULL && !json_is_array(tools))
        return api_error_field(error, "tools", "'tools' must be an array, not %s",
                               fields_type_name(tools));
    const size_t n = json_array_size(tools);
    if (n > MOST_TOOLS)
        return api_error_field(error, "tools", "'tools' has %zu functions: at most %d", n,
                               MOST_TOOLS);
    for (size_t i = 0; i < n; i++)
        if (!check_tool(json_array_get(tools, i), i, error))
            return false;
    return true;
}

bool tool_choice_read(struct tool_choice *choice, const json_t *body, json_t **callable,
                      struct api_error *error)
{
    const json_t *tools = fields_get(body, "tools");
    bool parallel = true;
    *choice = (struct tool_choice){.mode = TOOL_NONE};
    *callable = json_array();
    if (*callable == NULL)
        return tool_no_memory(error);
    const bool good =
        check_tools(tools, error) && fields_bool(body, "parallel_tool_calls", &parallel, error) &&
        read_mode(choice, body, tools, *callable, error) && take_names(choice, *callable, error);
    choice->single = !parallel;
    return good;
}
