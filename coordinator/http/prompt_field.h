/* coordinator/http/prompt_field.h - "prompt" of a completion: a string, an array of strings, an
 * array of token ids, or an array of such arrays. */
#ifndef LONGSPAN_COORDINATOR_HTTP_PROMPT_FIELD_H
#define LONGSPAN_COORDINATOR_HTTP_PROMPT_FIELD_H

#include "coordinator/http/generate_request.h"

/* Fills request->prompts. Texts are tokenized as the model wants them (BOS in front where it has
 * one, names of special tokens understood); ids are taken as they are. False: 400. */
bool prompt_field_read(struct generate_request *request, const json_t *body,
                       const struct generate_limits *limits, struct api_error *error);

/* An array of token ids in [0, vocab); `name` is for messages. *ids is the caller's. */
bool prompt_field_ids(const json_t *array, const char *name, uint32_t vocab, int32_t **ids,
                      size_t *n_ids, struct api_error *error);

#endif
