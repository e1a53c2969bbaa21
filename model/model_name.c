/* model_name.c - see model_name.h. */
#include "model/model_name.h"

#include <string.h>

static bool ends_with(struct model_string text, const char *end)
{
    const size_t n = strlen(end);
    return text.n_bytes > n && memcmp(text.data + text.n_bytes - n, end, n) == 0;
}

/* Of "-00002-of-00003", or 0. */
static size_t split_ending(struct model_string text)
{
    static const char form[] = "-00000-of-00000"; /* 0: any digit */
    const size_t n = sizeof(form) - 1;
    if (text.n_bytes <= n)
        return 0;
    const char *end = text.data + text.n_bytes - n;
    for (size_t i = 0; i < n; i++)
        if (form[i] == '0' ? end[i] < '0' || end[i] > '9' : end[i] != form[i])
            return 0;
    return n;
}

struct model_string model_name(const char *path)
{
    struct model_string name = {path, strlen(path)};
    while (name.n_bytes > 0 && path[name.n_bytes - 1] == '/')
        name.n_bytes--;
    const char *slash = memrchr(path, '/', name.n_bytes);
    if (slash != NULL)
        name = (struct model_string){slash + 1, name.n_bytes - (size_t)(slash + 1 - path)};
    if (ends_with(name, ".gguf")) {
        name.n_bytes -= strlen(".gguf");
        name.n_bytes -= split_ending(name);
    }
    return name;
}
