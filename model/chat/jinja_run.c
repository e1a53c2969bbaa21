/* jinja_run.c - see jinja_run.h. */
#include "model/chat/jinja_run.h"

#include "model/chat/jinja_builtin.h"
#include "model/chat/jinja_text.h"
#include "model/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct jinja_value jinja_fail(struct jinja_run *run, const char *format, ...)
{
    if (!run->failed) {
        char text[800];
        va_list list;
        va_start(list, format);
        vsnprintf(text, sizeof(text), format, list);
        va_end(list);
        error_set(run->error, STATUS_INVALID, "line %u: %s", run->line, text);
    }
    run->failed = true;
    return jinja_undefined((struct jinja_string){"", 0});
}

bool jinja_step(struct jinja_run *run, size_t n)
{
    run->steps += 1 + n / 64;
    if (run->stop != NULL && atomic_load_explicit(run->stop, memory_order_relaxed) &&
        !run->failed) {
        error_set(run->error, STATUS_CANCELLED, "it was told to stop");
        run->failed = true;
    }
    if (run->steps > run->max_steps && !run->failed)
        jinja_fail(run, "the template does not come to an end");
    return !run->failed;
}

void *jinja_take(struct jinja_run *run, size_t n_items, size_t item_bytes)
{
    void *memory = n_items <= SIZE_MAX / 2 / item_bytes && jinja_step(run, n_items * item_bytes)
                       ? jinja_pool_take(run->pool, n_items * item_bytes)
                       : NULL;
    if (memory == NULL)
        jinja_fail(run, "the template makes too much of its messages: the limit is %zu bytes",
                   run->pool->limit);
    return memory;
}

struct jinja_value jinja_new_list(struct jinja_run *run, const struct jinja_value *items, size_t n)
{
    struct jinja_list *list = jinja_take(run, 1, sizeof(*list));
    struct jinja_value *copy = jinja_take(run, n, sizeof(*copy));
    if (list == NULL || copy == NULL)
        return jinja_none();
    if (n > 0)
        memcpy(copy, items, n * sizeof(*copy));
    *list = (struct jinja_list){copy, n};
    return (struct jinja_value){.kind = JINJA_LIST, .list = list};
}

struct jinja_dict *jinja_new_dict(struct jinja_run *run, size_t n)
{
    struct jinja_dict *dict = jinja_take(run, 1, sizeof(*dict));
    if (dict == NULL || (dict->entries = jinja_take(run, n, sizeof(*dict->entries))) == NULL)
        return NULL;
    dict->capacity = n;
    return dict;
}

void jinja_dict_add(struct jinja_run *run, struct jinja_dict *dict, struct jinja_value key,
                    struct jinja_value value)
{
    if (!jinja_step(run, 8 * dict->n))
        return;
    struct jinja_value *old = jinja_dict_find(dict, key);
    if (old != NULL) {
        *old = value;
        return;
    }
    if (dict->n == dict->capacity) {
        const size_t capacity = dict->capacity > 0 ? 2 * dict->capacity : 4;
        struct jinja_entry *entries = jinja_take(run, capacity, sizeof(*entries));
        if (entries == NULL)
            return;
        if (dict->n > 0)
            memcpy(entries, dict->entries, dict->n * sizeof(*entries));
        dict->entries = entries;
        dict->capacity = capacity;
    }
    dict->entries[dict->n++] = (struct jinja_entry){key, value};
}

void jinja_write(struct jinja_run *run, struct jinja_output *output, const char *data, size_t n)
{
    if (n > output->capacity - output->n_bytes) {
        size_t capacity = output->capacity > 0 ? 2 * output->capacity : 256;
        if (capacity < output->n_bytes + n)
            capacity = output->n_bytes + n;
        char *larger = jinja_take(run, capacity, 1);
        if (larger == NULL)
            return;
        if (output->n_bytes > 0)
            memcpy(larger, output->data, output->n_bytes);
        output->data = larger;
        output->capacity = capacity;
    }
    if (n > 0)
        memcpy(output->data + output->n_bytes, data, n);
    output->n_bytes += n;
}

struct jinja_value jinja_output_value(const struct jinja_output *output)
{
    return jinja_text(output->n_bytes > 0 ? output->data : "", output->n_bytes);
}

void jinja_define(struct jinja_run *run, struct jinja_scope *scope, struct jinja_string name,
                  struct jinja_value value)
{
    size_t n = 0; /* a client may send any number of them: chat_template_kwargs */
    for (struct jinja_variable *v = scope->variables; v != NULL; v = v->next, n++)
        if (v->name.n_bytes == name.n_bytes && memcmp(v->name.data, name.data, name.n_bytes) == 0) {
            v->value = value;
            return;
        }
    if (!jinja_step(run, 8 * n))
        return;
    struct jinja_variable *variable = jinja_take(run, 1, sizeof(*variable));
    if (variable == NULL)
        return;
    *variable = (struct jinja_variable){.next = scope->variables, .name = name, .value = value};
    scope->variables = variable;
}

bool jinja_items(struct jinja_run *run, struct jinja_value value, const struct jinja_list **items)
{
    static const struct jinja_list empty = {NULL, 0};
    struct jinja_list *list;
    struct jinja_value *copy;
    size_t n = 0;
    switch (value.kind) {
    case JINJA_LIST:
        *items = value.list;
        return !run->failed;
    case JINJA_UNDEFINED:
        *items = &empty;
        return !run->failed;
    case JINJA_STRING:
        list = jinja_take(run, 1, sizeof(*list));
        copy = jinja_take(run, jinja_text_length(value.string), sizeof(*copy));
        if (list == NULL || copy == NULL)
            return false;
        for (size_t at = 0, length; at < value.string.n_bytes; at += length) {
            length = utf8_char_bytes(value.string.data + at, value.string.n_bytes - at);
            if (length == 0)
                break; /* cannot be: strings are well-formed */
            copy[n++] = jinja_text(value.string.data + at, length);
        }
        break;
    case JINJA_DICT:
        list = jinja_take(run, 1, sizeof(*list));
        copy = jinja_take(run, value.dict->n, sizeof(*copy));
        if (list == NULL || copy == NULL)
            return false;
        for (; n < value.dict->n; n++)
            copy[n] = value.dict->entries[n].key;
        break;
    default:
        jinja_fail(run, "'%s' object is not iterable", jinja_type_name(value));
        return false;
    }
    *list = (struct jinja_list){copy, n};
    *items = list;
    return !run->failed;
}

/* ---- attributes ------------------------------------------------------------------------------ */

static struct jinja_value loop_attribute(struct jinja_run *run, struct jinja_loop *loop,
                                         struct jinja_string name)
{
    const size_t n = loop->items->n, at = loop->at;
    const struct {
        const char *name;
        size_t value;
    } numbers[] = {{"index", at + 1},          {"index0", at}, {"revindex", n - at},
                   {"revindex0", n - at - 1},  {"length", n},  {"depth", loop->depth},
                   {"depth0", loop->depth - 1}};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (jinja_string_is(name, numbers[i].name))
            return jinja_integer((int64_t)numbers[i].value);
    if (jinja_string_is(name, "first"))
        return jinja_boolean(at == 0);
    if (jinja_string_is(name, "last"))
        return jinja_boolean(at + 1 == n);
    if (jinja_string_is(name, "previtem") && at > 0)
        return loop->items->items[at - 1];
    if (jinja_string_is(name, "nextitem") && at + 1 < n)
        return loop->items->items[at + 1];
    (void)run;
    return jinja_undefined(name);
}

static struct jinja_value bound_method(struct jinja_run *run, struct jinja_value value,
                                       struct jinja_string name)
{
    const struct jinja_function *function = jinja_builtin_method(value.kind, name);
    if (function == NULL)
        return jinja_undefined(name);
    struct jinja_bound *method = jinja_take(run, 1, sizeof(*method));
    if (method == NULL)
        return jinja_undefined(name);
    *method = (struct jinja_bound){function, value};
    return (struct jinja_value){.kind = JINJA_METHOD, .method = method};
}

static const struct jinja_value *entry(struct jinja_run *run, struct jinja_value value,
                                       struct jinja_value key)
{
    return jinja_step(run, 8 * value.dict->n) ? jinja_dict_find(value.dict, key) : NULL;
}

/* Python's attributes first, then the entry of that name. */
struct jinja_value jinja_attribute(struct jinja_run *run, struct jinja_value value,
                                   struct jinja_string name)
{
    const struct jinja_value key = jinja_text(name.data, name.n_bytes), *found;
    if (value.kind == JINJA_UNDEFINED)
        return jinja_fail(run, "'%.*s' is undefined, and so it has no '%.*s'",
                          (int)(value.string.n_bytes & 127), value.string.data,
                          (int)(name.n_bytes & 127), name.data);
    if (value.kind == JINJA_NAMESPACE) {
        found = entry(run, value, key);
        return found != NULL ? *found : jinja_undefined(name);
    }
    const struct jinja_value method = bound_method(run, value, name);
    if (method.kind != JINJA_UNDEFINED)
        return method;
    if (value.kind == JINJA_LOOP)
        return loop_attribute(run, value.loop, name);
    if (value.kind == JINJA_MACRO && jinja_string_is(name, "name"))
        return jinja_text(value.macro->definition->name.data,
                          value.macro->definition->name.n_bytes);
    found = value.kind == JINJA_DICT ? entry(run, value, key) : NULL;
    return found != NULL ? *found : jinja_undefined(name);
}

static bool index_of(struct jinja_value key, size_t n, size_t *index)
{
    int64_t i = key.kind == JINJA_BOOLEAN ? key.boolean : key.integer;
    if (key.kind != JINJA_BOOLEAN && key.kind != JINJA_INTEGER)
        return false;
    if (i < 0)
        i += (int64_t)n;
    *index = (size_t)i;
    return i >= 0 && (size_t)i < n;
}

/* The entry first, then Python's attributes. */
struct jinja_value jinja_subscript(struct jinja_run *run, struct jinja_value value,
                                   struct jinja_value key)
{
    const struct jinja_string no_name = {"", 0};
    const struct jinja_value *found = NULL;
    size_t index;
    if (value.kind == JINJA_UNDEFINED)
        return jinja_fail(run, "'%.*s' is undefined, and so it has no items",
                          (int)(value.string.n_bytes & 127), value.string.data);
    if (value.kind == JINJA_DICT && (found = entry(run, value, key)) != NULL)
        return *found;
    if (value.kind == JINJA_LIST && index_of(key, value.list->n, &index))
        return value.list->items[index];
    if (value.kind == JINJA_STRING && jinja_step(run, value.string.n_bytes) &&
        index_of(key, jinja_text_length(value.string), &index)) {
        const size_t at = jinja_text_offset(value.string, index);
        return jinja_text(value.string.data + at,
                          utf8_char_bytes(value.string.data + at, value.string.n_bytes - at));
    }
    if (key.kind == JINJA_STRING && value.kind != JINJA_DICT)
        return jinja_attribute(run, value, key.string);
    return key.kind == JINJA_STRING ? bound_method(run, value, key.string)
                                    : jinja_undefined(no_name);
}

bool jinja_contains(struct jinja_run *run, struct jinja_value haystack, struct jinja_value needle)
{
    switch (haystack.kind) {
    case JINJA_UNDEFINED:
        return false;
    case JINJA_STRING:
        if (needle.kind != JINJA_STRING) {
            jinja_fail(run, "'in <string>' requires string as left operand, not %s",
                       jinja_type_name(needle));
            return false;
        }
        return jinja_step(run, haystack.string.n_bytes) &&
               (needle.string.n_bytes == 0 ||
                jinja_text_find(haystack.string, needle.string, 0) != SIZE_MAX);
    case JINJA_DICT:
        return entry(run, haystack, needle) != NULL;
    case JINJA_LIST:
        for (size_t i = 0; i < haystack.list->n && jinja_step(run, 0); i++)
            if (jinja_equal(haystack.list->items[i], needle))
                return true;
        return false;
    default:
        jinja_fail(run, "argument of type '%s' is not iterable", jinja_type_name(haystack));
        return false;
    }
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* The number of the parameter with this name; JINJA_MAX_PARAMETERS: none. Also their count. */
static size_t find_parameter(const char *parameters, struct jinja_string name, size_t *n)
{
    size_t found = JINJA_MAX_PARAMETERS, count = 0;
    for (const char *p = parameters; *p != '\0'; count++) {
        const size_t length = strcspn(p, " ");
        if (length == name.n_bytes && memcmp(p, name.data, length) == 0)
            found = count;
        p += length;
        p += *p == ' ';
    }
    *n = count;
    return found;
}

struct jinja_value jinja_call_function(struct jinja_run *run, const struct jinja_function *function,
                                       struct jinja_value subject,
                                       const struct jinja_arguments *arguments)
{
    const struct jinja_value *at[JINJA_MAX_PARAMETERS] = {NULL};
    size_t n = 0, given = 0;
    if (!jinja_step(run, 0))
        return jinja_none();
    if (function->parameters == NULL)
        return function->call(run, subject, at, arguments);
    find_parameter(function->parameters, (struct jinja_string){"", 0}, &n);
    if (arguments->n > n)
        return jinja_fail(run, "%s takes at most %zu arguments, not %zu", function->name, n,
                          arguments->n);
    for (; given < arguments->n; given++)
        at[given] = &arguments->items[given];
    for (size_t i = 0; i < arguments->n_keywords; i++) {
        const struct jinja_string name = arguments->keywords[i].name;
        const size_t place = find_parameter(function->parameters, name, &n);
        if (place == JINJA_MAX_PARAMETERS || at[place] != NULL)
            return jinja_fail(run, "%s has no argument '%.*s', or has it twice", function->name,
                              (int)(name.n_bytes & 127), name.data);
        at[place] = &arguments->keywords[i].value;
    }
    for (size_t i = 0; i < function->least; i++)
        if (at[i] == NULL)
            return jinja_fail(run, "%s lacks an argument (%s)", function->name,
                              function->parameters);
    return function->call(run, subject, at, arguments);
}
