/* schema_types.c - values of each type as grammars; see schema_compiler.h. */
#include "coordinator/constraint/characters.h"
#include "coordinator/constraint/numbers.h"
#include "coordinator/constraint/pattern.h"
#include "coordinator/constraint/schema_compiler.h"
#include "coordinator/constraint/schema_merge.h"
#include "model/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_INDENT = 32, MOST_KEY = 64, MOST_NAME = 256 };

static bool good(const struct schema_compiler *c)
{
    return c->grammar->status == STATUS_OK;
}

/* ---- space ----------------------------------------------------------------------------------- */

/* Nothing, a space, or a newline and an indent. */
static uint32_t space(struct schema_compiler *c, uint32_t next)
{
    struct grammar *p = c->grammar;
    if (c->space == 0) {
        const uint32_t one = grammar_rule(p);
        grammar_rule_set(p, one, grammar_byte(p, ' ', grammar_return(p)));
        c->space = grammar_rule(p) + 1;
        const uint32_t end = grammar_return(p);
        const uint32_t line = grammar_byte(p, '\n', grammar_repeat(p, one, 0, MOST_INDENT, end));
        grammar_rule_set(p, c->space - 1,
                         grammar_split(p, end, grammar_split(p, grammar_byte(p, ' ', end), line)));
    }
    return grammar_call(p, c->space - 1, next);
}

/* ---- strings --------------------------------------------------------------------------------- */

/* A count of a schema; false: it is none. */
static bool count(struct schema_compiler *c, const json_t *schema, const char *key, uint32_t *value)
{
    const json_t *number = json_object_get(schema, key);
    const double n = json_number_value(number);
    if (number == NULL)
        return true;
    if (!json_is_number(number) || n < 0 || n > 1e9 || n != floor(n)) {
        char what[100];
        snprintf(what, sizeof(what), "'%s' must be an integer from 0 to 10^9", key);
        schema_refuse(c, schema, what);
        return false;
    }
    *value = (uint32_t)n;
    return true;
}

/* Formats as patterns; each gives strings that keep the format, not all that do. */
static const char *format_pattern(const char *format)
{
#define YEAR "[1-9][0-9]{3}"
#define DATE                                                                                       \
    YEAR "-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|"          \
         "02-(0[1-9]|1[0-9]|2[0-8]))"
#define TIME  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?"
#define ZONE  "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define BYTE  "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define LABEL "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?"
#define HOST  LABEL "(\\." LABEL "){0,3}"
    static const struct {
        const char *format, *pattern;
    } formats[] = {
        {"date-time", "^" DATE "T" TIME ZONE "$"},
        {"date", "^" DATE "$"},
        {"time", "^" TIME ZONE "$"},
        {"duration", "^P([1-9][0-9]{0,3}D(T[1-9][0-9]{0,3}[HMS])?|T[1-9][0-9]{0,3}[HMS]|"
                     "[1-9][0-9]{0,3}[YMW])$"},
        {"email", "^[a-z0-9]{1,20}([._+-][a-z0-9]{1,20}){0,3}@" LABEL "(\\." LABEL "){1,3}$"},
        {"hostname", "^" HOST "$"},
        {"ipv4", "^(" BYTE "\\.){3}" BYTE "$"},
        {"ipv6", "^([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}$"},
        {"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
        {"uri", "^https?://" HOST "(:[1-9][0-9]{1,3})?(/[A-Za-z0-9._~-]{1,40}){0,8}/?$"},
    };
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (strcmp(format, formats[i].format) == 0)
            return formats[i].pattern;
    return NULL;
}

static uint32_t string_value(struct schema_compiler *c, const json_t *schema, uint32_t next)
{
    struct grammar *p = c->grammar;
    uint32_t least = 0, most = GRAMMAR_UNBOUNDED;
    const json_t *pattern = json_object_get(schema, "pattern");
    const json_t *format = json_object_get(schema, "format");
    const uint32_t end = grammar_byte(p, '"', next);
    if (!count(c, schema, "minLength", &least) || !count(c, schema, "maxLength", &most))
        return 0;
    if (least > most)
        return schema_refuse(c, schema, "minLength above maxLength");
    if (pattern != NULL && format != NULL)
        return schema_refuse(c, schema, "pattern together with format is not supported");
    if (pattern != NULL || format != NULL) {
        const char *text = json_string_value(pattern != NULL ? pattern : format);
        if (text != NULL && format != NULL && (text = format_pattern(text)) == NULL) {
            char what[200];
            snprintf(what, sizeof(what), "the format '%.100s' is not supported",
                     json_string_value(format));
            return schema_refuse(c, schema, what);
        }
        if (text == NULL)
            return schema_refuse(c, schema, "pattern and format must be strings");
        return grammar_byte(p, '"', pattern_compile(p, text, least, most, end));
    }
    if (c->character == 0) {
        c->character = grammar_rule(p) + 1;
        grammar_rule_set(p, c->character - 1, characters_any(p, grammar_return(p)));
    }
    return grammar_byte(p, '"', grammar_repeat(p, c->character - 1, least, most, end));
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* Also draft 4's exclusiveMinimum: true. False: no number. */
static bool read_bound(struct schema_compiler *c, const json_t *schema, const char *key,
                       const char *exclusive_key, double sign, double *bound, bool *exclusive)
{
    const json_t *plain = json_object_get(schema, key);
    const json_t *other = json_object_get(schema, exclusive_key);
    *bound = -INFINITY * sign;
    if ((plain != NULL && !json_is_number(plain)) ||
        (other != NULL && !json_is_number(other) && !json_is_boolean(other))) {
        schema_refuse(c, schema, "bounds must be numbers");
        return false;
    }
    if (plain != NULL)
        *bound = json_number_value(plain);
    *exclusive = plain != NULL && json_is_true(other);
    if (json_is_number(other) && sign * json_number_value(other) >= sign * *bound) {
        *bound = json_number_value(other);
        *exclusive = true;
    }
    return true;
}

static uint32_t number_value(struct schema_compiler *c, const json_t *schema, bool integer,
                             uint32_t next)
{
    struct numbers_bounds b;
    if (!read_bound(c, schema, "minimum", "exclusiveMinimum", 1, &b.least, &b.above_least) ||
        !read_bound(c, schema, "maximum", "exclusiveMaximum", -1, &b.most, &b.below_most))
        return 0;
    integer = integer || json_object_get(schema, "multipleOf") != NULL; /* it is 1 */
    return integer ? numbers_integer(c->grammar, &b, next) : numbers_real(c->grammar, &b, next);
}

/* ---- arrays ---------------------------------------------------------------------------------- */

static uint32_t array_value(struct schema_compiler *c, const json_t *schema, uint32_t next)
{
    struct grammar *p = c->grammar;
    uint32_t least = 0, most = GRAMMAR_UNBOUNDED;
    const json_t *items = json_object_get(schema, "items");
    const json_t *first = json_object_get(schema, "prefixItems");
    if (json_is_array(items)) { /* drafts before 2020-12 */
        first = items;
        items = json_object_get(schema, "additionalItems");
    }
    if (first != NULL && !json_is_array(first))
        return schema_refuse(c, schema, "prefixItems must be a list of schemas");
    if (!count(c, schema, "minItems", &least) || !count(c, schema, "maxItems", &most))
        return 0;
    const uint32_t n_first = (uint32_t)json_array_size(first);
    if (json_is_false(items) && most > n_first)
        most = n_first;
    if (least > most)
        return schema_refuse(c, schema, "minItems above the items that there may be");
    const uint32_t end = grammar_byte(p, ']', next);
    const uint32_t n = n_first < most ? n_first : most;
    uint32_t after = space(c, end), rest = 0;
    if (most > n) {
        /* "," value, again and again */
        rest = items == NULL || json_is_true(items) ? schema_any(c) : schema_rule(c, items);
        const uint32_t more = grammar_rule(p);
        grammar_rule_set(
            p, more,
            grammar_byte(p, ',', space(c, grammar_call(p, rest, space(c, grammar_return(p))))));
        const uint32_t seen = n > 0 ? n : 1;
        const uint32_t again = grammar_repeat(p, more, least > seen ? least - seen : 0,
                                              most == GRAMMAR_UNBOUNDED ? most : most - seen, end);
        after = space(c, again);
    }
    /* Backwards over the first ones: `after` is what comes behind item i. */
    for (uint32_t i = n; i-- > 0 && good(c);) {
        const uint32_t value = grammar_call(p, schema_rule(c, json_array_get(first, i)), after);
        if (i == 0) {
            after = value;
            break;
        }
        const uint32_t comma = grammar_byte(p, ',', space(c, value));
        after = space(c, i >= least ? grammar_split(p, end, comma) : comma);
    }
    uint32_t inside;
    if (n > 0)
        inside = least == 0 ? grammar_split(p, end, after) : after;
    else if (most > 0)
        inside = grammar_call(p, rest, after);
    else
        inside = end;
    if (n == 0 && most > 0 && least == 0)
        inside = grammar_split(p, end, inside);
    return grammar_byte(p, '[', space(c, inside));
}

/* ---- objects --------------------------------------------------------------------------------- */

/* "name": and the space behind it. */
static uint32_t key(struct schema_compiler *c, const char *name, uint32_t next)
{
    json_t *string = json_string(name);
    char *text = string != NULL ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    json_decref(string);
    if (text == NULL)
        return grammar_fail(c->grammar, "no memory for the schema");
    next = grammar_byte(c->grammar, ':', space(c, next));
    next = grammar_text(c->grammar, text, strlen(text), next);
    free(text);
    return next;
}

/* The names of properties that begin with the first `n` bytes of names[0] (sorted): what may stand
 * behind those, so that the key is none of them. Keys are plain characters, without escapes. */
static uint32_t other_key(struct grammar *p, const char *const *names, size_t n_names, size_t n,
                          uint32_t rest, uint32_t end)
{
    struct characters others = {.n = 0};
    uint32_t entry = GRAMMAR_NEVER;
    bool is_name = false; /* the key so far is one of them */
    characters_add(&others, 0, 0x1f);
    characters_add(&others, '"', '"');
    characters_add(&others, '\\', '\\');
    for (size_t i = 0; i < n_names && p->status == STATUS_OK;) {
        const char *at = names[i] + n;
        const size_t length = *at != '\0' ? utf8_char_bytes(at, strlen(at)) : 0;
        if (length == 0) {
            is_name = true;
            i++;
            continue;
        }
        size_t j = i;
        while (j < n_names && strncmp(names[j] + n, at, length) == 0)
            j++;
        const uint32_t c = utf8_decode(at, length);
        if (!characters_add(&others, c, c))
            return grammar_fail(p, "additionalProperties beside so many properties");
        if (c >= 0x20 && c != '"' && c != '\\') {
            const uint32_t deeper =
                grammar_text(p, at, length, other_key(p, names + i, j - i, n + length, rest, end));
            entry = entry == GRAMMAR_NEVER ? deeper : grammar_split(p, deeper, entry);
        }
        i = j;
    }
    characters_normalise(&others);
    characters_invert(&others, 0x10ffff);
    const uint32_t different = characters_one(p, &others, rest);
    entry = entry == GRAMMAR_NEVER ? different : grammar_split(p, different, entry);
    return n > 0 && !is_name ? grammar_split(p, end, entry) : entry;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The rule of one more property: a name that is not listed, and its value. */
static uint32_t additional_rule(struct schema_compiler *c, const json_t *listed,
                                const json_t *schema)
{
    struct grammar *p = c->grammar;
    const size_t n = json_object_size(listed);
    const char **names = calloc(n + 1, sizeof(*names)), *name;
    json_t *property;
    size_t i = 0;
    if (names == NULL)
        return grammar_fail(p, "no memory for the schema");
    json_object_foreach((json_t *)listed, name, property)
    {
        if (strlen(name) > MOST_NAME) { /* other_key goes as deep as they are long */
            free(names);
            return grammar_fail(p,
                                "additionalProperties beside a property with a name of more "
                                "than %d bytes",
                                MOST_NAME);
        }
        names[i++] = name;
    }
    qsort(names, n, sizeof(*names), by_name);
    const uint32_t value =
        json_is_true(schema) || schema == NULL ? schema_any(c) : schema_rule(c, schema);
    const uint32_t end = grammar_byte(
        p, '"',
        grammar_byte(p, ':', space(c, grammar_call(p, value, space(c, grammar_return(p))))));
    struct characters plain = {.n = 0};
    characters_add(&plain, 0x20, '"' - 1);
    characters_add(&plain, '"' + 1, '\\' - 1);
    characters_add(&plain, '\\' + 1, 0x10ffff);
    const uint32_t one = grammar_rule(p), rule = grammar_rule(p);
    grammar_rule_set(p, one, characters_one(p, &plain, grammar_return(p)));
    const uint32_t rest = grammar_repeat(p, one, 0, MOST_KEY, end);
    grammar_rule_set(p, rule, grammar_byte(p, '"', other_key(p, names, n, 0, rest, end)));
    free(names);
    return rule;
}

/* The properties in their order, those behind `required` that are not listed last. */
static json_t *properties_of(struct schema_compiler *c, const json_t *schema)
{
    const json_t *listed = json_object_get(schema, "properties");
    const json_t *rest = json_object_get(schema, "additionalProperties");
    json_t *all = listed != NULL ? json_copy((json_t *)listed) : json_object(), *one;
    size_t i;
    if ((listed != NULL && !json_is_object(listed)) || all == NULL) {
        json_decref(all);
        schema_refuse(c, schema, "properties must be an object");
        return NULL;
    }
    const json_t *required = json_object_get(schema, "required");
    if (required != NULL && !json_is_array(required))
        schema_refuse(c, schema, "required must be a list of strings");
    json_array_foreach(required, i, one)
    {
        const char *name = json_string_value(one);
        if (name == NULL)
            schema_refuse(c, schema, "required must be a list of strings");
        else if (json_object_get(all, name) == NULL)
            json_object_set_new(all, name,
                                rest != NULL ? json_incref((json_t *)rest) : json_true());
    }
    json_array_append_new(c->made, all); /* rules are known by the addresses of schemas */
    /* is_required, twice for each of them */
    const uint64_t n_required = json_array_size(required);
    return schema_spend(c, schema, 2 * n_required * json_object_size(all)) ? all : NULL;
}

/* Counts of properties must follow from the others: with additional ones, names may come twice. */
static bool check_counts(struct schema_compiler *c, const json_t *schema, const json_t *properties,
                         bool additional)
{
    uint32_t least = 0, most = GRAMMAR_UNBOUNDED, n_required = 0;
    const char *name;
    json_t *property;
    if (!count(c, schema, "minProperties", &least) || !count(c, schema, "maxProperties", &most))
        return false;
    json_object_foreach((json_t *)properties, name, property) n_required +=
        schema_requires(schema, name);
    if (least > n_required ||
        (most != GRAMMAR_UNBOUNDED && (additional || most < json_object_size(properties)))) {
        schema_refuse(c, schema,
                      "minProperties or maxProperties that do not follow from required "
                      "and properties are not supported");
        return false;
    }
    return true;
}

/* Code behind property i and all before: `rest` where one was written (a comma comes first), else
 * `first`. */
struct places {
    uint32_t rest, first;
};

/* One property before `behind`. */
static struct places add_property(struct schema_compiler *c, const char *name, const json_t *schema,
                                  bool required, struct places behind)
{
    struct grammar *p = c->grammar;
    /* behind.rest: the space is read, then "," or "}". */
    const uint32_t value =
        key(c, name, grammar_call(p, schema_rule(c, schema), space(c, behind.rest)));
    const uint32_t with_comma = grammar_byte(p, ',', space(c, value));
    return (struct places){required ? with_comma : grammar_split(p, with_comma, behind.rest),
                           required ? value : grammar_split(p, value, behind.first)};
}

static uint32_t object_value(struct schema_compiler *c, const json_t *schema, uint32_t next)
{
    struct grammar *p = c->grammar;
    const json_t *rest = json_object_get(schema, "additionalProperties");
    const json_t *listed = json_object_get(schema, "properties");
    json_t *properties = properties_of(c, schema), *property;
    const bool additional = rest != NULL
                                ? !json_is_false(rest)
                                : json_object_size(listed) == 0 && good(c) &&
                                      json_array_size(json_object_get(schema, "required")) == 0;
    if (!good(c) || !check_counts(c, schema, properties, additional))
        return 0;
    const uint32_t end = grammar_byte(p, '}', next);
    struct places at = {end, end};
    if (additional) {
        const uint32_t one = additional_rule(c, properties, rest), more = grammar_rule(p);
        grammar_rule_set(p, more,
                         grammar_byte(p, ',', space(c, grammar_call(p, one, grammar_return(p)))));
        at.rest = grammar_repeat(p, more, 0, GRAMMAR_UNBOUNDED, end);
        at.first = grammar_split(p, end, grammar_call(p, one, at.rest));
    }
    const size_t n = json_object_size(properties);
    const char **names = calloc(n + 1, sizeof(*names)), *name;
    size_t i = 0;
    if (names == NULL)
        return grammar_fail(p, "no memory for the schema");
    json_object_foreach(properties, name, property) names[i++] = name;
    const size_t outer = strlen(c->place);
    while (i-- > 0 && good(c)) {
        property = json_object_get(properties, names[i]);
        const bool required = schema_requires(schema, names[i]);
        if (json_is_false(property) && !required)
            continue;
        snprintf(c->place + outer, sizeof(c->place) - outer, ".%s", names[i]);
        at = add_property(c, names[i], property, required, at);
        if (good(c))
            c->place[outer] = '\0';
    }
    free(names);
    return grammar_byte(p, '{', space(c, at.first));
}

/* ---- all ------------------------------------------------------------------------------------- */

uint32_t schema_value(struct schema_compiler *c, const json_t *schema, const char *type,
                      uint32_t next)
{
    struct grammar *p = c->grammar;
    if (strcmp(type, "object") == 0)
        return object_value(c, schema, next);
    if (strcmp(type, "array") == 0)
        return array_value(c, schema, next);
    if (strcmp(type, "string") == 0)
        return string_value(c, schema, next);
    if (strcmp(type, "boolean") == 0)
        return grammar_split(p, grammar_text(p, "true", 4, next),
                             grammar_text(p, "false", 5, next));
    if (strcmp(type, "null") == 0)
        return grammar_text(p, "null", 4, next);
    return number_value(c, schema, strcmp(type, "integer") == 0, next);
}

uint32_t schema_any(struct schema_compiler *c)
{
    static const char *const types[] = {"object", "array", "string", "number", "boolean", "null"};
    if (c->any != 0)
        return c->any - 1;
    json_t *empty = json_object();
    c->any = grammar_rule(c->grammar) + 1;
    uint32_t entry = 0;
    const uint32_t rule = c->any - 1;
    if (empty == NULL || json_array_append_new(c->made, empty) != 0)
        return grammar_fail(c->grammar, "no memory for the schema");
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        const uint32_t one = schema_value(c, empty, types[i], grammar_return(c->grammar));
        entry = i == 0 ? one : grammar_split(c->grammar, one, entry);
    }
    grammar_rule_set(c->grammar, rule, entry);
    return rule;
}
