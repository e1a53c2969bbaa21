/* coordinator/http/tool_calls.h - the calls of functions in an answer's text, found as it comes.
 *
 * Models write calls in the form that they were trained on. Two families of forms are known:
 *     <tool_call>{"name": ..., "arguments": {...}}</tool_call>
 *         anywhere, any number (Hermes, Qwen);
 *     {"name": ..., "parameters": {...}}
 *         the whole answer, or several of them, or an array of them (Llama 3, Mistral, whose
 *         <|python_tag|> and [TOOL_CALLS] are control tokens, which have no text). It is taken for
 *         calls if all of it is JSON, and every name that of a function which the chat offers.
 * What is no call stays text. White space in front of calls, and at the end of an answer with some,
 * is dropped.
 * Text is held back while it may become a call: a beginning of <tool_call>, a call until it is
 * whole, and an answer that begins with a brace or bracket until its end.
 *
 * Where the chat has to call (tool_choice.h) the answer is JSON, and no text. Pure but for the ids
 * of calls. */
#ifndef LONGSPAN_COORDINATOR_HTTP_TOOL_CALLS_H
#define LONGSPAN_COORDINATOR_HTTP_TOOL_CALLS_H

#include "coordinator/http/tool_choice.h"
#include "sys/text_queue.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { TOOL_CALL_ID_BYTES = 10 }; /* nine letters and digits, as Mistral's templates want them */

struct tool_call {
    char id[TOOL_CALL_ID_BYTES];
    char *name,
        *arguments; /* JSON, as the model wrote it; of a named choice the last piece of it */
};

/* To be read by nobody but tool_calls.c, but for the list. */
struct tool_calls {
    const struct tool_choice *choice; /* borrowed */
    int state;
    struct text_queue held, said;
    size_t
        searched; /* of `held`: white space at its beginning; in a call, what has no tag that ends it */
    struct tool_call *list;
    size_t n, capacity;
};

/* What a piece of an answer brought. */
struct tool_news {
    const char *text; /* that is no call; valid until the next piece */
    size_t n_bytes;
    size_t first, end; /* calls of the list */
    bool goes_on;      /* the call `first` is an earlier one: its `arguments` are what comes next */
};

/* One of TOOL_NONE is fed with nothing. */
void tool_calls_open(struct tool_calls *calls, const struct tool_choice *choice);
void tool_calls_close(struct tool_calls *calls);

/* The next piece of the text; `last`: nothing follows. False: no memory. */
bool tool_calls_feed(struct tool_calls *calls, const char *text, size_t n_bytes, bool last,
                     struct tool_news *news);

/* The news' calls as OpenAI's array; `indexed`: for a delta of a stream. NULL: no memory. */
json_t *tool_calls_json(const struct tool_calls *calls, const struct tool_news *news, bool indexed);

#endif
