/* model/inspect.h - shows what is in a model: `longspan model inspect MODEL`.
 *
 * Works for every file that model_open accepts: of an architecture that we do not support, or a
 * vocabulary alone, it shows what there is and says what is not supported. */
#ifndef LONGSPAN_MODEL_INSPECT_H
#define LONGSPAN_MODEL_INSPECT_H

#include "model/model_file.h"
#include "sys/status.h"

#include <stdbool.h>
#include <stdio.h>

/* Prints file, hyper-parameters, KV bytes per token (f16 and f32), the tokenizer, bits per weight,
 * totals per tensor type, and every tensor (name, type, shape, bytes). Text for people, or one JSON
 * object:
 *   {"file", "format", "bytes", "parts": [{"file", "bytes", "tensors"}], "architecture", "name", "supported": bool, "why_not": string or
 * null, "hparams": {...} or null, "kv_bytes_per_token": {"f16", "f32"} or null, "tokenizer":
 * {"model", "pre", "tokens", "supported", "why_not"} or null, "parameters", "active_parameters",
 * "bits_per_weight", "types": [{"type", "tensors", "bytes"}], "tensors": [{"name", "type", "shape":
 * [...], "bytes"}], "fingerprint": hex} Bytes in names that are not UTF-8 or not printable are
 * shown escaped (U+FFFD in JSON). STATUS_IO: the stream failed. STATUS_NO_MEMORY. */
enum status inspect_print(FILE *stream, const struct model_file *file, bool json,
                          struct error *error);

#endif
