/* proto/arena.h - memory of one message at a time, for protobuf-c to unpack and for us to build.
 *
 * Everything is freed at once by the next arena_reset, which also joins what was too small into
 * one block: after the first messages nothing is allocated any more. Of a message that takes more
 * than ARENA_KEPT_BYTES the rest is given back: it is rare. At most `limit` bytes, so that
 * a header that unpacks to far more than its own length fails, and takes no memory. */
#ifndef LONGSPAN_PROTO_ARENA_H
#define LONGSPAN_PROTO_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

enum { ARENA_KEPT_BYTES = 4 << 20 };

struct arena {
    ProtobufCAllocator allocator; /* give &arena->allocator to ..._unpack; no need to free */
    unsigned char *block;
    size_t block_bytes, used;
    struct arena_extra *extra; /* what did not fit into the block */
    size_t total, limit;
};

/* `limit` 0: 64 MiB. The arena must not move afterwards. */
void arena_init(struct arena *arena, size_t limit);
void arena_destroy(struct arena *arena);

void arena_reset(struct arena *arena);

/* Aligned to 16, undefined. NULL: the limit, or no memory. */
void *arena_take(struct arena *arena, size_t bytes);
/* n * bytes, zeroed. */
void *arena_array(struct arena *arena, size_t n, size_t bytes);

#endif
