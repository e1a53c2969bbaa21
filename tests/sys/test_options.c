/* test_options.c - every way of writing an option, every way of getting it wrong. */
#include "sys/options.h"

#include "tests/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct settings {
    const char *model, *kv_type;
    uint32_t threads, verbosity;
    uint64_t seed, memory;
    float temperature;
    bool json, given;
    struct option_item items[4];
    struct option_list prompts, words;
    struct option_item word_items[2];
};

static const char *const kv_types[] = {"f16", "f32", NULL};

/* The table of the tests; `table` has room for it. */
static void describe(struct settings *s, struct option table[13])
{
    const struct option filled[] = {
        {.kind = OPTION_SECTION, .help = "Model"},
        {.name = "model",
         .letter = 'm',
         .kind = OPTION_TEXT,
         .value = &s->model,
         .argument = "FILE",
         .help = "the GGUF file to run"},
        {.name = "kv-type",
         .kind = OPTION_CHOICE,
         .value = &s->kv_type,
         .choices = kv_types,
         .fallback = "f16",
         .help = "how keys and values are kept"},
        {.name = "prompt",
         .letter = 'p',
         .kind = OPTION_LIST,
         .value = &s->prompts,
         .argument = "TEXT",
         .help = "a prompt"},
        {.name = "file",
         .letter = 'f',
         .kind = OPTION_LIST,
         .value = &s->prompts,
         .argument = "FILE",
         .help = "a file with a prompt"},
        {.kind = OPTION_SECTION, .help = "Machine"},
        {.name = "threads",
         .letter = 't',
         .kind = OPTION_U32,
         .value = &s->threads,
         .given = &s->given,
         .argument = "N",
         .least = 1,
         .most = 1024,
         .help = "lanes of each process, which is a long text that must be wrapped because a "
                 "terminal has a hundred columns only"},
        {.name = "seed",
         .kind = OPTION_U64,
         .value = &s->seed,
         .argument = "N",
         .fallback = "1",
         .help = "of the sampler"},
        {.name = "memory",
         .kind = OPTION_BYTES,
         .value = &s->memory,
         .argument = "SIZE",
         .least = 1 << 20,
         .help = "for pages"},
        {.name = "temp",
         .kind = OPTION_F32,
         .value = &s->temperature,
         .argument = "T",
         .fallback = "0.8",
         .least_f32 = 0,
         .most_f32 = 100,
         .help = "temperature"},
        {.name = "verbose",
         .letter = 'v',
         .kind = OPTION_COUNT,
         .value = &s->verbosity,
         .help = "say more"},
        {.name = "json", .letter = 'j', .kind = OPTION_FLAG, .value = &s->json, .help = "JSON"},
        {.kind = 0}};
    memcpy(table, filled, sizeof(filled));
}

static enum status parse(struct settings *s, struct error *error, int n_words,
                         const char *const *given)
{
    struct option table[13];
    char *argv[16] = {NULL};
    *s = (struct settings){0};
    s->prompts = (struct option_list){.items = s->items, .capacity = 4};
    s->words = (struct option_list){.items = s->word_items, .capacity = 2};
    describe(s, table);
    for (int i = 0; i < n_words; i++)
        argv[i + 1] = (char *)(uintptr_t)given[i];
    return options_parse(table, n_words + 1, argv, &s->words, error);
}

#define PARSE(s, error, ...)                                                                       \
    parse(s, error, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)),                 \
          (const char *[]){__VA_ARGS__})

static void test_every_way_of_writing(void **state)
{
    struct settings s;
    assert_int_equal(PARSE(&s, NULL, "--model", "a.gguf", "--seed=7", "-t4", "-vvj", "--memory",
                           "64GiB", "--temp", "0", "--kv-type=f32", "word"),
                     STATUS_OK);
    assert_string_equal(s.model, "a.gguf");
    assert_true(s.seed == 7 && s.memory == UINT64_C(64) << 30);
    assert_true(s.threads == 4 && s.given && s.verbosity == 2 && s.json);
    assert_true(s.temperature == 0);
    assert_ptr_equal(s.kv_type, kv_types[1]);
    assert_int_equal(s.words.n, 1);
    assert_string_equal(s.words.items[0].text, "word");

    assert_int_equal(PARSE(&s, NULL, "-vm", "b", "-m", "c", "--", "--json", "-"), STATUS_OK);
    assert_string_equal(s.model, "c"); /* the last one counts */
    assert_int_equal(s.words.n, 2);
    assert_string_equal(s.words.items[0].text, "--json");
    assert_false(s.json);
}

static void test_fallbacks(void **state)
{
    struct settings s;
    assert_int_equal(PARSE(&s, NULL, "-v"), STATUS_OK);
    assert_null(s.model);
    assert_string_equal(s.kv_type, "f16");
    assert_true(s.seed == 1 && s.temperature == 0.8f && !s.given && s.threads == 0);
}

static void test_lists_keep_the_order_of_the_command_line(void **state)
{
    struct settings s;
    struct error error;
    assert_int_equal(PARSE(&s, NULL, "-p", "one", "--file", "two", "--prompt=three", "-p", ""),
                     STATUS_OK);
    assert_int_equal(s.prompts.n, 4);
    assert_string_equal(s.items[0].text, "one");
    assert_string_equal(s.items[1].name, "file");
    assert_string_equal(s.items[1].text, "two");
    assert_string_equal(s.items[2].name, "prompt");
    assert_string_equal(s.items[3].text, "");
    assert_int_equal(PARSE(&s, &error, "-p1", "-p2", "-p3", "-p4", "-p5"), STATUS_INVALID);
    assert_non_null(strstr(error.text, "--prompt"));
    assert_int_equal(PARSE(&s, &error, "a", "b", "c"), STATUS_INVALID);
}

static void test_a_list_has_room_for_a_whole_command_line(void **state)
{
    char *argv[] = {"run", "-pone", "-ptwo", "-pthree"};
    enum { ARGC = sizeof(argv) / sizeof(argv[0]) };
    struct option_list prompts;
    assert_int_equal(option_list_create(&prompts, ARGC, NULL), STATUS_OK);
    const struct option table[] = {
        {.name = "prompt", .letter = 'p', .kind = OPTION_LIST, .value = &prompts}, {.kind = 0}};
    assert_int_equal(options_parse(table, ARGC, argv, NULL, NULL), STATUS_OK);
    assert_int_equal(prompts.n, ARGC - 1);
    assert_string_equal(prompts.items[2].text, "three");
    option_list_destroy(&prompts);
    option_list_destroy(&prompts); /* again is fine: it is zeroed */
}

static void test_values_may_begin_with_a_dash(void **state)
{
    struct settings s;
    struct error error;
    assert_int_equal(PARSE(&s, NULL, "-p", "--- a title", "-p", "-", "-p", "-5", "-p", "--nothing"),
                     STATUS_OK);
    assert_string_equal(s.items[0].text, "--- a title");
    assert_string_equal(s.items[3].text, "--nothing");
    /* but an option of the table is no value: the value was forgotten */
    assert_int_equal(PARSE(&s, &error, "--model", "--temp", "0"), STATUS_INVALID);
    assert_string_equal(error.text,
                        "--model needs a value: --model FILE (--temp is an option itself)");
    assert_int_equal(PARSE(&s, &error, "--model=--temp"), STATUS_OK);
    assert_string_equal(s.model, "--temp");
}

static void test_mistakes_are_named(void **state)
{
    struct settings s;
    static const struct {
        const char *word, *next, *text;
    } cases[] = {
        {"--modle", "x", "there is no option --modle; did you mean --model? (--help lists all)"},
        {"--mem=1G", NULL, "there is no option --mem=1G; did you mean --memory?"},
        {"--threads-batch", "2", "there is no option --threads-batch; did you mean --threads?"},
        {"--temperature", "1", "there is no option --temperature; did you mean --temp?"},
        {"--frobnicate", NULL, "there is no option --frobnicate (--help lists all)"},
        {"-x", NULL, "there is no option -x (--help lists all)"},
        {"-jx", NULL, "there is no option -jx (--help lists all)"},
        {"--json=yes", NULL, "--json takes no value, \"yes\" is given"},
        {"--model", NULL, "--model needs a value: --model FILE"},
        {"-m", NULL, "--model needs a value: --model FILE"},
        {"--threads", "0", "--threads is \"0\": give a whole number from 1 to 1024"},
        {"--threads", "4294967297", "--threads is \"4294967297\""},
        {"--temp", "hot", "--temp is \"hot\": give a number from 0 to 100"},
        {"--temp", "-1", "--temp is \"-1\""},
        {"--memory", "lots", "--memory is \"lots\""},
        {"--memory", "1k", "--memory is \"1k\": give from 1.00 MiB to 16.0 EiB"},
        {"--kv-type", "f64", "--kv-type is \"f64\": give one of f16, f32"},
        {"--=", NULL, "there is no option --="},
        {"--model-and-a-name-that-is-longer-than-every-buffer-of-the-program", NULL,
         "there is no option --model-and"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct error error = {0};
        const char *words[] = {cases[i].word, cases[i].next};
        assert_int_equal(parse(&s, &error, cases[i].next == NULL ? 1 : 2, words), STATUS_INVALID);
        if (strncmp(error.text, cases[i].text, strlen(cases[i].text)) != 0)
            fail_msg("%s: %s", cases[i].word, error.text);
    }
}

static void test_words_may_be_refused(void **state)
{
    struct settings s = {0};
    struct option table[13];
    struct error error;
    char program[] = "program", word[] = "word";
    char *argv[] = {program, word, NULL};
    describe(&s, table);
    assert_int_equal(options_parse(table, 2, argv, NULL, &error), STATUS_INVALID);
    assert_string_equal(error.text, "\"word\" is no option (--help lists all)");
    table[1].is_main = true;
    assert_int_equal(options_parse(table, 2, argv, NULL, &error), STATUS_INVALID);
    assert_string_equal(error.text,
                        "\"word\" is no option; did you mean --model word? (--help lists all)");
    s.model = "given";
    assert_int_equal(options_parse(table, 2, argv, NULL, &error), STATUS_INVALID);
    assert_string_equal(error.text, "\"word\" is no option (--help lists all)");
}

static void test_help_lists_everything_in_100_columns(void **state)
{
    struct settings s = {0};
    struct option table[13];
    char *text = NULL;
    size_t size = 0;
    describe(&s, table);
    FILE *out = open_memstream(&text, &size);
    const struct option_usage usage = {
        .command = "longspan run", .words = "[OPTION...]", .about = "Runs a model."};
    options_print_help(out, OPTIONS_TEXT, &usage, table);
    fclose(out);
    static const char *const parts[] = {
        "usage: longspan run [OPTION...]\nRuns a model.\n",
        "\nModel:\n  -m, --model FILE            the GGUF file to run\n",
        "      --kv-type f16|f32       how keys and values are kept (default: f16)\n",
        "  -p, --prompt TEXT           a prompt (may be repeated)\n",
        "\nMachine:\n",
        "wrapped\n                              because a terminal",
        "  -v, --verbose               say more\n",
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (strstr(text, parts[i]) == NULL)
            fail_msg("not in the help: %s\n%s", parts[i], text);
    for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 100);
    free(text);
}

static char *printed(enum options_form form)
{
    static const char *const environment[] = {"TMPDIR", "where files go", NULL};
    enum options_form help;
    struct settings s = {0};
    const struct option commands[] = {
        {.kind = OPTION_COMMAND, .name = "probe", .help = "it's [one] more"},
        {.kind = OPTION_WORD, .name = "help", .help = "this"},
        {.kind = 0}};
    const struct option last[] = {options_help(&help),
                                  {.name = "store",
                                   .kind = OPTION_TEXT,
                                   .argument = "DIR",
                                   .help = "a \\ and 'quotes' [in brackets]"},
                                  {.name = "device",
                                   .kind = OPTION_TEXT,
                                   .argument = "cpu|cuda[:N]",
                                   .help = ".begins with a dot"},
                                  {.name = "hidden", .kind = OPTION_FLAG},
                                  {.kind = 0}};
    struct option filled[13], entries[20];
    struct option_table table = {.entries = entries, .capacity = 20};
    const struct option_usage usage = {.command = "longspan run",
                                       .words = "[OPTION...]",
                                       .about = "Runs a model: really. More.",
                                       .notes = "A note.\n  left-as it is\n",
                                       .examples = "  longspan run --json '~/^`'\n",
                                       .environment = environment,
                                       .takes_files = true};
    char *text = NULL;
    size_t size = 0;
    describe(&s, filled);
    option_table_add(&table, commands);
    option_table_add(&table, filled);
    option_table_add(&table, last);
    FILE *out = open_memstream(&text, &size);
    options_print_help(out, form, &usage, entries);
    fclose(out);
    return text;
}

static void check_parts(enum options_form form, const char *const *parts)
{
    char *text = printed(form);
    for (; *parts != NULL; parts++)
        if (strstr(text, *parts) == NULL)
            fail_msg("not there: %s\n%s", *parts, text);
    assert_null(strstr(text, "hidden"));
    free(text);
}

static void test_a_manual_page_says_what_the_help_says(void **state)
{
    static const char *const parts[] = {
        ".TH LONGSPAN\\-RUN 1 20",
        ".SH NAME\nlongspan\\-run \\- Runs a model\n",
        ".SH SYNOPSIS\n.B longspan run\n[OPTION...]\n",
        ".SH DESCRIPTION\nRuns a model: really. More.\n",
        ".TP\n\\fBprobe\\fR\nit\\(aqs [one] more\n.TP\n\\fBhelp\\fR\n",
        ".SS Machine\n",
        ".TP\n\\fB\\-p\\fR, \\fB\\-\\-prompt\\fR \\fITEXT\\fR\na prompt (may be repeated)\n",
        "\\fB\\-\\-kv\\-type\\fR \\fIf16|f32\\fR\nhow keys and values are kept (default: f16)\n",
        "a \\e and \\(aqquotes\\(aq",
        "\n\\&.begins",
        ".SH NOTES\nA note.\n.nf\n  left\\-as it is\n.fi\n",
        ".SH EXIT STATUS\n0 success; 2 ",
        ".SH ENVIRONMENT\n.TP\n.B TMPDIR\nwhere files go\n",
        ".SH EXAMPLES\n.nf\n  longspan run \\-\\-json \\(aq\\(ti/\\(ha\\(ga\\(aq\n.fi\n",
        ".SH SEE ALSO\n.BR longspan (1) ,\n.BR longspan\\-run\\-probe (1)\n",
        NULL};
    check_parts(OPTIONS_MAN, parts);
}

static void test_shells_are_told_what_options_take(void **state)
{
    static const char *const bash[] = {"    'longspan run')\n        files='FILE'\n",
                                       "commands='probe help'\n        options='--model --kv-type ",
                                       "\n        -m | --model) value=FILE ;;\n",
                                       "\n        --kv-type) value='f16 f32' ;;\n",
                                       "\n        -p | --prompt) value=ANY ;;\n",
                                       "\n        --store) value=DIR ;;\n",
                                       "\n        --device) value='cpu cuda' ;;\n",
                                       NULL};
    static const char *const zsh[] = {
        "\n_longspan_run() {\n",
        "'(-m --model)'{-m+,--model=}'[the GGUF file to run]:FILE:_files'",
        "'*'{-p+,--prompt=}'[a prompt]:TEXT: '",
        "--kv-type='[how keys and values are kept]:kv-type:(f16 f32)'",
        "[a \\\\ and '\\''quotes'\\'' \\[in brackets\\]]:DIR:_files -/'",
        "--device='[.begins with a dot]:cpu|cuda[\\:N]:(cpu cuda)'",
        "'*'{-v,--verbose}'[say more]'",
        "'probe:it'\\''s [one] more'",
        NULL};
    static const char *const fish[] = {
        "set -ga __longspan_commands 'longspan run'\n",
        "complete -c longspan -n '__longspan_at longspan run' -a probe -d 'it\\'s [one] more'\n",
        " -s m -l model -r -F -d 'the GGUF file to run'\n",
        " -l kv-type -x -a 'f16 f32' -d ",
        " -s p -l prompt -x -d 'a prompt'\n",
        " -l store -x -a '(__fish_complete_directories)' -d 'a \\\\ and \\'quotes\\'",
        " -s v -l verbose -d 'say more'\n",
        "'__longspan_at longspan run' -F\n",
        NULL};
    check_parts(OPTIONS_BASH, bash);
    check_parts(OPTIONS_ZSH, zsh);
    check_parts(OPTIONS_FISH, fish);
    char *commands = printed(OPTIONS_COMMANDS);
    assert_string_equal(commands, "probe\n");
    free(commands);
}

static void test_forms_of_the_help_have_names(void **state)
{
    static const struct {
        const char *word;
        enum options_form form; /* OPTIONS_NO_HELP: refused */
    } cases[] = {{"-h", OPTIONS_TEXT},         {"--help", OPTIONS_TEXT},
                 {"--help=man", OPTIONS_MAN},  {"--help=fish", OPTIONS_FISH},
                 {"--help=", OPTIONS_NO_HELP}, {"--help=html", OPTIONS_NO_HELP}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum options_form help = OPTIONS_NO_HELP;
        struct error error = {0};
        char program[] = "program", word[32];
        char *argv[] = {program, word, NULL};
        const struct option table[] = {options_help(&help), {.kind = 0}};
        snprintf(word, sizeof(word), "%s", cases[i].word);
        const enum status status = options_parse(table, 2, argv, NULL, &error);
        assert_int_equal(status, cases[i].form == OPTIONS_NO_HELP ? STATUS_INVALID : STATUS_OK);
        assert_int_equal(help, cases[i].form);
    }
}

static void test_a_table_of_parts_leaves_what_is_otherwise_alone(void **state)
{
    uint32_t chunk = 7;
    bool json = false;
    const struct option first[] = {{.name = "chunk",
                                    .kind = OPTION_U32,
                                    .value = &chunk,
                                    .argument = "N",
                                    .otherwise = "as it was",
                                    .help = "tokens"},
                                   {.kind = 0}};
    const struct option second[] = {{.name = "json", .kind = OPTION_FLAG, .value = &json},
                                    {.kind = 0}};
    struct option entries[3]; /* both, and the end */
    struct option_table table = {.entries = entries, .capacity = 3};
    option_table_add(&table, first);
    assert_int_equal(entries[1].kind, 0); /* complete after each part */
    option_table_add(&table, second);
    assert_int_equal(table.n, 2);
    assert_int_equal(entries[2].kind, 0);

    char program[] = "program", word[] = "--json", *argv[] = {program, word, NULL};
    assert_int_equal(options_parse(entries, 2, argv, NULL, NULL), STATUS_OK);
    assert_true(json && chunk == 7);

    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    const struct option_usage usage = {.command = "program", .words = ""};
    options_print_help(out, OPTIONS_TEXT, &usage, entries);
    fclose(out);
    assert_non_null(strstr(text, "--chunk N               tokens (default: as it was)\n"));
    free(text);
}

static void test_nearest_name(void **state)
{
    static const char *const names[] = {"run", "serve", "keygen", "model", NULL};
    assert_string_equal(options_nearest(names, "sevre"), "serve");
    assert_string_equal(options_nearest(names, "key"), "keygen");
    assert_string_equal(options_nearest(names, "rum"), "run");
    static const char *const longer[] = {"a", "kv", "kv-store", "kv-type", NULL};
    assert_string_equal(options_nearest(longer, "kv-store-of-this-host"), "kv-store");
    assert_null(options_nearest(longer, "another"));
    assert_null(options_nearest(names, "dance"));
    assert_null(options_nearest(names, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_way_of_writing),
        cmocka_unit_test(test_fallbacks),
        cmocka_unit_test(test_lists_keep_the_order_of_the_command_line),
        cmocka_unit_test(test_a_list_has_room_for_a_whole_command_line),
        cmocka_unit_test(test_values_may_begin_with_a_dash),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_words_may_be_refused),
        cmocka_unit_test(test_help_lists_everything_in_100_columns),
        cmocka_unit_test(test_a_manual_page_says_what_the_help_says),
        cmocka_unit_test(test_shells_are_told_what_options_take),
        cmocka_unit_test(test_forms_of_the_help_have_names),
        cmocka_unit_test(test_a_table_of_parts_leaves_what_is_otherwise_alone),
        cmocka_unit_test(test_nearest_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
