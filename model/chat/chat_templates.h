/* model/chat/chat_templates.h - a model's chat templates: those in its file, or one that was chosen
 * instead.
 *
 * A GGUF file may carry tokenizer.chat_template, and further ones by name,
 * tokenizer.chat_template.NAME: `tool_use` is taken where a request has tools. A model without a
 * template, or with one that we do not understand, is no failure: completions work, and each chat
 * is refused with the reason. */
#ifndef LONGSPAN_MODEL_CHAT_CHAT_TEMPLATES_H
#define LONGSPAN_MODEL_CHAT_CHAT_TEMPLATES_H

#include "model/model_file.h"
#include "model/tokenizer.h"
#include "sys/status.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct chat_templates; /* opaque; immutable: any number of threads may render */

/* The built-in templates, of our own writing, by name; ends with an entry without name. */
struct chat_template_name {
    const char *name, *about, *source;
};
extern const struct chat_template_name chat_template_names[];

/* NULL: there is no built-in template of that name. */
const char *chat_templates_source(const char *name);

/* `choice`: NULL (the file's own), a built-in name, or the path of a file with a template. Nothing
 * is kept of file and tokenizer. The caller ends *templates with chat_templates_close.
 * STATUS_NOT_FOUND, STATUS_UNSUPPORTED: the chosen one. STATUS_NO_MEMORY. */
enum status chat_templates_open(struct chat_templates **templates, const struct model_file *file,
                                const struct tokenizer *tokenizer, const char *choice,
                                struct error *error);

/* NULL is fine. */
void chat_templates_close(struct chat_templates *templates);

/* Why chats are refused; NULL: they are not. Borrowed. */
const char *chat_templates_refusal(const struct chat_templates *templates);

/* Messages as clients write them (chat_messages.h) to text; the rest as chat_template_render.
 * STATUS_UNSUPPORTED: the refusal. */
enum status chat_templates_render(const struct chat_templates *templates, const json_t *messages,
                                  const json_t *tools, const json_t *extra,
                                  bool add_generation_prompt, const atomic_bool *stop, char **text,
                                  size_t *bytes, struct error *error);

#endif
