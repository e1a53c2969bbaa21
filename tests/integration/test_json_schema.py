#!/usr/bin/env python3
"""JSON by schema: what a model with random weights answers is JSON, and validates, whatever the schema and the seed.

200 schemas and seeds (20 under sanitizers). A model with random weights writes whatever it may: what comes out fits the
schema by the constraint alone. The answers are judged by the validator below, which
knows the keywords that the schemas have and nothing of how they were written; also by the Python package jsonschema, where
it is installed.
"""
import datetime
import json
import random
import re

from longspan_test import SLOW, Tap, folder, make_random
from serving import Server

try:
    import jsonschema
except ImportError:
    jsonschema = None

ADDRESS = re.compile(r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}")
FORMATS = {
    "date": lambda s: bool(re.fullmatch(r"\d{4}-\d\d-\d\d", s)) and bool(datetime.date.fromisoformat(s)),
    "date-time": lambda s: bool(datetime.datetime.fromisoformat(s)),
    "uuid": lambda s: bool(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", s)),
    "ipv4": lambda s: bool(ADDRESS.fullmatch(s)),
    "email": lambda s: bool(re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", s)),
}
TYPES = {"object": dict, "array": list, "string": str, "null": type(None), "boolean": bool}


def same(a, b):
    return type(a) is type(b) and a == b


def has_type(value, name):
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def fits(value, schema, root):
    """Does the value fulfil the schema?"""
    if schema is True or schema == {}:
        return True
    if schema is False:
        return False
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].split("/")[1:]:
            target = target[part]
        if not fits(value, target, root):
            return False
    names = schema.get("type", [])
    if names and not any(has_type(value, t) for t in ([names] if isinstance(names, str) else names)):
        return False
    if "enum" in schema and not any(same(value, e) for e in schema["enum"]):
        return False
    if "const" in schema and not same(value, schema["const"]):
        return False
    if "anyOf" in schema and not any(fits(value, s, root) for s in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(fits(value, s, root) for s in schema["oneOf"]) != 1:
        return False
    if not all(fits(value, s, root) for s in schema.get("allOf", [])):
        return False
    if isinstance(value, str):
        return (schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)) and
                ("pattern" not in schema or re.search(schema["pattern"], value) is not None) and
                ("format" not in schema or FORMATS[schema["format"]](value)))
    if isinstance(value, list):
        first = schema.get("prefixItems", [])
        rest = schema.get("items", True)
        return (schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)) and
                all(fits(v, first[i] if i < len(first) else rest, root) for i, v in enumerate(value)))
    if isinstance(value, dict):
        listed = schema.get("properties", {})
        return (all(name in value for name in schema.get("required", [])) and
                all(fits(v, listed.get(k, schema.get("additionalProperties", True)), root) for k, v in value.items()))
    if has_type(value, "number"):
        return (schema.get("minimum", value) <= value <= schema.get("maximum", value) and
                ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"]) and
                ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"]))
    return True


class Maker:
    """Random schemas of the keywords that are supported."""

    NAMES = ["name", "id", "tags", "a", "ab", "größe", "with space", "quo\"te", "x/y", "next", "kind"]
    PATTERNS = ["^[a-z]{2,5}$", "^(foo|ba[rz])+$", "b", "^\\d{3}-\\d{4}$", "^[^a-c\"]?x*$", "^.{1,3}$", "é|ß$", "^\\w+\\s\\S$"]

    def __init__(self, seed):
        self.r = random.Random(seed)

    def some(self, **fields):
        """Each of the fields, or not."""
        return {k: v for k, v in fields.items() if self.r.random() < 0.5}

    def string(self):
        kind = self.r.randrange(6)
        if kind == 0:
            return {"type": "string", "pattern": self.r.choice(self.PATTERNS)}
        if kind == 1:
            return {"type": "string", "format": self.r.choice(list(FORMATS))}
        if kind == 2:
            return {"type": "string", "enum": self.r.sample(["red", "green", "b\"l\\ue", "", "ünï"], 3)}
        return {"type": "string", **self.some(minLength=self.r.randrange(6), maxLength=self.r.randrange(6, 200))}

    def number(self):
        low = self.r.randrange(-2000, 2000)
        high = low + self.r.choice([0, 1, 7, 95, 1000])
        if self.r.random() < 0.6:
            return {"type": "integer", **self.some(minimum=low, maximum=high)}
        return {"type": "number", **self.some(minimum=low / 8, exclusiveMaximum=high / 8 + 1)}

    def array(self, depth):
        schema = {"type": "array", "items": self.schema(depth + 1), **self.some(minItems=self.r.randrange(3), maxItems=self.r.randrange(3, 6))}
        if self.r.random() < 0.3:
            schema["prefixItems"] = [self.schema(depth + 1) for _ in range(self.r.randrange(1, 3))]
        return schema

    def object(self, depth):
        names = self.r.sample(self.NAMES, self.r.randrange(0, 5))
        schema = {"type": "object", "properties": {n: self.schema(depth + 1) for n in names}}
        schema.update(self.some(required=[n for n in names if self.r.random() < 0.6]))
        schema.update(self.some(additionalProperties=self.r.choice([False, False, True, {"type": "integer"}])))
        return schema

    def schema(self, depth=0):
        kind = self.r.randrange(12)
        if depth == 0:
            kind = 7 + kind % 5
        elif depth > 3 and kind >= 7:
            kind %= 7
        if kind <= 2:
            return self.string()
        if kind <= 4:
            return self.number()
        if kind == 5:
            return {"type": self.r.choice(["boolean", "null", ["integer", "null"], ["string", "boolean"]])}
        if kind == 6:
            return {"const": self.r.choice([1, "x", None, True, {"a": [1, "b"]}])}
        if kind <= 9:
            return self.object(depth)
        if kind == 10:
            return self.array(depth)
        which = self.r.randrange(4)
        if which == 0:
            return {"anyOf": [self.schema(depth + 1) for _ in range(3)]}
        if which == 1:
            return {"oneOf": [self.string() | {"type": "string"}, self.number(), self.array(depth + 1)]}
        if which == 2:
            a, b = self.object(depth), {"properties": {"extra": self.number()}, "required": ["extra"]}
            a.pop("additionalProperties", None)
            return {"allOf": [a, b]}
        return {"type": "object", "properties": {"value": self.number(), "next": {"anyOf": [{"$ref": "#/$defs/list"}, {"type": "null"}]}},
                "required": ["value", "next"]} if depth > 0 else \
            {"$defs": {"list": {"type": "object", "properties": {"value": self.number(), "next": {
                "anyOf": [{"$ref": "#/$defs/list"}, {"type": "null"}]}}, "required": ["value", "next"]}}, "$ref": "#/$defs/list"}

    def whole(self):
        """A schema whose references lead somewhere."""
        schema = self.schema()
        if "#/$defs/list" in json.dumps(schema) and "$defs" not in schema:
            schema["$defs"] = {"list": {"type": "object", "properties": {"n": {"type": "integer"}}}}
        return schema


def ask(server, schema, seed):
    return server.post("/v1/completions", {
        "prompt": "JSON: ", "max_tokens": 1200, "seed": seed, "temperature": [0, 0.7, 1, 1.5][seed % 4],
        "top_k": [0, 40][seed // 4 % 2], "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}})


def why_wrong(reply, schema):
    """None where the answer validates."""
    if reply.status != 200:
        return f"{reply}"
    choice = reply.json()["choices"][0]
    if choice["finish_reason"] != "stop":
        return f"ends with {choice['finish_reason']}: {choice['text']}"
    try:
        value = json.loads(choice["text"])
    except ValueError as error:
        return f"{error}: {choice['text']}"
    if not fits(value, schema, schema):
        return f"does not validate: {choice['text']}"
    if jsonschema is not None:
        try:
            jsonschema.Draft202012Validator(schema).validate(value)
        except jsonschema.ValidationError as error:
            return f"jsonschema: {error.message}: {choice['text']}"
    return None


def check_schemas(tap, server, n):
    wrong = []
    for seed in range(n):
        schema = Maker(seed).whole()
        why = why_wrong(ask(server, schema, seed), schema)
        if why is not None:
            wrong.append(f"{json.dumps(schema)}\nseed {seed}: {why[:2000]}")
    judges = "two validators" if jsonschema is not None else "our validator"
    tap.check(not wrong, f"{n} random schemas and seeds: all answers are JSON and validate, by {judges}",
              f"{len(wrong)} wrong\n" + "\n".join(wrong[:3]))


def check_any_object(tap, server):
    said = [server.post("/v1/completions", {"prompt": "x", "max_tokens": 300, "seed": seed, "response_format": {"type": "json_object"}})
            for seed in range(8)]
    values = [json.loads(r.json()["choices"][0]["text"]) for r in said]
    tap.check(all(isinstance(v, dict) for v in values), "json_object gives objects", values)


def check_choices(tap, server):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    reply = server.post("/v1/completions", {
        "prompt": ["a", "b"], "n": 3, "max_tokens": 60, "seed": 7, "logprobs": 2,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}})
    values = [json.loads(c["text"]) for c in reply.json()["choices"]]
    tap.check(len(values) == 6 and all(fits(v, schema, schema) for v in values), "each of several choices fits", reply)


def check_refusals(tap, server):
    reply = ask(server, {"type": "array", "uniqueItems": True}, 1)
    tap.check(reply.status == 400 and "uniqueItems" in reply.json()["error"]["message"], "a keyword that cannot be kept is a 400 that names it", reply)
    reply = server.post("/v1/completions", {
        "prompt": "x", "max_tokens": 5, "response_format": {"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]}}}})
    tap.check(reply.status == 400 and "tokens" in reply.json()["error"]["message"], "an answer that cannot hold the shortest value is refused", reply)


def main():
    tap = Tap()
    n = 200 if SLOW == 1 else 20
    with folder() as path:
        model = f"{path}/model.gguf"
        make_random(model, "tiny,layers=1,vocab=300")
        with Server(path, model, "--ctx", 2048, "--threads", 1) as server:
            check_schemas(tap, server, n)
            check_any_object(tap, server)
            check_choices(tap, server)
            check_refusals(tap, server)
            code = server.stop()
            tap.check(code == 0, "the server ends in peace", f"{code}\n{server.log()[-1500:]}")
    tap.finish()


if __name__ == "__main__":
    main()
