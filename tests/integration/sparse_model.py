"""sparse_model.py - a GGUF file of any shape whose weights are a hole: headers are all that planning reads.

Standard library only; https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3."""
import struct

F32, Q8_0, Q4_K, Q6_K = 0, 8, 12, 14
BYTES = {F32: (1, 4), Q8_0: (32, 34), Q4_K: (256, 144), Q6_K: (256, 210)}  # elements and bytes of a block
ALIGNMENT = 32
LLAMA_70B = dict(layers=80, hidden=8192, heads=64, kv_heads=8, head_dim=128, ffn=28672, vocab=128256, context=131072)


def _text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _key(name, value):
    if isinstance(value, str):
        return _text(name) + struct.pack("<I", 8) + _text(value)
    if isinstance(value, float):
        return _text(name) + struct.pack("<If", 6, value)
    return _text(name) + struct.pack("<II", 4, value)


def write(path, kind, name, layers, hidden, heads, kv_heads, head_dim, ffn, vocab, context):
    """A llama; matrices of `kind`, the output of Q6_K. Returns the bytes of all tensors."""
    keys = {"general.architecture": "llama", "general.name": name, "llama.block_count": layers,
            "llama.embedding_length": hidden, "llama.feed_forward_length": ffn, "llama.attention.head_count": heads,
            "llama.attention.head_count_kv": kv_heads, "llama.attention.key_length": head_dim,
            "llama.attention.value_length": head_dim, "llama.rope.dimension_count": head_dim,
            "llama.context_length": context, "llama.vocab_size": vocab, "llama.rope.freq_base": 500000.0,
            "llama.attention.layer_norm_rms_epsilon": 1e-5}
    tensors = [("token_embd.weight", kind, (hidden, vocab)), ("output_norm.weight", F32, (hidden,)),
               ("output.weight", Q6_K, (hidden, vocab))]
    for i in range(layers):
        shapes = {"attn_norm": (hidden,), "ffn_norm": (hidden,), "attn_q": (hidden, heads * head_dim),
                  "attn_k": (hidden, kv_heads * head_dim), "attn_v": (hidden, kv_heads * head_dim),
                  "attn_output": (heads * head_dim, hidden), "ffn_gate": (hidden, ffn), "ffn_up": (hidden, ffn),
                  "ffn_down": (ffn, hidden)}
        tensors += [(f"blk.{i}.{part}.weight", F32 if len(shape) == 1 else kind, shape) for part, shape in shapes.items()]
    head = struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(keys))
    head += b"".join(_key(*item) for item in keys.items())
    offset, total = 0, 0
    for tensor, of, shape in tensors:
        head += _text(tensor) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape)
        head += struct.pack("<IQ", of, offset)
        elements, block = BYTES[of]
        size = block
        for n in shape:
            size *= n
        size //= elements
        total += size
        offset += (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
    head += bytes(-len(head) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + offset)
    return total
