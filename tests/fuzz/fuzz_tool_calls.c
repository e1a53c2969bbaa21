/* fuzz_tool_calls.c - an answer in which calls of functions are looked for: those that are found do
 * not depend on how the text was cut, and what is left of it is no longer than it was. */
#include "coordinator/http/tool_calls.h"
#include "tests/fuzz/fuzz.h"

struct found {
    struct tool_calls calls;
    char *text;
    size_t n_text;
};

static struct found feed(const struct tool_choice *choice, const char *text, size_t n, size_t step)
{
    struct found found = {.text = malloc(n + 1)};
    struct tool_news news;
    FUZZ_CHECK(found.text != NULL);
    tool_calls_open(&found.calls, choice);
    for (size_t at = 0; at <= n; at += step) {
        const size_t part = n - at < step ? n - at : step;
        FUZZ_CHECK(tool_calls_feed(&found.calls, text + at, part, part < step || step == n, &news));
        FUZZ_CHECK(news.n_bytes <= n - found.n_text);
        memcpy(found.text + found.n_text, news.text, news.n_bytes);
        found.n_text += news.n_bytes;
        if (step == n)
            break;
    }
    return found;
}

static void check_same(const struct found *one, const struct found *other)
{
    FUZZ_CHECK(one->n_text == other->n_text && one->calls.n == other->calls.n);
    FUZZ_CHECK(memcmp(one->text, other->text, one->n_text) == 0);
    for (size_t i = 0; i < one->calls.n; i++) {
        const struct tool_call *a = &one->calls.list[i], *b = &other->calls.list[i];
        FUZZ_CHECK(strcmp(a->name, b->name) == 0 && strcmp(a->arguments, b->arguments) == 0);
    }
}

static void end(struct found *found)
{
    tool_calls_close(&found->calls);
    free(found->text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char look[] = "look", *names[] = {look};
    const struct tool_choice choice = {.mode = TOOL_AUTO, .names = names, .n_names = 1};
    if (n == 0)
        return 0;
    struct found whole = feed(&choice, (const char *)data, n, n);
    const size_t steps[] = {1, 7};
    for (int i = 0; i < 2; i++) {
        struct found cut = feed(&choice, (const char *)data, n, steps[i]);
        check_same(&whole, &cut);
        end(&cut);
    }
    end(&whole);
    return 0;
}
