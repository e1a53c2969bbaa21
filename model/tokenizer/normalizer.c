/* normalizer.c - steps write from one buffer into the other.
 *
 * Normal forms and properties of characters come from libunistring: its tables are of one Unicode
 * version, and its normalization sorts the marks behind a letter in O(n log n), where an insertion
 * sort would let a text of marks alone take quadratic time. Forms are asked for only between ASCII
 * characters: those never change, and never join with what stands before them, so that a piece may
 * begin at any of them. */
#include "model/tokenizer/normalizer.h"

#include "model/utf8.h"
#include "sys/text_buffer.h"

#include <stdlib.h>
#include <string.h>
#include <unicase.h>
#include <unictype.h>
#include <uninorm.h>

enum { MOST_STEPS = 32 };

enum kind { FORM, LOWERCASE, STRIP_ACCENTS, STRIP, SINGLE_SPACES, PREPEND, REPLACE };

struct step {
    enum kind kind;
    enum normalizer_form form;
    bool left, right;
    struct expression *expression;
    char *text; /* in front, or instead of */
};

struct normalizer {
    size_t n;
    struct step steps[MOST_STEPS];
};

struct normalizer_scratch {
    struct text_buffer buffers[2];
    struct expression_scratch *search;
};

enum status normalizer_create(struct normalizer **normalizer, struct error *error)
{
    struct normalizer *n = calloc(1, sizeof(*n));
    if (n == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a normalizer");
    *normalizer = n;
    return STATUS_OK;
}

void normalizer_destroy(struct normalizer *normalizer)
{
    if (normalizer == NULL)
        return;
    for (size_t i = 0; i < normalizer->n; i++) {
        expression_destroy(normalizer->steps[i].expression);
        free(normalizer->steps[i].text);
    }
    free(normalizer);
}

/* ---- steps ---------------------------------------------------------------------------------- */

static enum status add(struct normalizer *normalizer, struct step step, const char *text,
                       struct error *error)
{
    enum status status = STATUS_OK;
    if (normalizer->n == MOST_STEPS)
        status = error_set(error, STATUS_INVALID, "a normalizer of more than %d steps", MOST_STEPS);
    else if (text != NULL && (step.text = strdup(text)) == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for a normalizer");
    if (status != STATUS_OK) {
        expression_destroy(step.expression);
        return status;
    }
    normalizer->steps[normalizer->n++] = step;
    return STATUS_OK;
}

enum status normalizer_add_form(struct normalizer *normalizer, enum normalizer_form form,
                                struct error *error)
{
    return add(normalizer, (struct step){.kind = FORM, .form = form}, NULL, error);
}

enum status normalizer_add_lowercase(struct normalizer *normalizer, struct error *error)
{
    return add(normalizer, (struct step){.kind = LOWERCASE}, NULL, error);
}

enum status normalizer_add_strip_accents(struct normalizer *normalizer, struct error *error)
{
    return add(normalizer, (struct step){.kind = STRIP_ACCENTS}, NULL, error);
}

enum status normalizer_add_strip(struct normalizer *normalizer, bool left, bool right,
                                 struct error *error)
{
    return add(normalizer, (struct step){.kind = STRIP, .left = left, .right = right}, NULL, error);
}

enum status normalizer_add_single_spaces(struct normalizer *normalizer, struct error *error)
{
    return add(normalizer, (struct step){.kind = SINGLE_SPACES}, NULL, error);
}

enum status normalizer_add_prepend(struct normalizer *normalizer, const char *text,
                                   struct error *error)
{
    return add(normalizer, (struct step){.kind = PREPEND}, text, error);
}

enum status normalizer_add_replace(struct normalizer *normalizer, struct expression *expression,
                                   const char *content, struct error *error)
{
    return add(normalizer, (struct step){.kind = REPLACE, .expression = expression}, content,
               error);
}

/* ---- running -------------------------------------------------------------------------------- */

enum status normalizer_scratch_create(struct normalizer_scratch **scratch, struct error *error)
{
    struct normalizer_scratch *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a normalizer");
    const enum status status = expression_scratch_create(&s->search, error);
    if (status != STATUS_OK) {
        normalizer_scratch_destroy(s);
        return status;
    }
    *scratch = s;
    return STATUS_OK;
}

void normalizer_scratch_destroy(struct normalizer_scratch *scratch)
{
    if (scratch == NULL)
        return;
    free(scratch->buffers[0].bytes);
    free(scratch->buffers[1].bytes);
    expression_scratch_destroy(scratch->search);
    free(scratch);
}

static bool is_ascii(char c)
{
    return (unsigned char)c < 0x80;
}

static bool form(enum normalizer_form form, const char *text, size_t n, struct text_buffer *out)
{
    uninorm_t const forms[] = {UNINORM_NFC, UNINORM_NFD, UNINORM_NFKC, UNINORM_NFKD};
    for (size_t begin = 0, end; begin < n; begin = end) {
        /* ASCII, but for its last character, which a mark may follow */
        end = begin;
        while (end < n && is_ascii(text[end]) && (end + 1 == n || is_ascii(text[end + 1])))
            end++;
        if (!text_buffer_add(out, text + begin, end - begin))
            return false;
        if (end > begin)
            continue;
        end++;
        while (end < n && !is_ascii(text[end]))
            end++;
        size_t n_piece = 0;
        uint8_t *piece =
            u8_normalize(forms[form], (const uint8_t *)text + begin, end - begin, NULL, &n_piece);
        const bool ok = piece != NULL && text_buffer_add(out, (const char *)piece, n_piece);
        free(piece);
        if (!ok)
            return false;
    }
    return true;
}

/* Unicode's one lower case of two characters is that of U+0130. */
static bool lowercase(const char *text, size_t n, struct text_buffer *out)
{
    for (size_t at = 0, length; at < n; at += length) {
        char small[8];
        length = utf8_char_bytes(text + at, n - at);
        const uint32_t c = utf8_decode(text + at, length);
        size_t n_small = utf8_encode(small, c == 0x130 ? 'i' : uc_tolower(c));
        if (c == 0x130)
            n_small += utf8_encode(small + n_small, 0x307);
        if (!text_buffer_add(out, small, n_small))
            return false;
    }
    return true;
}

static bool strip_accents(const char *text, size_t n, struct text_buffer *out)
{
    for (size_t at = 0, length; at < n; at += length) {
        length = utf8_char_bytes(text + at, n - at);
        if (!uc_is_general_category_withtable(utf8_decode(text + at, length), UC_CATEGORY_MASK_M) &&
            !text_buffer_add(out, text + at, length))
            return false;
    }
    return true;
}

static bool strip(bool left, bool right, const char *text, size_t n, struct text_buffer *out)
{
    size_t begin = 0, end = 0; /* of what is kept */
    bool any = false;
    for (size_t at = 0, length; at < n; at += length) {
        length = utf8_char_bytes(text + at, n - at);
        if (uc_is_property_white_space(utf8_decode(text + at, length)))
            continue;
        if (!any && left)
            begin = at;
        any = true;
        end = at + length;
    }
    if (!any && (left || right))
        return true;
    return text_buffer_add(out, text + begin, (right ? end : n) - begin);
}

static bool single_spaces(const char *text, size_t n, struct normalizer_place place,
                          struct text_buffer *out)
{
    bool ok = true, space = false; /* one stands in front of what comes */
    for (size_t begin = 0, end; begin < n && ok; begin = end) {
        end = begin;
        while (end < n && (text[end] == ' ') == (text[begin] == ' '))
            end++;
        if (text[begin] == ' ') {
            space = begin > 0 || !place.begins;
            continue;
        }
        ok = (!space || text_buffer_add(out, " ", 1)) &&
             text_buffer_add(out, text + begin, end - begin);
        space = false;
    }
    return ok && (!space || place.ends || text_buffer_add(out, " ", 1));
}

static enum status replace(const struct step *step, struct normalizer_scratch *scratch,
                           const char *text, size_t n, struct text_buffer *out, struct error *error)
{
    const size_t n_content = strlen(step->text);
    size_t done = 0, from = 0, begin, end;
    enum status status = STATUS_OK;
    bool ok = true;
    while (ok && from <= n) {
        status =
            expression_find(step->expression, scratch->search, text, n, from, &begin, &end, error);
        if (status != STATUS_OK)
            break;
        if (begin < end || begin > done || done == 0) /* not empty behind the one before */
            ok = text_buffer_add(out, text + done, begin - done) &&
                 text_buffer_add(out, step->text, n_content);
        done = end;
        from = end > begin ? end : end < n ? end + utf8_char_bytes(text + end, n - end) : n + 1;
    }
    if (status == STATUS_NOT_FOUND)
        status = STATUS_OK;
    if (status == STATUS_OK && (!ok || !text_buffer_add(out, text + done, n - done)))
        status = error_set(error, STATUS_NO_MEMORY, "no memory to normalize %zu bytes", n);
    return status;
}

static enum status run_step(const struct step *step, struct normalizer_scratch *scratch,
                            const char *text, size_t n, struct normalizer_place place,
                            struct text_buffer *out, struct error *error)
{
    bool ok = false;
    switch (step->kind) {
    case REPLACE:
        return replace(step, scratch, text, n, out, error);
    case FORM:
        ok = form(step->form, text, n, out);
        break;
    case LOWERCASE:
        ok = lowercase(text, n, out);
        break;
    case STRIP_ACCENTS:
        ok = strip_accents(text, n, out);
        break;
    case STRIP:
        ok = strip(step->left && place.begins, step->right && place.ends, text, n, out);
        break;
    case SINGLE_SPACES:
        ok = single_spaces(text, n, place, out);
        break;
    case PREPEND:
        ok = (!place.begins || (n == 0 && place.ends) ||
              text_buffer_add(out, step->text, strlen(step->text))) &&
             text_buffer_add(out, text, n);
        break;
    }
    return ok ? STATUS_OK
              : error_set(error, STATUS_NO_MEMORY, "no memory to normalize %zu bytes", n);
}

enum status normalizer_run(const struct normalizer *normalizer, struct normalizer_scratch *scratch,
                           const char *text, size_t n_bytes, struct normalizer_place place,
                           const char **out, size_t *n_out, struct error *error)
{
    for (size_t i = 0; i < normalizer->n; i++) {
        struct text_buffer *buffer = &scratch->buffers[i % 2];
        buffer->n = 0;
        const enum status status =
            run_step(&normalizer->steps[i], scratch, text, n_bytes, place, buffer, error);
        if (status != STATUS_OK)
            return status;
        text = buffer->n == 0 ? "" : buffer->bytes;
        n_bytes = buffer->n;
    }
    *out = text;
    *n_out = n_bytes;
    return STATUS_OK;
}
