/* tokenizer.c - the way of a text through the parts of a tokenizer. All that an encoding changes is
 * in its own `struct encoding`.
 *
 * Bytes that are no UTF-8 go to the model as they are, around the normalizer and the expressions,
 * which take only UTF-8. The texts between them are told that they do not begin or end the
 * fragment, so that no space is put in front of them. */
#include "model/tokenizer/tokenizer_internal.h"

#include "model/tokenizer/byte_alphabet.h"
#include "model/tokenizer_files.h"
#include "model/utf8.h"
#include "sys/array.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TEXT_BYTES ((size_t)256 << 20)

void id_list_add(struct id_list *list, int32_t id)
{
    list->failed =
        list->failed || !array_grow(&list->ids, &list->capacity, list->n + 1, sizeof(*list->ids));
    if (!list->failed)
        list->ids[list->n++] = id;
}

bool tokenizer_is_special(const struct token *token)
{
    return token->type == TOKENIZER_TYPE_CONTROL || token->type == TOKENIZER_TYPE_UNKNOWN ||
           token->type == TOKENIZER_TYPE_USER_DEFINED;
}

/* ---- opening -------------------------------------------------------------------------------- */

/* Where no token can cross the place before a space, a text is cut there: many short words instead
 * of a long one, whose lists fit in a cache. Unknown characters in a row must stay together, and
 * with whole_words words are what the file says. */
static enum status cut_at_spaces(struct tokenizer *t, struct error *error)
{
    if (t->kind == TOKENIZER_BYTES || pretokenizer_steps(t->pretokenizer) > 0 || t->space_inside ||
        t->whole_words || (t->fuse_unknown && !t->all_bytes))
        return STATUS_OK;
    return pretokenizer_add_before_spaces(t->pretokenizer, error);
}

/* By its JSON files, or, where there are none, by the keys of a GGUF file. */
static enum status open_any(struct tokenizer **tokenizer, const struct tokenizer_source *source,
                            struct error *error)
{
    struct tokenizer *t = calloc(1, sizeof(*t));
    if (t == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a tokenizer");
    t->bos = t->eos = t->unknown = TOKENIZER_NONE;
    enum status status = normalizer_create(&t->normalizer, error);
    if (status == STATUS_OK)
        status = pretokenizer_create(&t->pretokenizer, error);
    for (size_t i = 0; i < 4 && status == STATUS_OK; i++)
        status = added_tokens_create(&t->added[i / 2][i % 2], error);
    if (status == STATUS_OK)
        status = source->directory != NULL || tokenizer_files_in(source->file)
                     ? tokenizer_json_read(t, source, error)
                     : tokenizer_gguf_read(t, source->file, error);
    if (status == STATUS_OK)
        status = cut_at_spaces(t, error);
    for (size_t i = 0; i < 4 && status == STATUS_OK; i++)
        status = added_tokens_finish(t->added[i / 2][i % 2], error);
    if (status != STATUS_OK) {
        tokenizer_close(t);
        return status;
    }
    vocabulary_finish(t);
    *tokenizer = t;
    return STATUS_OK;
}

enum status tokenizer_open(struct tokenizer **tokenizer, const struct model_file *file,
                           struct error *error)
{
    const struct tokenizer_source source = {model_directory(file), file};
    return open_any(tokenizer, &source, error);
}

enum status tokenizer_open_directory(struct tokenizer **tokenizer, const char *directory,
                                     struct error *error)
{
    return open_any(tokenizer, &(struct tokenizer_source){.directory = directory}, error);
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    for (size_t i = 0; i < 4; i++)
        added_tokens_destroy(tokenizer->added[i / 2][i % 2]);
    normalizer_destroy(tokenizer->normalizer);
    pretokenizer_destroy(tokenizer->pretokenizer);
    string_table_free(&tokenizer->by_name);
    string_table_free(&tokenizer->pieces);
    free(tokenizer->merges);
    free(tokenizer->tokens);
    free(tokenizer->text);
    free(tokenizer);
}

/* ---- encoding ------------------------------------------------------------------------------- */

static enum status no_memory(const struct encoding *e, size_t n_bytes)
{
    return error_set(e->error, STATUS_NO_MEMORY, "no memory to encode %zu bytes", n_bytes);
}

static enum status give_to_model(struct encoding *e, const char *word, size_t n_bytes)
{
    if (e->stop != NULL && atomic_load_explicit(e->stop, memory_order_relaxed))
        return error_set(e->error, STATUS_CANCELLED, "nobody waits for this text any more");
    const bool ok = e->tokenizer->kind == TOKENIZER_SCORES ? scores_encode_word(e, word, n_bytes)
                                                           : merges_encode_word(e, word, n_bytes);
    return ok ? STATUS_OK : no_memory(e, n_bytes);
}

/* pretokenizer_word: `context` is the encoding. */
static enum status encode_word(void *context, const char *word, size_t n_bytes, struct error *error)
{
    struct encoding *e = context;
    const struct tokenizer *t = e->tokenizer;
    (void)error; /* it is e->error */
    if (pretokenizer_shows_bytes(t->pretokenizer)) {
        e->word.n = 0;
        if (!text_buffer_reserve(&e->word, n_bytes))
            return no_memory(e, n_bytes);
        n_bytes = byte_alphabet_read(e->word.bytes, word, n_bytes);
        word = e->word.bytes;
    }
    return give_to_model(e, word, n_bytes);
}

/* Well-formed UTF-8 of a raw fragment. `begins_text`: it begins the whole text. */
static enum status encode_utf8(struct encoding *e, const char *text, size_t n_bytes,
                               struct normalizer_place place, bool begins_text)
{
    const struct tokenizer *t = e->tokenizer;
    const struct added_tokens *added = t->added[1][e->special];
    enum status status = normalizer_run(t->normalizer, e->normalizing, text, n_bytes, place, &text,
                                        &n_bytes, e->error);
    if (status != STATUS_OK)
        return status;
    if (added_tokens_is_empty(added)) {
        const struct pretokenizer_place whole = {place.begins, begins_text};
        return pretokenizer_cut(t->pretokenizer, e->cutting, text, n_bytes, whole, encode_word, e,
                                e->error);
    }
    status = added_tokens_cut(added, text, n_bytes, &e->normalized, e->error);
    for (size_t i = 0; i < e->normalized.n && status == STATUS_OK; i++) {
        const struct added_token_fragment *fragment = &e->normalized.items[i];
        const struct pretokenizer_place part = {fragment->begin > 0 || place.begins,
                                                fragment->begin == 0 && begins_text};
        if (fragment->id >= 0)
            id_list_add(&e->out, fragment->id);
        else
            status = pretokenizer_cut(t->pretokenizer, e->cutting, text + fragment->begin,
                                      fragment->n_bytes, part, encode_word, e, e->error);
    }
    return status;
}

static enum status encode_fragment(struct encoding *e, const char *text, size_t n_bytes,
                                   bool begins_text)
{
    enum status status = STATUS_OK;
    for (size_t begin = 0, end; begin < n_bytes && status == STATUS_OK; begin = end) {
        size_t n;
        end = begin;
        while (end < n_bytes && (n = utf8_char_bytes(text + end, n_bytes - end)) > 0)
            end += n;
        if (end > begin || begin == 0)
            status = encode_utf8(e, text + begin, end - begin,
                                 (struct normalizer_place){begin == 0, end == n_bytes},
                                 begins_text && begin == 0);
        const size_t broken = end;
        while (end < n_bytes && utf8_char_bytes(text + end, n_bytes - end) == 0)
            end++;
        if (status == STATUS_OK && end > broken) /* a word of their own */
            status = give_to_model(e, text + broken, end - broken);
    }
    return status;
}

static enum status encode_text(struct encoding *e, const char *text, size_t n_bytes)
{
    struct added_token_fragments fragments = {0};
    enum status status = normalizer_scratch_create(&e->normalizing, e->error);
    if (status == STATUS_OK)
        status = pretokenizer_scratch_create(&e->cutting, e->error);
    if (status == STATUS_OK)
        status = added_tokens_cut(e->tokenizer->added[0][e->special], text, n_bytes, &fragments,
                                  e->error);
    for (size_t i = 0; i < fragments.n && status == STATUS_OK; i++) {
        const struct added_token_fragment *fragment = &fragments.items[i];
        if (fragment->id >= 0)
            id_list_add(&e->out, fragment->id);
        else
            status =
                encode_fragment(e, text + fragment->begin, fragment->n_bytes, fragment->begin == 0);
    }
    added_token_fragments_free(&fragments);
    return status;
}

enum status tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t n_bytes,
                             unsigned flags, int32_t **ids, size_t *n_ids, struct error *error)
{
    return tokenizer_encode_until(tokenizer, text, n_bytes, flags, NULL, ids, n_ids, error);
}

enum status tokenizer_encode_until(const struct tokenizer *tokenizer, const char *text,
                                   size_t n_bytes, unsigned flags, const atomic_bool *stop,
                                   int32_t **ids, size_t *n_ids, struct error *error)
{
    struct encoding e = {.tokenizer = tokenizer,
                         .special = (flags & TOKENIZER_PARSE_SPECIAL) != 0,
                         .stop = stop,
                         .error = error};
    if (n_bytes > MAX_TEXT_BYTES)
        return error_set(error, STATUS_INVALID, "a text of %zu bytes; at most %zu can be encoded",
                         n_bytes, MAX_TEXT_BYTES);
    const bool framed = (flags & TOKENIZER_ADD_SPECIAL) != 0;
    for (size_t i = 0; framed && i < tokenizer->n_before; i++)
        id_list_add(&e.out, tokenizer->before[i]);
    enum status status = encode_text(&e, text, n_bytes);
    for (size_t i = 0; framed && i < tokenizer->n_after; i++)
        id_list_add(&e.out, tokenizer->after[i]);
    if (status == STATUS_OK && e.out.ids == NULL)
        e.out.ids = malloc(sizeof(*e.out.ids)); /* no ids, and still something to free */
    if (status == STATUS_OK && (e.out.failed || e.out.ids == NULL))
        status = no_memory(&e, n_bytes);
    if (status == STATUS_OK) {
        *ids = e.out.ids;
        *n_ids = e.out.n;
    } else {
        free(e.out.ids);
    }
    free(e.word.bytes);
    added_token_fragments_free(&e.normalized);
    pair_merge_free(&e.merge);
    normalizer_scratch_destroy(e.normalizing);
    pretokenizer_scratch_destroy(e.cutting);
    return status;
}

/* ---- what is known about tokens ------------------------------------------------------------- */

static const struct token *token_at(const struct tokenizer *tokenizer, int32_t id)
{
    return id >= 0 && (uint32_t)id < tokenizer->vocab ? &tokenizer->tokens[id] : NULL;
}

uint32_t tokenizer_vocab(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab;
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->bos;
}

int32_t tokenizer_eos(const struct tokenizer *tokenizer)
{
    return tokenizer->eos;
}

bool tokenizer_is_end_of_generation(const struct tokenizer *tokenizer, int32_t id)
{
    const struct token *token = token_at(tokenizer, id);
    return token != NULL && token->ends_generation;
}

struct model_string tokenizer_token_name(const struct tokenizer *tokenizer, int32_t id)
{
    const struct token *token = token_at(tokenizer, id);
    return token == NULL ? (struct model_string){NULL, 0} : token->name;
}

struct model_string tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id)
{
    const struct token *token = token_at(tokenizer, id);
    return token == NULL ? (struct model_string){NULL, 0} : token->bytes;
}

enum tokenizer_type tokenizer_token_type(const struct tokenizer *tokenizer, int32_t id)
{
    const struct token *token = token_at(tokenizer, id);
    return token == NULL ? TOKENIZER_TYPE_UNDEFINED : (enum tokenizer_type)token->type;
}

int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *name, size_t n_bytes)
{
    const uint32_t id = string_table_find(&tokenizer->by_name, name, n_bytes);
    return id == STRING_TABLE_NONE ? TOKENIZER_NONE : (int32_t)id;
}
