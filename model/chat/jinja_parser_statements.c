/* jinja_parser_statements.c - see jinja_parser.h. */
#include "model/chat/jinja_parser.h"

#include <string.h>

/* ---- what both files need -------------------------------------------------------------------- */

void *jinja_parser_fail(struct jinja_parser *p, const char *what, struct jinja_string text)
{
    const int n = text.n_bytes < 60 ? (int)text.n_bytes : 60;
    if (!p->failed)
        error_set(p->error, STATUS_UNSUPPORTED, "line %u: %s%s%.*s", jinja_parser_peek(p)->line,
                  what, n > 0 ? ": " : "", n, text.data);
    p->failed = true;
    return NULL;
}

const struct jinja_token *jinja_parser_peek(const struct jinja_parser *p)
{
    return &p->tokens.items[p->at < p->tokens.n ? p->at : p->tokens.n - 1];
}

bool jinja_parser_is(const struct jinja_parser *p, enum jinja_token_kind kind, const char *text)
{
    const struct jinja_token *token = jinja_parser_peek(p);
    return token->kind == kind && (text == NULL || jinja_string_is(token->text, text));
}

bool jinja_parser_take(struct jinja_parser *p, enum jinja_token_kind kind, const char *text)
{
    const bool is = jinja_parser_is(p, kind, text);
    p->at += is;
    return is;
}

bool jinja_parser_expect(struct jinja_parser *p, enum jinja_token_kind kind, const char *text)
{
    if (jinja_parser_take(p, kind, text))
        return true;
    char what[64] = "the end of the tag is expected, not";
    if (text != NULL) {
        memcpy(what, "expected ", 10);
        strncat(what, text, 40);
        strncat(what, ", not", 8);
    }
    jinja_parser_fail(p, what, jinja_parser_peek(p)->text);
    return false;
}

bool jinja_parser_name(struct jinja_parser *p, struct jinja_string *name)
{
    const struct jinja_token *token = jinja_parser_peek(p);
    if (token->kind != JINJA_TOKEN_NAME) {
        jinja_parser_fail(p, "a name is expected, not", token->text);
        return false;
    }
    *name = token->text;
    p->at++;
    return true;
}

struct jinja_node *jinja_parser_finish(struct jinja_parser *p, struct jinja_node *node)
{
    unsigned height = 0;
    const struct jinja_node *const members[] = {node->a, node->b, node->c};
    for (size_t i = 0; i < 3; i++)
        if (members[i] != NULL && members[i]->height > height)
            height = members[i]->height;
    for (const struct jinja_node *item = node->list; item != NULL; item = item->next)
        height = item->height > height ? item->height : height;
    /* elif is as high as its if: they are walked in a loop. */
    for (const struct jinja_node *item = node->other; item != NULL; item = item->next) {
        const unsigned other = item->height - (unsigned)(item->kind == JINJA_IF && item->op != 0);
        height = other > height ? other : height;
    }
    if (height >= JINJA_MAX_HEIGHT)
        return jinja_parser_fail(p, "too many operators or blocks inside each other",
                                 (struct jinja_string){"", 0});
    node->height = (uint16_t)(height + 1);
    return node;
}

struct jinja_node *jinja_parser_node(struct jinja_parser *p, enum jinja_node_kind kind,
                                     struct jinja_node *a, struct jinja_node *b)
{
    if (p->failed)
        return NULL;
    struct jinja_node *node = jinja_pool_take(p->pool, sizeof(*node));
    if (node == NULL)
        return jinja_parser_fail(p, "the template is too large", (struct jinja_string){"", 0});
    node->kind = kind;
    node->line = jinja_parser_peek(p)->line;
    node->a = a;
    node->b = b;
    return jinja_parser_finish(p, node);
}

/* ---- bodies ---------------------------------------------------------------------------------- */

static struct jinja_node *statement(struct jinja_parser *p, struct jinja_string name);

/* Statements up to a tag of one of the two names (NULL: the end of the template), which is taken
 * with its name; *first says which. */
static struct jinja_node *body(struct jinja_parser *p, const char *const *names, size_t n_names,
                               size_t *which)
{
    struct jinja_node *list = NULL, **link = &list;
    if (++p->depth > JINJA_MAX_DEPTH)
        return jinja_parser_fail(p, "blocks nested too deeply", (struct jinja_string){"", 0});
    while (!p->failed) {
        const struct jinja_token *token = jinja_parser_peek(p);
        struct jinja_node *node = NULL;
        if (token->kind == JINJA_TOKEN_END) {
            if (n_names > 0)
                return jinja_parser_fail(p, "the template ends before",
                                         (struct jinja_string){names[0], strlen(names[0])});
            break;
        }
        p->at++;
        if (token->kind == JINJA_TOKEN_DATA) {
            node = jinja_parser_node(p, JINJA_DATA, NULL, NULL);
            if (node != NULL)
                node->value = jinja_text(token->text.data, token->text.n_bytes);
        } else if (token->kind == JINJA_TOKEN_OUTPUT_BEGIN) {
            struct jinja_node *value = jinja_parser_tuple(p);
            jinja_parser_expect(p, JINJA_TOKEN_OUTPUT_END, NULL);
            node = jinja_parser_node(p, JINJA_OUTPUT, value, NULL);
        } else {
            struct jinja_string name;
            if (!jinja_parser_name(p, &name))
                return NULL;
            for (size_t i = 0; i < n_names; i++)
                if (jinja_string_is(name, names[i])) {
                    *which = i;
                    p->depth--;
                    return list;
                }
            node = statement(p, name);
        }
        if (node == NULL)
            return NULL;
        *link = node;
        link = &node->next;
    }
    p->depth--;
    return list;
}

/* A body that ends with {% name %}. */
static struct jinja_node *simple_body(struct jinja_parser *p, const char *name)
{
    size_t which;
    if (!jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END, NULL))
        return NULL;
    struct jinja_node *list = body(p, &name, 1, &which);
    jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END, NULL);
    return list;
}

/* ---- statements ------------------------------------------------------------------------------ */

static struct jinja_node *if_statement(struct jinja_parser *p)
{
    static const char *const names[] = {"endif", "else", "elif"};
    struct jinja_node *first = NULL, **link = &first;
    size_t which = 2;
    while (which == 2 && !p->failed) {
        struct jinja_node *condition = jinja_parser_tuple(p);
        struct jinja_node *node = jinja_parser_node(p, JINJA_IF, condition, NULL);
        if (node == NULL || !jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END, NULL))
            return NULL;
        node->op = link != &first; /* an elif */
        node->list = body(p, names, 3, &which);
        *link = node;
        link = &node->other;
        if (p->failed || jinja_parser_finish(p, node) == NULL)
            return NULL;
    }
    struct jinja_node *rest = which == 1 ? simple_body(p, "endif") : NULL;
    if (which == 0)
        jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END, NULL);
    *link = rest;
    /* The first carries the height of all, since they lie in one chain. */
    unsigned height = first->height;
    for (struct jinja_node *node = first; node != NULL; node = node->other) {
        if (node->height > height)
            height = node->height;
        if (node->kind != JINJA_IF || node->other == NULL || node->other->kind != JINJA_IF ||
            node->other->op == 0)
            break;
    }
    for (const struct jinja_node *item = rest; item != NULL; item = item->next)
        height = item->height + 1u > height ? item->height + 1u : height;
    if (height >= JINJA_MAX_HEIGHT)
        return jinja_parser_fail(p, "too many blocks inside each other",
                                 (struct jinja_string){"", 0});
    first->height = (uint16_t)height;
    return p->failed ? NULL : first;
}

/* A name, or several with commas between, also in brackets. */
static struct jinja_node *target(struct jinja_parser *p, bool attributes)
{
    const bool brackets = jinja_parser_take(p, JINJA_TOKEN_OPERATOR, "(");
    struct jinja_node *first = NULL, **link = &first;
    size_t n = 0;
    do {
        struct jinja_node *node = jinja_parser_node(p, JINJA_NAME, NULL, NULL);
        if (node == NULL || !jinja_parser_name(p, &node->name))
            return NULL;
        if (attributes && jinja_parser_take(p, JINJA_TOKEN_OPERATOR, ".")) {
            node = jinja_parser_node(p, JINJA_ATTRIBUTE, node, NULL);
            if (node == NULL || !jinja_parser_name(p, &node->name))
                return NULL;
        }
        *link = node;
        link = &node->next;
        n++;
    } while (jinja_parser_take(p, JINJA_TOKEN_OPERATOR, ","));
    if (brackets && !jinja_parser_expect(p, JINJA_TOKEN_OPERATOR, ")"))
        return NULL;
    if (n == 1)
        return first;
    struct jinja_node *several = jinja_parser_node(p, JINJA_SEQUENCE, NULL, NULL);
    if (several != NULL)
        several->list = first;
    return several;
}

static struct jinja_node *for_statement(struct jinja_parser *p)
{
    static const char *const names[] = {"endfor", "else"};
    struct jinja_node *node = jinja_parser_node(p, JINJA_FOR, NULL, NULL);
    size_t which = 0;
    if (node == NULL || (node->b = target(p, false)) == NULL ||
        !jinja_parser_expect(p, JINJA_TOKEN_NAME, "in") ||
        (node->a = jinja_parser_iterable(p)) == NULL)
        return NULL;
    if (jinja_parser_take(p, JINJA_TOKEN_NAME, "if") &&
        (node->c = jinja_parser_expression(p)) == NULL)
        return NULL;
    node->op = jinja_parser_take(p, JINJA_TOKEN_NAME, "recursive");
    if (!jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END, NULL))
        return NULL;
    p->loops++;
    node->list = body(p, names, 2, &which);
    p->loops--;
    if (which == 1)
        node->other = simple_body(p, "endfor");
    else
        jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END, NULL);
    return p->failed ? NULL : jinja_parser_finish(p, node);
}

static struct jinja_node *set_statement(struct jinja_parser *p)
{
    struct jinja_node *to = target(p, true);
    struct jinja_node *node = jinja_parser_node(p, JINJA_SET, NULL, to);
    if (to == NULL || node == NULL)
        return NULL;
    if (jinja_parser_take(p, JINJA_TOKEN_OPERATOR, "=")) {
        node->a = jinja_parser_tuple(p);
        jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END, NULL);
    } else {
        node->kind = JINJA_SET_BLOCK;
        if (jinja_parser_take(p, JINJA_TOKEN_OPERATOR, "|"))
            node->a = jinja_parser_filters(p, NULL);
        node->list = simple_body(p, "endset");
    }
    return p->failed ? NULL : jinja_parser_finish(p, node);
}

/* `(` is taken. */
static struct jinja_node *parameters(struct jinja_parser *p)
{
    struct jinja_node *first = NULL, **link = &first;
    bool defaults = false;
    while (!p->failed && !jinja_parser_take(p, JINJA_TOKEN_OPERATOR, ")")) {
        struct jinja_node *node = jinja_parser_node(p, JINJA_ARGUMENT, NULL, NULL);
        if (node == NULL || !jinja_parser_name(p, &node->name))
            return NULL;
        if (jinja_parser_take(p, JINJA_TOKEN_OPERATOR, "=")) {
            node->b = jinja_parser_expression(p);
            defaults = true;
            if (node->b == NULL || jinja_parser_finish(p, node) == NULL)
                return NULL;
        } else if (defaults) {
            return jinja_parser_fail(p, "a parameter without default behind one with", node->name);
        }
        *link = node;
        link = &node->next;
        if (!jinja_parser_take(p, JINJA_TOKEN_OPERATOR, ",") &&
            !jinja_parser_is(p, JINJA_TOKEN_OPERATOR, ")"))
            return jinja_parser_fail(p, "parameters that do not end", jinja_parser_peek(p)->text);
    }
    return first;
}

/* The body of a macro, in which no loop outside can be left. */
static struct jinja_node *macro_body(struct jinja_parser *p, const char *name)
{
    const unsigned loops = p->loops;
    p->loops = 0;
    struct jinja_node *list = simple_body(p, name);
    p->loops = loops;
    return list;
}

static struct jinja_node *macro_statement(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_MACRO_DEFINITION, NULL, NULL);
    if (node == NULL || !jinja_parser_name(p, &node->name) ||
        !jinja_parser_expect(p, JINJA_TOKEN_OPERATOR, "("))
        return NULL;
    node->other = parameters(p);
    node->list = macro_body(p, "endmacro");
    return p->failed ? NULL : jinja_parser_finish(p, node);
}

static struct jinja_node *call_statement(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_CALL_BLOCK, NULL, NULL);
    if (node == NULL)
        return NULL;
    if (jinja_parser_take(p, JINJA_TOKEN_OPERATOR, "("))
        node->other = parameters(p);
    node->a = jinja_parser_primary(p);
    if (node->a != NULL && node->a->kind != JINJA_CALL)
        return jinja_parser_fail(p, "a call block that calls nothing",
                                 (struct jinja_string){"", 0});
    node->list = macro_body(p, "endcall");
    return p->failed ? NULL : jinja_parser_finish(p, node);
}

static struct jinja_node *with_statement(struct jinja_parser *p)
{
    struct jinja_node *node = jinja_parser_node(p, JINJA_WITH, NULL, NULL);
    if (node == NULL)
        return NULL;
    struct jinja_node **link = &node->other;
    while (!p->failed && !jinja_parser_is(p, JINJA_TOKEN_BLOCK_END, NULL)) {
        struct jinja_node *name = jinja_parser_node(p, JINJA_NAME, NULL, NULL);
        if (name == NULL || !jinja_parser_name(p, &name->name) ||
            !jinja_parser_expect(p, JINJA_TOKEN_OPERATOR, "="))
            return NULL;
        struct jinja_node *value = jinja_parser_expression(p);
        if ((*link = jinja_parser_node(p, JINJA_SET, value, name)) == NULL)
            return NULL;
        link = &(*link)->next;
        if (!jinja_parser_take(p, JINJA_TOKEN_OPERATOR, ","))
            break;
    }
    node->list = simple_body(p, "endwith");
    return p->failed ? NULL : jinja_parser_finish(p, node);
}

static struct jinja_node *statement(struct jinja_parser *p, struct jinja_string name)
{
    struct jinja_node *node = NULL;
    if (jinja_string_is(name, "if"))
        return if_statement(p);
    if (jinja_string_is(name, "for"))
        return for_statement(p);
    if (jinja_string_is(name, "set"))
        return set_statement(p);
    if (jinja_string_is(name, "macro"))
        return macro_statement(p);
    if (jinja_string_is(name, "call"))
        return call_statement(p);
    if (jinja_string_is(name, "with"))
        return with_statement(p);
    if (jinja_string_is(name, "filter")) {
        node = jinja_parser_node(p, JINJA_FILTER_BLOCK, jinja_parser_filters(p, NULL), NULL);
        if (node != NULL)
            node->list = simple_body(p, "endfilter");
        return node != NULL && !p->failed ? jinja_parser_finish(p, node) : NULL;
    }
    if (jinja_string_is(name, "generation")) {
        node = jinja_parser_node(p, JINJA_SCOPE, NULL, NULL);
        if (node != NULL)
            node->list = simple_body(p, "endgeneration");
        return node != NULL && !p->failed ? jinja_parser_finish(p, node) : NULL;
    }
    const bool is_break = jinja_string_is(name, "break");
    if (is_break || jinja_string_is(name, "continue")) {
        if (p->loops == 0)
            return jinja_parser_fail(p, "outside of a loop", name);
        node = jinja_parser_node(p, is_break ? JINJA_BREAK : JINJA_CONTINUE, NULL, NULL);
        return jinja_parser_expect(p, JINJA_TOKEN_BLOCK_END, NULL) ? node : NULL;
    }
    return jinja_parser_fail(p, "a statement that we do not have", name);
}

enum status jinja_parser_read(struct jinja_node **list, struct jinja_pool *pool, const char *source,
                              size_t n_bytes, struct error *error)
{
    struct error failure = {.status = STATUS_OK};
    struct jinja_parser p = {.pool = pool, .error = &failure};
    enum status status = jinja_lexer_read(&p.tokens, pool, source, n_bytes, error);
    if (status != STATUS_OK)
        return status;
    struct jinja_node *all = body(&p, NULL, 0, NULL);
    if (p.failed)
        return error_set(error, failure.status, "%s", failure.text);
    *list = all;
    return STATUS_OK;
}
