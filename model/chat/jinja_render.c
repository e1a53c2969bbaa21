/* jinja_render.c - statements; see jinja_run.h.
 *
 * A for statement's turns, macros, with, filter, set blocks and generation have scopes of their
 * own: what is set inside is not seen outside. if has none. */
#include "model/chat/jinja_print.h"
#include "model/chat/jinja_run.h"

#include <string.h>

static void render_one(struct jinja_run *run, const struct jinja_node *node);

void jinja_render(struct jinja_run *run, const struct jinja_node *list)
{
    if (run->levels >= JINJA_MAX_LEVELS)
        jinja_fail(run, "the template goes too deep");
    run->levels++;
    for (; list != NULL && !run->failed && run->signal == JINJA_GO_ON; list = list->next)
        if (jinja_step(run, 0))
            render_one(run, list);
    run->levels--;
}

/* Statements in a scope of their own below `scope`. */
static void render_below(struct jinja_run *run, struct jinja_scope *scope,
                         const struct jinja_node *list)
{
    struct jinja_scope *outer = run->scope;
    run->scope = scope;
    jinja_render(run, list);
    run->scope = outer;
}

static struct jinja_scope *new_scope(struct jinja_run *run, struct jinja_scope *parent)
{
    struct jinja_scope *scope = jinja_take(run, 1, sizeof(*scope));
    if (scope != NULL)
        scope->parent = parent;
    return scope;
}

/* What statements in a scope of their own print, as a string. */
static struct jinja_value captured(struct jinja_run *run, struct jinja_scope *scope,
                                   const struct jinja_node *list)
{
    struct jinja_output text = {0}, *outer = run->output;
    if (scope == NULL)
        return jinja_none();
    run->output = &text;
    render_below(run, scope, list);
    run->output = outer;
    return jinja_output_value(&text);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void assign_attribute(struct jinja_run *run, const struct jinja_node *target,
                             struct jinja_value value)
{
    const struct jinja_value to = jinja_evaluate(run, target->a);
    if (run->failed)
        return;
    if (to.kind != JINJA_NAMESPACE)
        jinja_fail(run, "cannot assign attribute on non-namespace object");
    else
        jinja_dict_add(run, to.dict, jinja_text(target->name.data, target->name.n_bytes), value);
}

static void assign(struct jinja_run *run, const struct jinja_node *target, struct jinja_value value)
{
    const struct jinja_list *items;
    size_t n = 0;
    if (run->failed)
        return;
    if (target->kind == JINJA_NAME) {
        jinja_define(run, run->scope, target->name, value);
    } else if (target->kind == JINJA_ATTRIBUTE) {
        assign_attribute(run, target, value);
    } else if (jinja_items(run, value, &items)) {
        for (const struct jinja_node *part = target->list; part != NULL; part = part->next, n++)
            if (n < items->n)
                assign(run, part, items->items[n]);
        if (n != items->n)
            jinja_fail(run, "%zu values for %zu names", items->n, n);
    }
}

/* ---- for ------------------------------------------------------------------------------------- */

static void for_items(struct jinja_run *run, const struct jinja_node *node,
                      struct jinja_scope *scope, struct jinja_value items, uint32_t depth);

/* The items for which the condition holds. */
static const struct jinja_list *chosen(struct jinja_run *run, const struct jinja_node *node,
                                       struct jinja_scope *scope, const struct jinja_list *items)
{
    struct jinja_list *list = jinja_take(run, 1, sizeof(*list));
    struct jinja_value *kept = jinja_take(run, items->n, sizeof(*kept));
    struct jinja_scope *inner = new_scope(run, scope), *outer = run->scope;
    size_t n = 0;
    if (list == NULL || kept == NULL || inner == NULL)
        return items;
    run->scope = inner;
    for (size_t i = 0; i < items->n && !run->failed; i++) {
        assign(run, node->b, items->items[i]);
        if (jinja_truth(jinja_evaluate(run, node->c)))
            kept[n++] = items->items[i];
    }
    run->scope = outer;
    *list = (struct jinja_list){kept, n};
    return list;
}

static void for_items(struct jinja_run *run, const struct jinja_node *node,
                      struct jinja_scope *scope, struct jinja_value value, uint32_t depth)
{
    static const struct jinja_string loop_name = {"loop", 4};
    const struct jinja_list *items;
    if (run->failed || !jinja_items(run, value, &items))
        return;
    if (node->c != NULL)
        items = chosen(run, node, scope, items);
    struct jinja_loop *loop = jinja_take(run, 1, sizeof(*loop));
    if (run->failed || loop == NULL)
        return;
    *loop = (struct jinja_loop){
        .items = items, .depth = depth, .statement = node->op ? node : NULL, .scope = scope};
    struct jinja_scope *outer = run->scope;
    bool completed = false; /* some turn reached its end */
    for (; loop->at < items->n && !run->failed && run->signal != JINJA_LEAVE_LOOP; loop->at++) {
        run->signal = JINJA_GO_ON;
        if ((run->scope = new_scope(run, scope)) == NULL)
            break;
        assign(run, node->b, items->items[loop->at]);
        jinja_define(run, run->scope, loop_name,
                     (struct jinja_value){.kind = JINJA_LOOP, .loop = loop});
        jinja_render(run, node->list);
        completed = completed || run->signal == JINJA_GO_ON;
    }
    run->signal = JINJA_GO_ON;
    run->scope = outer;
    /* jinja2 takes a loop in which every turn was left early for one without turns. */
    if (!completed && node->other != NULL && !run->failed) {
        struct jinja_scope *inner = new_scope(run, scope);
        if (inner != NULL)
            render_below(run, inner, node->other);
    }
}

struct jinja_value jinja_call_loop(struct jinja_run *run, const struct jinja_loop *loop,
                                   struct jinja_value items)
{
    if (loop->statement == NULL)
        return jinja_fail(run, "loop() in a for statement that is not recursive");
    if (run->calls >= JINJA_MAX_CALLS)
        return jinja_fail(run, "loops inside each other, %d deep", JINJA_MAX_CALLS);
    struct jinja_output text = {0}, *outer = run->output;
    run->output = &text;
    run->calls++;
    for_items(run, loop->statement, loop->scope, items, loop->depth + 1);
    run->calls--;
    run->output = outer;
    return jinja_output_value(&text);
}

/* ---- macros ---------------------------------------------------------------------------------- */

static bool same(struct jinja_string a, struct jinja_string b)
{
    return a.n_bytes == b.n_bytes && memcmp(a.data, b.data, a.n_bytes) == 0;
}

/* The argument of a parameter: by place, by name, or its default. */
static struct jinja_value argument_for(struct jinja_run *run, const struct jinja_node *parameter,
                                       size_t place, const struct jinja_arguments *arguments)
{
    if (place < arguments->n)
        return arguments->items[place];
    for (size_t i = 0; i < arguments->n_keywords; i++)
        if (same(arguments->keywords[i].name, parameter->name))
            return arguments->keywords[i].value;
    return parameter->b != NULL ? jinja_evaluate(run, parameter->b)
                                : jinja_undefined(parameter->name);
}

static bool is_parameter(const struct jinja_node *parameters, struct jinja_string name)
{
    for (; parameters != NULL; parameters = parameters->next)
        if (same(parameters->name, name))
            return true;
    return false;
}

struct jinja_value jinja_call_macro(struct jinja_run *run, const struct jinja_macro *macro,
                                    const struct jinja_arguments *arguments)
{
    static const struct jinja_string caller = {"caller", 6};
    const struct jinja_node *definition = macro->definition, *p;
    struct jinja_scope *scope = new_scope(run, macro->scope), *outer = run->scope;
    size_t place = 0;
    if (scope == NULL)
        return jinja_none();
    if (run->calls >= JINJA_MAX_CALLS)
        return jinja_fail(run, "macros call each other, %d deep", JINJA_MAX_CALLS);
    run->scope = scope;
    for (p = definition->other; p != NULL && !run->failed; p = p->next, place++)
        jinja_define(run, scope, p->name, argument_for(run, p, place, arguments));
    if (arguments->n > place)
        jinja_fail(run, "macro '%.*s' takes not more than %zu arguments",
                   (int)(definition->name.n_bytes & 127), definition->name.data, place);
    for (size_t i = 0; i < arguments->n_keywords && !run->failed; i++) {
        const struct jinja_string name = arguments->keywords[i].name;
        if (same(name, caller))
            jinja_define(run, scope, name, arguments->keywords[i].value);
        else if (!is_parameter(definition->other, name))
            jinja_fail(run, "macro '%.*s' has no parameter '%.*s'",
                       (int)(definition->name.n_bytes & 127), definition->name.data,
                       (int)(name.n_bytes & 127), name.data);
    }
    run->calls++;
    const struct jinja_value text = captured(run, scope, definition->list);
    run->calls--;
    run->scope = outer;
    return text;
}

static struct jinja_value new_macro(struct jinja_run *run, const struct jinja_node *definition)
{
    struct jinja_macro *macro = jinja_take(run, 1, sizeof(*macro));
    if (macro == NULL)
        return jinja_none();
    *macro = (struct jinja_macro){definition, run->scope};
    return (struct jinja_value){.kind = JINJA_MACRO, .macro = macro};
}

/* {% call(...) f(...) %}: f gets the block as the macro `caller`. */
static void call_block(struct jinja_run *run, const struct jinja_node *node)
{
    const struct jinja_value what = jinja_evaluate(run, node->a->a);
    struct jinja_arguments arguments;
    if (run->failed || !jinja_read_arguments(run, node->a->list, &arguments))
        return;
    struct jinja_keyword *keywords = jinja_take(run, arguments.n_keywords + 1, sizeof(*keywords));
    if (keywords == NULL)
        return;
    if (arguments.n_keywords > 0)
        memcpy(keywords, arguments.keywords, arguments.n_keywords * sizeof(*keywords));
    arguments.keywords = keywords;
    keywords[arguments.n_keywords++] = (struct jinja_keyword){{"caller", 6}, new_macro(run, node)};
    jinja_print(run, run->output, jinja_call(run, what, &arguments));
}

/* ---- all ------------------------------------------------------------------------------------- */

static void render_if(struct jinja_run *run, const struct jinja_node *node)
{
    while (node != NULL && !run->failed) {
        if (jinja_truth(jinja_evaluate(run, node->a))) {
            jinja_render(run, node->list);
            return;
        }
        if (node->other == NULL || node->other->kind != JINJA_IF || node->other->op == 0) {
            jinja_render(run, node->other);
            return;
        }
        node = node->other; /* elif */
    }
}

static void render_with(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_scope *scope = new_scope(run, run->scope);
    for (const struct jinja_node *set = node->other; set != NULL && !run->failed; set = set->next)
        jinja_define(run, scope, set->b->name, jinja_evaluate(run, set->a));
    if (!run->failed)
        render_below(run, scope, node->list);
}

static void render_one(struct jinja_run *run, const struct jinja_node *node)
{
    struct jinja_value value;
    run->line = node->line;
    switch (node->kind) {
    case JINJA_DATA:
        jinja_write(run, run->output, node->value.string.data, node->value.string.n_bytes);
        break;
    case JINJA_OUTPUT:
        value = jinja_evaluate(run, node->a);
        if (!run->failed)
            jinja_print(run, run->output, value);
        break;
    case JINJA_IF:
        render_if(run, node);
        break;
    case JINJA_FOR:
        for_items(run, node, run->scope, jinja_evaluate(run, node->a), 1);
        break;
    case JINJA_SET:
        assign(run, node->b, jinja_evaluate(run, node->a));
        break;
    case JINJA_SET_BLOCK:
        value = captured(run, new_scope(run, run->scope), node->list);
        assign(run, node->b, jinja_apply_filters(run, node->a, value));
        break;
    case JINJA_MACRO_DEFINITION:
        jinja_define(run, run->scope, node->name, new_macro(run, node));
        break;
    case JINJA_CALL_BLOCK:
        call_block(run, node);
        break;
    case JINJA_FILTER_BLOCK:
        value = captured(run, new_scope(run, run->scope), node->list);
        jinja_print(run, run->output, jinja_apply_filters(run, node->a, value));
        break;
    case JINJA_WITH:
        render_with(run, node);
        break;
    case JINJA_SCOPE:
        value = captured(run, new_scope(run, run->scope), node->list);
        jinja_print(run, run->output, value);
        break;
    case JINJA_BREAK:
        run->signal = JINJA_LEAVE_LOOP;
        break;
    case JINJA_CONTINUE:
        run->signal = JINJA_LEAVE_TURN;
        break;
    default:
        jinja_fail(run, "no statement");
    }
}
