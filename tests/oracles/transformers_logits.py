#!/usr/bin/env python3
"""transformers_logits.py [NAME...] - golden/NAME.json of every model of models.py, or of these.

Runs them in Hugging Face transformers: CPU, float32, eager attention. LONGSPAN_BIN names the folder of our programs, of which
only `longspan model make-random` is used. Made with Python 3.11, torch 2.15 and transformers 5.24 by

    LONGSPAN_BIN=build/release/bin python3 tests/oracles/transformers_logits.py
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy
import torch
import transformers

import gguf_f32
import models

BIN = os.environ.get("LONGSPAN_BIN", "build/release/bin")
GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")


def state_dict(keys, tensors):
    """The tensors under transformers' names, as it has them: rows in order, Gemma's norms less one."""
    arch = keys["general.architecture"]
    state = {}
    for name, (dims, values) in tensors.items():
        target = models.hugging_face_name(arch, name)
        if target is None:
            continue
        x = numpy.frombuffer(values, dtype=numpy.float32).reshape(dims[::-1])
        heads = models.permuted_heads(keys, name)
        if heads:
            x = x.reshape(heads, -1, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)
        if arch.startswith("gemma") and models.is_norm(name):
            x = x - numpy.float32(1)
        state.setdefault(target, []).append(torch.tensor(x))
    return {target: torch.cat(parts, dim=len(parts[0].shape) - 2) if len(parts) > 1 else parts[0]
            for target, parts in state.items()}


def logits_of(name, keys, tensors):
    config = models.config(name, keys)
    config = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager",
                                                          dtype=torch.float32)
    state = state_dict(keys, tensors)
    missing, unexpected = model.load_state_dict(state, strict=False)
    missing = [m for m in missing if not (m == "lm_head.weight" and config.tie_word_embeddings)]
    if missing or unexpected:
        raise SystemExit(f"{name}: without {missing}, left over {unexpected}")
    model.tie_weights()
    model.eval()
    with torch.no_grad():
        return model(torch.tensor([models.tokens()]), use_cache=False).logits[0].numpy()


def golden(name):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.gguf")
        subprocess.run([os.path.join(BIN, "longspan"), "model", "make-random", path, *models.make_options(name)],
                       check=True)
        keys, tensors = gguf_f32.read(path)
        shown = subprocess.run([os.path.join(BIN, "longspan"), "model", "inspect", "--json", path], check=True,
                               stdout=subprocess.PIPE)
    logits = logits_of(name, keys, tensors)
    rows = []
    for position in models.POSITIONS:
        row = logits[position].astype("<f4")
        rows.append({"position": position, "best": int(row.argmax()),
                     "rms": float(numpy.sqrt(numpy.mean(row.astype(numpy.float64) ** 2))),
                     "logits": row[::models.STRIDE].tobytes().hex()})
    return {"made_by": f"transformers {transformers.__version__}, torch {torch.__version__}: CPU, float32, eager",
            "command": f"tests/oracles/transformers_logits.py {name}",
            "model": models.make_options(name), "fingerprint": json.loads(shown.stdout)["fingerprint"],
            "stride": models.STRIDE, "rows": rows}


def main():
    os.makedirs(GOLDEN, exist_ok=True)
    for name in sys.argv[1:] or models.MODELS:
        with open(os.path.join(GOLDEN, f"{name}.json"), "w", encoding="ascii") as file:
            json.dump(golden(name), file, indent=1)
            file.write("\n")
        print(name, flush=True)


if __name__ == "__main__":
    main()
