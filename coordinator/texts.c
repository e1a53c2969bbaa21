/* texts.c - see texts.h. A short list under one lock; the thread works on the first that waits. What
 * is dropped meanwhile is told to stop, and freed by the thread. */
#include "coordinator/texts.h"

#include "sys/memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct text {
    struct text *next;
    struct texts_request request;
    uint64_t heard_us;
    enum { TEXT_WAITS, TEXT_UNDER_WAY, TEXT_WORKED } state;
    atomic_bool stop; /* and nobody has it: it was dropped under way */
    size_t n_bytes;
    uint8_t bytes[]; /* a packed Control */
};

struct texts {
    const struct tokenizer *tokenizer;
    pthread_mutex_t lock;
    pthread_cond_t added;
    pthread_t thread;
    bool started, ending;
    int bell;
    struct text *first;
    uint32_t n;       /* in the list */
    uint64_t n_bytes; /* of those */
};

static void free_text(struct text *text)
{
    longspan__control__free_unpacked(text->request.message, NULL);
    free(text);
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* In place of the text, its ids. */
static enum status tokenize(const struct tokenizer *tokenizer, Longspan__Prompt *prompt,
                            uint32_t index, const atomic_bool *stop, struct error *error)
{
    int32_t *ids = NULL;
    size_t n_ids = 0;
    if (prompt->n_ids > 0 || prompt->text.len == 0)
        return STATUS_OK; /* there is nothing to do, or something to be refused later */
    const enum status status = tokenizer_encode_until(
        tokenizer, (const char *)prompt->text.data, prompt->text.len,
        TOKENIZER_ADD_SPECIAL | TOKENIZER_PARSE_SPECIAL, stop, &ids, &n_ids, error);
    if (status != STATUS_OK)
        return status;
    if (n_ids == 0) {
        free(ids);
        return error_set(error, STATUS_INVALID, "prompt %u gives no tokens", index);
    }
    free(prompt->ids);
    prompt->ids = ids;
    prompt->n_ids = n_ids;
    free(prompt->text.data);
    prompt->text = (ProtobufCBinaryData){0};
    return STATUS_OK;
}

static void work(const struct tokenizer *tokenizer, struct text *text)
{
    struct error *error = &text->request.error;
    Longspan__Control *message = longspan__control__unpack(NULL, text->n_bytes, text->bytes);
    enum status status = message != NULL
                             ? STATUS_OK
                             : error_set(error, STATUS_NO_MEMORY,
                                         "no memory for a request of %zu bytes", text->n_bytes);
    for (uint32_t i = 0; status == STATUS_OK && i < message->run_request->n_prompts; i++)
        status = tokenize(tokenizer, message->run_request->prompts[i], i, &text->stop, error);
    if (status == STATUS_OK)
        text->request.message = message;
    else
        longspan__control__free_unpacked(message, NULL);
}

static struct text *next_locked(const struct texts *t)
{
    struct text *text = t->first;
    while (text != NULL && text->state != TEXT_WAITS)
        text = text->next;
    return text;
}

static void *run(void *closure)
{
    struct texts *t = closure;
    bool much = false; /* was worked on since memory was given back */
    pthread_mutex_lock(&t->lock);
    while (!t->ending) {
        struct text *text = next_locked(t);
        if (text == NULL && much) {
            much = false;
            pthread_mutex_unlock(&t->lock);
            memory_give_back();
            pthread_mutex_lock(&t->lock);
            continue;
        }
        if (text == NULL) {
            pthread_cond_wait(&t->added, &t->lock);
            continue;
        }
        text->state = TEXT_UNDER_WAY;
        pthread_mutex_unlock(&t->lock);
        much = much || text->n_bytes >= MEMORY_MUCH_TEXT_BYTES;
        work(t->tokenizer, text);
        pthread_mutex_lock(&t->lock);
        if (atomic_load(&text->stop)) {
            free_text(text);
            continue;
        }
        text->state = TEXT_WORKED;
        const uint64_t one = 1;
        (void)!write(t->bell, &one, sizeof(one));
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* ---- its life -------------------------------------------------------------------------------- */

enum status texts_create(struct texts **texts, const struct tokenizer *tokenizer,
                         struct error *error)
{
    struct texts *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for long texts");
    t->tokenizer = tokenizer;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->added, NULL);
    t->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    t->started = t->bell >= 0 && pthread_create(&t->thread, NULL, run, t) == 0;
    if (!t->started) {
        texts_destroy(t);
        return error_set(error, STATUS_NO_MEMORY,
                         "no thread or descriptor for long texts: raise `ulimit -u`, `-v` or `-n`");
    }
    *texts = t;
    return STATUS_OK;
}

static struct text *unlink_locked(struct texts *t, struct text **link)
{
    struct text *text = *link;
    *link = text->next;
    t->n--;
    t->n_bytes -= text->n_bytes;
    return text;
}

/* Out of the list. Its memory goes now, or, where the thread is at it, soon. */
static void drop_locked(struct texts *t, struct text **link)
{
    struct text *text = unlink_locked(t, link);
    if (text->state == TEXT_UNDER_WAY)
        atomic_store(&text->stop, true);
    else
        free_text(text);
}

void texts_destroy(struct texts *texts)
{
    if (texts == NULL)
        return;
    pthread_mutex_lock(&texts->lock);
    texts->ending = true;
    while (texts->first != NULL)
        drop_locked(texts, &texts->first);
    pthread_cond_signal(&texts->added);
    pthread_mutex_unlock(&texts->lock);
    if (texts->started)
        pthread_join(texts->thread, NULL);
    if (texts->bell >= 0)
        close(texts->bell);
    pthread_cond_destroy(&texts->added);
    pthread_mutex_destroy(&texts->lock);
    free(texts);
}

/* ---- they come and go ------------------------------------------------------------------------ */

bool texts_are_long(const Longspan__RunRequest *message)
{
    size_t n = 0;
    for (size_t i = 0; i < message->n_prompts && n <= TEXTS_LEAST_BYTES; i++)
        n += message->prompts[i]->n_ids == 0 ? message->prompts[i]->text.len : 0;
    return n > TEXTS_LEAST_BYTES;
}

static enum status check_room(struct texts *t, size_t n_bytes, struct error *error)
{
    pthread_mutex_lock(&t->lock);
    const uint32_t n = t->n;
    const uint64_t all = t->n_bytes + n_bytes;
    pthread_mutex_unlock(&t->lock);
    return n == 0 || (n < TEXTS_MOST_REQUESTS && all <= TEXTS_MOST_BYTES)
               ? STATUS_OK
               : error_set(error, STATUS_EXHAUSTED,
                           "%u requests wait for their texts to be tokenized already, and there is "
                           "no room for %zu bytes more: try later",
                           n, n_bytes);
}

enum status texts_add(struct texts *t, const struct frames_peer *client,
                      const Longspan__RunRequest *message, uint64_t now_us, struct error *error)
{
    Longspan__Control control = LONGSPAN__CONTROL__INIT;
    control.body_case = LONGSPAN__CONTROL__BODY_RUN_REQUEST;
    control.run_request = (Longspan__RunRequest *)message;
    const size_t n_bytes = longspan__control__get_packed_size(&control);
    const enum status status = check_room(t, n_bytes, error);
    if (status != STATUS_OK)
        return status;
    struct text *text = malloc(sizeof(*text) + n_bytes);
    if (text == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a request of %zu bytes", n_bytes);
    memset(text, 0, sizeof(*text));
    text->request.client = *client;
    text->request.number = message->request;
    text->heard_us = now_us;
    text->n_bytes = n_bytes;
    longspan__control__pack(&control, text->bytes);
    pthread_mutex_lock(&t->lock);
    struct text **end = &t->first;
    while (*end != NULL)
        end = &(*end)->next;
    *end = text;
    t->n++;
    t->n_bytes += n_bytes;
    pthread_cond_signal(&t->added);
    pthread_mutex_unlock(&t->lock);
    return STATUS_OK;
}

bool texts_take(struct texts *t, struct texts_request *request)
{
    uint64_t rung;
    pthread_mutex_lock(&t->lock);
    struct text **link = &t->first;
    while (*link != NULL && (*link)->state != TEXT_WORKED)
        link = &(*link)->next;
    struct text *text = *link != NULL ? unlink_locked(t, link) : NULL;
    if (text != NULL) {
        *request = text->request;
        free(text);
    } else {
        (void)!read(t->bell, &rung, sizeof(rung)); /* under the lock: none is missed */
    }
    pthread_mutex_unlock(&t->lock);
    return text != NULL;
}

int texts_descriptor(const struct texts *texts)
{
    return texts->bell;
}

void texts_heard(struct texts *t, const struct frames_peer *client, uint64_t now_us)
{
    pthread_mutex_lock(&t->lock);
    for (struct text *text = t->first; text != NULL; text = text->next)
        if (frames_same_peer(&text->request.client, client))
            text->heard_us = now_us;
    pthread_mutex_unlock(&t->lock);
}

void texts_drop(struct texts *t, const struct frames_peer *client, bool all, uint64_t number)
{
    pthread_mutex_lock(&t->lock);
    for (struct text **link = &t->first; *link != NULL;)
        if (frames_same_peer(&(*link)->request.client, client) &&
            (all || (*link)->request.number == number))
            drop_locked(t, link);
        else
            link = &(*link)->next;
    pthread_mutex_unlock(&t->lock);
}

bool texts_drop_silent(struct texts *t, uint64_t since_us, struct frames_peer *client,
                       uint64_t *number)
{
    pthread_mutex_lock(&t->lock);
    struct text **link = &t->first;
    while (*link != NULL && (*link)->heard_us >= since_us)
        link = &(*link)->next;
    const bool any = *link != NULL;
    if (any) {
        *client = (*link)->request.client;
        *number = (*link)->request.number;
        drop_locked(t, link);
    }
    pthread_mutex_unlock(&t->lock);
    return any;
}

bool texts_drop_one(struct texts *t, struct frames_peer *client, uint64_t *number)
{
    return texts_drop_silent(t, UINT64_MAX, client, number);
}
