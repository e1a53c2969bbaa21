/* seeds.c FOLDER - writes first inputs for the fuzz targets, FOLDER/TARGET/NAME: valid ones, so
 * that fuzzing begins behind the first check. */
#include "tests/cmocka.h"
#include "tests/fuzz/seeds_huggingface.h"
#include "tests/fuzz/seeds_messages.h"
#include "tests/model/small_model.h"

/* ---- files ---- */

static void save_file(const char *target, const char *name, const char *path)
{
    size_t n;
    char *data = fixture_read(path, &n);
    assert_non_null(data);
    save(target, name, data, n);
    free(data);
}

/* As small as a model can be. */
static void shrink(struct small_model *m)
{
    m->h.hidden = m->h.ffn = 16;
    m->h.vocab = 8;
    m->h.head_dim = m->h.rope_dims = 4;
    m->h.n_layers = 1;
}

static void gguf_seeds(void)
{
    struct small_model m;
    for (int i = 0; i < ARCHITECTURE_COUNT; i++) {
        m = small_model_of((enum architecture)i);
        shrink(&m);
        model_close(small_model_open(&m));
        save_file("fuzz_gguf", m.architecture, fixture_path("model.gguf"));
    }
    m = small_model;
    shrink(&m);
    m.factors = (const float[]){1, 2};
    m.extra_text = "llama.rope.scaling.type";
    m.text = "linear";
    model_close(small_model_open(&m));
    save_file("fuzz_gguf", "factors", fixture_path("model.gguf"));
}

static void vocabulary_seed(const struct vocabulary *v, const char *name)
{
    size_t n;
    tokenizer_close(good_vocabulary(v));
    char *data = fixture_read(fixture_path("vocabulary.gguf"), &n);
    put(0, data, n);
    put_string(1, "Hello  world, it's 12345 \xc3\xa9\xf0\x9f\x98\x80<s>\n\n  x");
    free(data);
    save_input("fuzz_tokenizer", name);
}

static void tokenizer_seeds(void)
{
    static struct vocabulary v;
    spm_vocabulary(&v);
    add_token(&v, "\xe2\x96\x81he", -1, TOKENIZER_TYPE_NORMAL);
    add_token(&v, "llo", -2, TOKENIZER_TYPE_NORMAL);
    add_token(&v, "<|im|>", 0, TOKENIZER_TYPE_USER_DEFINED);
    vocabulary_seed(&v, "spm");
    static const char *const rules[] = {"gpt-2", "llama-bpe", "qwen2", "deepseek-llm"};
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        bpe_vocabulary(&v, rules[i]);
        add_token(&v, "he", 0, TOKENIZER_TYPE_NORMAL);
        add_token(&v, "<s>", 0, TOKENIZER_TYPE_CONTROL);
        add_merge(&v, "h e");
        vocabulary_seed(&v, rules[i]);
    }
}

static void tokenizer_json_seeds(void)
{
    put_string(
        0, "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", "
           "\"special\": true, "
           "\"normalized\": false, \"lstrip\": false, \"rstrip\": true, \"single_word\": false}], "
           "\"normalizer\": {\"type\": \"NFC\"}, \"pre_tokenizer\": {\"type\": \"Sequence\", "
           "\"pretokenizers\": ["
           "{\"type\": \"Split\", \"pattern\": {\"Regex\": "
           "\"\\\\p{N}{1,3}|[^\\\\s\\\\p{N}]+|\\\\s+(?!\\\\S)\"}, "
           "\"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"ByteLevel\", "
           "\"add_prefix_space\": false, "
           "\"trim_offsets\": true, \"use_regex\": false}]}, \"decoder\": {\"type\": "
           "\"ByteLevel\"}, \"post_processor\": null, "
           "\"model\": {\"type\": \"BPE\", \"byte_fallback\": false, \"ignore_merges\": false, "
           "\"vocab\": {\"<s>\": 0, \"h\": 1, \"e\": 2, \"he\": 3, \"1\": 4, \"\u0120\": 5}, "
           "\"merges\": [[\"h\", \"e\"]]}}");
    put_string(1, "he 11 \xc3\xa9<s> h");
    save_input("fuzz_tokenizer_json", "byte-level");
    put_string(0, "{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true}], "
                  "\"normalizer\": {\"type\": \"Sequence\", "
                  "\"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\u2581\"}, {\"type\": "
                  "\"Replace\", \"pattern\": {\"String\": \" \"}, "
                  "\"content\": \"\u2581\"}]}, \"pre_tokenizer\": null, \"decoder\": {\"type\": "
                  "\"Sequence\", \"decoders\": [{\"type\": "
                  "\"Replace\", \"pattern\": {\"String\": \"\u2581\"}, \"content\": \" \"}, "
                  "{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, "
                  "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]}, "
                  "\"post_processor\": {\"type\": \"TemplateProcessing\", "
                  "\"single\": [{\"SpecialToken\": {\"id\": \"<unk>\", \"type_id\": 0}}, "
                  "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], "
                  "\"pair\": [], \"special_tokens\": {\"<unk>\": {\"id\": \"<unk>\", \"ids\": [0], "
                  "\"tokens\": [\"<unk>\"]}}}, "
                  "\"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"fuse_unk\": true, "
                  "\"byte_fallback\": true, "
                  "\"vocab\": {\"<unk>\": 0, \"\u2581\": 1, \"a\": 2, \"\u2581a\": 3}, \"merges\": "
                  "[\"\u2581 a\"]}}");
    save_input("fuzz_tokenizer_json", "sentencepiece");
}

static void text_seeds(void)
{
    static const char cluster[] = "name: lab\ncoordinator: {host: head, listen: "
                                  "\"tcp://0.0.0.0:5600\"}\nsecurity: {cluster_key: /k}\nworkers:\n"
                                  "  - {host: gpu01, slots: 2, device: cuda, threads: 16}\n  - "
                                  "{host: localhost}\nparallel: {pipeline: 3, tensor: 1}\n"
                                  "attention_nodes:\n  - {host: mem01, memory: 512GiB, threads: "
                                  "64, weight: 0.5}\nkv: {type: f16, memory: 8GiB, stripe: 4096}\n";
    save("fuzz_cluster_file", "lab", cluster, sizeof(cluster) - 1);
    save("fuzz_cluster_file", "least", "workers: [{host: a}]\n", 21);

    put_string(0, "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' and loop.index0 "
                  "% 2 == 0 %}{{ '[INST] ' + "
                  "m.content | trim + ' [/INST]' }}{% elif m.tool_calls is defined %}{{ "
                  "m.tool_calls | tojson(indent=2) }}"
                  "{% else %}{{- raise_exception('no') if false else m.content[1:] -}}{% endif "
                  "%}{% endfor %}");
    put_string(1, "[{\"role\": \"user\", \"content\": \" a \"}]");
    save_input("fuzz_chat_template", "inst");
    put_string(0, "{%- macro f(x, y=1) -%}{% set ns = namespace(n=0) %}{% for k, v in x.items() "
                  "%}{% set ns.n = ns.n + 1 %}"
                  "{{ k ~ '=' ~ v | upper }}{% endfor %}{{ ns.n * y }}{%- endmacro -%}{{ "
                  "f(messages[0], y=2) }}");
    save_input("fuzz_chat_template", "macro");

    put_string(0, "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\", "
                  "\"minimum\": 3}, \"b\": {\"enum\": [\"x\", 1]},"
                  " \"c\": {\"type\": \"array\", \"items\": {\"$ref\": \"#/$defs/d\"}, "
                  "\"maxItems\": 2}}, \"required\": [\"a\"],"
                  " \"additionalProperties\": false, \"$defs\": {\"d\": {\"anyOf\": [{\"type\": "
                  "\"null\"}, {\"type\": \"number\"}]}}}");
    put_string(1, "0123456789abcdef");
    save_input("fuzz_json_schema", "object");
    put_string(
        0, "{\"type\": \"string\", \"pattern\": \"^[a-c]{2,4}(x|yz)*\\\\d$\", \"maxLength\": 9}");
    save_input("fuzz_json_schema", "pattern");
}

static void body_seeds(void)
{
    static const char completion[] =
        "0{\"model\": \"ours\", \"prompt\": [\"ab\", \"cd\"], \"max_tokens\": 5, \"n\": 2, "
        "\"temperature\": 0.5, \"top_p\": 0.9, \"top_k\": 40, \"min_p\": 0.1, \"seed\": -3, "
        "\"stop\": [\"x\", \"yz\"], \"presence_penalty\": 1, \"frequency_penalty\": -1, "
        "\"repetition_penalty\": 1.1, \"logit_bias\": {\"7\": -100}, \"stream\": true, "
        "\"stream_options\": {\"include_usage\": true}, \"logprobs\": 3, \"echo\": true, "
        "\"ignore_eos\": false, \"priority\": 1, \"response_format\": {\"type\": \"text\"}}";
    static const char ids[] =
        "0{\"prompt\": [[1, 70, 71], [72]], \"max_tokens\": 0, \"echo\": true}";
    static const char chat[] =
        "1{\"messages\": [{\"role\": \"system\", \"content\": [{\"type\": \"text\", \"text\": "
        "\"a\"}]}, {\"role\": \"user\", \"content\": \"b\"}, {\"role\": \"assistant\", "
        "\"content\": null, \"tool_calls\": [{\"id\": \"c\", \"type\": \"function\", "
        "\"function\": {\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 1}\"}}]}, {\"role\": "
        "\"tool\", \"tool_call_id\": \"c\", \"content\": \"2\"}], \"tools\": [{\"type\": "
        "\"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"type\": \"object\", "
        "\"properties\": {\"x\": {\"type\": \"integer\"}}}}}], \"tool_choice\": \"required\", "
        "\"parallel_tool_calls\": false, \"logprobs\": true, \"top_logprobs\": 2}";
    save("fuzz_http_body", "completion", completion, sizeof(completion) - 1);
    save("fuzz_http_body", "ids", ids, sizeof(ids) - 1);
    save("fuzz_http_body", "chat", chat, sizeof(chat) - 1);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: seeds FOLDER\n");
        return 2;
    }
    folder = argv[1];
    fixture_setup(NULL);
    gguf_seeds();
    huggingface_seeds();
    tokenizer_seeds();
    tokenizer_json_seeds();
    text_seeds();
    body_seeds();
    node_seed();
    worker_seeds();
    reply_seeds();
    coordinator_seeds();
    return fixture_teardown(NULL);
}
