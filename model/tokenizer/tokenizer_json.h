/* model/tokenizer/tokenizer_json.h - what the files tokenizer_json*.c share: the parts of a
 * tokenizer.json, as Hugging Face's `tokenizers` writes it.
 *
 * Each function reads one part into the tokenizer. What it does not know it refuses by its name
 * (STATUS_UNSUPPORTED): a step that is left out gives other ids, and nobody would notice. A part
 * of the wrong form is STATUS_INVALID. */
#ifndef LONGSPAN_MODEL_TOKENIZER_TOKENIZER_JSON_H
#define LONGSPAN_MODEL_TOKENIZER_TOKENIZER_JSON_H

#include "model/tokenizer/tokenizer_internal.h"
#include "sys/file.h"

#include <jansson.h>

struct json_reader {
    struct tokenizer *tokenizer;
    const char *path; /* of the file, for error texts */
    struct error *error;
};

/* Writes the error text "PATH: WHAT 'NAME' is not supported". */
enum status tokenizer_json_refuse(const struct json_reader *reader, const char *what,
                                  const char *name);
enum status tokenizer_json_invalid(const struct json_reader *reader, const char *what);

/* The value of "type"; "": there is none. */
const char *tokenizer_json_type(const json_t *object);

/* A switch; `absent`: what it is when it is absent or null. */
bool tokenizer_json_switch(const json_t *object, const char *name, bool absent);

/* tokenizer_json_steps.c: "normalizer", "pre_tokenizer"; NULL or null: none. *byte_level: words are
 * cut for a vocabulary of bytes. */
enum status tokenizer_json_normalizer(const struct json_reader *reader, const json_t *normalizer);
enum status tokenizer_json_pretokenizer(const struct json_reader *reader,
                                        const json_t *pretokenizer, bool *byte_level);

/* tokenizer_json_model.c: "model" and "added_tokens"; `kind` is there. The vocabulary and its types
 * first; merges, which need bytes, later. */
enum status tokenizer_json_vocabulary(const struct json_reader *reader, const json_t *model,
                                      const json_t *added_tokens);
enum status tokenizer_json_merges(const struct json_reader *reader, const json_t *model);
enum status tokenizer_json_added_tokens(const struct json_reader *reader,
                                        const json_t *added_tokens);

/* tokenizer_json_frame.c: "post_processor", "decoder", and the files beside tokenizer.json that
 * name BOS, EOS and what ends generation. */
enum status tokenizer_json_post_processor(const struct json_reader *reader,
                                          const json_t *processor);
enum status tokenizer_json_decoder(const struct json_reader *reader, const json_t *decoder);
enum status tokenizer_json_special_ids(const struct json_reader *reader,
                                       const struct tokenizer_source *source);

/* tokenizer_files.c: one of the files; the caller ends *root with json_decref. `path` gets its name
 * for error texts, also on failure. STATUS_NOT_FOUND: there is none. Fails also as
 * json_file_read. */
enum tokenizer_file {
    TOKENIZER_FILE_TOKENIZER,
    TOKENIZER_FILE_CONFIG,
    TOKENIZER_FILE_GENERATION,
    TOKENIZER_FILE_MODEL
};
enum status tokenizer_json_open(json_t **root, char path[FILE_PATH_BYTES],
                                const struct tokenizer_source *source, enum tokenizer_file which,
                                struct error *error);

#endif
