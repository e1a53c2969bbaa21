/* gguf_form.c - see gguf_form.h. */
#include "cluster/gguf_form.h"

#include "model/tokenizer_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Frequencies without scaling over those with it. */
static enum status find_factors(struct gguf_form *form, const struct hparams *hparams,
                                struct error *error)
{
    const uint32_t n = hparams->rope_dims / 2;
    struct hparams_rope plain = hparams->rope;
    plain.scaling = ROPE_PLAIN;
    plain.factor = 1;
    double *scaled = malloc(n * sizeof(*scaled)), *free_ones = malloc(n * sizeof(*free_ones));
    form->rope_factors = malloc(n * sizeof(*form->rope_factors));
    enum status status = STATUS_OK;
    if (scaled == NULL || free_ones == NULL || form->rope_factors == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for %u frequencies", n);
    if (status == STATUS_OK)
        status = hparams_rope_frequencies(hparams, &hparams->rope, form->file, scaled, error);
    if (status == STATUS_OK)
        status = hparams_rope_frequencies(hparams, &plain, form->file, free_ones, error);
    for (uint32_t i = 0; status == STATUS_OK && i < n; i++)
        form->rope_factors[i] = (float)(free_ones[i] / scaled[i]);
    free(scaled);
    free(free_ones);
    return status;
}

enum status gguf_form_make(struct gguf_form *form, const struct model_file *file,
                           const struct hparams *hparams, struct error *error)
{
    const struct architecture_traits *traits = architecture_traits(hparams->architecture);
    *form = (struct gguf_form){.file = file,
                               .head_dim = hparams->head_dim,
                               .rope_dims = hparams->rope_dims,
                               .pairs = hparams->rope_neox && !traits->neox,
                               .norm_offset = hparams->norm_offset,
                               .architecture = traits->name};
    if (hparams->rope.scaling != ROPE_LLAMA3)
        return STATUS_OK;
    const enum status status = find_factors(form, hparams, error);
    if (status != STATUS_OK)
        gguf_form_free(form);
    return status;
}

void gguf_form_free(struct gguf_form *form)
{
    free(form->rope_factors);
    form->rope_factors = NULL;
}

bool gguf_form_keeps(const struct gguf_form *form, const char *key)
{
    char scaling[64];
    const int n = snprintf(scaling, sizeof(scaling), "%s.rope.scaling.", form->architecture);
    return strcmp(key, "longspan.rope.neox") != 0 && strcmp(key, "longspan.norm.offset") != 0 &&
           (form->rope_factors == NULL || strncmp(key, scaling, (size_t)n) != 0);
}

enum status gguf_form_add_keys(const struct gguf_form *form, struct gguf_writer *writer,
                               struct error *error)
{
    const char *directory = model_directory(form->file);
    return directory == NULL ? STATUS_OK : tokenizer_files_copy(writer, directory, error);
}

bool gguf_form_moves(const struct gguf_form *form, enum weights_id id)
{
    return form->pairs && (id == WEIGHTS_ATTN_Q || id == WEIGHTS_ATTN_K ||
                           id == WEIGHTS_ATTN_Q_BIAS || id == WEIGHTS_ATTN_K_BIAS);
}

uint64_t gguf_form_row(const struct gguf_form *form, uint64_t row)
{
    const uint64_t in_head = row % form->head_dim;
    if (in_head >= form->rope_dims)
        return row;
    return row - in_head + in_head / 2 + in_head % 2 * (form->rope_dims / 2);
}
