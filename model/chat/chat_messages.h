/* model/chat/chat_messages.h - the messages of a chat request as templates expect them.
 *
 * Clients write messages as OpenAI's API says, templates were written for Hugging Face's form. The
 * differences:
 *     content that is an array of text parts   becomes their texts in one string
 *     tool_calls[].function.arguments          is JSON in a string, and becomes what it says
 *     the role "developer"                     is what newer clients call "system"; a template that
 *                                              has never heard of it would drop the message
 * Everything else stays as the client wrote it. */
#ifndef LONGSPAN_MODEL_CHAT_CHAT_MESSAGES_H
#define LONGSPAN_MODEL_CHAT_CHAT_MESSAGES_H

#include "sys/status.h"

#include <jansson.h>
#include <stdbool.h>

/* `knows_developer`: the template does, and is given that role. *prepared is a new array; the
 * caller ends it with json_decref. STATUS_INVALID: no array or an empty one, a message without
 * role, content of a wrong type or with parts that are no text; the text names the place
 * ("messages[2].content"). STATUS_NO_MEMORY. */
enum status chat_messages_prepare(json_t **prepared, const json_t *messages, bool knows_developer,
                                  struct error *error);

#endif
