/* chat_options.c - one table; sampling is that of `longspan run`. */
#include "cluster/chat_options.h"

#include "proto/shared_options.h"

#include <stdio.h>
#include <string.h>

/* The table points into `o`. */
static void fill_table(struct option table[PLACE_OPTIONS_TABLE], struct chat_options *o)
{
    const struct option conversation[] = {
        {.kind = OPTION_SECTION, .help = "Model and conversation"},
        place_options_model(&o->run.place),
        {.name = "system",
         .letter = 's',
         .kind = OPTION_TEXT,
         .value = &o->system,
         .argument = "TEXT",
         .help = "tell the model before anything else how to behave"},
        {.name = "file",
         .letter = 'f',
         .kind = OPTION_LIST,
         .value = &o->run.prompts,
         .argument = "FILE",
         .help = "put the text of a file before the first message"},
        {.name = "count",
         .letter = 'n',
         .kind = OPTION_U32,
         .value = &o->run.n_predict,
         .argument = "N",
         .fallback = "0",
         .most = PLACE_OPTIONS_MOST_TOKENS,
         .help = "most tokens of an answer; 0: until it or the context ends"},
        place_options_ctx(&o->run.place),
        {.name = "chat-template",
         .kind = OPTION_TEXT,
         .value = &o->chat_template,
         .argument = "NAME|FILE",
         .help = "instead of the one in the model file; longspan model chat-template --help lists "
                 "names"},
        {.kind = 0}};
    static const struct option output[] = {{.kind = OPTION_SECTION, .help = "Output"}, {.kind = 0}};
    static const struct place_options_texts texts = {
        .only_starts = true,
        .quiet = "no progress, and no times after an answer, on standard error",
        .verbose = "show the log of the started programs; twice: all of it"};
    struct option own[PLACE_OPTIONS_TABLE];
    struct option_table own_table = {.entries = own, .capacity = PLACE_OPTIONS_TABLE};
    option_table_add(&own_table, conversation);
    run_options_add_sampling(&own_table, &o->run, "0.7");
    option_table_add(&own_table, output);
    place_options_table(table, own, &o->run.place, &texts);
}

static enum status check(struct chat_options *o, struct error *error)
{
    if (o->run.place.coordinator != NULL)
        return error_set(error, STATUS_INVALID,
                         "chat starts a cluster; one that runs has a chat on its page, where its "
                         "coordinator was started with --http HOST:PORT");
    for (uint32_t i = 0; i < o->run.prompts.n; i++)
        if (strcmp(o->run.prompts.items[i].text, "-") == 0)
            return error_set(error, STATUS_INVALID, "-f -: standard input has the messages");
    return place_options_check(&o->run.place, error);
}

enum status chat_options_read(struct chat_options *options, int argc, char **argv,
                              struct error *error)
{
    struct option table[PLACE_OPTIONS_TABLE];
    *options = (struct chat_options){0};
    enum status status = option_list_create(&options->run.prompts, argc, error);
    fill_table(table, options);
    if (status == STATUS_OK)
        status = options_parse(table, argc, argv, NULL, error);
    if (status == STATUS_OK && !options->run.place.help)
        status = check(options, error);
    if (status != STATUS_OK)
        chat_options_free(options);
    return status;
}

void chat_options_free(struct chat_options *options)
{
    run_options_free(&options->run);
    *options = (struct chat_options){0};
}

void chat_options_print_help(enum options_form form)
{
    struct chat_options options = {0};
    struct option table[PLACE_OPTIONS_TABLE];
    const struct option_usage usage = {
        "longspan chat",
        "-m MODEL [OPTION...]",
        "Talks with a model: each line of standard input is a message, and its answer goes to "
        "standard output. Starts what is needed on this machine, or the cluster of a file, and "
        "ends it. What was read before stays in the KV cache and is not read again; nor is an "
        "earlier answer, where the chat template repeats it as it was generated (some leave out "
        "what a model thought).",
        .notes =
            "What to type: a message. A line that ends with \\ goes on in the next one. /clear "
            "begins a new conversation. In a terminal Ctrl-C stops an answer, and otherwise ends "
            "the program, as Ctrl-D does. A terminal keeps 4095 bytes of a line and drops the "
            "rest, and each line of a text that is pasted is a message: for more use -f, a pipe, "
            "or \\ at the end of lines.\n",
        .examples =
            "  longspan chat -m model.gguf\n"
            "  longspan chat -m model.gguf --system \"Answer in one sentence.\" -f report.txt\n"
            "  echo \"Who was Ada Lovelace?\" | longspan chat -q -m Qwen3-8B/ --temp 0\n",
        .exit_codes = place_options_exit_codes,
        .environment = shared_options_environment};
    fill_table(table, &options);
    options_print_help(stdout, form, &usage, table);
}
