"""models.py - the small models whose logits other programs have computed too; standard library only.

A model is what `longspan model make-random --type F32 --seed SEED --shape SHAPE` writes; its prompt is a text of ASCII letters,
one token a byte behind BOS. Logits are compared after the tokens at POSITIONS, and of each row for every STRIDE-th token of the
vocabulary. Contexts before scaling are 64 tokens and windows 32, so that the later positions are far beyond both."""
import random

SEED = 7
BOS = 256
POSITIONS = [1, 30, 31, 32, 63, 64, 127, 128, 200, 299]
STRIDE = 11
TEXT = "".join(random.Random(5).choice("abcdefghijklmnopqrstuvwxyz     ") for _ in range(max(POSITIONS)))

SMALL = "layers=2,hidden=64,heads=4,kv-heads=2,head-dim=32,ffn=96,vocab=264,ctx=2048"
YARN = "rope-scaling=yarn,rope-factor=4,rope-context=64"

# Shapes; whether the embedding is the output too; what the config.json has beside what follows from the keys.
MODELS = {
    "llama": dict(shape=f"{SMALL}", config={}),
    "llama-biases": dict(shape=f"{SMALL},biases=1", config={"attention_bias": True}),
    "llama-linear": dict(shape=f"{SMALL},rope-scaling=linear,rope-factor=4", config={}),
    "llama-llama3": dict(
        shape=f"{SMALL},rope-base=500000,rope-scaling=llama3,rope-factor=8,rope-context=64",
        config={"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0,
                                    "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                    "original_max_position_embeddings": 64}}),
    "llama-yarn": dict(shape=f"{SMALL},{YARN}", config={}),
    "mistral-window": dict(shape=f"{SMALL},window=32", config={"model_type": "mistral"}),
    "qwen2": dict(shape=f"{SMALL},arch=qwen2,rope-base=1000000", config={}),
    "qwen2-yarn": dict(shape=f"{SMALL},arch=qwen2,rope-base=1000000,{YARN}", config={}),
    "qwen3": dict(shape=f"{SMALL},arch=qwen3,rope-base=1000000", config={}),
    "mixtral": dict(shape=f"{SMALL},experts=8,experts-used=2,rope-base=1000000",
                    config={"model_type": "mixtral", "sliding_window": None}),
    "qwen3moe": dict(shape=f"{SMALL},arch=qwen3moe,ffn=64,experts=16,experts-used=4,rope-base=1000000", config={}),
    "qwen3moe-softmax-of-all": dict(
        shape=f"{SMALL},arch=qwen3moe,ffn=64,experts=12,experts-used=3,experts-softmax-of-all=1", config={}),
    "gemma2": dict(shape=f"{SMALL},arch=gemma2,window=32", tied=True, config={}),
    "gemma3": dict(shape=f"{SMALL},layers=7,arch=gemma3,window=32,rope-base=1000000,rope-scaling=linear,rope-factor=8",
                   tied=True, config={}),
    "granite": dict(shape=f"{SMALL},arch=granite,hidden=128,attention-scale=0.1,embedding-scale=6,residual-scale=0.3,logit-scale=4",
                    tied=True, config={}),
    "phi3": dict(shape=f"{SMALL},arch=phi3,hidden=128,window=32", config={}),
    "glm4": dict(shape=f"{SMALL},arch=glm4,rope-dims=16,biases=1", config={"attention_bias": True}),
    "smollm3": dict(shape=f"{SMALL},layers=5,arch=smollm3,rope-base=5000000", tied=True, config={}),
}


def tokens():
    return [BOS] + list(TEXT.encode())


def make_options(name):
    """Of `longspan model make-random`, behind the file's name."""
    model = MODELS[name]
    options = ["--shape", model["shape"], "--type", "F32", "--seed", str(SEED)]
    return options + (["--tied"] if model.get("tied") else [])


def rope_parameters(keys, prefix):
    get = lambda name, default=None: keys.get(f"{prefix}.{name}", default)
    rope = {"rope_type": get("rope.scaling.type", "default"), "rope_theta": get("rope.freq_base")}
    if rope["rope_type"] != "default":
        rope["factor"] = get("rope.scaling.factor")
    if rope["rope_type"] == "yarn":
        rope["original_max_position_embeddings"] = get("rope.scaling.original_context_length")
    return rope


def config(name, keys):
    """The config.json of the model whose GGUF file has these keys, as a dict."""
    arch = keys["general.architecture"]
    get = lambda suffix, default=None: keys.get(f"{arch}.{suffix}", default)
    rope = rope_parameters(keys, arch)
    c = {
        "model_type": {"gemma3": "gemma3_text", "qwen3moe": "qwen3_moe"}.get(arch, arch),
        "hidden_size": get("embedding_length"),
        "num_hidden_layers": get("block_count"),
        "intermediate_size": get("feed_forward_length"),
        "num_attention_heads": get("attention.head_count"),
        "num_key_value_heads": get("attention.head_count_kv"),
        "head_dim": get("attention.key_length"),
        "vocab_size": get("vocab_size"),
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_parameters": rope,
        "tie_word_embeddings": bool(MODELS[name].get("tied")),
        "bos_token_id": BOS, "eos_token_id": BOS + 1, "pad_token_id": BOS + 2,
    }
    if get("attention.sliding_window"):
        c["sliding_window"] = get("attention.sliding_window")
    if get("expert_count"):
        c["num_local_experts"] = get("expert_count")
        c["num_experts_per_tok"] = get("expert_used_count")
        c["moe_intermediate_size"] = get("expert_feed_forward_length")
        c["norm_topk_prob"] = get("expert_weights_norm", True)
    if arch in ("granite", "phi3"):
        c.pop("head_dim")  # hidden_size / num_attention_heads
    if arch == "glm4":
        c["rope_parameters"]["partial_rotary_factor"] = get("rope.dimension_count") / get("attention.key_length")
    if arch == "granite":
        c.update(attention_multiplier=get("attention.scale"), embedding_multiplier=get("embedding_scale"),
                 residual_multiplier=get("residual_scale"), logits_scaling=get("logit_scale"))
    if arch in ("gemma2", "gemma3"):
        c["query_pre_attn_scalar"] = get("attention.key_length")
        c["attn_logit_softcapping"] = get("attn_logit_softcapping")
        c["final_logit_softcapping"] = get("final_logit_softcapping")
    if arch == "gemma3":
        c["rope_parameters"] = {"full_attention": rope,
                                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    c.update(MODELS[name]["config"])
    return c


ONCE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
OF_LAYER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "ffn_gate_inp": "mlp.gate",
}
# Of all experts; gate and up are one tensor there, rows of gate before those of up in each expert.
OF_EXPERTS = {"ffn_gate_exps": "gate_up_proj", "ffn_up_exps": "gate_up_proj", "ffn_down_exps": "down_proj"}
OF_GLM4 = {"post_attention_norm": "post_self_attn_layernorm", "post_ffw_norm": "post_mlp_layernorm",
           "ffn_gate": "mlp.gate_up_proj", "ffn_up": "mlp.gate_up_proj"}
OF_PHI3 = {**dict.fromkeys(("attn_q", "attn_k", "attn_v"), "self_attn.qkv_proj"),
           "ffn_gate": "mlp.gate_up_proj", "ffn_up": "mlp.gate_up_proj"}
OF_GEMMA = {"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm"}


def hugging_face_name(arch, name):
    """Of a tensor of a GGUF file; None: transformers computes it."""
    if name == "rope_freqs.weight":
        return None
    parts = name.split(".")
    if parts[0] != "blk":
        return ".".join([ONCE[parts[0]], *parts[1:]])
    if parts[2] in OF_EXPERTS:
        return ".".join(["model.layers", parts[1], "mlp.experts", OF_EXPERTS[parts[2]]])
    own = {"gemma2": OF_GEMMA, "gemma3": OF_GEMMA, "glm4": OF_GLM4, "phi3": OF_PHI3}
    names = {**OF_LAYER, **own.get(arch, {})}
    return ".".join(["model.layers", parts[1], names[parts[2]], *parts[3:]])


def is_norm(name):
    return name.endswith("norm.weight")


def is_permuted(keys):
    """Whether the architecture's GGUF files have rows of q and k in the order (0, n/2, 1, n/2 + 1, ...) of each head."""
    return keys["general.architecture"] in ("llama", "granite", "smollm3")


def permuted_heads(keys, name):
    """Heads whose rows are in that order; 0: not permuted."""
    arch, part = keys["general.architecture"], name.split(".")[2] if name.startswith("blk.") else ""
    if not is_permuted(keys) or part not in ("attn_q", "attn_k"):
        return 0
    return keys[f"{arch}.attention.head_count" + ("_kv" if part == "attn_k" else "")]
