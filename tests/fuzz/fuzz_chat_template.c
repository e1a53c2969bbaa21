/* fuzz_chat_template.c - the template of a model's file (piece 0), rendered over messages (piece 1,
 * JSON). */
#include "model/chat/chat_template.h"
#include "tests/fuzz/pieces.h"

static const char usual[] =
    "[{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": "
    "\"Hi\"},"
    " {\"role\": \"assistant\", \"content\": \"Hello\", \"tool_calls\": []}]";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz_pieces pieces = {data, n};
    struct fuzz_piece source, messages = {1, (const uint8_t *)usual, sizeof(usual) - 1};
    struct chat_template *chat_template;
    struct error error;
    if (!fuzz_next(&pieces, &source))
        return 0;
    (void)fuzz_next(&pieces, &messages);
    if (chat_template_create(&chat_template, (const char *)source.data, source.n, "<s>", "</s>",
                             &error) != STATUS_OK) {
        FUZZ_CHECK(error.text[0] != '\0');
        return 0;
    }
    json_t *list = json_loadb((const char *)messages.data, messages.n, 0, NULL);
    if (!json_is_array(list)) {
        json_decref(list);
        list = json_loads(usual, 0, NULL);
    }
    char *text;
    size_t n_text;
    if (chat_template_render(chat_template, list, NULL, NULL, true, NULL, &text, &n_text, &error) ==
        STATUS_OK) {
        FUZZ_CHECK(text[n_text] == '\0');
        free(text);
    }
    json_decref(list);
    chat_template_destroy(chat_template);
    return 0;
}
