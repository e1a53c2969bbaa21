/* constraint.c - how long it takes to say which tokens may come next.
 *
 * Answers to a schema are written with tokens drawn at random from each mask: a model that knows
 * JSON goes through fewer states. The first mask of a state walks the vocabulary, later ones are
 * copied. */
#include "coordinator/constraint/constraint.h"
#include "bench/measure/program.h"
#include "model/model_file.h"
#include "sys/clock.h"
#include "sys/random.h"
#include "sys/samples.h"

#include <stdlib.h>
#include <string.h>

static const struct table_column columns[] = {
    {.name = "schema", .width = 10},
    {.name = "vocabulary", .kind = TABLE_NUMBER},
    {.name = "tokens", .kind = TABLE_NUMBER},
    {.name = "compile_us", .kind = TABLE_NUMBER},
    {.name = "median_us", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "mean_us", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "p99_us", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = "max_us", .kind = TABLE_NUMBER, .decimals = 1},
    {.name = NULL}};

static const struct option_usage usage = {
    .command = "constraint",
    .words = "--vocab FILE",
    .about = "Times the mask of tokens that may come next, for some JSON schemas, with the "
             "vocabulary of a GGUF file: each answer is drawn at random, token by token. "
             "compile_us is what the schema takes once."};

static const struct {
    const char *name, *schema; /* NULL: any object */
} schemas[] = {
    {"object", NULL},
    {"person",
     "{\"type\": \"object\", \"properties\": {\"name\": {\"type\": \"string\"},"
     " \"age\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 150},"
     " \"tags\": {\"type\": \"array\", \"items\": {\"type\": \"string\", \"maxLength\": 40}},"
     " \"kind\": {\"enum\": [\"a\", \"b\", \"c\"]}}, \"required\": [\"name\", \"age\"],"
     " \"additionalProperties\": false}"},
    {"list", "{\"type\": \"array\", \"items\": {\"anyOf\": [{\"type\": \"number\"},"
             " {\"type\": \"string\", \"format\": \"date-time\"}, {\"$ref\": \"#\"}]}}"},
    {"pattern",
     "{\"type\": \"string\", \"pattern\": \"^[A-Z][a-z]{2,20}( [a-z]{1,12}){0,20}\\\\.$\"}"},
};

enum { MOST_TOKENS = 400, N_ANSWERS = 20 };

/* One answer; writes the time of each mask and returns their number. */
static size_t write_answer(struct constraint *c, const struct tokenizer *tokenizer,
                           struct random_state *random, uint32_t *bits, int32_t *allowed,
                           double *times)
{
    size_t n_times = 0;
    for (uint32_t left = MOST_TOKENS; left > 0; left--) {
        const uint64_t began_ns = clock_ns();
        if (!constraint_mask(c, left, bits))
            abort(); /* none of the schemas here is that ambiguous */
        times[n_times++] = 1e-3 * (double)(clock_ns() - began_ns);
        uint32_t n = 0;
        for (uint32_t id = 0; id < tokenizer_vocab(tokenizer); id++)
            if ((bits[id / 32] >> (id % 32)) & 1)
                allowed[n++] = (int32_t)id;
        const int32_t id = allowed[random_below(random, n)];
        constraint_accept(c, id);
        if (tokenizer_is_end_of_generation(tokenizer, id))
            break;
    }
    return n_times;
}

static enum status measure(struct program *program, const struct tokenizer *tokenizer,
                           const struct vocabulary *vocabulary, size_t which, struct error *error)
{
    const uint32_t n_tokens = tokenizer_vocab(tokenizer);
    double *times = calloc(MOST_TOKENS * N_ANSWERS, sizeof(*times));
    uint32_t *bits = calloc(n_tokens / 32 + 1, sizeof(*bits));
    int32_t *allowed = calloc(n_tokens, sizeof(*allowed));
    json_t *schema =
        schemas[which].schema != NULL ? json_loads(schemas[which].schema, 0, NULL) : NULL;
    enum status status = times != NULL && bits != NULL && allowed != NULL
                             ? STATUS_OK
                             : error_set(error, STATUS_NO_MEMORY, "no memory for masks");
    size_t n = 0;
    uint64_t compile_ns = 0;
    struct random_state random;
    random_seed(&random, 1);
    for (int i = 0; i < N_ANSWERS && status == STATUS_OK; i++) {
        struct constraint *c = NULL;
        const uint64_t began_ns = clock_ns();
        status = constraint_create(&c, schema, vocabulary, error);
        compile_ns += clock_ns() - began_ns;
        if (status == STATUS_OK)
            n += write_answer(c, tokenizer, &random, bits, allowed, times + n);
        constraint_destroy(c);
    }
    if (status == STATUS_OK) {
        double sum = 0;
        const struct samples sorted = samples_of(times, (uint32_t)n);
        for (size_t i = 0; i < n; i++)
            sum += times[i];
        table_text(program->table, schemas[which].name);
        table_number(program->table, n_tokens);
        table_number(program->table, (double)n);
        table_number(program->table, 1e-3 * (double)compile_ns / N_ANSWERS);
        table_number(program->table, sorted.median);
        table_number(program->table, sum / (double)n);
        table_number(program->table, times[n - 1 - n / 100]);
        table_number(program->table, sorted.max);
    }
    json_decref(schema);
    free(times);
    free(bits);
    free(allowed);
    return status;
}

int main(int argc, char **argv)
{
    const char *file = NULL;
    struct program program;
    struct error error = {.status = STATUS_OK};
    struct model_file *model = NULL;
    struct tokenizer *tokenizer = NULL;
    struct vocabulary *vocabulary = NULL;
    int exit_code;
    const struct option own[] = {{.name = "vocab",
                                  .kind = OPTION_TEXT,
                                  .value = &file,
                                  .argument = "FILE",
                                  .help = "a GGUF file with a tokenizer"},
                                 {.kind = 0}};
    if (!program_open(&program, &usage, own, columns, argc, argv, &exit_code))
        return exit_code;
    enum status status = file != NULL
                             ? model_open(&model, file, &error)
                             : error_set(&error, STATUS_INVALID, "--vocab FILE is missing");
    if (status == STATUS_OK)
        status = tokenizer_open(&tokenizer, model, &error);
    if (status == STATUS_OK)
        status = vocabulary_create(&vocabulary, tokenizer, &error);
    for (size_t i = 0; i < sizeof(schemas) / sizeof(schemas[0]) && status == STATUS_OK; i++)
        status = measure(&program, tokenizer, vocabulary, i, &error);
    vocabulary_destroy(vocabulary);
    tokenizer_close(tokenizer);
    model_close(model);
    return program_close(&program, status, &error);
}
