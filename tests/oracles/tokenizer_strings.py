"""tokenizer_strings.py - random and adversarial strings for tokenizers, the same for every run of a
seed. Random characters are those of Unicode 3.2, beside emoji and others of PIECES, which all
libraries concerned know alike: a letter that is younger than a library is none to it."""
import random
import unicodedata

PIECES = [
    " ", "  ", "   ", " " * 9, "\n", "\n\n", "\r\n", "\r", "\t", "\t\t", " \n", "\n ", " \t \n ", "\u00a0", "\u3000",
    "\u2028", "\u2029", "\u0085", "\u180e", "\u200b", "\ufeff", "\u200d", "\u00ad", "\u2581", "\u2581\u2581", "\0", "\x07", "\x1b", "\x7f",
    "a", "B", "the", "The", "THE", "hello", "Hello", "HELLO", "world", "isn't", "I'll", "I'LL", "we've", "WE'VE", "he'd",
    "'s", "'S", "'t", "'re", "'Re", "'m", "'D", "'\u017f", "'ss", "''", "'", "\u2019s", "camelCaseWord", "snake_case_word",
    "HTTPServer", "x86_64", "0", "1", "12", "123", "1234", "12345", "1234567890", "3.14", "1,000,000", "1e-10", "0x7f",
    "\u00bd", "\u00b2", "\u2167", "\u0663\u0664", "\u0967\u0968\u0969\u096a", "\U0001d7ce\U0001d7cf", "!", "?", "...", "!!!", "?!", "--", "---", "====", "######",
    "(", ")", "[", "]", "{", "}", "<", ">", "</", "/>", "&&", "||", "->", "=>", "==", "!=", "+=", "$", "`", "```", "^", "~", "|", "\\", "/",
    "//", "/*", "*/", "#", "@", "%", ",", ".", ";", ":", "\u2026", "\u3002", "\uff0c", "\u3001", "\u0964", "\u060c", "\u06d4", "\uff01", "\u201c", "\u201d", "\u300c",
    "\u00e9", "e\u0301", "a\u0308\u0304", "\u1e9b\u0323", "\u212b", "\u2126", "\uac00", "\u1100\u1161\u11a8", "\ufb01", "\u01c5", "\u02b0", "\u0130", "\u0131",
    "\u00df", "\u1e9e", "na\u00efve", "Stra\u00dfe", "fa\u00e7ade", "\u0434\u043e\u043c", "\u0414\u041e\u041c", "\u041f\u0440\u0438\u0432\u0435\u0442", "\u03b1\u03b2\u03b3", "\u4e2d\u6587", "\u6211\u60f3\u5728apple\u5de5\u4f5c", "\u3053\u3093\u306b\u3061\u306f",
    "\u30ab\u30bf\u30ab\u30ca", "\ud55c\uad6d\uc5b4", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u0939\u093f\u0928\u094d\u0926\u0940", "\u1780\u17b6\u1793\u17cb\u178f\u17c2", "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627", "\u202eabc\u202c",
    "\U0001f680", "\U0001f636\u200d\U0001f32b\ufe0f", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd", "\u2764\ufe0f", "\U00020000", "\U000e0041", "\ue000", "\U0010fffd", "\ufffd",
    "\u0301\u0301\u0323", "\u0f71\u0f72", "\u3099", "\U0001d165", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|x|>", "<tool>", "<|", "|>", "<0x41>", "<0x0A>",
]
CATEGORIES = {}


def _fill():
    old = unicodedata.ucd_3_2_0
    for c in range(0x110000):
        category = old.category(chr(c))
        if category not in ("Cn", "Co", "Cs"):
            CATEGORIES.setdefault(category, []).append(chr(c))


def _random_character(rng):
    if not CATEGORIES:
        _fill()
    return rng.choice(CATEGORIES[rng.choice(sorted(CATEGORIES))])


def _one(rng, names):
    kind = rng.randrange(12)
    n = rng.choice([0, 1, 1, 2, 3, 3, 5, 8, 13, 30])
    if kind == 0:  # any characters, every category as often as another
        return "".join(_random_character(rng) for _ in range(n))
    if kind == 1:  # a base and marks
        marks = [chr(c) for c in (0x300, 0x301, 0x308, 0x323, 0x327, 0x345, 0x5B0, 0x651, 0x93C, 0x94D, 0x302A, 0x1D165)]
        return "".join(rng.choice("aeA\u03b1\u0915 ") + "".join(rng.choice(marks) for _ in range(rng.randrange(5)))
                       for _ in range(n))
    if kind == 2:  # a run
        return rng.choice(PIECES) * rng.choice([2, 3, 4, 5, 8, 17, 64, 200])
    if kind == 3:  # digits and what stands between
        return "".join(rng.choice("0123456789 ,.-\u0663\u00bd\u00b2") for _ in range(3 * n))
    if kind == 4:  # spaces and newlines
        return "".join(rng.choice(" \n\r\t\u00a0a") for _ in range(3 * n))
    if kind == 5:  # special names, whole, cut and inside words
        parts = [rng.choice(names) if rng.random() < 0.5 else rng.choice(PIECES) for _ in range(n)]
        if parts and rng.random() < 0.5:
            parts[-1] = parts[-1][:rng.randrange(len(parts[-1]) + 1)]
        return "".join(parts)
    if kind == 6:  # letters of both cases
        return "".join(rng.choice("aBcD\u00e9\u00c9\u0434\u0414\u01c5\u02b0\u4e2d'\u0301sS") for _ in range(3 * n))
    if kind == 7:  # a long word
        return "".join(rng.choice("abcde") for _ in range(rng.choice([50, 300, 2000])))
    return "".join(rng.choice(PIECES) for _ in range(n))


def strings(n, seed, names=("<s>",)):
    """n strings; `names` are those of special tokens."""
    rng = random.Random(seed)
    fixed = ["", " ", "\n", "a", " a", "  a", "a ", *PIECES]
    return (fixed + [_one(rng, list(names)) for _ in range(n)])[:n]
