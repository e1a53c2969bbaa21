/* hf_config_entries.c - the entries of a config.json that are known: those that are read, those
 * that say nothing about the results, and those that must be off. */
#include "model/huggingface/hf_config_internal.h"

#include <string.h>

/* Read by hf_config.c and hf_config_rope.c. */
static const char *const used[] = {
    "architectures",
    "attn_logit_softcapping",
    "decoder_sparse_step",
    "final_logit_softcapping",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "hidden_size",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "mlp_only_layers",
    "model_type",
    "moe_intermediate_size",
    "norm_topk_prob",
    "num_attention_heads",
    "num_experts",
    "num_experts_per_tok",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_local_experts",
    "partial_rotary_factor",
    "query_pre_attn_scalar",
    "rms_norm_eps",
    "rope_local_base_freq",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
    "sliding_window_pattern",
    "tie_word_embeddings",
    "use_sliding_window",
    "vocab_size",
};

/* Of training, of generation, of files, of other tasks; attention_bias: the tensors say it. */
static const char *const harmless[] = {
    "attention_bias",
    "attention_dropout",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "hidden_dropout",
    "id2label",
    "initializer_range",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
};

/* Read of one model_type; others would run without them. */
static const struct {
    const char *model_type, *name;
} of_one_type[] = {
    {"granite", "attention_multiplier"},
    {"granite", "embedding_multiplier"},
    {"granite", "logits_scaling"},
    {"granite", "residual_multiplier"},
    {"phi3", "embd_pdrop"},
    {"phi3", "resid_pdrop"},
    {"phi3", "original_max_position_embeddings"}, /* of longrope */
    {"phi3", "auto_map"},
    {"smollm3", "no_rope_layers"},
    {"smollm3", "no_rope_layer_interval"},
};

static bool is_of_type(const char *model_type, const char *name)
{
    for (size_t i = 0; i < sizeof(of_one_type) / sizeof(of_one_type[0]); i++)
        if (strcmp(of_one_type[i].name, name) == 0 &&
            strcmp(of_one_type[i].model_type, model_type) == 0)
            return true;
    return false;
}

static bool is_in(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static bool is_off(const json_t *value)
{
    return json_is_null(value) || json_is_false(value) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

void hf_check_entries(struct hf_reader *reader)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)reader->root, name,
                        value) if (name[0] != '_' && !is_off(value) &&
                                   !is_in(used, sizeof(used) / sizeof(used[0]), name) &&
                                   !is_in(harmless, sizeof(harmless) / sizeof(harmless[0]), name) &&
                                   !is_of_type(reader->family->model_type, name))
        hf_refuse(reader, name, NULL);
}
