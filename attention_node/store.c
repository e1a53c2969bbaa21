/* store.c - two lists of work, what is to be read and what is to be written, and the page that is
 * at hand: first what is to be read. */
#include "attention_node/store.h"

#include "attention_node/store_files.h"
#include "attention_node/store_page.h"
#include "sys/array.h"
#include "sys/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A page to be written. */
struct keeping {
    uint8_t name[STORE_NAME_BYTES];
    uint64_t sequence;
    uint32_t incarnation, page;
};

/* A sequence to be read. */
struct restoring {
    struct restoring *next;
    uint64_t request, sequence;
    uint32_t incarnation;
    uint32_t *pages; /* [n] */
    uint8_t *names;
    size_t n, done;
    struct error error;
};

struct names {
    uint8_t *bytes;
    size_t n, capacity;
};

struct store {
    struct store_config config;
    int directory;
    struct store_files files;
    struct names added, gone, told, listed; /* told: what store_changed gave out */
    struct names told_gone;

    /* The job; holder NULL: none. */
    struct store_job job;
    struct kv_holder *holder;
    uint64_t n_planes, page_bytes;
    void *piece; /* [page_bytes] */
    struct keeping *keeping;
    size_t n_keeping, next_keeping, keeping_capacity;
    struct restoring *restoring, **last_restoring, *restored, **last_restored;

    struct store_page page; /* that is written or read now, plane by plane */
    uint64_t planes;        /* of it that are done */
};

/* ---- names ----------------------------------------------------------------------------------- */

/* Without memory it is not told: a page that nobody asks for. */
static void add_name(struct names *names, const uint8_t *name)
{
    if (!array_grow(&names->bytes, &names->capacity, names->n + 1, STORE_NAME_BYTES))
        return;
    memcpy(names->bytes + names->n++ * STORE_NAME_BYTES, name, STORE_NAME_BYTES);
}

static void swap_names(struct names *a, struct names *b)
{
    const struct names c = *a;
    *a = *b;
    *b = c;
}

bool store_changed(struct store *s, const uint8_t **added, size_t *n_added, const uint8_t **gone,
                   size_t *n_gone)
{
    if (s->added.n + s->gone.n == 0)
        return false;
    swap_names(&s->added, &s->told);
    swap_names(&s->gone, &s->told_gone);
    s->added.n = s->gone.n = 0;
    *added = s->told.bytes;
    *n_added = s->told.n;
    *gone = s->told_gone.bytes;
    *n_gone = s->told_gone.n;
    return true;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* The directory, and those above it. */
static enum status make_directories(const char *path, struct error *error)
{
    char *part = strdup(path);
    if (part == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a KV store");
    enum status status = STATUS_OK;
    for (char *at = part; status == STATUS_OK && at != NULL;) {
        at = strchr(at + 1, '/');
        if (at != NULL)
            *at = '\0';
        if (part[0] != '\0' && mkdir(part, 0700) != 0 && errno != EEXIST)
            status = error_set(error, STATUS_IO, "--kv-store %s: %s", part, strerror(errno));
        if (at != NULL)
            *at = '/';
    }
    free(part);
    return status;
}

static enum status open_directory(struct store *s, struct error *error)
{
    const char *path = s->config.directory;
    const enum status status = make_directories(path, error);
    if (status != STATUS_OK)
        return status;
    s->directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->directory < 0)
        return error_set(error, STATUS_IO, "--kv-store %s: %s", path, strerror(errno));
    if (flock(s->directory, LOCK_EX | LOCK_NB) != 0)
        return error_set(
            error, STATUS_FAILED,
            "--kv-store %s: another process uses it: each needs a directory of its own", path);
    return store_files_open(&s->files, s->directory, error);
}

enum status store_create(struct store **store, const struct store_config *config,
                         struct error *error)
{
    struct store *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a KV store");
    s->config = *config;
    s->directory = s->page.file = -1;
    s->last_restoring = &s->restoring;
    s->last_restored = &s->restored;
    const enum status status = open_directory(s, error);
    if (status != STATUS_OK) {
        store_destroy(s);
        return status;
    }
    *store = s;
    return STATUS_OK;
}

static void free_restoring(struct restoring *r)
{
    while (r != NULL) {
        struct restoring *next = r->next;
        free(r->pages);
        free(r->names);
        free(r);
        r = next;
    }
}

void store_destroy(struct store *store)
{
    if (store == NULL)
        return;
    store_end(store, 0);
    store_files_close(&store->files);
    if (store->directory >= 0)
        close(store->directory); /* and with it the lock */
    struct names *names[] = {&store->added, &store->gone, &store->told, &store->told_gone,
                             &store->listed};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        free(names[i]->bytes);
    free(store->keeping);
    free(store);
}

/* ---- the job --------------------------------------------------------------------------------- */

static struct store_page_header header_of(const struct store *s, const uint8_t *name)
{
    return store_page_header(&s->job, s->n_planes * s->page_bytes, name);
}

void store_begin(struct store *s, const struct store_job *job, struct kv_holder *holder)
{
    store_end(s, 0);
    s->job = *job;
    s->holder = holder;
    s->n_planes = kv_holder_planes(holder);
    s->page_bytes = kv_holder_usage(holder).page_bytes;
    s->piece = malloc(s->page_bytes);
    if (s->piece == NULL)
        s->holder = NULL; /* without memory nothing is stored */
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->files.n; i++) {
        const struct store_page_header header = header_of(s, s->files.files[i].name);
        s->files.files[i].ours = store_page_is_there(s->directory, &header);
        n += s->files.files[i].ours;
    }
    s->added.n = s->gone.n = 0;
    log_info(s->config.log, "--kv-store %s: %u pages of this model, %u of others",
             s->config.directory, n, s->files.n - n);
}

void store_end(struct store *s, uint32_t most_ms)
{
    const uint64_t end_us = clock_us() + most_ms * 1000ull;
    while (most_ms > 0 && clock_us() < end_us && store_work(s, true))
        ;
    store_page_close(&s->page);
    free_restoring(s->restoring);
    free_restoring(s->restored);
    s->restoring = s->restored = NULL;
    s->last_restoring = &s->restoring;
    s->last_restored = &s->restored;
    s->n_keeping = s->next_keeping = 0;
    free(s->piece);
    s->piece = NULL;
    s->holder = NULL;
}

const uint8_t *store_names(struct store *s, size_t *n)
{
    s->listed.n = 0;
    for (uint32_t i = 0; i < s->files.n; i++)
        if (s->files.files[i].ours)
            add_name(&s->listed, s->files.files[i].name);
    *n = s->listed.n;
    return s->listed.bytes;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Makes room for `bytes` more; false: they are more than all files may have. */
static bool make_room(struct store *s, uint64_t bytes)
{
    if (bytes > s->config.most_bytes)
        return false;
    while (s->files.n > 0 && s->files.bytes + bytes > s->config.most_bytes) {
        struct store_file *oldest = store_files_oldest(&s->files);
        if (oldest->ours)
            add_name(&s->gone, oldest->name);
        store_files_remove(&s->files, oldest);
    }
    return true;
}

/* ---- writing --------------------------------------------------------------------------------- */

void store_keep(struct store *s, uint64_t sequence, uint32_t incarnation, const uint8_t *names,
                size_t n_names)
{
    if (s->holder == NULL || n_names > UINT32_MAX ||
        !array_grow(&s->keeping, &s->keeping_capacity, s->n_keeping + n_names, sizeof(*s->keeping)))
        return;
    for (size_t i = 0; i < n_names; i++) {
        struct keeping *keeping = &s->keeping[s->n_keeping++];
        *keeping =
            (struct keeping){.sequence = sequence, .incarnation = incarnation, .page = (uint32_t)i};
        memcpy(keeping->name, names + i * STORE_NAME_BYTES, STORE_NAME_BYTES);
    }
}

/* errno says why. The disk will not have room for the others either. */
static void stop_writing(struct store *s)
{
    log_warn(s->config.log, "--kv-store %s: %s; what was to be stored is not", s->config.directory,
             strerror(errno));
    store_page_close(&s->page);
    s->next_keeping = s->n_keeping;
}

/* A page that is held here, and not stored: its file is opened. */
static bool begin_writing(struct store *s, const struct keeping *keeping)
{
    struct store_file *known = store_files_find(&s->files, keeping->name);
    if (known != NULL && known->ours) {
        known->used = now_ns();
        return false;
    }
    if (kv_holder_read_page(s->holder, keeping->sequence, keeping->incarnation, 0, keeping->page,
                            s->piece, NULL) != STATUS_OK)
        return false;
    if (known != NULL) /* damaged, or of a layout that this node had before */
        store_files_remove(&s->files, known);
    const struct store_page_header header = header_of(s, keeping->name);
    s->planes = 0;
    if (!make_room(s, sizeof(header) + header.data_bytes))
        return false;
    if (store_page_create(&s->page, s->directory, &header))
        return true;
    stop_writing(s);
    return false;
}

static void finish_writing(struct store *s)
{
    const struct store_page_header *header = &s->page.header;
    const uint64_t bytes = sizeof(*header) + header->data_bytes;
    if (!store_page_finish(&s->page)) {
        stop_writing(s);
        return;
    }
    s->next_keeping++;
    if (store_files_add(&s->files, header->name, bytes, now_ns(), true, NULL) == STATUS_OK)
        add_name(&s->added, header->name);
}

/* One plane more. */
static void write_piece(struct store *s)
{
    const struct keeping *keeping = &s->keeping[s->next_keeping];
    if (kv_holder_read_page(s->holder, keeping->sequence, keeping->incarnation, s->planes,
                            keeping->page, s->piece, NULL) != STATUS_OK) {
        store_page_close(&s->page); /* the sequence has gone meanwhile */
        s->next_keeping++;
        return;
    }
    if (!store_page_write(&s->page, s->piece, s->page_bytes)) {
        stop_writing(s);
        return;
    }
    if (++s->planes == s->n_planes)
        finish_writing(s);
}

static bool work_on_writing(struct store *s)
{
    while (s->page.file < 0 && s->next_keeping < s->n_keeping &&
           !begin_writing(s, &s->keeping[s->next_keeping]) && s->next_keeping < s->n_keeping)
        s->next_keeping++;
    if (s->next_keeping == s->n_keeping) {
        s->n_keeping = s->next_keeping = 0;
        return false;
    }
    write_piece(s);
    return true;
}

/* ---- reading --------------------------------------------------------------------------------- */

enum status store_restore(struct store *s, uint64_t request, const struct store_wanted *wanted,
                          struct error *error)
{
    const struct span *spans = wanted->spans;
    size_t n_pages = 0;
    for (size_t i = 0; i < wanted->n_spans; i++)
        n_pages += (spans[i].end - spans[i].begin) / PAGE_TOKENS;
    if (s->holder == NULL || n_pages == 0 || n_pages != wanted->n_names)
        return error_set(error, STATUS_INVALID, "%zu stored pages for spans of %zu",
                         wanted->n_names, n_pages);
    struct restoring *r = calloc(1, sizeof(*r));
    if (r != NULL) {
        r->pages = calloc(n_pages, sizeof(*r->pages));
        r->names = malloc(n_pages * STORE_NAME_BYTES);
    }
    if (r == NULL || r->pages == NULL || r->names == NULL) {
        free_restoring(r);
        return error_set(error, STATUS_NO_MEMORY, "no memory to restore %zu pages", n_pages);
    }
    memcpy(r->names, wanted->names, n_pages * STORE_NAME_BYTES);
    for (size_t i = 0; i < wanted->n_spans; i++)
        for (uint32_t token = spans[i].begin; token < spans[i].end; token += PAGE_TOKENS)
            r->pages[r->n++] = token / PAGE_TOKENS;
    r->request = request;
    r->sequence = wanted->sequence;
    r->incarnation = wanted->incarnation;
    *s->last_restoring = r;
    s->last_restoring = &r->next;
    return STATUS_OK;
}

/* The first restore has ended, in this way. */
static void end_restoring(struct store *s, const struct error *error)
{
    struct restoring *r = s->restoring;
    s->restoring = r->next;
    if (s->restoring == NULL)
        s->last_restoring = &s->restoring;
    r->next = NULL;
    if (error != NULL)
        r->error = *error;
    *s->last_restored = r;
    s->last_restored = &r->next;
    store_page_close(&s->page);
}

bool store_restored(struct store *s, uint64_t *request, struct error *error)
{
    struct restoring *r = s->restored;
    if (r == NULL)
        return false;
    s->restored = r->next;
    if (s->restored == NULL)
        s->last_restored = &s->restored;
    r->next = NULL;
    *request = r->request;
    *error = r->error;
    free_restoring(r);
    return true;
}

/* The file is not what it should be: the restore has failed, and the file goes, if it is of this
 * job. */
static void give_up_file(struct store *s, const uint8_t *name, const char *why)
{
    struct error error;
    char text[STORE_FILE_NAME_BYTES];
    struct store_file *file = store_files_find(&s->files, name);
    store_files_text(name, text);
    error_set(&error, STATUS_NOT_FOUND, "--kv-store: %s %s", text, why);
    if (file != NULL && file->ours) {
        log_warn(s->config.log, "--kv-store %s: %s %s; it is removed", s->config.directory, text,
                 why);
        add_name(&s->gone, name);
        store_files_remove(&s->files, file);
    }
    end_restoring(s, &error);
}

static bool begin_reading(struct store *s, const uint8_t *name)
{
    const struct store_page_header header = header_of(s, name);
    s->planes = 0;
    return store_page_open(&s->page, s->directory, &header);
}

/* A page that was read whole. */
static void finish_reading(struct store *s, struct restoring *r, const uint8_t *name)
{
    if (!store_page_is_right(&s->page)) {
        give_up_file(s, name, "has another content than its sum says");
        return;
    }
    struct store_file *file = store_files_find(&s->files, name);
    if (file != NULL)
        file->used = now_ns();
    store_page_close(&s->page);
    struct error error = {.status = STATUS_OK};
    if (++r->done == r->n) {
        kv_holder_written(s->holder, r->sequence, r->incarnation, &error);
        end_restoring(s, &error);
    }
}

static bool work_on_reading(struct store *s)
{
    struct restoring *r = s->restoring;
    if (r == NULL)
        return false;
    if (s->page.file >= 0 && !s->page.reads)
        store_page_close(
            &s->page); /* somebody waits for what is read: the page is written later, again */
    const uint8_t *name = r->names + r->done * STORE_NAME_BYTES;
    struct error error;
    if (s->page.file < 0 && !begin_reading(s, name)) {
        give_up_file(s, name, "is not a page of this job");
    } else if (!store_page_read(&s->page, s->piece, s->page_bytes)) {
        give_up_file(s, name, "cannot be read");
    } else if (kv_holder_write_page(s->holder, r->sequence, r->incarnation, s->planes,
                                    r->pages[r->done], s->piece, &error) != STATUS_OK) {
        end_restoring(s, &error);
    } else {
        if (++s->planes == s->n_planes)
            finish_reading(s, r, name);
    }
    return true;
}

bool store_work(struct store *s, bool idle)
{
    if (s->holder == NULL)
        return false;
    return work_on_reading(s) || (idle && work_on_writing(s));
}
