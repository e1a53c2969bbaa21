#!/usr/bin/env python3
"""OpenAI's own client for Python against `longspan serve`: completes, chats, streams, gets logprobs, hits errors, cancels.

The client is installed once, by pip, into a virtual environment below build/; where that cannot be, the test skips and says so.
"""
import asyncio
import json
import os
import subprocess
import sys

from longspan_test import ROOT, SLOW, Tap, folder, make_random, make_retrieval, wait_until
from serving import Server

VENV = os.path.join(ROOT, "build", "venv-openai")
PYTHON = os.path.join(VENV, "bin", "python3")
PROMPT = "the code of cedar is 4711. The code of cedar is "
PLAIN = "{% for m in messages %}{{ m['content'] }}{% endfor %}"  # so that the retrieval model finds its place


def has_client():
    return os.path.exists(PYTHON) and subprocess.run([PYTHON, "-c", "import openai"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def install():
    """Why the client is not there; None: it is."""
    if has_client():
        return None
    for command in ([sys.executable, "-m", "venv", "--clear", VENV], [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "openai>=1"]):
        try:
            result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if result.returncode != 0:
            lines = result.stdout.decode("utf-8", "replace").strip().splitlines()
            return lines[-1] if lines else f"{command[0]} failed"
    return None if has_client() else "it cannot be imported"


def check_models(tap, client, openai):
    models = client.models.list().data
    tap.check([m.id for m in models] == ["served"] and models[0].owned_by == "longspan", "models.list names the model", models)
    one = [client.models.retrieve(name) for name in ("served", "Longspan retrieval")]
    tap.check(one == models * 2, "models.retrieve has it by each of its names", one)
    try:
        error = client.models.retrieve("a/b")
    except openai.NotFoundError as caught:
        error = caught
    tap.check(getattr(error, "code", None) == "model_not_found", "another one's name is a NotFoundError", error)


def check_completions(tap, client):
    asked = {"model": "served", "prompt": PROMPT, "max_tokens": 4, "temperature": 0}
    done = client.completions.create(**asked)
    tap.check(done.choices[0].text == "4711" and done.choices[0].finish_reason == "length" and done.object == "text_completion" and
              done.usage.completion_tokens == 4 and done.usage.total_tokens == done.usage.prompt_tokens + 4 and
              done.usage.prompt_tokens_details.cached_tokens >= 0, "completions.create completes", done)
    tap.check(done._request_id is not None and done._request_id in done.id, "the request's id is in its header", done)
    parts = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    tap.check("".join(p.choices[0].text for p in parts[:-1]) == "4711" and parts[-2].choices[0].finish_reason == "length" and
              parts[-1].usage == done.usage and parts[-1].choices == [], "a stream has the same text, and the usage", parts)
    both = client.completions.create(**{**asked, "prompt": [PROMPT, PROMPT]}, n=2, stop=["1"], echo=True)
    tap.check([c.text for c in both.choices] == [PROMPT + "47"] * 4 and {c.finish_reason for c in both.choices} == {"stop"} and
              [c.index for c in both.choices] == [0, 1, 2, 3], "several prompts, several choices, stop, echo", both)
    lp = client.completions.create(**asked, logprobs=3).choices[0].logprobs
    tap.check(lp.tokens == list("4711") and lp.text_offset == [0, 1, 2, 3] and len(lp.token_logprobs) == 4 and
              all(t in top and top[t] == p and len(top) in (3, 4) for t, p, top in zip(lp.tokens, lp.token_logprobs, lp.top_logprobs)),
              "logprobs in the old form", lp)
    echoed = client.completions.create(**{**asked, "max_tokens": 0}, logprobs=2, echo=True, n=2)
    lp = echoed.choices[1].logprobs
    tap.check([c.text for c in echoed.choices] == [PROMPT] * 2 and len(lp.tokens) == echoed.usage.prompt_tokens and
              lp.token_logprobs[0] is None and all(p <= 0 for p in lp.token_logprobs[1:]) and lp.top_logprobs[0] is None and
              all(t in top and top[t] == p for t, p, top in list(zip(lp.tokens, lp.token_logprobs, lp.top_logprobs))[1:]) and
              all(PROMPT[at:].startswith(t) for t, at in list(zip(lp.tokens, lp.text_offset))[1:]) and echoed.usage.completion_tokens == 0,
              "nothing but the echo, with logprobs of the prompt", echoed)
    parts = list(client.completions.create(**asked, logprobs=2, echo=True, stream=True))
    tap.check("".join(p.choices[0].text for p in parts) == PROMPT + "4711" and
              [x for p in parts for x in p.choices[0].logprobs.token_logprobs][:len(lp.tokens)] == lp.token_logprobs,
              "a stream with echo has the same logprobs", parts)


def check_chat(tap, client):
    asked = {"model": "served", "messages": [{"role": "user", "content": PROMPT}], "max_completion_tokens": 4, "temperature": 0}
    done = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    choice = done.choices[0]
    tap.check(choice.message.content == "4711" and choice.message.role == "assistant" and choice.finish_reason == "length" and
              done.object == "chat.completion", "chat.completions.create chats", done)
    tap.check([t.token for t in choice.logprobs.content] == list("4711") and
              all(bytes(t.bytes).decode() == t.token and len(t.top_logprobs) == 2 and t.top_logprobs[0].logprob >= t.top_logprobs[1].logprob
                  for t in choice.logprobs.content), "logprobs with their bytes", choice.logprobs)
    parts = list(client.chat.completions.create(**asked, stream=True, n=2, logprobs=True, stream_options={"include_usage": True}))
    texts = {i: "".join(p.choices[0].delta.content or "" for p in parts if p.choices and p.choices[0].index == i) for i in (0, 1)}
    roles = [p.choices[0].delta.role for p in parts if p.choices and p.choices[0].delta.role]
    ends = [p.choices[0].finish_reason for p in parts if p.choices and p.choices[0].finish_reason]
    tokens = "".join(t.token for p in parts if p.choices and p.choices[0].index == 1 and p.choices[0].logprobs for t in p.choices[0].logprobs.content)
    tap.check(texts == {0: "4711", 1: "4711"} and roles == ["assistant"] * 2 and ends == ["length"] * 2 and tokens == "4711" and
              parts[-1].usage.completion_tokens == 8, "a stream of two choices: role, deltas, reason, usage", parts)
    messages = [{"role": "system", "content": "the code of "}, {"role": "user", "content": [{"type": "text", "text": "cedar is 4711. The code of cedar is "}]}]
    done = client.chat.completions.create(model="served", messages=messages, max_tokens=9, temperature=0, stop="1", seed=3, logit_bias={}, user="me")
    tap.check(done.choices[0].message.content == "47" and done.choices[0].finish_reason == "stop", "several messages, content in parts, stop", done)


def check_count(tap, client, server):
    chat = {"messages": [{"role": "user", "content": PROMPT}, {"role": "user", "content": "x"}]}
    counted = server.post("/tokenize", chat, headers={"Authorization": "Bearer sk-test"})
    usage = client.chat.completions.create(model="served", max_tokens=1, **chat).usage
    tap.check(counted.status == 200 and counted.json()["count"] == usage.prompt_tokens, "/tokenize counts the tokens of a chat", f"{counted}\n{usage}")


TOOL = {"type": "function", "function": {"name": "look", "parameters": {
    "type": "object", "properties": {"tree": {"$ref": "#/$defs/tree"}, "n": {"type": "integer"}}, "required": ["tree"],
    "additionalProperties": False, "$defs": {"tree": {"enum": ["oak", "cedar"]}}}}}


def call_of(parts):
    """What a stream's deltas say of its only call: id, name, arguments."""
    calls = [call for p in parts for call in p.choices[0].delta.tool_calls or []]
    assert calls and all(call.index == 0 for call in calls) and [bool(call.id) for call in calls] == [True] + [False] * (len(calls) - 1), calls
    return calls[0].id, calls[0].function.name, "".join(call.function.arguments for call in calls)


def check_tools(tap, client):
    """The retrieval model says a call that it has read."""
    said = 'I look. <tool_call>\n{"name": "look", "arguments": {"tree": "cedar"}}\n</tool_call>'
    asked = {"model": "served", "messages": [{"role": "user", "content": f"Say this to me now: {said}#### Say this to me now: "}],
             "tools": [TOOL], "max_tokens": 200, "temperature": 0, "stop": "####"}
    choice = client.chat.completions.create(**asked).choices[0]
    calls = choice.message.tool_calls or []
    tap.check(choice.finish_reason == "tool_calls" and choice.message.content == "I look." and
              [(c.type, c.function.name, c.function.arguments) for c in calls] == [("function", "look", '{"tree": "cedar"}')],
              "a call in the model's own form is found", choice)
    parts = list(client.chat.completions.create(**asked, stream=True))
    tap.check("".join(p.choices[0].delta.content or "" for p in parts) == "I look." and call_of(parts)[1:] == ("look", '{"tree": "cedar"}') and
              parts[-1].choices[0].finish_reason == "tool_calls", "in a stream too", parts)
    choice = client.chat.completions.create(**asked, tool_choice="none").choices[0]
    tap.check(choice.message.content == said and choice.finish_reason == "stop" and choice.message.tool_calls is None,
              "where none may be called it is text", choice)


def check_forced_tools(tap, client):
    """A model of random weights is made to call, after a call that was answered."""
    before = {"id": "abcdefghi", "type": "function", "function": {"name": "look", "arguments": '{"tree": "oak"}'}}
    messages = [{"role": "user", "content": "Look."}, {"role": "assistant", "content": None, "tool_calls": [before]},
                {"role": "tool", "tool_call_id": before["id"], "content": "green"}]
    look, other = {"type": "function", "function": {"name": "look"}}, {"type": "function", "function": {"name": "other"}}
    for name, tools, wanted in (("required", [TOOL], "required"), ("named", [TOOL, other], look),
                                ("allowed", [TOOL, other], {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [look]}})):
        asked = {"model": "served", "messages": messages, "tools": tools, "max_tokens": 300, "tool_choice": wanted, "parallel_tool_calls": False}
        message = client.chat.completions.create(**asked).choices[0].message
        parts = list(client.chat.completions.create(**asked, stream=True))
        found = [(c.function.name, c.function.arguments) for c in message.tool_calls or []] + [call_of(parts)[1:]]
        tap.check(message.content is None and len(found) == 2 and parts[-1].choices[0].finish_reason == "tool_calls" and
                  all(called == "look" and json.loads(arguments)["tree"] in ("oak", "cedar") for called, arguments in found),
                  f"a call that is {name} keeps the function's schema", f"{message}\n{parts}")


def check_errors(tap, client, openai, server):
    asked = {"model": "served", "prompt": "a", "max_tokens": 1}

    def failure(**changed):
        try:
            return client.completions.create(**{**asked, **changed})
        except openai.APIStatusError as error:
            return error
    error = failure(temperature=-1)
    tap.check(isinstance(error, openai.BadRequestError) and error.param == "temperature" and error.type == "invalid_request_error",
              "a bad value is a BadRequestError that names it", error)
    error = failure(prompt="x" * 9000)
    tap.check(isinstance(error, openai.BadRequestError) and error.code == "context_length_exceeded" and "4096" in error.message and
              "9001" in error.message, "a prompt beyond the context is told both numbers", error)
    error = failure(model="gpt-4")
    tap.check(isinstance(error, openai.NotFoundError) and error.code == "model_not_found", "another model is a NotFoundError", error)
    other = openai.OpenAI(base_url=server.url("/v1"), api_key="wrong", max_retries=0)
    try:
        error = other.models.list()
    except openai.APIStatusError as caught:
        error = caught
    tap.check(isinstance(error, openai.AuthenticationError), "a wrong key is an AuthenticationError", error)
    other.close()


def check_cancel(tap, client, server):
    stream = client.completions.create(model="served", prompt="a", max_tokens=4000, stream=True, extra_body={"ignore_eos": True})
    first = next(iter(stream))
    running = server.running()
    stream.close()
    tap.check(first.choices[0].finish_reason is None and running == 1 and wait_until(lambda: server.running() == 0, 5 * SLOW),
              "closing a stream ends the request", server.log()[-1000:])


async def check_many(tap, openai, server):
    """Greedy answers to many at once are those to each alone."""
    async with openai.AsyncOpenAI(base_url=server.url("/v1"), api_key="sk-test", max_retries=0) as client:
        prompts = [f"{i} " * (3 + 5 * i) for i in range(16)]

        async def ask(prompt):
            done = await client.completions.create(model="served", prompt=prompt, max_tokens=12, temperature=0)
            return done.choices[0].text
        alone = [await ask(p) for p in prompts]
        together = await asyncio.gather(*[ask(p) for p in prompts])
        tap.check(together == alone, "16 at once answer as each alone", f"{alone}\n{together}")


def main():
    tap = Tap()
    if os.path.realpath(sys.prefix) != os.path.realpath(VENV):
        why = install()
        if why is not None:
            tap.skip("the official client", f"the package openai cannot be installed: {why}")
            tap.finish()
        os.execv(PYTHON, [PYTHON, os.path.abspath(__file__)])
    import openai  # pylint: disable=import-outside-toplevel
    with folder() as path:
        with open(f"{path}/keys", "w", encoding="ascii") as file:
            file.write("sk-test\n")
        with open(f"{path}/plain.jinja", "w", encoding="ascii") as file:
            file.write(PLAIN)
        options = ("--ctx", 4096, "--api-key-file", f"{path}/keys", "--model-name", "served", "--chat-template", f"{path}/plain.jinja")
        with Server(path, make_retrieval(f"{path}/retrieval.gguf"), *options) as server:
            with openai.OpenAI(base_url=server.url("/v1"), api_key="sk-test", max_retries=0) as client:
                check_models(tap, client, openai)
                check_completions(tap, client)
                check_chat(tap, client)
                check_count(tap, client, server)
                check_tools(tap, client)
                check_errors(tap, client, openai, server)
        with Server(path, make_random(f"{path}/random.gguf", "tiny-96"), *options, name="random") as server:
            with openai.OpenAI(base_url=server.url("/v1"), api_key="sk-test", max_retries=0) as client:
                check_cancel(tap, client, server)
                check_forced_tools(tap, client)
            asyncio.run(check_many(tap, openai, server))
    tap.finish()


main()
