/* jinja_value.c - see jinja_value.h. */
#include "model/chat/jinja_value.h"

#include <stdlib.h>
#include <string.h>

bool jinja_string_is(struct jinja_string string, const char *text)
{
    return strlen(text) == string.n_bytes && memcmp(text, string.data, string.n_bytes) == 0;
}

bool jinja_truth(struct jinja_value value)
{
    switch (value.kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOLEAN:
        return value.boolean;
    case JINJA_INTEGER:
        return value.integer != 0;
    case JINJA_REAL:
        return value.real < 0 || value.real > 0 || value.real != value.real;
    case JINJA_STRING:
        return value.string.n_bytes > 0;
    case JINJA_LIST:
        return value.lazy || value.list->n > 0;
    case JINJA_DICT:
        return value.dict->n > 0;
    default:
        return true;
    }
}

bool jinja_is_number(struct jinja_value value)
{
    return value.kind == JINJA_BOOLEAN || value.kind == JINJA_INTEGER || value.kind == JINJA_REAL;
}

const char *jinja_type_name(struct jinja_value value)
{
    static const char *const names[] = {
        [JINJA_UNDEFINED] = "Undefined", [JINJA_NONE] = "NoneType",
        [JINJA_BOOLEAN] = "bool",        [JINJA_INTEGER] = "int",
        [JINJA_REAL] = "float",          [JINJA_STRING] = "str",
        [JINJA_LIST] = "list",           [JINJA_DICT] = "dict",
        [JINJA_NAMESPACE] = "Namespace", [JINJA_MACRO] = "Macro",
        [JINJA_FUNCTION] = "function",   [JINJA_METHOD] = "method",
        [JINJA_LOOP] = "LoopContext",
    };
    return value.kind == JINJA_LIST && value.tuple ? "tuple" : names[value.kind];
}

static int64_t whole(struct jinja_value number)
{
    return number.kind == JINJA_BOOLEAN ? number.boolean : number.integer;
}

/* Numbers; -1, 0, 1, or 2 for NaN. */
static int compare_numbers(struct jinja_value a, struct jinja_value b)
{
    if (a.kind != JINJA_REAL && b.kind != JINJA_REAL)
        return (whole(a) > whole(b)) - (whole(a) < whole(b));
    const double x = a.kind == JINJA_REAL ? a.real : (double)whole(a);
    const double y = b.kind == JINJA_REAL ? b.real : (double)whole(b);
    return x < y ? -1 : x > y ? 1 : x == y ? 0 : 2;
}

static int compare_strings(struct jinja_string a, struct jinja_string b)
{
    const size_t n = a.n_bytes < b.n_bytes ? a.n_bytes : b.n_bytes;
    const int order = n > 0 ? memcmp(a.data, b.data, n) : 0; /* as by code points */
    if (order != 0)
        return order < 0 ? -1 : 1;
    return (a.n_bytes > b.n_bytes) - (a.n_bytes < b.n_bytes);
}

static bool equal_to_depth(struct jinja_value a, struct jinja_value b, unsigned depth);

static int by_key(const void *a, const void *b)
{
    const struct jinja_entry *const *x = a, *const *y = b;
    return compare_strings((*x)->key.string, (*y)->key.string);
}

/* The entries in the order of their keys; NULL: no memory, or keys that are no strings. */
static const struct jinja_entry **sorted_entries(const struct jinja_dict *dict)
{
    const struct jinja_entry **entries = malloc((dict->n + 1) * sizeof(const struct jinja_entry *));
    for (size_t i = 0; entries != NULL && i < dict->n; i++) {
        if (dict->entries[i].key.kind != JINJA_STRING) {
            free(entries);
            return NULL;
        }
        entries[i] = &dict->entries[i];
    }
    if (entries != NULL)
        qsort(entries, dict->n, sizeof(const struct jinja_entry *), by_key);
    return entries;
}

/* Side by side in the order of their keys: dicts come from clients, and may have a million. */
static bool equal_dicts(const struct jinja_dict *a, const struct jinja_dict *b, unsigned depth)
{
    if (a->n != b->n)
        return false;
    const struct jinja_entry **x = sorted_entries(a), **y = sorted_entries(b);
    bool same = true;
    for (size_t i = 0; i < a->n && same; i++) {
        const struct jinja_entry *entry = x != NULL ? x[i] : &a->entries[i];
        const struct jinja_value *other = NULL;
        if (x == NULL || y == NULL)
            other = jinja_dict_find(b, entry->key);
        else if (by_key(&x[i], &y[i]) == 0)
            other = &y[i]->value;
        same = other != NULL && equal_to_depth(entry->value, *other, depth);
    }
    free(x);
    free(y);
    return same;
}

static bool equal_to_depth(struct jinja_value a, struct jinja_value b, unsigned depth)
{
    if (jinja_is_number(a) && jinja_is_number(b))
        return compare_numbers(a, b) == 0;
    if (a.kind != b.kind || depth == 0)
        return false;
    switch (a.kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return true;
    case JINJA_STRING:
        return a.string.n_bytes == b.string.n_bytes && compare_strings(a.string, b.string) == 0;
    case JINJA_LIST:
        if (a.list->n != b.list->n || a.tuple != b.tuple)
            return false;
        for (size_t i = 0; i < a.list->n; i++)
            if (!equal_to_depth(a.list->items[i], b.list->items[i], depth - 1))
                return false;
        return true;
    case JINJA_DICT:
        return equal_dicts(a.dict, b.dict, depth - 1);
    case JINJA_NAMESPACE:
        return a.dict == b.dict;
    case JINJA_MACRO:
        return a.macro == b.macro;
    case JINJA_FUNCTION:
        return a.function == b.function;
    case JINJA_LOOP:
        return a.loop == b.loop;
    default:
        return false;
    }
}

bool jinja_equal(struct jinja_value a, struct jinja_value b)
{
    return equal_to_depth(a, b, JINJA_MAX_NESTING);
}

static bool compare_to_depth(struct jinja_value a, struct jinja_value b, int *order,
                             unsigned depth);

/* By the first items that differ; a list that ends first comes first. */
static bool compare_lists(const struct jinja_list *a, const struct jinja_list *b, int *order,
                          unsigned depth)
{
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (!equal_to_depth(a->items[i], b->items[i], depth - 1))
            return compare_to_depth(a->items[i], b->items[i], order, depth - 1);
    *order = (a->n > b->n) - (a->n < b->n);
    return true;
}

static bool compare_to_depth(struct jinja_value a, struct jinja_value b, int *order, unsigned depth)
{
    if (jinja_is_number(a) && jinja_is_number(b))
        *order = compare_numbers(a, b);
    else if (a.kind == JINJA_STRING && b.kind == JINJA_STRING)
        *order = compare_strings(a.string, b.string);
    else if (a.kind == JINJA_LIST && b.kind == JINJA_LIST && a.tuple == b.tuple && depth > 0)
        return compare_lists(a.list, b.list, order, depth);
    else
        return false;
    return true;
}

bool jinja_compare(struct jinja_value a, struct jinja_value b, int *order)
{
    return compare_to_depth(a, b, order, JINJA_MAX_NESTING);
}

struct jinja_value *jinja_dict_find(const struct jinja_dict *dict, struct jinja_value key)
{
    for (size_t i = 0; i < dict->n; i++) {
        const struct jinja_value *other = &dict->entries[i].key;
        if (key.kind == JINJA_STRING
                ? other->kind == JINJA_STRING && other->string.n_bytes == key.string.n_bytes &&
                      memcmp(other->string.data, key.string.data, key.string.n_bytes) == 0
                : jinja_equal(*other, key))
            return &dict->entries[i].value;
    }
    return NULL;
}
