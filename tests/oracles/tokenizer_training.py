"""tokenizer_training.py - small vocabularies, trained by Hugging Face's `tokenizers` on texts made of
tokenizer_strings.py and of English, so that merges meet in all kinds of places."""
import json
import random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import tokenizer_families as families
from tokenizer_strings import strings

WORDS = ("the of and to in he was that his it with as had not at on for you her but is him she all they were are which "
         "from one said have what there no so we been up who would when 12 2023 hello world isn't I'll don't HTTP "
         "camelCase").split()
METASPACE = {"type": "Metaspace", "replacement": families.SPACE, "prepend_scheme": "always", "split": True}
RAW = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def corpus(seed, n=3000):
    rng = random.Random(seed)
    for text in strings(n, seed, families.NAMES):
        yield text.replace("\0", "")  # no vocabulary has a NUL in a name
        yield " ".join(rng.choice(WORDS) for _ in range(20)) + rng.choice(["\n", ".", "!\n\n", "  "])


def train(cutting, alphabet, size, seed):
    """Vocabulary and merges; `cutting`: parts of a tokenizer.json."""
    empty = json.loads(Tokenizer(models.BPE()).to_str())
    empty.update(cutting)
    tokenizer = Tokenizer.from_str(json.dumps(empty))
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus(seed), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def byte_vocabulary(cutting, size, seed):
    vocab, merges = train(cutting, pre_tokenizers.ByteLevel.alphabet(), size, seed)
    for word in ("\u0120zebra", "helloworld"):  # no merge leads to these: whole words alone
        vocab.setdefault(word, len(vocab))
    return vocab, merges


def character_vocabulary(cutting, size, seed):
    """With byte tokens and an unknown one; most characters have no token."""
    old, merges = train(cutting, [], size, seed)
    used = {families.SPACE, *(part for pair in merges for part in [*pair, "".join(pair)])}
    names = ["<unk>", *("<0x%02X>" % b for b in range(256)), families.SPACE]
    rng = random.Random(seed)
    names += [token for token in sorted(old, key=old.get) if token in used or rng.random() < 0.3]
    return {name: i for i, name in enumerate(dict.fromkeys(names))}, merges


def family_vocabulary(name, size, seed):
    """Trained with the family's own cutting, as its models were."""
    cutting = families.cutting(name)
    if families.is_byte_level(name):
        return byte_vocabulary(cutting, size, seed)
    if cutting["pre_tokenizer"] is None or cutting["pre_tokenizer"].get("pattern") == {"String": " "}:
        cutting["pre_tokenizer"] = METASPACE  # or a word would be a whole text
    return character_vocabulary(cutting, size, seed)


def uncut_vocabularies(size, seed):
    """Of merges that cross every place where a family cuts: bytes, and characters."""
    spaces = {"normalizer": families.TO_SPACE, "pre_tokenizer": None}
    return (byte_vocabulary({"pre_tokenizer": RAW}, size, seed), character_vocabulary(spaces, size, seed))
