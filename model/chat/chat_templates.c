/* chat_templates.c - see chat_templates.h. */
#include "model/chat/chat_templates.h"

#include "model/chat/chat_messages.h"
#include "model/chat/chat_template.h"
#include "sys/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TEMPLATE_BYTES = 1 << 20 };

struct chat_templates {
    struct chat_template *usual, *with_tools; /* with_tools NULL: the usual one */
    struct error refusal;                     /* where `usual` is NULL */
};

/* A token's name as a string, NULL where there is none. The caller frees it. */
static char *token_name(const struct tokenizer *tokenizer, int32_t id)
{
    const struct model_string name = tokenizer_token_name(tokenizer, id);
    return name.data != NULL ? strndup(name.data, name.n_bytes) : NULL;
}

struct special {
    char *bos, *eos;
};

static enum status create(struct chat_template **chat_template, const char *source, size_t n_bytes,
                          const struct special *special, struct error *error)
{
    return chat_template_create(chat_template, source, n_bytes, special->bos, special->eos, error);
}

/* STATUS_NOT_FOUND: the file has no such key. */
static enum status read_key(struct chat_template **chat_template, const struct model_file *file,
                            const char *key, const struct special *special, struct error *error)
{
    struct model_string source;
    const enum status status = model_get_string(file, key, &source, error);
    return status == STATUS_OK ? create(chat_template, source.data, source.n_bytes, special, error)
                               : status;
}

static enum status open_own(struct chat_templates *t, const struct model_file *file,
                            const struct special *special, struct error *error)
{
    static const char key[] = "tokenizer.chat_template";
    struct error *why = &t->refusal;
    enum status status = read_key(&t->usual, file, key, special, why);
    if (status == STATUS_NOT_FOUND)
        error_set(why, STATUS_UNSUPPORTED,
                  "%s has no chat template: --chat-template NAME|FILE gives it one",
                  model_path(file));
    else if (status != STATUS_OK && status != STATUS_NO_MEMORY) {
        const struct error reason = *why;
        error_set(why, STATUS_UNSUPPORTED,
                  "%.700s; --chat-template NAME|FILE gives the model another one", reason.text);
    }
    if (status == STATUS_OK) {
        status = read_key(&t->with_tools, file, "tokenizer.chat_template.tool_use", special, why);
        if (status == STATUS_UNSUPPORTED || status == STATUS_INVALID)
            status = STATUS_OK; /* the usual one has to do */
    }
    return status == STATUS_NO_MEMORY ? error_set(error, status, "%s", why->text) : STATUS_OK;
}

static enum status open_chosen(struct chat_templates *t, const char *choice,
                               const struct special *special, struct error *error)
{
    const char *built_in = chat_templates_source(choice);
    if (built_in != NULL)
        return create(&t->usual, built_in, strlen(built_in), special, error);
    char *source = NULL;
    size_t n_bytes = 0;
    enum status status = file_read(choice, MAX_TEMPLATE_BYTES, &source, &n_bytes, error);
    if (status == STATUS_OK) {
        struct error why = {.status = STATUS_OK};
        status = create(&t->usual, source, n_bytes, special, &why);
        if (status != STATUS_OK)
            error_set(error, status, "%.200s: %.700s", choice, why.text);
    } else if (status == STATUS_NOT_FOUND && strchr(choice, '/') == NULL) {
        char names[256] = "";
        for (const struct chat_template_name *n = chat_template_names; n->name != NULL; n++)
            snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
                     n == chat_template_names ? "" : ", ", n->name);
        error_set(error, status, "--chat-template %.200s: neither a file nor one of %s", choice,
                  names);
    }
    free(source);
    return status;
}

enum status chat_templates_open(struct chat_templates **templates, const struct model_file *file,
                                const struct tokenizer *tokenizer, const char *choice,
                                struct error *error)
{
    struct chat_templates *t = calloc(1, sizeof(*t));
    const struct special special = {token_name(tokenizer, tokenizer_bos(tokenizer)),
                                    token_name(tokenizer, tokenizer_eos(tokenizer))};
    enum status status = t == NULL
                             ? error_set(error, STATUS_NO_MEMORY, "no memory for chat templates")
                         : choice != NULL ? open_chosen(t, choice, &special, error)
                                          : open_own(t, file, &special, error);
    free(special.bos);
    free(special.eos);
    if (status != STATUS_OK) {
        chat_templates_close(t);
        return status;
    }
    *templates = t;
    return STATUS_OK;
}

void chat_templates_close(struct chat_templates *templates)
{
    if (templates == NULL)
        return;
    chat_template_destroy(templates->usual);
    chat_template_destroy(templates->with_tools);
    free(templates);
}

const char *chat_templates_refusal(const struct chat_templates *templates)
{
    return templates->usual == NULL ? templates->refusal.text : NULL;
}

enum status chat_templates_render(const struct chat_templates *templates, const json_t *messages,
                                  const json_t *tools, const json_t *extra,
                                  bool add_generation_prompt, const atomic_bool *stop, char **text,
                                  size_t *bytes, struct error *error)
{
    json_t *prepared = NULL;
    if (templates->usual == NULL)
        return error_set(error, templates->refusal.status, "%s", templates->refusal.text);
    const bool has_tools = json_array_size(tools) > 0;
    const struct chat_template *chat_template =
        has_tools && templates->with_tools != NULL ? templates->with_tools : templates->usual;
    enum status status = chat_messages_prepare(&prepared, messages,
                                               chat_template_knows_developer(chat_template), error);
    if (status != STATUS_OK)
        return status;
    status = chat_template_render(chat_template, prepared, has_tools ? tools : NULL, extra,
                                  add_generation_prompt, stop, text, bytes, error);
    json_decref(prepared);
    return status;
}
