/* result.c - events to arrays that grow. */
#include "cluster/result.h"

#include "sys/array.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOP = 4096 };

enum status result_open(struct result *result, uint32_t n_prompts, struct error *error)
{
    *result = (struct result){.n_prompts = n_prompts};
    result->prompts = calloc(n_prompts, sizeof(*result->prompts));
    if (result->prompts == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %u prompts", n_prompts);
    return STATUS_OK;
}

static void close_holders(struct result *result)
{
    for (uint32_t i = 0; i < result->n_holders; i++)
        free(result->holders[i].spans);
    free(result->holders);
    result->holders = NULL;
    result->n_holders = 0;
}

void result_close(struct result *result)
{
    for (uint32_t i = 0; result->prompts != NULL && i < result->n_prompts; i++) {
        struct result_prompt *prompt = &result->prompts[i];
        for (uint32_t j = 0; j < prompt->n_tokens; j++)
            free(prompt->tokens[j].top);
        free(prompt->tokens);
        free(prompt->text.bytes);
        free(prompt->ids);
    }
    free(result->prompts);
    close_holders(result);
    free(result->processes);
    *result = (struct result){0};
}

static enum status nonsense(struct error *error, const char *what)
{
    return error_set(error, STATUS_PROTOCOL, "the coordinator said something impossible: %s", what);
}

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the answer");
}

static enum status add_text(struct result_prompt *prompt, const ProtobufCBinaryData *text,
                            struct error *error)
{
    return text_buffer_add(&prompt->text, text->data, text->len) ? STATUS_OK : no_memory(error);
}

/* ---- events ---------------------------------------------------------------------------------- */

static enum status take_plan(struct result *result, const Longspan__RunPlan *plan,
                             struct error *error)
{
    if (plan->n_prompts != result->n_prompts)
        return nonsense(error, "a plan for another number of prompts");
    for (uint32_t i = 0; i < result->n_prompts; i++) {
        const Longspan__PromptPlan *from = plan->prompts[i];
        struct result_prompt *prompt = &result->prompts[i];
        if (from->n_ids == 0 || from->n_ids > UINT32_MAX - from->fill_tokens ||
            from->shared_tokens > from->n_ids)
            return nonsense(error, "a prompt without tokens");
        int32_t *ids = malloc(from->n_ids * sizeof(*ids));
        if (ids == NULL)
            return no_memory(error);
        memcpy(ids, from->ids, from->n_ids * sizeof(*ids));
        free(prompt->ids);
        prompt->ids = ids;
        prompt->n_ids = (uint32_t)from->n_ids;
        prompt->n_shared = from->shared_tokens;
        prompt->n_filled = from->fill_tokens;
    }
    result->load_s = plan->load_s;
    result->planned = true;
    return STATUS_OK;
}

static uint32_t prompt_tokens(const struct result_prompt *prompt)
{
    return prompt->n_filled + prompt->n_ids;
}

static enum status take_progress(struct result *result, const Longspan__RunProgress *progress,
                                 struct error *error)
{
    if (progress->prompt >= result->n_prompts || progress->done > progress->total ||
        progress->total > prompt_tokens(&result->prompts[progress->prompt]))
        return nonsense(error, "progress beyond the prompt");
    result->prompts[progress->prompt].n_prefilled = progress->done;
    return STATUS_OK;
}

/* NULL: no memory, or none to take. */
static struct result_choice *take_top(const Longspan__RunToken *token)
{
    struct result_choice *top = malloc(token->n_top * sizeof(*top));
    for (size_t i = 0; top != NULL && i < token->n_top; i++)
        top[i] = (struct result_choice){token->top[i]->id, token->top[i]->logprob};
    return top;
}

static enum status take_token(struct result *result, const Longspan__RunToken *token,
                              struct error *error)
{
    if (token->prompt >= result->n_prompts || !result->planned)
        return nonsense(error, "a token of no prompt");
    struct result_prompt *prompt = &result->prompts[token->prompt];
    if (prompt->reason[0] != '\0' || token->n_top > MOST_TOP)
        return nonsense(error, "a token after the end");
    if (prompt->n_tokens == UINT32_MAX ||
        !array_grow(&prompt->tokens, &prompt->token_capacity, (size_t)prompt->n_tokens + 1,
                    sizeof(*prompt->tokens)))
        return no_memory(error);
    struct result_choice *top = token->n_top == 0 ? NULL : take_top(token);
    if (token->n_top != 0 && top == NULL)
        return no_memory(error);
    prompt->n_prefilled = prompt_tokens(prompt);
    prompt->tokens[prompt->n_tokens++] =
        (struct result_token){token->id, token->logprob, top, (uint32_t)token->n_top};
    return add_text(prompt, &token->text, error);
}

static enum status take_finished(struct result *result, const Longspan__RunFinished *finished,
                                 struct error *error)
{
    if (finished->prompt >= result->n_prompts)
        return nonsense(error, "the end of no prompt");
    struct result_prompt *prompt = &result->prompts[finished->prompt];
    if (prompt->reason[0] != '\0' || finished->reason == NULL || finished->reason[0] == '\0')
        return nonsense(error, "an end without a reason");
    if (finished->cached_tokens > prompt->n_ids)
        return nonsense(error, "more cached tokens than the prompt has");
    prompt->n_cached = finished->cached_tokens;
    snprintf(prompt->reason, sizeof(prompt->reason), "%s", finished->reason);
    return add_text(prompt, &finished->text, error);
}

/* Tokens of a prompt that have a place: all but the last generated one, which was not computed. */
static uint32_t placed_tokens(const struct result_prompt *prompt)
{
    return prompt_tokens(prompt) + (prompt->n_tokens == 0 ? 0 : prompt->n_tokens - 1);
}

/* A holder has room for whole pages; what is told are the tokens in them. */
static enum status take_holder(struct result_holder *holder, const struct result *result,
                               const Longspan__HolderReport *from, struct error *error)
{
    snprintf(holder->name, sizeof(holder->name), "%s", from->name);
    holder->kv_bytes = from->kv_bytes;
    holder->sent_bytes = from->sent_bytes;
    holder->received_bytes = from->received_bytes;
    holder->spans = malloc((from->n_spans + 1) * sizeof(*holder->spans));
    if (holder->spans == NULL)
        return no_memory(error);
    for (size_t i = 0; i < from->n_spans; i++) {
        const Longspan__Span *span = from->spans[i];
        if (span->holder >= result->n_prompts || span->begin >= span->end)
            return nonsense(error, "tokens of no prompt at a holder");
        const uint32_t placed = placed_tokens(&result->prompts[span->holder]);
        const uint32_t end = span->end < placed ? span->end : placed;
        if (span->begin >= end)
            continue;
        struct result_span *last =
            holder->n_spans == 0 ? NULL : &holder->spans[holder->n_spans - 1];
        if (last != NULL && last->prompt == span->holder && last->end == span->begin)
            last->end = end;
        else
            holder->spans[holder->n_spans++] = (struct result_span){span->holder, span->begin, end};
    }
    return STATUS_OK;
}

static bool is_time(double seconds)
{
    return isfinite(seconds) && seconds >= 0;
}

static enum status take_processes(struct result *result, const Longspan__RunDone *done,
                                  struct error *error)
{
    free(result->processes);
    result->n_processes = 0;
    result->processes = calloc(done->n_processes + 1, sizeof(*result->processes));
    if (result->processes == NULL)
        return no_memory(error);
    for (size_t i = 0; i < done->n_processes; i++) {
        struct result_process *process = &result->processes[result->n_processes++];
        snprintf(process->name, sizeof(process->name), "%s", done->processes[i]->name);
        process->weight_bytes = done->processes[i]->weight_bytes;
        process->peak_bytes = done->processes[i]->peak_bytes;
    }
    return STATUS_OK;
}

static enum status take_done(struct result *result, const Longspan__RunDone *done,
                             struct error *error)
{
    for (uint32_t i = 0; i < result->n_prompts; i++)
        if (result->prompts[i].reason[0] == '\0')
            return nonsense(error, "done, with prompts unfinished");
    if (!is_time(done->load_s) || !is_time(done->prefill_s) || !is_time(done->decode_s))
        return nonsense(error, "times that are none");
    close_holders(result);
    result->holders = calloc(done->n_holders + 1, sizeof(*result->holders));
    if (result->holders == NULL)
        return no_memory(error);
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < done->n_holders; i++)
        status =
            take_holder(&result->holders[result->n_holders++], result, done->holders[i], error);
    if (status == STATUS_OK)
        status = take_processes(result, done, error);
    result->load_s = done->load_s;
    result->prefill_s = done->prefill_s;
    result->decode_s = done->decode_s;
    result->prefill_tokens = done->prefill_tokens;
    result->decode_tokens = done->decode_tokens;
    result->done = status == STATUS_OK;
    return status;
}

static enum status take_failure(const Longspan__Failure *failure, struct error *error)
{
    return error_set(error, status_received(failure->status), "%s",
                     failure->text != NULL && failure->text[0] != '\0'
                         ? failure->text
                         : "the request failed, and the coordinator did not say why");
}

enum status result_take(struct result *result, const Longspan__RunEvent *event, uint32_t *prompt,
                        const char **text, size_t *n_bytes, struct error *error)
{
    const ProtobufCBinaryData *added = NULL;
    enum status status = STATUS_OK;
    *prompt = 0;
    *n_bytes = 0;
    if (result->done)
        return nonsense(error, "more after it was done");
    switch (event->body_case) {
    case LONGSPAN__RUN_EVENT__BODY_PLAN:
        return take_plan(result, event->plan, error);
    case LONGSPAN__RUN_EVENT__BODY_PROGRESS:
        return take_progress(result, event->progress, error);
    case LONGSPAN__RUN_EVENT__BODY_TOKEN:
        status = take_token(result, event->token, error);
        *prompt = event->token->prompt;
        added = &event->token->text;
        break;
    case LONGSPAN__RUN_EVENT__BODY_FINISHED:
        status = take_finished(result, event->finished, error);
        *prompt = event->finished->prompt;
        added = &event->finished->text;
        break;
    case LONGSPAN__RUN_EVENT__BODY_DONE:
        return take_done(result, event->done, error);
    case LONGSPAN__RUN_EVENT__BODY_FAILURE:
        return take_failure(event->failure, error);
    default:
        return STATUS_OK; /* something newer that we need not know */
    }
    if (status == STATUS_OK) {
        *text = (const char *)added->data;
        *n_bytes = added->len;
    }
    return status;
}

double result_rate(uint64_t n_tokens, double seconds)
{
    return seconds > 0 ? (double)n_tokens / seconds : 0;
}
