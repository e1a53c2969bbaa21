/* kernels/attention/attend.h - attention over tiles, on all lanes, as one lean schedule.
 *
 * The executor takes a list of works; a work is some consecutive query tokens of one sequence that
 * lie in one tile, with all query heads of one KV head, against some tiles of that sequence, layer
 * and KV head. All (work, row block, tile) of a call form one line that is cut in equal shares over
 * the lanes (schedule.h), whatever the mixture of decode and prefill and of short and long
 * sequences. A tile is evaluated whole, in one order (score: along head_dim; o: along tokens), from
 * nothing, by one kernel for decode and prefill; the tiles' partials are merged as tree.h says.
 *
 * A tile in memory ([head_dim] = D, 64-byte aligned) has two halves of equal size. f32, f16, bf16:
 *     K  [TILE_TOKENS / 64][D][64]      transposed in blocks of 64 tokens: no horizontal sums
 *     V  [TILE_TOKENS][D]
 * q8_0, integers and then the f16 scales of their blocks of 32 dimensions:
 *     K  [TILE_TOKENS / 16][D / 4][16][4] k + 128, uint8; [TILE_TOKENS / 16][D / 32][16] scales
 *     V  [D / 32][TILE_TOKENS][32] v, int8;               [D / 32][TILE_TOKENS] scales
 * so that one instruction adds 4 products to each of 16 tokens' sums where there is such a one
 * (VNNI), and a scale of V is multiplied into p for 16 tokens at a time.
 * LeanAttention, sections 4.1 to 4.3. */
#ifndef LONGSPAN_KERNELS_ATTENTION_ATTEND_H
#define LONGSPAN_KERNELS_ATTENTION_ATTEND_H

#include "kernels/attention/partial.h"
#include "kernels/attention/tree.h"
#include "kernels/quant/kv_type.h"
#include "sys/status.h"
#include "sys/thread_pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where tile t of a sequence, layer and KV head lies:
 *     pages[(t - first_tile) / page_tiles] + ((t - first_tile) % page_tiles) * tile_bytes */
struct tile_source {
    void *const *pages;
    uint32_t first_tile, page_tiles;
};

/* STATUS_UNSUPPORTED, and why: an unknown type, or a head_dim that tiles cannot have: a multiple of
 * 8, for q8_0 of 32, up to 512. */
enum status tile_check(enum kv_type type, uint32_t head_dim, struct error *error);

/* Bytes of one tile: 2 * TILE_TOKENS rows. */
size_t tile_bytes(enum kv_type type, uint32_t head_dim);

/* Writes `n_tokens` tokens into a tile from token `first` on. k and v: token i's row, in
 * the KV type, at k + i * stride_bytes (likewise v), aligned to its elements (q8_0: at will). */
void tile_write(void *tile, enum kv_type type, uint32_t head_dim, uint32_t first, uint32_t n_tokens,
                const void *k, const void *v, size_t stride_bytes);

/* The reverse; for tests. */
void tile_read(const void *tile, enum kv_type type, uint32_t head_dim, uint32_t first,
               uint32_t n_tokens, void *k, void *v, size_t stride_bytes);

/* Some tokens of one tile, to be written. k, v: memory of the device; token i's row in the KV type
 * at k + i * stride_bytes. */
struct tile_tokens {
    void *tile;
    const void *k, *v;
    uint32_t first, n_tokens;
};

/* Several, all with the same stride. */
struct attend_writes {
    const struct tile_tokens *tokens;
    size_t n, stride_bytes;
};

/* One work. Query row r = token * group + g is at q + token * q_token_stride + g * head_dim. */
struct attend_work {
    const float *q;
    size_t q_token_stride; /* floats */
    uint32_t n_tokens;     /* query tokens, all inside one tile */
    uint32_t position;     /* of the first; own tile = position / TILE_TOKENS */
    uint32_t window;       /* a row at p sees tokens (p - window, p]; 0: all up to p */
    struct tile_source source;
    const struct tile_range *ranges; /* whole tiles before the own tile, as for tree_nodes */
    uint32_t n_ranges;
    /* Tiles [0, settled_tiles) were written before attend_prepare, and are not again: a device may
     * read them before the work that it does at the launch has ended. 0 is always right. */
    uint32_t settled_tiles;
    bool own_tile; /* evaluate the own tile too, causally; tile own is in `source` */
    float *out;    /* the nodes' partials in the order of tree_nodes, each
                    * partial_floats(n_tokens * group, head_dim); then the own tile's */

    /* Not NULL: `ranges` are all of [0, own tile), so that with the own tile the rows see
     * everything here. Their finished rows are written instead of partials, o / l (0 for a row that
     * saw no token): row r to final_out + (r / group) * final_token_stride + (r % group) *
     * head_dim. They have the bits that partial_fold_finish gives on that device. `out` is not
     * used. */
    float *final_out;
    size_t final_token_stride; /* floats */
};

struct attend_shape {
    enum kv_type type;
    uint32_t head_dim; /* as tile_check; multiples of 16 are faster in decode */
    uint32_t group;    /* query heads per KV head, 1..64 */
    float scale;       /* multiplies q . k */
    float soft_cap;    /* score = cap * tanh(score / cap); 0: none */
};

struct attend; /* opaque: scratch memory of one thread pool's lanes, or of one device */
struct kernels;
struct device;

/* Attention on the device that `device` is in the table `kernels`, whose memory q, tiles and `out`
 * of every work are then. Host memory has no need of a device (NULL); other devices have none of a
 * pool. Both must outlive it. Nothing is allocated later, except growth of the schedule's
 * tables. */
enum status attend_create(struct attend **attend, const struct kernels *kernels,
                          struct device *device, struct thread_pool *pool,
                          const struct attend_shape *shape, struct error *error);
void attend_destroy(struct attend *attend);

/* From the next run on: every row block of every work in n_parts equal parts (schedule_fixed),
 * which lanes take in turn. 0, as after create: the lean schedule. For comparisons: same bits. */
void attend_set_parts(struct attend *attend, uint32_t n_parts);

/* What the device's own create gave (kernels/attention/device.h); NULL in host memory. */
void *attend_device_state(struct attend *attend);

/* Floats that a work writes to `out`. */
size_t attend_out_floats(const struct attend_shape *shape, const struct attend_work *work);

/* Evaluates all works; on a device other than the host's, in the order of its other work, which
 * the caller waits for. STATUS_NO_MEMORY only. Works were checked by the caller (ranges inside
 * [0, own tile), tokens inside one tile, pages present). */
enum status attend_run(struct attend *attend, const struct attend_work *works, size_t n_works,
                       struct error *error);

/* attend_run in two steps, for devices where the second can be recorded in a graph: prepare plans
 * these works as call `slot` (small numbers: one for each layer, say) and brings what the device
 * must know there; launch writes `writes` (NULL: nothing) into their tiles and evaluates the works,
 * as often as it is called, by kernels whose arguments never change. A launch that was recorded on
 * the device's stream serves whatever is prepared for the slot later, as long as *kind (NULL:
 * nobody asks) is the same. Until the last launch, `works` and what they point to stay as they are
 * (in host memory nothing is copied). Prepare must not be recorded itself. Slots are prepared in
 * turns: whoever prepares one anew begins a turn, and slots that have not been prepared in it must
 * not be launched before they are. STATUS_NO_MEMORY; launch of what was not prepared:
 * STATUS_INVALID. */
enum status attend_prepare(struct attend *attend, uint32_t slot, const struct attend_work *works,
                           size_t n_works, const struct attend_writes *writes, uint64_t *kind,
                           struct error *error);
enum status attend_launch(struct attend *attend, uint32_t slot, struct error *error);

#endif
