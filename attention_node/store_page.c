/* store_page.c - see store_page.h. */
#include "attention_node/store_page.h"

#include "attention_node/store_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VERSION = 1 };
static const char MAGIC[8] = "LSPANKV";

_Static_assert(sizeof(struct store_page_header) == 168 &&
                   offsetof(struct store_page_header, sum) == 136,
               "no gaps");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little-endian");

struct store_page_header store_page_header(const struct store_job *job, uint64_t data_bytes,
                                           const uint8_t name[STORE_NAME_BYTES])
{
    const struct kv_holder_shape *shape = &job->shape;
    struct store_page_header header = {.version = VERSION,
                                       .header_bytes = sizeof(header),
                                       .kv_type = (uint32_t)shape->type,
                                       .head_dim = shape->head_dim,
                                       .first_layer = shape->first_layer,
                                       .n_layers = shape->n_layers,
                                       .first_kv_head = shape->first_kv_head,
                                       .n_kv_heads = shape->n_kv_heads,
                                       .tile_tokens = TILE_TOKENS,
                                       .page_tokens = PAGE_TOKENS,
                                       .data_bytes = data_bytes};
    memcpy(header.magic, MAGIC, sizeof(header.magic));
    memcpy(header.fingerprint, job->fingerprint, sizeof(header.fingerprint));
    memcpy(header.device, job->device, sizeof(header.device));
    memcpy(header.name, name, sizeof(header.name));
    return header;
}

/* The hash begins with what the header says, which is what was expected. */
static void begin(struct store_page *page, int directory, int file, bool reads,
                  const struct store_page_header *header)
{
    *page = (struct store_page){
        .directory = directory, .file = file, .reads = reads, .header = *header};
    sha256_init(&page->hash);
    sha256_update(&page->hash, header, offsetof(struct store_page_header, sum));
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Opens a regular file of the right size, whose header is `expected`, and reads its sum. -1: it is
 * none. */
static int open_file(int directory, const struct store_page_header *expected,
                     uint8_t sum[SHA256_BYTES])
{
    char text[STORE_FILE_NAME_BYTES];
    struct stat about;
    struct store_page_header header;
    store_files_text(expected->name, text);
    const int file = openat(directory, text, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file >= 0 && fstat(file, &about) == 0 && S_ISREG(about.st_mode) &&
        (uint64_t)about.st_size == sizeof(header) + expected->data_bytes &&
        read(file, &header, sizeof(header)) == (ssize_t)sizeof(header) &&
        memcmp(&header, expected, offsetof(struct store_page_header, sum)) == 0) {
        memcpy(sum, header.sum, SHA256_BYTES);
        return file;
    }
    if (file >= 0)
        close(file);
    return -1;
}

bool store_page_is_there(int directory, const struct store_page_header *header)
{
    uint8_t sum[SHA256_BYTES];
    const int file = open_file(directory, header, sum);
    if (file >= 0)
        close(file);
    return file >= 0;
}

bool store_page_open(struct store_page *page, int directory, const struct store_page_header *header)
{
    uint8_t sum[SHA256_BYTES];
    const int file = open_file(directory, header, sum);
    if (file < 0)
        return false;
    begin(page, directory, file, true, header);
    memcpy(page->header.sum, sum, sizeof(sum));
    return true;
}

bool store_page_read(struct store_page *page, void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        const ssize_t got = read(page->file, (char *)data + done, n - done);
        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        done += got > 0 ? (size_t)got : 0;
    }
    sha256_update(&page->hash, data, n);
    page->done += n;
    return true;
}

bool store_page_is_right(struct store_page *page)
{
    uint8_t sum[SHA256_BYTES];
    sha256_final(&page->hash, sum);
    if (page->done != page->header.data_bytes || memcmp(sum, page->header.sum, sizeof(sum)) != 0)
        return false;
    futimens(page->file, NULL);
    return true;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* What a page is called until it is whole. */
static void unfinished_text(const struct store_page *page, char text[STORE_FILE_NAME_BYTES])
{
    store_files_text(page->header.name, text);
    memcpy(text + 2 * STORE_NAME_BYTES, STORE_FILES_UNFINISHED, sizeof(STORE_FILES_UNFINISHED));
}

bool store_page_create(struct store_page *page, int directory,
                       const struct store_page_header *header)
{
    char text[STORE_FILE_NAME_BYTES];
    begin(page, directory, -1, false, header);
    unfinished_text(page, text);
    page->file =
        openat(directory, text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    return page->file >= 0;
}

static bool write_at(int file, const void *bytes, size_t n, uint64_t at)
{
    for (size_t done = 0; done < n;) {
        const ssize_t written =
            pwrite(file, (const char *)bytes + done, n - done, (off_t)(at + done));
        if (written == 0 || (written < 0 && errno != EINTR))
            return false;
        done += written > 0 ? (size_t)written : 0;
    }
    return true;
}

bool store_page_write(struct store_page *page, const void *data, size_t n)
{
    if (!write_at(page->file, data, n, sizeof(page->header) + page->done))
        return false;
    sha256_update(&page->hash, data, n);
    page->done += n;
    return true;
}

bool store_page_finish(struct store_page *page)
{
    char part[STORE_FILE_NAME_BYTES], text[STORE_FILE_NAME_BYTES];
    unfinished_text(page, part);
    store_files_text(page->header.name, text);
    sha256_final(&page->hash, page->header.sum);
    if (!write_at(page->file, &page->header, sizeof(page->header), 0) ||
        renameat(page->directory, part, page->directory, text) != 0) {
        store_page_close(page);
        return false;
    }
    close(page->file);
    page->file = -1;
    return true;
}

void store_page_close(struct store_page *page)
{
    char text[STORE_FILE_NAME_BYTES];
    if (page->file < 0)
        return;
    const int why = errno;
    close(page->file);
    page->file = -1;
    if (!page->reads) {
        unfinished_text(page, text);
        unlinkat(page->directory, text, 0);
    }
    errno = why;
}
