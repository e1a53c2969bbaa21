/* schemas.c - see schemas.h. A short list under one lock; the thread takes what nobody has worked
 * out, the asking thread everything else. */
#include "coordinator/schemas.h"

#include <jansson.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* What is remembered beyond what somebody waits for. */
enum { MOST_KNOWN = 16, MOST_BYTES = 16 << 20 };
enum { MOST_ASKED_BYTES = 64 << 20 }; /* of those that are asked for; one may have more */

struct schema {
    struct schema *next;
    char *text;
    size_t bytes; /* of it */
    enum { SCHEMA_ASKED, SCHEMA_UNDER_WAY, SCHEMA_WORKED, SCHEMA_SETTLED } state;
    struct constraint *first; /* NULL: `error` says why */
    struct error error;
    uint64_t used;
    uint64_t asked; /* for the last time before it was worked out */
};

struct schemas {
    const struct tokenizer *tokenizer;
    pthread_mutex_t lock;
    pthread_cond_t asked;
    pthread_t thread;
    bool started, ending;
    int bell;
    struct schema *list;
    uint64_t clock, worked;        /* of uses; when schemas_worked was last true */
    struct vocabulary *vocabulary; /* the thread's to make; then all constraints have it */
};

/* ---- the thread ------------------------------------------------------------------------------ */

static void work_out(struct schemas *s, struct schema *schema)
{
    json_t *json = NULL;
    json_error_t why;
    struct error *error = &schema->error;
    enum status status = STATUS_OK;
    if (schema->text[0] != '\0' && (json = json_loads(schema->text, JSON_DECODE_ANY, &why)) == NULL)
        status =
            error_set(error, STATUS_INVALID, "the JSON schema, line %d: %s", why.line, why.text);
    if (status == STATUS_OK && s->vocabulary == NULL)
        status = vocabulary_create(&s->vocabulary, s->tokenizer, error);
    if (status == STATUS_OK)
        (void)constraint_create(&schema->first, json, s->vocabulary, error);
    json_decref(json);
}

/* The one that was asked for first. */
static struct schema *next_locked(const struct schemas *s)
{
    struct schema *next = NULL;
    for (struct schema *one = s->list; one != NULL; one = one->next)
        if (one->state == SCHEMA_ASKED && (next == NULL || one->used < next->used))
            next = one;
    return next;
}

static void *run(void *closure)
{
    struct schemas *s = closure;
    pthread_mutex_lock(&s->lock);
    while (!s->ending) {
        struct schema *schema = next_locked(s);
        if (schema == NULL) {
            pthread_cond_wait(&s->asked, &s->lock);
            continue;
        }
        schema->state = SCHEMA_UNDER_WAY;
        pthread_mutex_unlock(&s->lock);
        work_out(s, schema);
        pthread_mutex_lock(&s->lock);
        schema->state = SCHEMA_WORKED;
        const uint64_t one = 1;
        (void)!write(s->bell, &one, sizeof(one));
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- its life -------------------------------------------------------------------------------- */

enum status schemas_create(struct schemas **schemas, const struct tokenizer *tokenizer,
                           struct error *error)
{
    struct schemas *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for JSON schemas");
    s->tokenizer = tokenizer;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->asked, NULL);
    s->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->started = s->bell >= 0 && pthread_create(&s->thread, NULL, run, s) == 0;
    if (!s->started) {
        schemas_destroy(s);
        return error_set(
            error, STATUS_NO_MEMORY,
            "no thread or descriptor for JSON schemas: raise `ulimit -u`, `-v` or `-n`");
    }
    *schemas = s;
    return STATUS_OK;
}

static void free_schema(struct schema *schema)
{
    constraint_destroy(schema->first);
    free(schema->text);
    free(schema);
}

void schemas_destroy(struct schemas *schemas)
{
    if (schemas == NULL)
        return;
    if (schemas->started) {
        pthread_mutex_lock(&schemas->lock);
        schemas->ending = true;
        pthread_cond_signal(&schemas->asked);
        pthread_mutex_unlock(&schemas->lock);
        pthread_join(schemas->thread, NULL);
    }
    while (schemas->list != NULL) {
        struct schema *next = schemas->list->next;
        free_schema(schemas->list);
        schemas->list = next;
    }
    vocabulary_destroy(schemas->vocabulary);
    if (schemas->bell >= 0)
        close(schemas->bell);
    pthread_cond_destroy(&schemas->asked);
    pthread_mutex_destroy(&schemas->lock);
    free(schemas);
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* Those that were used longest ago go, until the rest is within bounds. */
static void forget_locked(struct schemas *s)
{
    for (;;) {
        struct schema **oldest = NULL;
        size_t n = 0, bytes = 0;
        for (struct schema **link = &s->list; *link != NULL; link = &(*link)->next) {
            if ((*link)->state != SCHEMA_SETTLED)
                continue;
            n++;
            bytes += (*link)->bytes;
            if (oldest == NULL || (*link)->used < (*oldest)->used)
                oldest = link;
        }
        if (oldest == NULL || (n <= MOST_KNOWN && bytes <= MOST_BYTES))
            return;
        struct schema *gone = *oldest;
        *oldest = gone->next;
        free_schema(gone);
    }
}

static struct schema *find_locked(const struct schemas *s, const char *text)
{
    for (struct schema *one = s->list; one != NULL; one = one->next)
        if (strcmp(one->text, text) == 0)
            return one;
    return NULL;
}

static enum status check_room_locked(const struct schemas *s, size_t bytes, struct error *error)
{
    size_t n = 0;
    for (const struct schema *one = s->list; one != NULL; one = one->next)
        if (one->state != SCHEMA_SETTLED) {
            n++;
            bytes += one->bytes;
        }
    return n == 0 || (n < SCHEMAS_MOST_ASKED && bytes <= MOST_ASKED_BYTES)
               ? STATUS_OK
               : error_set(error, STATUS_EXHAUSTED,
                           "%zu JSON schemas are still to be worked out, with this one %zu bytes: "
                           "try later",
                           n, bytes);
}

static enum status ask_locked(struct schemas *s, const char *text, struct error *error)
{
    const size_t bytes = strlen(text);
    const enum status status = check_room_locked(s, bytes, error);
    if (status != STATUS_OK)
        return status;
    struct schema *schema = calloc(1, sizeof(*schema));
    if (schema == NULL || (schema->text = strdup(text)) == NULL) {
        free(schema);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a JSON schema");
    }
    schema->bytes = bytes;
    schema->used = schema->asked = ++s->clock;
    schema->next = s->list;
    s->list = schema;
    pthread_cond_signal(&s->asked);
    return STATUS_OK;
}

enum status schemas_find(struct schemas *s, const char *text, const struct constraint **first,
                         struct error *error)
{
    enum status status = STATUS_OK;
    *first = NULL;
    pthread_mutex_lock(&s->lock);
    struct schema *schema = find_locked(s, text);
    if (schema == NULL) {
        forget_locked(s);
        status = ask_locked(s, text, error);
    } else if (schema->state >= SCHEMA_WORKED) {
        schema->used = ++s->clock;
        *first = schema->first;
        if (schema->first == NULL)
            status = error_set(error, schema->error.status, "%s", schema->error.text);
    } else {
        schema->asked = ++s->clock;
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

int schemas_descriptor(const struct schemas *schemas)
{
    return schemas->bell;
}

bool schemas_worked(struct schemas *s)
{
    uint64_t n;
    const bool any = read(s->bell, &n, sizeof(n)) == sizeof(n);
    if (any)
        s->worked = ++s->clock;
    return any;
}

/* Who was told since then that a schema is not worked out asks again after the next one. */
void schemas_settle(struct schemas *s)
{
    pthread_mutex_lock(&s->lock);
    for (struct schema **link = &s->list; *link != NULL;) {
        struct schema *one = *link;
        const bool waits = one->asked > s->worked;
        if (one->state == SCHEMA_WORKED && !waits)
            one->state = SCHEMA_SETTLED;
        if (one->state == SCHEMA_ASKED && !waits) {
            *link = one->next;
            free_schema(one);
        } else {
            link = &one->next;
        }
    }
    pthread_mutex_unlock(&s->lock);
}
