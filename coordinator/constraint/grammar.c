/* grammar.c - see grammar.h. */
#include "coordinator/constraint/grammar.h"

#include "sys/array.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INSTRUCTIONS = 1 << 18, MAX_SETS = 1 << 10, MAX_NESTED_RULES = 2000 };

/* Makes room for one more item in the array whose pointer's address is `items`; false: failed. */
static bool grow(struct grammar *p, void *items, uint32_t n, size_t *capacity, size_t bytes,
                 uint32_t most)
{
    if (p->status != STATUS_OK)
        return false;
    if (n < most && array_grow(items, capacity, (size_t)n + 1, bytes))
        return true;
    grammar_fail(p, "the schema is too large");
    return false;
}

void grammar_open(struct grammar *p)
{
    *p = (struct grammar){.status = STATUS_OK};
    for (unsigned byte = 0; byte < 256; byte++) {
        struct grammar_set set = {{0}};
        grammar_set_add(&set, (uint8_t)byte, (uint8_t)byte);
        if (grow(p, &p->sets, p->n_sets, &p->set_capacity, sizeof(set), MAX_SETS))
            p->sets[p->n_sets++] = set;
    }
}

void grammar_close(struct grammar *p)
{
    free(p->code);
    free(p->sets);
    free(p->rules);
    free(p->shortest);
}

uint32_t grammar_fail(struct grammar *p, const char *format, ...)
{
    if (p->status != STATUS_OK)
        return 0;
    char text[700];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    p->status = error_set(&p->error, STATUS_INVALID, "%s", text);
    return 0;
}

static uint32_t add(struct grammar *p, struct grammar_instruction instruction)
{
    if (!grow(p, &p->code, p->n, &p->capacity, sizeof(*p->code), MAX_INSTRUCTIONS))
        return 0;
    p->code[p->n] = instruction;
    return p->n++;
}

uint32_t grammar_return(struct grammar *p)
{
    return add(p, (struct grammar_instruction){.op = GRAMMAR_RETURN});
}

uint32_t grammar_byte(struct grammar *p, uint8_t byte, uint32_t next)
{
    return add(p, (struct grammar_instruction){.op = GRAMMAR_SET, .operand = byte, .next = next});
}

bool grammar_set_has(const struct grammar_set *set, uint8_t byte)
{
    return (set->bits[byte / 64] >> (byte % 64)) & 1;
}

void grammar_set_add(struct grammar_set *set, uint8_t first, uint8_t last)
{
    for (unsigned byte = first; byte <= last; byte++)
        set->bits[byte / 64] |= 1ull << (byte % 64);
}

uint32_t grammar_set(struct grammar *p, const struct grammar_set *set, uint32_t next)
{
    uint32_t i = 0;
    while (i < p->n_sets && memcmp(&p->sets[i], set, sizeof(*set)) != 0)
        i++;
    if (i == p->n_sets) {
        if (!grow(p, &p->sets, p->n_sets, &p->set_capacity, sizeof(*set), MAX_SETS))
            return 0;
        p->sets[p->n_sets++] = *set;
    }
    return add(p, (struct grammar_instruction){.op = GRAMMAR_SET, .operand = i, .next = next});
}

uint32_t grammar_range(struct grammar *p, uint8_t first, uint8_t last, uint32_t next)
{
    struct grammar_set set = {{0}};
    grammar_set_add(&set, first, last);
    return grammar_set(p, &set, next);
}

uint32_t grammar_text(struct grammar *p, const char *text, size_t n_bytes, uint32_t next)
{
    while (n_bytes-- > 0)
        next = grammar_byte(p, (uint8_t)text[n_bytes], next);
    return next;
}

uint32_t grammar_split(struct grammar *p, uint32_t one, uint32_t other)
{
    return add(p, (struct grammar_instruction){.op = GRAMMAR_SPLIT, .next = one, .operand = other});
}

uint32_t grammar_call(struct grammar *p, uint32_t rule, uint32_t next)
{
    return add(p, (struct grammar_instruction){.op = GRAMMAR_CALL, .operand = rule, .next = next});
}

uint32_t grammar_repeat(struct grammar *p, uint32_t rule, uint32_t least, uint32_t most,
                        uint32_t next)
{
    if (most == 0)
        return next;
    return add(
        p, (struct grammar_instruction){
               .op = GRAMMAR_REPEAT, .operand = rule, .least = least, .most = most, .next = next});
}

uint32_t grammar_rule(struct grammar *p)
{
    if (!grow(p, &p->rules, p->n_rules, &p->rule_capacity, sizeof(*p->rules), MAX_INSTRUCTIONS))
        return 0;
    p->rules[p->n_rules] = 0;
    return p->n_rules++;
}

void grammar_rule_set(struct grammar *p, uint32_t rule, uint32_t entry)
{
    if (p->status == STATUS_OK)
        p->rules[rule] = entry;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static uint32_t plus(uint64_t a, uint64_t b)
{
    return a >= GRAMMAR_NEVER || b >= GRAMMAR_NEVER || a + b >= GRAMMAR_NEVER ? GRAMMAR_NEVER
                                                                              : (uint32_t)(a + b);
}

static uint32_t shortest_of(const struct grammar *p, const struct grammar_instruction *i)
{
    const uint32_t next = i->op == GRAMMAR_RETURN ? 0 : p->shortest[i->next];
    static const struct grammar_set empty = {{0}};
    uint32_t body;
    switch (i->op) {
    case GRAMMAR_SET:
        return memcmp(&p->sets[i->operand], &empty, sizeof(empty)) == 0 ? GRAMMAR_NEVER
                                                                        : plus(next, 1);
    case GRAMMAR_SPLIT:
        return next < p->shortest[i->operand] ? next : p->shortest[i->operand];
    case GRAMMAR_CALL:
        return plus(p->shortest[p->rules[i->operand]], next);
    case GRAMMAR_REPEAT:
        body = p->shortest[p->rules[i->operand]];
        if (i->least == 0 || body == GRAMMAR_NEVER)
            return i->least == 0 ? next : GRAMMAR_NEVER;
        return plus((uint64_t)body * i->least, next);
    default:
        return 0;
    }
}

/* What follows stands before in the code, so that one pass settles a rule; rules that call others
 * take more passes. */
static void compute_shortest(struct grammar *p)
{
    p->shortest = malloc(p->n * sizeof(*p->shortest));
    if (p->shortest == NULL) {
        grammar_fail(p, "no memory for the schema");
        return;
    }
    for (uint32_t i = 0; i < p->n; i++)
        p->shortest[i] = GRAMMAR_NEVER;
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t i = 0; i < p->n; i++) {
            const uint32_t length = shortest_of(p, &p->code[i]);
            changed = changed || length < p->shortest[i];
            p->shortest[i] = length;
        }
    }
}

static void compute_classes(struct grammar *p)
{
    bool used[MAX_SETS] = {false};
    for (uint32_t i = 0; i < p->n; i++)
        if (p->code[i].op == GRAMMAR_SET)
            used[p->code[i].operand] = true;
    p->n_classes = 1;
    for (uint32_t s = 0; s < p->n_sets && p->n_classes < 256; s++) {
        int split[256]; /* the class of those inside the set that were of this class */
        memset(split, -1, sizeof(split));
        if (!used[s])
            continue;
        uint32_t inside[256] = {0}, all[256] = {0};
        for (unsigned b = 0; b < 256; b++) {
            all[p->byte_class[b]]++;
            inside[p->byte_class[b]] += grammar_set_has(&p->sets[s], (uint8_t)b);
        }
        for (unsigned b = 0; b < 256; b++) {
            const uint8_t old = p->byte_class[b];
            if (!grammar_set_has(&p->sets[s], (uint8_t)b) || inside[old] == 0 ||
                (split[old] < 0 && inside[old] == all[old]))
                continue;
            if (split[old] < 0)
                split[old] = (int)p->n_classes++;
            p->byte_class[b] = (uint8_t)split[old];
        }
    }
}

enum color { UNSEEN, OPEN, DONE };

/* Everything that a rule can reach before its first byte; a rule that is OPEN begins with
 * itself. */
static void check_beginnings(struct grammar *p, uint8_t *colors, uint32_t rule, unsigned depth)
{
    uint32_t list[512], n = 0;
    if (depth > MAX_NESTED_RULES || colors[rule] == OPEN) {
        grammar_fail(p, colors[rule] == OPEN ? "the schema refers to itself with nothing in between"
                                             : "the schema is nested too deeply");
        return;
    }
    if (colors[rule] == DONE)
        return;
    colors[rule] = OPEN;
    list[n++] = p->rules[rule];
    while (n > 0 && p->status == STATUS_OK) {
        const struct grammar_instruction *i = &p->code[list[--n]];
        if (n + 2 > sizeof(list) / sizeof(list[0])) {
            grammar_fail(p, "the schema has too many alternatives in one place");
            break;
        }
        if (i->op == GRAMMAR_SPLIT) {
            list[n++] = i->operand;
            list[n++] = i->next;
        } else if (i->op == GRAMMAR_CALL || i->op == GRAMMAR_REPEAT) {
            check_beginnings(p, colors, i->operand, depth + 1);
            if (p->shortest[p->rules[i->operand]] == 0 ||
                (i->op == GRAMMAR_REPEAT && i->least == 0))
                list[n++] = i->next;
        }
    }
    colors[rule] = DONE;
}

enum status grammar_finish(struct grammar *p)
{
    if (p->status == STATUS_OK)
        compute_shortest(p);
    if (p->status == STATUS_OK && p->shortest[p->rules[0]] == GRAMMAR_NEVER)
        grammar_fail(p, "the schema has no value, or only endless ones");
    for (uint32_t i = 0; p->status == STATUS_OK && i < p->n; i++)
        if (p->code[i].op == GRAMMAR_REPEAT && p->shortest[p->rules[p->code[i].operand]] == 0)
            grammar_fail(p, "a pattern repeats what may be empty");
    uint8_t *colors = p->status == STATUS_OK ? calloc(p->n_rules, 1) : NULL;
    if (p->status == STATUS_OK && colors == NULL)
        grammar_fail(p, "no memory for the schema");
    for (uint32_t rule = 0; p->status == STATUS_OK && rule < p->n_rules; rule++)
        check_beginnings(p, colors, rule, 0);
    free(colors);
    if (p->status == STATUS_OK)
        compute_classes(p);
    return p->status;
}
