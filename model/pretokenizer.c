/* pretokenizer.c - the expressions of GPT-2 and Llama 3, written with \p{White_Space} where the
 * originals say \s: PCRE2's own \s includes U+180E, which Unicode has not counted as a space since
 * version 6.3.
 *
 * Expressions are anchored, so that a search costs nothing where a match fails, and end in
 * alternatives that take any character. PCRE2 must be told that the text is valid UTF-8
 * (PCRE2_NO_UTF_CHECK), or each call would check the whole text again: quadratic. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretokenizer.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#define SPACE     "\\p{White_Space}"
#define NOT_SPACE "\\P{White_Space}"

/* Radford et al. 2019: encoder.py of the gpt-2 release. */
#define GPT2                                                                                       \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+"                      \
    "|" SPACE "+(?!" NOT_SPACE ")|" SPACE "+"

/* The Llama 3 release: tokenizer.py. */
#define LLAMA3                                                                                     \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"                       \
    "| ?[^" SPACE "\\p{L}\\p{N}]+[\\r\\n]*|" SPACE "*[\\r\\n]+"                                    \
    "|" SPACE "+(?!" NOT_SPACE ")|" SPACE "+"

static const struct rule {
    const char *name, *expression;
} rules[] = {
    {"gpt-2", GPT2},    {"gpt2", GPT2},       {"llama-bpe", LLAMA3},
    {"llama3", LLAMA3}, {"llama-v3", LLAMA3},
};

struct pretokenizer {
    pcre2_code *code;
};

struct pretokenizer_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

const char *pretokenizer_names(void)
{
    return "gpt-2, gpt2, llama-bpe, llama3, llama-v3";
}

enum status pretokenizer_create(struct pretokenizer **pretokenizer, const char *name,
                                struct error *error)
{
    const char *expression = NULL;
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (strcmp(rules[i].name, name) == 0)
            expression = rules[i].expression;
    if (expression == NULL)
        return error_set(error, STATUS_NOT_FOUND, "no pre-tokenizer '%s'; there are: %s", name,
                         pretokenizer_names());
    struct pretokenizer *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a pre-tokenizer");
    int code;
    PCRE2_SIZE at;
    p->code = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &at, NULL);
    if (p->code == NULL) {
        pretokenizer_destroy(p);
        return error_set(error, STATUS_FAILED,
                         "PCRE2 %d.%02d refuses the expression of '%s' at %zu (code %d); 10.40 or "
                         "later is needed",
                         PCRE2_MAJOR, PCRE2_MINOR, name, (size_t)at, code);
    }
    /* Where machine code may not be made, PCRE2 interprets: slower, same words. */
    (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
    *pretokenizer = p;
    return STATUS_OK;
}

void pretokenizer_destroy(struct pretokenizer *pretokenizer)
{
    if (pretokenizer == NULL)
        return;
    pcre2_code_free(pretokenizer->code);
    free(pretokenizer);
}

enum status pretokenizer_scratch_create(struct pretokenizer_scratch **scratch,
                                        const struct pretokenizer *pretokenizer,
                                        struct error *error)
{
    struct pretokenizer_scratch *s = calloc(1, sizeof(*s));
    if (s == NULL ||
        (s->match = pcre2_match_data_create_from_pattern(pretokenizer->code, NULL)) == NULL ||
        (s->context = pcre2_match_context_create(NULL)) == NULL) {
        pretokenizer_scratch_destroy(s);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a pre-tokenizer");
    }
    /* NULL (no JIT in this PCRE2) is fine */
    s->stack = pcre2_jit_stack_create((size_t)32 << 10, (size_t)8 << 20, NULL);
    if (s->stack != NULL)
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
    /* A run of n spaces is walked back once: limits above the largest text that is taken. */
    pcre2_set_match_limit(s->context, UINT32_MAX);
    *scratch = s;
    return STATUS_OK;
}

void pretokenizer_scratch_destroy(struct pretokenizer_scratch *scratch)
{
    if (scratch == NULL)
        return;
    pcre2_match_data_free(scratch->match);
    pcre2_match_context_free(scratch->context);
    if (scratch->stack != NULL)
        pcre2_jit_stack_free(scratch->stack);
    free(scratch);
}

enum status pretokenizer_next(const struct pretokenizer *pretokenizer,
                              struct pretokenizer_scratch *scratch, const char *text,
                              size_t n_bytes, size_t begin, size_t *end, struct error *error)
{
    const int code = pcre2_match(pretokenizer->code, (PCRE2_SPTR)text, n_bytes, begin,
                                 PCRE2_NO_UTF_CHECK, scratch->match, scratch->context);
    if (code < 0)
        return error_set(error, STATUS_FAILED,
                         "the regular expression of the pre-tokenizer stops at byte %zu of %zu "
                         "(PCRE2 code %d)",
                         begin, n_bytes, code);
    *end = pcre2_get_ovector_pointer(scratch->match)[1];
    return STATUS_OK;
}
