/* expression.c - compiles with JIT where machine code may be made, and bounds every search.
 *
 * PCRE2 must be told that the text is valid UTF-8 (PCRE2_NO_UTF_CHECK), or each call would check
 * the whole text again: quadratic. Machine code keeps what it must come back to on a stack of its
 * own; a search that needs more than there is runs again in the interpreter, whose memory is the
 * heap. Both count their steps: the limit is far above what any tokenizer's expression needs. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/tokenizer/expression.h"

#include "model/tokenizer/expression_syntax.h"

#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATTERN_BYTES ((size_t)64 << 10)
#define STACK_BYTES       ((size_t)1 << 20)
#define HEAP_KIB          (256u << 10)
#define FREE_STEPS        1000000u /* before the text counts */
#define STEPS_PER_BYTE    64u

struct expression {
    pcre2_code *code;
};

struct expression_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static enum status compile(struct expression **expression, const char *pattern, const char *shown,
                           struct error *error)
{
    struct expression *e = calloc(1, sizeof(*e));
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    int code = 0;
    PCRE2_SIZE at = 0;
    if (e == NULL || context == NULL) {
        free(e);
        pcre2_compile_context_free(context);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a regular expression");
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    e->code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C |
                                PCRE2_NO_AUTO_CAPTURE,
                            &code, &at, context);
    pcre2_compile_context_free(context);
    if (e->code == NULL) {
        PCRE2_UCHAR why[128] = "";
        pcre2_get_error_message(code, why, sizeof(why));
        free(e);
        return error_set(error, STATUS_INVALID,
                         "the regular expression '%.200s': %s (PCRE2 %d.%02d)", shown,
                         (const char *)why, PCRE2_MAJOR, PCRE2_MINOR);
    }
    /* Where machine code may not be made, PCRE2 interprets: slower, same matches. */
    (void)pcre2_jit_compile(e->code, PCRE2_JIT_COMPLETE);
    *expression = e;
    return STATUS_OK;
}

enum status expression_create(struct expression **expression, const char *pattern,
                              struct error *error)
{
    if (strlen(pattern) > MAX_PATTERN_BYTES)
        return error_set(error, STATUS_INVALID, "a regular expression of %zu bytes; at most %zu",
                         strlen(pattern), MAX_PATTERN_BYTES);
    char *translated = NULL;
    enum status status = expression_syntax_translate(&translated, pattern, error);
    if (status == STATUS_OK)
        status = compile(expression, translated, pattern, error);
    free(translated);
    return status;
}

enum status expression_create_literal(struct expression **expression, const char *text,
                                      struct error *error)
{
    const size_t n = strlen(text);
    if (n > MAX_PATTERN_BYTES)
        return error_set(error, STATUS_INVALID, "a separator of %zu bytes; at most %zu", n,
                         MAX_PATTERN_BYTES);
    char *escaped = malloc(2 * n + 1), *out = escaped;
    if (escaped == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a regular expression");
    for (size_t i = 0; i < n; i++) {
        if (strchr("\\^$.[]|()?*+{}-#", text[i]) != NULL)
            *out++ = '\\';
        *out++ = text[i];
    }
    *out = '\0';
    const enum status status = compile(expression, escaped, text, error);
    free(escaped);
    return status;
}

void expression_destroy(struct expression *expression)
{
    if (expression == NULL)
        return;
    pcre2_code_free(expression->code);
    free(expression);
}

enum status expression_scratch_create(struct expression_scratch **scratch, struct error *error)
{
    struct expression_scratch *s = calloc(1, sizeof(*s));
    if (s == NULL || (s->match = pcre2_match_data_create(1, NULL)) == NULL ||
        (s->context = pcre2_match_context_create(NULL)) == NULL) {
        expression_scratch_destroy(s);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a regular expression");
    }
    s->stack = pcre2_jit_stack_create((size_t)32 << 10, STACK_BYTES, NULL);
    if (s->stack != NULL) /* NULL: this PCRE2 has no JIT */
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
    pcre2_set_heap_limit(s->context, HEAP_KIB);
    pcre2_set_depth_limit(s->context, UINT32_MAX); /* the heap's limit is the one that counts */
    *scratch = s;
    return STATUS_OK;
}

void expression_scratch_destroy(struct expression_scratch *scratch)
{
    if (scratch == NULL)
        return;
    pcre2_match_data_free(scratch->match);
    pcre2_match_context_free(scratch->context);
    if (scratch->stack != NULL)
        pcre2_jit_stack_free(scratch->stack);
    free(scratch);
}

enum status expression_find(const struct expression *expression, struct expression_scratch *scratch,
                            const char *text, size_t n_bytes, size_t from, size_t *begin,
                            size_t *end, struct error *error)
{
    const uint64_t steps = FREE_STEPS + STEPS_PER_BYTE * (uint64_t)(n_bytes - from);
    pcre2_set_match_limit(scratch->context, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    int code = pcre2_match(expression->code, (PCRE2_SPTR)text, n_bytes, from, PCRE2_NO_UTF_CHECK,
                           scratch->match, scratch->context);
    if (code == PCRE2_ERROR_JIT_STACKLIMIT)
        code = pcre2_match(expression->code, (PCRE2_SPTR)text, n_bytes, from,
                           PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scratch->match, scratch->context);
    if (code == PCRE2_ERROR_NOMATCH)
        return STATUS_NOT_FOUND;
    if (code < 0)
        return error_set(error, STATUS_FAILED,
                         "a regular expression of the tokenizer gives up at byte %zu of %zu "
                         "(PCRE2 code %d)",
                         from, n_bytes, code);
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(scratch->match);
    *begin = span[0];
    *end = span[1];
    return STATUS_OK;
}
