/* model/chat/chat_template.h - messages to the text that a model was trained on, by the template
 * that its file carries.
 *
 * Templates are written in Jinja (tokenizer.chat_template in GGUF). We render them as Hugging
 * Face's apply_chat_template does: jinja2 3.1 with trim_blocks, lstrip_blocks, loop controls,
 * tojson without HTML escapes, raise_exception, strftime_now, in the immutable sandbox. What we do
 * not have of Jinja is refused when the template is read, with its line: jinja_parser.h and
 * jinja_builtin.h say what there is.
 *
 * A template comes from a file that we do not trust: its depth, steps and memory are bounded, and
 * it reaches nothing but its messages and the date. A template is immutable: any number of threads
 * may render at once. */
#ifndef LONGSPAN_MODEL_CHAT_CHAT_TEMPLATE_H
#define LONGSPAN_MODEL_CHAT_CHAT_TEMPLATE_H

#include "sys/status.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct chat_template; /* opaque */

/* The source is copied. `bos`, `eos`: the names of these tokens, the variables bos_token and
 * eos_token; NULL: undefined. The caller ends *chat_template with chat_template_destroy.
 * STATUS_UNSUPPORTED: no template, or with something we do not have; the text names the line.
 * STATUS_NO_MEMORY. */
enum status chat_template_create(struct chat_template **chat_template, const char *source,
                                 size_t bytes, const char *bos, const char *eos,
                                 struct error *error);

/* NULL is fine. */
void chat_template_destroy(struct chat_template *chat_template);

/* Does its text speak of the role "developer"? Most know "system" alone. */
bool chat_template_knows_developer(const struct chat_template *chat_template);

/* `messages`: an array, as chat_messages.h prepares it. `tools`: an array of tools as OpenAI writes
 * them, or NULL (none). `extra`: an object with further variables (date_string, enable_thinking
 * ...), or NULL; they win over all others. *text is allocated, NUL-terminated behind its *bytes;
 * the caller frees it.
 * The text is to be tokenized with its special tokens, and without a second BOS.
 * STATUS_INVALID: the template refuses the messages (raise_exception), or fails on them, or goes
 * over a limit; the text says what and in which line. STATUS_CANCELLED: another thread has set *stop
 * (NULL: none will). STATUS_NO_MEMORY. */
enum status chat_template_render(const struct chat_template *chat_template, const json_t *messages,
                                 const json_t *tools, const json_t *extra,
                                 bool add_generation_prompt, const atomic_bool *stop, char **text,
                                 size_t *bytes, struct error *error);

#endif
