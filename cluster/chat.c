/* chat.c - the whole conversation is asked anew for each message, as the model's template writes it;
 * what of it is in the KV cache is found there. */
#include "cluster/chat.h"

#include "cluster/answer_text.h"
#include "cluster/ask.h"
#include "cluster/chat_input.h"
#include "cluster/chat_options.h"
#include "cluster/death.h"
#include "cluster/launch.h"
#include "cluster/progress.h"
#include "cluster/prompts.h"
#include "cluster/result.h"
#include "cluster/session.h"
#include "cluster/standard_output.h"
#include "model/chat/chat_templates.h"
#include "model/model_file.h"
#include "model/tokenizer.h"
#include "model/utf8.h"
#include "sys/clock.h"
#include "sys/log.h"

#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char CLEAR[] = "/clear";

enum { LAST_WORDS_US = 300000 }; /* from a refusal to the end of a process that it comes from */

struct chat {
    struct chat_options options;
    struct log log;
    struct prompts files;
    struct tokenizer *tokenizer;
    struct chat_templates *templates;
    struct session session;
    struct chat_input input;
    bool typed;    /* by a person, in a terminal */
    bool prompted; /* "> " is the end of what was printed */
    json_t *messages;
    struct progress progress;
    struct result result;
    struct ask ask;
    struct answer_text text;
    bool answered; /* a message, since the cluster was started */
    int exit_code; /* where it is not the status's */
};

/* ---- messages -------------------------------------------------------------------------------- */

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for the conversation");
}

static enum status check_utf8(const char *what, const char *text, size_t n_bytes,
                              struct error *error)
{
    size_t length;
    for (size_t i = 0; i < n_bytes; i += length)
        if ((length = utf8_char_bytes(text + i, n_bytes - i)) == 0)
            return error_set(error, STATUS_INVALID,
                             "%s is not UTF-8 at byte %zu (0x%02x): convert it (iconv -t UTF-8)",
                             what, i, (unsigned char)text[i]);
    return STATUS_OK;
}

static enum status check_texts(const struct chat *chat, struct error *error)
{
    const char *system = chat->options.system;
    enum status status =
        system != NULL ? check_utf8("--system", system, strlen(system), error) : STATUS_OK;
    for (uint32_t i = 0; status == STATUS_OK && i < chat->files.n; i++) {
        const struct prompts_item *file = &chat->files.items[i];
        status = check_utf8(file->name, file->text, file->n_bytes, error);
    }
    return status;
}

/* The text is UTF-8. */
static enum status add_message(struct chat *chat, const char *role, const char *text,
                               size_t n_bytes, struct error *error)
{
    json_t *content = json_stringn(text, n_bytes);
    json_t *message = json_pack("{s:s, s:o}", "role", role, "content", content);
    return message != NULL && json_array_append_new(chat->messages, message) == 0
               ? STATUS_OK
               : no_memory(error);
}

static enum status start_over(struct chat *chat, struct error *error)
{
    json_decref(chat->messages);
    chat->messages = json_array();
    if (chat->messages == NULL)
        return no_memory(error);
    const char *system = chat->options.system;
    return system != NULL ? add_message(chat, "system", system, strlen(system), error) : STATUS_OK;
}

/* The messages of a conversation that has not begun. */
static size_t n_to_begin(const struct chat *chat)
{
    return chat->options.system != NULL ? 1 : 0;
}

/* The first one has the files before it. */
static enum status add_question(struct chat *chat, const char *line, size_t n_bytes,
                                struct error *error)
{
    struct text_buffer text = {0};
    const bool first = json_array_size(chat->messages) == n_to_begin(chat);
    bool complete = true;
    for (uint32_t i = 0; first && i < chat->files.n; i++) {
        const struct prompts_item *file = &chat->files.items[i];
        complete = complete && text_buffer_add(&text, file->text, file->n_bytes) &&
                   text_buffer_add(&text, "\n\n", 2);
    }
    complete = complete && text_buffer_add(&text, line, n_bytes);
    const enum status status =
        complete ? add_message(chat, "user", text.bytes, text.n, error) : no_memory(error);
    free(text.bytes);
    return status;
}

static enum status prompt_ids(const struct chat *chat, int32_t **ids, size_t *n_ids,
                              struct error *error)
{
    char *text = NULL;
    size_t n_bytes = 0;
    enum status status = chat_templates_render(chat->templates, chat->messages, NULL, NULL, true,
                                               NULL, &text, &n_bytes, error);
    if (status == STATUS_OK)
        status = tokenizer_encode(chat->tokenizer, text, n_bytes, TOKENIZER_PARSE_SPECIAL, ids,
                                  n_ids, error);
    free(text);
    if (status == STATUS_OK && (*n_ids == 0 || *n_ids > PLACE_OPTIONS_MOST_TOKENS)) {
        free(*ids);
        return error_set(error, STATUS_INVALID, "the conversation has %zu tokens", *n_ids);
    }
    return status;
}

/* ---- an answer ------------------------------------------------------------------------------- */

static enum status take(void *context, const struct ask_event *event, struct error *error)
{
    struct chat *chat = context;
    return answer_text_show(&chat->text, &chat->ask, event->text, event->n_bytes, error);
}

static void report(const struct result *result)
{
    const struct result_prompt *prompt = &result->prompts[0];
    fprintf(stderr, "[read %u tokens, %u of them found in the KV cache, in %.2f s; wrote %u",
            prompt->n_ids, prompt->n_cached, result->prefill_s, prompt->n_tokens);
    if (result->decode_tokens > 0)
        fprintf(stderr, ", %.1f tokens/s", result_rate(result->decode_tokens, result->decode_s));
    fputs("]\n", stderr);
}

static enum status ask(struct chat *chat, const int32_t *ids, uint32_t n_ids, struct error *error)
{
    const struct run_options *options = &chat->options.run;
    const struct client_prompt prompt = {.ids = ids, .n_ids = n_ids};
    const struct client_request request = {.prompts = &prompt,
                                           .n_prompts = 1,
                                           .n_predict = options->n_predict,
                                           .temperature = options->temperature,
                                           .top_p = options->top_p,
                                           .min_p = options->min_p,
                                           .top_k = options->top_k,
                                           .seed = options->seed};
    result_close(&chat->result);
    enum status status = result_open(&chat->result, 1, error);
    if (status != STATUS_OK)
        return status;
    progress_begin(&chat->progress,
                   isatty(2) && !options->place.quiet && options->place.verbose == 0);
    chat->ask = (struct ask){.session = &chat->session,
                             .result = &chat->result,
                             .progress = &chat->progress,
                             .take = take,
                             .context = chat,
                             .text = &chat->text};
    status = ask_run(&chat->ask, &request, &options->place, error);
    chat->exit_code = chat->ask.exit_code;
    if (status == STATUS_OK)
        return answer_text_end(&chat->text, error);
    answer_text_break_off(&chat->text);
    return status;
}

/* A cluster that cannot start refuses the first message, and only then its processes end. */
static bool somebody_died(struct chat *chat, uint64_t patience_us)
{
    struct launch *launch = chat->session.launch;
    const uint64_t deadline = clock_us() + patience_us;
    for (;;) {
        struct launch_death death;
        launch_progress(launch);
        if (launch_first_death(launch, &death))
            return true;
        const uint64_t now = clock_us();
        if (now >= deadline)
            return false;
        struct pollfd item = {.fd = launch_descriptor(launch), .events = POLLIN};
        poll(&item, 1, (int)((deadline - now) / 1000) + 1);
    }
}

/* Whether one Ctrl-C was typed: it is meant for an answer, and not for the conversation. */
static bool forget_interrupt(struct chat *chat)
{
    struct launch *launch = chat->session.launch;
    launch_progress(launch);
    if (!chat->typed || launch_signal(launch) != SIGINT || launch_n_signals(launch) != 1)
        return false;
    launch_forget_signals(launch);
    return true;
}

/* A message, and what comes of it: an answer, which is kept as far as it came. */
static enum status answer(struct chat *chat, const char *line, size_t n_bytes, struct error *error)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;
    const size_t n_before = json_array_size(chat->messages);
    chat->text = (struct answer_text){0};
    enum status status = check_utf8("the message", line, n_bytes, error);
    if (status == STATUS_OK)
        status = add_question(chat, line, n_bytes, error);
    if (status == STATUS_OK)
        status = prompt_ids(chat, &ids, &n_ids, error);
    if (status == STATUS_OK) {
        status = ask(chat, ids, (uint32_t)n_ids, error);
        free(ids);
    }
    chat->answered = chat->answered || status == STATUS_OK || chat->text.shown;
    const bool stopped = status == STATUS_CANCELLED && forget_interrupt(chat);
    const bool added = json_array_size(chat->messages) > n_before;
    /* As what is too long for the context: whoever types may say something else. */
    const bool refused = chat->typed &&
                         status_exit_code(status) == status_exit_code(STATUS_INVALID) &&
                         !somebody_died(chat, added && !chat->answered ? LAST_WORDS_US : 0);
    if (stopped)
        chat->exit_code = 0;
    if (refused) {
        const bool shorter = added && status == STATUS_INVALID && n_before > n_to_begin(chat);
        log_error(&chat->log, shorter ? "%s (%s begins a new conversation)" : "%s", error->text,
                  CLEAR);
    }
    if (refused || (stopped && !chat->text.shown)) {
        while (json_array_size(chat->messages) > n_before)
            json_array_remove(chat->messages, n_before);
        return STATUS_OK;
    }
    if (status != STATUS_OK && !stopped)
        return status;
    if (status == STATUS_OK && !chat->options.run.place.quiet)
        report(&chat->result);
    const struct text_buffer *text = &chat->result.prompts[0].text;
    return add_message(chat, "assistant", text->n > 0 ? text->bytes : "", text->n, error);
}

/* ---- the conversation ------------------------------------------------------------------------ */

static void print_prompt(struct chat *chat)
{
    chat->prompted = chat->typed && !chat->options.run.place.quiet;
    if (chat->prompted)
        fputs("> ", stderr);
}

static void leave_prompt(struct chat *chat)
{
    if (chat->prompted)
        fputc('\n', stderr);
    chat->prompted = false;
}

/* Waits for something to read, while somebody may die or a signal come. */
static enum status wait_for_input(struct chat *chat, struct error *error)
{
    struct launch *launch = chat->session.launch;
    struct pollfd items[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                             {.fd = launch_descriptor(launch), .events = POLLIN}};
    for (;;) {
        struct launch_death death;
        launch_progress(launch);
        if (launch_signal(launch) != 0)
            return ask_ended_by_signal(&chat->ask, error);
        if (launch_first_death(launch, &death)) {
            leave_prompt(chat);
            return death_report(&death, "", &chat->exit_code, error);
        }
        if (poll(items, 2, -1) > 0 && items[0].revents != 0)
            return STATUS_OK;
    }
}

static enum status next_line(struct chat *chat, char **line, size_t *n_bytes, struct error *error)
{
    enum status status = STATUS_OK;
    print_prompt(chat);
    while (status == STATUS_OK && (*line = chat_input_line(&chat->input, n_bytes)) == NULL &&
           !chat->input.ended) {
        status = wait_for_input(chat, error);
        if (status == STATUS_OK)
            status = chat_input_read(&chat->input, STDIN_FILENO, error);
    }
    return status;
}

static enum status converse(struct chat *chat, struct error *error)
{
    enum status status = start_over(chat, error);
    if (chat->typed && !chat->options.run.place.quiet)
        fprintf(stderr,
                "A line is a message; \\ at its end continues it. %s begins a new conversation.\n"
                "Ctrl-C stops an answer, Ctrl-D ends.\n",
                CLEAR);
    while (status == STATUS_OK) {
        char *line = NULL;
        size_t n_bytes;
        status = next_line(chat, &line, &n_bytes, error);
        if (status != STATUS_OK || line == NULL)
            break;
        chat->prompted = false; /* the terminal showed the newline that was typed */
        if (n_bytes == strlen(CLEAR) && strcmp(line, CLEAR) == 0)
            status = start_over(chat, error);
        else if (strspn(line, " \t\r\n") < n_bytes)
            status = answer(chat, line, n_bytes, error);
        if (status == STATUS_OK)
            (void)forget_interrupt(chat); /* it came when the answer had just ended */
    }
    leave_prompt(chat);
    return status;
}

/* What turns messages into tokens; the cluster has the rest of the model. */
static enum status open_model(struct chat *chat, struct error *error)
{
    struct model_file *file = NULL;
    enum status status = model_open(&file, chat->options.run.place.model, error);
    if (status == STATUS_OK)
        status = tokenizer_open(&chat->tokenizer, file, error);
    if (status == STATUS_OK)
        status = chat_templates_open(&chat->templates, file, chat->tokenizer,
                                     chat->options.chat_template, error);
    model_close(file);
    const char *refusal = status == STATUS_OK ? chat_templates_refusal(chat->templates) : NULL;
    return refusal != NULL ? error_set(error, STATUS_UNSUPPORTED, "%s", refusal) : status;
}

static enum status work(struct chat *chat, struct error *error)
{
    const struct run_options *options = &chat->options.run;
    chat->typed = isatty(STDIN_FILENO);
    enum status status = prompts_read(&chat->files, &options->prompts, error);
    if (status == STATUS_OK)
        status = check_texts(chat, error);
    if (status == STATUS_OK)
        status = open_model(chat, error);
    if (status == STATUS_OK)
        status = session_open(&chat->session, &options->place, error);
    chat->ask.session = &chat->session;
    if (status == STATUS_OK)
        status = converse(chat, error);
    if (status == STATUS_OK)
        session_close(&chat->session, true);
    return status;
}

int chat_main(int argc, char **argv)
{
    struct chat chat = {0};
    struct error error = {0};
    log_open(&chat.log, "longspan chat", 0);
    enum status status = chat_options_read(&chat.options, argc, argv, &error);
    if (status == STATUS_OK && chat.options.run.place.help) {
        chat_options_print_help(chat.options.run.place.help);
        chat_options_free(&chat.options);
        return EXIT_SUCCESS;
    }
    if (status == STATUS_OK)
        status = work(&chat, &error);
    const int exit_code =
        chat.exit_code != 0 ? chat.exit_code : session_exit_code(&chat.session, status);
    session_close(&chat.session, false);
    if (status != STATUS_OK)
        standard_output_log_failure(&chat.log, &error);
    json_decref(chat.messages);
    chat_input_free(&chat.input);
    result_close(&chat.result);
    chat_templates_close(chat.templates);
    tokenizer_close(chat.tokenizer);
    prompts_free(&chat.files);
    chat_options_free(&chat.options);
    return status == STATUS_OK ? EXIT_SUCCESS : exit_code;
}
