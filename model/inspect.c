/* inspect.c - one report struct is filled, then printed twice over: as text or as JSON.
 *
 * Names come from the file: nothing of them reaches the terminal or the JSON unescaped. */
#include "model/inspect.h"
#include "model/hparams.h"
#include "model/tokenizer.h"
#include "model/tokenizer_files.h"
#include "model/utf8.h"
#include "model/weights.h"

#include <errno.h>
#include <string.h>

struct report {
    const struct model_file *file;
    struct model_string architecture, name; /* data NULL: not in the file */
    bool has_hparams;
    struct hparams hparams;
    bool supported;       /* hyper-parameters and weights */
    struct error why_not; /* the reason when not */
    bool has_tokenizer;
    struct model_string tokenizer_model, tokenizer_pre;
    uint64_t n_tokens;
    bool tokenizer_supported;
    struct error tokenizer_why_not;
    uint64_t parameters,
        active_parameters; /* all; what one token is multiplied with or looked up in */
    uint64_t type_tensors[GGUF_TYPE_COUNT], type_bytes[GGUF_TYPE_COUNT];
    uint8_t fingerprint[MODEL_FINGERPRINT_BYTES];
};

static struct model_string string_key(const struct model_file *file, const char *name)
{
    struct model_string value = {NULL, 0};
    (void)model_get_string(file, name, &value, NULL); /* absent or another type: nothing to show */
    return value;
}

static void examine_model(struct report *r)
{
    enum status status = hparams_read(&r->hparams, r->file, &r->why_not);
    r->has_hparams = status == STATUS_OK;
    if (r->has_hparams && model_tensor_count(r->file) == 0)
        status = error_set(&r->why_not, STATUS_INVALID, "%s: no tensors: a vocabulary alone",
                           model_path(r->file));
    else if (r->has_hparams)
        status = weights_check(r->file, &r->hparams, &r->why_not);
    r->supported = status == STATUS_OK;
}

/* Of experts, as many as a token uses. */
static uint64_t active_elements(const struct report *r, const struct model_tensor *tensor,
                                uint64_t elements)
{
    const struct hparams *h = &r->hparams;
    const bool experts = r->supported && h->n_experts > 0 && tensor->n_dims == WEIGHTS_DIMS;
    return experts ? elements / h->n_experts * h->n_experts_used : elements;
}

static enum status examine(struct report *r, const struct model_file *file, struct error *error)
{
    *r = (struct report){.file = file};
    r->architecture = string_key(file, "general.architecture");
    r->name = string_key(file, "general.name");
    examine_model(r);
    const struct model_key *tokens = model_key_find(file, "tokenizer.ggml.tokens");
    r->tokenizer_model = string_key(file, "tokenizer.ggml.model");
    r->tokenizer_pre = string_key(file, "tokenizer.ggml.pre");
    const bool json = model_directory(file) != NULL || tokenizer_files_in(file);
    if (json)
        r->tokenizer_model = (struct model_string){"tokenizer.json", strlen("tokenizer.json")};
    r->has_tokenizer = r->tokenizer_model.data != NULL || tokens != NULL;
    if (r->has_tokenizer) {
        struct tokenizer *tokenizer = NULL;
        const enum status status = tokenizer_open(&tokenizer, file, &r->tokenizer_why_not);
        if (status == STATUS_NO_MEMORY)
            return error_set(error, status, "%s", r->tokenizer_why_not.text);
        r->n_tokens = tokens != NULL && tokens->type == GGUF_VALUE_ARRAY ? tokens->n : 0;
        r->tokenizer_supported = status == STATUS_OK;
        if (json && status == STATUS_OK)
            r->n_tokens = tokenizer_vocab(tokenizer);
        tokenizer_close(tokenizer);
    }
    for (size_t i = 0; i < model_tensor_count(file); i++) {
        const struct model_tensor *tensor = model_tensor_at(file, i);
        uint64_t elements = 1; /* their bytes lie in the file, so this cannot overflow */
        for (uint32_t k = 0; k < tensor->n_dims; k++)
            elements *= tensor->dims[k];
        r->parameters += elements;
        r->active_parameters += active_elements(r, tensor, elements);
        r->type_tensors[tensor->type]++;
        r->type_bytes[tensor->type] += tensor->n_bytes;
    }
    model_fingerprint(file, r->fingerprint);
    return STATUS_OK;
}

/* 0: no tensors. */
static double bits_per_weight(const struct report *r)
{
    uint64_t bytes = 0;
    for (int type = 0; type < GGUF_TYPE_COUNT; type++)
        bytes += r->type_bytes[type];
    return r->parameters > 0 ? 8.0 * (double)bytes / (double)r->parameters : 0.0;
}

/* ---- text ----------------------------------------------------------------------------------- */

/* Control characters, DEL, C1 and bytes that are not UTF-8 as \xNN: a terminal obeys some of them.
 */
static void print_safe(FILE *stream, struct model_string text)
{
    for (size_t at = 0; at < text.n_bytes;) {
        const size_t n = utf8_char_bytes(text.data + at, text.n_bytes - at);
        const uint32_t code_point = n == 0 ? 0 : utf8_decode(text.data + at, n);
        if (code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0)) {
            for (size_t i = 0; i < (n == 0 ? 1 : n); i++)
                fprintf(stream, "\\x%02x", (unsigned char)text.data[at + i]);
        } else {
            fwrite(text.data + at, 1, n, stream);
        }
        at += n == 0 ? 1 : n;
    }
}

static struct model_string as_string(const char *text)
{
    return (struct model_string){text, strlen(text)};
}

static void print_line(FILE *stream, const char *label, struct model_string value)
{
    fprintf(stream, "%-24s ", label);
    if (value.data == NULL)
        fputs("(not said)", stream);
    else
        print_safe(stream, value);
    fputc('\n', stream);
}

static void print_size(FILE *stream, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    fprintf(stream, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
}

static void print_part(FILE *stream, const struct model_part *part)
{
    fprintf(stream, "%-24s ", "  part");
    print_safe(stream, as_string(part->path));
    fputs(", ", stream);
    print_size(stream, part->n_bytes);
    fprintf(stream, ", %zu tensors\n", part->n_tensors);
}

static const char *const scalings[] = {[ROPE_PLAIN] = "none",
                                       [ROPE_LINEAR] = "linear",
                                       [ROPE_LLAMA3] = "llama3",
                                       [ROPE_YARN] = "yarn"};

static void print_rope(FILE *stream, const struct hparams *h)
{
    fprintf(stream, "%-24s %u dims, base %g", "rope", h->rope_dims, h->rope.base);
    if (h->has_local_rope)
        fprintf(stream, " (%g within windows)", h->local_rope.base);
    if (h->rope.scaling != ROPE_PLAIN)
        fprintf(stream, ", %s scaling %g", scalings[h->rope.scaling], h->rope.factor);
    if (h->unturned_period > 0)
        fprintf(stream, ", not in every layer %u", h->unturned_period);
    fprintf(stream, "%s\n", h->rope_factors ? ", frequency factors" : "");
}

static uint32_t windowed_layers(const struct hparams *h)
{
    uint32_t n = 0;
    for (uint32_t layer = 0; layer < h->n_layers; layer++)
        n += hparams_window(h, layer) > 0;
    return n;
}

static void print_hparams(FILE *stream, const struct hparams *h, bool tied)
{
    fprintf(stream, "%-24s %u\n", "layers", h->n_layers);
    fprintf(stream, "%-24s %u\n", "hidden", h->hidden);
    fprintf(stream, "%-24s %u query, %u KV, of %u\n", "heads", h->n_heads, h->n_kv_heads,
            h->head_dim);
    if (h->n_experts > 0)
        fprintf(stream, "%-24s %u experts of %u, a token uses %u\n", "feed-forward", h->n_experts,
                h->ffn_expert, h->n_experts_used);
    else
        fprintf(stream, "%-24s %u\n", "feed-forward", h->ffn);
    fprintf(stream, "%-24s %u%s\n", "vocabulary", h->vocab,
            tied ? ", output tied to the embedding" : "");
    fprintf(stream, "%-24s %u\n", "trained context", h->context_train);
    print_rope(stream, h);
    if (h->window > 0)
        fprintf(stream, "%-24s %u tokens in %u of %u layers\n", "sliding window", h->window,
                windowed_layers(h), h->n_layers);
    if (h->residual_scale != 1 || h->logit_scale != 1)
        fprintf(stream, "%-24s embedding %g, residual %g, scores %g, logits / %g\n", "scales",
                (double)h->embedding_scale, (double)h->residual_scale, (double)h->attention_scale,
                (double)h->logit_scale);
    if (h->attention_cap > 0 || h->logit_cap > 0)
        fprintf(stream, "%-24s scores %g, logits %g (0: none)\n", "soft caps",
                (double)h->attention_cap, (double)h->logit_cap);
    fprintf(stream, "%-24s %g\n", "rms epsilon", (double)h->rms_eps);
    fprintf(stream, "%-24s %llu bytes in f16, %llu in f32\n", "KV cache per token",
            (unsigned long long)hparams_kv_bytes_per_token(h, 2),
            (unsigned long long)hparams_kv_bytes_per_token(h, 4));
}

static void print_text(FILE *stream, const struct report *r)
{
    print_line(stream, "file", as_string(model_path(r->file)));
    fprintf(stream, "%-24s %s, ", "format", model_format(r->file));
    print_size(stream, model_bytes(r->file));
    fprintf(stream, " (%llu bytes), %zu keys, %zu tensors\n",
            (unsigned long long)model_bytes(r->file), model_key_count(r->file),
            model_tensor_count(r->file));
    for (size_t i = 0; model_part_count(r->file) > 1 && i < model_part_count(r->file); i++)
        print_part(stream, model_part_at(r->file, i));
    fprintf(stream, "%-24s ", "fingerprint");
    for (size_t i = 0; i < sizeof(r->fingerprint); i++)
        fprintf(stream, "%02x", r->fingerprint[i]);
    fputc('\n', stream);
    print_line(stream, "architecture", r->architecture);
    print_line(stream, "name", r->name);
    if (r->supported)
        print_line(stream, "supported", as_string("yes"));
    else {
        fprintf(stream, "%-24s no: ", "supported");
        print_safe(stream, as_string(r->why_not.text));
        fputc('\n', stream);
    }
    if (r->has_hparams)
        print_hparams(stream, &r->hparams, r->hparams.tied && model_tensor_count(r->file) > 0);
    if (r->has_tokenizer) {
        print_line(stream, "tokenizer", r->tokenizer_model);
        print_line(stream, "pre-tokenizer", r->tokenizer_pre);
        fprintf(stream, "%-24s %llu\n", "tokens", (unsigned long long)r->n_tokens);
        fprintf(stream, "%-24s %s", "tokenizer supported", r->tokenizer_supported ? "yes" : "no: ");
        print_safe(stream, as_string(r->tokenizer_why_not.text));
        fputc('\n', stream);
    } else {
        print_line(stream, "tokenizer", as_string("none in the file"));
    }
    fprintf(stream, "%-24s %llu", "parameters", (unsigned long long)r->parameters);
    if (r->parameters > 0)
        fprintf(stream, ", of %.2f bits", bits_per_weight(r));
    if (r->active_parameters < r->parameters)
        fprintf(stream, ", %llu of them active for a token",
                (unsigned long long)r->active_parameters);
    fputc('\n', stream);
    for (int type = 0; type < GGUF_TYPE_COUNT; type++) {
        if (r->type_tensors[type] == 0)
            continue;
        fprintf(stream, "  %-22s %llu tensors, ", gguf_type_traits((enum gguf_type)type)->name,
                (unsigned long long)r->type_tensors[type]);
        print_size(stream, r->type_bytes[type]);
        fputc('\n', stream);
    }
    if (model_tensor_count(r->file) > 0)
        fprintf(stream, "\n%-40s %-10s %14s  shape\n", "tensor", "type", "bytes");
    for (size_t i = 0; i < model_tensor_count(r->file); i++) {
        const struct model_tensor *tensor = model_tensor_at(r->file, i);
        print_safe(stream, as_string(tensor->name));
        const size_t n = strlen(tensor->name);
        fprintf(stream, "%*s %-10s %14llu  [", n < 40 ? (int)(40 - n) : 0, "",
                gguf_type_traits(tensor->type)->name, (unsigned long long)tensor->n_bytes);
        for (uint32_t k = 0; k < tensor->n_dims; k++)
            fprintf(stream, "%s%llu", k == 0 ? "" : ", ", (unsigned long long)tensor->dims[k]);
        fputs("]\n", stream);
    }
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static void json_string(FILE *stream, struct model_string text)
{
    if (text.data == NULL) {
        fputs("null", stream);
        return;
    }
    fputc('"', stream);
    for (size_t at = 0; at < text.n_bytes;) {
        bool cut_off;
        const size_t n = utf8_char_bytes(text.data + at, text.n_bytes - at);
        const unsigned char c = (unsigned char)text.data[at];
        if (n == 0) {
            fputs("\\ufffd", stream);
            at += utf8_broken_bytes(text.data + at, text.n_bytes - at, &cut_off);
            continue;
        }
        if (c == '"' || c == '\\')
            fprintf(stream, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(stream, "\\u%04x", c);
        else
            fwrite(text.data + at, 1, n, stream);
        at += n;
    }
    fputc('"', stream);
}

static void json_field(FILE *stream, const char *name, struct model_string value)
{
    fprintf(stream, ",\"%s\":", name);
    json_string(stream, value);
}

/* JSON knows no infinity; hparams are finite, so %.17g is a JSON number. */
static void json_hparams(FILE *stream, const struct hparams *h)
{
    fprintf(
        stream,
        ",\"hparams\":{\"layers\":%u,\"hidden\":%u,\"heads\":%u,\"kv_heads\":%u,\"head_dim\":%u,"
        "\"ffn\":%u,\"experts\":%u,\"experts_used\":%u,\"ffn_expert\":%u,\"vocab\":%u,\"context_"
        "train\":%u,\"rope_dims\":%u,\"rope_base\":%.17g,"
        "\"rope_scaling\":\"%s\",\"rope_factor\":%.17g,\"rope_factors\":%s,\"window\":%u,"
        "\"windowed_layers\":%u,\"rms_eps\":%.9g,\"tied\":%s}",
        h->n_layers, h->hidden, h->n_heads, h->n_kv_heads, h->head_dim, h->ffn, h->n_experts,
        h->n_experts_used, h->ffn_expert, h->vocab, h->context_train, h->rope_dims, h->rope.base,
        scalings[h->rope.scaling], h->rope.factor, h->rope_factors ? "true" : "false", h->window,
        windowed_layers(h), (double)h->rms_eps, h->tied ? "true" : "false");
    fprintf(stream, ",\"kv_bytes_per_token\":{\"f16\":%llu,\"f32\":%llu}",
            (unsigned long long)hparams_kv_bytes_per_token(h, 2),
            (unsigned long long)hparams_kv_bytes_per_token(h, 4));
}

static void json_tensors(FILE *stream, const struct report *r)
{
    fprintf(stream,
            ",\"parameters\":%llu,\"active_parameters\":%llu,\"bits_per_weight\":%.4f,\"types\":[",
            (unsigned long long)r->parameters, (unsigned long long)r->active_parameters,
            bits_per_weight(r));
    const char *comma = "";
    for (int type = 0; type < GGUF_TYPE_COUNT; type++) {
        if (r->type_tensors[type] == 0)
            continue;
        fprintf(stream, "%s{\"type\":\"%s\",\"tensors\":%llu,\"bytes\":%llu}", comma,
                gguf_type_traits((enum gguf_type)type)->name,
                (unsigned long long)r->type_tensors[type], (unsigned long long)r->type_bytes[type]);
        comma = ",";
    }
    fputs("],\"tensors\":[", stream);
    for (size_t i = 0; i < model_tensor_count(r->file); i++) {
        const struct model_tensor *tensor = model_tensor_at(r->file, i);
        fprintf(stream, "%s{\"name\":", i == 0 ? "" : ",");
        json_string(stream, as_string(tensor->name));
        fprintf(stream, ",\"type\":\"%s\",\"shape\":[", gguf_type_traits(tensor->type)->name);
        for (uint32_t k = 0; k < tensor->n_dims; k++)
            fprintf(stream, "%s%llu", k == 0 ? "" : ",", (unsigned long long)tensor->dims[k]);
        fprintf(stream, "],\"bytes\":%llu}", (unsigned long long)tensor->n_bytes);
    }
    fputs("]", stream);
}

static void json_parts(FILE *stream, const struct model_file *file)
{
    fputs(",\"parts\":[", stream);
    for (size_t i = 0; i < model_part_count(file); i++) {
        const struct model_part *part = model_part_at(file, i);
        fprintf(stream, "%s{\"file\":", i == 0 ? "" : ",");
        json_string(stream, as_string(part->path));
        fprintf(stream, ",\"bytes\":%llu,\"tensors\":%zu}", (unsigned long long)part->n_bytes,
                part->n_tensors);
    }
    fputc(']', stream);
}

static void print_json(FILE *stream, const struct report *r)
{
    const struct model_string none = {NULL, 0};
    fputs("{\"file\":", stream);
    json_string(stream, as_string(model_path(r->file)));
    fprintf(stream, ",\"format\":\"%s\",\"bytes\":%llu", model_format(r->file),
            (unsigned long long)model_bytes(r->file));
    json_parts(stream, r->file);
    json_field(stream, "architecture", r->architecture);
    json_field(stream, "name", r->name);
    fprintf(stream, ",\"supported\":%s", r->supported ? "true" : "false");
    json_field(stream, "why_not", r->supported ? none : as_string(r->why_not.text));
    if (r->has_hparams)
        json_hparams(stream, &r->hparams);
    else
        fputs(",\"hparams\":null,\"kv_bytes_per_token\":null", stream);
    if (r->has_tokenizer) {
        fputs(",\"tokenizer\":{\"model\":", stream);
        json_string(stream, r->tokenizer_model);
        json_field(stream, "pre", r->tokenizer_pre);
        fprintf(stream, ",\"tokens\":%llu,\"supported\":%s", (unsigned long long)r->n_tokens,
                r->tokenizer_supported ? "true" : "false");
        json_field(stream, "why_not",
                   r->tokenizer_supported ? none : as_string(r->tokenizer_why_not.text));
        fputs("}", stream);
    } else {
        fputs(",\"tokenizer\":null", stream);
    }
    json_tensors(stream, r);
    fputs(",\"fingerprint\":\"", stream);
    for (size_t i = 0; i < sizeof(r->fingerprint); i++)
        fprintf(stream, "%02x", r->fingerprint[i]);
    fputs("\"}\n", stream);
}

enum status inspect_print(FILE *stream, const struct model_file *file, bool json,
                          struct error *error)
{
    struct report report;
    const enum status status = examine(&report, file, error);
    if (status != STATUS_OK)
        return status;
    (json ? print_json : print_text)(stream, &report);
    if (fflush(stream) != 0 || ferror(stream))
        return error_set(error, STATUS_IO, "cannot write what is in %s: %s", model_path(file),
                         strerror(errno));
    return STATUS_OK;
}
