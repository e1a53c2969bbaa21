/* model_show.c - subcommands of `longspan model` that print: options, then a call, then the exit
 * code. */
#include "cluster/model_subcommand.h"

#include "cluster/tokenize.h"
#include "model/chat/chat_templates.h"
#include "model/detokenizer.h"
#include "model/inspect.h"
#include "model/model_file.h"
#include "model/tokenizer.h"
#include "sys/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_TEXT_BYTES = 1 << 30 };

/* ---- inspect, tokenize, detokenize ----------------------------------------------------------- */

int model_show_inspect(int argc, char **argv)
{
    struct model_subcommand command = {0};
    bool json = false;
    int exit_code;
    const struct option_usage usage = {
        "longspan model inspect", "[--json] MODEL",
        "Shows what is in a GGUF file, in all parts of one that is split, or in a Hugging Face "
        "directory: whether it can be run, hyper-parameters, KV bytes per token, tokenizer, "
        "tensors and their sizes.",
        .takes_files = true};
    const struct option table[] = {{.kind = OPTION_SECTION, .help = "Options"},
                                   {.name = "json",
                                    .kind = OPTION_FLAG,
                                    .value = &json,
                                    .help = "one JSON object instead of text"},
                                   MODEL_SUBCOMMAND_HELP(&command),
                                   {.kind = 0}};
    if (!model_subcommand_begin(&command, &usage, table, argc, argv, &exit_code))
        return exit_code;
    struct model_file *file = NULL;
    enum status status = model_open(&file, command.file, &command.error);
    if (status == STATUS_OK)
        status = inspect_print(stdout, file, json, &command.error);
    model_close(file);
    return model_subcommand_end(&command, status);
}

typedef enum status tokenize_action(const struct tokenizer *tokenizer,
                                    const struct tokenize_options *options, struct error *error);

static int with_tokenizer(struct model_subcommand *command, tokenize_action *action,
                          const struct tokenize_options *options)
{
    struct model_file *file = NULL;
    struct tokenizer *tokenizer = NULL;
    struct stat info;
    enum status status;
    if (stat(command->file, &info) == 0 && S_ISDIR(info.st_mode)) { /* weights need not be there */
        status = tokenizer_open_directory(&tokenizer, command->file, &command->error);
    } else {
        status = model_open(&file, command->file, &command->error);
        if (status == STATUS_OK)
            status = tokenizer_open(&tokenizer, file, &command->error);
        model_close(file);
    }
    if (status == STATUS_OK)
        status = action(tokenizer, options, &command->error);
    tokenizer_close(tokenizer);
    return model_subcommand_end(command, status);
}

int model_show_tokenize(int argc, char **argv)
{
    struct model_subcommand command = {0};
    struct tokenize_options options = {0};
    bool no_special = false, plain = false;
    int exit_code;
    const struct option_usage usage = {
        "longspan model tokenize", "[OPTION...] MODEL < TEXT",
        "Reads text from standard input and prints its token ids by the vocabulary of a model: a "
        "GGUF file, which may hold a vocabulary alone, or a directory with a tokenizer.json.",
        .takes_files = true};
    const struct option table[] = {
        {.kind = OPTION_SECTION, .help = "Options"},
        {.name = "json",
         .kind = OPTION_FLAG,
         .value = &options.json,
         .help = "{\"ids\": [1, 2, 3]}"},
        {.name = "lines",
         .kind = OPTION_FLAG,
         .value = &options.lines,
         .help = "each line of the input is a JSON string; prints a JSON array of ids for each"},
        {.name = "no-special",
         .kind = OPTION_FLAG,
         .value = &no_special,
         .help = "add no BOS in front and no EOS behind"},
        {.name = "plain",
         .kind = OPTION_FLAG,
         .value = &plain,
         .help = "names of control tokens in the text are text"},
        MODEL_SUBCOMMAND_HELP(&command),
        {.kind = 0}};
    if (!model_subcommand_begin(&command, &usage, table, argc, argv, &exit_code))
        return exit_code;
    options.flags =
        (plain ? 0 : TOKENIZER_PARSE_SPECIAL) | (no_special ? 0 : TOKENIZER_ADD_SPECIAL);
    return with_tokenizer(&command, tokenize_input, &options);
}

int model_show_detokenize(int argc, char **argv)
{
    struct model_subcommand command = {0};
    struct tokenize_options options = {0};
    bool hide = false, goes_on = false;
    int exit_code;
    const struct option_usage usage = {
        "longspan model detokenize", "[OPTION...] MODEL < IDS",
        "Reads token ids from standard input and prints the text that they stand for.",
        .takes_files = true};
    const struct option table[] = {
        {.kind = OPTION_SECTION, .help = "Options"},
        {.name = "lines",
         .kind = OPTION_FLAG,
         .value = &options.lines,
         .help = "each line of the input is a JSON array of ids; prints a JSON string for each"},
        {.name = "hide-special",
         .kind = OPTION_FLAG,
         .value = &hide,
         .help = "control tokens give nothing instead of their names"},
        {.name = "goes-on",
         .kind = OPTION_FLAG,
         .value = &goes_on,
         .help = "the ids continue a text: a space that a tokenizer puts in front of texts stays"},
        MODEL_SUBCOMMAND_HELP(&command),
        {.kind = 0}};
    if (!model_subcommand_begin(&command, &usage, table, argc, argv, &exit_code))
        return exit_code;
    options.flags = (hide ? 0 : DETOKENIZER_SHOW_SPECIAL) | (goes_on ? 0 : DETOKENIZER_TEXT_START);
    return with_tokenizer(&command, detokenize_input, &options);
}

/* ---- chat-template --------------------------------------------------------------------------- */

/* Messages alone, or what a chat request has around them. */
static enum status render_chat(const struct chat_templates *templates, const char *messages_file,
                               struct error *error)
{
    char *json = NULL, *text = NULL;
    size_t n_bytes = 0;
    json_error_t why;
    enum status status = file_read(strcmp(messages_file, "-") == 0 ? NULL : messages_file,
                                   MOST_TEXT_BYTES, &json, &n_bytes, error);
    if (status != STATUS_OK)
        return status;
    json_t *body = json_loadb(json, n_bytes, JSON_REJECT_DUPLICATES, &why);
    free(json);
    if (body == NULL)
        return error_set(error, STATUS_INVALID, "%s, line %d: %s", messages_file, why.line,
                         why.text);
    const json_t *generate = json_object_get(body, "add_generation_prompt");
    status = chat_templates_render(
        templates, json_is_array(body) ? body : json_object_get(body, "messages"),
        json_object_get(body, "tools"), json_object_get(body, "chat_template_kwargs"),
        generate == NULL || json_is_true(generate), NULL, &text, &n_bytes, error);
    if (status == STATUS_OK)
        fwrite(text, 1, n_bytes, stdout);
    free(text);
    json_decref(body);
    return status;
}

static enum status show_chat_template(const char *path, const char *choice,
                                      const char *messages_file, struct error *error)
{
    struct model_file *file = NULL;
    struct tokenizer *tokenizer = NULL;
    struct chat_templates *templates = NULL;
    struct model_string source;
    enum status status = model_open(&file, path, error);
    if (status == STATUS_OK)
        status = tokenizer_open(&tokenizer, file, error);
    if (status == STATUS_OK)
        status = chat_templates_open(&templates, file, tokenizer, choice, error);
    if (status == STATUS_OK && messages_file != NULL)
        status = render_chat(templates, messages_file, error);
    else if (status == STATUS_OK && chat_templates_refusal(templates) != NULL)
        status = error_set(error, STATUS_UNSUPPORTED, "%s", chat_templates_refusal(templates));
    else if (status == STATUS_OK && choice == NULL &&
             model_get_string(file, "tokenizer.chat_template", &source, NULL) == STATUS_OK)
        fwrite(source.data, 1, source.n_bytes, stdout);
    chat_templates_close(templates);
    tokenizer_close(tokenizer);
    model_close(file);
    return status;
}

/* The caller frees it; NULL: no memory. */
static char *list_templates(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    fputs("Templates of our own:\n", out);
    for (const struct chat_template_name *n = chat_template_names; n->name != NULL; n++)
        fprintf(out, "  %-8s %s\n", n->name, n->about);
    fclose(out);
    return text;
}

int model_show_chat_template(int argc, char **argv)
{
    struct model_subcommand command = {0};
    const char *choice = NULL, *messages_file = NULL;
    int exit_code;
    char *templates = list_templates();
    const struct option_usage usage = {
        "longspan model chat-template", "[OPTION...] FILE",
        "Shows the chat template of a model, or with --messages the text that it makes of a "
        "chat. Exit code 2: the model has none, or one with constructs that we do not have.",
        .notes = templates, .takes_files = true};
    const struct option table[] = {
        {.kind = OPTION_SECTION, .help = "Options"},
        {.name = "messages",
         .kind = OPTION_TEXT,
         .value = &messages_file,
         .argument = "FILE",
         .help = "a file with the messages, or with an object that has messages, tools, "
                 "chat_template_kwargs, add_generation_prompt (true when absent); - is standard "
                 "input"},
        {.name = "chat-template",
         .kind = OPTION_TEXT,
         .value = &choice,
         .argument = "NAME|FILE",
         .help = "this template instead of the model's: one of those below, or a file"},
        MODEL_SUBCOMMAND_HELP(&command),
        {.kind = 0}};
    const bool begun = model_subcommand_begin(&command, &usage, table, argc, argv, &exit_code);
    free(templates);
    if (!begun)
        return exit_code;
    return model_subcommand_end(
        &command, show_chat_template(command.file, choice, messages_file, &command.error));
}
