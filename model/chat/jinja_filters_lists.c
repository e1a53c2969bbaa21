/* jinja_filters_lists.c - filters of lists and dicts; see jinja_builtin.h. */
#include "model/chat/jinja_builtin.h"
#include "model/chat/jinja_print.h"
#include "model/chat/jinja_text.h"

#include <string.h>

/* item.name, where the name may be a path with dots, or a number. */
static struct jinja_value path(struct jinja_run *run, struct jinja_value item,
                               struct jinja_value name)
{
    if (name.kind != JINJA_STRING)
        return jinja_subscript(run, item, name);
    struct jinja_string rest = name.string;
    while (!run->failed) {
        const char *dot = memchr(rest.data, '.', rest.n_bytes);
        const size_t n = dot != NULL ? (size_t)(dot - rest.data) : rest.n_bytes;
        const bool number = n > 0 && n < 10 && strspn(rest.data, "0123456789") >= n;
        struct jinja_value key = jinja_text(rest.data, n);
        if (number) {
            key = jinja_integer(0);
            for (size_t i = 0; i < n; i++)
                key.integer = 10 * key.integer + (rest.data[i] - '0');
        }
        item = jinja_subscript(run, item, key);
        if (dot == NULL)
            return item;
        rest = (struct jinja_string){dot + 1, rest.n_bytes - n - 1};
    }
    return item;
}

/* ---- order ----------------------------------------------------------------------------------- */

/* What is compared: strings without regard to case unless told otherwise. */
static struct jinja_value sort_key(struct jinja_run *run, struct jinja_value key, bool fold)
{
    if (!fold || key.kind != JINJA_STRING)
        return key;
    const struct jinja_string text = jinja_text_case(run->pool, key.string, JINJA_LOWER);
    return text.data != NULL ? jinja_text(text.data, text.n_bytes) : key;
}

/* Merge sort: stable, and its steps are bounded. */
static void merge_sort(struct jinja_run *run, struct jinja_entry *entries, size_t n,
                       struct jinja_entry *scratch)
{
    for (size_t width = 1; width < n && !run->failed; width *= 2) {
        for (size_t begin = 0; begin < n; begin += 2 * width) {
            const size_t middle = begin + width < n ? begin + width : n;
            const size_t end = begin + 2 * width < n ? begin + 2 * width : n;
            size_t a = begin, b = middle, out = begin;
            while (a < middle || b < end) {
                int order = 0;
                if (a < middle && b < end && jinja_step(run, 0) &&
                    !jinja_compare(entries[a].key, entries[b].key, &order))
                    jinja_fail(run, "'<' not supported between instances of '%s' and '%s'",
                               jinja_type_name(entries[b].key), jinja_type_name(entries[a].key));
                if (run->failed)
                    return;
                const bool left = b == end || (a < middle && order <= 0);
                scratch[out++] = entries[left ? a++ : b++];
            }
        }
        memcpy(entries, scratch, n * sizeof(*entries));
    }
}

void jinja_sort_entries(struct jinja_run *run, struct jinja_entry *entries, size_t n, bool fold)
{
    struct jinja_entry *pairs = jinja_take(run, n, sizeof(*pairs));
    struct jinja_entry *scratch = jinja_take(run, n, sizeof(*scratch));
    struct jinja_entry *sorted = jinja_take(run, n, sizeof(*sorted));
    if (pairs == NULL || scratch == NULL || sorted == NULL)
        return;
    for (size_t i = 0; i < n; i++)
        pairs[i] =
            (struct jinja_entry){sort_key(run, entries[i].key, fold), jinja_integer((int64_t)i)};
    merge_sort(run, pairs, n, scratch);
    for (size_t i = 0; i < n; i++)
        sorted[i] = entries[pairs[i].value.integer];
    if (n > 0)
        memcpy(entries, sorted, n * sizeof(*entries));
}

static void reverse_entries(struct jinja_entry *entries, size_t n)
{
    for (size_t i = 0; i < n / 2; i++) {
        const struct jinja_entry swap = entries[i];
        entries[i] = entries[n - 1 - i];
        entries[n - 1 - i] = swap;
    }
}

/* Sorted by key; in reverse, equals keep their order, as Python's sort does. */
static void sort_either_way(struct jinja_run *run, struct jinja_entry *entries, size_t n, bool fold,
                            bool reverse)
{
    if (reverse)
        reverse_entries(entries, n);
    jinja_sort_entries(run, entries, n, fold);
    if (reverse)
        reverse_entries(entries, n);
}

JINJA_FUNCTION(filter_sort)
{
    const struct jinja_list *items;
    if (!jinja_items(run, subject, &items))
        return subject;
    struct jinja_entry *entries = jinja_take(run, items->n, sizeof(*entries));
    struct jinja_value *sorted = jinja_take(run, items->n, sizeof(*sorted));
    const bool by_name = at[2] != NULL && at[2]->kind != JINJA_NONE;
    if (entries == NULL || sorted == NULL)
        return subject;
    for (size_t i = 0; i < items->n && !run->failed; i++)
        entries[i] = (struct jinja_entry){
            by_name ? path(run, items->items[i], *at[2]) : items->items[i], items->items[i]};
    sort_either_way(run, entries, items->n, !jinja_flag(at[1]), jinja_flag(at[0]));
    for (size_t i = 0; i < items->n; i++)
        sorted[i] = entries[i].value;
    return run->failed ? subject : jinja_new_list(run, sorted, items->n);
}

/* ---- dicts ----------------------------------------------------------------------------------- */

static struct jinja_value pair_list(struct jinja_run *run, const struct jinja_entry *entries,
                                    size_t n, bool lazy)
{
    struct jinja_value *pairs = jinja_take(run, n, sizeof(*pairs));
    if (pairs == NULL)
        return jinja_none();
    for (size_t i = 0; i < n && !run->failed; i++) {
        const struct jinja_value both[2] = {entries[i].key, entries[i].value};
        pairs[i] = jinja_new_list(run, both, 2);
        pairs[i].tuple = true;
    }
    struct jinja_value list = run->failed ? jinja_none() : jinja_new_list(run, pairs, n);
    list.lazy = lazy;
    return list;
}

JINJA_FUNCTION(filter_items)
{
    if (subject.kind == JINJA_UNDEFINED)
        return pair_list(run, NULL, 0, true);
    if (subject.kind != JINJA_DICT)
        return jinja_fail(run, "Can only get item pairs from a mapping.");
    return pair_list(run, subject.dict->entries, subject.dict->n, true);
}

JINJA_FUNCTION(filter_dictsort)
{
    if (subject.kind != JINJA_DICT)
        return jinja_fail(run, "dictsort takes a dict, not %s", jinja_type_name(subject));
    const bool by_value =
        at[1] != NULL && at[1]->kind == JINJA_STRING && jinja_string_is(at[1]->string, "value");
    const size_t n = subject.dict->n;
    struct jinja_entry *entries = jinja_take(run, n, sizeof(*entries));
    if (entries == NULL)
        return subject;
    for (size_t i = 0; i < n; i++) {
        const struct jinja_entry e = subject.dict->entries[i];
        entries[i] = by_value ? (struct jinja_entry){e.value, e.key} : e;
    }
    sort_either_way(run, entries, n, !jinja_flag(at[0]), jinja_flag(at[2]));
    for (size_t i = 0; by_value && i < n; i++)
        entries[i] = (struct jinja_entry){entries[i].value, entries[i].key};
    return run->failed ? subject : pair_list(run, entries, n, false);
}

/* ---- lists ----------------------------------------------------------------------------------- */

JINJA_FUNCTION(filter_length)
{
    switch (subject.kind) {
    case JINJA_UNDEFINED:
        return jinja_integer(0);
    case JINJA_STRING:
        jinja_step(run, subject.string.n_bytes);
        return jinja_integer((int64_t)jinja_text_length(subject.string));
    case JINJA_LIST:
        if (!subject.lazy)
            return jinja_integer((int64_t)subject.list->n);
        break;
    case JINJA_DICT:
        return jinja_integer((int64_t)subject.dict->n);
    case JINJA_LOOP:
        return jinja_integer((int64_t)subject.loop->items->n);
    default:
        break;
    }
    return jinja_fail(run, "object of type '%s' has no len()",
                      subject.lazy ? "generator" : jinja_type_name(subject));
}

JINJA_FUNCTION(filter_first)
{
    const struct jinja_list *items;
    if (!jinja_items(run, subject, &items) || items->n == 0)
        return jinja_undefined((struct jinja_string){"first item", 10});
    return items->items[0];
}

JINJA_FUNCTION(filter_last)
{
    const struct jinja_list *items;
    if (!jinja_items(run, subject, &items) || items->n == 0)
        return jinja_undefined((struct jinja_string){"last item", 9});
    return items->items[items->n - 1];
}

JINJA_FUNCTION(filter_list)
{
    const struct jinja_list *items;
    if (!jinja_items(run, subject, &items))
        return subject;
    return (struct jinja_value){.kind = JINJA_LIST, .list = items};
}

JINJA_FUNCTION(filter_join)
{
    const struct jinja_list *items;
    const struct jinja_value with =
        at[0] != NULL ? jinja_to_string(run, *at[0]) : jinja_text("", 0);
    struct jinja_output out = {0};
    if (run->failed || !jinja_items(run, subject, &items))
        return subject;
    for (size_t i = 0; i < items->n && !run->failed; i++) {
        if (i > 0)
            jinja_write(run, &out, with.string.data, with.string.n_bytes);
        jinja_print(run, &out,
                    at[1] != NULL ? path(run, items->items[i], *at[1]) : items->items[i]);
    }
    return jinja_output_value(&out);
}

JINJA_FUNCTION(filter_reverse)
{
    const struct jinja_list *items;
    if (!jinja_items(run, subject, &items))
        return subject;
    struct jinja_value *turned = jinja_take(run, items->n, sizeof(*turned));
    if (turned == NULL)
        return subject;
    for (size_t i = 0; i < items->n; i++)
        turned[i] = items->items[items->n - 1 - i];
    if (subject.kind != JINJA_STRING) {
        struct jinja_value list = jinja_new_list(run, turned, items->n);
        list.lazy = true;
        return list;
    }
    struct jinja_output out = {0};
    for (size_t i = 0; i < items->n; i++)
        jinja_write(run, &out, turned[i].string.data, turned[i].string.n_bytes);
    return jinja_output_value(&out);
}

JINJA_FUNCTION(filter_unique)
{
    const struct jinja_list *items;
    size_t n = 0;
    if (!jinja_items(run, subject, &items))
        return subject;
    struct jinja_value *kept = jinja_take(run, items->n, sizeof(*kept));
    struct jinja_value *keys = jinja_take(run, items->n, sizeof(*keys));
    for (size_t i = 0; kept != NULL && keys != NULL && i < items->n && !run->failed; i++) {
        const struct jinja_value value =
            at[1] != NULL ? path(run, items->items[i], *at[1]) : items->items[i];
        const struct jinja_value key = sort_key(run, value, !jinja_flag(at[0]));
        bool seen = false;
        for (size_t j = 0; j < n && !seen && jinja_step(run, 0); j++)
            seen = jinja_equal(keys[j], key);
        if (!seen) {
            keys[n] = key;
            kept[n++] = items->items[i];
        }
    }
    if (run->failed)
        return subject;
    struct jinja_value list = jinja_new_list(run, kept, n);
    list.lazy = true;
    return list;
}

static struct jinja_value extreme(struct jinja_run *run, struct jinja_value subject,
                                  const struct jinja_value *const *at, int sign)
{
    const struct jinja_list *items;
    struct jinja_value best = jinja_undefined((struct jinja_string){"item", 4}), best_key = best;
    if (!jinja_items(run, subject, &items))
        return subject;
    for (size_t i = 0; i < items->n && jinja_step(run, 0); i++) {
        const struct jinja_value key =
            sort_key(run, at[1] != NULL ? path(run, items->items[i], *at[1]) : items->items[i],
                     !jinja_flag(at[0]));
        int order = 0;
        if (i > 0 && !jinja_compare(key, best_key, &order))
            return jinja_fail(run, "'%s' and '%s' have no order", jinja_type_name(key),
                              jinja_type_name(best_key));
        if (i == 0 || order == sign) {
            best = items->items[i];
            best_key = key;
        }
    }
    return best;
}

JINJA_FUNCTION(filter_min)
{
    return extreme(run, subject, at, -1);
}
JINJA_FUNCTION(filter_max)
{
    return extreme(run, subject, at, 1);
}

JINJA_FUNCTION(filter_sum)
{
    const struct jinja_list *items;
    int64_t sum = at[1] != NULL && at[1]->kind == JINJA_INTEGER ? at[1]->integer : 0;
    double real = 0;
    bool is_real = false;
    if (!jinja_items(run, subject, &items))
        return subject;
    for (size_t i = 0; i < items->n && jinja_step(run, 0); i++) {
        const struct jinja_value item =
            at[0] != NULL ? path(run, items->items[i], *at[0]) : items->items[i];
        if (!jinja_is_number(item))
            return jinja_fail(run, "sum of a %s", jinja_type_name(item));
        is_real = is_real || item.kind == JINJA_REAL;
        if (item.kind == JINJA_REAL)
            real += item.real;
        else if (__builtin_add_overflow(
                     sum, item.kind == JINJA_INTEGER ? item.integer : item.boolean, &sum))
            return jinja_fail(run, "an integer of more than 64 bits");
    }
    return is_real ? jinja_real(real + (double)sum) : jinja_integer(sum);
}

/* ---- map, select ----------------------------------------------------------------------------- */

static const struct jinja_value *keyword(const struct jinja_arguments *arguments, const char *name)
{
    for (size_t i = 0; i < arguments->n_keywords; i++)
        if (jinja_string_is(arguments->keywords[i].name, name))
            return &arguments->keywords[i].value;
    return NULL;
}

/* map, select and reject give nothing for what is false, even where it has no items. */
static bool items_or_none(struct jinja_run *run, struct jinja_value subject,
                          const struct jinja_list **items)
{
    static const struct jinja_list empty = {NULL, 0};
    if (jinja_truth(subject))
        return jinja_items(run, subject, items);
    *items = &empty;
    return !run->failed;
}

/* The arguments behind the first n. */
static struct jinja_arguments behind(const struct jinja_arguments *all, size_t n)
{
    struct jinja_arguments rest = *all;
    n = n < all->n ? n : all->n;
    rest.items += n;
    rest.n -= n;
    return rest;
}

JINJA_FUNCTION(filter_map)
{
    const struct jinja_list *items;
    const struct jinja_value *attribute = keyword(arguments, "attribute");
    const struct jinja_value *otherwise = keyword(arguments, "default");
    const struct jinja_function *filter = NULL;
    const struct jinja_arguments rest = behind(arguments, 1);
    if (attribute == NULL) {
        if (arguments->n == 0 || arguments->items[0].kind != JINJA_STRING)
            return jinja_fail(run, "map takes the name of a filter, or attribute=");
        filter = jinja_builtin_filter(arguments->items[0].string);
        if (filter == NULL)
            return jinja_fail(run, "no filter named '%.*s'",
                              (int)(arguments->items[0].string.n_bytes & 127),
                              arguments->items[0].string.data);
    }
    if (!items_or_none(run, subject, &items))
        return subject;
    struct jinja_value *mapped = jinja_take(run, items->n, sizeof(*mapped));
    for (size_t i = 0; mapped != NULL && i < items->n && !run->failed; i++) {
        if (filter != NULL) {
            mapped[i] = jinja_call_function(run, filter, items->items[i], &rest);
            continue;
        }
        mapped[i] = path(run, items->items[i], *attribute);
        if (mapped[i].kind == JINJA_UNDEFINED && otherwise != NULL)
            mapped[i] = *otherwise;
    }
    if (run->failed)
        return subject;
    struct jinja_value list = jinja_new_list(run, mapped, items->n);
    list.lazy = true;
    return list;
}

/* The items for which a test holds (or does not), or which are true: of the items themselves, or of
 * an attribute, whose name comes first. */
static struct jinja_value chosen(struct jinja_run *run, struct jinja_value subject,
                                 const struct jinja_arguments *arguments, bool by_attribute,
                                 bool wanted)
{
    const struct jinja_list *items;
    const size_t n_names = by_attribute;
    if (arguments->n < n_names || arguments->n_keywords > 0)
        return jinja_fail(run, "selectattr and rejectattr take the name of an attribute");
    const struct jinja_function *test = NULL;
    if (arguments->n > n_names) {
        const struct jinja_value name = arguments->items[n_names];
        test = name.kind == JINJA_STRING ? jinja_builtin_test(name.string) : NULL;
        if (test == NULL)
            return jinja_fail(run, "select and reject take the name of a test");
    }
    const struct jinja_arguments rest = behind(arguments, n_names + 1);
    size_t n = 0;
    if (!items_or_none(run, subject, &items))
        return subject;
    struct jinja_value *kept = jinja_take(run, items->n, sizeof(*kept));
    for (size_t i = 0; kept != NULL && i < items->n && !run->failed; i++) {
        struct jinja_value value = items->items[i];
        if (by_attribute)
            value = path(run, value, arguments->items[0]);
        if (test != NULL)
            value = jinja_call_function(run, test, value, &rest);
        if (jinja_truth(value) == wanted)
            kept[n++] = items->items[i];
    }
    if (run->failed)
        return subject;
    struct jinja_value list = jinja_new_list(run, kept, n);
    list.lazy = true;
    return list;
}

JINJA_FUNCTION(filter_select)
{
    return chosen(run, subject, arguments, false, true);
}
JINJA_FUNCTION(filter_reject)
{
    return chosen(run, subject, arguments, false, false);
}
JINJA_FUNCTION(filter_selectattr)
{
    return chosen(run, subject, arguments, true, true);
}
JINJA_FUNCTION(filter_rejectattr)
{
    return chosen(run, subject, arguments, true, false);
}

const struct jinja_function jinja_filters_of_lists[] = {
    {"count", "", 0, filter_length},
    {"dictsort", "case_sensitive by reverse", 0, filter_dictsort},
    {"first", "", 0, filter_first},
    {"items", "", 0, filter_items},
    {"join", "d attribute", 0, filter_join},
    {"last", "", 0, filter_last},
    {"length", "", 0, filter_length},
    {"list", "", 0, filter_list},
    {"map", NULL, 0, filter_map},
    {"max", "case_sensitive attribute", 0, filter_max},
    {"min", "case_sensitive attribute", 0, filter_min},
    {"reject", NULL, 0, filter_reject},
    {"rejectattr", NULL, 0, filter_rejectattr},
    {"reverse", "", 0, filter_reverse},
    {"select", NULL, 0, filter_select},
    {"selectattr", NULL, 0, filter_selectattr},
    {"sort", "reverse case_sensitive attribute", 0, filter_sort},
    {"sum", "attribute start", 0, filter_sum},
    {"unique", "case_sensitive attribute", 0, filter_unique},
    {.name = NULL},
};
