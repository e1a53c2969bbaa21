/* test_tool_calls.c - calls are found in every form, however the text is cut, and what is no call
 * stays text, byte for byte. */
#include "coordinator/http/tool_calls.h"

#include "tests/cmocka.h"

#include <stdlib.h>
#include <string.h>

/* Of two functions, or of what `more` has; *schema, if it is wanted, is the caller's. */
static struct tool_choice choose(const char *more, char **schema)
{
    struct tool_choice choice;
    struct api_error error;
    json_t *body =
        json_pack("{s:[{s:s, s:{s:s}}, {s:s, s:{s:s}}]}", "tools", "type", "function", "function",
                  "name", "look", "type", "function", "function", "name", "add");
    json_t *fields = json_loads(more, 0, NULL);
    assert_non_null(fields);
    json_object_update(body, fields);
    json_t *callable;
    if (!tool_choice_read(&choice, body, &callable, &error))
        fail_msg("%s: %s", more, error.message);
    if (schema != NULL && !tool_choice_schema(&choice, callable, schema, &error))
        fail_msg("%s: %s", more, error.message);
    json_decref(callable);
    json_decref(fields);
    json_decref(body);
    return choice;
}

static struct tool_choice choice_of(const char *more)
{
    return choose(more, NULL);
}

struct heard {
    char text[512], calls[512]; /* calls: name(arguments) and a line end each */
};

static void hear(const struct tool_calls *calls, const struct tool_news *news, struct heard *heard)
{
    strncat(heard->text, news->text, news->n_bytes);
    for (size_t i = news->first; i < news->end; i++) {
        const struct tool_call *call = &calls->list[i];
        const size_t n = strlen(heard->calls);
        if (news->goes_on) /* what comes next stands in front of the bracket */
            heard->calls[n - 2] = '\0';
        snprintf(heard->calls + strlen(heard->calls), sizeof(heard->calls) - n, "%s%s%s)\n",
                 news->goes_on ? "" : call->name, news->goes_on ? "" : "(", call->arguments);
        assert_int_equal(strspn(call->id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "abcdefghijklmnopqrstuvwxyz"),
                         9);
    }
}

/* In pieces of `step` bytes. */
static struct heard listen(const struct tool_choice *choice, const char *text, size_t step)
{
    struct heard heard = {"", ""};
    struct tool_calls calls;
    struct tool_news news;
    const size_t n = strlen(text);
    tool_calls_open(&calls, choice);
    for (size_t at = 0; at < n; at += step) {
        assert_true(
            tool_calls_feed(&calls, text + at, n - at < step ? n - at : step, false, &news));
        hear(&calls, &news, &heard);
    }
    assert_true(tool_calls_feed(&calls, "", 0, true, &news));
    hear(&calls, &news, &heard);
    tool_calls_close(&calls);
    return heard;
}

static void test_calls_are_found_however_the_text_is_cut(void **state)
{
    static const struct {
        const char *answer, *text, *calls;
    } cases[] = {
        {"Hello.", "Hello.", ""},
        {" \n", " \n", ""},
        {"a < b <tool", "a < b <tool", ""},
        /* Hermes, Qwen */
        {"<tool_call>\n{\"name\": \"look\", \"arguments\": {\"x\": 1.10}}\n</tool_call>", "",
         "look({\"x\": 1.10})\n"},
        {"I look.\n\n<tool_call>{\"arguments\": {\"s\": \"}]\\\"\", \"l\": [1, {}]}, \"name\": "
         "\"look\"}</tool_call>\n<tool_call>{\"name\": \"add\"}</tool_call>\n",
         "I look.", "look({\"s\": \"}]\\\"\", \"l\": [1, {}]})\nadd({})\n"},
        {"<tool_call>{\"name\": \"nobody\", \"arguments\": \"{}\"}</tool_call> then\n", " then",
         "nobody({})\n"}, /* the client says that there is none */
        {"<tool_call>{\"name\": \"look\", \"arguments\": {}}", "", "look({})\n"}, /* no end */
        {"So: <tool_call>what</tool_call> <tool_call>",
         "So: <tool_call>what</tool_call> <tool_call>", ""},
        {"<tool_call>{\"name\": 1}</tool_call>", "<tool_call>{\"name\": 1}</tool_call>", ""},
        {"<tool_call>{\"name\": \"look\"} and</tool_call>",
         "<tool_call>{\"name\": \"look\"} and</tool_call>", ""},
        {"\xc3\x85: <tool_call>{\"name\": \"look\", \"arguments\": {\"city\": "
         "\"\xc3\x85s\"}}</tool_call>",
         "\xc3\x85:", "look({\"city\": \"\xc3\x85s\"})\n"},
        /* Llama 3, Mistral */
        {"{\"name\": \"add\", \"parameters\": {\"a\": 1.50, \"b\": -2}}", "",
         "add({\"a\": 1.50, \"b\": -2})\n"},
        {" {\"name\": \"add\", \"parameters\": {\"a\": 1}}; {\"name\": \"look\"}", "",
         "add({\"a\": 1})\nlook({})\n"},
        {"[{\"name\": \"add\", \"arguments\": {\"a\": [\"]\"]}} , {\"name\":\"look\",\"arguments\":"
         "{}}]",
         "", "add({\"a\": [\"]\"]})\nlook({})\n"},
        {"{\"name\": \"add\", \"argument\\u0073\": {\"a\": 1}}", "", "add({\"a\":1})\n"},
        {"{\"name\": \"Ada\", \"born\": 1815}", "{\"name\": \"Ada\", \"born\": 1815}", ""},
        {"{\"name\": \"add\"} {\"name\": \"Ada\"}", "{\"name\": \"add\"} {\"name\": \"Ada\"}", ""},
        {"[{\"name\": \"add\"}, 1]", "[{\"name\": \"add\"}, 1]", ""},
        {"{\"name\": \"add\", \"name\": \"add\"}", "{\"name\": \"add\", \"name\": \"add\"}", ""},
        {"{\"name\": \"add\", ", "{\"name\": \"add\", ", ""},
        {"[]", "[]", ""},
        {"[see] <tool_call>{\"name\": \"add\"}</tool_call>", "[see]", "add({})\n"},
    };
    struct tool_choice choice = choice_of("{}");
    assert_int_equal(choice.mode, TOOL_AUTO);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t step = 1; step <= strlen(cases[i].answer); step++) {
            const struct heard heard = listen(&choice, cases[i].answer, step);
            assert_string_equal(heard.text, cases[i].text);
            assert_string_equal(heard.calls, cases[i].calls);
        }
    tool_choice_free(&choice);
}

static void test_text_is_not_held_back_longer_than_it_must(void **state)
{
    struct tool_choice choice = choice_of("{}");
    struct tool_calls calls;
    struct tool_news news;
    tool_calls_open(&calls, &choice);
    assert_true(tool_calls_feed(&calls, "a b <too", 8, false, &news));
    assert_int_equal(news.n_bytes, 3);
    assert_true(tool_calls_feed(&calls, "l", 1, false, &news));
    assert_int_equal(news.n_bytes, 0);
    assert_true(tool_calls_feed(&calls, " kit> c", 7, false, &news));
    assert_int_equal(news.n_bytes, strlen(" <tool kit> c"));
    tool_calls_close(&calls);
    tool_choice_free(&choice);
}

static void test_one_call_is_one_where_only_one_may_be(void **state)
{
    struct tool_choice choice = choice_of("{\"parallel_tool_calls\": false}");
    const struct heard heard = listen(&choice, "[{\"name\": \"add\"}, {\"name\": \"look\"}]", 5);
    assert_string_equal(heard.calls, "add({})\n");
    assert_string_equal(heard.text, "");
    tool_choice_free(&choice);
}

static void test_a_named_functions_arguments_flow(void **state)
{
    struct tool_choice choice =
        choice_of("{\"tool_choice\": {\"type\": \"function\", \"function\": {\"name\": \"add\"}}}");
    assert_int_equal(choice.mode, TOOL_NAMED);
    for (size_t step = 1; step < 20; step++) {
        const struct heard heard = listen(&choice, "{\"a\": [1, 2]}", step);
        assert_string_equal(heard.calls, "add({\"a\": [1, 2]})\n");
        assert_string_equal(heard.text, "");
    }
    assert_string_equal(listen(&choice, "", 1).calls,
                        "add()\n"); /* an answer that ended before it began */
    struct tool_calls calls;
    struct tool_news news;
    tool_calls_open(&calls, &choice);
    assert_true(tool_calls_feed(&calls, "{", 1, false, &news));
    json_t *json = tool_calls_json(&calls, &news, true);
    const json_t *call = json_array_get(json, 0);
    assert_int_equal(json_integer_value(json_object_get(call, "index")), 0);
    assert_string_equal(json_string_value(json_object_get(call, "id")), calls.list[0].id);
    assert_string_equal(json_string_value(json_object_get(call, "type")), "function");
    json_decref(json);
    assert_true(tool_calls_feed(&calls, "}", 1, false, &news));
    json = tool_calls_json(&calls, &news, true);
    call = json_array_get(json, 0);
    assert_int_equal(json_object_size(call), 2); /* index and function: the rest has been told */
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(call, "function"), "arguments")), "}");
    json_decref(json);
    assert_true(tool_calls_feed(&calls, "", 0, true, &news));
    assert_int_equal(news.end, news.first); /* nothing new */
    tool_calls_close(&calls);
    tool_choice_free(&choice);
}

static void test_a_call_that_is_required_has_a_schema(void **state)
{
    char *text;
    struct tool_choice choice = choose(
        "{\"tool_choice\": \"required\", \"parallel_tool_calls\": false, \"tools\": [{\"type\": "
        "\"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"properties\": {\"a\": "
        "{\"$ref\": \"#/$defs/A\"}, \"me\": {\"$ref\": \"#\"}, \"default\": {\"$ref\": \"#\"}, "
        "\"is\": {\"const\": {\"$ref\": \"#\"}}}, \"$defs\": {\"A\": {\"type\": "
        "\"null\"}}}}}]}",
        &text);
    json_t *schema = json_loads(text, 0, NULL);
    free(text);
    json_t *expected = json_loads(
        "{\"type\": \"array\", \"minItems\": 1, \"maxItems\": 1, \"items\": {\"anyOf\": "
        "[{\"type\": "
        "\"object\", \"properties\": {\"name\": {\"const\": \"f\"}, \"arguments\": {\"$ref\": "
        "\"#/$defs/0\"}}, \"required\": [\"name\", \"arguments\"], \"additionalProperties\": "
        "false}]}, \"$defs\": {\"0\": {\"properties\": {\"a\": {\"$ref\": \"#/$defs/0/$defs/A\"}, "
        "\"me\": {\"$ref\": \"#/$defs/0\"}, \"default\": {\"$ref\": \"#/$defs/0\"}, "
        "\"is\": {\"const\": {\"$ref\": \"#\"}}}, \"$defs\": {\"A\": {\"type\": \"null\"}}}}}",
        0, NULL);
    assert_true(json_equal(schema, expected));
    json_decref(schema);
    json_decref(expected);
    const struct heard heard =
        listen(&choice, "\n[ {\"name\" : \"f\", \"arguments\": {\"a\": null} } ]", 3);
    assert_string_equal(heard.calls, "f({\"a\": null})\n");
    tool_choice_free(&choice);
}

static void test_only_allowed_tools_may_be_called(void **state)
{
    struct tool_choice choice = choice_of(
        "{\"tool_choice\": {\"type\": \"allowed_tools\", \"allowed_tools\": {\"mode\": \"auto\", "
        "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"look\"}}]}}}");
    assert_int_equal(choice.mode, TOOL_AUTO);
    assert_string_equal(listen(&choice, "{\"name\": \"look\"}", 4).calls, "look({})\n");
    assert_string_equal(listen(&choice, "{\"name\": \"add\"}", 4).text, "{\"name\": \"add\"}");
    tool_choice_free(&choice);
    char *schema;
    choice = choose("{\"tool_choice\": {\"type\": \"allowed_tools\", \"allowed_tools\": {\"mode\": "
                    "\"required\", \"tools\": [{\"type\": \"function\", \"function\": {\"name\": "
                    "\"look\"}}]}}}",
                    &schema);
    assert_int_equal(choice.mode, TOOL_REQUIRED);
    assert_non_null(strstr(schema, "{\"const\":\"look\"}"));
    assert_null(strstr(schema, "{\"const\":\"add\"}"));
    free(schema);
    tool_choice_free(&choice);
}

static void test_bad_tools_are_named(void **state)
{
    static const struct {
        const char *body, *field;
    } bad[] = {
        {"{\"tools\": {}}", "tools"},
        {"{\"tools\": [{\"type\": \"code\"}]}", "tools[0].type"},
        {"{\"tools\": [1]}", "tools[0].type"},
        {"{\"tools\": [{\"type\": \"function\"}]}", "tools[0].function.name"},
        {"{\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"\"}}]}",
         "tools[0].function.name"},
        {"{\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": "
         "[]}}]}",
         "tools[0].function.parameters"},
        {"{\"tool_choice\": \"required\"}", "tool_choice"},
        {"{\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\"}}], "
         "\"tool_choice\": \"any\"}",
         "tool_choice"},
        {"{\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\"}}], "
         "\"tool_choice\": {\"type\": \"function\", \"function\": {\"name\": \"g\"}}}",
         "tool_choice"},
        {"{\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\"}}], "
         "\"tool_choice\": {\"allowed_tools\": {\"mode\": \"any\", \"tools\": []}}}",
         "tool_choice"},
        {"{\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\"}}], "
         "\"tool_choice\": {\"allowed_tools\": {\"mode\": \"auto\", \"tools\": []}}}",
         "tool_choice"},
        {"{\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\"}}], "
         "\"tool_choice\": {\"allowed_tools\": {\"mode\": \"auto\", \"tools\": [{\"type\": "
         "\"function\", \"function\": {\"name\": \"g\"}}]}}}",
         "tool_choice"},
        {"{\"parallel_tool_calls\": 1}", "parallel_tool_calls"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct tool_choice choice;
        struct api_error error;
        json_t *body = json_loads(bad[i].body, 0, NULL);
        assert_non_null(body);
        json_t *callable;
        assert_false(tool_choice_read(&choice, body, &callable, &error));
        json_decref(callable);
        assert_int_equal(error.http, 400);
        assert_string_equal(error.param, bad[i].field);
        tool_choice_free(&choice);
        json_decref(body);
    }
}

static void test_more_tools_than_anybody_has_are_refused(void **state)
{
    json_t *body = json_pack("{s:[]}", "tools"), *tools = json_object_get(body, "tools");
    for (int i = 0; i < 257; i++)
        json_array_append_new(
            tools, json_pack("{s:s, s:{s:s}}", "type", "function", "function", "name", "f"));
    struct tool_choice choice;
    struct api_error error;
    json_t *callable;
    assert_false(tool_choice_read(&choice, body, &callable, &error));
    json_decref(callable);
    assert_string_equal(error.param, "tools");
    json_array_remove(tools, 0);
    assert_true(tool_choice_read(&choice, body, &callable, &error));
    json_decref(callable);
    assert_int_equal(choice.n_names, 256);
    tool_choice_free(&choice);
    json_decref(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_are_found_however_the_text_is_cut),
        cmocka_unit_test(test_text_is_not_held_back_longer_than_it_must),
        cmocka_unit_test(test_one_call_is_one_where_only_one_may_be),
        cmocka_unit_test(test_a_named_functions_arguments_flow),
        cmocka_unit_test(test_a_call_that_is_required_has_a_schema),
        cmocka_unit_test(test_only_allowed_tools_may_be_called),
        cmocka_unit_test(test_bad_tools_are_named),
        cmocka_unit_test(test_more_tools_than_anybody_has_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
