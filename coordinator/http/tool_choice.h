/* coordinator/http/tool_choice.h - which tools a chat offers, and whether its answer has to call
 * one.
 *
 * `tools` are functions with a name and a JSON schema of their arguments. `tool_choice`:
 *     "none"                           the template is not told of them
 *     "auto"                           the model may call some, in its own form (tool_calls.h)
 *     "required"                       the answer is a JSON array of calls of these functions
 *     {"type": "function",
 *      "function": {"name": NAME}}     the answer is the arguments of that one
 *     {"type": "allowed_tools",
 *      "allowed_tools": {
 *          "mode": "auto" or "required",
 *          "tools": [...]}}            as that, of these; the template is told of all
 * "required" and a named function are kept by a schema for the whole answer, so that any model can
 * be asked for them, whatever form it was trained on. Pure. */
#ifndef LONGSPAN_COORDINATOR_HTTP_TOOL_CHOICE_H
#define LONGSPAN_COORDINATOR_HTTP_TOOL_CHOICE_H

#include "coordinator/http/api_error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum tool_mode { TOOL_NONE, TOOL_AUTO, TOOL_REQUIRED, TOOL_NAMED };

struct tool_choice {
    enum tool_mode mode;
    char **names; /* of the functions that may be called, sorted; one in TOOL_NAMED */
    size_t n_names;
    bool single; /* parallel_tool_calls false: one call at most */
};

/* Reads a chat's `tools`, `tool_choice` and `parallel_tool_calls`. The caller ends *choice with
 * tool_choice_free, and *callable, the tools that may be called, with json_decref, also after a
 * failure. False: *error names the field. */
bool tool_choice_read(struct tool_choice *choice, const json_t *body, json_t **callable,
                      struct api_error *error);
void tool_choice_free(struct tool_choice *choice);

/* The schema that the answer has to keep; NULL in TOOL_NONE and TOOL_AUTO. The caller frees it.
 * False: *error says why. */
bool tool_choice_schema(const struct tool_choice *choice, const json_t *callable, char **schema,
                        struct api_error *error);

/* May a function of that name be called? */
bool tool_choice_offers(const struct tool_choice *choice, const char *name);

/* ---- for tool_choice.c and tool_schema.c: one of the tools */

const json_t *tool_function(const json_t *tool);
const char *tool_name(const json_t *tool);
bool tool_no_memory(struct api_error *error); /* false */

#endif
