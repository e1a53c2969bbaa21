"""tokenizer_families.py - the ways in which models normalize and cut texts, and files that say so.

A family is what its models' own tokenizer.json has; a GGUF file names it with `pre`. With a
vocabulary, which is made elsewhere, it becomes a tokenizer.json, or the keys of a GGUF file."""
import copy
import json
import os
import struct

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
MINICPM5 = LLAMA3.replace("{1,3}", "+")
SEED_CODER = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|"
              r"\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
          r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
          r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK_LETTERS = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f"
    "\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd"
    "\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57"
    "\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
    "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787"
    "\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943")
DEEPSEEK_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
DEEPSEEK_V3 = (r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"""
               r""" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""")
BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def digits(individual=True):
    return {"type": "Digits", "individual_digits": individual}


def byte_level(use_regex=False, prefix=False):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


NFC = {"type": "NFC"}
SPACE = "\u2581"
TO_SPACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
FROM_SPACE = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
FALLBACK = [FROM_SPACE, {"type": "ByteFallback"}, {"type": "Fuse"}]

# Byte-level BPE: what cuts, and then what else. "pre" is the name in a GGUF file.
BYTE_LEVEL = {
    "gpt-2": dict(steps=[byte_level(True)]),
    "gpt-2-prefix": dict(steps=[byte_level(True, prefix=True)], pre=None),
    "mpt": dict(steps=[byte_level(True)], normalizer=NFC),
    "starcoder": dict(steps=[digits(), byte_level(True)]),
    "command-r": dict(steps=[digits(), byte_level(True)], normalizer=NFC),
    "llama-bpe": dict(steps=[split(LLAMA3), byte_level()], ignore_merges=True),
    "dbrx": dict(steps=[split(LLAMA3, "Removed", True), byte_level()]),
    "qwen2": dict(steps=[split(QWEN2), byte_level()], normalizer=NFC),
    "stablelm2": dict(steps=[split(QWEN2), byte_level()]),
    "qwen35": dict(steps=[split(QWEN35), byte_level()], normalizer=NFC),
    "minicpm5": dict(steps=[split(r"\p{N}{1,3}"), split(MINICPM5), byte_level()], ignore_merges=True),
    "seed-coder": dict(steps=[split(SEED_CODER), byte_level()]),
    "tekken": dict(steps=[split(TEKKEN), byte_level()], ignore_merges=True),
    "gpt-4o": dict(steps=[split(GPT4O), byte_level()]),
    "deepseek-llm": dict(steps=[split("[\r\n]"), split(r"\s?[" + DEEPSEEK_LETTERS + "]+"),
                                split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"),
                                split(r"\s+$"), split(DEEPSEEK_CJK), digits(), byte_level()]),
    "deepseek-coder": dict(steps=[split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(DEEPSEEK_CJK), digits(),
                                  byte_level()]),
    "deepseek-v3": dict(steps=[split(r"\p{N}{1,3}"), split("[\u4e00-\u9fa5\u3040-\u30ff]+"), split(DEEPSEEK_V3), byte_level()]),
    "falcon": dict(steps=[{"type": "Punctuation", "behavior": "Contiguous"}, byte_level(True), digits(False),
                          split("[0-9][0-9][0-9]")]),
    "bloom": dict(steps=[split(BLOOM), byte_level()]),
    "viking": dict(steps=[split(BLOOM), digits(), byte_level()]),
    "chameleon": dict(steps=[split("<sentinel:[0-9]+>"), split("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"),
                             split("([\\t\\n]|    |  )"), digits(), {"type": "Punctuation", "behavior": "Isolated"},
                             byte_level(True)]),
}
for _name, _family in BYTE_LEVEL.items():
    _family.setdefault("pre", _name)

# SentencePiece's way as tokenizer.json has it: merges of characters, with byte tokens.
CHARACTERS = {
    "llama-2": dict(normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, TO_SPACE]},
                    decoder={"type": "Sequence", "decoders": FALLBACK + [STRIP]}),
    "gemma": dict(normalizer=TO_SPACE, steps=[split(" ", "MergedWithPrevious", kind="String")],
                  decoder={"type": "Sequence", "decoders": FALLBACK}),
    "metaspace-first": dict(steps=[{"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False}],
                            decoder={"type": "Sequence", "decoders": FALLBACK + [STRIP]}),
    "metaspace-always": dict(steps=[{"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}],
                             decoder={"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {
                                 "type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}]}),
    "nfkc-unknown": dict(normalizer={"type": "Sequence", "normalizers": [
        {"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}, TO_SPACE]}, byte_fallback=False,
        decoder={"type": "Sequence", "decoders": FALLBACK}),
    "accents-words": dict(normalizer={"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]},
                          steps=[{"type": "Whitespace"}], decoder={"type": "Sequence", "decoders": FALLBACK}),
    "words-split": dict(steps=[{"type": "WhitespaceSplit"}, {"type": "CharDelimiterSplit", "delimiter": "-"},
                               split(r"[\p{Han}\w]{2}", "MergedWithNext"), split("a", "Contiguous", kind="String")],
                        decoder={"type": "Sequence", "decoders": FALLBACK}),
}

SPECIAL = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|x|>", "<|x"]
ADDED = [dict(content="<tool>", normalized=False), dict(content="ool>hello", normalized=False),
         dict(content="word", single_word=True, normalized=False), dict(content="<l>", lstrip=True, normalized=False),
         dict(content="<r>", rstrip=True, normalized=False), dict(content="na\u00efve X", normalized=True)]
NAMES = SPECIAL + [a["content"] for a in ADDED]


def families():
    return [*BYTE_LEVEL, *CHARACTERS]


def is_byte_level(name):
    return name in BYTE_LEVEL


def cutting(name):
    """The parts of a tokenizer.json that normalize and cut."""
    family = BYTE_LEVEL.get(name) or CHARACTERS[name]
    steps = family.get("steps", [])
    return {"normalizer": family.get("normalizer"),
            "pre_tokenizer": None if not steps else steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}}


def _added_tokens(vocab):
    """Numbers them behind the vocabulary."""
    ids = dict(vocab)
    tokens = []
    for content in SPECIAL:
        tokens.append(dict(content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True))
    for added in ADDED:
        tokens.append(dict(dict(single_word=False, lstrip=False, rstrip=False, normalized=True, special=False), **added))
    for token in tokens:
        token["id"] = ids.setdefault(token["content"], len(ids))
    return tokens


def tokenizer_json(name, vocab, merges):
    """A family's tokenizer.json."""
    family = BYTE_LEVEL.get(name) or CHARACTERS[name]
    added = _added_tokens(vocab)
    bos = next(t for t in added if t["content"] == "<s>")["id"]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": False, "byte_fallback": False, "ignore_merges": family.get("ignore_merges", False), "vocab": vocab,
             "merges": merges}
    processor = byte_level() if name in BYTE_LEVEL else None
    if name in CHARACTERS:
        model.update(unk_token="<unk>", fuse_unk=True, byte_fallback=family.get("byte_fallback", True))
    if family.get("ignore_merges"):
        processor = {"type": "TemplateProcessing",
                     "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                     "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                     "special_tokens": {"<s>": {"id": "<s>", "ids": [bos], "tokens": ["<s>"]}}}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, **cutting(name),
            "post_processor": processor, "decoder": family.get("decoder", byte_level(True)), "model": model}


# ---- files ---------------------------------------------------------------------------------------------

def write_directory(path, made):
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "tokenizer.json"), "w", encoding="utf-8") as out:
        json.dump(made, out, ensure_ascii=False)


def for_gguf(made):
    """The same tokenizer without what a GGUF file cannot say: flags of added tokens. Its vocabulary
    has all names, so that ids stay what they are."""
    made = copy.deepcopy(made)
    for token in made["added_tokens"]:
        made["model"]["vocab"].setdefault(token["content"], token["id"])
    made["added_tokens"] = [t for t in made["added_tokens"]
                            if not (t["single_word"] or t["lstrip"] or t["rstrip"] or t["normalized"])]
    return made


def gguf_keys(name, made):
    """What a GGUF file says of a tokenizer that for_gguf gave."""
    vocab = made["model"]["vocab"]
    added = {t["content"]: t for t in made["added_tokens"]}
    tokens = sorted(vocab, key=vocab.get)
    types = [1 if t not in added else 3 if added[t]["special"] else 4 for t in tokens]
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": BYTE_LEVEL[name]["pre"], "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": types, "tokenizer.ggml.merges": [" ".join(m) for m in made["model"]["merges"]],
            "tokenizer.ggml.bos_token_id": vocab["<s>"], "tokenizer.ggml.eos_token_id": vocab["</s>"]}


def _string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value):
    """Type number and bytes."""
    if isinstance(value, bool):
        return 7, struct.pack("<B", value)
    if isinstance(value, int):
        return 4, struct.pack("<I", value)
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, (str, bytes)):
        return 8, _string(value)
    element = {str: 8, bytes: 8, int: 5, float: 6}[type(value[0])]
    pack = {8: _string, 5: lambda v: struct.pack("<i", v), 6: lambda v: struct.pack("<f", v)}[element]
    return 9, struct.pack("<IQ", element, len(value)) + b"".join(pack(v) for v in value)


def write_gguf(path, keys):
    with open(path, "wb") as out:
        out.write(struct.pack("<4sIQQ", b"GGUF", 3, 0, len(keys)))
        for name, value in keys.items():
            kind, data = _value(value)
            out.write(_string(name) + struct.pack("<I", kind) + data)
