/* words.c - see words.h. */
#include "cluster/words.h"

#include "sys/array.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NUMBER_BYTES = 32, PATH_BYTES = 4096 };

/* ---- lists ----------------------------------------------------------------------------------- */

void words_add(struct words *words, const char *word)
{
    /* With the NULL behind the last one. */
    char *copy =
        array_grow(&words->argv, &words->capacity, (size_t)words->n + 2, sizeof(*words->argv))
            ? strdup(word)
            : NULL;
    words->failed |= copy == NULL;
    if (copy == NULL)
        return;
    words->argv[words->n++] = copy;
    words->argv[words->n] = NULL;
}

void words_add_list(struct words *words, ...)
{
    va_list list;
    va_start(list, words);
    for (const char *word = va_arg(list, const char *); word != NULL;
         word = va_arg(list, const char *))
        words_add(words, word);
    va_end(list);
}

void words_add_text(struct words *words, const char *option, const char *value)
{
    if (value != NULL && value[0] != '\0')
        words_add_list(words, option, value, (char *)NULL);
}

void words_add_number(struct words *words, const char *option, uint64_t value)
{
    char text[NUMBER_BYTES];
    snprintf(text, sizeof(text), "%" PRIu64, value);
    words_add_text(words, option, value == 0 ? NULL : text);
}

void words_add_bytes(struct words *words, const char *option, uint64_t value)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    char text[NUMBER_BYTES];
    uint32_t unit = 0;
    for (; value != 0 && value % 1024 == 0 && unit < 4; unit++)
        value /= 1024;
    snprintf(text, sizeof(text), "%" PRIu64 "%s", value, units[unit]);
    words_add_text(words, option, value == 0 ? NULL : text);
}

void words_add_flag(struct words *words, const char *option, bool value)
{
    if (value)
        words_add(words, option);
}

void words_free(struct words *words)
{
    for (uint32_t i = 0; i < words->n; i++)
        free(words->argv[i]);
    free(words->argv);
    *words = (struct words){0};
}

/* ---- quoting --------------------------------------------------------------------------------- */

bool words_is_plain(const char *word)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "-_./:=,+@%";
    const char *at = word;
    while (*at != '\0' && ((unsigned char)*at >= 0x80 || strchr(good, *at) != NULL))
        at++;
    return at != word && *at == '\0';
}

static void print_word(FILE *out, const char *word)
{
    if (words_is_plain(word)) {
        fputs(word, out);
        return;
    }
    fputc('\'', out);
    for (; *word != '\0'; word++)
        if (*word == '\'')
            fputs("'\\''", out);
        else
            fputc(*word, out);
    fputc('\'', out);
}

void words_print(FILE *out, char *const *argv)
{
    for (uint32_t i = 0; argv[i] != NULL; i++) {
        if (i != 0)
            fputc(' ', out);
        print_word(out, argv[i]);
    }
    fputc('\n', out);
}

char *words_quoted(char *const *argv)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (stream == NULL)
        return NULL;
    words_print(stream, argv);
    if (fclose(stream) != 0 || size == 0) {
        free(text);
        return NULL;
    }
    text[size - 1] = '\0';
    return text;
}

/* ---- programs -------------------------------------------------------------------------------- */

bool words_on_path(const char *program)
{
    const char *path = getenv("PATH");
    char *copy = strdup(path != NULL ? path : "/usr/local/bin:/usr/bin:/bin"), *rest = copy;
    bool found = false;
    while (copy != NULL && !found && rest != NULL) {
        char tried[PATH_BYTES];
        const char *folder = strsep(&rest, ":");
        const int length =
            snprintf(tried, sizeof(tried), "%s/%s", folder[0] ? folder : ".", program);
        found = length > 0 && (size_t)length < sizeof(tried) && access(tried, X_OK) == 0;
    }
    free(copy);
    return found;
}
