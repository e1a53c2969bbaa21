/* attention_node/store_page.h - one stored page as a file: its format, and how it is written and
 * read.
 *
 * A file has
 *     a header: what the page belongs to (the model's fingerprint, KV type, layers, heads, tile, kind of
 *               device), its name, and the SHA-256 of the header and the data
 *     the data: plane by plane, as kv_holder_read_page gives it
 * little-endian, without gaps. It is written under another name, ".part" behind it, and renamed
 * when it is whole: a file with a page's name (store_files_text) was finished once. Whether it
 * still is what it was is known when its last byte has been read.
 *
 * One page at a time, in pieces that the caller chooses: begin, then write or read all data, then
 * finish; or close in between, which leaves nothing behind. One thread. */
#ifndef LONGSPAN_ATTENTION_NODE_STORE_PAGE_H
#define LONGSPAN_ATTENTION_NODE_STORE_PAGE_H

#include "attention_node/store.h"
#include "sys/sha256.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* As it lies in the file. */
struct store_page_header {
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

/* A page in the making. */
struct store_page {
    int directory; /* a descriptor, the caller's */
    int file;      /* -1: none */
    bool reads;
    uint64_t done; /* bytes of data, written or read */
    struct store_page_header header;
    struct sha256 hash;
};

/* The header of a page of this job but for its sum. */
struct store_page_header store_page_header(const struct store_job *job, uint64_t data_bytes,
                                           const uint8_t name[STORE_NAME_BYTES]);

/* Whether the directory has a file with this header and as many bytes; its data is not looked
 * at. */
bool store_page_is_there(int directory, const struct store_page_header *header);

/* Begins to write. False: no such file can be made; errno says why. */
bool store_page_create(struct store_page *page, int directory,
                       const struct store_page_header *header);
/* False, with errno: the disk is full, or worse. The page is still to be closed. */
bool store_page_write(struct store_page *page, const void *data, size_t n);
/* All data is written: the file gets its name. False, with errno: it does not exist. Closed either
 * way. */
bool store_page_finish(struct store_page *page);

/* Begins to read. False: there is none with this header. */
bool store_page_open(struct store_page *page, int directory,
                     const struct store_page_header *header);
/* False: it ends too early, or cannot be read. */
bool store_page_read(struct store_page *page, void *data, size_t n);
/* All data is read: whether it has the sum that the header says; if so the file counts as used now,
 * for the next process too. */
bool store_page_is_right(struct store_page *page);

/* Without a page nothing happens. What was written and is not finished is deleted. */
void store_page_close(struct store_page *page);

#endif
