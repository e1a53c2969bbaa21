/* model_command.c - one function per subcommand: options, then a call, then the exit code. */
#include "cluster/model_command.h"

#include "cluster/make_haystack.h"
#include "cluster/make_random.h"
#include "cluster/make_retrieval.h"
#include "cluster/mixture.h"
#include "cluster/quantize.h"
#include "cluster/split_model.h"
#include "cluster/tokenize.h"
#include "model/chat/chat_templates.h"
#include "model/detokenizer.h"
#include "model/inspect.h"
#include "model/model_file.h"
#include "model/tokenizer.h"
#include "sys/clock.h"
#include "sys/file.h"
#include "sys/log.h"
#include "sys/options.h"
#include "sys/parse.h"
#include "sys/size.h"
#include "sys/thread_pool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_TEXT_BYTES = 1 << 30 };

/* Every subcommand works on one file, which is its only word, or has `n_words` of them. */
struct command {
    struct log log;
    struct error error;
    uint32_t n_words;     /* 0: one */
    const char *question; /* asked when there are others than n_words */
    const char *words[3];
    const char *file; /* the first word */
    bool help;
};

#define OPTION_HELP(command)                                                                       \
    {                                                                                              \
        .name = "help", .letter = 'h', .kind = OPTION_FLAG, .value = &(command)->help,             \
        .help = "this text"                                                                        \
    }

/* Reads options and words. False: done (help was printed, or an error, *exit_code says). */
static bool begin(struct command *command, const struct option_usage *usage,
                  const struct option *table, int argc, char **argv, int *exit_code)
{
    log_open(&command->log, usage->command, 0);
    struct option_item *items = calloc((size_t)argc + 1, sizeof(*items));
    struct option_list words = {.items = items, .capacity = (uint32_t)argc};
    enum status status = items == NULL
                             ? error_set(&command->error, STATUS_NO_MEMORY, "no memory for options")
                             : options_parse(table, argc, argv, &words, &command->error);
    const uint32_t n_words = command->n_words > 0 ? command->n_words : 1;
    if (status == STATUS_OK && !command->help && words.n != n_words)
        status = error_set(&command->error, STATUS_INVALID, "%s: %s %s",
                           n_words > 1    ? command->question
                           : words.n == 0 ? "which file?"
                                          : "one file at a time",
                           usage->command, usage->words);
    for (uint32_t i = 0; status == STATUS_OK && i < words.n && i < n_words; i++)
        command->words[i] = words.items[i].text;
    command->file = command->words[0];
    free(items);
    *exit_code = status_exit_code(status);
    if (status != STATUS_OK)
        log_error(&command->log, "%s", command->error.text);
    else if (command->help)
        options_print_help(stdout, usage, table);
    return status == STATUS_OK && !command->help;
}

static int end(struct command *command, enum status status)
{
    if (status == STATUS_OK && fflush(stdout) != 0)
        status = error_set(&command->error, STATUS_IO, "standard output could not be written");
    if (status != STATUS_OK)
        log_error(&command->log, "%s", command->error.text);
    return status_exit_code(status);
}

/* ---- inspect, tokenize, detokenize ----------------------------------------------------------------------- */

static int inspect_main(int argc, char **argv)
{
    struct command command = {0};
    bool json = false;
    int exit_code;
    const struct option_usage usage = {
        "longspan model inspect", "[--json] MODEL",
        "Shows what is in a GGUF file, in all parts of one that is split, or in a Hugging Face "
        "directory: whether it can be run, hyper-parameters, KV bytes per token, tokenizer, "
        "tensors "
        "and their sizes."};
    const struct option table[] = {{.kind = OPTION_SECTION, .help = "Options"},
                                   {.name = "json",
                                    .kind = OPTION_FLAG,
                                    .value = &json,
                                    .help = "one JSON object instead of text"},
                                   OPTION_HELP(&command),
                                   {.kind = 0}};
    if (!begin(&command, &usage, table, argc, argv, &exit_code))
        return exit_code;
    struct model_file *file = NULL;
    enum status status = model_open(&file, command.file, &command.error);
    if (status == STATUS_OK)
        status = inspect_print(stdout, file, json, &command.error);
    model_close(file);
    return end(&command, status);
}

typedef enum status tokenize_action(const struct tokenizer *tokenizer,
                                    const struct tokenize_options *options, struct error *error);

static int with_tokenizer(struct command *command, tokenize_action *action,
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
    return end(command, status);
}

static int tokenize_main(int argc, char **argv)
{
    struct command command = {0};
    struct tokenize_options options = {0};
    bool no_special = false, plain = false;
    int exit_code;
    const struct option_usage usage = {
        "longspan model tokenize", "[OPTION...] MODEL < TEXT",
        "Reads text from standard input and prints its token ids by the vocabulary of a model: a "
        "GGUF file, which may hold a vocabulary alone, or a directory with a tokenizer.json."};
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
        OPTION_HELP(&command),
        {.kind = 0}};
    if (!begin(&command, &usage, table, argc, argv, &exit_code))
        return exit_code;
    options.flags =
        (plain ? 0 : TOKENIZER_PARSE_SPECIAL) | (no_special ? 0 : TOKENIZER_ADD_SPECIAL);
    return with_tokenizer(&command, tokenize_input, &options);
}

static int detokenize_main(int argc, char **argv)
{
    struct command command = {0};
    struct tokenize_options options = {0};
    bool hide = false, goes_on = false;
    int exit_code;
    const struct option_usage usage = {
        "longspan model detokenize", "[OPTION...] MODEL < IDS",
        "Reads token ids from standard input and prints the text that they stand for."};
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
        OPTION_HELP(&command),
        {.kind = 0}};
    if (!begin(&command, &usage, table, argc, argv, &exit_code))
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
        generate == NULL || json_is_true(generate), &text, &n_bytes, error);
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

static int chat_template_main(int argc, char **argv)
{
    struct command command = {0};
    const char *choice = NULL, *messages_file = NULL;
    int exit_code;
    const struct option_usage usage = {
        "longspan model chat-template", "[OPTION...] FILE",
        "Shows the chat template of a model, or with --messages the text that it makes of a "
        "chat. Exit code 2: the model has none, or one with constructs that we do not have."};
    const struct option table[] = {
        {.kind = OPTION_SECTION, .help = "Options"},
        {.name = "messages",
         .kind = OPTION_TEXT,
         .value = &messages_file,
         .argument = "JSON",
         .help = "a file with the messages, or with an object that has messages, tools, "
                 "chat_template_kwargs, add_generation_prompt (true when absent); - is standard "
                 "input"},
        {.name = "chat-template",
         .kind = OPTION_TEXT,
         .value = &choice,
         .argument = "NAME|FILE",
         .help = "this template instead of the model's: one of those below, or a file"},
        OPTION_HELP(&command),
        {.kind = 0}};
    if (begin(&command, &usage, table, argc, argv, &exit_code))
        return end(&command,
                   show_chat_template(command.file, choice, messages_file, &command.error));
    if (command.help && exit_code == EXIT_SUCCESS) {
        fputs("\nTemplates of our own:\n", stdout);
        for (const struct chat_template_name *n = chat_template_names; n->name != NULL; n++)
            printf("  %-8s %s\n", n->name, n->about);
    }
    return exit_code;
}

/* ---- quantize -------------------------------------------------------------------------------- */

static void print_types(FILE *out)
{
    fputs("\nTypes, with bits per weight of most matrices:\n", out);
    for (const struct mixture *m = mixtures; m->name != NULL; m++) {
        const struct gguf_type_traits *traits = gguf_type_traits(m->type);
        char bits[16] = "-"; /* "mixed": there is no most */
        if (m->file_type != MIXTURE_NO_FILE_TYPE)
            snprintf(bits, sizeof(bits), "%.2f",
                     8.0 * traits->block_bytes / traits->block_elements);
        fprintf(out, "  %-8s %5s   %s\n", m->name, bits, m->about);
    }
}

static int quantize_main(int argc, char **argv)
{
    struct command command = {.n_words = 3,
                              .question = "which model, to which file, in which type?"};
    bool allow_requantize = false, quiet = false;
    uint32_t n_threads = 0;
    int exit_code;
    const struct option_usage usage = {
        "longspan model quantize", "[OPTION...] IN OUT TYPE",
        "Writes the model IN, a GGUF file or a Hugging Face directory, to the GGUF file OUT with "
        "its matrices in TYPE. Norms are F32; "
        "tensors whose rows are no whole blocks of TYPE get a larger type that fits, and standard "
        "error says which. All keys are copied. OUT appears when it is complete."};
    const struct option table[] = {
        {.kind = OPTION_SECTION, .help = "Options"},
        {.name = "allow-requantize",
         .kind = OPTION_FLAG,
         .value = &allow_requantize,
         .help = "IN may hold blocks already (Q8_0, Q4_K ...); what was rounded is rounded again"},
        {.name = "threads",
         .kind = OPTION_U32,
         .value = &n_threads,
         .argument = "N",
         .fallback = "0",
         .most = 1024,
         .help = "0: as many as this process may use processors"},
        {.name = "quiet",
         .letter = 'q',
         .kind = OPTION_FLAG,
         .value = &quiet,
         .help = "warnings and errors only"},
        OPTION_HELP(&command),
        {.kind = 0}};
    if (!begin(&command, &usage, table, argc, argv, &exit_code)) {
        if (command.help && exit_code == EXIT_SUCCESS)
            print_types(stdout);
        return exit_code;
    }
    log_open(&command.log, usage.command, quiet ? -1 : 0);
    struct quantize_options options = {.allow_requantize = allow_requantize,
                                       .log = &command.log,
                                       .progress = isatty(2) && !quiet ? stderr : NULL};
    struct quantize_result result;
    const uint64_t began_us = clock_us();
    enum status status = mixture_find(&options.mixture, command.words[2], &command.error);
    if (status == STATUS_OK)
        status = thread_pool_create(&options.pool, n_threads, &command.error);
    if (status == STATUS_OK)
        status =
            quantize_model(command.words[0], command.words[1], &options, &result, &command.error);
    thread_pool_destroy(options.pool);
    if (status == STATUS_OK) {
        char before[SIZE_TEXT_BYTES], after[SIZE_TEXT_BYTES];
        log_info(&command.log, "%s: %s of weights (%.2f bits each), from %s (%.2f), in %.1f s",
                 command.words[1], size_format(result.bytes, after),
                 8.0 * (double)result.bytes / (double)result.n_weights,
                 size_format(result.source_bytes, before),
                 8.0 * (double)result.source_bytes / (double)result.n_weights,
                 1e-6 * (double)(clock_us() - began_us));
    }
    return end(&command, status);
}

/* ---- split ----------------------------------------------------------------------------------- */

static int split_main(int argc, char **argv)
{
    struct command command = {.n_words = 2, .question = "which model, to files of which prefix?"};
    struct split_model_options options = {.progress = isatty(2) ? stderr : NULL};
    int exit_code;
    const struct option_usage usage = {
        "longspan model split", "[--max-bytes SIZE] IN PREFIX",
        "Writes the model IN to several GGUF files, PREFIX-00001-of-00003.gguf and so on, each "
        "with "
        "some of its tensors. Any of them names the model, wherever a model is asked for; they "
        "have to lie in one folder."};
    const struct option table[] = {{.kind = OPTION_SECTION, .help = "Options"},
                                   {.name = "max-bytes",
                                    .kind = OPTION_BYTES,
                                    .value = &options.max_bytes,
                                    .argument = "SIZE",
                                    .fallback = "48GB",
                                    .least = 1,
                                    .help = "of tensors in a file; a tensor stays whole"},
                                   OPTION_HELP(&command),
                                   {.kind = 0}};
    if (!begin(&command, &usage, table, argc, argv, &exit_code))
        return exit_code;
    size_t n_parts = 0;
    const enum status status =
        split_model(command.words[0], command.words[1], &options, &n_parts, &command.error);
    if (status == STATUS_OK)
        log_info(&command.log, "%s-*.gguf: %zu parts", command.words[1], n_parts);
    return end(&command, status);
}

/* ---- make-... -------------------------------------------------------------------------------- */

static int make_retrieval_main(int argc, char **argv)
{
    struct command command = {0};
    uint32_t group = 1;
    int exit_code;
    const struct option_usage usage = {
        "longspan model make-retrieval", "[--group 1|2] FILE",
        "Writes a small model with constructed weights, always the same, that continues a text by "
        "exact look-up: it finds the place that agrees with the last 18 bytes and repeats what "
        "followed there. Its context is a million tokens (bytes). See docs/retrieval-model.md."};
    const struct option table[] = {{.kind = OPTION_SECTION, .help = "Options"},
                                   {.name = "group",
                                    .kind = OPTION_U32,
                                    .value = &group,
                                    .argument = "N",
                                    .fallback = "1",
                                    .least = 1,
                                    .most = 2,
                                    .help = "query heads that share a KV head, 1 or 2"},
                                   OPTION_HELP(&command),
                                   {.kind = 0}};
    if (!begin(&command, &usage, table, argc, argv, &exit_code))
        return exit_code;
    return end(&command, make_retrieval(command.file, group, &command.error));
}

static int make_random_main(int argc, char **argv)
{
    struct command command = {0};
    const char *shape_text = NULL, *type = NULL, *vocab = NULL;
    uint64_t seed = 0;
    bool tied = false;
    int exit_code;
    const struct option_usage usage = {
        "longspan model make-random", "[--shape SHAPE] [--type TYPE] [OPTION...] FILE",
        "Writes a model with seeded random weights, for tests and benchmarks. The same options "
        "give the same bytes."};
    const struct option table[] = {
        {.kind = OPTION_SECTION, .help = "Options"},
        {.name = "shape",
         .kind = OPTION_TEXT,
         .value = &shape_text,
         .argument = "SHAPE",
         .fallback = "tiny",
         .help = "a name (tiny: grouped queries; tiny-mha: multi-head; tiny-96: 5 layers, head_dim "
                 "96; bench-1b; bench-moe: experts; llama-8b), or keys, or both, as in "
                 "tiny,layers=7,arch=qwen2. Keys: "
                 "layers, hidden, heads, kv-heads, head-dim, ffn (of one expert where there are "
                 "some), experts, experts-used, experts-softmax-of-all (1: their weights need not "
                 "add up to 1), vocab, ctx, rope-base, arch "
                 "(llama, qwen2, qwen3, qwen3moe, gemma2, gemma3), biases (1: where they are "
                 "optional), window, "
                 "window-period (every so many-th layer has none), rope-scaling (linear, llama3, "
                 "yarn), rope-factor, rope-context (the one before scaling)"},
        {.name = "type",
         .kind = OPTION_TEXT,
         .value = &type,
         .argument = "TYPE",
         .fallback = "F32",
         .help = "of matrices, or a mixture of types, as in longspan model quantize --help; norms "
                 "are always F32"},
        {.name = "seed",
         .kind = OPTION_U64,
         .value = &seed,
         .argument = "N",
         .fallback = "1",
         .help = "another seed, other weights"},
        {.name = "vocab",
         .kind = OPTION_TEXT,
         .value = &vocab,
         .argument = "FILE",
         .help = "takes the tokenizer of this GGUF file; without it tokens are the 256 bytes, BOS, "
                 "EOS, and unused ones up to the shape's vocab"},
        {.name = "tied",
         .kind = OPTION_FLAG,
         .value = &tied,
         .help = "the embedding is also the output matrix"},
        OPTION_HELP(&command),
        {.kind = 0}};
    if (!begin(&command, &usage, table, argc, argv, &exit_code))
        return exit_code;

    struct make_random_shape shape;
    struct model_file *tokenizer = NULL;
    enum status status = make_random_shape(&shape, shape_text, &command.error);
    if (status == STATUS_OK && vocab != NULL)
        status = model_open(&tokenizer, vocab, &command.error);
    struct make_random_options options = {.shape = &shape,
                                          .seed = seed,
                                          .tied = tied,
                                          .tokenizer = tokenizer,
                                          .log = &command.log,
                                          .progress = isatty(2) ? stderr : NULL};
    if (status == STATUS_OK)
        status = mixture_find(&options.mixture, type, &command.error);
    if (status == STATUS_OK)
        status = make_random(command.file, &options, &command.error);
    model_close(tokenizer);
    return end(&command, status);
}

static enum status read_depths(struct make_haystack_options *options,
                               const struct option_list *depths, struct error *error)
{
    if (depths->n > MAKE_HAYSTACK_MOST_NEEDLES)
        return error_set(error, STATUS_INVALID, "%u needles are too many: %d at most", depths->n,
                         MAKE_HAYSTACK_MOST_NEEDLES);
    options->n_needles = depths->n == 0 ? 1 : depths->n;
    options->depths[0] = 37;
    enum status status = STATUS_OK;
    for (uint32_t i = 0; status == STATUS_OK && i < depths->n; i++)
        status = parse_u32("--depth", depths->items[i].text, 0, 99, &options->depths[i], error);
    return status;
}

static int make_haystack_main(int argc, char **argv)
{
    struct command command = {0};
    struct make_haystack_options options = {0};
    struct option_item items[MAKE_HAYSTACK_MOST_NEEDLES + 1];
    struct option_list depths = {.items = items, .capacity = MAKE_HAYSTACK_MOST_NEEDLES + 1};
    int exit_code;
    const struct option_usage usage = {
        "longspan model make-haystack", "[OPTION...] FILE",
        "Writes a long text in which some sentences say a password, and which ends with the "
        "beginning of one of them. Prints the words that a model should continue with. Made for "
        "the model of make-retrieval, whose tokens are bytes."};
    const struct option table[] = {
        {.kind = OPTION_SECTION, .help = "Options"},
        {.name = "tokens",
         .kind = OPTION_U64,
         .value = &options.n_tokens,
         .argument = "N",
         .fallback = "100000",
         .help = "the prompt's length, with BOS"},
        {.name = "seed",
         .kind = OPTION_U64,
         .value = &options.seed,
         .argument = "N",
         .fallback = "1",
         .help = "another seed, another text and other words"},
        {.name = "depth",
         .kind = OPTION_LIST,
         .value = &depths,
         .argument = "PERCENT",
         .help = "a needle, with that much of the text before it; 37 when none is given"},
        {.name = "question",
         .kind = OPTION_U32,
         .value = &options.question,
         .argument = "N",
         .fallback = "1",
         .least = 1,
         .most = MAKE_HAYSTACK_MOST_NEEDLES,
         .help = "which needle the end asks for, counted in the order of --depth; all else in the "
                 "text stays the same"},
        OPTION_HELP(&command),
        {.kind = 0}};
    if (!begin(&command, &usage, table, argc, argv, &exit_code))
        return exit_code;
    struct make_haystack_answer answer;
    options.question--;
    enum status status = read_depths(&options, &depths, &command.error);
    if (status == STATUS_OK)
        status = make_haystack(command.file, &options, &answer, &command.error);
    if (status == STATUS_OK)
        printf("%s\n", answer.answer);
    return end(&command, status);
}

/* ---- which one ------------------------------------------------------------------------------- */

static const struct {
    const char *name, *about;
    int (*main)(int argc, char **argv);
} subcommands[] = {
    {"inspect", "show what is in a model", inspect_main},
    {"tokenize", "print the token ids of a text", tokenize_main},
    {"detokenize", "print the text of token ids", detokenize_main},
    {"chat-template", "show a model's chat template, or what it makes of messages",
     chat_template_main},
    {"quantize", "write a model in another weight type", quantize_main},
    {"split", "write a model to several smaller files", split_main},
    {"make-retrieval", "write a model that answers by look-up", make_retrieval_main},
    {"make-random", "write a model with random weights", make_random_main},
    {"make-haystack", "write a long text with a question for make-retrieval's model",
     make_haystack_main},
};

enum { N_SUBCOMMANDS = sizeof(subcommands) / sizeof(subcommands[0]) };

static void print_help(FILE *out)
{
    fputs("usage: longspan model COMMAND [OPTION...] FILE\n\nCommands:\n", out);
    for (uint32_t i = 0; i < N_SUBCOMMANDS; i++)
        fprintf(out, "  %-16s%s\n", subcommands[i].name, subcommands[i].about);
    fputs("\nlongspan model COMMAND --help says more.\n", out);
}

int model_command_main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--help";
    for (uint32_t i = 0; i < N_SUBCOMMANDS; i++)
        if (strcmp(name, subcommands[i].name) == 0)
            return subcommands[i].main(argc - 1, argv + 1);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(argc > 1 ? stdout : stderr);
        return argc > 1 ? EXIT_SUCCESS : status_exit_code(STATUS_INVALID);
    }
    const char *names[N_SUBCOMMANDS + 1] = {NULL};
    for (uint32_t i = 0; i < N_SUBCOMMANDS; i++)
        names[i] = subcommands[i].name;
    const char *nearest = options_nearest(names, name);
    struct log log;
    log_open(&log, "longspan model", 0);
    log_error(&log, "there is no command '%s'%s%s%s; longspan model --help lists them", name,
              nearest == NULL ? "" : ", did you mean '", nearest == NULL ? "" : nearest,
              nearest == NULL ? "" : "'?");
    return status_exit_code(STATUS_INVALID);
}
