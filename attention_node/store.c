/* store.c - two lists of work, what is to be read and what is to be written, and a page in the making. */
#include "attention_node/store.h"

#include "attention_node/store_files.h"
#include "kernels/attention/tile.h"
#include "sys/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1 };
static const char MAGIC[8] = "LSPANKV";

/* As it lies in the file; all numbers little-endian, which is what we run on. */
struct header {
    char magic[8];
    uint32_t version, header_bytes;
    uint8_t fingerprint[SHA256_BYTES];
    uint8_t name[STORE_NAME_BYTES];
    char device[STORE_DEVICE_BYTES];
    uint32_t kv_type, head_dim, first_layer, n_layers, first_kv_head, n_kv_heads;
    uint32_t tile_tokens, page_tokens;
    uint64_t data_bytes;
    uint8_t sum[SHA256_BYTES]; /* of the header up to here, and the data */
};
_Static_assert(sizeof(struct header) == 168 && offsetof(struct header, sum) == 136, "no gaps");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little-endian");

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

    /* The page in the making. */
    int file;        /* -1: none */
    bool reads;      /* it is being read */
    uint64_t planes; /* that are done */
    struct header header;
    struct sha256 hash;
};

/* ---- names ----------------------------------------------------------------------------------- */

/* Without memory it is not told: a page that nobody asks for. */
static void add_name(struct names *names, const uint8_t *name)
{
    if (names->n == names->capacity) {
        const size_t capacity = names->capacity == 0 ? 64 : 2 * names->capacity;
        uint8_t *bytes = realloc(names->bytes, capacity * STORE_NAME_BYTES);
        if (bytes == NULL)
            return;
        names->bytes = bytes;
        names->capacity = capacity;
    }
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
    s->directory = s->file = -1;
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

/* Gives up the page in the making. */
static void drop_page(struct store *s)
{
    char text[STORE_FILE_NAME_BYTES];
    if (s->file < 0)
        return;
    close(s->file);
    s->file = -1;
    if (s->reads)
        return;
    store_files_text(s->header.name, text);
    memcpy(text + 2 * STORE_NAME_BYTES, ".part", 6);
    unlinkat(s->directory, text, 0);
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

/* ---- headers --------------------------------------------------------------------------------- */

static struct header header_of(const struct store *s, const uint8_t *name)
{
    const struct kv_holder_shape *shape = &s->job.shape;
    struct header header = {.version = VERSION,
                            .header_bytes = sizeof(header),
                            .kv_type = (uint32_t)shape->type,
                            .head_dim = shape->head_dim,
                            .first_layer = shape->first_layer,
                            .n_layers = shape->n_layers,
                            .first_kv_head = shape->first_kv_head,
                            .n_kv_heads = shape->n_kv_heads,
                            .tile_tokens = TILE_TOKENS,
                            .page_tokens = PAGE_TOKENS,
                            .data_bytes = s->n_planes * s->page_bytes};
    memcpy(header.magic, MAGIC, sizeof(header.magic));
    memcpy(header.fingerprint, s->job.fingerprint, sizeof(header.fingerprint));
    memcpy(header.device, s->job.device, sizeof(header.device));
    memcpy(header.name, name, sizeof(header.name));
    return header;
}

/* Opens a file of this job for reading; its header, which is right but for the sum. -1: it is none. */
static int open_file(const struct store *s, const uint8_t *name, struct header *header)
{
    char text[STORE_FILE_NAME_BYTES];
    struct stat about;
    const struct header expected = header_of(s, name);
    store_files_text(name, text);
    const int file = openat(s->directory, text, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file >= 0 && fstat(file, &about) == 0 && S_ISREG(about.st_mode) &&
        (uint64_t)about.st_size == sizeof(*header) + expected.data_bytes &&
        read(file, header, sizeof(*header)) == (ssize_t)sizeof(*header) &&
        memcmp(header, &expected, offsetof(struct header, sum)) == 0)
        return file;
    if (file >= 0)
        close(file);
    return -1;
}

/* ---- the job --------------------------------------------------------------------------------- */

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
        struct header header;
        const int file = open_file(s, s->files.files[i].name, &header);
        s->files.files[i].ours = file >= 0;
        n += file >= 0;
        if (file >= 0)
            close(file);
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
    drop_page(s);
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
    if (s->holder == NULL || n_names > UINT32_MAX)
        return;
    if (s->n_keeping + n_names > s->keeping_capacity) {
        const size_t capacity = 2 * (s->n_keeping + n_names);
        struct keeping *grown = realloc(s->keeping, capacity * sizeof(*grown));
        if (grown == NULL)
            return;
        s->keeping = grown;
        s->keeping_capacity = capacity;
    }
    for (size_t i = 0; i < n_names; i++) {
        struct keeping *keeping = &s->keeping[s->n_keeping++];
        *keeping =
            (struct keeping){.sequence = sequence, .incarnation = incarnation, .page = (uint32_t)i};
        memcpy(keeping->name, names + i * STORE_NAME_BYTES, STORE_NAME_BYTES);
    }
}

static bool write_all(int file, const void *bytes, size_t n, off_t at)
{
    for (size_t done = 0; done < n;) {
        const ssize_t written =
            pwrite(file, (const char *)bytes + done, n - done, at + (off_t)done);
        if (written <= 0 && errno != EINTR)
            return false;
        done += written > 0 ? (size_t)written : 0;
    }
    return true;
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
    s->header = header_of(s, keeping->name);
    if (!make_room(s, sizeof(s->header) + s->header.data_bytes))
        return false;
    char text[STORE_FILE_NAME_BYTES];
    store_files_text(keeping->name, text);
    memcpy(text + 2 * STORE_NAME_BYTES, ".part", 6);
    s->file =
        openat(s->directory, text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    s->reads = false;
    s->planes = 0;
    sha256_init(&s->hash);
    sha256_update(&s->hash, &s->header, offsetof(struct header, sum));
    return s->file >= 0;
}

static void finish_writing(struct store *s)
{
    char part[STORE_FILE_NAME_BYTES], text[STORE_FILE_NAME_BYTES];
    store_files_text(s->header.name, text);
    memcpy(part, text, sizeof(part));
    memcpy(part + 2 * STORE_NAME_BYTES, ".part", 6);
    sha256_final(&s->hash, s->header.sum);
    const uint64_t bytes = sizeof(s->header) + s->header.data_bytes;
    if (!write_all(s->file, &s->header, sizeof(s->header), 0) ||
        renameat(s->directory, part, s->directory, text) != 0 ||
        store_files_add(&s->files, s->header.name, bytes, now_ns(), true, NULL) != STATUS_OK) {
        drop_page(s);
        return;
    }
    close(s->file);
    s->file = -1;
    add_name(&s->added, s->header.name);
}

/* One plane more. */
static void write_piece(struct store *s)
{
    const struct keeping *keeping = &s->keeping[s->next_keeping];
    const off_t at = (off_t)(sizeof(s->header) + s->planes * s->page_bytes);
    if (kv_holder_read_page(s->holder, keeping->sequence, keeping->incarnation, s->planes,
                            keeping->page, s->piece, NULL) != STATUS_OK) {
        drop_page(s); /* the sequence has gone meanwhile */
        s->next_keeping++;
        return;
    }
    if (!write_all(s->file, s->piece, s->page_bytes, at)) {
        log_warn(s->config.log, "--kv-store %s: %s; what was to be stored is not",
                 s->config.directory, strerror(errno));
        drop_page(s);
        s->next_keeping = s->n_keeping;
        return;
    }
    sha256_update(&s->hash, s->piece, s->page_bytes);
    if (++s->planes == s->n_planes) {
        finish_writing(s);
        s->next_keeping++;
    }
}

static bool work_on_writing(struct store *s)
{
    while (s->file < 0 && s->next_keeping < s->n_keeping &&
           !begin_writing(s, &s->keeping[s->next_keeping]))
        s->next_keeping++;
    if (s->next_keeping == s->n_keeping) {
        s->n_keeping = s->next_keeping = 0;
        return false;
    }
    write_piece(s);
    return true;
}

/* ---- reading --------------------------------------------------------------------------------- */

enum status store_restore(struct store *s, uint64_t request, uint64_t sequence,
                          uint32_t incarnation, const struct span *spans, size_t n_spans,
                          const uint8_t *names, size_t n_names, struct error *error)
{
    size_t n_pages = 0;
    for (size_t i = 0; i < n_spans; i++)
        n_pages += (spans[i].end - spans[i].begin) / PAGE_TOKENS;
    if (s->holder == NULL || n_pages == 0 || n_pages != n_names)
        return error_set(error, STATUS_INVALID, "%zu stored pages for spans of %zu", n_names,
                         n_pages);
    struct restoring *r = calloc(1, sizeof(*r));
    if (r != NULL) {
        r->pages = calloc(n_pages, sizeof(*r->pages));
        r->names = malloc(n_pages * STORE_NAME_BYTES);
    }
    if (r == NULL || r->pages == NULL || r->names == NULL) {
        free_restoring(r);
        return error_set(error, STATUS_NO_MEMORY, "no memory to restore %zu pages", n_pages);
    }
    memcpy(r->names, names, n_pages * STORE_NAME_BYTES);
    for (size_t i = 0; i < n_spans; i++)
        for (uint32_t token = spans[i].begin; token < spans[i].end; token += PAGE_TOKENS)
            r->pages[r->n++] = token / PAGE_TOKENS;
    r->request = request;
    r->sequence = sequence;
    r->incarnation = incarnation;
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
    drop_page(s);
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

/* The file is not what it should be: the restore has failed, and the file goes, if it is of this job. */
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
    s->file = open_file(s, name, &s->header);
    if (s->file < 0)
        return false;
    s->reads = true;
    s->planes = 0;
    sha256_init(&s->hash);
    sha256_update(&s->hash, &s->header, offsetof(struct header, sum));
    return true;
}

static bool read_all(int file, void *bytes, size_t n)
{
    for (size_t done = 0; done < n;) {
        const ssize_t got = read(file, (char *)bytes + done, n - done);
        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        done += got > 0 ? (size_t)got : 0;
    }
    return true;
}

/* A page that was read whole. */
static void finish_reading(struct store *s, struct restoring *r, const uint8_t *name)
{
    uint8_t sum[SHA256_BYTES];
    sha256_final(&s->hash, sum);
    if (memcmp(sum, s->header.sum, sizeof(sum)) != 0) {
        give_up_file(s, name, "has another content than its sum says");
        return;
    }
    struct store_file *file = store_files_find(&s->files, name);
    if (file != NULL)
        file->used = now_ns();
    futimens(s->file, NULL); /* also for the next process */
    drop_page(s);
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
    if (s->file >= 0 && !s->reads)
        drop_page(s); /* somebody waits for what is read: the page is written later, again */
    const uint8_t *name = r->names + r->done * STORE_NAME_BYTES;
    struct error error;
    if (s->file < 0 && !begin_reading(s, name)) {
        give_up_file(s, name, "is not a page of this job");
    } else if (!read_all(s->file, s->piece, s->page_bytes)) {
        give_up_file(s, name, "cannot be read");
    } else if (kv_holder_write_page(s->holder, r->sequence, r->incarnation, s->planes,
                                    r->pages[r->done], s->piece, &error) != STATUS_OK) {
        end_restoring(s, &error);
    } else {
        sha256_update(&s->hash, s->piece, s->page_bytes);
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
