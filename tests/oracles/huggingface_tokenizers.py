#!/usr/bin/env python3
"""huggingface_tokenizers.py [--n N] [--seed S] [--keep DIR] [FAMILY...] | --golden - our ids beside Hugging Face's.

For each family of tokenizer_families.py a small vocabulary is trained, written as a directory with a
tokenizer.json and as a GGUF file, and N random and adversarial strings (10,000) are encoded by
`longspan model tokenize` and by the Python package `tokenizers`; ids must be equal, and so must the
texts that they decode to. SentencePiece vocabularies of several kinds are compared with the package
`sentencepiece`, through GGUF files.

--golden writes golden/tokenizers.json for test_tokenizers.py instead: vocabularies whose merges
cross every place where a text may be cut, and what `tokenizers` makes of some strings with them.

Needs both packages (tokenizers 0.21 or later); without them nothing is compared (exit code 77)."""
import argparse
import json
import os
import subprocess
import sys
import tempfile

try:
    import sentencepiece
    import tokenizers
except ImportError as error:
    print(f"skipped: the Python package {error.name} is not installed")
    sys.exit(77)

import tokenizer_families as families
import tokenizer_training as training
from test_tokenizers import GOLDEN, GOLDEN_SEED, GOLDEN_STRINGS, short_digest
from tokenizer_strings import strings

BIN = os.environ.get("LONGSPAN_BIN", "build/release/bin")


def longspan(command, model, values, *options):
    """One JSON value for each."""
    lines = "".join(json.dumps(value) + "\n" for value in values)
    done = subprocess.run([os.path.join(BIN, "longspan"), "model", command, "--lines", *options, model],
                          input=lines.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{model}: {done.stderr.decode()}")
    return [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]


def report(what, cases, ours, theirs):
    """True: equal."""
    bad = [i for i in range(len(cases)) if ours[i] != theirs[i]]
    print(f"{what:34} {len(cases):6} cases, {len(bad)} different", flush=True)
    for i in bad[:4]:
        print(f"    {cases[i]!r:.300}\n      ours   {ours[i]!r:.300}\n      theirs {theirs[i]!r:.300}")
    return not bad


def same_ids(what, model, tokenizer, texts, special):
    theirs = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=special)]
    ours = longspan("tokenize", model, texts, *([] if special else ["--no-special"]))
    return report(f"{what}, ids", texts, ours, theirs), theirs


def same_texts(what, model, tokenizer, made, all_ids):
    """Theirs write an added token in its normalized form, ours as it is; and theirs make one U+FFFD of
    each byte token that is no UTF-8. Texts with such are left out."""
    normalized = {t["id"] for t in made["added_tokens"] if t["normalized"]}
    all_ids = [ids for ids in all_ids if not normalized & set(ids)]
    theirs = tokenizer.decode_batch(all_ids, skip_special_tokens=False)
    ours = longspan("detokenize", model, all_ids)
    ours = [b if "\ufffd" in b else a for a, b in zip(ours, theirs)]
    return report(f"{what}, texts", all_ids, ours, theirs)


def compare_family(name, folder, n, seed):
    made = families.tokenizer_json(name, *training.family_vocabulary(name, 800, seed))
    directory = os.path.join(folder, name)
    families.write_directory(directory, made)
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(made))
    texts = strings(n, seed, families.NAMES)
    good, ids = same_ids(f"{name}, tokenizer.json", directory, tokenizer, texts, True)
    good &= same_texts(f"{name}, tokenizer.json", directory, tokenizer, made, ids)
    if families.BYTE_LEVEL.get(name, {}).get("pre") is None:
        return good
    made = families.for_gguf(made)
    file = os.path.join(folder, name + ".gguf")
    families.write_gguf(file, families.gguf_keys(name, made))
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(made))
    return same_ids(f"{name}, GGUF", file, tokenizer, texts, False)[0] and good


# ---- SentencePiece -------------------------------------------------------------------------------------

SENTENCEPIECE = {
    "sentencepiece": {},
    "sentencepiece-no-prefix": dict(add_dummy_prefix=False),
    "sentencepiece-single-spaces": dict(remove_extra_whitespaces=True),
    "sentencepiece-across-spaces": dict(split_by_whitespace=False),
    "sentencepiece-user-defined": dict(
        add_dummy_prefix=False, user_defined_symbols=["<tool>", "ool>hello", "\u2581\u2581", "\u2581\u2581\u2581", "\n\n"]),
    "sentencepiece-no-bytes": dict(byte_fallback=False),
}


def sentencepiece_keys(processor, options):
    tokens, scores, types = [], [], []
    for i in range(processor.get_piece_size()):
        piece = processor.id_to_piece(i)
        kind = (2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 5 if processor.is_unused(i)
                else 6 if processor.is_byte(i) else 4 if piece in options.get("user_defined_symbols", []) else 1)
        tokens.append(piece.replace("\u2581", " ") if kind == 4 else piece)
        scores.append(float(processor.get_score(i)))
        types.append(kind)
    return {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.scores": scores,
            "tokenizer.ggml.token_type": types, "tokenizer.ggml.bos_token_id": processor.bos_id(),
            "tokenizer.ggml.eos_token_id": processor.eos_id(), "tokenizer.ggml.unknown_token_id": processor.unk_id(),
            "tokenizer.ggml.add_space_prefix": options.get("add_dummy_prefix", True),
            "tokenizer.ggml.remove_extra_whitespaces": options.get("remove_extra_whitespaces", False)}


def compare_sentencepiece(name, folder, n, seed):
    options = SENTENCEPIECE[name]
    prefix = os.path.join(folder, name)
    arguments = dict(dict(model_type="bpe", vocab_size=900, byte_fallback=True, normalization_rule_name="identity",
                          remove_extra_whitespaces=False, character_coverage=0.98, minloglevel=2,
                          max_sentence_length=100000), **options)
    sentences = [text for text in training.corpus(seed) if text.strip()]
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(sentences), model_prefix=prefix, **arguments)
    processor = sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")
    families.write_gguf(prefix + ".gguf", sentencepiece_keys(processor, options))
    # NUL ends a text in that library's Python package; control tokens are no text to it. To it
    # U+2581 in a text is a space where spaces are taken from its end or are user-defined tokens.
    left_out = "\0\u2581" if {"remove_extra_whitespaces", "user_defined_symbols"} & set(options) else "\0"
    texts = [text for text in strings(n, seed, families.NAMES) if not set(left_out) & set(text)]
    theirs = [processor.encode(text) for text in texts]
    ours = longspan("tokenize", prefix + ".gguf", texts, "--no-special", "--plain")
    good = report(f"{name}, ids", texts, ours, theirs)
    if not arguments["byte_fallback"]:
        return good  # what is unknown does not come back
    back = longspan("detokenize", prefix + ".gguf", theirs, "--hide-special")
    return report(f"{name}, texts", texts, back, [processor.decode(ids) for ids in theirs]) and good


# ---- golden ids ----------------------------------------------------------------------------------------

def write_golden():
    texts = strings(GOLDEN_STRINGS, GOLDEN_SEED, families.NAMES)
    vocabularies = training.uncut_vocabularies(700, 1)
    golden = {"made by": "tests/oracles/huggingface_tokenizers.py --golden", "tokenizers": tokenizers.__version__,
              "bytes": vocabularies[0], "characters": vocabularies[1], "families": {}}
    for name in families.families():
        made = families.tokenizer_json(name, *vocabularies[0 if families.is_byte_level(name) else 1])
        entry = {}
        for kind, variant in (("json", made), ("gguf", families.for_gguf(made))):
            tokenizer = tokenizers.Tokenizer.from_str(json.dumps(variant))
            encodings = tokenizer.encode_batch(texts, add_special_tokens=kind == "json")
            entry[kind] = "".join(short_digest(e.ids) for e in encodings)
        if families.BYTE_LEVEL.get(name, {}).get("pre") is None:
            del entry["gguf"]
        golden["families"][name] = entry
    with open(GOLDEN, "w", encoding="utf-8") as out:
        json.dump(golden, out, ensure_ascii=True, separators=(",", ":"))
        out.write("\n")
    print(f"{GOLDEN}: {len(texts)} strings, {len(golden['families'])} families, {os.path.getsize(GOLDEN)} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", help="leave the vocabularies in this folder")
    parser.add_argument("--golden", action="store_true", help="write the golden file, compare nothing")
    parser.add_argument("family", nargs="*")
    options = parser.parse_args()
    if options.golden:
        return write_golden()
    names = options.family or [*families.families(), *SENTENCEPIECE]
    good = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or temporary
        os.makedirs(folder, exist_ok=True)
        for name in names:
            compare = compare_sentencepiece if name in SENTENCEPIECE else compare_family
            good &= compare(name, folder, options.n, options.seed)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
