/* tool_calls.c - see tool_calls.h.
 *
 * Text is moved from `held` to `said` as soon as it can no longer belong to a call. Arguments are
 * given out as the model wrote them, byte for byte: the JSON library says whether a text is JSON,
 * and where a value in it begins and ends is found here, in text that is known to be good. */
#include "coordinator/http/tool_calls.h"

#include "sys/array.h"
#include "sys/random.h"

#include <stdlib.h>
#include <string.h>

enum state {
    BEGINNING, /* only white space so far */
    TEXT,
    TAGGED, /* white space and <tool_call> are held, and what follows */
    JSON,   /* an answer that begins like JSON: until its end */
    NAMED,  /* all of it is the arguments of one call */
};

static const char open_tag[] = "<tool_call>", close_tag[] = "</tool_call>";

/* ---- text ------------------------------------------------------------------------------------ */

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static size_t skip_space(const char *text, size_t at, size_t n)
{
    while (at < n && is_space(text[at]))
        at++;
    return at;
}

/* Where the white space at the end of the first n bytes begins, of which the first `space` are
 * known to be white space. */
static size_t without_space(const char *text, size_t space, size_t n)
{
    while (n > space && is_space(text[n - 1]))
        n--;
    return n > space ? n : 0;
}

/* Where `tag` begins, from `at` on, or a beginning of it that the text's end cuts off; n: neither
 * does. */
static size_t find_tag(const char *text, size_t at, size_t n, const char *tag, bool *whole)
{
    const size_t length = strlen(tag);
    for (; at < n; at++) {
        const size_t left = n - at < length ? n - at : length;
        if (memcmp(text + at, tag, left) == 0) {
            *whole = left == length;
            return at;
        }
    }
    *whole = false;
    return n;
}

/* ---- values in JSON that is known to be good ------------------------------------------------- */

static size_t value_end(const char *json, size_t at)
{
    size_t depth = 0;
    bool quoted = false;
    for (;; at++) {
        const char c = json[at];
        if (quoted && c == '\\')
            at++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '{' || c == '['))
            depth++;
        else if (!quoted && (c == '}' || c == ']'))
            depth--;
        /* A number or a word ends where the next thing begins. */
        if (!quoted && depth == 0) {
            const char next = json[at + 1];
            if (next == ',' || next == '}' || next == ']' || next == ':' || is_space(next) ||
                c == '"' || c == '}' || c == ']')
                return at + 1;
        }
    }
}

/* The value of `key` in the object of n bytes; false: it has none. */
static bool find_member(const char *object, size_t n, const char *key, size_t *begin, size_t *end)
{
    const size_t length = strlen(key);
    size_t at = skip_space(object, 1, n);
    while (object[at] != '}') {
        const size_t name = at + 1, name_end = value_end(object, at) - 1;
        at = skip_space(object, name_end + 1, n) + 1; /* the colon */
        *begin = skip_space(object, at, n);
        *end = value_end(object, *begin);
        if (name_end - name == length && memcmp(object + name, key, length) == 0)
            return true;
        at = skip_space(object, *end, n);
        if (object[at] == ',')
            at = skip_space(object, at + 1, n);
    }
    return false;
}

/* ---- calls ----------------------------------------------------------------------------------- */

static bool make_id(char id[TOOL_CALL_ID_BYTES])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint64_t number;
    if (random_unique(&number, sizeof(number), NULL) != STATUS_OK)
        return false;
    for (size_t i = 0; i < TOOL_CALL_ID_BYTES - 1; i++, number /= 62)
        id[i] = digits[number % 62];
    id[TOOL_CALL_ID_BYTES - 1] = '\0';
    return true;
}

static bool add_call(struct tool_calls *calls, const char *name, const char *arguments, size_t n)
{
    if (!array_grow(&calls->list, &calls->capacity, calls->n + 1, sizeof(*calls->list)))
        return false;
    struct tool_call *call = &calls->list[calls->n];
    *call = (struct tool_call){.name = strdup(name), .arguments = strndup(arguments, n)};
    calls->n++;
    return call->name != NULL && call->arguments != NULL && make_id(call->id);
}

/* Of an object that the model wrote, the arguments: under one of two names, as JSON or as a string
 * that holds it; none are an empty object. */
static bool add_object(struct tool_calls *calls, const json_t *object, const char *text, size_t n)
{
    const char *name = json_string_value(json_object_get(object, "name"));
    const char *key = json_object_get(object, "arguments") != NULL ? "arguments" : "parameters";
    const json_t *value = json_object_get(object, key);
    size_t begin, end;
    if (calls->choice->single && calls->n > 0)
        return true;
    if (json_is_string(value))
        return add_call(calls, name, json_string_value(value), json_string_length(value));
    if (!json_is_object(value))
        return add_call(calls, name, "{}", 2);
    if (find_member(text, n, key, &begin, &end))
        return add_call(calls, name, text + begin, end - begin);
    char *again = json_dumps(value, JSON_COMPACT); /* its key is written with escapes */
    const bool good = again != NULL && add_call(calls, name, again, strlen(again));
    free(again);
    return good;
}

static bool is_call(const struct tool_calls *calls, const json_t *object, bool offered)
{
    const char *name = json_string_value(json_object_get(object, "name"));
    return name != NULL && (!offered || tool_choice_offers(calls->choice, name));
}

/* The JSON value that the text begins with; *n becomes its bytes. NULL: it is none. */
static json_t *read_value(const char *text, size_t *n)
{
    json_error_t where;
    json_t *value = json_loadb(
        text, *n, JSON_ALLOW_NUL | JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &where);
    if (value != NULL)
        *n = (size_t)where.position;
    return value;
}

/* One object, or an array of them. *found false: something is no call, and nothing was added. */
static bool add_value(struct tool_calls *calls, const json_t *value, const char *text, size_t n,
                      bool *found)
{
    const json_t *item;
    size_t index;
    if (json_is_object(value)) {
        *found = is_call(calls, value, true);
        return !*found || add_object(calls, value, text, n);
    }
    *found = json_array_size(value) > 0;
    json_array_foreach(value, index, item) *found = *found && is_call(calls, item, true);
    size_t at = 1;
    json_array_foreach(value, index, item)
    {
        if (!*found)
            break;
        at = skip_space(text, at, n);
        const size_t end = value_end(text, at);
        if (!add_object(calls, item, text + at, end - at))
            return false;
        at = skip_space(text, end, n) + 1; /* the comma, or the end */
    }
    return true;
}

/* All of the text. *found as above. */
static bool add_answer(struct tool_calls *calls, const char *text, size_t n, bool *found)
{
    const size_t n_before = calls->n;
    size_t at = skip_space(text, 0, n);
    *found = at < n;
    bool good = true;
    while (good && *found && at < n) {
        size_t length = n - at;
        json_t *value = read_value(text + at, &length);
        *found = value != NULL;
        if (*found)
            good = add_value(calls, value, text + at, length, found);
        json_decref(value);
        at = skip_space(text, at + length, n);
        if (at < n && text[at] == ';') /* Llama 3 writes one between calls */
            at = skip_space(text, at + 1, n);
    }
    for (; !*found && calls->n > n_before; calls->n--) {
        free(calls->list[calls->n - 1].name);
        free(calls->list[calls->n - 1].arguments);
    }
    return good;
}

/* What stands between the tags: one object, of whatever name. */
static bool add_tagged(struct tool_calls *calls, const char *text, size_t n, bool *found)
{
    const size_t begin = skip_space(text, 0, n);
    size_t length = n - begin;
    json_t *value = read_value(text + begin, &length);
    *found = json_is_object(value) && skip_space(text, begin + length, n) == n &&
             is_call(calls, value, false);
    const bool good = !*found || add_object(calls, value, text + begin, length);
    json_decref(value);
    return good;
}

/* ---- the states ------------------------------------------------------------------------------ */

static bool say(struct tool_calls *calls, size_t n)
{
    const bool good = text_queue_add(&calls->said, text_queue_front(&calls->held), n);
    text_queue_drop(&calls->held, n);
    return good;
}

/* Each takes what it can of the held text, and looks at none of it twice; *more: another state may
 * take some of the rest. */
static bool take_beginning(struct tool_calls *calls, bool last, bool *more)
{
    const struct text_queue *held = &calls->held;
    const char *text = text_queue_front(held);
    const size_t at = calls->searched = skip_space(text, calls->searched, held->n);
    *more = at < held->n || last;
    if (*more)
        calls->state = at < held->n && (text[at] == '{' || text[at] == '[') ? JSON : TEXT;
    return true;
}

static bool take_text(struct tool_calls *calls, bool last, bool *more)
{
    struct text_queue *held = &calls->held;
    const char *text = text_queue_front(held);
    const size_t space = calls->searched;
    bool whole;
    const size_t tag = find_tag(text, space, held->n, open_tag, &whole);
    *more = whole;
    if (last && !whole) {
        if (calls->n > 0)
            held->n = without_space(text, space, held->n);
        return say(calls, held->n);
    }
    const size_t n = without_space(text, space, tag);
    calls->searched = tag - n; /* white space */
    if (whole) {
        calls->state = TAGGED;
        calls->searched += strlen(open_tag);
    }
    return say(calls, n);
}

static bool take_tagged(struct tool_calls *calls, bool last, bool *more)
{
    struct text_queue *held = &calls->held;
    const char *text = text_queue_front(held);
    bool whole, found;
    const size_t end = find_tag(text, calls->searched, held->n, close_tag, &whole);
    const size_t behind = whole ? end + strlen(close_tag) : held->n;
    calls->searched = end;
    *more = whole || last;
    if (!*more)
        return true;
    calls->state = TEXT;
    calls->searched = 0;
    const size_t begin = skip_space(text, 0, held->n) + strlen(open_tag);
    if (!add_tagged(calls, text + begin, (whole ? end : held->n) - begin, &found))
        return false;
    if (!found)
        return say(calls, behind);
    text_queue_drop(held, behind);
    return true;
}

static bool take_json(struct tool_calls *calls, bool last, bool *more)
{
    struct text_queue *held = &calls->held;
    bool found = false;
    *more = false;
    if (!last)
        return true;
    if (!add_answer(calls, text_queue_front(held), held->n, &found))
        return false;
    if (found) {
        text_queue_drop(held, held->n);
        return true;
    }
    calls->state = TEXT; /* there may be tags in it */
    calls->searched = 0;
    *more = true;
    return true;
}

/* The one call's arguments are what comes. */
static bool take_named(struct tool_calls *calls, bool *more)
{
    struct text_queue *held = &calls->held;
    *more = false;
    if (calls->n == 0) {
        if (!add_call(calls, calls->choice->names[0], text_queue_front(held), held->n))
            return false;
    } else {
        free(calls->list[0].arguments);
        calls->list[0].arguments = strndup(text_queue_front(held), held->n);
    }
    text_queue_drop(held, held->n);
    return calls->list[0].arguments != NULL;
}

void tool_calls_open(struct tool_calls *calls, const struct tool_choice *choice)
{
    *calls = (struct tool_calls){.choice = choice,
                                 .state = choice->mode == TOOL_NAMED      ? NAMED
                                          : choice->mode == TOOL_REQUIRED ? JSON
                                                                          : BEGINNING};
}

void tool_calls_close(struct tool_calls *calls)
{
    for (size_t i = 0; i < calls->n; i++) {
        free(calls->list[i].name);
        free(calls->list[i].arguments);
    }
    free(calls->list);
    free(calls->held.bytes);
    free(calls->said.bytes);
    *calls = (struct tool_calls){0};
}

bool tool_calls_feed(struct tool_calls *calls, const char *text, size_t n_bytes, bool last,
                     struct tool_news *news)
{
    const size_t first = calls->n;
    const bool named = calls->state == NAMED;
    bool more = true, good = text_queue_add(&calls->held, text, n_bytes);
    calls->said.n = 0;
    while (good && more) {
        switch ((enum state)calls->state) {
        case BEGINNING:
            good = take_beginning(calls, last, &more);
            break;
        case TEXT:
            good = take_text(calls, last, &more);
            break;
        case TAGGED:
            good = take_tagged(calls, last, &more);
            break;
        case JSON:
            good = take_json(calls, last, &more);
            break;
        case NAMED:
            good = take_named(calls, &more);
            break;
        }
    }
    *news = (struct tool_news){.text = text_queue_front(&calls->said),
                               .n_bytes = calls->said.n,
                               .first = named ? 0 : first,
                               .end = named && first > 0 && n_bytes == 0 ? 0 : calls->n,
                               .goes_on = named && first > 0};
    return good;
}

json_t *tool_calls_json(const struct tool_calls *calls, const struct tool_news *news, bool indexed)
{
    json_t *list = json_array();
    for (size_t i = news->first; list != NULL && i < news->end; i++) {
        const struct tool_call *call = &calls->list[i];
        json_t *one =
            news->goes_on
                ? json_pack("{s:{s:s}}", "function", "arguments", call->arguments)
                : json_pack("{s:s, s:s, s:{s:s, s:s}}", "id", call->id, "type", "function",
                            "function", "name", call->name, "arguments", call->arguments);
        if (one == NULL ||
            (indexed && json_object_set_new(one, "index", json_integer((json_int_t)i)) != 0) ||
            json_array_append(list, one) != 0) {
            json_decref(list);
            list = NULL;
        }
        json_decref(one);
    }
    return list;
}
