/* fuzz_json_schema.c - a client's JSON schema (piece 0), and an answer token by token: the bytes of
 * piece 1 choose among the tokens that may come. What comes out is JSON when it is complete. */
#include "coordinator/constraint/constraint.h"
#include "tests/cmocka.h"
#include "tests/coordinator/http/byte_tokenizer.h"
#include "tests/fuzz/pieces.h"

enum { MOST_TOKENS = 200, WORDS = BYTE_VOCABULARY / 32 + 1 };

/* The `which`-th (in turn) token that the mask has. */
static int32_t choose(const uint32_t *mask, uint32_t which)
{
    int32_t allowed[BYTE_VOCABULARY];
    uint32_t n = 0;
    for (int32_t id = 0; id < BYTE_VOCABULARY; id++)
        if (mask[id / 32] >> (id % 32) & 1)
            allowed[n++] = id;
    FUZZ_CHECK(n > 0);
    return allowed[which % n];
}

static void answer(struct constraint *constraint, const struct tokenizer *tokenizer,
                   const uint8_t *choices, size_t n)
{
    char text[MOST_TOKENS + 1];
    size_t n_text = 0;
    for (uint32_t i = 0; i < MOST_TOKENS; i++) {
        uint32_t mask[WORDS];
        if (!constraint_mask(constraint, MOST_TOKENS - i, mask))
            return;
        const int32_t id = choose(mask, i < n ? choices[i] : i);
        if (tokenizer_is_end_of_generation(tokenizer, id)) {
            json_t *value = json_loadb(text, n_text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
            FUZZ_CHECK(value != NULL);
            json_decref(value);
            return;
        }
        FUZZ_CHECK(constraint_accept(constraint, id));
        text[n_text++] = tokenizer_token_bytes(tokenizer, id).data[0];
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct tokenizer *tokenizer;
    static struct vocabulary *vocabulary;
    struct fuzz_pieces pieces = {data, n};
    struct fuzz_piece schema, choices = {0};
    struct constraint *constraint;
    struct error error;
    if (tokenizer == NULL) {
        byte_tokenizer_open((void **)&tokenizer);
        FUZZ_CHECK(vocabulary_create(&vocabulary, tokenizer, &error) == STATUS_OK);
    }
    if (!fuzz_next(&pieces, &schema))
        return 0;
    (void)fuzz_next(&pieces, &choices);
    json_t *json = json_loadb((const char *)schema.data, schema.n, JSON_DECODE_ANY, NULL);
    if (json == NULL)
        return 0;
    if (constraint_create(&constraint, json, vocabulary, &error) == STATUS_OK) {
        if (constraint_shortest(constraint) <= MOST_TOKENS)
            answer(constraint, tokenizer, choices.data, choices.n);
        constraint_destroy(constraint);
    } else {
        FUZZ_CHECK(error.text[0] != '\0');
    }
    json_decref(json);
    return 0;
}
