/* jinja_parser_expressions.c - see jinja_parser.h. Precedence, from weak to strong, as jinja2 has
 * it: x if y else z; or; and; not; comparisons, in; + -; ~; * / // %; **; signs; attributes, calls;
 * filters and tests. (~ binds stronger than +.) */
#include "model/chat/jinja_builtin.h"
#include "model/chat/jinja_parser.h"

#include <string.h>

#define OPERATOR JINJA_TOKEN_OPERATOR

static bool takes(struct jinja_parser *p, const char *operator)
{
    return jinja_parser_take(p, OPERATOR, operator);
}

static bool is_name(const struct jinja_parser *p, const char *name)
{
    return jinja_parser_is(p, JINJA_TOKEN_NAME, name);
}

static struct jinja_node *binary(struct jinja_parser *p, enum jinja_node_kind kind, uint16_t op,
                                 struct jinja_node *a, struct jinja_node *b)
{
    struct jinja_node *node = jinja_parser_node(p, kind, a, b);
    if (node != NULL)
        node->op = op;
    return node;
}

/* ---- the innermost --------------------------------------------------------------------------- */

static struct jinja_node *literal(struct jinja_parser *p, struct jinja_value value)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_LITERAL, NULL, NULL);
    if (node != NULL)
        node->value = value;
    return node;
}

/* Strings that stand side by side are one. */
static struct jinja_node *string_literal(struct jinja_parser *p)
{
    struct jinja_string all = jinja_parser_peek(p)->text;
    for (p->at++; jinja_parser_is(p, JINJA_TOKEN_STRING, NULL); p->at++) {
        const struct jinja_string more = jinja_parser_peek(p)->text;
        char *joined = jinja_pool_take(p->pool, all.n_bytes + more.n_bytes);
        if (joined == NULL)
            return jinja_parser_fail(p, "a string that is too long", (struct jinja_string){"", 0});
        memcpy(joined, all.data, all.n_bytes);
        memcpy(joined + all.n_bytes, more.data, more.n_bytes);
        all = (struct jinja_string){joined, all.n_bytes + more.n_bytes};
    }
    return literal(p, jinja_text(all.data, all.n_bytes));
}

static struct jinja_node *name_or_constant(struct jinja_parser *p)
{
    struct jinja_string name;
    if (!jinja_parser_name(p, &name))
        return NULL;
    if (jinja_string_is(name, "true") || jinja_string_is(name, "True"))
        return literal(p, jinja_boolean(true));
    if (jinja_string_is(name, "false") || jinja_string_is(name, "False"))
        return literal(p, jinja_boolean(false));
    if (jinja_string_is(name, "none") || jinja_string_is(name, "None"))
        return literal(p, jinja_none());
    struct jinja_node *node = jinja_parser_node(p, JINJA_NAME, NULL, NULL);
    if (node != NULL)
        node->name = name;
    return node;
}

static struct jinja_node *list_literal(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_SEQUENCE, NULL, NULL), **link;
    if (node == NULL)
        return NULL;
    for (link = &node->list; !p->failed && !takes(p, "]"); link = &(*link)->next) {
        if ((*link = jinja_parser_expression(p)) == NULL)
            return NULL;
        if (!takes(p, ",") && !jinja_parser_is(p, OPERATOR, "]"))
            return jinja_parser_fail(p, "a list that does not end", jinja_parser_peek(p)->text);
    }
    return jinja_parser_finish(p, node);
}

static struct jinja_node *dict_literal(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_MAPPING, NULL, NULL), **link;
    if (node == NULL)
        return NULL;
    for (link = &node->list; !p->failed && !takes(p, "}"); link = &(*link)->next) {
        struct jinja_node *key = jinja_parser_expression(p);
        if (key == NULL || !jinja_parser_expect(p, OPERATOR, ":"))
            return NULL;
        struct jinja_node *value = jinja_parser_expression(p);
        if ((*link = jinja_parser_node(p, JINJA_PAIR, key, value)) == NULL)
            return NULL;
        if (!takes(p, ",") && !jinja_parser_is(p, OPERATOR, "}"))
            return jinja_parser_fail(p, "a dict that does not end", jinja_parser_peek(p)->text);
    }
    return jinja_parser_finish(p, node);
}

static struct jinja_node *atom(struct jinja_parser *p)
{
    const struct jinja_token *token = jinja_parser_peek(p);
    switch (token->kind) {
    case JINJA_TOKEN_NAME:
        return name_or_constant(p);
    case JINJA_TOKEN_STRING:
        return string_literal(p);
    case JINJA_TOKEN_INTEGER:
        p->at++;
        return literal(p, jinja_integer(token->integer));
    case JINJA_TOKEN_REAL:
        p->at++;
        return literal(p, jinja_real(token->real));
    default:
        break;
    }
    if (takes(p, "[")) {
        return list_literal(p);
    } else if (takes(p, "{")) {
        return dict_literal(p);
    } else if (takes(p, "(")) {
        struct jinja_node *node;
        if (jinja_parser_is(p, OPERATOR, ")")) {
            node = jinja_parser_node(p, JINJA_SEQUENCE, NULL, NULL);
            if (node != NULL)
                node->value.tuple = true;
        } else {
            node = jinja_parser_tuple(p);
        }
        return node != NULL && jinja_parser_expect(p, OPERATOR, ")") ? node : NULL;
    }
    return jinja_parser_fail(p, "an expression is missing before", token->text);
}

/* ---- behind an expression -------------------------------------------------------------------- */

/* `(` is taken. */
static struct jinja_node *arguments(struct jinja_parser *p, struct jinja_node *node)
{
    bool keywords = false;
    if (node == NULL)
        return NULL;
    struct jinja_node **link = &node->list;
    while (*link != NULL)
        link = &(*link)->next;
    for (; !p->failed && !takes(p, ")"); link = &(*link)->next) {
        const enum jinja_spread spread = takes(p, "*")    ? JINJA_SPREAD_LIST
                                         : takes(p, "**") ? JINJA_SPREAD_DICT
                                                          : JINJA_ONE;
        struct jinja_string name = {"", 0};
        const struct jinja_token *token = jinja_parser_peek(p);
        if (spread == JINJA_ONE && token->kind == JINJA_TOKEN_NAME && token[1].kind == OPERATOR &&
            jinja_string_is(token[1].text, "=")) {
            name = token->text;
            p->at += 2;
            keywords = true;
        } else if (keywords && spread == JINJA_ONE) {
            return jinja_parser_fail(p, "a positional argument behind keywords", token->text);
        }
        struct jinja_node *value = jinja_parser_expression(p);
        struct jinja_node *argument = jinja_parser_node(p, JINJA_ARGUMENT, NULL, value);
        if (value == NULL || argument == NULL)
            return NULL;
        argument->name = name;
        argument->op = spread;
        *link = argument;
        if (!takes(p, ",") && !jinja_parser_is(p, OPERATOR, ")"))
            return jinja_parser_fail(p, "a call that does not end", jinja_parser_peek(p)->text);
    }
    return jinja_parser_finish(p, node);
}

/* `[` is taken. */
static struct jinja_node *subscript(struct jinja_parser *p, struct jinja_node *a)
{
    struct jinja_node *parts[3] = {NULL, NULL, NULL};
    unsigned n = 0;
    bool slice = false;
    while (!p->failed && !takes(p, "]")) {
        if (takes(p, ":")) {
            slice = true;
            if (++n > 2)
                return jinja_parser_fail(p, "a slice of more than three parts", a->name);
        } else if ((parts[n] = jinja_parser_expression(p)) == NULL) {
            return NULL;
        }
    }
    if (!slice && parts[0] == NULL)
        return jinja_parser_fail(p, "an empty subscript", (struct jinja_string){"", 0});
    struct jinja_node *node =
        jinja_parser_node(p, slice ? JINJA_SLICE : JINJA_SUBSCRIPT, a, parts[0]);
    if (node == NULL)
        return NULL;
    node->c = parts[1];
    node->list = parts[2];
    return jinja_parser_finish(p, node);
}

static struct jinja_node *postfix(struct jinja_parser *p, struct jinja_node *a)
{
    while (a != NULL && !p->failed) {
        if (takes(p, ".")) {
            const struct jinja_token *token = jinja_parser_peek(p);
            if (token->kind == JINJA_TOKEN_INTEGER) {
                p->at++;
                a = jinja_parser_node(p, JINJA_SUBSCRIPT, a,
                                      literal(p, jinja_integer(token->integer)));
                continue;
            }
            struct jinja_string name;
            if (!jinja_parser_name(p, &name))
                return NULL;
            a = jinja_parser_node(p, JINJA_ATTRIBUTE, a, NULL);
            if (a != NULL)
                a->name = name;
        } else if (takes(p, "[")) {
            a = subscript(p, a);
        } else if (takes(p, "(")) {
            a = arguments(p, jinja_parser_node(p, JINJA_CALL, a, NULL));
        } else {
            return a;
        }
    }
    return a;
}

struct jinja_node *jinja_parser_primary(struct jinja_parser *p)
{
    return postfix(p, atom(p));
}

/* A filter or test of this name; `(` and arguments may follow. */
static struct jinja_node *applied(struct jinja_parser *p, enum jinja_node_kind kind,
                                  struct jinja_node *a)
{
    struct jinja_string name;
    if (!jinja_parser_name(p, &name))
        return NULL;
    struct jinja_node *node = jinja_parser_node(p, kind, a, NULL);
    if (node == NULL)
        return NULL;
    node->name = name;
    node->function = kind == JINJA_FILTER ? jinja_builtin_filter(name) : jinja_builtin_test(name);
    if (node->function == NULL)
        return jinja_parser_fail(
            p, kind == JINJA_FILTER ? "a filter that we do not have" : "a test that we do not have",
            name);
    return node;
}

struct jinja_node *jinja_parser_filters(struct jinja_parser *p, struct jinja_node *a)
{
    do {
        a = applied(p, JINJA_FILTER, a);
        if (a != NULL && takes(p, "("))
            a = arguments(p, a);
    } while (a != NULL && takes(p, "|"));
    return a;
}

/* Does what follows begin the one argument of a test without brackets? */
static bool begins_argument(const struct jinja_parser *p)
{
    const struct jinja_token *token = jinja_parser_peek(p);
    switch (token->kind) {
    case JINJA_TOKEN_NAME:
        return !is_name(p, "else") && !is_name(p, "or") && !is_name(p, "and") && !is_name(p, "is");
    case JINJA_TOKEN_STRING:
    case JINJA_TOKEN_INTEGER:
    case JINJA_TOKEN_REAL:
        return true;
    default:
        return jinja_parser_is(p, OPERATOR, "[") || jinja_parser_is(p, OPERATOR, "{");
    }
}

/* `is` is taken. */
static struct jinja_node *test(struct jinja_parser *p, struct jinja_node *a)
{
    const bool negated = jinja_parser_take(p, JINJA_TOKEN_NAME, "not");
    struct jinja_node *node = applied(p, JINJA_TEST, a);
    if (node != NULL && takes(p, "(")) {
        node = arguments(p, node);
    } else if (node != NULL && begins_argument(p)) {
        struct jinja_node *value = jinja_parser_primary(p);
        node->list = jinja_parser_node(p, JINJA_ARGUMENT, NULL, value);
        node = value != NULL ? jinja_parser_finish(p, node) : NULL;
    }
    return negated && node != NULL ? jinja_parser_node(p, JINJA_NOT, node, NULL) : node;
}

static struct jinja_node *filtered(struct jinja_parser *p, struct jinja_node *a)
{
    while (a != NULL && !p->failed) {
        if (takes(p, "|"))
            a = jinja_parser_filters(p, a);
        else if (jinja_parser_take(p, JINJA_TOKEN_NAME, "is"))
            a = test(p, a);
        else if (takes(p, "("))
            a = arguments(p, jinja_parser_node(p, JINJA_CALL, a, NULL));
        else
            return a;
    }
    return a;
}

/* ---- operators ------------------------------------------------------------------------------- */

static struct jinja_node *sign(struct jinja_parser *p, bool with_filters)
{
    if (++p->depth > JINJA_MAX_DEPTH)
        return jinja_parser_fail(p, "expressions nested too deeply", (struct jinja_string){"", 0});
    struct jinja_node *node;
    if (takes(p, "-"))
        node = jinja_parser_node(p, JINJA_NEGATIVE, sign(p, false), NULL);
    else if (takes(p, "+"))
        node = jinja_parser_node(p, JINJA_POSITIVE, sign(p, false), NULL);
    else
        node = jinja_parser_primary(p);
    node = postfix(p, node);
    p->depth--;
    return with_filters ? filtered(p, node) : node;
}

static struct jinja_node *power(struct jinja_parser *p)
{
    struct jinja_node *node = sign(p, true);
    while (node != NULL && takes(p, "**"))
        node = binary(p, JINJA_BINARY, JINJA_POWER, node, sign(p, true));
    return node;
}

static struct jinja_node *product(struct jinja_parser *p)
{
    struct jinja_node *node = power(p);
    while (node != NULL) {
        uint16_t op;
        if (takes(p, "*"))
            op = JINJA_MULTIPLY;
        else if (takes(p, "/"))
            op = JINJA_DIVIDE;
        else if (takes(p, "//"))
            op = JINJA_FLOOR_DIVIDE;
        else if (takes(p, "%"))
            op = JINJA_MODULO;
        else
            break;
        node = binary(p, JINJA_BINARY, op, node, power(p));
    }
    return node;
}

static struct jinja_node *concatenation(struct jinja_parser *p)
{
    struct jinja_node *first = product(p);
    if (first == NULL || !jinja_parser_is(p, OPERATOR, "~"))
        return first;
    struct jinja_node *node = jinja_parser_node(p, JINJA_CONCAT, NULL, NULL);
    if (node == NULL)
        return NULL;
    node->list = first;
    for (struct jinja_node **link = &first->next; takes(p, "~"); link = &(*link)->next)
        if ((*link = product(p)) == NULL)
            return NULL;
    return jinja_parser_finish(p, node);
}

static struct jinja_node *sum(struct jinja_parser *p)
{
    struct jinja_node *node = concatenation(p);
    while (node != NULL) {
        uint16_t op;
        if (takes(p, "+"))
            op = JINJA_ADD;
        else if (takes(p, "-"))
            op = JINJA_SUBTRACT;
        else
            break;
        node = binary(p, JINJA_BINARY, op, node, concatenation(p));
    }
    return node;
}

/* The comparison that comes next is taken; false: none. */
static bool comparison_operator(struct jinja_parser *p, uint16_t *op)
{
    static const struct {
        const char *text;
        uint16_t op;
    } operators[] = {{"==", JINJA_EQUAL},      {"!=", JINJA_UNEQUAL}, {"<", JINJA_LESS},
                     {"<=", JINJA_LESS_EQUAL}, {">", JINJA_GREATER},  {">=", JINJA_GREATER_EQUAL}};
    for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++)
        if (takes(p, operators[i].text)) {
            *op = operators[i].op;
            return true;
        }
    if (jinja_parser_take(p, JINJA_TOKEN_NAME, "in")) {
        *op = JINJA_IN;
        return true;
    }
    const struct jinja_token *token = jinja_parser_peek(p);
    if (is_name(p, "not") && token[1].kind == JINJA_TOKEN_NAME &&
        jinja_string_is(token[1].text, "in")) {
        p->at += 2;
        *op = JINJA_NOT_IN;
        return true;
    }
    return false;
}

static struct jinja_node *comparison(struct jinja_parser *p)
{
    struct jinja_node *first = sum(p);
    uint16_t op;
    if (first == NULL || !comparison_operator(p, &op))
        return first;
    struct jinja_node *node = jinja_parser_node(p, JINJA_COMPARISON, first, NULL);
    if (node == NULL)
        return NULL;
    struct jinja_node **link = &node->list;
    do {
        if ((*link = binary(p, JINJA_COMPARED, op, NULL, sum(p))) == NULL)
            return NULL;
        link = &(*link)->next;
    } while (comparison_operator(p, &op));
    return jinja_parser_finish(p, node);
}

static struct jinja_node *negation(struct jinja_parser *p)
{
    if (!jinja_parser_take(p, JINJA_TOKEN_NAME, "not"))
        return comparison(p);
    if (++p->depth > JINJA_MAX_DEPTH)
        return jinja_parser_fail(p, "expressions nested too deeply", (struct jinja_string){"", 0});
    struct jinja_node *node = jinja_parser_node(p, JINJA_NOT, negation(p), NULL);
    p->depth--;
    return node;
}

static struct jinja_node *conjunction(struct jinja_parser *p)
{
    struct jinja_node *node = negation(p);
    while (node != NULL && jinja_parser_take(p, JINJA_TOKEN_NAME, "and"))
        node = binary(p, JINJA_AND, 0, node, negation(p));
    return node;
}

static struct jinja_node *disjunction(struct jinja_parser *p)
{
    struct jinja_node *node = conjunction(p);
    while (node != NULL && jinja_parser_take(p, JINJA_TOKEN_NAME, "or"))
        node = binary(p, JINJA_OR, 0, node, conjunction(p));
    return node;
}

struct jinja_node *jinja_parser_expression(struct jinja_parser *p)
{
    if (++p->depth > JINJA_MAX_DEPTH)
        return jinja_parser_fail(p, "expressions nested too deeply", (struct jinja_string){"", 0});
    struct jinja_node *node = disjunction(p);
    while (node != NULL && jinja_parser_take(p, JINJA_TOKEN_NAME, "if")) {
        struct jinja_node *condition = disjunction(p);
        struct jinja_node *other = NULL;
        if (condition != NULL && jinja_parser_take(p, JINJA_TOKEN_NAME, "else"))
            other = jinja_parser_expression(p);
        node = jinja_parser_node(p, JINJA_CONDITIONAL, condition, node);
        if (node != NULL) {
            node->c = other;
            jinja_parser_finish(p, node);
        }
    }
    p->depth--;
    return node;
}

/* Expressions of one kind with commas between. */
static struct jinja_node *several(struct jinja_parser *p,
                                  struct jinja_node *(*one)(struct jinja_parser *))
{
    struct jinja_node *first = one(p);
    if (first == NULL || !jinja_parser_is(p, OPERATOR, ","))
        return first;
    struct jinja_node *node = jinja_parser_node(p, JINJA_SEQUENCE, NULL, NULL);
    if (node == NULL)
        return NULL;
    node->value.tuple = true;
    node->list = first;
    for (struct jinja_node **link = &first->next; takes(p, ","); link = &(*link)->next) {
        const struct jinja_token *token = jinja_parser_peek(p);
        if (token->kind == JINJA_TOKEN_BLOCK_END || token->kind == JINJA_TOKEN_OUTPUT_END ||
            jinja_parser_is(p, OPERATOR, ")"))
            break;
        if ((*link = one(p)) == NULL)
            return NULL;
    }
    return jinja_parser_finish(p, node);
}

struct jinja_node *jinja_parser_tuple(struct jinja_parser *p)
{
    return several(p, jinja_parser_expression);
}

struct jinja_node *jinja_parser_iterable(struct jinja_parser *p)
{
    return several(p, disjunction);
}
