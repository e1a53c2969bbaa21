/* run.c - what the user sees of a request.
 *
 * Order. Whatever has to do with processes and signals is set up before ZeroMQ makes threads, and
 * ended after they are gone. */
#include "cluster/run.h"

#include "cluster/answer_text.h"
#include "cluster/ask.h"
#include "cluster/client.h"
#include "cluster/launch.h"
#include "cluster/logits_file.h"
#include "cluster/output.h"
#include "cluster/progress.h"
#include "cluster/prompts.h"
#include "cluster/report.h"
#include "cluster/result.h"
#include "cluster/run_options.h"
#include "cluster/session.h"
#include "cluster/standard_output.h"
#include "cluster/trace_files.h"
#include "sys/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct run {
    struct run_options options;
    struct log log;
    struct prompts prompts;
    struct session session;
    struct result result;
    struct logits_file *logits;
    struct progress progress;
    struct ask ask;
    bool streaming; /* text goes out as it comes */
    struct answer_text text;
};

/* ---- events ---------------------------------------------------------------------------------- */

static enum status take(void *context, const struct ask_event *event, struct error *error)
{
    struct run *run = context;
    enum status status = STATUS_OK;
    if (event->row != NULL && run->logits != NULL &&
        event->event->body_case == LONGSPAN__RUN_EVENT__BODY_TOKEN)
        status = logits_file_add(run->logits, event->prompt, event->row, event->row_bytes, error);
    return status == STATUS_OK && run->streaming
               ? answer_text_show(&run->text, &run->ask, event->text, event->n_bytes, error)
               : status;
}

static enum status ask(struct run *run, struct error *error)
{
    const struct run_options *options = &run->options;
    struct client_prompt *prompts = calloc(run->prompts.n, sizeof(*prompts));
    if (prompts == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the request");
    for (uint32_t i = 0; i < run->prompts.n; i++)
        prompts[i] = (struct client_prompt){.text = run->prompts.items[i].text,
                                            .n_bytes = run->prompts.items[i].n_bytes,
                                            .fill_tokens = options->fill_tokens,
                                            .fill_seed = options->seed + i};
    const struct client_request request = {.prompts = prompts,
                                           .n_prompts = run->prompts.n,
                                           .n_predict = options->n_predict,
                                           .temperature = options->temperature,
                                           .top_p = options->top_p,
                                           .min_p = options->min_p,
                                           .top_k = options->top_k,
                                           .seed = options->seed,
                                           .ignore_eos = options->ignore_eos,
                                           .no_prefix_sharing = options->no_prefix_sharing,
                                           .want_logprobs = options->logprobs_given,
                                           .want_logits = options->dump_logits != NULL,
                                           .n_logprobs = options->n_logprobs};
    run->ask = (struct ask){.session = &run->session,
                            .result = &run->result,
                            .progress = &run->progress,
                            .texts_at_end = !run->streaming,
                            .take = take,
                            .context = run,
                            .text = &run->text};
    const enum status status = ask_run(&run->ask, &request, &options->place, error);
    free(prompts);
    return status;
}

static enum status print_result(struct run *run, struct error *error)
{
    enum status status = STATUS_OK;
    if (run->options.json)
        status = output_json(stdout, &run->result, run->options.logprobs_given, error);
    else if (!run->streaming)
        status = output_texts(stdout, &run->result, &run->prompts, error);
    else
        status = answer_text_end(&run->text, error);
    if (run->logits != NULL) {
        struct logits_file *logits = run->logits;
        run->logits = NULL;
        const enum status written = logits_file_finish(logits, status == STATUS_OK ? error : NULL);
        status = status == STATUS_OK ? written : status;
    }
    if (status == STATUS_OK && !run->options.place.quiet)
        report_print(stderr, &run->result);
    return status;
}

static enum status work(struct run *run, struct error *error)
{
    struct run_options *options = &run->options;
    enum status status = prompts_read(&run->prompts, &options->prompts, error);
    if (status == STATUS_OK && options->place.dry_run)
        return session_print(&options->place, options, error);
    if (status == STATUS_OK)
        status = result_open(&run->result, run->prompts.n, error);
    if (status == STATUS_OK && options->dump_logits != NULL)
        status = logits_file_create(&run->logits, options->dump_logits, run->prompts.n, error);
    if (status == STATUS_OK)
        status = session_open(&run->session, &options->place, error);
    run->streaming = !options->json && run->prompts.n == 1;
    progress_begin(&run->progress,
                   isatty(2) && !options->place.quiet && options->place.verbose == 0);
    if (status == STATUS_OK)
        status = ask(run, error);
    if (status == STATUS_OK) {
        /* First: writing may take as long as the reader likes, and no process waits for that; and
         * signals are what they were, so that they end a write that waits. */
        struct trace_files traces = run->session.traces;
        run->session.traces = (struct trace_files){0};
        session_close(&run->session, true);
        status = print_result(run, error);
        if (status == STATUS_OK && traces.n_parts > 0)
            status =
                trace_files_join(&traces, options->place.quiet ? NULL : stderr, &run->log, error);
        trace_files_free(&traces);
    } else {
        answer_text_break_off(&run->text);
    }
    return status;
}

int run_main(int argc, char **argv)
{
    struct run run = {0};
    struct error error = {0};
    log_open(&run.log, "longspan run", 0);
    enum status status = run_options_read(&run.options, argc, argv, &error);
    if (status == STATUS_OK && run.options.place.help) {
        run_options_print_help(run.options.place.help);
        run_options_free(&run.options);
        return EXIT_SUCCESS;
    }
    if (status == STATUS_OK)
        status = work(&run, &error);
    const int exit_code = session_exit_code(&run.session, status);
    session_close(&run.session, false);
    if (status != STATUS_OK)
        standard_output_log_failure(&run.log, &error);
    logits_file_destroy(run.logits);
    result_close(&run.result);
    prompts_free(&run.prompts);
    run_options_free(&run.options);
    if (status == STATUS_OK)
        return EXIT_SUCCESS;
    return run.ask.exit_code != 0 ? run.ask.exit_code : exit_code;
}
