/* jinja_evaluate.c - expressions; see jinja_run.h. What Python would raise fails the rendering. */
#include "model/chat/jinja_builtin.h"
#include "model/chat/jinja_print.h"
#include "model/chat/jinja_run.h"
#include "model/chat/jinja_text.h"

#include <string.h>

static struct jinja_value lookup(struct jinja_run *run, struct jinja_string name)
{
    for (const struct jinja_scope *s = run->scope; s != NULL; s = s->parent)
        for (const struct jinja_variable *v = s->variables; v != NULL; v = v->next)
            if (v->name.n_bytes == name.n_bytes &&
                memcmp(v->name.data, name.data, name.n_bytes) == 0)
                return v->value;
    const struct jinja_function *function = jinja_builtin_global(name);
    return function != NULL ? (struct jinja_value){.kind = JINJA_FUNCTION, .function = function}
                            : jinja_undefined(name);
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

static struct jinja_value unsupported(struct jinja_run *run, const char *symbol,
                                      struct jinja_value a, struct jinja_value b)
{
    const struct jinja_value missing = a.kind == JINJA_UNDEFINED ? a : b;
    if (a.kind == JINJA_STRING && symbol[0] == '%')
        return jinja_fail(run, "text %% values is not supported");
    if (missing.kind == JINJA_UNDEFINED)
        return jinja_fail(run, "'%.*s' is undefined", (int)(missing.string.n_bytes & 127),
                          missing.string.data);
    return jinja_fail(run, "unsupported operand types for %s: '%s' and '%s'", symbol,
                      jinja_type_name(a), jinja_type_name(b));
}

static struct jinja_value integers(struct jinja_run *run, enum jinja_operator op, int64_t a,
                                   int64_t b)
{
    int64_t result = 0;
    bool overflow = false;
    switch (op) {
    case JINJA_ADD:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case JINJA_SUBTRACT:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case JINJA_MULTIPLY:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    case JINJA_POWER:
        if (b < 0)
            return jinja_fail(run, "a negative power is not supported");
        for (result = 1; b > 0 && !overflow && jinja_step(run, 0); b--) {
            overflow = __builtin_mul_overflow(result, a, &result);
            if (a == 0 || a == 1)
                break;
        }
        break;
    default: /* floor division and its remainder, of the divisor's sign */
        if (b == 0)
            return jinja_fail(run, "division by zero");
        if (b == -1) {
            overflow = op == JINJA_FLOOR_DIVIDE && __builtin_sub_overflow(0, a, &result);
            break;
        }
        result = op == JINJA_MODULO ? a % b : a / b;
        if (a % b != 0 && (a % b < 0) != (b < 0))
            result += op == JINJA_MODULO ? b : -1;
        break;
    }
    return overflow ? jinja_fail(run, "an integer of more than 64 bits") : jinja_integer(result);
}

static double as_real(struct jinja_value v)
{
    return v.kind == JINJA_REAL ? v.real
                                : (double)(v.kind == JINJA_INTEGER ? v.integer : v.boolean);
}

static int64_t as_integer(struct jinja_value v)
{
    return v.kind == JINJA_INTEGER ? v.integer : v.boolean;
}

static struct jinja_value reals(struct jinja_run *run, enum jinja_operator op, double a, double b)
{
    switch (op) {
    case JINJA_ADD:
        return jinja_real(a + b);
    case JINJA_SUBTRACT:
        return jinja_real(a - b);
    case JINJA_MULTIPLY:
        return jinja_real(a * b);
    case JINJA_DIVIDE:
        return b < 0 || b > 0 ? jinja_real(a / b) : jinja_fail(run, "division by zero");
    default:
        return jinja_fail(run, "// %% and ** of reals are not supported");
    }
}

/* A string or list `n` times. */
static struct jinja_value repeated(struct jinja_run *run, struct jinja_value what, int64_t n)
{
    const size_t length = what.kind == JINJA_STRING ? what.string.n_bytes : what.list->n;
    const size_t times = n > 0 ? (size_t)n : 0;
    if (length > 0 && times > run->pool->limit / length)
        return jinja_fail(run, "a text or list of more than %zu bytes", run->pool->limit);
    if (what.kind == JINJA_STRING) {
        char *text = jinja_take(run, times * length, 1);
        for (size_t i = 0; text != NULL && length > 0 && i < times; i++)
            memcpy(text + i * length, what.string.data, length);
        return jinja_text(text != NULL ? text : "", text != NULL ? times * length : 0);
    }
    struct jinja_list *list = jinja_take(run, 1, sizeof(*list));
    struct jinja_value *items = jinja_take(run, times * length, sizeof(*items));
    if (list == NULL || items == NULL)
        return jinja_none();
    for (size_t i = 0; i < times * length; i++)
        items[i] = what.list->items[i % length];
    *list = (struct jinja_list){items, times * length};
    return (struct jinja_value){.kind = JINJA_LIST, .list = list, .tuple = what.tuple};
}

static struct jinja_value joined(struct jinja_run *run, struct jinja_value a, struct jinja_value b)
{
    if (a.kind == JINJA_STRING) {
        char *text = jinja_take(run, a.string.n_bytes + b.string.n_bytes, 1);
        if (text == NULL)
            return a;
        memcpy(text, a.string.data, a.string.n_bytes);
        memcpy(text + a.string.n_bytes, b.string.data, b.string.n_bytes);
        return jinja_text(text, a.string.n_bytes + b.string.n_bytes);
    }
    struct jinja_list *list = jinja_take(run, 1, sizeof(*list));
    struct jinja_value *items = jinja_take(run, a.list->n + b.list->n, sizeof(*items));
    if (list == NULL || items == NULL)
        return a;
    if (a.list->n > 0)
        memcpy(items, a.list->items, a.list->n * sizeof(*items));
    if (b.list->n > 0)
        memcpy(items + a.list->n, b.list->items, b.list->n * sizeof(*items));
    *list = (struct jinja_list){items, a.list->n + b.list->n};
    return (struct jinja_value){.kind = JINJA_LIST, .list = list, .tuple = a.tuple};
}

static struct jinja_value arithmetic(struct jinja_run *run, enum jinja_operator op,
                                     struct jinja_value a, struct jinja_value b)
{
    static const char *const symbols[] = {
        [JINJA_ADD] = "+",    [JINJA_SUBTRACT] = "-",      [JINJA_MULTIPLY] = "*",
        [JINJA_DIVIDE] = "/", [JINJA_FLOOR_DIVIDE] = "//", [JINJA_MODULO] = "%",
        [JINJA_POWER] = "**"};
    if (jinja_is_number(a) && jinja_is_number(b)) {
        if (a.kind == JINJA_REAL || b.kind == JINJA_REAL || op == JINJA_DIVIDE)
            return reals(run, op, as_real(a), as_real(b));
        return integers(run, op, as_integer(a), as_integer(b));
    }
    if (op == JINJA_ADD && a.kind == b.kind && !a.lazy && !b.lazy && a.tuple == b.tuple &&
        (a.kind == JINJA_STRING || a.kind == JINJA_LIST))
        return joined(run, a, b);
    const bool a_repeats = a.kind == JINJA_STRING || a.kind == JINJA_LIST;
    const bool b_repeats = b.kind == JINJA_STRING || b.kind == JINJA_LIST;
    if (op == JINJA_MULTIPLY && a_repeats && (b.kind == JINJA_INTEGER || b.kind == JINJA_BOOLEAN))
        return repeated(run, a, as_integer(b));
    if (op == JINJA_MULTIPLY && b_repeats && (a.kind == JINJA_INTEGER || a.kind == JINJA_BOOLEAN))
        return repeated(run, b, as_integer(a));
    return unsupported(run, symbols[op], a, b);
}

/* ---- comparisons ----------------------------------------------------------------------------- */

static bool holds(struct jinja_run *run, enum jinja_operator op, struct jinja_value a,
                  struct jinja_value b)
{
    static const char *const symbols[] = {[JINJA_LESS] = "<",
                                          [JINJA_LESS_EQUAL] = "<=",
                                          [JINJA_GREATER] = ">",
                                          [JINJA_GREATER_EQUAL] = ">="};
    int order = 0;
    switch (op) {
    case JINJA_EQUAL:
        return jinja_equal(a, b);
    case JINJA_UNEQUAL:
        return !jinja_equal(a, b);
    case JINJA_IN:
        return jinja_contains(run, b, a);
    case JINJA_NOT_IN:
        return !jinja_contains(run, b, a);
    default:
        if (!jinja_compare(a, b, &order)) {
            unsupported(run, symbols[op], a, b);
            return false;
        }
        return order != 2 && (op == JINJA_LESS         ? order < 0
                              : op == JINJA_LESS_EQUAL ? order <= 0
                              : op == JINJA_GREATER    ? order > 0
                                                       : order >= 0);
    }
}

static struct jinja_value comparison(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value left = jinja_evaluate(run, node->a);
    for (const struct jinja_node *c = node->list; c != NULL && !run->failed; c = c->next) {
        const struct jinja_value right = jinja_evaluate(run, c->b);
        if (run->failed || !holds(run, c->op, left, right))
            return jinja_boolean(false);
        left = right;
    }
    return jinja_boolean(true);
}

/* ---- parts and wholes ------------------------------------------------------------------------ */

static size_t count_nodes(const struct jinja_node *list)
{
    size_t n = 0;
    for (; list != NULL; list = list->next)
        n++;
    return n;
}

static struct jinja_value sequence(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_list *list = jinja_take(run, 1, sizeof(*list));
    struct jinja_value *items = jinja_take(run, count_nodes(node->list), sizeof(*items));
    size_t n = 0;
    if (list == NULL || items == NULL)
        return jinja_none();
    for (const struct jinja_node *item = node->list; item != NULL && !run->failed;
         item = item->next)
        items[n++] = jinja_evaluate(run, item);
    *list = (struct jinja_list){items, n};
    return (struct jinja_value){.kind = JINJA_LIST, .list = list, .tuple = node->value.tuple};
}

static struct jinja_value mapping(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_dict *dict = jinja_new_dict(run, count_nodes(node->list));
    for (const struct jinja_node *pair = node->list; pair != NULL && !run->failed;
         pair = pair->next) {
        const struct jinja_value key = jinja_evaluate(run, pair->a);
        if (key.kind > JINJA_STRING || key.kind == JINJA_UNDEFINED)
            return jinja_fail(run, "'%s' cannot be the key of a dict", jinja_type_name(key));
        jinja_dict_add(run, dict, key, jinja_evaluate(run, pair->b));
    }
    return run->failed ? jinja_none() : (struct jinja_value){.kind = JINJA_DICT, .dict = dict};
}

/* One part of a slice; false: absent or None. */
static bool slice_part(struct jinja_run *run, const struct jinja_node *node, int64_t *value)
{
    const struct jinja_value v = node != NULL ? jinja_evaluate(run, node) : jinja_none();
    if (v.kind == JINJA_NONE || run->failed)
        return false;
    if (v.kind != JINJA_INTEGER && v.kind != JINJA_BOOLEAN) {
        jinja_fail(run, "slice indices must be integers, not %s", jinja_type_name(v));
        return false;
    }
    *value = as_integer(v);
    return true;
}

static int64_t clamp(int64_t i, int64_t n, int64_t least, int64_t most)
{
    i = i < 0 ? i + n : i;
    return i < least ? least : i > most ? most : i;
}

static struct jinja_value slice(struct jinja_run *run, const struct jinja_node *node)
{
    const struct jinja_value value = jinja_evaluate(run, node->a);
    int64_t begin = 0, end = 0, step = 1;
    const bool has_begin = slice_part(run, node->b, &begin);
    const bool has_end = slice_part(run, node->c, &end);
    slice_part(run, node->list, &step);
    if (run->failed)
        return value;
    if (step == 0)
        return jinja_fail(run, "slice step cannot be zero");
    if (value.kind == JINJA_UNDEFINED)
        return jinja_fail(run, "'%.*s' is undefined", (int)(value.string.n_bytes & 127),
                          value.string.data);
    if (value.kind != JINJA_STRING && (value.kind != JINJA_LIST || value.lazy))
        return jinja_undefined((struct jinja_string){"", 0});
    const struct jinja_list *items = NULL;
    if (value.kind == JINJA_LIST)
        items = value.list;
    else if (step != 1 && !jinja_items(run, value, &items))
        return value;
    const int64_t n = (int64_t)(items != NULL ? items->n : jinja_text_length(value.string));
    const int64_t least = step > 0 ? 0 : -1, most = step > 0 ? n : n - 1;
    begin = has_begin ? clamp(begin, n, least, most) : step > 0 ? 0 : n - 1;
    end = has_end ? clamp(end, n, least, most) : step > 0 ? n : -1;
    if (!jinja_step(run, (size_t)n))
        return value;
    if (value.kind == JINJA_STRING && step == 1) {
        const size_t from = jinja_text_offset(value.string, (size_t)begin);
        const size_t to = begin < end ? jinja_text_offset(value.string, (size_t)end) : from;
        return jinja_text(value.string.data + from, to - from);
    }
    struct jinja_value *parts = jinja_take(run, (size_t)n, sizeof(*parts));
    size_t n_parts = 0;
    if (parts == NULL)
        return value;
    for (int64_t i = begin; step > 0 ? i < end : i > end;) {
        parts[n_parts++] = items->items[i];
        if (__builtin_add_overflow(i, step, &i))
            break;
    }
    if (value.kind == JINJA_LIST) {
        struct jinja_value list = jinja_new_list(run, parts, n_parts);
        list.tuple = value.tuple;
        return list;
    }
    struct jinja_output text = {0};
    for (size_t i = 0; i < n_parts; i++)
        jinja_write(run, &text, parts[i].string.data, parts[i].string.n_bytes);
    return jinja_output_value(&text);
}

static struct jinja_value concatenation(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_output text = {0};
    for (const struct jinja_node *item = node->list; item != NULL && !run->failed;
         item = item->next)
        jinja_print(run, &text, jinja_evaluate(run, item));
    return jinja_output_value(&text);
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* A list of values of which `n` are there, with room for one more. NULL: failed. */
static void *room_for_one(struct jinja_run *run, const void *list, size_t n, size_t bytes)
{
    if (list != NULL && (n & (n - 1)) != 0)
        return (void *)list; /* capacities are powers of two */
    void *larger = jinja_take(run, n > 0 ? 2 * n : 1, bytes);
    if (larger != NULL && n > 0)
        memcpy(larger, list, n * bytes);
    return larger;
}

static void add_item(struct jinja_run *run, struct jinja_arguments *arguments,
                     struct jinja_value value)
{
    struct jinja_value *items = room_for_one(run, arguments->items, arguments->n, sizeof(value));
    if (items == NULL)
        return;
    items[arguments->n++] = value;
    arguments->items = items;
}

static void add_keyword(struct jinja_run *run, struct jinja_arguments *arguments,
                        struct jinja_string name, struct jinja_value value)
{
    struct jinja_keyword *keywords =
        room_for_one(run, arguments->keywords, arguments->n_keywords, sizeof(*keywords));
    if (keywords == NULL)
        return;
    keywords[arguments->n_keywords++] = (struct jinja_keyword){name, value};
    arguments->keywords = keywords;
}

/* *list and **dict. */
static void add_all(struct jinja_run *run, struct jinja_arguments *arguments,
                    struct jinja_value value, bool named)
{
    const struct jinja_list *items;
    if (named && value.kind != JINJA_DICT) {
        jinja_fail(run, "argument after ** must be a mapping, not %s", jinja_type_name(value));
    } else if (named) {
        for (size_t i = 0; i < value.dict->n && !run->failed; i++)
            if (value.dict->entries[i].key.kind == JINJA_STRING)
                add_keyword(run, arguments, value.dict->entries[i].key.string,
                            value.dict->entries[i].value);
            else
                jinja_fail(run, "keywords must be strings");
    } else if (jinja_items(run, value, &items)) {
        for (size_t i = 0; i < items->n && !run->failed; i++)
            add_item(run, arguments, items->items[i]);
    }
}

bool jinja_read_arguments(struct jinja_run *run, const struct jinja_node *list,
                          struct jinja_arguments *arguments)
{
    *arguments = (struct jinja_arguments){0};
    for (; list != NULL && !run->failed; list = list->next) {
        const struct jinja_value value = jinja_evaluate(run, list->b);
        if (run->failed)
            break;
        if (list->op != JINJA_ONE)
            add_all(run, arguments, value, list->op == JINJA_SPREAD_DICT);
        else if (list->name.n_bytes > 0)
            add_keyword(run, arguments, list->name, value);
        else
            add_item(run, arguments, value);
    }
    return !run->failed;
}

struct jinja_value jinja_call(struct jinja_run *run, struct jinja_value what,
                              const struct jinja_arguments *arguments)
{
    switch (what.kind) {
    case JINJA_MACRO:
        return jinja_call_macro(run, what.macro, arguments);
    case JINJA_FUNCTION:
        return jinja_call_function(run, what.function, jinja_none(), arguments);
    case JINJA_METHOD:
        return jinja_call_function(run, what.method->function, what.method->subject, arguments);
    case JINJA_LOOP:
        if (arguments->n == 1 && arguments->n_keywords == 0)
            return jinja_call_loop(run, what.loop, arguments->items[0]);
        return jinja_fail(run, "loop() takes the items of the next level");
    case JINJA_UNDEFINED:
        return jinja_fail(run, "'%.*s' is undefined, or not allowed in the sandbox",
                          (int)(what.string.n_bytes & 127), what.string.data);
    default:
        return jinja_fail(run, "'%s' object is not callable", jinja_type_name(what));
    }
}

static struct jinja_value call(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_arguments arguments;
    const struct jinja_value what = jinja_evaluate(run, node->a);
    if (run->failed || !jinja_read_arguments(run, node->list, &arguments))
        return jinja_none();
    return jinja_call(run, what, &arguments);
}

static struct jinja_value apply(struct jinja_run *run, const struct jinja_node *node,
                                struct jinja_value subject)
{
    struct jinja_arguments arguments;
    if (run->failed || !jinja_read_arguments(run, node->list, &arguments))
        return jinja_none();
    return jinja_call_function(run, node->function, subject, &arguments);
}

struct jinja_value jinja_apply_filters(struct jinja_run *run, const struct jinja_node *node,
                                       struct jinja_value subject)
{
    if (node == NULL)
        return subject;
    return apply(run, node, jinja_apply_filters(run, node->a, subject));
}

/* ---- all ------------------------------------------------------------------------------------- */

static struct jinja_value negative(struct jinja_run *run, struct jinja_value v)
{
    if (v.kind == JINJA_REAL)
        return jinja_real(-v.real);
    if (!jinja_is_number(v))
        return unsupported(run, "unary -", v, v);
    return integers(run, JINJA_SUBTRACT, 0, as_integer(v));
}

static struct jinja_value evaluate(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value a;
    switch (node->kind) {
    case JINJA_LITERAL:
        return node->value;
    case JINJA_NAME:
        return lookup(run, node->name);
    case JINJA_SEQUENCE:
        return sequence(run, node);
    case JINJA_MAPPING:
        return mapping(run, node);
    case JINJA_ATTRIBUTE:
        a = jinja_evaluate(run, node->a);
        return run->failed ? a : jinja_attribute(run, a, node->name);
    case JINJA_SUBSCRIPT:
        a = jinja_evaluate(run, node->a);
        return run->failed ? a : jinja_subscript(run, a, jinja_evaluate(run, node->b));
    case JINJA_SLICE:
        return slice(run, node);
    case JINJA_CALL:
        return call(run, node);
    case JINJA_FILTER:
    case JINJA_TEST:
        return apply(run, node, jinja_evaluate(run, node->a));
    case JINJA_NOT:
        return jinja_boolean(!jinja_truth(jinja_evaluate(run, node->a)));
    case JINJA_NEGATIVE:
        return negative(run, jinja_evaluate(run, node->a));
    case JINJA_POSITIVE:
        a = jinja_evaluate(run, node->a);
        return jinja_is_number(a) ? a : unsupported(run, "unary +", a, a);
    case JINJA_AND:
        a = jinja_evaluate(run, node->a);
        return jinja_truth(a) ? jinja_evaluate(run, node->b) : a;
    case JINJA_OR:
        a = jinja_evaluate(run, node->a);
        return jinja_truth(a) ? a : jinja_evaluate(run, node->b);
    case JINJA_BINARY:
        a = jinja_evaluate(run, node->a);
        return run->failed ? a : arithmetic(run, node->op, a, jinja_evaluate(run, node->b));
    case JINJA_CONCAT:
        return concatenation(run, node);
    case JINJA_COMPARISON:
        return comparison(run, node);
    case JINJA_CONDITIONAL:
        if (jinja_truth(jinja_evaluate(run, node->a)))
            return jinja_evaluate(run, node->b);
        return node->c != NULL ? jinja_evaluate(run, node->c)
                               : jinja_undefined((struct jinja_string){"", 0});
    default:
        return jinja_fail(run, "no expression");
    }
}

struct jinja_value jinja_evaluate(struct jinja_run *run, const struct jinja_node *node)
{
    if (run->failed || !jinja_step(run, 0))
        return jinja_none();
    if (run->levels >= JINJA_MAX_LEVELS)
        return jinja_fail(run, "the template goes too deep");
    run->levels++;
    const struct jinja_value value = evaluate(run, node);
    run->levels--;
    return value;
}
