/* kernels/attention/device.h - attention on a device that has memory of its own.
 *
 * What stands behind attend.h and kv_holder.h there; NULL in struct kernels means host memory,
 * where attend.c and tile.c do it. A device lays a tile out as it likes: as many bytes as
 * tile_bytes says, of TILE_TOKENS tokens. All is done in the order of the device's other work. */
#ifndef LONGSPAN_KERNELS_ATTENTION_DEVICE_H
#define LONGSPAN_KERNELS_ATTENTION_DEVICE_H

#include "kernels/attention/attend.h"

struct attention_device {
    /* As attend_create, attend_destroy, attend_set_parts, attend_run, attend_prepare and
     * attend_launch. */
    enum status (*create)(void **state, struct device *device, const struct attend_shape *shape,
                          struct error *error);
    void (*destroy)(void *state);
    void (*set_parts)(void *state, uint32_t n_parts);
    /* For tests and comparisons, from the next run on. At most so many lanes (0: all that the
     * device has at a time): same bits. Partials of a node in any order, whatever tree.h says:
     * other bits. */
    void (*set_lanes)(void *state, uint32_t n_lanes);
    void (*set_any_order)(void *state, bool any_order);
    enum status (*run)(void *state, const struct attend_work *works, size_t n_works,
                       struct error *error);
    enum status (*prepare)(void *state, uint32_t slot, const struct attend_work *works,
                           size_t n_works, const struct attend_writes *writes, uint64_t *kind,
                           struct error *error);
    enum status (*launch)(void *state, uint32_t slot, struct error *error);

    /* Writes tokens into tiles, all in one launch; `writes` may be reused on return. A failure is
     * reported by the device's finish. */
    void (*write)(struct device *device, enum kv_type type, uint32_t head_dim, size_t stride_bytes,
                  const struct tile_tokens *writes, size_t n_writes);

    /* The reverse of one write, to k and v in device memory; for tests. */
    void (*read)(struct device *device, enum kv_type type, uint32_t head_dim, size_t stride_bytes,
                 const void *tile, uint32_t first, uint32_t n_tokens, void *k, void *v);
};

#endif
