/* pattern.c - see pattern.h: a tree is read first, then laid out from its end to its beginning. */
#include "coordinator/constraint/pattern.h"

#include "coordinator/constraint/characters.h"
#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NESTING = 50, MAX_NODES = 4096, MAX_COUNT = 100000 };

enum kind { EMPTY, ONE, SEQUENCE, ALTERNATIVES, REPEATED };

struct node {
    enum kind kind;
    struct characters *set;       /* ONE */
    struct node *first, *last;    /* children */
    struct node *next, *previous; /* of the parent's children */
    uint32_t least, most;         /* REPEATED */
    bool at_begin, at_end;        /* anchors, of an alternative of the whole */
    uint64_t shortest, longest;   /* characters; GRAMMAR_UNBOUNDED: no end */
};

struct parser {
    struct grammar *grammar;
    const char *pattern, *at;
    struct node *nodes[MAX_NODES];
    uint32_t n_nodes;
    unsigned depth;
};

static bool good(const struct parser *p)
{
    return p->grammar->status == STATUS_OK;
}

static struct node *fail(struct parser *p, const char *what)
{
    grammar_fail(p->grammar, "pattern \"%.100s\": %s", p->pattern, what);
    return NULL;
}

static struct node *new_node(struct parser *p, enum kind kind)
{
    struct node *node = p->n_nodes < MAX_NODES ? calloc(1, sizeof(*node)) : NULL;
    if (node == NULL)
        return fail(p, "it is too long");
    node->kind = kind;
    p->nodes[p->n_nodes++] = node;
    if (kind == ONE && (node->set = calloc(1, sizeof(*node->set))) == NULL)
        return fail(p, "no memory");
    return node;
}

/* ---- characters ------------------------------------------------------------------------------ */

static uint32_t take(struct parser *p)
{
    const size_t n = utf8_char_bytes(p->at, strlen(p->at));
    if (n == 0) {
        fail(p, "it ends too early");
        return 0;
    }
    const uint32_t c = utf8_decode(p->at, n);
    p->at += n;
    return c;
}

static void add(struct parser *p, struct characters *set, uint32_t first, uint32_t last)
{
    if (!characters_add(set, first, last))
        fail(p, "a class with too many parts");
}

/* The classes that letters stand for; false: it is none. */
static bool add_class(struct parser *p, struct characters *set, char letter)
{
    struct characters class = {.n = 0};
    switch (letter | 0x20) {
    case 'd':
        add(p, &class, '0', '9');
        break;
    case 'w':
        add(p, &class, '0', '9');
        add(p, &class, 'A', 'Z');
        add(p, &class, '_', '_');
        add(p, &class, 'a', 'z');
        break;
    case 's':
        add(p, &class, '\t', '\r');
        add(p, &class, ' ', ' ');
        break;
    default:
        return false;
    }
    characters_normalise(&class);
    if (letter < 'a')
        characters_invert(&class, 0x7f);
    for (uint32_t i = 0; i < class.n; i++)
        add(p, set, class.ranges[i].first, class.ranges[i].last);
    return true;
}

static uint32_t hex(struct parser *p, unsigned n)
{
    uint32_t value = 0;
    for (; n > 0 && good(p); n--) {
        const char *digits = "0123456789abcdef", *found;
        const uint32_t c = take(p);
        found = c < 0x80 && c != 0 ? strchr(digits, (int)(c | 0x20)) : NULL;
        if (found == NULL)
            fail(p, "an escape with no hexadecimal digits");
        else
            value = 16 * value + (uint32_t)(found - digits);
    }
    return value;
}

/* Behind the backslash: one character. */
static uint32_t escape(struct parser *p)
{
    static const char letters[] = "n\nt\tr\rf\fv\v";
    const uint32_t c = take(p);
    for (size_t i = 0; i + 1 < sizeof(letters); i += 2)
        if (c == (uint32_t)letters[i])
            return (uint32_t)letters[i + 1];
    if (c == 'u' || c == 'x')
        return hex(p, c == 'u' ? 4 : 2);
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        fail(p, "an escape that is not supported");
    return c;
}

/* `[` is taken. */
static struct node *bracket(struct parser *p)
{
    struct node *node = new_node(p, ONE);
    const bool others = *p->at == '^';
    bool ascii = false; /* it has \w or so: beyond ASCII dialects differ */
    p->at += others;
    for (bool first = true; node != NULL && good(p) && (first || *p->at != ']'); first = false) {
        if (*p->at == '\0')
            return fail(p, "a class that does not end");
        if (*p->at == '\\' && add_class(p, node->set, p->at[1])) {
            p->at += 2;
            ascii = true;
            continue;
        }
        uint32_t from = take(p);
        from = from == '\\' ? escape(p) : from;
        uint32_t to = from;
        if (*p->at == '-' && p->at[1] != ']' && p->at[1] != '\0') {
            p->at++;
            to = take(p);
            to = to == '\\' ? escape(p) : to;
        }
        if (to < from)
            return fail(p, "a range in the wrong order");
        add(p, node->set, from, to);
    }
    if (!good(p) || node == NULL)
        return NULL;
    p->at++;
    characters_normalise(node->set);
    if (others)
        characters_invert(node->set, ascii ? 0x7f : 0x10ffff);
    return node;
}

/* ---- structure ------------------------------------------------------------------------------- */

static struct node *alternatives(struct parser *p);

static struct node *atom(struct parser *p)
{
    struct node *node;
    const char c = *p->at;
    if (c == '(') {
        p->at++;
        if (p->at[0] == '?' && p->at[1] == ':')
            p->at += 2;
        else if (p->at[0] == '?')
            return fail(p, "a group that is not supported: (?");
        node = alternatives(p);
        if (node == NULL || *p->at != ')')
            return fail(p, "a group that does not end");
        if (node->at_begin || node->at_end)
            return fail(p, "^ or $ inside a group is not supported");
        p->at++;
        return node;
    }
    if (c == '[') {
        p->at++;
        return bracket(p);
    }
    if (c == '*' || c == '+' || c == '?' || c == '{')
        return fail(p, "a repetition of nothing");
    if ((node = new_node(p, ONE)) == NULL)
        return NULL;
    if (c == '\\' && add_class(p, node->set, p->at[1])) {
        p->at += 2;
    } else if (c == '.') {
        p->at++;
        add(p, node->set, '\n', '\n');
        add(p, node->set, '\r', '\r');
        add(p, node->set, 0x2028, 0x2029);
        characters_normalise(node->set);
        characters_invert(node->set, 0x10ffff);
    } else {
        uint32_t one = take(p);
        one = one == '\\' ? escape(p) : one;
        add(p, node->set, one, one);
    }
    characters_normalise(node->set);
    return node;
}

static bool number(struct parser *p, uint32_t *value)
{
    const char *begin = p->at;
    for (*value = 0; *p->at >= '0' && *p->at <= '9' && *value <= MAX_COUNT; p->at++)
        *value = 10 * *value + (uint32_t)(*p->at - '0');
    return p->at > begin && *value <= MAX_COUNT;
}

/* ?, *, +, {n,m} behind an atom; false: none. */
static bool repetition(struct parser *p, uint32_t *least, uint32_t *most)
{
    const char c = *p->at;
    *least = c == '+';
    *most = c == '?' ? 1 : GRAMMAR_UNBOUNDED;
    if (c == '{') {
        p->at++;
        if (!number(p, least))
            fail(p, "a count that is not understood");
        *most = *least;
        if (*p->at == ',') {
            p->at++;
            if (*p->at == '}')
                *most = GRAMMAR_UNBOUNDED;
            else if (!number(p, most))
                fail(p, "a count that is not understood");
        }
        if (*p->at != '}' || *most < *least)
            fail(p, "a count that is not understood");
    } else if (c != '?' && c != '*' && c != '+') {
        return false;
    }
    p->at += good(p);
    p->at += good(p) && *p->at == '?'; /* lazy: the same strings */
    return good(p);
}

static uint64_t times(uint64_t length, uint64_t n)
{
    if (length == 0 || n == 0)
        return 0;
    return length >= GRAMMAR_UNBOUNDED || n >= GRAMMAR_UNBOUNDED || length * n >= GRAMMAR_UNBOUNDED
               ? GRAMMAR_UNBOUNDED
               : length * n;
}

static struct node *sequence(struct parser *p, bool top)
{
    struct node *list = new_node(p, SEQUENCE), **link = list != NULL ? &list->first : NULL;
    if (list != NULL && top && *p->at == '^') {
        list->at_begin = true;
        p->at++;
    }
    while (list != NULL && good(p) && *p->at != '\0' && *p->at != '|' && *p->at != ')') {
        if (*p->at == '$' && top && (p->at[1] == '\0' || p->at[1] == '|')) {
            list->at_end = true;
            p->at++;
            break;
        }
        if (*p->at == '$' || *p->at == '^')
            return fail(p, "^ or $ in the middle is not supported");
        struct node *item = atom(p);
        uint32_t least, most;
        if (item != NULL && item->kind == ONE)
            item->shortest = item->longest = 1;
        if (item != NULL && repetition(p, &least, &most)) {
            struct node *repeated = new_node(p, REPEATED);
            if (repeated == NULL)
                return NULL;
            repeated->first = item;
            repeated->least = least;
            repeated->most = most;
            repeated->shortest = times(item->shortest, least);
            repeated->longest = times(item->longest, most);
            item = repeated;
        }
        if (item == NULL)
            return NULL;
        list->shortest += item->shortest;
        list->longest += item->longest;
        item->previous = list->last;
        list->last = item;
        *link = item;
        link = &item->next;
    }
    return list;
}

static struct node *alternatives(struct parser *p)
{
    const bool top = p->depth == 0;
    if (++p->depth > MAX_NESTING)
        return fail(p, "groups nested too deeply");
    struct node *first = sequence(p, top), *list = first;
    if (first != NULL && *p->at == '|') {
        list = new_node(p, ALTERNATIVES);
        if (list == NULL)
            return NULL;
        list->first = first;
        list->shortest = first->shortest;
        list->longest = first->longest;
        struct node **link = &first->next;
        while (good(p) && *p->at == '|') {
            p->at++;
            struct node *more = sequence(p, top);
            if (more == NULL)
                return NULL;
            if (more->shortest < list->shortest)
                list->shortest = more->shortest;
            if (more->longest > list->longest)
                list->longest = more->longest;
            *link = more;
            link = &more->next;
        }
    }
    p->depth--;
    return good(p) ? list : NULL;
}

/* ---- laying out ------------------------------------------------------------------------------ */

static uint32_t lay_out(struct parser *p, const struct node *node, uint32_t next);

static uint32_t any_text(struct grammar *grammar, uint32_t next)
{
    const uint32_t rule = grammar_rule(grammar);
    grammar_rule_set(grammar, rule, characters_any(grammar, grammar_return(grammar)));
    return grammar_repeat(grammar, rule, 0, GRAMMAR_UNBOUNDED, next);
}

static uint32_t lay_out(struct parser *p, const struct node *node, uint32_t next)
{
    uint32_t entry, rule;
    if (!good(p))
        return 0;
    switch (node->kind) {
    case ONE:
        return characters_one(p->grammar, node->set, next);
    case SEQUENCE:
        for (const struct node *item = node->last; item != NULL; item = item->previous)
            next = lay_out(p, item, next);
        return next;
    case ALTERNATIVES:
        entry = lay_out(p, node->first, next);
        for (const struct node *other = node->first->next; other != NULL; other = other->next)
            entry = grammar_split(p->grammar, lay_out(p, other, next), entry);
        return entry;
    case REPEATED:
        if (node->least == 0 && node->most == 1)
            return grammar_split(p->grammar, lay_out(p, node->first, next), next);
        rule = grammar_rule(p->grammar);
        grammar_rule_set(p->grammar, rule, lay_out(p, node->first, grammar_return(p->grammar)));
        return grammar_repeat(p->grammar, rule, node->least, node->most, next);
    default:
        return next;
    }
}

/* An alternative of the whole: where it is not anchored, anything may stand around it. */
static uint32_t lay_out_whole(struct parser *p, const struct node *node, uint32_t next)
{
    if (!node->at_end)
        next = any_text(p->grammar, next);
    next = lay_out(p, node, next);
    return node->at_begin ? next : any_text(p->grammar, next);
}

/* Are the bounds kept by the pattern, or can it be made to keep them? */
static void bound(struct parser *p, struct node *node, uint32_t least, uint32_t most)
{
    struct node *only = node->first;
    const bool anchored = node->at_begin && node->at_end;
    if (anchored && node->shortest >= least && (most == GRAMMAR_UNBOUNDED || node->longest <= most))
        return;
    if (least == 0 && most == GRAMMAR_UNBOUNDED)
        return;
    if (!anchored || only == NULL || only->next != NULL || only->kind != REPEATED ||
        only->first->kind != ONE) {
        fail(p, "together with minLength or maxLength it is not supported");
        return;
    }
    only->least = only->least > least ? only->least : least;
    only->most = only->most < most ? only->most : most;
    if (only->most < only->least)
        fail(p, "no text matches it and has that length");
}

uint32_t pattern_compile(struct grammar *grammar, const char *pattern, uint32_t least,
                         uint32_t most, uint32_t next)
{
    struct parser *p = calloc(1, sizeof(*p));
    uint32_t entry = next;
    if (p == NULL)
        return grammar_fail(grammar, "no memory for a pattern");
    p->grammar = grammar;
    p->pattern = p->at = pattern;
    struct node *whole = alternatives(p);
    if (whole != NULL && *p->at != '\0')
        fail(p, "a bracket that nothing opened");
    struct node *one = whole != NULL && whole->kind == ALTERNATIVES ? whole->first : whole;
    for (bool first = true; one != NULL && good(p); one = one->next, first = false) {
        bound(p, one, least, most);
        const uint32_t alternative = lay_out_whole(p, one, next);
        entry = first ? alternative : grammar_split(grammar, alternative, entry);
    }
    for (uint32_t i = 0; i < p->n_nodes; i++) {
        free(p->nodes[i]->set);
        free(p->nodes[i]);
    }
    free(p);
    return entry;
}
