/* test_make_retrieval.c - the constructed weights find one needle, by a plain forward in double.
 *
 * The forward below shares nothing with the product but the GGUF reader: loops over tokens and
 * heads, softmax by the C library, K and V rounded to f16 as the product's cache does. */
#include "cluster/make_haystack.h"
#include "cluster/make_retrieval.h"
#include "kernels/quant/types.h"
#include "model/model_file.h"
#include "model/tokenizer.h"
#include "model/weights.h"
#include "sys/sha256.h"
#include "tests/cmocka.h"
#include "tests/directory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HIDDEN = 128, HEAD_DIM = 32, N_KV_HEADS = 2, N_LAYERS = 4, FFN = 256, VOCAB = 257 };
enum { N_TOKENS = 2000, MOST_HEADS = 4 };

static const char *path_of(const char *name, char path[FILE_PATH_BYTES + 32])
{
    snprintf(path, FILE_PATH_BYTES + 32, "%s/%s", directory, name);
    return path;
}

/* ---- the reference --------------------------------------------------------------------------- */

static const float *tensor(const struct model_file *file, int layer, const char *name)
{
    char full[WEIGHTS_NAME_BYTES];
    if (layer < 0)
        snprintf(full, sizeof(full), "%s.weight", name);
    else
        snprintf(full, sizeof(full), "blk.%d.%s.weight", layer, name);
    const struct model_tensor *found = model_tensor_find(file, full);
    assert_non_null(found);
    assert_int_equal(found->type, GGUF_TYPE_F32);
    return found->data;
}

static void product(double *y, const float *weights, const double *x, int n_rows, int n_columns)
{
    for (int row = 0; row < n_rows; row++) {
        double sum = 0;
        for (int i = 0; i < n_columns; i++)
            sum += (double)weights[row * n_columns + i] * x[i];
        y[row] = sum;
    }
}

static void normed(double *y, const double *x, const float *weight)
{
    double square = 0;
    for (int i = 0; i < HIDDEN; i++)
        square += x[i] * x[i];
    for (int i = 0; i < HIDDEN; i++)
        y[i] = x[i] / sqrt(square / HIDDEN + 1e-5) * weight[i];
}

static void turn(double *head, int position)
{
    for (int pair = 0; pair < HEAD_DIM / 2; pair++) {
        const double angle = position * pow(8, -pair), a = head[2 * pair], b = head[2 * pair + 1];
        head[2 * pair] = a * cos(angle) - b * sin(angle);
        head[2 * pair + 1] = a * sin(angle) + b * cos(angle);
    }
}

static double cached(double value)
{
    return half_to_float(half_from_float((float)value));
}

struct forward {
    double x[N_TOKENS][HIDDEN];
    double k[N_TOKENS][N_KV_HEADS * HEAD_DIM], v[N_TOKENS][N_KV_HEADS * HEAD_DIM];
    double scores[N_TOKENS];
    double lightest; /* the least weight that a look-up gave to its best token */
};

static void attend(struct forward *f, double *out, const double *q, int position, int kv_head)
{
    double best = -INFINITY, sum = 0, heaviest = 0;
    for (int s = 0; s <= position; s++) {
        double score = 0;
        for (int i = 0; i < HEAD_DIM; i++)
            score += q[i] * f->k[s][kv_head * HEAD_DIM + i];
        f->scores[s] = score / sqrt(HEAD_DIM);
        best = fmax(best, f->scores[s]);
    }
    memset(out, 0, HEAD_DIM * sizeof(*out));
    for (int s = 0; s <= position; s++) {
        if (f->scores[s] < best - 60)
            continue; /* below the last bit of double */
        const double weight = exp(f->scores[s] - best);
        sum += weight;
        heaviest = fmax(heaviest, weight);
        for (int i = 0; i < HEAD_DIM; i++)
            out[i] += weight * f->v[s][kv_head * HEAD_DIM + i];
    }
    for (int i = 0; i < HEAD_DIM; i++)
        out[i] /= sum;
    f->lightest = fmin(f->lightest, heaviest / sum);
}

/* Rows from `first` on are followed to the end; the look-up needs all rows before it. */
static void run_layer(struct forward *f, const struct model_file *file, int layer, int n_heads,
                      int first)
{
    const float *wq = tensor(file, layer, "attn_q"), *wo = tensor(file, layer, "attn_output");
    const float *gate = tensor(file, layer, "ffn_gate"), *up = tensor(file, layer, "ffn_up");
    double n[HIDDEN], q[MOST_HEADS * HEAD_DIM], o[MOST_HEADS * HEAD_DIM], y[HIDDEN];
    double g[FFN], u[FFN];
    for (int p = 0; p < N_TOKENS; p++) {
        normed(n, f->x[p], tensor(file, layer, "attn_norm"));
        product(f->k[p], tensor(file, layer, "attn_k"), n, N_KV_HEADS * HEAD_DIM, HIDDEN);
        product(f->v[p], tensor(file, layer, "attn_v"), n, N_KV_HEADS * HEAD_DIM, HIDDEN);
        for (int head = 0; head < N_KV_HEADS; head++)
            turn(f->k[p] + head * HEAD_DIM, p);
        for (int i = 0; i < N_KV_HEADS * HEAD_DIM; i++) {
            f->k[p][i] = cached(f->k[p][i]);
            f->v[p][i] = cached(f->v[p][i]);
        }
    }
    f->lightest = 1;
    for (int p = first; p < N_TOKENS; p++) {
        normed(n, f->x[p], tensor(file, layer, "attn_norm"));
        product(q, wq, n, n_heads * HEAD_DIM, HIDDEN);
        for (int head = 0; head < n_heads; head++) {
            turn(q + head * HEAD_DIM, p);
            attend(f, o + head * HEAD_DIM, q + head * HEAD_DIM, p, head * N_KV_HEADS / n_heads);
        }
        product(y, wo, o, HIDDEN, n_heads * HEAD_DIM);
        for (int i = 0; i < HIDDEN; i++)
            f->x[p][i] += y[i];
        normed(n, f->x[p], tensor(file, layer, "ffn_norm"));
        product(g, gate, n, FFN, HIDDEN);
        product(u, up, n, FFN, HIDDEN);
        for (int i = 0; i < FFN; i++)
            g[i] = g[i] / (1 + exp(-g[i])) * u[i];
        product(y, tensor(file, layer, "ffn_down"), g, HIDDEN, FFN);
        for (int i = 0; i < HIDDEN; i++)
            f->x[p][i] += y[i];
    }
}

/* The best logit of the row less the best of the others; *id: whose it is. */
static double margin(const struct model_file *file, const double *x, int32_t *id)
{
    double n[HIDDEN], logits[VOCAB], second = -INFINITY;
    normed(n, x, tensor(file, -1, "output_norm"));
    product(logits, tensor(file, -1, "output"), n, VOCAB, HIDDEN);
    *id = 0;
    for (int32_t i = 1; i < VOCAB; i++)
        *id = logits[i] > logits[*id] ? i : *id;
    for (int32_t i = 0; i < VOCAB; i++)
        second = i != *id ? fmax(second, logits[i]) : second;
    return logits[*id] - second;
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* A text of N_TOKENS tokens: the haystack, its question, and all of the answer but its last byte.
 */
static void read_haystack(int32_t ids[N_TOKENS], char expected[MAKE_HAYSTACK_TEXT_BYTES + 4],
                          const struct model_file *file, uint32_t depth)
{
    char path[FILE_PATH_BYTES + 32], *text = NULL;
    size_t n_bytes, n_ids;
    int32_t *tokens = NULL;
    struct make_haystack_answer answer;
    struct tokenizer *tokenizer = NULL;
    struct error error;
    /* Six needles: five decoys that differ in the role alone. The answer's length follows from the
     * seed, not from the text's length. */
    struct make_haystack_options options = {.n_tokens = N_TOKENS, .seed = 5, .n_needles = 6};
    for (uint32_t i = 0; i < options.n_needles; i++)
        options.depths[i] = i == 2 ? depth : 10 + 15 * i;
    options.question = 2;
    assert_int_equal(make_haystack(path_of("text", path), &options, &answer, &error), STATUS_OK);
    snprintf(expected, MAKE_HAYSTACK_TEXT_BYTES + 4, " %s.", answer.answer);
    options.n_tokens = N_TOKENS - strlen(expected) + 1;
    assert_int_equal(make_haystack(path, &options, &answer, &error), STATUS_OK);
    assert_int_equal(file_read(path, 1 << 20, &text, &n_bytes, &error), STATUS_OK);
    text = realloc(text, N_TOKENS + 1);
    assert_non_null(text);
    memcpy(text + n_bytes, expected, strlen(expected)); /* the last byte falls off below */
    assert_int_equal(tokenizer_open(&tokenizer, file, &error), STATUS_OK);
    assert_int_equal(tokenizer_encode(tokenizer, text, N_TOKENS - 1, TOKENIZER_ADD_SPECIAL, &tokens,
                                      &n_ids, &error),
                     STATUS_OK);
    assert_int_equal(n_ids, N_TOKENS);
    memcpy(ids, tokens, N_TOKENS * sizeof(*ids));
    tokenizer_close(tokenizer);
    free(tokens);
    free(text);
}

static void check_needle(uint32_t group, uint32_t depth)
{
    char path[FILE_PATH_BYTES + 32], expected[MAKE_HAYSTACK_TEXT_BYTES + 4];
    static int32_t ids[N_TOKENS];
    struct model_file *file = NULL;
    struct error error;
    assert_int_equal(make_retrieval(path_of("model", path), group, &error), STATUS_OK);
    assert_int_equal(model_open(&file, path, &error), STATUS_OK);
    read_haystack(ids, expected, file, depth);
    const int n_answer = (int)strlen(expected), first = N_TOKENS - n_answer;

    struct forward *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    const float *embedding = tensor(file, -1, "token_embd");
    for (int p = 0; p < N_TOKENS; p++)
        for (int i = 0; i < HIDDEN; i++)
            f->x[p][i] = embedding[ids[p] * HIDDEN + i];
    for (int layer = 0; layer < N_LAYERS; layer++)
        run_layer(f, file, layer, N_KV_HEADS * (int)group, layer == N_LAYERS - 1 ? first : 0);

    double least = INFINITY;
    for (int i = 0; i < n_answer; i++) {
        int32_t id;
        least = fmin(least, margin(file, f->x[first + i], &id));
        assert_int_equal(id, (unsigned char)expected[i]);
    }
    print_message("group %u, depth %u%%: margin %.1f nats, weight %.9f\n", group, depth, least,
                  f->lightest);
    assert_true(least > 20);           /* 25.4 by construction: codes agree to a quarter at most */
    assert_true(f->lightest > 0.9999); /* one token has all the weight */
    free(f);
    model_close(file);
}

static void test_one_needle_among_decoys_is_found(void **state)
{
    check_needle(1, 50);
}

static void test_heads_that_share_a_kv_head_find_it_too(void **state)
{
    check_needle(2, 0);
}

static void test_every_run_and_machine_writes_the_same_bytes(void **state)
{
    /* When the construction or its keys change on purpose, so does this. */
    const char expected[] = "cbb5eb741a86fcc92c8237745bbb57899a7e1d31206a4bd67bc43bed5347b910";
    char path[FILE_PATH_BYTES + 32], *data, text[2 * SHA256_BYTES + 1];
    uint8_t digest[SHA256_BYTES];
    size_t size;
    struct error error;
    assert_int_equal(make_retrieval(path_of("model", path), 1, &error), STATUS_OK);
    assert_int_equal(file_read(path, 1 << 24, &data, &size, &error), STATUS_OK);
    struct sha256 sha256;
    sha256_init(&sha256);
    sha256_update(&sha256, data, size);
    sha256_final(&sha256, digest);
    for (int i = 0; i < SHA256_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    assert_string_equal(text, expected);
    free(data);
}

static void test_other_groups_are_refused(void **state)
{
    char path[FILE_PATH_BYTES + 32];
    struct error error;
    assert_int_equal(make_retrieval(path_of("model", path), 3, &error), STATUS_INVALID);
    assert_int_equal(make_retrieval("/nowhere/model", 1, &error), STATUS_INVALID);
    assert_non_null(strstr(error.text, "/nowhere/model"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_needle_among_decoys_is_found),
        cmocka_unit_test(test_heads_that_share_a_kv_head_find_it_too),
        cmocka_unit_test(test_every_run_and_machine_writes_the_same_bytes),
        cmocka_unit_test(test_other_groups_are_refused),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
