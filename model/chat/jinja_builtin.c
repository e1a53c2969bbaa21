/* jinja_builtin.c - methods of strings and dicts, global functions, and the search in all tables;
 * see jinja_builtin.h. */
#include "model/chat/jinja_builtin.h"

#include "model/chat/jinja_print.h"
#include "model/chat/jinja_text.h"
#include "model/utf8.h"

#include <string.h>
#include <time.h>

const struct jinja_function *jinja_builtin_find(const struct jinja_function *table,
                                                struct jinja_string name)
{
    for (; table->name != NULL; table++)
        if (jinja_string_is(name, table->name))
            return table;
    return NULL;
}

const struct jinja_function *jinja_builtin_filter(struct jinja_string name)
{
    const struct jinja_function *found = jinja_builtin_find(jinja_filters_of_text, name);
    return found != NULL ? found : jinja_builtin_find(jinja_filters_of_lists, name);
}

/* ---- strings --------------------------------------------------------------------------------- */

static struct jinja_value as_value(struct jinja_string s)
{
    return jinja_text(s.data, s.n_bytes);
}

/* Is the argument a string (or absent or None, then *text is NULL)? */
static bool text_argument(struct jinja_run *run, const struct jinja_value *argument,
                          const struct jinja_string **text)
{
    *text = argument != NULL && argument->kind == JINJA_STRING ? &argument->string : NULL;
    if (argument == NULL || *text != NULL || argument->kind == JINJA_NONE)
        return true;
    jinja_fail(run, "a string is expected, not %s", jinja_type_name(*argument));
    return false;
}

static struct jinja_value stripped(struct jinja_run *run, struct jinja_value subject,
                                   const struct jinja_value *argument, bool left, bool right)
{
    const struct jinja_string *chars;
    if (!text_argument(run, argument, &chars))
        return subject;
    return as_value(jinja_text_strip(subject.string, chars, left, right));
}

JINJA_FUNCTION(method_strip)
{
    return stripped(run, subject, at[0], true, true);
}
JINJA_FUNCTION(method_lstrip)
{
    return stripped(run, subject, at[0], true, false);
}
JINJA_FUNCTION(method_rstrip)
{
    return stripped(run, subject, at[0], false, true);
}

JINJA_FUNCTION(method_upper)
{
    return jinja_in_case(run, subject, JINJA_UPPER);
}
JINJA_FUNCTION(method_lower)
{
    return jinja_in_case(run, subject, JINJA_LOWER);
}
JINJA_FUNCTION(method_capitalize)
{
    return jinja_in_case(run, subject, JINJA_CAPITALIZE);
}
JINJA_FUNCTION(method_title)
{
    return jinja_in_case(run, subject, JINJA_TITLE_METHOD);
}

/* One text, or a tuple of several. */
static struct jinja_value any_end(struct jinja_run *run, struct jinja_value subject,
                                  struct jinja_value with,
                                  bool (*has)(struct jinja_string, struct jinja_string))
{
    const struct jinja_list one = {&with, 1};
    const struct jinja_list *list = with.kind == JINJA_LIST && with.tuple ? with.list : &one;
    for (size_t i = 0; i < list->n && jinja_step(run, 0); i++) {
        if (list->items[i].kind != JINJA_STRING)
            return jinja_fail(run, "a string or a tuple of them is expected, not %s",
                              jinja_type_name(list->items[i]));
        if (has(subject.string, list->items[i].string))
            return jinja_boolean(true);
    }
    return jinja_boolean(false);
}

JINJA_FUNCTION(method_startswith)
{
    return any_end(run, subject, *at[0], jinja_text_starts);
}
JINJA_FUNCTION(method_endswith)
{
    return any_end(run, subject, *at[0], jinja_text_ends);
}

/* Parts between white space, or between a separator; at most `left` cuts, from the front. */
static struct jinja_value split_forward(struct jinja_run *run, struct jinja_string s,
                                        const struct jinja_string *separator, int64_t left)
{
    struct jinja_value *parts = jinja_take(run, s.n_bytes + 1, sizeof(*parts));
    size_t n = 0;
    if (parts == NULL)
        return jinja_none();
    if (separator == NULL) {
        while ((s = jinja_text_strip(s, NULL, true, false)).n_bytes > 0 && left-- != 0) {
            size_t end = 0;
            while (end < s.n_bytes && jinja_text_space(s.data + end, s.n_bytes - end) == 0)
                end++;
            parts[n++] = jinja_text(s.data, end);
            s = (struct jinja_string){s.data + end, s.n_bytes - end};
        }
        if (s.n_bytes > 0)
            parts[n++] = as_value(s);
        return jinja_new_list(run, parts, n);
    }
    size_t begin = 0, found;
    while (left-- != 0 && (found = jinja_text_find(s, *separator, begin)) != SIZE_MAX) {
        parts[n++] = jinja_text(s.data + begin, found - begin);
        begin = found + separator->n_bytes;
    }
    parts[n++] = jinja_text(s.data + begin, s.n_bytes - begin);
    return jinja_new_list(run, parts, n);
}

static bool split_arguments(struct jinja_run *run, const struct jinja_value *const *at,
                            const struct jinja_string **separator, int64_t *most)
{
    if (!text_argument(run, at[0], separator))
        return false;
    if (*separator != NULL && (*separator)->n_bytes == 0) {
        jinja_fail(run, "empty separator");
        return false;
    }
    *most = at[1] != NULL && at[1]->kind == JINJA_INTEGER ? at[1]->integer : -1;
    return true;
}

JINJA_FUNCTION(method_split)
{
    const struct jinja_string *separator;
    int64_t most;
    if (!split_arguments(run, at, &separator, &most))
        return subject;
    return split_forward(run, subject.string, separator, most);
}

/* The last place of a separator; SIZE_MAX: none. */
static size_t find_last(struct jinja_string s, struct jinja_string what)
{
    for (size_t at = s.n_bytes >= what.n_bytes ? s.n_bytes - what.n_bytes + 1 : 0; at-- > 0;)
        if (memcmp(s.data + at, what.data, what.n_bytes) == 0)
            return at;
    return SIZE_MAX;
}

JINJA_FUNCTION(method_rsplit)
{
    const struct jinja_string *separator;
    int64_t most;
    if (!split_arguments(run, at, &separator, &most))
        return subject;
    if (most < 0)
        return split_forward(run, subject.string, separator, most);
    if (separator == NULL)
        return jinja_fail(run, "rsplit at white space with a limit is not supported");
    struct jinja_string s = subject.string;
    struct jinja_value *parts = jinja_take(run, s.n_bytes + 1, sizeof(*parts));
    size_t n = 0, found;
    if (parts == NULL)
        return subject;
    while (most-- != 0 && (found = find_last(s, *separator)) != SIZE_MAX) {
        parts[n++] =
            jinja_text(s.data + found + separator->n_bytes, s.n_bytes - found - separator->n_bytes);
        s.n_bytes = found;
        jinja_step(run, subject.string.n_bytes);
    }
    parts[n++] = as_value(s);
    for (size_t i = 0; i < n / 2; i++) {
        const struct jinja_value swap = parts[i];
        parts[i] = parts[n - 1 - i];
        parts[n - 1 - i] = swap;
    }
    return jinja_new_list(run, parts, n);
}

JINJA_FUNCTION(method_splitlines)
{
    struct jinja_string s = subject.string;
    struct jinja_value *parts = jinja_take(run, s.n_bytes + 1, sizeof(*parts));
    size_t n = 0;
    if (parts == NULL)
        return subject;
    for (size_t begin = 0; begin < s.n_bytes;) {
        size_t end = begin;
        while (end < s.n_bytes && s.data[end] != '\n' && s.data[end] != '\r')
            end++;
        parts[n++] = jinja_text(s.data + begin, end - begin);
        begin = end + 1;
        begin += end + 1 < s.n_bytes && s.data[end] == '\r' && s.data[end + 1] == '\n';
    }
    return jinja_new_list(run, parts, n);
}

JINJA_FUNCTION(method_replace)
{
    static const struct jinja_string name = {"replace", 7};
    const struct jinja_string *text;
    if (!text_argument(run, at[0], &text) || !text_argument(run, at[1], &text))
        return subject;
    return jinja_call_function(run, jinja_builtin_filter(name), subject, arguments);
}

/* A place in characters, -1: none. */
static struct jinja_value place(struct jinja_value subject, size_t byte)
{
    if (byte == SIZE_MAX)
        return jinja_integer(-1);
    return jinja_integer(
        (int64_t)jinja_text_length((struct jinja_string){subject.string.data, byte}));
}

JINJA_FUNCTION(method_find)
{
    const struct jinja_string *what;
    if (!text_argument(run, at[0], &what) || what == NULL)
        return jinja_fail(run, "find takes a string");
    return what->n_bytes == 0 ? jinja_integer(0)
                              : place(subject, jinja_text_find(subject.string, *what, 0));
}

JINJA_FUNCTION(method_rfind)
{
    const struct jinja_string *what;
    if (!text_argument(run, at[0], &what) || what == NULL)
        return jinja_fail(run, "rfind takes a string");
    return place(subject, find_last(subject.string, *what));
}

JINJA_FUNCTION(method_count)
{
    const struct jinja_string *what;
    int64_t n = 0;
    if (!text_argument(run, at[0], &what) || what == NULL || what->n_bytes == 0)
        return jinja_fail(run, "count takes a string that is not empty");
    for (size_t at_byte = 0;
         (at_byte = jinja_text_find(subject.string, *what, at_byte)) != SIZE_MAX; n++)
        at_byte += what->n_bytes;
    return jinja_integer(n);
}

JINJA_FUNCTION(method_join)
{
    const struct jinja_list *items;
    struct jinja_output out = {0};
    if (!jinja_items(run, *at[0], &items))
        return subject;
    for (size_t i = 0; i < items->n && !run->failed; i++) {
        if (items->items[i].kind != JINJA_STRING)
            return jinja_fail(run, "sequence item %zu: expected str instance, %s found", i,
                              jinja_type_name(items->items[i]));
        if (i > 0)
            jinja_write(run, &out, subject.string.data, subject.string.n_bytes);
        jinja_write(run, &out, items->items[i].string.data, items->items[i].string.n_bytes);
    }
    return jinja_output_value(&out);
}

JINJA_FUNCTION(method_removeprefix)
{
    const struct jinja_string *what;
    if (!text_argument(run, at[0], &what) || what == NULL)
        return jinja_fail(run, "removeprefix takes a string");
    const size_t n = jinja_text_starts(subject.string, *what) ? what->n_bytes : 0;
    return jinja_text(subject.string.data + n, subject.string.n_bytes - n);
}

JINJA_FUNCTION(method_removesuffix)
{
    const struct jinja_string *what;
    if (!text_argument(run, at[0], &what) || what == NULL)
        return jinja_fail(run, "removesuffix takes a string");
    const size_t n = jinja_text_ends(subject.string, *what) ? what->n_bytes : 0;
    return jinja_text(subject.string.data, subject.string.n_bytes - n);
}

JINJA_FUNCTION(method_isdigit)
{
    for (size_t i = 0; i < subject.string.n_bytes && jinja_step(run, 0); i++)
        if (subject.string.data[i] < '0' || subject.string.data[i] > '9')
            return jinja_boolean(false);
    return jinja_boolean(subject.string.n_bytes > 0);
}

JINJA_FUNCTION(method_isspace)
{
    const struct jinja_string rest = jinja_text_strip(subject.string, NULL, true, false);
    jinja_step(run, subject.string.n_bytes);
    return jinja_boolean(subject.string.n_bytes > 0 && rest.n_bytes == 0);
}

JINJA_FUNCTION(method_isalpha)
{
    for (size_t at_byte = 0, n; at_byte < subject.string.n_bytes && jinja_step(run, 64);
         at_byte += n) {
        n = utf8_char_bytes(subject.string.data + at_byte, subject.string.n_bytes - at_byte);
        if (n == 0 || !jinja_text_alpha(utf8_decode(subject.string.data + at_byte, n)))
            return jinja_boolean(false);
    }
    return jinja_boolean(subject.string.n_bytes > 0);
}

JINJA_FUNCTION(method_missing)
{
    return jinja_fail(run, "a method of %s that we do not have", jinja_type_name(subject));
}

/* ---- dicts and lists ------------------------------------------------------------------------- */

JINJA_FUNCTION(method_get)
{
    const struct jinja_value *found = jinja_dict_find(subject.dict, *at[0]);
    jinja_step(run, 8 * subject.dict->n);
    return found != NULL ? *found : at[1] != NULL ? *at[1] : jinja_none();
}

JINJA_FUNCTION(method_items)
{
    static const struct jinja_string name = {"items", 5};
    struct jinja_value list =
        jinja_call_function(run, jinja_builtin_filter(name), subject, arguments);
    list.lazy = false;
    return list;
}

static struct jinja_value one_side(struct jinja_run *run, const struct jinja_dict *dict, bool keys)
{
    struct jinja_value *items = jinja_take(run, dict->n, sizeof(*items));
    for (size_t i = 0; items != NULL && i < dict->n; i++)
        items[i] = keys ? dict->entries[i].key : dict->entries[i].value;
    return items != NULL ? jinja_new_list(run, items, dict->n) : jinja_none();
}

JINJA_FUNCTION(method_keys)
{
    return one_side(run, subject.dict, true);
}
JINJA_FUNCTION(method_values)
{
    return one_side(run, subject.dict, false);
}

JINJA_FUNCTION(method_copy)
{
    return run->failed ? jinja_none() : subject;
}

JINJA_FUNCTION(method_list_count)
{
    int64_t n = 0;
    for (size_t i = 0; i < subject.list->n && jinja_step(run, 0); i++)
        n += jinja_equal(subject.list->items[i], *at[0]);
    return jinja_integer(n);
}

JINJA_FUNCTION(method_list_index)
{
    for (size_t i = 0; i < subject.list->n && jinja_step(run, 0); i++)
        if (jinja_equal(subject.list->items[i], *at[0]))
            return jinja_integer((int64_t)i);
    return jinja_fail(run, "the item is not in the list");
}

/* ---- loop ------------------------------------------------------------------------------------ */

JINJA_FUNCTION(method_cycle)
{
    if (arguments->n == 0)
        return jinja_fail(run, "no items for cycling given");
    return arguments->items[subject.loop->at % arguments->n];
}

JINJA_FUNCTION(method_changed)
{
    const bool same = subject.loop->has_changed && jinja_equal(subject.loop->changed, *at[0]);
    subject.loop->has_changed = !run->failed;
    subject.loop->changed = *at[0];
    return jinja_boolean(!same);
}

const struct jinja_function *jinja_builtin_method(enum jinja_kind kind, struct jinja_string name)
{
    static const struct jinja_function of_strings[] = {
        {"capitalize", "", 0, method_capitalize},
        {"count", "sub", 1, method_count},
        {"endswith", "suffix", 1, method_endswith},
        {"find", "sub", 1, method_find},
        {"isalpha", "", 0, method_isalpha},
        {"isdigit", "", 0, method_isdigit},
        {"isspace", "", 0, method_isspace},
        {"join", "iterable", 1, method_join},
        {"lower", "", 0, method_lower},
        {"lstrip", "chars", 0, method_lstrip},
        {"removeprefix", "prefix", 1, method_removeprefix},
        {"removesuffix", "suffix", 1, method_removesuffix},
        {"replace", "old new count", 2, method_replace},
        {"rfind", "sub", 1, method_rfind},
        {"rsplit", "sep maxsplit", 0, method_rsplit},
        {"rstrip", "chars", 0, method_rstrip},
        {"split", "sep maxsplit", 0, method_split},
        {"splitlines", "", 0, method_splitlines},
        {"startswith", "prefix", 1, method_startswith},
        {"strip", "chars", 0, method_strip},
        {"title", "", 0, method_title},
        {"upper", "", 0, method_upper},
        {.name = NULL},
    };
    /* Python has these too. */
    static const struct jinja_function missing = {"this method", NULL, 0, method_missing};
    static const char *const others[] = {
        "casefold",  "center",      "encode",  "expandtabs", "format",       "format_map",
        "index",     "isalnum",     "isascii", "isdecimal",  "isidentifier", "islower",
        "isnumeric", "isprintable", "istitle", "isupper",    "ljust",        "maketrans",
        "partition", "rindex",      "rjust",   "rpartition", "swapcase",     "translate",
        "zfill",     NULL};
    static const struct jinja_function of_dicts[] = {
        {"copy", "", 0, method_copy},     {"get", "key default", 1, method_get},
        {"items", "", 0, method_items},   {"keys", "", 0, method_keys},
        {"values", "", 0, method_values}, {.name = NULL},
    };
    static const struct jinja_function of_lists[] = {
        {"copy", "", 0, method_copy},
        {"count", "value", 1, method_list_count},
        {"index", "value", 1, method_list_index},
        {.name = NULL},
    };
    static const struct jinja_function of_loops[] = {
        {"changed", "value", 1, method_changed},
        {"cycle", NULL, 0, method_cycle},
        {.name = NULL},
    };
    const struct jinja_function *found = NULL;
    if (kind == JINJA_STRING) {
        found = jinja_builtin_find(of_strings, name);
        for (size_t i = 0; found == NULL && others[i] != NULL; i++)
            found = jinja_string_is(name, others[i]) ? &missing : NULL;
    } else if (kind == JINJA_DICT) {
        found = jinja_builtin_find(of_dicts, name);
    } else if (kind == JINJA_LIST) {
        found = jinja_builtin_find(of_lists, name);
    } else if (kind == JINJA_LOOP) {
        found = jinja_builtin_find(of_loops, name);
    }
    return found;
}

/* ---- functions ------------------------------------------------------------------------------- */

JINJA_FUNCTION(global_raise_exception)
{
    const struct jinja_value text = jinja_to_string(run, *at[0]);
    return jinja_fail(run, "the template refuses: %.*s",
                      (int)(text.string.n_bytes < 700 ? text.string.n_bytes : 700),
                      text.string.data);
}

JINJA_FUNCTION(global_namespace)
{
    struct jinja_dict *dict = jinja_new_dict(run, arguments->n_keywords);
    if (dict == NULL)
        return jinja_none();
    if (arguments->n > 0 && arguments->items[0].kind == JINJA_DICT) {
        const struct jinja_dict *from = arguments->items[0].dict;
        for (size_t i = 0; i < from->n && !run->failed; i++)
            jinja_dict_add(run, dict, from->entries[i].key, from->entries[i].value);
    } else if (arguments->n > 0) {
        return jinja_fail(run, "namespace takes a dict or keywords");
    }
    for (size_t i = 0; i < arguments->n_keywords && !run->failed; i++)
        jinja_dict_add(run, dict, as_value(arguments->keywords[i].name),
                       arguments->keywords[i].value);
    return (struct jinja_value){.kind = JINJA_NAMESPACE, .dict = dict};
}

JINJA_FUNCTION(global_dict)
{
    struct jinja_value value = global_namespace(run, subject, at, arguments);
    value.kind = run->failed ? JINJA_NONE : JINJA_DICT;
    return value;
}

JINJA_FUNCTION(global_range)
{
    enum { MOST = 100000 }; /* jinja2's sandbox too */
    int64_t bounds[3] = {0, 0, 1};
    for (size_t i = 0; i < 3; i++)
        if (at[i] != NULL) {
            if (at[i]->kind != JINJA_INTEGER)
                return jinja_fail(run, "range takes integers, not %s", jinja_type_name(*at[i]));
            bounds[i] = at[i]->integer;
        }
    if (at[1] == NULL) {
        bounds[1] = bounds[0];
        bounds[0] = 0;
    }
    if (bounds[2] == 0)
        return jinja_fail(run, "range() arg 3 must not be zero");
    const bool up = bounds[2] > 0;
    const uint64_t distance =
        up ? (uint64_t)bounds[1] - (uint64_t)bounds[0] : (uint64_t)bounds[0] - (uint64_t)bounds[1];
    const uint64_t step = up ? (uint64_t)bounds[2] : 0 - (uint64_t)bounds[2];
    const bool empty = up ? bounds[0] >= bounds[1] : bounds[0] <= bounds[1];
    const uint64_t n = empty ? 0 : (distance - 1) / step + 1;
    if (n > MOST)
        return jinja_fail(run, "Range too big. The sandbox blocks ranges larger than %d.", MOST);
    struct jinja_value *items = jinja_take(run, n, sizeof(*items));
    for (uint64_t i = 0; items != NULL && i < n; i++)
        items[i] = jinja_integer(bounds[0] + (int64_t)i * bounds[2]);
    return items != NULL ? jinja_new_list(run, items, n) : jinja_none();
}

/* Hugging Face's: datetime.now().strftime(format). */
JINJA_FUNCTION(global_strftime_now)
{
    char format[128], text[512];
    struct tm now;
    const time_t seconds = time(NULL);
    if (at[0]->kind != JINJA_STRING || at[0]->string.n_bytes >= sizeof(format) ||
        localtime_r(&seconds, &now) == NULL)
        return jinja_fail(run, "strftime_now takes a short string");
    memcpy(format, at[0]->string.data, at[0]->string.n_bytes);
    format[at[0]->string.n_bytes] = '\0';
    const size_t n = strftime(text, sizeof(text), format, &now);
    char *copy = jinja_take(run, n, 1);
    if (copy != NULL)
        memcpy(copy, text, n);
    return jinja_text(copy, copy != NULL ? n : 0);
}

const struct jinja_function *jinja_builtin_global(struct jinja_string name)
{
    static const struct jinja_function table[] = {
        {"dict", NULL, 0, global_dict},
        {"namespace", NULL, 0, global_namespace},
        {"raise_exception", "message", 1, global_raise_exception},
        {"range", "start stop step", 1, global_range},
        {"strftime_now", "format", 1, global_strftime_now},
        {.name = NULL},
    };
    return jinja_builtin_find(table, name);
}
