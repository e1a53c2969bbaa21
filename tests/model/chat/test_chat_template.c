/* Templates give the text that jinja2 gives, set up as Hugging Face does, and nothing that a
 * template or a message says can crash the renderer or keep it busy. tests/oracles/
 * chat_templates.py compares the two on models' own templates and on random ones. */
#include "model/chat/chat_messages.h"
#include "model/chat/chat_template.h"
#include "model/chat/chat_templates.h"
#include "sys/clock.h"
#include "tests/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char messages_text[] =
    "[{\"role\": \"system\", \"content\": \" Be brief. \"},"
    " {\"role\": \"user\", \"content\": \"Hi \\\"you\\\" <\303\274>\"},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"type\": \"function\","
    "  \"function\": {\"name\": \"clock\", \"arguments\": {\"zone\": \"CET\", \"n\": 1.0}}}]},"
    " {\"role\": \"tool\", \"content\": \"12:00\"}]";
static const char tools_text[] =
    "[{\"type\": \"function\", \"function\": {\"name\": \"clock\", \"parameters\":"
    " {\"properties\": {\"zone\": {\"type\": \"string\"}}}}}]";

static json_t *json_of(const char *text)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(json);
    return json;
}

/* The status; *text is what came out, or the error's text. The caller frees it. */
static enum status render(const char *source, const char *messages_json, char **text)
{
    struct chat_template *t = NULL;
    struct error error = {.status = STATUS_OK};
    json_t *messages = json_of(messages_json), *tools = json_of(tools_text);
    size_t n_bytes = 0;
    *text = NULL;
    enum status status = chat_template_create(&t, source, strlen(source), "<s>", "</s>", &error);
    if (status == STATUS_OK)
        status = chat_template_render(t, messages, tools, NULL, true, NULL, text, &n_bytes, &error);
    if (status == STATUS_OK)
        assert_int_equal(strlen(*text), n_bytes);
    else
        *text = strdup(error.text);
    chat_template_destroy(t);
    json_decref(messages);
    json_decref(tools);
    return status;
}

static const struct {
    const char *name, *source, *expected;
} cases[] = {
    /* Expected texts are jinja2's. */
    {"trim_blocks_and_lstrip_blocks",
     "  {% if true %}\n  a\n  {% endif %}\nb {# c #}\n d {%- if true +%} \n e{% endif %}\n{{ 1 "
     "}}\n\n",
     "  a\nb  d \n e1\n"},
    {"raw_and_comments", "{% raw %}{{ x }}{% endraw %}|{#- x -#} |{% raw -%} a {%- endraw %}",
     "{{ x }}||a"},
    {"turns",
     "{% for m in messages %}{{ '<|' + m.role + '|>' }}{% if m.content is string %}{{ m.content | "
     "trim }}{% elif m.content is none and m.tool_calls %}{{ m.tool_calls[0].function | tojson "
     "}}{% else %}?{% endif %}{{ '\\n' if not loop.last }}{% endfor %}",
     "<|system|>Be brief.\n<|user|>Hi \"you\" <\303\274>\n<|assistant|>{\"name\": \"clock\", "
     "\"arguments\": {\"zone\": \"CET\", \"n\": 1.0}}\n<|tool|>12:00"},
    {"system_is_taken_out",
     "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest "
     "= messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{{ system | trim }}/{{ rest | "
     "length }}/{{ rest[-1].content }}",
     "Be brief./3/12:00"},
    {"namespace_lives_through_loops",
     "{% set ns = namespace(last=none, n=0) %}{% set x = 1 %}{% for m in messages %}{% set x = 2 "
     "%}{% set ns.n = ns.n + 1 %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif "
     "%}{% endfor %}{{ x }} {{ ns.n }} {{ ns.last }}",
     "1 4 1"},
    {"tools_as_json",
     "{% for tool in tools %}{{ tool | tojson(indent=2) }}\n{{ tool.function.parameters.properties "
     "| items | first }}{% for k, v in tool.function.parameters.properties.items() %} {{ k }}={{ "
     "v.type }}{% endfor %}{% endfor %}",
     "{\n  \"type\": \"function\",\n  \"function\": {\n    \"name\": \"clock\",\n    "
     "\"parameters\": {\n      \"properties\": {\n        \"zone\": {\n          \"type\": "
     "\"string\"\n        }\n      }\n    }\n  }\n}\n('zone', {'type': 'string'}) zone=string"},
    {"macros_and_their_defaults",
     "{% macro f(a, b='x', c=none) -%}[{{ a }}{{ b }}{{ c }}]{%- endmacro %}{{ f(1) }}{{ f(2, c=3) "
     "}}{{ f('\303\251', b='') | upper }}",
     "[1xNone][2x3][\303\211NONE]"},
    {"slices_and_negative_indices",
     "{{ messages[::-1][0].role }} {{ 'Gr\303\274\303\237e'[1:-1] }} {{ 'abc'[-1] }} {{ "
     "'abc'[::-1] }} {{ [1,2,3][:2] }} {{ messages[9:] }}",
     "tool r\303\274\303\237 c cba [1, 2] []"},
    {"loop_variables_and_control",
     "{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ loop.first }}{{ "
     "loop.revindex0 }}{{ loop.previtem.role if loop.previtem is defined }},{% if loop.index == 2 "
     "%}{% break %}{% endif %}{% else %}none{% endfor %}{% for x in [] %}{% else %}empty{% endfor "
     "%}{% for i in range(4) %}{% if i is odd %}{% continue %}{% endif %}{{ i }}{% endfor %}",
     "1True2,2False1user,empty02"},
    {"recursive_loops",
     "{% for x in [1, [2, [3]], 4] recursive %}{{ loop.depth }}{% if x is iterable %}({{ loop(x) "
     "}}){% else %}{{ x }}{% endif %}{% endfor %}",
     "111(222(33))14"},
    {"filters",
     "{{ 'a,b,c'.split(',') | join('-') }} {{ [3,1,2] | sort }} {{ ' x ' | trim | length }} {{ "
     "missing | default('d') }} {{ '' | default('e', true) }} {{ messages | map(attribute='role') "
     "| list }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages "
     "| rejectattr('tool_calls', 'defined') | map(attribute='role') | join(' ') }} {{ 'ab\\ncd' | "
     "indent(2) }} {{ 'hello world' | title }} {{ 3.7 | int }} {{ '12' | int + 1 }} {{ {'b': 1, "
     "'a': 2} | dictsort }} {{ '<a>' | e }}",
     "a-b-c [1, 2, 3] 1 d e ['system', 'user', 'assistant', 'tool'] 1 system user tool ab\n  cd "
     "Hello World 3 13 [('a', 2), ('b', 1)] &lt;a&gt;"},
    {"tests_of_kinds",
     "{{ missing is defined }} {{ none is none }} {{ 1 is number }} {{ true is boolean }} {{ 'a' "
     "is string }} {{ {} is mapping }} {{ [] is iterable }} {{ 'a' is sequence }} {{ 2 is even }} "
     "{{ 1 is eq 1 }} {{ 'a' in 'cat' }} {{ 'role' in messages[0] }} {{ 3 not in [1, 2] }}",
     "False True True True True True True True True True True True True"},
    {"printing_like_python",
     "{{ [1, 2.0, 'it\\'s', none, true, {'a': '\303\274\\n'}] }} {{ 1e20 }} {{ 0.1 + 0.2 }} {{ "
     "1e-7 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ (1,) }} {{ "
     "100000000000000000.0 }}",
     "[1, 2.0, \"it's\", None, True, {'a': '\303\274\\n'}] 1e+20 0.30000000000000004 1e-07 3 -4 2 "
     "3.5 1024 (1,) 1e+17"},
    {"precedence",
     "{{ 1 ~ 2 * 3 ~ -1 }} {{ not 1 == 2 }} {{ 1 < 2 < 3 }} {{ true or false and false }} {{ -1 | "
     "abs }} {{ 'a' ~ 'b' | upper }} {{ 2 * 3 + 4 }}",
     "16-1 True True True 1 aB 10"},
    {"set_blocks_with_filters",
     "{% set text | trim | upper %}  a {{ messages[0].role }}  {% endset %}[{{ text }}]{% filter "
     "lower %}ABC{% endfilter %}{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}",
     "[A SYSTEM]abc3False"},
    {"string_methods",
     "{{ '  a b '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'a b  c'.split() }}|{{ "
     "'a.b.c'.rsplit('.', 1) }}|{{ 'abc'.startswith(('x', 'a')) }}|{{ 'abc'.replace('b', '') }}|{{ "
     "{'a': 1}.get('b', 2) }}|{{ 'think</think>rest'.split('</think>')[-1].lstrip('\\n') }}",
     "a b|a|['a', 'b', 'c']|['a.b', 'c']|True|ac|2|rest"},
    {"json_of_everything",
     "{{ {'a': [1, 2.5, none, true, '\303\274\\u0001\\\\/'], 'b': {}} | tojson }}{{ [1] | "
     "tojson(indent=4) }}{{ '\303\274\360\237\230\200' | tojson(ensure_ascii=true) }}{{ {'b': 1, "
     "'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}",
     "{\"a\": [1, 2.5, null, true, \"\303\274\\u0001\\\\/\"], \"b\": {}}[\n    "
     "1\n]\"\\u00fc\\ud83d\\ude00\"{\"a\":2,\"b\":1}"},
    {"generation_prints_its_body",
     "{% for m in messages %}{% generation %}{{ m.role }} {% endgeneration %}{% endfor %}",
     "system user assistant tool "},
    {"else_of_a_loop_left_at_once", "{% for x in [1, 2] %}{% break %}{% else %}e{% endfor %}", "e"},
    {"call_blocks",
     "{% macro box(t) %}[{{ t }}:{{ caller() }}]{% endmacro %}{% call box('x') %}in{% endcall %}",
     "[x:in]"},
    {"entries_named_like_methods",
     "{{ tools[0].function.parameters.properties.items is callable }} {{ {'items': 3}['items'] }} "
     "{{ {'keys': 1}.keys() | list }}",
     "True 3 ['keys']"},
};

static void test_templates_give_what_jinja2_gives(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text;
        if (render(cases[i].source, messages_text, &text) != STATUS_OK ||
            strcmp(text, cases[i].expected) != 0)
            fail_msg("%s: '%s', not '%s'", cases[i].name, text, cases[i].expected);
        free(text);
    }
}

static void test_what_we_do_not_have_is_refused_with_its_line(void **state)
{
    static const struct {
        const char *source, *expected;
    } refused[] = {
        {"a\n{% include 'x' %}", "line 2: a statement that we do not have: include"},
        {"{{ x | urlize }}", "line 1: a filter that we do not have: urlize"},
        {"\n\n{{ x is escaped }}", "line 3: a test that we do not have: escaped"},
        {"{% if x %}", "before: endif"},
        {"{{ x", "a tag that does not end"},
        {"{% for x in y %}{% endif %}", "a statement that we do not have: endif"},
        {"{{ 'abc }}", "a string that does not end"},
        {"{{ x + }}", "an expression is missing"},
        {"{% break %}", "outside of a loop"},
        {"{{ (1 }}", "a bracket"},
        {"{# x", "a comment that does not end"},
        {"\xff", "is not UTF-8"},
        {"{{ 99999999999999999999 }}", "more than 64 bits"},
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        char *text;
        assert_int_equal(render(refused[i].source, messages_text, &text), STATUS_UNSUPPORTED);
        if (strstr(text, refused[i].expected) == NULL)
            fail_msg("'%s' is refused with '%s'", refused[i].source, text);
        free(text);
    }
}

static void test_failures_name_their_line(void **state)
{
    static const struct {
        const char *source, *expected;
    } failing[] = {
        {"\n{{ raise_exception('Roles must alternate') }}",
         "line 2: the template refuses: Roles must alternate"},
        {"{{ missing.x }}", "'missing' is undefined"},
        {"{{ 'a' + 1 }}", "unsupported operand types for +: 'str' and 'int'"},
        {"{{ [].append(1) }}", "not allowed in the sandbox"},
        {"{{ [1] | length + 'a' }}", "unsupported operand types"},
        {"{{ 1 // 0 }}", "division by zero"},
        {"{% set x = 1 %}{% set x.y = 2 %}", "non-namespace"},
        {"{{ {}.keys }}", "cannot be printed"},
        {"{{ none | tojson | length + none }}", "unsupported"},
    };
    for (size_t i = 0; i < sizeof(failing) / sizeof(failing[0]); i++) {
        char *text;
        assert_int_equal(render(failing[i].source, messages_text, &text), STATUS_INVALID);
        if (strstr(text, failing[i].expected) == NULL)
            fail_msg("'%s' fails with '%s'", failing[i].source, text);
        free(text);
    }
}

/* `unit` n times behind `head`, then `tail`. */
static char *repeat(const char *head, const char *unit, size_t n, const char *tail)
{
    char *text = malloc(strlen(head) + n * strlen(unit) + strlen(tail) + 1), *at = text;
    assert_non_null(text);
    at = stpcpy(at, head);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, unit);
    stpcpy(at, tail);
    return text;
}

static void expect_refusal(char *source)
{
    char *text;
    const uint64_t began_us = clock_us();
    const enum status status = render(source, messages_text, &text);
    assert_true(status == STATUS_UNSUPPORTED || status == STATUS_INVALID);
    assert_true(clock_us() - began_us < 60000000); /* and under sanitizers */
    free(text);
    free(source);
}

/* Two messages of the same many keys, the second one in the other order, and one of whose values
 * differs at the end. */
static void test_large_messages_are_compared_in_time(void **state)
{
    enum { N = 100000, ENTRY = 16 };
    char *json = malloc(3 * (N + 2) * ENTRY), *at = json;
    assert_non_null(json);
    for (int m = 0; m < 3; m++) {
        at += sprintf(at, "%s{\"role\":\"user\"", m == 0 ? "[" : ",");
        for (int i = 0; i < N; i++) {
            const int key = m == 1 ? N - 1 - i : i;
            at += sprintf(at, ",\"k%d\":%d", key, m == 2 && i == N - 1);
        }
        at += sprintf(at, "}");
    }
    strcpy(at, "]");
    char *text;
    const uint64_t began_us = clock_us();
    assert_int_equal(
        render("{{ messages[0] == messages[1] }} {{ messages[0] == messages[2] }}", json, &text),
        STATUS_OK);
    assert_string_equal(text, "True False");
    assert_true(clock_us() - began_us < 60000000); /* 0.2 s; under sanitizers too */
    free(text);
    free(json);
}

static void test_hostile_templates_end(void **state)
{
    /* Loops in loops; text that doubles; lists that hold themselves; recursion. */
    expect_refusal(strdup("{% for a in range(100000) %}{% for b in range(100000) %}"
                          "{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}"));
    expect_refusal(strdup("{% set ns = namespace(s='x') %}{% for i in range(100) %}"
                          "{% set ns.s = ns.s ~ ns.s %}{% endfor %}"));
    expect_refusal(strdup("{% set ns = namespace(s=[]) %}{% for i in range(100000) %}"
                          "{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}"));
    expect_refusal(strdup("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"));
    expect_refusal(strdup("{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}"));
    expect_refusal(strdup("{{ 'x' * 10000000000 }}"));
    expect_refusal(strdup("{{ ([1] * 100000000) | length }}"));
    expect_refusal(strdup("{{ range(1000000) }}"));
    expect_refusal(strdup("{% set ns = namespace(n=1) %}{% for i in range(99) %}"
                          "{% set ns.n = ns.n * 1000 %}{% endfor %}"));
    expect_refusal(strdup("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"));
    /* Depth: of brackets, operators, filters, blocks. */
    expect_refusal(repeat("{{ ", "(", 100000, " }}"));
    expect_refusal(repeat("{{ ", "[", 100000, " }}"));
    expect_refusal(repeat("{{ ", "-", 100000, "1 }}"));
    expect_refusal(repeat("{{ ", "not ", 100000, "1 }}"));
    expect_refusal(repeat("{{ 1", " + 1", 100000, " }}"));
    expect_refusal(repeat("{{ 1", "|abs", 100000, " }}"));
    expect_refusal(repeat("{{ x", ".x", 100000, " }}"));
    expect_refusal(repeat("{{ 1", " if 1", 100000, " }}"));
    expect_refusal(repeat("{{ 1", " if 0 else 1", 100000, " }}"));
    expect_refusal(repeat("", "{% if 1 %}", 50000, ""));
    expect_refusal(repeat("", "{% for x in y %}", 50000, ""));
}

static void test_many_elifs_are_no_depth(void **state)
{
    char *text,
        *source = repeat("{% if false %}", "{% elif false %}x", 20000, "{% else %}yes{% endif %}");
    assert_int_equal(render(source, messages_text, &text), STATUS_OK);
    assert_string_equal(text, "yes");
    free(text);
    free(source);
}

static void test_hostile_messages_are_refused(void **state)
{
    char *text, *messages = repeat("[", "[", 1000, "");
    char *closed = repeat(messages, "]", 1001, "");
    assert_int_equal(render("{{ messages }}", closed, &text), STATUS_INVALID);
    free(text);
    free(closed);
    free(messages);
}

/* chat_template_kwargs of a million variables: each is looked for among those before it. */
static void test_too_many_variables_are_refused(void **state)
{
    enum { N = 1000000 };
    struct chat_template *t = NULL;
    json_t *messages = json_of("[]"), *extra = json_object();
    for (int i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof(name), "v%d", i);
        json_object_set_new(extra, name, json_true());
    }
    char *text = NULL;
    size_t n_bytes = 0;
    assert_int_equal(chat_template_create(&t, "x", 1, NULL, NULL, NULL), STATUS_OK);
    assert_int_equal(
        chat_template_render(t, messages, NULL, extra, false, NULL, &text, &n_bytes, NULL),
        STATUS_INVALID);
    chat_template_destroy(t);
    json_decref(messages);
    json_decref(extra);
}

/* Who reads it on a thread of his own may be told that nobody waits any more. */
static void test_a_rendering_can_be_stopped(void **state)
{
    static const char source[] = "{% for i in range(1000) %}{{ i }}{% endfor %}";
    struct chat_template *t = NULL;
    json_t *messages = json_of("[]");
    struct error error;
    char *text = NULL;
    size_t n_bytes = 0;
    atomic_bool stop = true;
    assert_int_equal(chat_template_create(&t, source, strlen(source), NULL, NULL, NULL), STATUS_OK);
    assert_int_equal(
        chat_template_render(t, messages, NULL, NULL, false, &stop, &text, &n_bytes, &error),
        STATUS_CANCELLED);
    assert_null(text);
    stop = false;
    assert_int_equal(
        chat_template_render(t, messages, NULL, NULL, false, &stop, &text, &n_bytes, NULL),
        STATUS_OK);
    free(text);
    chat_template_destroy(t);
    json_decref(messages);
}

/* Any cut of a template is a template or is refused. */
static void test_every_prefix_is_handled(void **state)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t n = 0; n < strlen(cases[i].source); n++) {
            char *text, *source = strndup(cases[i].source, n);
            const enum status status = render(source, messages_text, &text);
            assert_true(status == STATUS_OK || status == STATUS_UNSUPPORTED ||
                        status == STATUS_INVALID);
            free(text);
            free(source);
        }
}

static void test_the_date_is_todays(void **state)
{
    char *text, today[64];
    const time_t now = time(NULL);
    struct tm parts;
    strftime(today, sizeof(today), "%d %b %Y", localtime_r(&now, &parts));
    assert_int_equal(render("{{ strftime_now('%d %b %Y') }}", messages_text, &text), STATUS_OK);
    if (time(NULL) / 86400 == now / 86400)
        assert_string_equal(text, today);
    free(text);
}

static void test_extra_variables_win(void **state)
{
    static const char source[] = "{{ enable_thinking }}{{ bos_token }}{{ add_generation_prompt }}";
    struct chat_template *t = NULL;
    json_t *messages = json_of("[]"), *extra = json_of("{\"enable_thinking\": false,"
                                                       " \"bos_token\": \"B\"}");
    char *text = NULL;
    size_t n_bytes = 0;
    assert_int_equal(chat_template_create(&t, source, strlen(source), "<s>", NULL, NULL),
                     STATUS_OK);
    assert_int_equal(
        chat_template_render(t, messages, NULL, extra, false, NULL, &text, &n_bytes, NULL),
        STATUS_OK);
    assert_string_equal(text, "FalseBFalse");
    free(text);
    chat_template_destroy(t);
    json_decref(messages);
    json_decref(extra);
}

static void test_built_in_templates_render(void **state)
{
    static const char chat[] = "[{\"role\": \"system\", \"content\": \"S\"},"
                               " {\"role\": \"user\", \"content\": \"U\"},"
                               " {\"role\": \"assistant\", \"content\": \"A\"},"
                               " {\"role\": \"user\", \"content\": \"V\"}]";
    static const char silent[] = "[{\"role\": \"user\", \"content\": \"U\"},"
                                 " {\"role\": \"assistant\", \"content\": null}]";
    static const struct {
        const char *name, *expected;
    } expected[] = {
        {"llama3", "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
                   "<|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>"
                   "<|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\n"},
        {"chatml", "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n"
                   "<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n"
                   "<|im_start|>assistant\n"},
        {"mistral", "<s>[INST] S\n\nU [/INST] A</s>[INST] V [/INST]"},
        {"gemma", "<s><start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\n"
                  "A<end_of_turn>\n<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n"},
        {"phi3", "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\nA<|end|>\n"
                 "<|user|>\nV<|end|>\n<|assistant|>\n"},
        {"plain", "<s>S\nU\nA\nV"},
    };
    for (size_t i = 0; chat_template_names[i].name != NULL; i++) {
        char *text;
        assert_string_equal(chat_template_names[i].name, expected[i].name);
        assert_int_equal(render(chat_template_names[i].source, chat, &text), STATUS_OK);
        assert_string_equal(text, expected[i].expected);
        free(text);
        assert_int_equal(render(chat_template_names[i].source, silent, &text), STATUS_OK);
        assert_null(strstr(text, "None"));
        free(text);
    }
}

static void test_messages_are_prepared(void **state)
{
    json_t *prepared = NULL;
    json_t *messages = json_of(
        "[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a\"},"
        " {\"type\": \"text\", \"text\": \"b\"}]}, {\"role\": \"assistant\", \"tool_calls\":"
        " [{\"function\": {\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 1}\"}}]}]");
    assert_int_equal(chat_messages_prepare(&prepared, messages, false, NULL), STATUS_OK);
    json_t *expected = json_of(
        "[{\"role\": \"user\", \"content\": \"ab\"}, {\"role\": \"assistant\", \"tool_calls\":"
        " [{\"function\": {\"name\": \"f\", \"arguments\": {\"x\": 1}}}]}]");
    assert_true(json_equal(prepared, expected));
    assert_true(json_is_string(json_object_get(
        json_object_get(
            json_array_get(json_object_get(json_array_get(messages, 1), "tool_calls"), 0),
            "function"),
        "arguments"))); /* the client's own are as they were */
    json_decref(expected);
    json_decref(prepared);
    json_decref(messages);
}

static void test_a_developer_is_the_system_where_templates_know_no_other(void **state)
{
    static const char *const sources[] = {"{{ messages[0].role }}",
                                          "{{ messages[0].role == 'developer' }}"};
    json_t *messages = json_of("[{\"role\": \"developer\", \"content\": \"x\"}]");
    for (int i = 0; i < 2; i++) {
        struct chat_template *t = NULL;
        json_t *prepared = NULL;
        assert_int_equal(chat_template_create(&t, sources[i], strlen(sources[i]), NULL, NULL, NULL),
                         STATUS_OK);
        const bool knows = chat_template_knows_developer(t);
        assert_int_equal(knows, i == 1);
        assert_int_equal(chat_messages_prepare(&prepared, messages, knows, NULL), STATUS_OK);
        assert_string_equal(json_string_value(json_object_get(json_array_get(prepared, 0), "role")),
                            knows ? "developer" : "system");
        json_decref(prepared);
        chat_template_destroy(t);
    }
    json_decref(messages);
}

static void test_bad_messages_are_named(void **state)
{
    static const struct {
        const char *messages, *expected;
    } bad[] = {
        {"[]", "messages"},
        {"{}", "messages"},
        {"[1]", "messages[0]"},
        {"[{\"content\": \"x\"}]", "messages[0].role"},
        {"[{\"role\": \"user\", \"content\": 1}]", "messages[0].content"},
        {"[{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}]", "image_url"},
        {"[{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}]", "content[0].text"},
        {"[{\"role\": \"user\", \"tool_calls\": {}}]", "messages[0].tool_calls"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        json_t *messages = json_of(bad[i].messages), *prepared = NULL;
        struct error error = {.status = STATUS_OK};
        assert_int_equal(chat_messages_prepare(&prepared, messages, false, &error), STATUS_INVALID);
        assert_non_null(strstr(error.text, bad[i].expected));
        json_decref(messages);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_templates_give_what_jinja2_gives),
        cmocka_unit_test(test_what_we_do_not_have_is_refused_with_its_line),
        cmocka_unit_test(test_failures_name_their_line),
        cmocka_unit_test(test_large_messages_are_compared_in_time),
        cmocka_unit_test(test_hostile_templates_end),
        cmocka_unit_test(test_many_elifs_are_no_depth),
        cmocka_unit_test(test_hostile_messages_are_refused),
        cmocka_unit_test(test_too_many_variables_are_refused),
        cmocka_unit_test(test_a_rendering_can_be_stopped),
        cmocka_unit_test(test_every_prefix_is_handled),
        cmocka_unit_test(test_the_date_is_todays),
        cmocka_unit_test(test_extra_variables_win),
        cmocka_unit_test(test_built_in_templates_render),
        cmocka_unit_test(test_messages_are_prepared),
        cmocka_unit_test(test_a_developer_is_the_system_where_templates_know_no_other),
        cmocka_unit_test(test_bad_messages_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
