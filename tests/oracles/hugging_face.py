"""hugging_face.py - the model of a GGUF file as a Hugging Face directory; standard library only.

config.json as transformers saves it, weights under its names in one safetensors file or in several with their index, and a
tokenizer.json with the bytes, BOS and EOS. Rows that llama's GGUF files have in another order are put back, norms of Gemma
count from 1 again, each expert is a tensor of its own."""
import array
import json
import os
import struct

import models

EXPERTS = {"ffn_gate_exps": ("mlp.experts.%d.gate_proj", "block_sparse_moe.experts.%d.w1"),
           "ffn_up_exps": ("mlp.experts.%d.up_proj", "block_sparse_moe.experts.%d.w3"),
           "ffn_down_exps": ("mlp.experts.%d.down_proj", "block_sparse_moe.experts.%d.w2")}


def rows_in_order(values, width, heads):
    """Row (0, n/2, 1, n/2 + 1, ...) of each head back to (0, 1, 2, ...)."""
    n = len(values) // width // heads
    out = array.array("f")
    for head in range(heads):
        for i in range(n):
            row = head * n + (2 * i if i < n // 2 else 2 * (i - n // 2) + 1)
            out.extend(values[row * width:(row + 1) * width])
    return out


def pieces(keys, mixtral, name, dims, values):
    """(name, shape, values) of the tensors that one of a GGUF file is there."""
    arch = keys["general.architecture"]
    part = name.split(".")[2] if name.startswith("blk.") else ""
    if name == "rope_freqs.weight":
        return
    if part in EXPERTS:
        size = dims[0] * dims[1]
        for e in range(dims[2]):
            middle = EXPERTS[part][mixtral] % e
            yield f"model.layers.{name.split('.')[1]}.{middle}.weight", dims[1::-1], values[e * size:(e + 1) * size]
        return
    heads = models.permuted_heads(keys, name)
    if heads:
        values = rows_in_order(values, dims[0] if len(dims) > 1 else 1, heads)
    if arch.startswith("gemma") and models.is_norm(name):
        values = array.array("f", [v - 1 for v in values])
    target = models.hugging_face_name(arch, name)
    yield target.replace("mlp.gate.", "block_sparse_moe.gate.") if mixtral else target, dims[::-1], values


def joined(entries):
    """Tensors of one name are one, the rows of each below those of the one before."""
    whole = {}
    for name, shape, values in entries:
        shape, values = list(shape), array.array("f", values)
        if name in whole:
            shape[0] += whole[name][0][0]
            values = whole[name][1] + values
        whole[name] = (shape, values)
    return [(name, *entry) for name, entry in whole.items()]


def write_safetensors(path, tensors, kind="F32", shift=0):
    """`tensors`: (name, shape, array of floats). BF16 cuts off the low bits. The data begins `shift` bytes behind a multiple of 8."""
    header, at, data = {"__metadata__": {"format": "pt"}}, 0, []
    for name, shape, values in tensors:
        raw = values.tobytes()
        if kind == "BF16":
            raw = b"".join(raw[i + 2:i + 4] for i in range(0, len(raw), 4))
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        data.append(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8 + shift)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(data)


def byte_names():
    """What byte-level tokenizers call the bytes 0 to 255 (GPT-2's alphabet)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return [chr(b if b in shown else 256 + hidden.index(b)) for b in range(256)]


def tokenizer(bos, eos):
    special = [{"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                "special": True} for i, text in ((bos, "<|bos|>"), (eos, "<|eos|>"))]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    piece = lambda name: {"Sequence": {"id": name, "type_id": 0}}
    token = {"SpecialToken": {"id": "<|bos|>", "type_id": 0}}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
            "pre_tokenizer": level, "decoder": level,
            "post_processor": {"type": "TemplateProcessing", "single": [token, piece("A")],
                               "pair": [token, piece("A"), token, piece("B")],
                               "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [bos], "tokens": ["<|bos|>"]}}},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                      "vocab": {name: i for i, name in enumerate(byte_names())}, "merges": []}}


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file)


def write_directory(path, name, keys, tensors, n_files=1, kind="F32"):
    """`keys` and `tensors` as gguf_f32.read gives them, of the model `name` of models.py. Of several files only the first
    has its data where numbers are aligned."""
    config = models.config(name, keys)
    mixtral = config["model_type"] == "mixtral"
    entries = joined(e for name, (dims, values) in tensors.items() for e in pieces(keys, mixtral, name, dims, values))
    os.makedirs(path)
    write_json(f"{path}/config.json", config)
    write_json(f"{path}/tokenizer.json", tokenizer(models.BOS, models.BOS + 1))
    write_json(f"{path}/tokenizer_config.json", {"bos_token": "<|bos|>", "eos_token": "<|eos|>",
                                                 "chat_template": "{{ messages[0]['content'] }}"})
    if n_files == 1:
        write_safetensors(f"{path}/model.safetensors", entries, kind)
        return
    index = {}
    for i in range(n_files):
        file = f"model-{i + 1:05}-of-{n_files:05}.safetensors"
        mine = entries[i::n_files]
        write_safetensors(f"{path}/{file}", mine, kind, shift=i)
        index.update({entry[0]: file for entry in mine})
    write_json(f"{path}/model.safetensors.index.json", {"metadata": {}, "weight_map": index})
