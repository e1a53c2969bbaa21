#!/usr/bin/env python3
"""test_logits.py [NAME...] - logits of every model of models.py beside those of golden/: another program's.

Through the public command, with KV in f32: one process, tensor 2, pipeline 2 with an attention node; the same weights as a
Hugging Face directory; and the GGUF file that `longspan model quantize` makes of it, which has the first one's bits. The largest difference
at any position, over the root mean square of that row of logits, must be under TOLERANCE; the best token must be the same where
it stands out by more. Both sides compute in f32, in other orders: each logit is the end of some thousand roundings of 6e-8, partly
cancelled (1e-6 in all when this was written); transformers also rounds rope's frequencies and angles. Standard library only."""
import array
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "integration")]

import gguf_f32
import hugging_face
import models
from longspan_test import Tap, folder, longspan, read_logits

TOLERANCE = 1e-5
LAYOUTS = {"one process": [], "tensor 2": ["--tensor", 2],
           "pipeline 2, an attention node": ["--pipeline", 2, "--attention-nodes", 1, "--memory", "64MiB"]}


def expected(name):
    with open(os.path.join(HERE, "golden", f"{name}.json"), encoding="ascii") as file:
        return json.load(file)


def run(path, model, options):
    """One row of logits for each position: the text up to it is a prompt of its own."""
    dump = f"{path}/logits"
    arguments = ["run", "-m", model, "-n", 1, "--ignore-eos", "-q", "--kv-type", "f32", "--threads", 1,
                 "--ctx", 512, "--dump-logits", dump]
    for position in models.POSITIONS:
        text = f"{path}/{position}"
        with open(text, "w", encoding="ascii") as file:
            file.write(models.TEXT[:position])
        arguments += ["-f", text]
    result = longspan(*arguments, *options)
    if result.code != 0:
        raise RuntimeError(str(result))
    values = read_logits(dump)
    width = len(values) // len(models.POSITIONS)
    return [values[i * width:(i + 1) * width] for i in range(len(models.POSITIONS))]


def compare(golden, rows):
    """The largest difference, and what is wrong."""
    worst, wrong = 0.0, []
    for row, want in zip(rows, golden["rows"]):
        theirs = array.array("f")
        theirs.frombytes(bytes.fromhex(want["logits"]))
        ours = row[::golden["stride"]]
        if len(ours) != len(theirs):
            return worst, [f"{len(ours)} logits, not {len(theirs)}"]
        off = max(abs(a - b) for a, b in zip(ours, theirs)) / want["rms"]
        worst = max(worst, off if off == off else float("inf"))
        best = max(range(len(row)), key=row.__getitem__)
        if best != want["best"] and row[best] - row[want["best"]] > TOLERANCE * want["rms"]:
            wrong.append(f"position {want['position']}: token {best}, not {want['best']}")
        if not off < TOLERANCE:
            wrong.append(f"position {want['position']}: off by {off:.2e} of the root mean square")
    return worst, wrong


def check_model(tap, path, name):
    golden, model = expected(name), f"{path}/{name}.gguf"
    made = longspan("model", "make-random", model, *models.make_options(name))
    shown = longspan("model", "inspect", "--json", model)
    same = made.code == 0 and shown.code == 0 and shown.json()["fingerprint"] == golden["fingerprint"]
    if not tap.check(same, f"{name}: the model that the golden file is of",
                     f"{made}\n{shown}\nmake-random writes other bytes: make golden/ anew, see README.md"):
        return
    bits = []
    for layout, options in LAYOUTS.items():
        bits.append(run(path, model, options))
        worst, wrong = compare(golden, bits[-1])
        tap.check(not wrong, f"{name}, {layout}: as transformers, within {worst:.1e}", "\n".join(wrong))
    check_directory(tap, path, name, golden, bits[0])


def check_directory(tap, path, name, golden, bits):
    """In two files; pairs of rope lie apart there, so that llama's sums of a score have another order."""
    directory, made = f"{path}/{name}", f"{path}/{name}-made.gguf"
    keys, tensors = gguf_f32.read(f"{directory}.gguf")
    hugging_face.write_directory(directory, name, keys, tensors, n_files=2)
    rows = run(path, directory, [])
    worst, wrong = compare(golden, rows)
    tap.check(not wrong, f"{name}, Hugging Face directory: as transformers, within {worst:.1e}", "\n".join(wrong))
    if not models.is_permuted(keys):
        tap.check(rows == bits, f"{name}, Hugging Face directory: the GGUF file's bits")
    done = longspan("model", "quantize", directory, made, "F32")
    if tap.check(done.code == 0, f"{name}: the directory made a GGUF file", done):
        same = gguf_f32.read(made)[1] == tensors
        tap.check(same, f"{name}: the same tensors as in the file that the directory was made of")
        tap.check(run(path, made, []) == bits, f"{name}: and the same bits")


def main():
    tap = Tap()
    with folder() as path:
        for name in sys.argv[1:] or models.MODELS:
            check_model(tap, path, name)
    tap.finish()


if __name__ == "__main__":
    main()
