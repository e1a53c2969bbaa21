/* coordinator/http/chat_prompt.h - the text of a chat's prompt, by the model's template. */
#ifndef LONGSPAN_COORDINATOR_HTTP_CHAT_PROMPT_H
#define LONGSPAN_COORDINATOR_HTTP_CHAT_PROMPT_H

#include "coordinator/http/api_error.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

/* Renders the `messages` of a request's body, and what else it tells the template; `tools`: of
 * which the model is to be told, or NULL. `site`: a struct site, as generate_limits.render has it.
 * *text is the caller's, and has its special tokens in it. False: *error is the answer. */
bool chat_prompt_render(void *site, const json_t *body, const json_t *tools,
                        const atomic_bool *stop, char **text, size_t *n_bytes,
                        struct api_error *error);

#endif
