/* chat_messages.c - see chat_messages.h. */
#include "model/chat/chat_messages.h"

#include <stdlib.h>
#include <string.h>

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the messages");
}

static enum status check_part(const json_t *part, size_t message, size_t index, struct error *error)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    if (type == NULL)
        return error_set(error, STATUS_INVALID, "messages[%zu].content[%zu] has no type", message,
                         index);
    if (strcmp(type, "text") != 0)
        return error_set(error, STATUS_INVALID,
                         "messages[%zu].content[%zu] is of type \"%.40s\": only text is supported",
                         message, index, type);
    if (!json_is_string(json_object_get(part, "text")))
        return error_set(error, STATUS_INVALID, "messages[%zu].content[%zu].text is no string",
                         message, index);
    return STATUS_OK;
}

static enum status join_parts(json_t *message, const json_t *parts, size_t number,
                              struct error *error)
{
    size_t index, n_bytes = 0;
    json_t *part;
    json_array_foreach(parts, index, part)
    {
        const enum status status = check_part(part, number, index, error);
        if (status != STATUS_OK)
            return status;
        n_bytes += json_string_length(json_object_get(part, "text"));
    }
    char *text = malloc(n_bytes + 1);
    if (text == NULL)
        return no_memory(error);
    n_bytes = 0;
    json_array_foreach(parts, index, part)
    {
        const json_t *piece = json_object_get(part, "text");
        memcpy(text + n_bytes, json_string_value(piece), json_string_length(piece));
        n_bytes += json_string_length(piece);
    }
    const int failed = json_object_set_new(message, "content", json_stringn(text, n_bytes));
    free(text);
    return failed ? no_memory(error) : STATUS_OK;
}

/* A copy of the calls in which arguments that are JSON objects are objects. */
static enum status read_arguments(json_t *message, const json_t *calls, struct error *error)
{
    json_t *copy = json_deep_copy(calls), *call;
    size_t index;
    if (copy == NULL)
        return no_memory(error);
    json_array_foreach(copy, index, call)
    {
        json_t *function = json_object_get(call, "function");
        const json_t *text = json_object_get(function, "arguments");
        if (!json_is_string(text))
            continue;
        json_t *arguments =
            json_loadb(json_string_value(text), json_string_length(text), JSON_ALLOW_NUL, NULL);
        if (arguments != NULL && json_object_set_new(function, "arguments", arguments) != 0) {
            json_decref(copy);
            return no_memory(error);
        }
    }
    return json_object_set_new(message, "tool_calls", copy) == 0 ? STATUS_OK : no_memory(error);
}

static enum status rename_role(json_t *message, struct error *error)
{
    return json_object_set_new(message, "role", json_string("system")) == 0 ? STATUS_OK
                                                                            : no_memory(error);
}

static enum status prepare_one(json_t *message, size_t number, bool knows_developer,
                               struct error *error)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *content = json_object_get(message, "content");
    const json_t *calls = json_object_get(message, "tool_calls");
    if (role == NULL)
        return error_set(error, STATUS_INVALID, "messages[%zu].role is no string", number);
    if (content != NULL && !json_is_string(content) && !json_is_null(content) &&
        !json_is_array(content))
        return error_set(error, STATUS_INVALID,
                         "messages[%zu].content is neither a string nor an array", number);
    if (calls != NULL && !json_is_null(calls) && !json_is_array(calls))
        return error_set(error, STATUS_INVALID, "messages[%zu].tool_calls is no array", number);
    enum status status =
        json_is_array(content) ? join_parts(message, content, number, error) : STATUS_OK;
    if (status == STATUS_OK && json_is_array(calls))
        status = read_arguments(message, calls, error);
    if (status == STATUS_OK && !knows_developer && strcmp(role, "developer") == 0)
        status = rename_role(message, error);
    return status;
}

enum status chat_messages_prepare(json_t **prepared, const json_t *messages, bool knows_developer,
                                  struct error *error)
{
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return error_set(error, STATUS_INVALID, "messages is no array, or an empty one");
    json_t *all = json_array();
    if (all == NULL)
        return no_memory(error);
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);
        if (!json_is_object(message)) {
            status = error_set(error, STATUS_INVALID, "messages[%zu] is no object", i);
            break;
        }
        message = json_copy(message); /* its members are shared and never changed */
        if (message == NULL || json_array_append_new(all, message) != 0)
            status = no_memory(error);
        else
            status = prepare_one(message, i, knows_developer, error);
    }
    if (status != STATUS_OK) {
        json_decref(all);
        return status;
    }
    *prepared = all;
    return STATUS_OK;
}
