#!/usr/bin/env python3
"""Texts become the ids that Hugging Face's `tokenizers` gives, for every family of tokenizer_families.py.

Standard library only: golden/tokenizers.json has what that package gave for these strings (a short
digest of each string's ids), with vocabularies whose merges cross every place where a text may be
cut; huggingface_tokenizers.py made it, and compares many more strings where the package is installed."""
import hashlib
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "integration"))

import tokenizer_families as families
from longspan_test import Tap, folder, program
from tokenizer_strings import strings

GOLDEN = os.path.join(HERE, "golden", "tokenizers.json")
GOLDEN_SEED, GOLDEN_STRINGS = 3, 400
DIGITS = 5


def short_digest(ids):
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:DIGITS]


def encode(model, texts, *options):
    done = subprocess.run([program("longspan"), "model", "tokenize", "--lines", *options, model], check=False,
                          input="".join(json.dumps(text) + "\n" for text in texts).encode(), capture_output=True)
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def differences(digests, texts, ids):
    """The strings whose ids are others."""
    for i, text in enumerate(texts):
        if short_digest(ids[i]) != digests[DIGITS * i:DIGITS * (i + 1)]:
            yield f"{text!r:.200}\n    {ids[i]!r:.200}"


def check(tap, name, digests, model, texts, *options):
    ids, errors = encode(model, texts, *options)
    bad = list(differences(digests, texts, ids)) if len(ids) == len(texts) else [errors]
    tap.check(not bad, f"{name}: {len(texts)} strings", "\n".join(bad[:5]))


def main():
    tap = Tap()
    with open(GOLDEN, encoding="utf-8") as file:
        golden = json.load(file)
    texts = strings(GOLDEN_STRINGS, GOLDEN_SEED, families.NAMES)
    with folder() as path:
        for name, digests in golden["families"].items():
            made = families.tokenizer_json(name, *golden["bytes" if families.is_byte_level(name) else "characters"])
            families.write_directory(os.path.join(path, name), made)
            check(tap, f"{name}, tokenizer.json", digests["json"], os.path.join(path, name), texts)
            if "gguf" in digests:
                file = os.path.join(path, name + ".gguf")
                families.write_gguf(file, families.gguf_keys(name, families.for_gguf(made)))
                check(tap, f"{name}, GGUF", digests["gguf"], file, texts, "--no-special")
    tap.finish()


if __name__ == "__main__":
    main()
