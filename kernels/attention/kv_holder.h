/* kernels/attention/kv_holder.h - a KV holder's memory: pages of many sequences.
 *
 * The worker's own holder and the attention node use the same code. A page is `page_tiles` tiles of
 * one sequence, layer and KV head. Pages come from one address range that is reserved at creation
 * and touched as pages are taken (vLLM's PagedAttention, Kwon et al. 2023, section 4.2, has the
 * idea). Pages are *reserved* by count when a sequence is opened or extended (control path, may be
 * refused) and *taken* when a token first arrives (data path, cannot fail for memory).
 *
 * A sequence is named by (sequence, incarnation). For each of its (layer, KV head) there is a mark:
 * every token below it that lies in this holder's spans is held. Appends name their token range;
 * tokens that are held already are ignored, a gap is an error. Fork shares whole pages by reference
 * count. A sequence that is not computed any more can be kept for that: trim cuts what it has at a
 * page.
 *
 * Layers with a sliding window (kv_window.h) keep what rows to come can see: when tokens of a step
 * come, all rows before that step have been computed, and pages that no row from there on sees are
 * released. So of such a layer a sequence needs kv_window_pages pages at most, however long it is;
 * so many are reserved, less where fewer of any so many consecutive pages are this holder's. A fork
 * takes only what its rows see, and has copies of these pages: parent and child release them at
 * other times. Marks stay. One thread owns a holder. */
#ifndef LONGSPAN_KERNELS_ATTENTION_KV_HOLDER_H
#define LONGSPAN_KERNELS_ATTENTION_KV_HOLDER_H

#include "kernels/attention/attend.h"

enum { PAGE_TILES = 2, PAGE_TOKENS = PAGE_TILES * TILE_TOKENS };

/* Tokens [begin, end) of a sequence; begin and end are multiples of PAGE_TOKENS. */
struct span {
    uint32_t begin, end;
};

/* What a call is about: KV heads [head, head + n_heads) of one layer, counted in the whole
 * model. */
struct kv_heads {
    uint32_t layer, head, n_heads;
};

struct kv_holder; /* opaque */

struct kv_holder_shape {
    enum kv_type type;
    uint32_t head_dim;
    uint32_t first_layer, n_layers;     /* the layers that may be held here */
    uint32_t first_kv_head, n_kv_heads; /* the KV heads, likewise */
    const uint32_t *windows; /* [n_layers] in tokens, 0: none; NULL: no layer has one; copied */
    uint32_t chunk;          /* tokens of one sequence that come at a time, at most, where there are
                              * windows */
};

struct kv_holder_usage {
    uint64_t pages_total, pages_reserved, pages_taken; /* taken: physically in use, shared once */
    uint64_t page_bytes;
    uint64_t sequences;
};

/* What a holder takes of so much memory that is left, where nobody says how much: 80%. */
uint64_t kv_holder_share(uint64_t available_bytes);

/* Whether this host could ever hold n holders' pages, `bytes` each, as `option` says: a host's
 * memory is taken as pages fill, and the kernel kills who fills more than there is.
 * STATUS_INVALID: it has less; with what would do. */
enum status kv_holder_check_host(const char *option, uint64_t bytes, uint32_t n,
                                 struct error *error);

/* Reserves address space for memory_bytes of pages (rounded down to whole pages), or takes them
 * from the memory of `device`, of the table `kernels`, where that is not the host's; it must
 * outlive the holder. STATUS_EXHAUSTED: not even one page fits. STATUS_UNSUPPORTED: see tile_check.
 * STATUS_INVALID. STATUS_NO_MEMORY. */
enum status kv_holder_create(struct kv_holder **holder, const struct kernels *kernels,
                             struct device *device, const struct kv_holder_shape *shape,
                             uint64_t memory_bytes, struct error *error);
void kv_holder_destroy(struct kv_holder *holder);

/* Opens a sequence with its spans (ascending, disjoint), or adds spans to an open one (tokens that
 * it has already are ignored), and reserves their pages in all layers and heads, in those with a
 * window as many as are needed at a time. `shared_tokens`: a fork will bring the pages below that
 * token (a multiple of PAGE_TOKENS), which are not reserved again where there is no window, and
 * cannot be appended to before; what was said when the sequence was opened counts. A newer
 * incarnation closes the one that is open, even when it is then refused. STATUS_EXHAUSTED: pages,
 * or page tables (a quarter of the memory, or 16 MiB if that is more); nothing is changed.
 * STATUS_INVALID: spans overlap or are not aligned, an older incarnation, or a span that begins
 * below a mark. */
enum status kv_holder_reserve(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                              const struct span *spans, size_t n_spans, uint32_t shared_tokens,
                              struct error *error);

/* A child takes over its parent's tokens [0, n_tokens), a multiple of PAGE_TOKENS. */
struct kv_fork {
    uint64_t parent, child;
    uint32_t parent_incarnation, child_incarnation;
    uint32_t n_tokens;
};

/* Shares the parent's whole pages below n_tokens with the child, for these heads; the child's marks
 * there become n_tokens. In a layer with a window, copies those that rows from n_tokens on see. The
 * parent may be closed later. Forking again is ignored. STATUS_NOT_FOUND: child or parent is not
 * open. STATUS_INVALID: the parent lacks a token below n_tokens that it should hold, or has
 * released one that the child sees, or the heads are outside the shape. */
enum status kv_holder_fork(struct kv_holder *holder, const struct kv_fork *fork,
                           struct kv_heads heads, struct error *error);

/* Keys and values of tokens [first, first + n_tokens), in the holder's type and the device's
 * memory: token i of them, head h of the call's is row i * n_heads + h of `k`, and of `v`. */
struct kv_append {
    uint32_t position; /* of the sequence's first row in the step that they come from */
    uint32_t first, n_tokens;
    const void *k, *v;
};

/* Stores them. Tokens outside the spans are skipped, tokens below the mark ignored. In a layer with
 * a window, all rows before `position` are done, and what no later row sees is released.
 * STATUS_NOT_FOUND: the incarnation is not open. STATUS_PROTOCOL: a gap (tokens between the mark
 * and `first` are missing), a token that a fork has to bring, more tokens than come at a time where
 * there is a window, or a layer, head or token out of range; the text says which. On failure
 * nothing is stored. */
enum status kv_holder_append(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                             struct kv_heads heads, const struct kv_append *append,
                             struct error *error);

/* On a device with memory of its own appends are collected; k and v must stay until they are
 * written: before attend_run reads their tiles, and before k and v are used anew. In host memory
 * there is nothing to do. */
void kv_holder_flush(struct kv_holder *holder);

/* In place of flush, for who has attend_prepare write them: what was collected; valid until the
 * next append. k and v must have been asked for before the appends: where there is no room for
 * more, some are written at once. */
struct attend_writes kv_holder_take_writes(struct kv_holder *holder);

/* The smallest mark over these heads: all owned tokens below it are held. 0 when not open. */
uint32_t kv_holder_mark(const struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                        struct kv_heads heads);

/* What some rows are about to read: of these tiles those that have a token from `first_token` on
 * (0, or with a window kv_window_begin of the first row). */
struct kv_view {
    const struct tile_range *ranges;
    size_t n_ranges;
    uint32_t first_token;
};

/* Where the tiles of a view are, for struct attend_work. They must all be owned and held for that
 * layer and head: else STATUS_NOT_FOUND (not open, or a tile was released) or STATUS_PROTOCOL (a
 * token is missing: the text names the first), and *source is untouched. Valid until the next call
 * that changes the sequence. */
enum status kv_holder_source(const struct kv_holder *holder, uint64_t sequence,
                             uint32_t incarnation, uint32_t layer, uint32_t head,
                             const struct kv_view *view, struct tile_source *source,
                             struct error *error);

/* Frees the sequence and its reservation, if this incarnation or an older one is open. It stays
 * closed, as only reserve opens: late appends and queries get STATUS_NOT_FOUND. Closing what is not
 * open is fine. */
void kv_holder_close(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation);

/* Frees what the sequence has from token n_tokens on (a multiple of PAGE_TOKENS), pages and
 * reservation, if this very incarnation is open; what is below stays, for forks: in layers with a
 * window what a fork at n_tokens sees. Without anything below it is closed. */
void kv_holder_trim(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                    uint32_t n_tokens);

/* Whole pages as bytes, for keeping them on disk. A plane is one layer and KV head, counted from
 * the shape's first ones, heads of a layer together; a page is kv_holder_usage's page_bytes, in a
 * layout that belongs to this program and this kind of device. `to` and `from` are host memory.
 * Reading: STATUS_NOT_FOUND when not all of the page is held. Writing: only pages that were
 * reserved, have no token yet, and are of a layer without a window (STATUS_INVALID); they count
 * when kv_holder_written says that all pages of the sequence's spans were written (STATUS_INVALID:
 * one was not; STATUS_NOT_FOUND: it is not open), from then on as if their tokens had been
 * appended. All fail like the device. */
uint64_t kv_holder_planes(const struct kv_holder *holder);
enum status kv_holder_read_page(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                                uint64_t plane, uint32_t page, void *to, struct error *error);
enum status kv_holder_write_page(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                                 uint64_t plane, uint32_t page, const void *from,
                                 struct error *error);
enum status kv_holder_written(struct kv_holder *holder, uint64_t sequence, uint32_t incarnation,
                              struct error *error);

/* As kv_pool_memory. */
void kv_holder_memory(const struct kv_holder *holder, void **base, size_t *bytes);

struct kv_holder_usage kv_holder_usage(const struct kv_holder *holder);

#endif
