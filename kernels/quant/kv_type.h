/* kernels/quant/kv_type.h - the number formats of the KV cache.
 *
 * A *row* is the head_dim values of one token and KV head, K or V. It is rounded once, where it is
 * made (kv_round); the rows travel and are stored so, and whoever attends to them uses the rounded
 * values. A row of f32, f16 or bf16 is an array; of q8_0 it is head_dim / 32 blocks of a scale and
 * 32 integers, byte for byte the weights' Q8_0. */
#ifndef LONGSPAN_KERNELS_QUANT_KV_TYPE_H
#define LONGSPAN_KERNELS_QUANT_KV_TYPE_H

#include "kernels/quant/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* These numbers travel (proto/longspan.proto). */
enum kv_type { KV_F32 = 0, KV_F16 = 1, KV_BF16 = 2, KV_Q8_0 = 3 };

enum { KV_TYPES = 4, KV_MAX_BLOCK = 32 };

/* "f16", "bf16", "q8_0", "f32", NULL: what an option may be. */
extern const char *const kv_type_choices[];

/* "f32", "f16", "bf16", "q8_0"; NULL for an unknown type. */
const char *kv_type_name(enum kv_type type);
bool kv_type_parse(enum kv_type *type, const char *name);

/* Elements of a block: a row is a whole number of them. 1, and 32 for q8_0. */
uint32_t kv_type_block(enum kv_type type);

/* Bytes of a row of n values, or of n / head_dim rows one after the other; n: whole blocks. */
size_t kv_row_bytes(enum kv_type type, size_t n);

/* n values, whole blocks, to the type and back. Both as weight_quantize and weight_dequantize. */
void kv_round(enum kv_type type, void *out, const float *x, size_t n);
void kv_widen(enum kv_type type, float *out, const void *x, size_t n);

#endif
