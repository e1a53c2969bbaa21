/* chat_template_names.c - short templates of our own for the usual formats; see chat_templates.h.
 *
 * Each writes what models of that family were trained on: turns with their roles, a system message
 * where the format has a place for it. What models' own templates add (dates, tools, reasoning) is
 * theirs. */
#include "model/chat/chat_templates.h"

#include <string.h>

#define LINE    "\n"
#define CONTENT "(message.content or '')" /* null beside tool calls */

static const char llama3[] =
    "{{ bos_token }}{% for message in messages %}" LINE
    "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}" LINE "{{- " CONTENT
    " | trim + '<|eot_id|>' }}" LINE "{%- endfor %}" LINE "{%- if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

static const char chatml[] =
    "{% for message in messages %}" LINE "{{ '<|im_start|>' + message.role + '\\n' + " CONTENT
    " + '<|im_end|>\\n' }}" LINE "{%- endfor %}" LINE
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/* A system message stands in front of the first user's words. */
static const char mistral[] =
    "{{ bos_token }}{% set before = namespace(text='') %}" LINE
    "{%- for message in messages %}" LINE
    "{%- if message.role == 'system' %}{% set before.text = " CONTENT " + '\\n\\n' %}" LINE
    "{%- elif message.role == 'assistant' %}" LINE "{{- ' ' + " CONTENT
    " | trim + eos_token }}" LINE "{%- else %}" LINE "{{- '[INST] ' + before.text + " CONTENT
    " + ' [/INST]' }}" LINE "{%- set before.text = '' %}{% endif %}{% endfor %}";

static const char gemma[] =
    "{{ bos_token }}{% set before = namespace(text='') %}" LINE
    "{%- for message in messages %}" LINE
    "{%- if message.role == 'system' %}{% set before.text = " CONTENT " + '\\n\\n' %}" LINE
    "{%- else %}" LINE
    "{%- set role = 'model' if message.role == 'assistant' else message.role %}" LINE
    "{{- '<start_of_turn>' + role + '\\n' + before.text + " CONTENT " | trim }}" LINE
    "{{- '<end_of_turn>\\n' }}" LINE "{%- set before.text = '' %}{% endif %}{% endfor %}" LINE
    "{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}";

static const char phi3[] =
    "{% for message in messages %}" LINE "{{ '<|' + message.role + '|>\\n' + " CONTENT
    " + '<|end|>\\n' }}" LINE "{%- endfor %}" LINE
    "{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}";

/* For models that know no roles: the contents, line by line; the last is continued. */
static const char plain[] = "{{ bos_token }}{% for message in messages %}" LINE "{{ " CONTENT
                            " }}{% if not loop.last %}{{ '\\n' }}{% endif %}" LINE "{%- endfor %}";

const struct chat_template_name chat_template_names[] = {
    {"llama3", "<|start_header_id|>user<|end_header_id|> ... <|eot_id|>", llama3},
    {"chatml", "<|im_start|>user ... <|im_end|> (Qwen and many others)", chatml},
    {"mistral", "[INST] ... [/INST]", mistral},
    {"gemma", "<start_of_turn>user ... <end_of_turn>", gemma},
    {"phi3", "<|user|> ... <|end|>", phi3},
    {"plain", "no roles: the contents, line by line; the last is continued", plain},
    {.name = NULL},
};

const char *chat_templates_source(const char *name)
{
    for (const struct chat_template_name *n = chat_template_names; n->name != NULL; n++)
        if (strcmp(n->name, name) == 0)
            return n->source;
    return NULL;
}
