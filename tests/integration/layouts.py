#!/usr/bin/env python3
"""layouts.py [--all] - every parallel layout against one process, byte for byte, as one table.

Reference: one worker, one lane, its own memory as KV holder, each prompt alone, chunks of 512. Every other
layout must give the same bits in every row of logits of every prompt. Only tensor parallelism over a number of ranks
that does not divide the model's segments (3 of 4 KV heads) may differ, by rounding. For every tensor-parallel layout
max |difference| over the root mean square of the reference's logits is printed; where it may differ it is bounded, and ids
must be equal up to the first step whose two best logits are closer than the bound; such early stops are counted.

Without --all a covering subset is run (what `make test` does, as TAP through test_layouts.py).
"""
import math
import os
import sys

from longspan_test import Roles, Tap, folder, longspan, make_random, read_logits, write_text

N_PREDICT = 6
NODE_MEMORY = "64MiB"  # room for all prompts of every shape; a node reads a quarter of it to measure itself
STRIPE = 256
# Bytes of text; BOS adds one token. In the middle of a page's first tile; in the middle of its second;
# on a tile's edge inside a page; on a stripe's (and page's) edge; short.
LENGTHS = {"mid-tile": 1599, "mid-page": 1699, "tile-edge": 1663, "stripe-edge": 1791, "short": 90}

# "wide": whole super-blocks of 256 weights wherever rows are cut: two segments of attn_output, three blocks of ffn_down.
SHAPES = {"gqa": "tiny", "mha": "tiny-mha", "odd-96": "tiny-96",
          "wide": "tiny,hidden=512,heads=8,kv-heads=4,head-dim=64,ffn=768",
          "windowed": "tiny,window=300", "alternating": "tiny-96,window=70,window-period=3",
          "gemma": "tiny,arch=gemma3,layers=7,window=200,rope-base=1000000,rope-scaling=linear,rope-factor=8",
          "experts": "tiny-mha,ffn=256,experts=16,experts-used=3",
          "qwen-moe": "tiny,arch=qwen3moe,ffn=96,experts=12,experts-used=4",
          "qwen": "tiny,arch=qwen2,rope-scaling=yarn,rope-factor=4,rope-context=512"}
TOLERANCE = {"F32": 1e-4, "Q8_0": 1e-2, "Q4_0": 1e-2, "Q4_K": 1e-2, "Q6_K": 1e-2, "mixed": 1e-2}


class Layout:
    def __init__(self, name, options, prompts=None, nodes=0, tensor=1):
        self.name, self.options, self.nodes, self.tensor = name, options, nodes, tensor
        self.prompts = prompts or list(LENGTHS)
        self.exact = tensor != 3


LAYOUTS = [
    Layout("batch of five ragged prompts", []),
    Layout("lanes 2", ["--threads", 2]),
    Layout("lanes 3", ["--threads", 3]),
    Layout("chunk 1", ["--chunk", 1], prompts=["short", "mid-tile"]),
    Layout("chunk 7", ["--chunk", 7], prompts=["short", "tile-edge"]),
    Layout("chunk 64", ["--chunk", 64]),
    Layout("pipeline 2", ["--pipeline", 2]),
    Layout("pipeline 3", ["--pipeline", 3]),
    Layout("1 attention node", ["--attention-nodes", 1], nodes=1),
    Layout("2 attention nodes", ["--attention-nodes", 2], nodes=2),
    Layout("3 attention nodes", ["--attention-nodes", 3], nodes=3),
    Layout("2 nodes, chunk 64, lanes 2", ["--attention-nodes", 2, "--chunk", 64, "--threads", 2], nodes=2),
    Layout("pipeline 2, 2 nodes", ["--pipeline", 2, "--attention-nodes", 2], nodes=2),
    Layout("pipeline 3, 3 nodes, chunk 7", ["--pipeline", 3, "--attention-nodes", 3, "--chunk", 7], nodes=3,
           prompts=["short", "stripe-edge"]),
    Layout("tensor 2", ["--tensor", 2], tensor=2),
    Layout("tensor 4", ["--tensor", 4], tensor=4),  # of shapes with four KV heads
    Layout("pipeline 2 x tensor 2, 2 nodes", ["--pipeline", 2, "--tensor", 2, "--attention-nodes", 2], tensor=2,
           nodes=2),
    Layout("tensor 3 (uneven)", ["--tensor", 3], tensor=3),
]
# A prefix shared by two prompts, whose fork point is 0, 1 and 127 tokens into a tile (BOS is one token).
FORKS = {"fork at a tile's edge": 1023, "fork 1 token into a tile": 1024, "fork 127 tokens into a tile": 1150}

# Filled positions (worker/fill.h) before the prompt: inside a tile, on a stripe's edge.
FILLS = {"fill to inside a tile": 1700, "fill to a stripe's edge": 1792}

OWN_PROCESSES = ("gqa", "F32", "f16")  # where references are compared with a process for each prompt

SUBSET = {  # (shape, weights, kv): layouts of the covering subset
    ("gqa", "F32", "f16"): ["batch of five ragged prompts", "lanes 3", "chunk 7", "3 attention nodes",
                            "pipeline 2, 2 nodes", "tensor 2", *FORKS, *FILLS],
    ("mha", "Q8_0", "f16"): ["pipeline 3", "2 nodes, chunk 64, lanes 2", "pipeline 2 x tensor 2, 2 nodes"],
    ("mha", "F32", "f32"): ["tensor 3 (uneven)"],
    ("gqa", "F32", "bf16"): ["lanes 2", "chunk 7", "2 attention nodes", "pipeline 2, 2 nodes", "fork at a tile's edge",
                             "fill to inside a tile"],
    ("gqa", "Q8_0", "q8_0"): ["batch of five ragged prompts", "lanes 3", "chunk 7", "3 attention nodes", "tensor 2",
                              "fork 1 token into a tile", "fill to inside a tile"],
    ("odd-96", "F32", "q8_0"): ["2 nodes, chunk 64, lanes 2", "pipeline 3"],
    ("odd-96", "Q8_0", "f32"): ["lanes 2", "2 attention nodes", "chunk 1", "fork 1 token into a tile"],
    ("wide", "Q4_K", "f16"): ["batch of five ragged prompts", "lanes 3", "chunk 7", "pipeline 2, 2 nodes", "tensor 2"],
    ("wide", "Q6_K", "q8_0"): ["2 nodes, chunk 64, lanes 2", "pipeline 2 x tensor 2, 2 nodes"],
    ("gemma", "F32", "f16"): ["chunk 7", "2 nodes, chunk 64, lanes 2", "pipeline 2 x tensor 2, 2 nodes"],
    ("experts", "F32", "f16"): ["batch of five ragged prompts", "lanes 3", "chunk 7", "tensor 2", "tensor 4",
                                "2 nodes, chunk 64, lanes 2", "fork 1 token into a tile"],
    ("experts", "Q4_0", "f16"): ["chunk 64", "tensor 4", "pipeline 2 x tensor 2, 2 nodes"],
    ("qwen-moe", "Q8_0", "q8_0"): ["batch of five ragged prompts", "chunk 7", "tensor 2",
                                   "pipeline 2, 2 nodes"],
    ("qwen", "Q8_0", "q8_0"): ["chunk 64", "pipeline 2, 2 nodes", "tensor 2"],
    ("windowed", "F32", "f16"): ["batch of five ragged prompts", "lanes 3", "chunk 1", "chunk 7", "1 attention node",
                                 "2 nodes, chunk 64, lanes 2", "3 attention nodes", "pipeline 2, 2 nodes", "tensor 2",
                                 *FORKS, *FILLS],
    ("alternating", "Q8_0", "q8_0"): ["batch of five ragged prompts", "chunk 7", "chunk 64", "2 attention nodes",
                                      "pipeline 3, 3 nodes, chunk 7", "fork 1 token into a tile",
                                      "fill to inside a tile"],
    ("wide", "mixed", "bf16"): ["batch of five ragged prompts", "lanes 2", "chunk 7", "pipeline 3", "2 attention nodes",
                                "tensor 2"],
}
ALL = [(shape, weights, kv) for shape in ("gqa", "mha", "odd-96") for weights in ("F32", "Q8_0")
       for kv in ("f16", "f32", "bf16", "q8_0")] + \
      [(shape, weights, kv) for shape in ("windowed", "alternating", "gemma", "qwen", "experts", "qwen-moe") for weights, kv in (("F32", "f16"), ("Q8_0", "q8_0"))] + \
      [("wide", weights, kv) for weights in ("Q4_K", "Q6_K", "mixed") for kv in ("f16", "q8_0")]


def run(model, path, name, files, options, kv):
    return ask(path, name, files, ["-m", model, *options, *context(kv)])


def context(kv):
    return ["--kv-type", kv, "--stripe", STRIPE, "--ctx", 4096]


def ask(path, name, files, where):
    dump = f"{path}/{name}.f32"
    arguments = ["run", "-n", N_PREDICT, "--temp", 0, "--ignore-eos", "--json", "--dump-logits", dump]
    for file in files:
        arguments += ["-f", file]
    if "--attention-nodes" in where:
        where = [*where, "--memory", NODE_MEMORY]
    result = longspan(*arguments, *where, timeout=300)
    if result.code != 0:
        raise RuntimeError(str(result))
    answer = result.json()
    answer = answer if isinstance(answer, list) else [answer]
    rows = read_logits(dump)
    os.unlink(dump)
    per_prompt = len(rows) // len(files)
    for i, one in enumerate(answer):
        one["logits"] = rows[i * per_prompt:(i + 1) * per_prompt]
    return answer


def references_of(model, path, files, kv):
    """Each prompt's answer by one worker of one lane, which computes nothing else meanwhile and keeps nothing of the one before."""
    alone = ["--max-batch", 1, "--prefix-cache", "off", *context(kv)]
    with folder() as at, Roles(at, model, coordinator=alone) as roles:
        answers = ask(path, "reference", list(files.values()), ["--coordinator", roles.address, "--no-prefix-sharing"])
    return dict(zip(files, answers))


def check_references(tap, path, model, tag, references, files, kv):
    """They are what a process of its own computes for each."""
    for prompt, reference in references.items():
        ok, note = compare_exact(run(model, path, "fresh", [files[prompt]], ["--threads", 1], kv)[0], reference)
        tap.check(ok, f"{tag}: {prompt}, in a process of its own", note)


def compare_exact(reference, answer):
    if answer["ids"] != reference["ids"]:
        return False, f"ids {answer['ids']} instead of {reference['ids']}"
    if answer["logits"].tobytes() != reference["logits"].tobytes():
        differ = sum(a != b for a, b in zip(answer["logits"], reference["logits"]))
        return False, f"{differ} of {len(reference['logits'])} logits differ"
    return len(reference["logits"]) > 0, "same bits"


def compare_near(reference, answer, tolerance):
    """Compares step by step while the ids agree: after an early stop the two read different texts."""
    vocabulary = len(reference["logits"]) // N_PREDICT
    worst = 0.0
    for step in range(N_PREDICT):
        a = answer["logits"][step * vocabulary:(step + 1) * vocabulary]
        b = reference["logits"][step * vocabulary:(step + 1) * vocabulary]
        rms = math.sqrt(sum(x * x for x in b) / vocabulary)
        worst = max(worst, max(abs(x - y) for x, y in zip(a, b)) / rms)
        if answer["ids"][step] != reference["ids"][step]:
            best, second = sorted(b, reverse=True)[:2]
            if (best - second) / rms < tolerance:
                return worst < tolerance, worst, step
            return False, worst, step
    return worst < tolerance, worst, None


def stripes_of(answer, nodes):
    """The least number of whole stripes that one node held, over all nodes; every node must be there."""
    remote = [h for h in answer["holders"] if h["name"] != "local"]
    if len(remote) != nodes:
        return -1
    return min(sum((s[1] - s[0]) // STRIPE for s in h["spans"]) for h in remote)


def check_layout(tap, path, model, tag, layout, references, files, kv, weights):
    answers = run(model, path, "layout", [files[p] for p in layout.prompts], layout.options, kv)
    notes, good, worst_of_all, stops = [], True, 0.0, 0
    for prompt, answer in zip(layout.prompts, answers):
        if layout.exact:
            ok, note = compare_exact(references[prompt], answer)
            good &= ok
            if not ok:
                notes.append(f"{prompt}: {note}")
        if layout.tensor > 1:
            ok, worst, stop = compare_near(references[prompt], answer, TOLERANCE[weights])
            good &= ok
            worst_of_all = max(worst_of_all, worst)
            stops += stop is not None
    if layout.tensor > 1:
        notes.append(f"max |difference| / RMS {worst_of_all:.1e}, {stops} early stops")
    if layout.nodes:
        longest = max(range(len(layout.prompts)), key=lambda i: LENGTHS[layout.prompts[i]])
        held = stripes_of(answers[longest], layout.nodes)
        good &= held >= 2
        notes.append(f"at least {held} stripes on every node")
    tap.check(good, f"{tag}: {layout.name}" + (" [" + "; ".join(notes) + "]" if notes else ""), "\n".join(notes))


def check_fork(tap, path, model, tag, name, length, kv):
    with open(write_text(f"{path}/common", length, 77), encoding="ascii") as file:
        common = file.read()
    files = []
    for i, tail in enumerate(["!parent of the fork", "?the child reads on"]):
        files.append(f"{path}/fork{i}")
        with open(files[-1], "w", encoding="ascii") as file:
            file.write(common + tail)
    fresh = run(model, path, "fresh", files[1:], ["--threads", 1], kv)[0]
    for options in ([], ["--attention-nodes", 2]):
        forked = run(model, path, "forked", files, options, kv)[1]
        ok, note = compare_exact(fresh, forked)
        shared = forked.get("shared_tokens", 0)
        pages = (length + 1) // 256 * 256
        tap.check(ok and shared == pages,
                  f"{tag}: {name}, {'2 attention nodes' if options else 'local'} [{shared} tokens shared]",
                  f"{note}; {shared} tokens were shared, {pages} expected")


def check_fill(tap, path, model, tag, name, n, kv):
    file = [write_text(f"{path}/behind", 40, 5)]
    fill = ["--fill", n, "--seed", 3]
    reference = run(model, path, "filled", file, ["--threads", 1, *fill], kv)[0]
    other = run(model, path, "filled", file, ["--threads", 1, "--fill", n, "--seed", 4], kv)[0]
    tap.check(not compare_exact(reference, other)[0], f"{tag}: {name}, another seed: other bits")
    for options in (["--chunk", 64, "--threads", 2], ["--pipeline", 2, "--chunk", 300], ["--tensor", 2],
                    ["--attention-nodes", 2, "--chunk", 7], ["--attention-nodes", 2, "--pipeline", 2]):
        ok, note = compare_exact(reference, run(model, path, "layout", file, [*options, *fill], kv)[0])
        tap.check(ok, f"{tag}: {name}, {' '.join(str(o) for o in options)}", note)


def check_model(tap, path, shape, weights, kv, wanted):
    model = f"{path}/{shape}-{weights}.gguf"
    if not os.path.exists(model):
        make_random(model, SHAPES[shape], weights, 11)
    tag = f"{shape} {weights} kv {kv}"
    layouts = [layout for layout in LAYOUTS if layout.name in wanted and
               (layout.tensor < 3 or (layout.tensor == 4 and shape in ("mha", "experts")) or
                (shape == "mha" and weights == "F32" and kv == "f32"))]
    files = {p: write_text(f"{path}/{p}", n, 1000 + n) for p, n in LENGTHS.items()}
    needed = sorted({p for layout in layouts for p in layout.prompts}, key=list(LENGTHS).index)
    references = references_of(model, path, {p: files[p] for p in needed}, kv)
    if OWN_PROCESSES == (shape, weights, kv):
        check_references(tap, path, model, tag, references, files, kv)
    for layout in layouts:
        check_layout(tap, path, model, tag, layout, references, files, kv, weights)
    for name, length in FORKS.items():
        if name in wanted:
            check_fork(tap, path, model, tag, name, length, kv)
    for name, n in FILLS.items():
        if name in wanted:
            check_fill(tap, path, model, tag, name, n, kv)


class Table(Tap):
    """For people: one aligned row for each check; details of a failure below it."""

    def check(self, ok, name, detail=""):
        self.n += 1
        model, _, rest = name.partition(": ")
        layout, _, note = rest.partition(" [")
        print(f"{'ok' if ok else 'FAILED':7} {model:20} {layout:44} {note.rstrip(']')}", flush=True)
        if not ok:
            self.failed += 1
            for line in str(detail).splitlines()[-40:]:
                print(f"        {line}", flush=True)
        return ok

    def finish(self):
        print(f"{self.n - self.failed} passed, {self.failed} failed")
        sys.exit(1 if self.failed or self.n == 0 else 0)


def main():
    tap = Table() if "--all" in sys.argv else Tap()
    if "--all" in sys.argv:
        print(f"{'result':7} {'model, weights, KV':20} {'layout':44} note")
    everything = [layout.name for layout in LAYOUTS] + list(FORKS) + list(FILLS)
    plan = {model: everything for model in ALL} if "--all" in sys.argv else SUBSET
    with folder() as path:
        for (shape, weights, kv), wanted in plan.items():
            try:
                check_model(tap, path, shape, weights, kv, wanted)
            except RuntimeError as failure:
                tap.check(False, f"{shape} {weights} kv {kv}", failure)
    tap.finish()


if __name__ == "__main__":
    main()
