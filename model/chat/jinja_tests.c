/* jinja_tests.c - what stands behind `is`; see jinja_builtin.h. */
#include "model/chat/jinja_builtin.h"
#include "model/chat/jinja_text.h"

#include <string.h>

#define TEST(name, holds)                                                                          \
    static struct jinja_value name(                                                                \
        struct jinja_run *run __attribute__((unused)), struct jinja_value v,                       \
        const struct jinja_value *const *at __attribute__((unused)),                               \
        const struct jinja_arguments *arguments __attribute__((unused)))                           \
    {                                                                                              \
        return jinja_boolean(holds);                                                               \
    }

/* Also undefined values have __len__ and __getitem__, which is what jinja2 asks for. */
static bool is_sequence(struct jinja_value v)
{
    return v.kind == JINJA_STRING || (v.kind == JINJA_LIST && !v.lazy) || v.kind == JINJA_DICT ||
           v.kind == JINJA_UNDEFINED;
}

static bool is_iterable(struct jinja_value v)
{
    return is_sequence(v) || v.kind == JINJA_LIST || v.kind == JINJA_LOOP;
}

static bool is_callable(struct jinja_value v)
{
    return v.kind == JINJA_MACRO || v.kind == JINJA_FUNCTION || v.kind == JINJA_METHOD ||
           v.kind == JINJA_UNDEFINED || v.kind == JINJA_LOOP;
}

static bool is_same(struct jinja_value a, struct jinja_value b)
{
    return a.kind == b.kind && jinja_equal(a, b);
}

static bool ordered(struct jinja_run *run, struct jinja_value a, struct jinja_value b, int least,
                    int most)
{
    int order = 0;
    if (!jinja_compare(a, b, &order))
        jinja_fail(run, "'%s' and '%s' have no order", jinja_type_name(a), jinja_type_name(b));
    return order >= least && order <= most;
}

/* v mod n, of integers. */
static int64_t remainder_of(struct jinja_run *run, struct jinja_value v, struct jinja_value n)
{
    const bool fine = (v.kind == JINJA_INTEGER || v.kind == JINJA_BOOLEAN) &&
                      n.kind == JINJA_INTEGER && n.integer != 0;
    if (!fine)
        jinja_fail(run, "a remainder of '%s' by '%s' is not supported", jinja_type_name(v),
                   jinja_type_name(n));
    return !fine || n.integer == -1 ? 0
                                    : (v.kind == JINJA_INTEGER ? v.integer : v.boolean) % n.integer;
}

static bool is_in_case(struct jinja_run *run, struct jinja_value v, enum jinja_case how)
{
    if (v.kind != JINJA_STRING)
        return false;
    const struct jinja_string text = jinja_text_case(run->pool, v.string, how);
    if (text.data == NULL)
        jinja_fail(run, "no memory for a text");
    /* Something in it must have a case at all. */
    const struct jinja_string other =
        jinja_text_case(run->pool, v.string, how == JINJA_UPPER ? JINJA_LOWER : JINJA_UPPER);
    return text.data != NULL && other.data != NULL &&
           jinja_equal(v, jinja_text(text.data, text.n_bytes)) &&
           !jinja_equal(v, jinja_text(other.data, other.n_bytes));
}

TEST(test_boolean, v.kind == JINJA_BOOLEAN)
TEST(test_callable, is_callable(v))
TEST(test_defined, v.kind != JINJA_UNDEFINED)
TEST(test_divisibleby, remainder_of(run, v, *at[0]) == 0)
TEST(test_eq, jinja_equal(v, *at[0]))
TEST(test_even, remainder_of(run, v, jinja_integer(2)) == 0)
TEST(test_false, v.kind == JINJA_BOOLEAN && !v.boolean)
TEST(test_filter, v.kind == JINJA_STRING && jinja_builtin_filter(v.string) != NULL)
TEST(test_float, v.kind == JINJA_REAL)
TEST(test_ge, ordered(run, v, *at[0], 0, 1))
TEST(test_gt, ordered(run, v, *at[0], 1, 1))
TEST(test_in, jinja_contains(run, *at[0], v))
TEST(test_integer, v.kind == JINJA_INTEGER)
TEST(test_iterable, is_iterable(v))
TEST(test_le, ordered(run, v, *at[0], -1, 0))
TEST(test_lower, is_in_case(run, v, JINJA_LOWER))
TEST(test_lt, ordered(run, v, *at[0], -1, -1))
TEST(test_mapping, v.kind == JINJA_DICT)
TEST(test_ne, !jinja_equal(v, *at[0]))
TEST(test_none, v.kind == JINJA_NONE)
TEST(test_number, jinja_is_number(v))
TEST(test_odd, remainder_of(run, v, jinja_integer(2)) != 0)
TEST(test_sameas, is_same(v, *at[0]))
TEST(test_sequence, is_sequence(v))
TEST(test_string, v.kind == JINJA_STRING)
TEST(test_test, v.kind == JINJA_STRING && jinja_builtin_test(v.string) != NULL)
TEST(test_true, v.kind == JINJA_BOOLEAN && v.boolean)
TEST(test_undefined, v.kind == JINJA_UNDEFINED)
TEST(test_upper, is_in_case(run, v, JINJA_UPPER))

const struct jinja_function *jinja_builtin_test(struct jinja_string name)
{
    static const struct jinja_function table[] = {
        {"boolean", "", 0, test_boolean},
        {"callable", "", 0, test_callable},
        {"defined", "", 0, test_defined},
        {"divisibleby", "num", 1, test_divisibleby},
        {"eq", "other", 1, test_eq},
        {"==", "other", 1, test_eq},
        {"equalto", "other", 1, test_eq},
        {"even", "", 0, test_even},
        {"false", "", 0, test_false},
        {"filter", "", 0, test_filter},
        {"float", "", 0, test_float},
        {"ge", "other", 1, test_ge},
        {">=", "other", 1, test_ge},
        {"gt", "other", 1, test_gt},
        {">", "other", 1, test_gt},
        {"greaterthan", "other", 1, test_gt},
        {"in", "seq", 1, test_in},
        {"integer", "", 0, test_integer},
        {"iterable", "", 0, test_iterable},
        {"le", "other", 1, test_le},
        {"<=", "other", 1, test_le},
        {"lower", "", 0, test_lower},
        {"lt", "other", 1, test_lt},
        {"<", "other", 1, test_lt},
        {"lessthan", "other", 1, test_lt},
        {"mapping", "", 0, test_mapping},
        {"ne", "other", 1, test_ne},
        {"!=", "other", 1, test_ne},
        {"none", "", 0, test_none},
        {"number", "", 0, test_number},
        {"odd", "", 0, test_odd},
        {"sameas", "other", 1, test_sameas},
        {"sequence", "", 0, test_sequence},
        {"string", "", 0, test_string},
        {"test", "", 0, test_test},
        {"true", "", 0, test_true},
        {"undefined", "", 0, test_undefined},
        {"upper", "", 0, test_upper},
        {.name = NULL},
    };
    return jinja_builtin_find(table, name);
}
