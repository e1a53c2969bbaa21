#!/usr/bin/env python3
"""A model in every type, through the front door: `model quantize`, `model inspect`, then `run`; the logits stay as near to
those of the F32 model as the type's bits promise."""
import math

from longspan_test import Tap, folder, longspan, make_random, read_logits, write_text

SHAPE = "tiny,hidden=512,heads=8,kv-heads=4,head-dim=64,ffn=768"  # rows of whole super-blocks
# Bits per weight of the file (with norms), and what rounding to the type does to a weight of a normal distribution: root mean
# square of the difference over that of the weights (tests/kernels/quant). Four layers make four times as much of it in the
# logits, 3.4 to 4.4 in all that was measured, the 8-bit activations that meet blocks included.
TYPES = {"F32": (32.0, 0), "F16": (16.0, 0.0002), "BF16": (16.0, 0.0017), "Q8_0": (8.5, 0.0054), "Q6_K": (6.56, 0.017),
         "Q5_1": (6.0, 0.038), "Q5_0": (5.5, 0.043), "Q5_K": (5.5, 0.035), "Q4_1": (5.0, 0.078), "Q4_0": (4.5, 0.086),
         "Q4_K": (4.5, 0.071), "Q5_K_M": (5.67, 0.035), "Q5_K_S": (5.53, 0.035), "Q4_K_M": (4.82, 0.071),
         "Q4_K_S": (4.61, 0.071)}
MOST = 6


def logits(path, model, prompt):
    dump = f"{path}/logits"
    done = longspan("run", "-m", model, "-f", prompt, "-n", 1, "--temp", 0, "--ignore-eos", "--kv-type", "f32",
                    "--dump-logits", dump)
    if done.code != 0:
        raise RuntimeError(str(done))
    return read_logits(dump)


def difference(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)) / sum(y * y for y in b))


def every_type(tap, path, source):
    prompt = write_text(f"{path}/prompt", 300, 3)
    reference = logits(path, source, prompt)
    for name, (bits, error) in TYPES.items():
        out = f"{path}/out.gguf"
        done = longspan("model", "quantize", source, out, name.lower(), "--threads", 2)
        if not tap.check(done.code == 0 and done.out == "", f"{name}: quantized", done):
            continue
        shown = longspan("model", "inspect", "--json", out).json()
        tap.check(shown["supported"] and abs(shown["bits_per_weight"] - bits) < 0.01 * bits,
                  f"{name}: {shown['bits_per_weight']:.2f} bits per weight", f"expected about {bits}")
        off = difference(logits(path, out, prompt), reference)
        tap.check(off <= MOST * error, f"{name}: logits differ by {off:.4f}", f"at most {MOST * error:.4f} is expected")


def refusals(tap, path, source):
    def expect(name, done, *words):
        missing = [w for w in words if w not in done.err]
        tap.check(done.code == 2 and not missing and done.err.count("\n") == 1, f"{name}: exit status 2",
                  f"missing in the message: {missing}\n{done}")

    q8 = f"{path}/q8.gguf"
    longspan("model", "quantize", source, q8, "Q8_0")
    expect("no arguments", longspan("model", "quantize"), "IN OUT TYPE")
    expect("no type", longspan("model", "quantize", source, f"{path}/x"), "IN OUT TYPE")
    expect("an unknown type", longspan("model", "quantize", source, f"{path}/x", "Q4_X"), "'Q4_X'", "Q4_K_M")
    expect("onto itself", longspan("model", "quantize", source, source, "Q8_0"), "source itself")
    expect("twice", longspan("model", "quantize", q8, f"{path}/x", "Q4_K"), "q8.gguf", "token_embd.weight",
           "--allow-requantize")
    done = longspan("model", "quantize", q8, f"{path}/x", "Q4_K", "--allow-requantize")
    tap.check(done.code == 0, "twice, when it is asked for", done)
    done = longspan("model", "quantize", "--help")
    tap.check(done.code == 0 and "Q4_K_M" in done.out and "bits per weight" in done.out, "the help lists the types", done)
    expect("make-random of an unknown type", longspan("model", "make-random", f"{path}/x", "--type", "Q3"), "'Q3'", "mixed")


def main():
    tap = Tap()
    with folder() as path:
        source = make_random(f"{path}/source.gguf", SHAPE, "F32", 9)
        every_type(tap, path, source)
        refusals(tap, path, source)
    tap.finish()


main()
