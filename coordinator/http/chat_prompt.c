/* chat_prompt.c - see chat_prompt.h. */
#include "coordinator/http/chat_prompt.h"

#include "coordinator/http/fields.h"
#include "coordinator/http/site.h"
#include "model/chat/chat_templates.h"

bool chat_prompt_render(void *context, const json_t *body, const json_t *tools,
                        const atomic_bool *stop, char **text, size_t *n_bytes,
                        struct api_error *error)
{
    const struct site *site = context;
    const json_t *extra = fields_get(body, "chat_template_kwargs");
    bool prompt = true;
    if (extra != NULL && !json_is_object(extra))
        return api_error_field(error, "chat_template_kwargs",
                               "'chat_template_kwargs' must be an object, not %s",
                               fields_type_name(extra));
    if (!fields_bool(body, "add_generation_prompt", &prompt, error))
        return false;
    struct error why;
    const enum status status =
        chat_templates_render(site->templates, json_object_get(body, "messages"), tools, extra,
                              prompt, stop, text, n_bytes, &why);
    switch (status) {
    case STATUS_OK:
        return true;
    case STATUS_UNSUPPORTED:
        return api_error_set(error, 400, NULL, "no_chat_template", "%s", why.text);
    case STATUS_INVALID:
        return api_error_field(error, "messages", "%s", why.text);
    default:
        return api_error_from(error, status, why.text);
    }
}
