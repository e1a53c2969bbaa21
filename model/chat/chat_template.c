/* chat_template.c - see chat_template.h. */
#include "model/chat/chat_template.h"

#include "model/chat/jinja_parser.h"
#include "model/chat/jinja_run.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_SOURCE_BYTES = 1 << 20,
    TREE_BYTES = 256 << 20, /* nodes are larger than their text */
    LEAST_BYTES = 64 << 20, /* of one rendering, and: */
    BYTES_PER_BYTE = 32,    /* of messages */
};

struct chat_template {
    struct jinja_pool pool;
    const struct jinja_node *body;
    char *bos, *eos; /* NULL: none */
    bool knows_developer;
};

enum status chat_template_create(struct chat_template **chat_template, const char *source,
                                 size_t bytes, const char *bos, const char *eos,
                                 struct error *error)
{
    if (bytes > MAX_SOURCE_BYTES)
        return error_set(error, STATUS_UNSUPPORTED, "chat template: %zu bytes, at most %d", bytes,
                         MAX_SOURCE_BYTES);
    struct chat_template *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a chat template");
    struct jinja_node *body = NULL;
    struct error why = {.status = STATUS_OK};
    t->pool.limit = TREE_BYTES;
    t->knows_developer = memmem(source, bytes, "developer", strlen("developer")) != NULL;
    enum status status = jinja_parser_read(&body, &t->pool, source, bytes, &why);
    t->body = body;
    if (status != STATUS_OK)
        error_set(error, status, "chat template, %.900s", why.text);
    else if ((bos != NULL && (t->bos = strdup(bos)) == NULL) ||
             (eos != NULL && (t->eos = strdup(eos)) == NULL))
        status = error_set(error, STATUS_NO_MEMORY, "no memory for a chat template");
    if (status != STATUS_OK) {
        chat_template_destroy(t);
        return status;
    }
    *chat_template = t;
    return STATUS_OK;
}

void chat_template_destroy(struct chat_template *chat_template)
{
    if (chat_template == NULL)
        return;
    jinja_pool_free(&chat_template->pool);
    free(chat_template->bos);
    free(chat_template->eos);
    free(chat_template);
}

bool chat_template_knows_developer(const struct chat_template *chat_template)
{
    return chat_template->knows_developer;
}

/* ---- JSON to values -------------------------------------------------------------------------- */

/* About what the JSON holds; more than `depth` levels count as too much. */
static size_t json_bytes(const json_t *json, unsigned depth)
{
    size_t bytes = sizeof(struct jinja_entry), index;
    const char *key;
    json_t *item;
    if (depth == 0)
        return bytes;
    if (json_is_string(json))
        return bytes + json_string_length(json);
    json_array_foreach(json, index, item) bytes += json_bytes(item, depth - 1);
    json_object_foreach((json_t *)json, key, item) bytes +=
        strlen(key) + json_bytes(item, depth - 1);
    return bytes;
}

static struct jinja_value from_json(struct jinja_run *run, const json_t *json, unsigned depth);

static struct jinja_value from_array(struct jinja_run *run, const json_t *json, unsigned depth)
{
    const size_t n = json_array_size(json);
    struct jinja_list *list = jinja_take(run, 1, sizeof(*list));
    struct jinja_value *items = jinja_take(run, n, sizeof(*items));
    if (list == NULL || items == NULL)
        return jinja_none();
    for (size_t i = 0; i < n && !run->failed; i++)
        items[i] = from_json(run, json_array_get(json, i), depth - 1);
    *list = (struct jinja_list){items, n};
    return (struct jinja_value){.kind = JINJA_LIST, .list = list};
}

static struct jinja_value from_object(struct jinja_run *run, const json_t *json, unsigned depth)
{
    const char *key;
    json_t *item;
    struct jinja_dict *dict = jinja_new_dict(run, json_object_size(json));
    if (dict == NULL)
        return jinja_none();
    json_object_foreach((json_t *)json, key, item)
    {
        /* Keys of an object are different from each other. */
        const struct jinja_value value = from_json(run, item, depth - 1);
        if (run->failed || dict->n == dict->capacity)
            break;
        dict->entries[dict->n++] = (struct jinja_entry){jinja_text(key, strlen(key)), value};
    }
    return (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
}

/* Strings stay where they are. */
static struct jinja_value from_json(struct jinja_run *run, const json_t *json, unsigned depth)
{
    if (depth == 0)
        return jinja_fail(run, "messages or tools are nested deeper than %d", JINJA_MAX_NESTING);
    switch (json != NULL ? json_typeof(json) : JSON_NULL) {
    case JSON_OBJECT:
        return from_object(run, json, depth);
    case JSON_ARRAY:
        return from_array(run, json, depth);
    case JSON_STRING:
        return jinja_text(json_string_value(json), json_string_length(json));
    case JSON_INTEGER:
        return jinja_integer(json_integer_value(json));
    case JSON_REAL:
        return jinja_real(json_real_value(json));
    case JSON_TRUE:
    case JSON_FALSE:
        return jinja_boolean(json_is_true(json));
    default:
        return jinja_none();
    }
}

/* ---- rendering ------------------------------------------------------------------------------- */

static void define(struct jinja_run *run, const char *name, struct jinja_value value)
{
    if (!run->failed)
        jinja_define(run, run->scope, (struct jinja_string){name, strlen(name)}, value);
}

static void define_all(struct jinja_run *run, const struct chat_template *t, const json_t *messages,
                       const json_t *tools, const json_t *extra, bool add_generation_prompt)
{
    const char *key;
    json_t *item;
    define(run, "messages", from_json(run, messages, JINJA_MAX_NESTING));
    define(run, "tools", from_json(run, tools, JINJA_MAX_NESTING));
    define(run, "documents", jinja_none());
    define(run, "add_generation_prompt", jinja_boolean(add_generation_prompt));
    if (t->bos != NULL)
        define(run, "bos_token", jinja_text(t->bos, strlen(t->bos)));
    if (t->eos != NULL)
        define(run, "eos_token", jinja_text(t->eos, strlen(t->eos)));
    json_object_foreach((json_t *)extra, key, item)
        define(run, key, from_json(run, item, JINJA_MAX_NESTING));
}

enum status chat_template_render(const struct chat_template *t, const json_t *messages,
                                 const json_t *tools, const json_t *extra,
                                 bool add_generation_prompt, const atomic_bool *stop, char **text,
                                 size_t *bytes, struct error *error)
{
    struct error why = {.status = STATUS_OK};
    const size_t input = json_bytes(messages, JINJA_MAX_NESTING) +
                         json_bytes(tools, JINJA_MAX_NESTING) +
                         json_bytes(extra, JINJA_MAX_NESTING);
    struct jinja_pool pool = {.limit = LEAST_BYTES + BYTES_PER_BYTE * input};
    struct jinja_scope variables = {.parent = NULL}, scope = {.parent = &variables};
    struct jinja_output output = {0};
    struct jinja_run run = {.pool = &pool,
                            .scope = &variables,
                            .output = &output,
                            .max_steps = JINJA_MAX_STEPS + input,
                            .stop = stop,
                            .error = &why};
    define_all(&run, t, messages, tools, extra, add_generation_prompt);
    run.scope = &scope;
    jinja_render(&run, t->body);
    char *copy = run.failed ? NULL : malloc(output.n_bytes + 1);
    enum status status = STATUS_OK;
    if (run.failed)
        status = error_set(error, why.status, "chat template, %.900s", why.text);
    else if (copy == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for %zu bytes", output.n_bytes);
    if (status == STATUS_OK) {
        if (output.n_bytes > 0)
            memcpy(copy, output.data, output.n_bytes);
        copy[output.n_bytes] = '\0';
        *text = copy;
        *bytes = output.n_bytes;
    }
    jinja_pool_free(&pool);
    return status;
}
