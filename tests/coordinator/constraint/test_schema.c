/* A schema's grammar takes values that validate and no others, and what it does not take for want
 * of a keyword is refused by name. Every text that a random walk through a grammar writes is
 * JSON. */
#include "coordinator/constraint/automaton.h"
#include "coordinator/constraint/schema.h"
#include "sys/random.h"
#include "tests/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static json_t *json_of(const char *text)
{
    json_error_t why;
    json_t *json = json_loads(text, JSON_DECODE_ANY, &why);
    if (json == NULL)
        fail_msg("%s: %s", text, why.text);
    return json;
}

static void open_schema(struct grammar *grammar, const char *schema)
{
    json_t *json = schema != NULL ? json_of(schema) : NULL;
    struct error error = {.status = STATUS_OK};
    grammar_open(grammar);
    if (schema_compile(grammar, json, &error) != STATUS_OK)
        fail_msg("%s: %s", schema, error.text);
    json_decref(json);
}

static bool takes(struct automaton *m, const char *text)
{
    uint32_t state = automaton_start(m);
    for (; *text != '\0' && state != AUTOMATON_DEAD; text++)
        state = automaton_next(m, state, (uint8_t)*text);
    return state != AUTOMATON_DEAD && automaton_accepts(m, state);
}

struct schema_case {
    const char *schema;
    const char *good[8], *bad[12]; /* end with NULL */
};

static const struct schema_case schema_cases[] = {
    {"{\"type\": \"boolean\"}", {"true", "false"}, {"null", "tru", "truee", " true", "\"true\""}},
    {"{\"type\": \"null\"}", {"null"}, {"nul", "0"}},
    {"{\"type\": [\"string\", \"null\"]}", {"null", "\"\"", "\"a\""}, {"1", "nul", "\"a"}},
    {"{\"type\": \"string\"}",
     {"\"\"", "\"a\\n\\u00e9\\\"\"", "\"\xc3\xa9\xf0\x9f\x98\x80\"", "\"\\/\"", "\"\\uD7ff\""},
     {"\"\n\"", "\"\\x\"", "\"\xc3\"", "\"\xed\xa0\x80\"", "\"\\ud800\"", "\"\\u0000\"", "\"\xff\"",
      "\"\xc0\x80\"", "a"}},
    {"{\"type\": \"string\", \"minLength\": 2, \"maxLength\": 3}",
     {"\"ab\"", "\"abc\"", "\"\xc3\xa9\\u0041\"", "\"\\n\\n\\n\""},
     {"\"\"", "\"a\"", "\"abcd\"", "\"\xc3\xa9\""}},
    {"{\"type\": \"integer\"}",
     {"0", "7", "-12", "123456789012345678"},
     {"01", "-0", "+1", "1.0", "1e5", "-", "", "1234567890123456789"}},
    {"{\"type\": \"integer\", \"minimum\": -5, \"maximum\": 120}",
     {"-5", "0", "9", "10", "99", "100", "120"},
     {"-6", "121", "200", "-50", "1000", "05"}},
    {"{\"type\": \"integer\", \"exclusiveMinimum\": 98, \"exclusiveMaximum\": 1002}",
     {"99", "100", "999", "1000", "1001"},
     {"98", "1002", "9", "2000", "-99"}},
    {"{\"type\": \"integer\", \"minimum\": 17}",
     {"17", "18", "20", "100", "99999"},
     {"16", "1", "9", "0", "-17"}},
    {"{\"type\": \"integer\", \"maximum\": -17}",
     {"-17", "-18", "-20", "-100"},
     {"-16", "1", "-9", "0"}},
    {"{\"type\": \"number\"}",
     {"0", "-1.5", "1e5", "1.25E-07", "0.001", "-0.0", "3E+2"},
     {"1.", ".5", "1e", "00", "NaN", "1e100", "--1", "Infinity"}},
    {"{\"type\": \"number\", \"minimum\": 0, \"maximum\": 1}",
     {"0", "1", "0.5", "0.999"},
     {"1.5", "-0.5", "2", "1e0", "1.0001"}},
    {"{\"type\": \"number\", \"exclusiveMinimum\": -2, \"maximum\": 3.5}",
     {"-1", "0", "3", "2.75", "-0.5"},
     {"-2", "-2.5", "4", "3.75"}},
    {"{\"type\": \"number\", \"minimum\": 0.25, \"maximum\": 0.75}", {"0.5"}, {"0", "1", "0.8"}},
    {"{\"enum\": [\"red\", \"green\", 3, null, {\"a\": [1, 2]}, \"re\"]}",
     {"\"red\"", "\"green\"", "3", "null", "{\"a\":[1,2]}", "\"re\""},
     {"\"blue\"", "\"r\"", "33", "{}"}},
    {"{\"const\": \"it\\\"s\"}", {"\"it\\\"s\""}, {"\"its\""}},
    {"{\"type\": \"string\", \"enum\": [\"a\", 1]}", {"\"a\""}, {"1"}},
    {"{\"type\": \"array\", \"items\": {\"type\": \"integer\"}}",
     {"[]", "[1]", "[1, 2,3]", "[ 1 ]", "[\n  1,\n  2\n]"},
     {"[1,]", "[,1]", "[\"a\"]", "[1 2]", "[1", "[[1]]"}},
    {"{\"type\": \"array\", \"items\": {\"type\": \"integer\"}, \"minItems\": 2, \"maxItems\": 3}",
     {"[1,2]", "[1,2,3]"},
     {"[]", "[1]", "[1,2,3,4]"}},
    {"{\"type\": \"array\", \"maxItems\": 0}", {"[]", "[ ]"}, {"[1]"}},
    {"{\"type\": \"array\", \"prefixItems\": [{\"type\": \"integer\"}, {\"type\": \"string\"}],"
     " \"items\": false, \"minItems\": 1}",
     {"[1]", "[1, \"a\"]"},
     {"[]", "[\"a\"]", "[1, 2]", "[1,\"a\",1]"}},
    {"{\"type\": \"array\", \"prefixItems\": [{\"type\": \"integer\"}], \"items\": {\"type\": "
     "\"null\"},"
     " \"minItems\": 2, \"maxItems\": 3}",
     {"[1,null]", "[1, null, null]"},
     {"[1]", "[null,null]", "[1,null,null,null]"}},
    {"{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, \"b\": {\"type\": "
     "\"string\"},"
     " \"c\": {\"type\": \"null\"}}, \"required\": [\"b\"]}",
     {"{\"b\":\"\"}", "{\"a\": 1, \"b\": \"x\"}", "{\"b\":\"\",\"c\":null}",
      "{\n  \"a\": 1,\n  \"b\": \"x\",\n  \"c\": null\n}", "{ \"b\":\"\" }"},
     {"{}", "{\"a\":1}", "{\"b\":1}", "{\"b\":\"\",}", "{\"b\":\"\",\"d\":1}", "{\"c\":null}",
      "{\"b\":\"\",\"b\":\"\"}"}},
    {"{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, \"ab\": {\"type\": "
     "\"integer\"}},"
     " \"required\": [\"a\"], \"additionalProperties\": {\"type\": \"boolean\"}}",
     {"{\"a\":1}", "{\"a\":1,\"ab\":2}", "{\"a\":1,\"b\":true}",
      "{\"a\":1,\"abc\":true,\"aa\":false}", "{\"a\":1, \"\xc3\xa9\": true}"},
     {"{}", "{\"a\":true}", "{\"a\":1,\"ab\":true}", "{\"a\":1,\"b\":1}", "{\"a\":1,\"\":true}",
      "{\"a\":1,\"\\u0061\":true}", "{\"a\":1,\"a\":true}"}},
    {"{\"type\": \"object\", \"additionalProperties\": {\"type\": \"integer\"}}",
     {"{}", "{\"x\": 1}", "{\"x\":1,\"y\":2}"},
     {"{\"x\":true}", "{\"x\":1,}"}},
    {"{\"type\": \"object\", \"additionalProperties\": false}", {"{}"}, {"{\"x\":1}"}},
    {"{}",
     {"{}", "[]", "1", "\"x\"", "{\"a\": [true, {\"b\": null}]}", "[[[]]]"},
     {"", "{", "[1,]"}},
    {"{\"anyOf\": [{\"type\": \"integer\"}, {\"type\": \"object\", \"properties\": {\"k\": "
     "{\"const\": 1}},"
     " \"required\": [\"k\"]}, {\"type\": \"object\", \"properties\": {\"k\": {\"const\": 2}, "
     "\"m\": {}},"
     " \"required\": [\"k\", \"m\"]}]}",
     {"5", "{\"k\":1}", "{\"k\":2,\"m\":[]}"},
     {"{\"k\":2}", "{\"k\":1,\"m\":[]}", "\"a\""}},
    {"{\"oneOf\": [{\"type\": \"string\", \"maxLength\": 1}, {\"type\": \"null\"}]}",
     {"\"a\"", "null"},
     {"\"ab\""}},
    {"{\"allOf\": [{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}, "
     "\"required\": [\"a\"]},"
     " {\"properties\": {\"b\": {\"type\": \"null\"}, \"a\": {\"minimum\": 5}}, \"required\": "
     "[\"b\"]}]}",
     {"{\"a\":5,\"b\":null}"},
     {"{\"a\":4,\"b\":null}", "{\"a\":5}", "{\"b\":null}"}},
    {"{\"type\": \"object\", \"properties\": {\"v\": {\"type\": \"integer\"}, \"next\": {\"anyOf\":"
     " [{\"$ref\": \"#\"}, {\"type\": \"null\"}]}}, \"required\": [\"v\", \"next\"]}",
     {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}"},
     {"{\"v\":1}", "{\"v\":1,\"next\":{}}"}},
    {"{\"$defs\": {\"t~x/y\": {\"type\": \"array\", \"items\": {\"$ref\": \"#/$defs/t~0x~1y\"}}},"
     " \"$ref\": \"#/$defs/t~0x~1y\"}",
     {"[]", "[[],[[]]]"},
     {"[1]", "{}"}},
    {"{\"type\": \"string\", \"pattern\": \"^[a-c]+(-\\\\d{2,3})?$\"}",
     {"\"a\"", "\"abc-12\"", "\"cab-123\""},
     {"\"\"", "\"d\"", "\"a-1\"", "\"a-1234\"", "\"xa\""}},
    {"{\"type\": \"string\", \"pattern\": \"b|^x$\"}",
     {"\"b\"", "\"aba\"", "\"x\""},
     {"\"\"", "\"xx\"", "\"a\""}},
    {"{\"type\": \"string\", \"pattern\": \"^[^\\\\w\\\"]\\\"\\\\\\\\.$\"}",
     {"\"-\\\"\\\\\xc3\xa9\"", "\" \\\"\\\\x\""},
     {"\"a\\\"\\\\x\"", "\"-\\\"\\\\\\n\""}},
    {"{\"type\": \"string\", \"pattern\": \"^[a-z]*$\", \"minLength\": 2, \"maxLength\": 3}",
     {"\"ab\"", "\"abc\""},
     {"\"a\"", "\"abcd\"", "\"AB\""}},
    {"{\"type\": \"string\", \"format\": \"date\"}",
     {"\"2024-02-28\"", "\"1999-12-31\""},
     {"\"2024-02-30\"", "\"2024-13-01\"", "\"24-01-01\""}},
    {"{\"type\": \"string\", \"format\": \"date-time\"}",
     {"\"2024-01-31T23:59:59Z\"", "\"2024-01-31T00:00:00.5+02:00\""},
     {"\"2024-01-31\"", "\"2024-01-31T24:00:00Z\""}},
    {"{\"type\": \"string\", \"format\": \"uuid\"}",
     {"\"01234567-89ab-cdef-0123-456789abcdef\""},
     {"\"01234567\""}},
    {"{\"type\": \"string\", \"format\": \"ipv4\"}",
     {"\"192.168.0.255\""},
     {"\"256.1.1.1\"", "\"1.1.1\"", "\"01.1.1.1\""}},
    {"{\"type\": \"string\", \"nullable\": true}", {"null", "\"a\""}, {"1"}},
};

static void test_values_that_validate_and_no_others(void **state)
{
    for (size_t i = 0; i < sizeof(schema_cases) / sizeof(schema_cases[0]); i++) {
        const struct schema_case *c = &schema_cases[i];
        struct grammar grammar;
        open_schema(&grammar, c->schema);
        struct automaton *m = automaton_create(&grammar, 16);
        assert_non_null(m);
        for (size_t j = 0; j < 8 && c->good[j] != NULL; j++)
            if (!takes(m, c->good[j]))
                fail_msg("%s does not take %s", c->schema, c->good[j]);
        for (size_t j = 0; j < 12 && c->bad[j] != NULL; j++)
            if (takes(m, c->bad[j]))
                fail_msg("%s takes %s", c->schema, c->bad[j]);
        assert_false(automaton_limited(m));
        automaton_destroy(m);
        grammar_close(&grammar);
    }
}

static void test_no_schema_means_any_object(void **state)
{
    struct grammar grammar;
    open_schema(&grammar, NULL);
    struct automaton *m = automaton_create(&grammar, 16);
    assert_true(takes(m, "{}"));
    assert_true(takes(m, "{\"a\": [1, {\"b\": null}], \"c\": \"\"}"));
    assert_false(takes(m, "[]"));
    assert_false(takes(m, "1"));
    automaton_destroy(m);
    grammar_close(&grammar);
}

static void test_what_cannot_be_kept_is_refused_by_name(void **state)
{
    static const struct {
        const char *schema, *expected;
    } refused[] = {
        {"{\"type\": \"array\", \"uniqueItems\": true}", "uniqueItems"},
        {"{\"type\": \"object\", \"patternProperties\": {}}", "patternProperties"},
        {"{\"not\": {}}", "'not'"},
        {"{\"if\": {}, \"then\": {}}", "'if'"},
        {"{\"type\": \"integer\", \"multipleOf\": 3}", "multipleOf"},
        {"{\"type\": \"array\", \"contains\": {}}", "contains"},
        {"{\"type\": \"object\", \"properties\": {\"x\": {\"propertyNames\": {}}}}", ".x"},
        {"{\"type\": \"string\", \"format\": \"iri\"}", "iri"},
        {"{\"type\": \"string\", \"pattern\": \"(?=a)b\"}", "(?=a)b"},
        {"{\"type\": \"string\", \"pattern\": \"\\\\bx\"}", "not supported"},
        {"{\"type\": \"string\", \"pattern\": \"(a*)*\"}", "repeats what may be empty"},
        {"{\"type\": \"string\", \"pattern\": \"[z-a]\"}", "wrong order"},
        {"{\"type\": \"string\", \"pattern\": \"a(\"}", "does not end"},
        {"{\"type\": \"string\", \"pattern\": \"ab+\", \"maxLength\": 9}",
         "minLength or maxLength"},
        {"{\"type\": \"string\", \"minLength\": 3, \"maxLength\": 2}", "minLength"},
        {"{\"type\": \"strange\"}", "type"},
        {"{\"allOf\": [5]}", "allOf"},
        {"{\"type\": \"object\", \"required\": {\"a\": 1}}", "required"},
        {"{\"type\": \"array\", \"prefixItems\": 5}", "prefixItems"},
        {"{\"type\": \"integer\", \"minimum\": 2, \"maximum\": 1}", "no integer"},
        {"{\"type\": \"integer\", \"minimum\": 0.5, \"maximum\": 0.75}", "no integer"},
        {"{\"$ref\": \"#/$defs/none\"}", "leads nowhere"},
        {"{\"$ref\": \"http://example.org/x\"}", "leads nowhere"},
        {"{\"$ref\": \"#\"}", "endless"},
        {"{\"anyOf\": [{\"$ref\": \"#\"}, {\"type\": \"null\"}]}", "refers to itself"},
        {"{\"type\": \"object\", \"properties\": {\"a\": {\"$ref\": \"#\"}}, \"required\": "
         "[\"a\"]}",
         "endless"},
        {"{\"oneOf\": [{\"type\": \"integer\"}, {\"type\": \"number\"}]}", "oneOf"},
        {"{\"enum\": []}", "without any value"},
        {"{\"type\": \"string\", \"enum\": [1]}", "without any value"},
        {"{\"type\": \"object\", \"minProperties\": 2}", "minProperties"},
        {"{\"allOf\": [{\"pattern\": \"a\"}, {\"pattern\": \"b\"}]}", "pattern"},
        {"false", "schema"},
        {"{\"type\": \"array\", \"minItems\": -1}", "minItems"},
        {"{\"type\": \"object\", \"properties\": []}", "properties"},
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        json_t *schema = json_of(refused[i].schema);
        struct grammar grammar;
        struct error error = {.status = STATUS_OK};
        grammar_open(&grammar);
        if (schema_compile(&grammar, schema, &error) == STATUS_OK)
            fail_msg("%s is taken", refused[i].schema);
        if (strstr(error.text, refused[i].expected) == NULL)
            fail_msg("%s: '%s'", refused[i].schema, error.text);
        grammar_close(&grammar);
        json_decref(schema);
    }
}

static void test_deep_and_large_schemas_are_refused_or_taken(void **state)
{
    char *text = malloc(4000000), *at = text;
    assert_non_null(text);
    for (int i = 0; i < 1500; i++)
        at = stpcpy(at, "{\"items\":");
    at = stpcpy(at, "{}");
    for (int i = 0; i < 1500; i++)
        at = stpcpy(at, "}");
    json_t *schema = json_of(text);
    struct grammar grammar;
    grammar_open(&grammar);
    assert_int_equal(schema_compile(&grammar, schema, NULL), STATUS_INVALID);
    grammar_close(&grammar);
    json_decref(schema);
    at = stpcpy(text, "{\"type\":\"object\",\"properties\":{");
    for (int i = 0; i < 300; i++)
        at += sprintf(at, "%s\"p%d\":{\"type\":\"string\"}", i > 0 ? "," : "", i);
    stpcpy(at, "}}");
    open_schema(&grammar, text);
    struct automaton *m = automaton_create(&grammar, 16);
    assert_true(takes(m, "{\"p7\": \"\", \"p299\": \"x\"}"));
    assert_false(automaton_limited(m));
    automaton_destroy(m);
    grammar_close(&grammar);
    free(text);
}

/* The loop of the whole cluster compiles what a client sent: a few kilobytes must not cost it
 * gigabytes, minutes or its stack. Writes the schema `which` of size n. */
static void write_costly(FILE *to, int which, int n)
{
    static const char *const begins[] = {"{\"$ref\":\"#/$defs/a0\",\"$defs\":{", "{\"allOf\":[",
                                         "{\"oneOf\":[", "{\"type\":\"object\",\"properties\":{\"",
                                         "{\"type\":\"object\",\"required\":["};
    fputs(begins[which], to);
    for (int i = 0; i < n; i++) {
        const char *comma = i > 0 ? "," : "";
        if (which == 0) /* each level joins twice as many as the one below */
            fprintf(to,
                    "%s\"a%d\":{\"allOf\":[{\"$ref\":\"#/$defs/a%d\"},{\"$ref\":\"#/$defs/b%d\"}]},"
                    "\"b%d\":{\"allOf\":[{\"$ref\":\"#/$defs/b%d\"},{\"$ref\":\"#/$defs/a%d\"}]}",
                    comma, i, i + 1, i + 1, i, i + 1, i + 1);
        else if (which == 1)
            fprintf(to, "%s{\"properties\":{\"k%d\":{}}}", comma, i);
        else if (which == 2) {
            fprintf(to, "%s{\"enum\":[", comma);
            for (int j = 0; j < n; j++)
                fprintf(to, "%s\"%d_%d\"", j > 0 ? "," : "", i, j);
            fputs("]}", to);
        } else if (which == 3)
            fputc('a', to);
        else
            fprintf(to, "%s\"k%d\"", comma, i);
    }
    fputs(which == 0   ? ",\"a100\":{},\"b100\":{}}}"
          : which == 3 ? "\":{}},\"additionalProperties\":true}"
                       : "]}",
          to);
}

static void test_costly_schemas_are_refused_soon(void **state)
{
    static const int sizes[] = {100, 10000, 200, 300000, 20000};
    for (int which = 0; which < 5; which++) {
        char *text = NULL;
        size_t n_bytes = 0;
        FILE *to = open_memstream(&text, &n_bytes);
        assert_non_null(to);
        write_costly(to, which, sizes[which]);
        assert_int_equal(fclose(to), 0);
        json_t *schema = json_of(text);
        struct grammar grammar;
        grammar_open(&grammar);
        struct error error;
        const clock_t begin = clock();
        if (schema_compile(&grammar, schema, &error) != STATUS_INVALID)
            fail_msg("schema %d of size %d is taken", which, sizes[which]);
        /* Seconds of grace for sanitizers and slow machines; what it protects from are hours. */
        assert_true((double)(clock() - begin) / CLOCKS_PER_SEC < 20.0);
        grammar_close(&grammar);
        json_decref(schema);
        free(text);
    }
}

/* From here on, a random walk that ends as soon as it has gone for `most` bytes. */
static void walk(struct automaton *m, struct random_state *random, char *text, size_t most)
{
    uint32_t state = automaton_start(m);
    size_t n = 0;
    while (n < most + 4096) {
        if (automaton_accepts(m, state) && (n >= most || random_u64(random) % 4 == 0))
            break;
        const uint32_t distance = automaton_distance(m, state);
        uint8_t bytes[256];
        uint32_t n_bytes = 0;
        for (unsigned b = 1; b < 256; b++) {
            const uint32_t next = automaton_next(m, state, (uint8_t)b);
            if (next != AUTOMATON_DEAD && (n < most || automaton_distance(m, next) < distance))
                bytes[n_bytes++] = (uint8_t)b;
        }
        if (n_bytes == 0) {
            assert_true(automaton_accepts(m, state)); /* never stuck */
            break;
        }
        const uint8_t byte = bytes[random_u64(random) % n_bytes];
        text[n++] = (char)byte;
        state = automaton_next(m, state, byte);
    }
    assert_true(automaton_accepts(m, state));
    text[n] = '\0';
}

static void test_random_walks_are_json(void **state)
{
    static char text[10000];
    struct random_state random;
    random_seed(&random, 4);
    for (size_t i = 0; i < sizeof(schema_cases) / sizeof(schema_cases[0]); i++) {
        struct grammar grammar;
        open_schema(&grammar, schema_cases[i].schema);
        struct automaton *m = automaton_create(&grammar, 16);
        for (int turn = 0; turn < 20; turn++) {
            json_error_t why;
            walk(m, &random, text, 200);
            json_t *json = json_loads(text, JSON_DECODE_ANY, &why);
            if (json == NULL)
                fail_msg("%s gives %s: %s", schema_cases[i].schema, text, why.text);
            json_decref(json);
        }
        automaton_destroy(m);
        grammar_close(&grammar);
    }
}

static void test_states_are_forgotten_without_harm(void **state)
{
    struct grammar grammar;
    open_schema(&grammar, "{\"type\": \"string\", \"maxLength\": 100000}");
    struct automaton *m = automaton_create(&grammar, 8);
    uint32_t at = automaton_next(m, automaton_start(m), '"');
    for (int i = 0; i < 100000; i++) {
        at = automaton_tidy(m, at);
        assert_int_equal(automaton_distance(m, at), 1);
        assert_int_not_equal(at = automaton_next(m, at, 'x'), AUTOMATON_DEAD);
    }
    assert_int_equal(automaton_next(m, at, 'x'), AUTOMATON_DEAD);
    assert_true(automaton_generation(m) > 1);
    assert_true(automaton_accepts(m, automaton_next(m, at, '"')));
    automaton_destroy(m);
    grammar_close(&grammar);
}

static void test_far_limits_share_a_state(void **state)
{
    struct grammar grammar;
    open_schema(&grammar, "{\"type\": \"string\", \"minLength\": 50, \"maxLength\": 100}");
    struct automaton *m = automaton_create(&grammar, 8);
    uint32_t at = automaton_next(m, automaton_start(m), '"');
    const uint32_t near = automaton_near(m, at);
    uint32_t others = 0;
    for (int i = 0; i < 100; i++) {
        others += automaton_near(m, at) != near;
        at = automaton_next(m, at, 'x');
    }
    assert_in_range(others, 10, 62); /* those within 8 of either limit, and between both */
    automaton_destroy(m);
    grammar_close(&grammar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_that_validate_and_no_others),
        cmocka_unit_test(test_no_schema_means_any_object),
        cmocka_unit_test(test_what_cannot_be_kept_is_refused_by_name),
        cmocka_unit_test(test_deep_and_large_schemas_are_refused_or_taken),
        cmocka_unit_test(test_costly_schemas_are_refused_soon),
        cmocka_unit_test(test_random_walks_are_json),
        cmocka_unit_test(test_states_are_forgotten_without_harm),
        cmocka_unit_test(test_far_limits_share_a_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
