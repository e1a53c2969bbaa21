/* tests/fuzz/pieces.h - inputs of several pieces, and how the fuzzer changes them.
 *
 * A piece is a kind (1 byte), a length (2 bytes, little-endian) and bytes; the last one may be cut
 * off. seeds.c writes the same. libFuzzer knows nothing of lengths: what it inserts into one piece
 * would tear all that come behind. So the change is made in a piece, mostly, and the length put
 * right; or pieces are dropped, repeated and exchanged. Include it once a program. */
#ifndef LONGSPAN_TESTS_FUZZ_PIECES_H
#define LONGSPAN_TESTS_FUZZ_PIECES_H

#include "tests/fuzz/fuzz.h"

enum { FUZZ_PIECE_HEAD = 3, FUZZ_PIECES_MOST = 64 };

struct fuzz_pieces {
    const uint8_t *data;
    size_t n;
};
struct fuzz_piece {
    uint8_t kind;
    const uint8_t *data;
    size_t n;
};

static inline bool fuzz_next(struct fuzz_pieces *pieces, struct fuzz_piece *piece)
{
    if (pieces->n < FUZZ_PIECE_HEAD)
        return false;
    const size_t claimed = pieces->data[1] | (size_t)pieces->data[2] << 8;
    piece->kind = pieces->data[0];
    piece->data = pieces->data + FUZZ_PIECE_HEAD;
    piece->n = claimed < pieces->n - FUZZ_PIECE_HEAD ? claimed : pieces->n - FUZZ_PIECE_HEAD;
    pieces->data += FUZZ_PIECE_HEAD + piece->n;
    pieces->n -= FUZZ_PIECE_HEAD + piece->n;
    return true;
}

/* libFuzzer's own changes; not there where inputs are only replayed. */
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *data, size_t n, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t most, unsigned seed);

/* Appends a piece, cut off where there is no more room. */
static inline size_t fuzz_put(uint8_t *data, size_t at, size_t most, const struct fuzz_piece *piece)
{
    if (most - at < FUZZ_PIECE_HEAD)
        return at;
    const size_t room = most - at - FUZZ_PIECE_HEAD, n = piece->n < room ? piece->n : room;
    data[at++] = piece->kind;
    data[at++] = (uint8_t)n;
    data[at++] = (uint8_t)(n >> 8);
    memcpy(data + at, piece->data, n);
    return at + n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t n, size_t most, unsigned seed)
{
    enum {
        DROP,
        REPEAT,
        EXCHANGE,
        KIND,
        WHOLE,
        INSIDE,
        WAYS = 16
    }; /* INSIDE and above: in a piece */
    struct fuzz_piece list[FUZZ_PIECES_MOST + 1];
    const unsigned way = seed % WAYS;
    size_t n_pieces = 0, at = 0;
    uint8_t *copy = malloc(n + 1), *changed = malloc(UINT16_MAX);
    FUZZ_CHECK(copy != NULL && changed != NULL);
    memcpy(copy, data, n);
    for (struct fuzz_pieces rest = {copy, n};
         n_pieces < FUZZ_PIECES_MOST && fuzz_next(&rest, &list[n_pieces]);)
        n_pieces++;
    if (n_pieces == 0 || way == WHOLE) {
        free(copy);
        free(changed);
        return LLVMFuzzerMutate(data, n, most);
    }
    const size_t i = seed / WAYS % n_pieces, j = seed / WAYS / n_pieces % n_pieces;
    struct fuzz_piece *piece = &list[i], other = list[j];
    if (way == DROP || way == REPEAT) {
        const size_t next = way == DROP ? i + 1 : i, to = way == DROP ? i : i + 1;
        memmove(list + to, list + next, (n_pieces - next) * sizeof(*list));
        n_pieces = n_pieces - next + to;
    } else if (way == EXCHANGE) {
        list[j] = *piece;
        *piece = other;
    } else if (way == KIND) {
        piece->kind = (uint8_t)(piece->kind ^ 1u << seed / WAYS % 8);
    } else {
        const size_t room = most < UINT16_MAX ? most : UINT16_MAX;
        const size_t held = piece->n < room ? piece->n : room;
        memcpy(changed, piece->data, held);
        piece->n = LLVMFuzzerMutate(changed, held, room);
        piece->data = changed;
    }
    for (size_t k = 0; k < n_pieces; k++)
        at = fuzz_put(data, at, most, &list[k]);
    free(copy);
    free(changed);
    return at;
}

#endif
