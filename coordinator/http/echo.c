/* echo.c - see echo.h. */
#include "coordinator/http/echo.h"

#include "model/detokenizer.h"
#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>

static bool add_text(struct echo *echo, const char *text, size_t n)
{
    echo->n_points += utf8_points(text, n);
    return text_buffer_add(&echo->text, text, n);
}

static bool write_text(struct echo *echo, const struct tokenizer *tokenizer)
{
    struct detokenizer *detokenizer = NULL;
    const char *text = "";
    size_t n = 0;
    if (detokenizer_create(&detokenizer, tokenizer,
                           DETOKENIZER_TEXT_START | DETOKENIZER_SHOW_SPECIAL, NULL) != STATUS_OK)
        return false;
    bool good = add_text(echo, "", 0);
    for (size_t i = 0; good && i < echo->n_ids; i++) {
        echo->offsets[i] = echo->n_points;
        if (i == 0 && echo->ids[0] == tokenizer_bos(tokenizer))
            continue;
        /* The model's vocabulary may have ids that the tokenizer does not know: they have no
         * text. */
        if (detokenizer_push(detokenizer, echo->ids[i], &text, &n, NULL) == STATUS_OK)
            good = add_text(echo, text, n);
    }
    detokenizer_flush(detokenizer, &text, &n);
    good = good && add_text(echo, text, n);
    detokenizer_destroy(detokenizer);
    return good;
}

bool echo_open(struct echo *echo, const struct tokenizer *tokenizer, const int32_t *ids,
               size_t n_ids, bool scored, size_t n_top)
{
    *echo = (struct echo){.ids = ids, .n_ids = n_ids, .n_top = n_top, .n_scored = 1};
    echo->offsets = calloc(n_ids, sizeof(*echo->offsets));
    if (scored) {
        echo->logprobs = calloc(n_ids, sizeof(*echo->logprobs));
        echo->tops = calloc(n_ids * n_top + 1, sizeof(*echo->tops));
    }
    return echo->offsets != NULL && (!scored || (echo->logprobs != NULL && echo->tops != NULL)) &&
           write_text(echo, tokenizer);
}

void echo_close(struct echo *echo)
{
    free(echo->text.bytes);
    free(echo->offsets);
    free(echo->logprobs);
    free(echo->tops);
    *echo = (struct echo){0};
}

bool echo_take(struct echo *echo, const Longspan__RunScores *scores)
{
    const size_t n = scores->n_logprobs;
    if (echo->logprobs == NULL || scores->first != echo->n_scored ||
        n > echo->n_ids - echo->n_scored || scores->n_top_ids != scores->n_top_logprobs)
        return false;
    const size_t n_top = n > 0 ? scores->n_top_ids / n : 0;
    if (echo->n_scored == 1 && n_top < echo->n_top)
        echo->n_top = n_top; /* a small vocabulary has fewer than were asked for */
    if (n == 0 || scores->n_top_ids != n * echo->n_top)
        return false;
    memcpy(echo->logprobs + echo->n_scored, scores->logprobs, n * sizeof(*echo->logprobs));
    struct logprob *tops = echo->tops + echo->n_scored * echo->n_top;
    for (size_t i = 0; i < scores->n_top_ids; i++)
        tops[i] = (struct logprob){scores->top_ids[i], scores->top_logprobs[i]};
    echo->n_scored += n;
    return true;
}

bool echo_complete(const struct echo *echo)
{
    return echo->logprobs == NULL || echo->n_scored == echo->n_ids;
}
