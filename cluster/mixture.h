/* cluster/mixture.h - which type each tensor of a model file gets, by the names that people use.
 *
 * A name is a type ("Q4_0": every matrix has it) or a mixture, which gives more bits to the tensors
 * whose errors cost most: the output matrix, and in some layers attn_v and ffn_down. Vectors
 * (norms) and routers of experts are F32 always. */
#ifndef LONGSPAN_CLUSTER_MIXTURE_H
#define LONGSPAN_CLUSTER_MIXTURE_H

#include "model/gguf_writer.h"
#include "model/hparams.h"
#include "model/weights.h"
#include "sys/status.h"

#include <stdint.h>

/* Layers with more bits. Of n, `more` are the first and the last eighth and every third between. */
enum mixture_layers { MIXTURE_NO_LAYER, MIXTURE_FIRST_FOUR, MIXTURE_FIRST_EIGHTH, MIXTURE_MORE };

struct mixture {
    const char *name;
    const char *about;           /* half a line */
    uint32_t file_type;          /* what general.file_type says; MIXTURE_NO_FILE_TYPE: nothing */
    enum gguf_type type;         /* of matrices, where nothing below says otherwise */
    enum gguf_type output;       /* of output.weight, or of the embedding where these are one */
    enum gguf_type higher;       /* of attn_v and ffn_down in the layers that have more bits */
    enum mixture_layers v, down; /* these layers */
};

#define MIXTURE_NO_FILE_TYPE UINT32_MAX

/* Ended by a NULL name; the last one, "mixed", has all types in turn and is for tests. */
extern const struct mixture mixtures[];

/* In any case of letters. STATUS_INVALID: no such name; the text lists them. */
enum status mixture_find(const struct mixture **mixture, const char *name, struct error *error);

/* The type of a tensor of this model, as far as its rows are whole blocks of it. */
enum gguf_type mixture_type(const struct mixture *mixture, const struct hparams *hparams,
                            enum weights_id id, uint32_t layer);

/* `type`, or, where rows of n_columns are no whole blocks of it, the next of smaller blocks and no
 * fewer bits: Q4_K goes to Q5_0, Q5_K to Q5_1, Q6_K to Q8_0, and all of these to F16. */
enum gguf_type mixture_fitting_type(enum gguf_type type, uint64_t n_columns);

/* Adds general.file_type and general.quantization_version. */
enum status mixture_add_keys(const struct mixture *mixture, struct gguf_writer *writer,
                             struct error *error);

#endif
