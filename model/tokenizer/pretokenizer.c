/* pretokenizer.c - a piece goes through all further steps as soon as one step has found it: the
 * steps are a recursion, as deep as there are steps, and no list of pieces is ever made.
 *
 * A splitting step sees its piece as segments, separators and what lies between them, and holds one
 * back: the behaviour only says whether the next segment joins it. */
#include "model/tokenizer/pretokenizer.h"

#include "model/tokenizer/byte_alphabet.h"
#include "model/utf8.h"
#include "sys/text_buffer.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_STEPS = 16 };

enum kind { SPLIT, PREFIX_SPACE, SHOW_BYTES, METASPACE, BEFORE_SPACES };

struct step {
    enum kind kind;
    struct expression *expression;
    enum pretokenizer_behavior behavior;
    bool inverted;
    char replacement[5];
    enum pretokenizer_prepend prepend;
};

struct pretokenizer {
    size_t n;
    struct step steps[MOST_STEPS];
};

struct pretokenizer_scratch {
    struct text_buffer buffers[MOST_STEPS]; /* a step's own, while the steps behind it run */
    struct expression_scratch *search;
};

/* What one call of pretokenizer_cut works with. */
struct cutting {
    const struct pretokenizer *pretokenizer;
    struct pretokenizer_scratch *scratch;
    struct pretokenizer_place place;
    pretokenizer_word *word;
    void *context;
    struct error *error;
};

struct segment {
    size_t begin, end;
    bool separator;
};

enum status pretokenizer_create(struct pretokenizer **pretokenizer, struct error *error)
{
    struct pretokenizer *p = calloc(1, sizeof(*p));
    if (p == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a pre-tokenizer");
    *pretokenizer = p;
    return STATUS_OK;
}

void pretokenizer_destroy(struct pretokenizer *pretokenizer)
{
    if (pretokenizer == NULL)
        return;
    for (size_t i = 0; i < pretokenizer->n; i++)
        expression_destroy(pretokenizer->steps[i].expression);
    free(pretokenizer);
}

/* ---- steps ---------------------------------------------------------------------------------- */

static enum status add(struct pretokenizer *pretokenizer, struct step step, struct error *error)
{
    if (pretokenizer->n == MOST_STEPS) {
        expression_destroy(step.expression);
        return error_set(error, STATUS_INVALID, "a pre-tokenizer of more than %d steps",
                         MOST_STEPS);
    }
    pretokenizer->steps[pretokenizer->n++] = step;
    return STATUS_OK;
}

enum status pretokenizer_add_split(struct pretokenizer *pretokenizer, struct expression *expression,
                                   enum pretokenizer_behavior behavior, bool inverted,
                                   struct error *error)
{
    return add(
        pretokenizer,
        (struct step){
            .kind = SPLIT, .expression = expression, .behavior = behavior, .inverted = inverted},
        error);
}

enum status pretokenizer_add_prefix_space(struct pretokenizer *pretokenizer, struct error *error)
{
    return add(pretokenizer, (struct step){.kind = PREFIX_SPACE}, error);
}

enum status pretokenizer_add_show_bytes(struct pretokenizer *pretokenizer, struct error *error)
{
    return add(pretokenizer, (struct step){.kind = SHOW_BYTES}, error);
}

enum status pretokenizer_add_metaspace(struct pretokenizer *pretokenizer, const char *replacement,
                                       enum pretokenizer_prepend prepend, struct error *error)
{
    struct step step = {.kind = METASPACE, .prepend = prepend};
    const size_t n = strlen(replacement);
    if (n == 0 || utf8_char_bytes(replacement, n) != n)
        return error_set(error, STATUS_INVALID,
                         "'%.16s' stands for a space, and is not one "
                         "character",
                         replacement);
    memcpy(step.replacement, replacement, n);
    return add(pretokenizer, step, error);
}

enum status pretokenizer_add_before_spaces(struct pretokenizer *pretokenizer, struct error *error)
{
    return add(pretokenizer, (struct step){.kind = BEFORE_SPACES}, error);
}

size_t pretokenizer_steps(const struct pretokenizer *pretokenizer)
{
    return pretokenizer->n;
}

bool pretokenizer_shows_bytes(const struct pretokenizer *pretokenizer)
{
    for (size_t i = 0; i < pretokenizer->n; i++)
        if (pretokenizer->steps[i].kind == SHOW_BYTES)
            return true;
    return false;
}

/* ---- cutting -------------------------------------------------------------------------------- */

enum status pretokenizer_scratch_create(struct pretokenizer_scratch **scratch, struct error *error)
{
    struct pretokenizer_scratch *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a pre-tokenizer");
    const enum status status = expression_scratch_create(&s->search, error);
    if (status != STATUS_OK) {
        pretokenizer_scratch_destroy(s);
        return status;
    }
    *scratch = s;
    return STATUS_OK;
}

void pretokenizer_scratch_destroy(struct pretokenizer_scratch *scratch)
{
    if (scratch == NULL)
        return;
    for (size_t i = 0; i < MOST_STEPS; i++)
        free(scratch->buffers[i].bytes);
    expression_scratch_destroy(scratch->search);
    free(scratch);
}

static enum status no_memory(const struct cutting *c, size_t n)
{
    return error_set(c->error, STATUS_NO_MEMORY, "no memory to cut %zu bytes in words", n);
}

static enum status cut(const struct cutting *c, size_t level, const char *piece, size_t n,
                       bool first);

static bool joins(const struct step *step, const struct segment *held, bool separator)
{
    switch (step->behavior) {
    case PRETOKENIZER_CONTIGUOUS:
        return held->separator == separator;
    case PRETOKENIZER_MERGED_WITH_PREVIOUS:
        return separator && !held->separator;
    case PRETOKENIZER_MERGED_WITH_NEXT:
        return !separator && held->separator;
    default:
        return false;
    }
}

/* The next segment of a piece; what was held goes on to the further steps, or grows. A join is
 * remembered as what came last: "the-" is a separator to the next. */
static enum status take_segment(const struct cutting *c, size_t level, const char *piece,
                                struct segment *held, struct segment next, bool first)
{
    const struct step *step = &c->pretokenizer->steps[level];
    if (next.begin == next.end)
        return STATUS_OK;
    next.separator = next.separator != step->inverted;
    if (held->end > held->begin && joins(step, held, next.separator)) {
        held->end = next.end;
        held->separator = next.separator;
        return STATUS_OK;
    }
    const struct segment done = *held;
    *held = next;
    if (done.end == done.begin || (done.separator && step->behavior == PRETOKENIZER_REMOVED))
        return STATUS_OK;
    return cut(c, level + 1, piece + done.begin, done.end - done.begin, first && done.begin == 0);
}

static enum status split(const struct cutting *c, size_t level, const char *piece, size_t n,
                         bool first)
{
    const struct step *step = &c->pretokenizer->steps[level];
    struct segment held = {0, 0, false};
    size_t done = 0, from = 0;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && from < n) {
        size_t begin, end;
        status = expression_find(step->expression, c->scratch->search, piece, n, from, &begin, &end,
                                 c->error);
        if (status != STATUS_OK)
            break;
        status = take_segment(c, level, piece, &held, (struct segment){done, begin, false}, first);
        if (status == STATUS_OK)
            status =
                take_segment(c, level, piece, &held, (struct segment){begin, end, true}, first);
        done = end;
        from = end;
        if (begin == end && end < n) /* an empty match cuts, and the search goes on behind it */
            from += utf8_char_bytes(piece + end, n - end);
    }
    if (status == STATUS_NOT_FOUND)
        status = STATUS_OK;
    if (status == STATUS_OK)
        status = take_segment(c, level, piece, &held, (struct segment){done, n, false}, first);
    if (status == STATUS_OK && held.end > held.begin &&
        !(held.separator && step->behavior == PRETOKENIZER_REMOVED))
        status =
            cut(c, level + 1, piece + held.begin, held.end - held.begin, first && held.begin == 0);
    return status;
}

static enum status prefix_space(const struct cutting *c, size_t level, const char *piece, size_t n,
                                bool first)
{
    struct text_buffer *buffer = &c->scratch->buffers[level];
    if (piece[0] == ' ' || (first && !c->place.begins_fragment))
        return cut(c, level + 1, piece, n, first);
    buffer->n = 0;
    if (!text_buffer_add(buffer, " ", 1) || !text_buffer_add(buffer, piece, n))
        return no_memory(c, n);
    return cut(c, level + 1, buffer->bytes, buffer->n, first);
}

static enum status show_bytes(const struct cutting *c, size_t level, const char *piece, size_t n,
                              bool first)
{
    struct text_buffer *buffer = &c->scratch->buffers[level];
    buffer->n = 0;
    if (!text_buffer_reserve(buffer, 2 * n))
        return no_memory(c, n);
    buffer->n = byte_alphabet_show(buffer->bytes, piece, n);
    return cut(c, level + 1, buffer->bytes, buffer->n, first);
}

static enum status metaspace(const struct cutting *c, size_t level, const char *piece, size_t n,
                             bool first)
{
    const struct step *step = &c->pretokenizer->steps[level];
    struct text_buffer *buffer = &c->scratch->buffers[level];
    const size_t n_replacement = strlen(step->replacement);
    const bool has_one = piece[0] == ' ' || (n >= n_replacement &&
                                             memcmp(piece, step->replacement, n_replacement) == 0);
    const bool prepends = step->prepend == PRETOKENIZER_ALWAYS ||
                          (step->prepend == PRETOKENIZER_FIRST && first && c->place.begins_text);
    bool ok = true;
    buffer->n = 0;
    if (prepends && !has_one && (!first || c->place.begins_fragment))
        ok = text_buffer_add(buffer, step->replacement, n_replacement);
    for (size_t at = 0; at < n && ok;) {
        const char *space = memchr(piece + at, ' ', n - at);
        const size_t end = space == NULL ? n : (size_t)(space - piece);
        ok = text_buffer_add(buffer, piece + at, end - at) &&
             (space == NULL || text_buffer_add(buffer, step->replacement, n_replacement));
        at = end + 1;
    }
    if (!ok)
        return no_memory(c, n);
    return cut(c, level + 1, buffer->bytes, buffer->n, first);
}

static const char space[3] = {(char)0xe2, (char)0x96, (char)0x81}; /* U+2581 */

static bool is_space(const char *text, size_t n)
{
    return n >= sizeof(space) && memcmp(text, space, sizeof(space)) == 0;
}

static enum status before_spaces(const struct cutting *c, size_t level, const char *piece, size_t n,
                                 bool first)
{
    enum status status = STATUS_OK;
    for (size_t begin = 0, at = 0; begin < n && status == STATUS_OK; begin = at) {
        while (is_space(piece + at, n - at)) /* its own spaces */
            at += sizeof(space);
        /* 0xE2 leads few characters besides the space: memchr skips the rest */
        while (at < n && !is_space(piece + at, n - at)) {
            const char *found = memchr(piece + at + 1, space[0], n - at - 1);
            at = found == NULL ? n : (size_t)(found - piece);
        }
        status = cut(c, level + 1, piece + begin, at - begin, first && begin == 0);
    }
    return status;
}

/* `first`: the piece begins where the text of the call does. */
static enum status cut(const struct cutting *c, size_t level, const char *piece, size_t n,
                       bool first)
{
    if (n == 0)
        return STATUS_OK;
    if (level == c->pretokenizer->n)
        return c->word(c->context, piece, n, c->error);
    switch (c->pretokenizer->steps[level].kind) {
    case SPLIT:
        return split(c, level, piece, n, first);
    case PREFIX_SPACE:
        return prefix_space(c, level, piece, n, first);
    case SHOW_BYTES:
        return show_bytes(c, level, piece, n, first);
    case METASPACE:
        return metaspace(c, level, piece, n, first);
    default:
        return before_spaces(c, level, piece, n, first);
    }
}

enum status pretokenizer_cut(const struct pretokenizer *pretokenizer,
                             struct pretokenizer_scratch *scratch, const char *text, size_t n_bytes,
                             struct pretokenizer_place place, pretokenizer_word *word,
                             void *context, struct error *error)
{
    const struct cutting c = {.pretokenizer = pretokenizer,
                              .scratch = scratch,
                              .place = place,
                              .word = word,
                              .context = context,
                              .error = error};
    return cut(&c, 0, text, n_bytes, true);
}
