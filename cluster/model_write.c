/* model_write.c - subcommands of `longspan model` that write files: options, then a call, then the
 * exit code. */
#include "cluster/model_subcommand.h"

#include "cluster/make_haystack.h"
#include "cluster/make_random.h"
#include "cluster/make_retrieval.h"
#include "cluster/mixture.h"
#include "cluster/quantize.h"
#include "cluster/split_model.h"
#include "sys/clock.h"
#include "sys/parse.h"
#include "sys/size.h"
#include "sys/thread_pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- quantize -------------------------------------------------------------------------------- */

/* The caller frees it; NULL: no memory. */
static char *list_types(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    fputs("Types, with bits per weight of most matrices:\n", out);
    for (const struct mixture *m = mixtures; m->name != NULL; m++) {
        const struct gguf_type_traits *traits = gguf_type_traits(m->type);
        char bits[16] = "-"; /* "mixed": there is no most */
        if (m->file_type != MIXTURE_NO_FILE_TYPE)
            snprintf(bits, sizeof(bits), "%.2f",
                     8.0 * traits->block_bytes / traits->block_elements);
        fprintf(out, "  %-8s %5s   %s\n", m->name, bits, m->about);
    }
    fclose(out);
    return text;
}

int model_write_quantize(int argc, char **argv)
{
    struct model_subcommand command = {.n_words = 3,
                                       .question = "which model, to which file, in which type?"};
    bool allow_requantize = false, quiet = false;
    uint32_t n_threads = 0;
    int exit_code;
    char *types = list_types();
    const struct option_usage usage = {
        "longspan model quantize", "[OPTION...] IN OUT TYPE",
        "Writes the model IN, a GGUF file or a Hugging Face directory, to the GGUF file OUT with "
        "its matrices in TYPE. Norms are F32; tensors whose rows are no whole blocks of TYPE get "
        "a larger type that fits, and standard error says which. All keys are copied. OUT appears "
        "when it is complete.",
        .notes = types, .takes_files = true};
    const struct option table[] = {
        {.kind = OPTION_SECTION, .help = "Options"},
        {.name = "allow-requantize",
         .kind = OPTION_FLAG,
         .value = &allow_requantize,
         .help =
             "accept an IN that is quantized already (Q8_0, Q4_K ...): rounded weights are rounded "
             "again"},
        {.name = "threads",
         .kind = OPTION_U32,
         .value = &n_threads,
         .argument = "N",
         .fallback = "0",
         .most = 1024,
         .help = "threads; 0: one for each processor that this process may use"},
        {.name = "quiet",
         .letter = 'q',
         .kind = OPTION_FLAG,
         .value = &quiet,
         .help = "warnings and errors only"},
        MODEL_SUBCOMMAND_HELP(&command),
        {.kind = 0}};
    const bool begun = model_subcommand_begin(&command, &usage, table, argc, argv, &exit_code);
    free(types);
    if (!begun)
        return exit_code;
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
    return model_subcommand_end(&command, status);
}

/* ---- split ----------------------------------------------------------------------------------- */

int model_write_split(int argc, char **argv)
{
    struct model_subcommand command = {.n_words = 2,
                                       .question = "which model, to files of which prefix?"};
    struct split_model_options options = {.progress = isatty(2) ? stderr : NULL};
    int exit_code;
    const struct option_usage usage = {
        "longspan model split", "[--max-bytes SIZE] IN PREFIX",
        "Writes the model IN to several GGUF files, PREFIX-00001-of-00003.gguf and so on, each "
        "with some of its tensors. Any of them names the model, wherever a model is asked for; "
        "they have to lie in one folder.",
        .takes_files = true};
    const struct option table[] = {{.kind = OPTION_SECTION, .help = "Options"},
                                   {.name = "max-bytes",
                                    .kind = OPTION_BYTES,
                                    .value = &options.max_bytes,
                                    .argument = "SIZE",
                                    .fallback = "48GB",
                                    .least = 1,
                                    .help = "of tensors in a file; a tensor stays whole"},
                                   MODEL_SUBCOMMAND_HELP(&command),
                                   {.kind = 0}};
    if (!model_subcommand_begin(&command, &usage, table, argc, argv, &exit_code))
        return exit_code;
    size_t n_parts = 0;
    const enum status status =
        split_model(command.words[0], command.words[1], &options, &n_parts, &command.error);
    if (status == STATUS_OK)
        log_info(&command.log, "%s-*.gguf: %zu parts", command.words[1], n_parts);
    return model_subcommand_end(&command, status);
}

/* ---- make-... -------------------------------------------------------------------------------- */

int model_write_make_retrieval(int argc, char **argv)
{
    struct model_subcommand command = {0};
    uint32_t group = 1;
    int exit_code;
    const struct option_usage usage = {
        "longspan model make-retrieval", "[--group 1|2] FILE",
        "Writes a small model with constructed weights, always the same, that continues a text by "
        "exact look-up: it finds the place that agrees with the last 18 bytes and repeats what "
        "followed there. Its context is a million tokens (bytes). See docs/retrieval-model.md.",
        .takes_files = true};
    const struct option table[] = {{.kind = OPTION_SECTION, .help = "Options"},
                                   {.name = "group",
                                    .kind = OPTION_U32,
                                    .value = &group,
                                    .argument = "N",
                                    .fallback = "1",
                                    .least = 1,
                                    .most = 2,
                                    .help = "query heads that share a KV head, 1 or 2"},
                                   MODEL_SUBCOMMAND_HELP(&command),
                                   {.kind = 0}};
    if (!model_subcommand_begin(&command, &usage, table, argc, argv, &exit_code))
        return exit_code;
    return model_subcommand_end(&command, make_retrieval(command.file, group, &command.error));
}

int model_write_make_random(int argc, char **argv)
{
    struct model_subcommand command = {0};
    const char *shape_text = NULL, *type = NULL, *vocab = NULL;
    uint64_t seed = 0;
    bool tied = false;
    int exit_code;
    const struct option_usage usage = {
        "longspan model make-random", "[--shape SHAPE] [--type TYPE] [OPTION...] FILE",
        "Writes a model with seeded random weights, for tests and benchmarks. The same options "
        "give the same bytes.",
        .takes_files = true};
    const struct option table[] = {
        {.kind = OPTION_SECTION, .help = "Options"},
        {.name = "shape",
         .kind = OPTION_TEXT,
         .value = &shape_text,
         .argument = "SHAPE",
         .fallback = "tiny",
         .help =
             "a name (tiny: grouped queries; tiny-mha: multi-head; tiny-96: 5 layers, "
             "head_dim 96; bench-1b; bench-moe: experts; llama-8b), or keys, or both, as in "
             "tiny,layers=7,arch=qwen2. Keys: layers, hidden, heads, kv-heads, head-dim, ffn "
             "(of one expert where there are some), experts, experts-used, "
             "experts-softmax-of-all (1: their weights need not add up to 1), vocab, ctx, "
             "rope-base, arch (llama, qwen2, qwen3, qwen3moe, gemma2, gemma3, granite, phi3, "
             "glm4, smollm3), biases (1: where they are optional), window, window-period (every "
             "so many-th layer has none), rope-scaling (linear, llama3, yarn), rope-factor, "
             "rope-context (the one before scaling)"},
        {.name = "type",
         .kind = OPTION_TEXT,
         .value = &type,
         .argument = "TYPE",
         .fallback = "F32",
         .help =
             "type of the matrices, or a mixture, as in longspan model quantize --help; norms are "
             "always F32"},
        {.name = "seed",
         .kind = OPTION_U64,
         .value = &seed,
         .argument = "N",
         .fallback = "1",
         .help = "different seeds give different weights"},
        {.name = "vocab",
         .kind = OPTION_TEXT,
         .value = &vocab,
         .argument = "FILE",
         .help = "take the tokenizer of this GGUF file; without it, tokens are the 256 bytes, BOS, "
                 "EOS, "
                 "and unused ones up to the shape's vocab"},
        {.name = "tied",
         .kind = OPTION_FLAG,
         .value = &tied,
         .help = "use the embedding as the output matrix too"},
        MODEL_SUBCOMMAND_HELP(&command),
        {.kind = 0}};
    if (!model_subcommand_begin(&command, &usage, table, argc, argv, &exit_code))
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
    return model_subcommand_end(&command, status);
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

int model_write_make_haystack(int argc, char **argv)
{
    struct model_subcommand command = {0};
    struct make_haystack_options options = {0};
    struct option_item items[MAKE_HAYSTACK_MOST_NEEDLES + 1];
    struct option_list depths = {.items = items, .capacity = MAKE_HAYSTACK_MOST_NEEDLES + 1};
    int exit_code;
    const struct option_usage usage = {
        "longspan model make-haystack", "[OPTION...] FILE",
        "Writes a long text in which some sentences say a password, and which ends with the "
        "beginning of one of them. Prints the words that a model should continue with. Made for "
        "the model of make-retrieval, whose tokens are bytes.",
        .takes_files = true};
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
        MODEL_SUBCOMMAND_HELP(&command),
        {.kind = 0}};
    if (!model_subcommand_begin(&command, &usage, table, argc, argv, &exit_code))
        return exit_code;
    struct make_haystack_answer answer;
    options.question--;
    enum status status = read_depths(&options, &depths, &command.error);
    if (status == STATUS_OK)
        status = make_haystack(command.file, &options, &answer, &command.error);
    if (status == STATUS_OK)
        printf("%s\n", answer.answer);
    return model_subcommand_end(&command, status);
}
