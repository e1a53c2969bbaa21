#!/usr/bin/env python3
"""chat_templates.py [--generated N] [--seed S] [TEMPLATE...] - our rendering beside jinja2's.

Each TEMPLATE (the text of a chat template in a file) is rendered for many message lists, by
`longspan model chat-template` and by jinja2 set up as Hugging Face's apply_chat_template sets it
up; both must give the same bytes, or both refuse. --generated N also compares N random templates,
put together from the constructs that real ones use. Models' own templates are not kept here: take
them from their tokenizer_config.json.

Needs the Python package jinja2; without it nothing is compared (exit code 77)."""
import argparse
import copy
import datetime
import functools
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor

try:
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    import jinja2.sandbox
except ImportError:
    print("skipped: the Python package jinja2 is not installed")
    sys.exit(77)

BIN = os.environ.get("LONGSPAN_BIN", "build/release/bin")
BOS, EOS = "<|bos|>", "<|eos|>"  # of the models that make-random writes


class Generation(jinja2.ext.Extension):
    """{% generation %}: marks the assistant's words, and prints them."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_support", [])
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _support(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                          sort_keys=sort_keys)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)
    return env


@functools.lru_cache(maxsize=4)
def compiled(env, source):
    return env.from_string(source)


def expected(env, source, chat):
    """The text, or None where jinja2 fails."""
    try:
        chat = copy.deepcopy(chat)
        variables = dict(messages=chat["messages"], tools=chat.get("tools"), documents=None,
                         add_generation_prompt=chat.get("add_generation_prompt", True),
                         bos_token=BOS, eos_token=EOS)
        variables.update(chat.get("chat_template_kwargs", {}))
        return compiled(env, source).render(**variables), ""
    except Exception as error:  # whatever a template can raise
        return None, f"{type(error).__name__}: {error}"


def rendered(model, path, chat):
    done = subprocess.run(
        [f"{BIN}/longspan", "model", "chat-template", "--chat-template", path, "--messages", "-",
         model], input=json.dumps(chat), capture_output=True, encoding="utf-8", timeout=60,
        check=False)
    if done.returncode == 0:
        return done.stdout, ""
    if done.returncode != 2:
        raise SystemExit(f"{path}: exit code {done.returncode}: {done.stderr}")
    return None, done.stderr.strip()


# ---- message lists ---------------------------------------------------------------------------------

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather <now> & \"here\" in a city: 'yes', ünïcödé",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "Its name"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "default": 1.5},
        "tags": {"type": "array", "items": {"type": "string"}}}, "required": ["city"]},
    "return": {"type": "number", "description": "degrees"}}}
CLOCK = {"type": "function", "function": {
    "name": "clock", "description": "The time.",
    "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments, identity="call00001"):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def chats():
    """Names and chats: what clients send, and what templates refuse."""
    system = {"role": "system", "content": "  Be brief.\nAnswer in   one line. \n"}
    user = {"role": "user", "content": "Hello, \"world\" <b>&amp;</b> 'x' \\n ünï 😀\n\nsecond  "}
    assistant = {"role": "assistant", "content": " Hi!\n"}
    thought = {"role": "assistant", "content": "<think>\nwell\n</think>\n\nSo it is."}
    reasoned = {"role": "assistant", "content": "Yes.", "reasoning_content": "Let me see.\n"}
    asks = {"role": "assistant", "content": "", "tool_calls": [
        call("get_weather", {"city": "Zürich", "days": 2, "deep": {"a": [1, 2.5, None, True]}})]}
    asks_none = {"role": "assistant", "content": None, "tool_calls": asks["tool_calls"]}
    asks_bare = {"role": "assistant", "tool_calls": asks["tool_calls"]}
    asks_two = {"role": "assistant", "content": "Let me look.", "tool_calls": [
        call("get_weather", {"city": "Bern"}, "abcdefghi"), call("clock", {}, "123456789")]}
    answer = {"role": "tool", "content": "{\"degrees\": 21.5}", "name": "get_weather",
              "tool_call_id": "call00001"}
    answer_two = {"role": "tool", "content": "12:00", "name": "clock",
                  "tool_call_id": "123456789"}
    lists = {
        "user": [user], "system": [system, user], "turns": [user, assistant, user],
        "system turns": [system, user, assistant, user, assistant, user],
        "ends with assistant": [user, assistant], "system alone": [system],
        "starts with assistant": [assistant, user], "two users": [user, user],
        "two systems": [system, system, user], "late system": [user, assistant, system, user],
        "empty content": [{"role": "user", "content": ""}],
        "other role": [user, {"role": "critic", "content": "no"}],
        "developer": [{"role": "developer", "content": "Rules."}, user],
        "thought": [user, thought, user], "reasoned": [system, user, reasoned, user],
        "call": [user, asks, answer], "call, system": [system, user, asks, answer],
        "call, None": [user, asks_none, answer], "call, bare": [user, asks_bare, answer],
        "two calls": [user, asks_two, answer, answer_two, assistant, user],
        "call, reply": [user, asks, answer, assistant, user, thought],
        "lone answer": [user, answer], "ipython": [user, {"role": "ipython", "content": "x"}],
    }
    extras = [{}, {"enable_thinking": False}, {"date_string": "26 Jul 2024", "xtra": [1, {"a": 2}]}]
    for name, messages in lists.items():
        for tools, generate, extra in itertools.product((None, [WEATHER], [WEATHER, CLOCK]),
                                                        (True, False), extras):
            if extra and (tools is not None) == generate:
                continue  # half of these are enough
            chat = {"messages": messages, "add_generation_prompt": generate}
            if tools is not None:
                chat["tools"] = tools
            if extra:
                chat["chat_template_kwargs"] = extra
            yield f"{name}, {len(tools or [])} tools, {generate}, {extra}", chat


# ---- random templates ------------------------------------------------------------------------------

class Maker:
    """Random templates of the constructs that real ones use. Many fail in jinja2: so must ours."""

    VALUES = ["messages", "tools", "m", "m.content", "m['role']", "m.role", "x", "ns.n", "ns.s",
              "loop", "loop.index", "loop.index0", "loop.first", "loop.last", "loop.length",
              "loop.previtem", "loop.nextitem", "bos_token", "missing", "none", "true", "false",
              "'a b'", "'\\n'", "\"it's\"", "''", "0", "1", "-2", "3.5", "1e20", "0.1", "[1, 'b', none]",
              "{'k': 1, 'items': 2}", "(1, 2)", "()", "messages[0]", "messages[-1]", "messages[1:]",
              "messages[::-1]", "m.content[0]", "m.content[:3]", "m.content[-2:]", "m.content[::2]",
              "tools[0].function", "tools[0].function.parameters.properties", "m.tool_calls",
              "{}", "[]", "range(3)|list", "range(5, 0, -2)|list", "'Grüße ß'", "'\\t x \\u00a0'"]
    FILTERS = ["trim", "length", "upper", "lower", "capitalize", "title", "first", "last", "list",
               "string", "int", "float", "tojson", "tojson(indent=2)", "tojson(ensure_ascii=true)",
               "tojson(separators=(',', ':'))", "tojson(sort_keys=true)", "join", "join(', ')",
               "default('d')", "default('d', true)", "replace('a', 'bb')", "reverse|list", "items|list",
               "dictsort", "sort", "unique|list", "abs", "safe", "indent", "indent(2, true)",
               "map(attribute='role')|list", "selectattr('role', 'equalto', 'user')|list",
               "rejectattr('content', 'none')|list", "selectattr('role', 'defined')|list",
               "map('upper')|list", "select('string')|list", "reject('equalto', 1)|list", "e",
               "sum", "max", "min", "round", "count", "list|length", "first|upper", "trim('a')"]
    TESTS = ["defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number",
             "boolean", "true", "false", "integer", "float", "equalto 1", "eq('a b')", "odd", "even",
             "divisibleby 2", "in ['a', 1]", "sameas none", "ne 1", "lower", "upper", "callable"]
    METHODS = ["strip()", "lstrip()", "rstrip('\\n')", "split()", "split(' ')", "split('o', 1)",
               "startswith('H')", "endswith('d')", "upper()", "lower()", "title()",
               "replace('o', '0')", "items()", "keys()|list", "values()|list", "get('role')",
               "get('zip', 7)", "capitalize()", "find('o')", "count('l')", "rsplit('o', 1)",
               "splitlines()", "append(1)", "isdigit()", "removeprefix('He')", "join(['a', 'b'])"]
    BINARY = ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", "<=", ">", ">=", "and", "or",
              "in", "not in"]

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.depth = 0

    def expression(self, depth=0):
        r = self.r
        kind = r.randrange(12) if depth < 2 else 0
        if kind <= 2:
            return r.choice(self.VALUES)
        inner = self.expression(depth + 1)
        if kind <= 4:
            return f"{inner} | {r.choice(self.FILTERS)}" if r.random() < 0.7 else \
                f"({inner}) | {r.choice(self.FILTERS)}"
        if kind == 5:
            return f"{inner} is {r.choice(['', '', 'not '])}{r.choice(self.TESTS)}"
        if kind == 6:
            return f"({inner}).{r.choice(self.METHODS)}"
        if kind <= 8:
            return f"{inner} {r.choice(self.BINARY)} {self.expression(depth + 1)}"
        if kind == 9:
            return f"{r.choice(['not ', '-', '', 'not '])}({inner})"
        if kind == 10:
            return f"({inner} if {self.expression(depth + 1)} else {self.expression(depth + 1)})"
        return f"({inner})[{r.choice(['0', '-1', repr('role'), '1:', ':-1', 'x', '::2'])}]"

    def tag(self, text):
        r = self.r
        return f"{{%{r.choice(['', '', '-', '+'])} {text} {r.choice(['', '', '-'])}%}}"

    def space(self):
        return self.r.choice(["", "", " ", "\n", "\n  ", "text\n", " a\n\n", "\n\t", "  <|x|>"])

    def statement(self):
        r = self.r
        self.depth += 1
        kind = r.randrange(14) if self.depth < 4 else 0
        if kind <= 4:
            out = f"{{{{{r.choice(['', '-', ' '])} {self.expression()} {r.choice(['', '-', ' '])}}}}}"
        elif kind <= 6:
            out = self.tag(f"if {self.expression()}") + self.body()
            if r.random() < 0.3:
                out += self.tag(f"elif {self.expression()}") + self.body()
            if r.random() < 0.5:
                out += self.tag("else") + self.body()
            out += self.tag("endif")
        elif kind <= 8:
            what = r.choice(["messages", "messages", "tools", "m.content", "range(3)", "[1, 2]",
                             "messages[1:]", "m", "x"])
            tail = r.choice(["", "", "", f" if {self.expression(2)}"])
            inner = r.choice(["", "", self.tag(f"if {self.expression(2)}") +
                              self.tag(r.choice(["break", "continue"])) + self.tag("endif")])
            out = self.tag(f"for {r.choice(['m', 'm', 'x', 'k, x'])} in {what}{tail}") + inner + \
                self.body() + (self.tag("else") + self.body() if r.random() < 0.2 else "") + \
                self.tag("endfor")
        elif kind == 9:
            out = self.tag(f"set x = {self.expression()}")
        elif kind == 10:
            out = self.tag(f"set ns.{r.choice('ns')} = {self.expression()}")
        elif kind == 11:
            out = self.tag(r.choice(["set x", "set x | trim", "set x | upper | trim"])) + \
                self.body() + self.tag("endset")
        elif kind == 12:
            out = "{#" + r.choice(["", "-", " c "]) + " note " + r.choice(["", "-"]) + "#}"
        else:
            out = self.tag(f"macro f(a, b={r.choice(['1', 'x', 'none'])})") + self.body() + \
                "{{ a }}{{ b }}" + self.tag("endmacro") + \
                f"{{{{ f({self.expression(2)}{r.choice(['', ', 2', ', b=3'])}) }}}}"
        self.depth -= 1
        return out

    def body(self):
        return self.space() + "".join(
            self.statement() + self.space() for _ in range(self.r.randrange(1, 3)))

    def template(self):
        return "{% set ns = namespace(n=0, s='') %}\n" + "".join(
            self.statement() + self.space() for _ in range(self.r.randrange(1, 3)))


# ---- comparing -------------------------------------------------------------------------------------

def compare(env, model, path, source, chat):
    """What both did, and a text that says how they differ, or None."""
    want, why = expected(env, source, chat)
    got, ours = rendered(model, path, chat)
    if want == got:
        return "refused" if want is None else "equal", None
    if want is not None and (" object at 0x" in want or "cannot be printed" in ours):
        return "an address", None
    if want is None and got is not None:
        return "lenient", f"jinja2 fails with {why}; ours: {got!r}"
    if got is None:
        kind = "unsupported" if "we do not have" in ours or "not supported" in ours else "failed"
        return kind, f"ours: {ours}; jinja2: {want!r}"
    return "different", f"ours:   {got!r}\n  jinja2: {want!r}"


def run_files(env, model, paths):
    bad = 0
    for path in paths:
        with open(path, encoding="utf-8", newline="") as file:
            source = file.read()
        cases = list(chats())
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda c: compare(env, model, path, source, c[1]), cases))
        counts = {}
        for kind, _ in results:
            counts[kind] = counts.get(kind, 0) + 1
        wrong = [(c[0], text) for c, (kind, text) in zip(cases, results) if text is not None]
        bad += len(wrong) > 0
        print(f"{'ok   ' if not wrong else 'WRONG'} {os.path.basename(path)}: " +
              ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())), flush=True)
        for name, text in wrong[:2]:
            print(f"  {name}:\n  {text[:1500]}")
    return bad


def run_generated(env, model, directory, n, seed):
    cases = [c for name, c in chats() if name.startswith(("turns", "system turns", "two calls"))]
    counts, bad = {}, 0

    def one(i):
        source = Maker(seed + i).template()
        path = f"{directory}/{i}.jinja"
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(source)
        result = compare(env, model, path, source, cases[i % len(cases)])
        os.remove(path)
        return source, result

    with ThreadPoolExecutor(2) as pool:
        for source, (kind, text) in pool.map(one, range(n)):
            counts[kind] = counts.get(kind, 0) + 1
            if kind in ("different", "failed"):
                bad += 1
                if bad <= 30:
                    print(f"WRONG ({kind})\n{source}\n  {text[:1500]}\n")
    print(f"{n} random templates: " + ", ".join(f"{c} {k}" for k, c in sorted(counts.items())))
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--generated", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("templates", nargs="*")
    options = parser.parse_args()
    env = environment()
    warnings.simplefilter("ignore", SyntaxWarning)  # of what random templates become in Python
    with tempfile.TemporaryDirectory() as directory:
        model = f"{directory}/model.gguf"
        subprocess.run([f"{BIN}/longspan", "model", "make-random", "--shape",
                        "tiny,layers=1", model], check=True, stderr=subprocess.DEVNULL)
        bad = run_files(env, model, options.templates)
        if options.generated > 0:
            bad += run_generated(env, model, directory, options.generated, options.seed)
    print("all equal" if bad == 0 else f"{bad} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
