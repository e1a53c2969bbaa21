/* pretokenizer_rules.c - one row per rule, in the order of the families.
 *
 * Expressions are in tokenizer.json's own syntax. `default` has no tokenizer.json: it is what the
 * writers of GGUF files name where they know nothing better, and cuts as readers of it do. */
#include "model/tokenizer/pretokenizer_rules.h"

#include <stdio.h>
#include <string.h>

/* Radford et al. 2019: the GPT-2 release. */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define BREAKS      "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* The Llama 3 release, and what differs from it only in how many digits make a word. */
#define LIKE_LLAMA3(digits)                                                                        \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" BREAKS

#define QWEN35                                                                                     \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"                                    \
                "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" BREAKS

#define SEED_CODER                                                                                 \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" BREAKS

/* GPT-4o's (o200k) and Tekken's words end where a lower case letter is followed by an upper one. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LIKE_GPT4O(suffix, digits)                                                                 \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER  \
    "*" suffix "|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" BREAKS

/* The upper, lower and title case letters of DeepSeek LLM. */
#define DEEPSEEK_LETTERS                                                                           \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"                 \
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}"         \
    "\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}"                  \
    "\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}"                       \
    "\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}"                 \
    "\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}"                 \
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}"                 \
    "\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}"         \
    "\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}"                           \
    "\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}"                 \
    "\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}"          \
    "\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}"                  \
    "\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}"         \
    "\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}"                  \
    "\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}"                 \
    "\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}"                 \
    "\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}"         \
    "\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"
#define DEEPSEEK_MARKS                                                                             \
    "!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}"
#define DEEPSEEK_CJK "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
#define DEEPSEEK_V3                                                                                \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"           \
    "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" BREAKS

/* BLOOM's words end at these marks: ( ) | . , ! ? and six of other scripts. */
#define BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"

#define ASCII_MARKS "!-/:-@\\[-`{-~"
#define DIGIT                                                                                      \
    {                                                                                              \
        "\\p{N}", PRETOKENIZER_ISOLATED                                                            \
    }
#define ISOLATE(x)                                                                                 \
    {                                                                                              \
        x, PRETOKENIZER_ISOLATED                                                                   \
    }

/* In the place of an expression: pretokenizer_add_show_bytes. */
static const char show_bytes[] = "";

enum { MOST_NAMES = 10, MOST_STEPS = 6 };

struct pretokenizer_rule {
    const char *names[MOST_NAMES + 1];
    struct {
        const char *expression;
        enum pretokenizer_behavior behavior;
    } steps[MOST_STEPS + 1];
    bool nfc, whole_words, bos;
};

static const struct pretokenizer_rule rules[] = {
    {.names = {"gpt-2", "gpt2", "phi-2", "jais", "gigachat", "a.x-4.0", "mellum", "exaone4",
               "trillion", "granite-docling"},
     .steps = {ISOLATE(GPT2)}},
    {.names = {"mpt", "olmo"}, .steps = {ISOLATE(GPT2)}, .nfc = true},
    {.names = {"starcoder", "refact", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"},
     .steps = {DIGIT, ISOLATE(GPT2)}},
    {.names = {"command-r"}, .steps = {DIGIT, ISOLATE(GPT2)}, .nfc = true},
    {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0",
               "lfm2"},
     .steps = {ISOLATE(LIKE_LLAMA3("\\p{N}{1,3}"))},
     .whole_words = true,
     .bos = true},
    {.names = {"dbrx", "smaug-bpe", "chatglm-bpe", "glm4"},
     .steps = {ISOLATE(LIKE_LLAMA3("\\p{N}{1,3}"))}},
    {.names = {"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2"},
     .steps = {ISOLATE(LIKE_LLAMA3("\\p{N}"))},
     .nfc = true},
    {.names = {"stablelm2", "megrez", "hunyuan", "solar-open", "grok-2"},
     .steps = {ISOLATE(LIKE_LLAMA3("\\p{N}"))}},
    {.names = {"qwen35"}, .steps = {ISOLATE(QWEN35)}, .nfc = true},
    {.names = {"minicpm5"},
     .steps = {ISOLATE("\\p{N}{1,3}"), ISOLATE(LIKE_LLAMA3("\\p{N}+"))},
     .whole_words = true},
    {.names = {"seed-coder"}, .steps = {ISOLATE(SEED_CODER)}},
    {.names = {"tekken"},
     .steps = {ISOLATE(LIKE_GPT4O("", "\\p{N}"))},
     .whole_words = true,
     .bos = true},
    {.names = {"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"},
     .steps = {ISOLATE(LIKE_GPT4O(CONTRACTION "?", "\\p{N}{1,3}"))}},
    {.names = {"deepseek-llm"},
     .steps = {ISOLATE("[\\r\\n]"), ISOLATE("\\s?[" DEEPSEEK_LETTERS "]+"),
               ISOLATE("\\s?[" DEEPSEEK_MARKS "]+"), ISOLATE("\\s+$"), ISOLATE(DEEPSEEK_CJK),
               DIGIT}},
    {.names = {"deepseek-coder"},
     .steps = {ISOLATE("[\\r\\n]"), ISOLATE("\\s?\\p{L}+"), ISOLATE("\\s?\\p{P}+"),
               ISOLATE(DEEPSEEK_CJK), DIGIT}},
    {.names = {"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
     .steps = {ISOLATE("\\p{N}{1,3}"), ISOLATE("[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{30ff}]+"),
               ISOLATE(DEEPSEEK_V3)}},
    {.names = {"falcon"},
     .steps = {{"[\\p{P}" ASCII_MARKS "]", PRETOKENIZER_CONTIGUOUS},
               ISOLATE(GPT2),
               {show_bytes, 0},
               {"\\p{N}", PRETOKENIZER_CONTIGUOUS},
               ISOLATE("[0-9][0-9][0-9]")}},
    {.names = {"poro-chat", "bloom", "gpt3-finnish"}, .steps = {ISOLATE(BLOOM)}},
    {.names = {"viking"}, .steps = {ISOLATE(BLOOM), DIGIT}},
    {.names = {"chameleon"},
     .steps = {ISOLATE("<sentinel:[0-9]+>"), ISOLATE("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
               ISOLATE("([\\t\\n]|    |  )"), DIGIT, ISOLATE("[\\p{P}" ASCII_MARKS "]"),
               ISOLATE(GPT2)},
     .bos = true},
    {.names = {"default"},
     .steps = {ISOLATE("[\\p{P}\\$\\+<=>\\^~\\|]+"), ISOLATE(GPT2), ISOLATE("\\p{N}+"),
               ISOLATE("[0-9][0-9][0-9]")}},
};

#define N_RULES (sizeof(rules) / sizeof(rules[0]))

const struct pretokenizer_rule *pretokenizer_rule_find(const char *name)
{
    for (size_t i = 0; i < N_RULES; i++)
        for (size_t k = 0; rules[i].names[k] != NULL; k++)
            if (strcmp(rules[i].names[k], name) == 0)
                return &rules[i];
    return NULL;
}

void pretokenizer_rule_names(char *list, size_t n_bytes)
{
    size_t n = 0;
    list[0] = '\0';
    for (size_t i = 0; i < N_RULES; i++)
        for (size_t k = 0; rules[i].names[k] != NULL; k++) {
            const int more =
                snprintf(list + n, n_bytes - n, "%s%s", n == 0 ? "" : ", ", rules[i].names[k]);
            if (more < 0 || (size_t)more >= n_bytes - n) {
                list[n] = '\0'; /* no half names */
                return;
            }
            n += (size_t)more;
        }
}

enum status pretokenizer_rule_apply(const struct pretokenizer_rule *rule,
                                    struct pretokenizer *pretokenizer, struct error *error)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; rule->steps[i].expression != NULL && status == STATUS_OK; i++) {
        struct expression *expression = NULL;
        if (rule->steps[i].expression == show_bytes) {
            status = pretokenizer_add_show_bytes(pretokenizer, error);
            continue;
        }
        status = expression_create(&expression, rule->steps[i].expression, error);
        if (status == STATUS_OK)
            status = pretokenizer_add_split(pretokenizer, expression, rule->steps[i].behavior,
                                            false, error);
    }
    return status;
}

bool pretokenizer_rule_nfc(const struct pretokenizer_rule *rule)
{
    return rule->nfc;
}

bool pretokenizer_rule_whole_words(const struct pretokenizer_rule *rule)
{
    return rule->whole_words;
}

bool pretokenizer_rule_bos(const struct pretokenizer_rule *rule)
{
    return rule->bos;
}
