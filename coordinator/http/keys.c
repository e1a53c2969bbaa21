/* keys.c - see keys.h. */
#include "coordinator/http/keys.h"

#include "sys/file.h"
#include "sys/sha256.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MOST_FILE_BYTES = 1 << 20, MOST_KEY_BYTES = 1024 };

struct keys {
    uint32_t n;
    uint8_t digests[][SHA256_BYTES];
};

static void digest_of(const char *key, size_t n_bytes, uint8_t digest[SHA256_BYTES])
{
    struct sha256 hash;
    sha256_init(&hash);
    sha256_update(&hash, key, n_bytes);
    sha256_final(&hash, digest);
}

static bool is_key(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isgraph((unsigned char)line[i]))
            return false;
    return n <= MOST_KEY_BYTES;
}

static enum status add_lines(struct keys *keys, const char *text, const char *path,
                             struct error *error)
{
    for (uint32_t number = 1; *text != '\0'; number++) {
        size_t n = strcspn(text, "\n");
        const char *line = text;
        text += n + (text[n] == '\n');
        while (n > 0 && isspace((unsigned char)line[n - 1]))
            n--;
        if (n == 0 || line[0] == '#')
            continue;
        if (!is_key(line, n))
            return error_set(error, STATUS_INVALID,
                             "%s:%u: a key has up to %d letters, digits and signs, and no blank",
                             path, number, MOST_KEY_BYTES);
        digest_of(line, n, keys->digests[keys->n++]);
    }
    return keys->n > 0 ? STATUS_OK
                       : error_set(error, STATUS_INVALID, "%s: no key: one a line", path);
}

enum status keys_parse(struct keys **keys, const char *text, const char *name, struct error *error)
{
    size_t lines = 1;
    for (const char *c = text; *c != '\0'; c++)
        lines += *c == '\n';
    struct keys *made = calloc(1, sizeof(*made) + lines * SHA256_BYTES);
    if (made == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu keys", lines);
    const enum status status = add_lines(made, text, name, error);
    if (status == STATUS_OK)
        *keys = made;
    else
        free(made);
    return status;
}

enum status keys_read(struct keys **keys, const char *path, struct error *error)
{
    char *text = NULL;
    size_t size = 0;
    enum status status = file_read(path, MOST_FILE_BYTES, &text, &size, error);
    if (status != STATUS_OK)
        return status;
    status = keys_parse(keys, text, path, error);
    explicit_bzero(text, size);
    free(text);
    return status;
}

void keys_destroy(struct keys *keys)
{
    free(keys);
}

bool keys_admit(const struct keys *keys, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    if (keys == NULL)
        return true;
    if (authorization == NULL || strncasecmp(authorization, scheme, strlen(scheme)) != 0)
        return false;
    const char *key = authorization + strlen(scheme);
    uint8_t digest[SHA256_BYTES];
    digest_of(key, strlen(key), digest);
    unsigned found = 0;
    for (uint32_t i = 0; i < keys->n; i++) {
        unsigned differ = 0;
        for (uint32_t j = 0; j < SHA256_BYTES; j++)
            differ |= (unsigned)(digest[j] ^ keys->digests[i][j]);
        found |= differ == 0;
    }
    return found != 0;
}
