#!/usr/bin/env python3
"""retrieval.py [--tokens 131009] [--nodes 2] - five needles in one long text: one prefill, five forks, five answers.

Makes the retrieval model and a text of exactly that many tokens (BOS included) with needles at depths 0, 25, 50, 75
and 99%, asks for each of them after the same text, and prints a table. The first prompt is the text alone; the five questions share its
pages. Exit status 0 only when all five answers are right and all five questions were forked.
"""
import argparse
import random
import sys

from longspan_test import folder, longspan, make_retrieval

SYLLABLES = ["ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu", "dal", "fen", "gor", "hin", "pel"]
DEPTHS = [0, 25, 50, 75, 99]
NAMES = ["amber", "birch", "cedar", "delta", "ember"]


def words(generator, n_bytes):
    text = []
    size = 0
    while size < n_bytes:
        word = "".join(generator.choice(SYLLABLES) for _ in range(generator.randint(1, 4)))
        text.append(word)
        size += len(word) + 1
        if generator.random() < 0.08:
            text[-1] += "."
    return " ".join(text)[:n_bytes]


def build(n_tokens, seed):
    """The text (n_tokens - 1 bytes: BOS is a token) and {name: answer}."""
    generator = random.Random(seed)
    answers = {name: "".join(generator.choice(SYLLABLES) for _ in range(4))[:8].ljust(8, "x") for name in NAMES}
    needles = [f" The code of {name} is {answers[name]}. " for name in NAMES]
    filler = words(generator, n_tokens - 1 - sum(map(len, needles)))
    text, last = "", 0
    for depth, needle in zip(DEPTHS, needles):
        at = len(filler) * depth // 100
        text += filler[last:at] + needle
        last = at
    return text + filler[last:], answers


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=131009)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    text, answers = build(options.tokens, options.seed)
    assert len(text) == options.tokens - 1
    with folder() as path:
        model = make_retrieval(f"{path}/retrieval.gguf")
        arguments = []
        for i, prompt in enumerate([text] + [f"{text} The code of {name} is " for name in NAMES]):
            with open(f"{path}/prompt{i}", "w", encoding="ascii") as file:
                file.write(prompt)
            arguments += ["-f", f"{path}/prompt{i}"]
        result = longspan("run", "-m", model, *arguments, "-n", 8, "--ignore-eos", "--json", "--logprobs", 2,
                          "--attention-nodes", options.nodes, "--ctx", options.tokens + 256, timeout=900)
        if result.code != 0:
            print(result)
            return 1
        out = result.json()
    print(f"{options.tokens} tokens, {options.nodes} attention nodes, seed {options.seed}")
    print(f"{'depth':>6} {'asked':8} {'expected':10} {'answer':10} {'prompt':>8} {'shared':>8} {'margin (nats)':>14}")
    good = len(out[0]["prompt_ids"]) == options.tokens
    for depth, name, one in zip(DEPTHS, NAMES, out[1:]):
        margin = min(step["top"][0]["logprob"] - step["top"][1]["logprob"] for step in one["logprobs"])
        right = one["text"] == answers[name] and one["shared_tokens"] >= options.tokens - 256
        good &= right
        print(f"{depth:5}% {name:8} {answers[name]:10} {one['text']:10} {len(one['prompt_ids']):8} "
              f"{one['shared_tokens']:8} {margin:14.1f}{'' if right else '   WRONG'}")
    timings = out[0]["timings"]
    print(f"load {timings['load_s']:.1f} s, prefill {timings['prefill_s']:.1f} s "
          f"({timings['prefill_tokens_per_s']:.0f} tokens/s), whole command {result.seconds:.1f} s")
    for holder in out[0]["holders"]:
        print(f"{holder['name']:12} {holder['kv_bytes'] / 2**20:8.1f} MiB of KV, {holder['sent_bytes'] / 2**20:9.1f} MiB "
              f"sent to it, {holder['received_bytes'] / 2**20:9.1f} MiB received from it")
    print("all five answers are right" if good else "FAILED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
