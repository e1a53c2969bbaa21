#!/usr/bin/env python3
"""A prompt's own log-probabilities (`echo` with `logprobs`): those that each token has when it is generated behind the
ones before it, in every layout, however the prompt is cut, whoever shares the steps, and after a preemption.
"""
import json
import threading

from longspan_test import Tap, folder, make_random
from serving import Server

TEXT = " ".join(f"line {i} has {i * i % 97}." for i in range(60))  # some tokens a word: 900 of them, of four pages
LAYOUTS = [("2 attention nodes", ["--attention-nodes", 2, "--stripe", 256]), ("2 stages", ["--pipeline", 2]), ("2 shards", ["--tensor", 2]),
           ("2 stages of 2 shards, a node, chunks of 48", ["--pipeline", 2, "--tensor", 2, "--attention-nodes", 1, "--chunk", 48]),
           ("no prefix cache", ["--prefix-cache", "off"])]
ASKED = {"temperature": 0, "echo": True, "max_tokens": 0, "logprobs": 3}


def scores(server, **changed):
    reply = server.post("/v1/completions", {"prompt": TEXT, **ASKED, **changed})
    return reply if reply.status != 200 else reply.json()


def forced(server, ids, next_id):
    """What a generation says of a token that it has to take, and what was the best beside it."""
    reply = server.post("/v1/completions", {"prompt": ids, "max_tokens": 1, "temperature": 0, "logprobs": 3, "logit_bias": {str(next_id): 100}})
    found = reply.json()["choices"][0]["logprobs"]
    return found["tokens"][0], found["token_logprobs"][0], found["top_logprobs"][0]


def check_values(tap, server):
    """Returns the scores of TEXT, which other layouts have to give too."""
    ids = server.post("/tokenize", {"prompt": TEXT}).json()["tokens"]
    whole = scores(server)
    choice = whole["choices"][0]
    found = choice["logprobs"]
    tap.check(choice["text"] == TEXT and choice["finish_reason"] == "length" and whole["usage"]["prompt_tokens"] == len(ids) and
              whole["usage"]["completion_tokens"] == 0 and all(len(v) == len(ids) for v in found.values()), "a prompt is scored whole", whole)
    tap.check(found["token_logprobs"][0] is None and found["top_logprobs"][0] is None and None not in found["token_logprobs"][1:],
              "its first token has nothing before it", found)
    wrong = []
    for i in list(range(1, 40)) + [63, 64, 65, 255, 256, 257, 511, 512, 513, len(ids) - 1]:
        if (found["tokens"][i], found["token_logprobs"][i], found["top_logprobs"][i]) != forced(server, ids[:i], ids[i]):
            wrong.append((i, found["token_logprobs"][i], forced(server, ids[:i], ids[i])))
    tap.check(not wrong, "each token has the log-probability that it has when it is generated, to the last bit", wrong)
    inside = all(TEXT[at:].startswith(token) for at, token in zip(found["text_offset"][1:], found["tokens"][1:]))
    tap.check(found["text_offset"][0] == 0 and inside, "text_offset says where each token begins", list(zip(found["text_offset"], found["tokens"]))[:50])
    return choice


def check_forms(tap, server, expected):
    answered = scores(server, max_tokens=5, n=3, seed=3, temperature=1, prompt=[TEXT, "Once upon"])
    alone = server.post("/v1/completions", {"prompt": [TEXT, "Once upon"], "max_tokens": 5, "n": 3, "seed": 3, "temperature": 1, "logprobs": 3}).json()
    ok = len(answered["choices"]) == 6
    for i, (both, answer) in enumerate(zip(answered["choices"], alone["choices"])):
        text = [TEXT, "Once upon"][i // 3]
        n = len(both["logprobs"]["tokens"]) - len(answer["logprobs"]["tokens"])
        ok = ok and both["text"] == text + answer["text"] and both["index"] == i
        ok = ok and all(both["logprobs"][k][n:] == answer["logprobs"][k] for k in ("tokens", "token_logprobs", "top_logprobs"))
        ok = ok and both["logprobs"]["text_offset"][n:] == [len(text) + at for at in answer["logprobs"]["text_offset"]]
        ok = ok and (i >= 3 or {k: v[:n] for k, v in both["logprobs"].items()} == expected["logprobs"])
    tap.check(ok, "with an answer, of several prompts and choices: the scores, then those of the answer as without echo", f"{answered}\n{alone}")
    for max_tokens, n in ((0, 1), (0, 2), (4, 2)):
        asked = {"prompt": [TEXT, "a"], **ASKED, "max_tokens": max_tokens, "n": n, "seed": 1, "temperature": 1}
        whole = server.post("/v1/completions", asked).json()
        events = server.post("/v1/completions", {**asked, "stream": True, "stream_options": {"include_usage": True}}).events()
        joined = [{"text": "", "logprobs": {k: [] for k in expected["logprobs"]}, "finish_reason": None} for _ in whole["choices"]]
        for event in events[:-2]:
            for choice in event["choices"]:
                to = joined[choice["index"]]
                to["text"] += choice["text"]
                to["finish_reason"] = choice["finish_reason"] or to["finish_reason"]
                for key, values in choice["logprobs"].items():
                    to["logprobs"][key] += values
        same = [{k: c[k] for k in ("text", "logprobs", "finish_reason")} for c in whole["choices"]]
        tap.check(joined == same and events[-1] == "[DONE]" and
                  {k: v for k, v in events[-2]["usage"].items() if k != "prompt_tokens_details"} ==
                  {k: v for k, v in whole["usage"].items() if k != "prompt_tokens_details"},
                  f"a stream says the same: max_tokens {max_tokens}, n {n}", f"{json.dumps(whole)[:3000]}\n{str(events)[:3000]}")
    events = server.post("/v1/completions", {"prompt": "Once", "echo": True, "max_tokens": 0, "n": 2, "stream": True}).events()
    texts = ["".join(c["text"] for e in events[:-1] for c in e["choices"] if c["index"] == i) for i in (0, 1)]
    tap.check(texts == ["Once"] * 2 and events[-1] == "[DONE]", "an echo alone needs no scores, in a stream too", events)
    one = scores(server, prompt=[[5]])
    tap.check(one["choices"][0]["logprobs"]["token_logprobs"] == [None], "a prompt of one token has no scores", one)
    plain = scores(server, logprobs=0)
    tap.check(plain["choices"][0]["logprobs"]["token_logprobs"] == expected["logprobs"]["token_logprobs"] and
              all(list(top.values()) == [p] for top, p in list(zip(plain["choices"][0]["logprobs"]["top_logprobs"],
                                                                   plain["choices"][0]["logprobs"]["token_logprobs"]))[1:]),
              "logprobs 0: of the token alone", str(plain)[:2000])
    reply = server.post("/v1/completions", {"prompt": TEXT, **ASKED, "logprobs": 20, "n": 128, "max_tokens": 1})
    tap.check(reply.status == 400 and reply.json()["error"]["param"] == "echo", "an answer that would be too large is refused", reply)


def is_same(found, expected, within):
    """Equal, but numbers that differ by no more than `within`."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return found.keys() == expected.keys() and all(is_same(found[k], v, within) for k, v in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        return len(found) == len(expected) and all(is_same(f, e, within) for f, e in zip(found, expected))
    if isinstance(expected, float) and isinstance(found, float):
        return abs(found - expected) <= within
    return found == expected


def check_layout(tap, path, model, name, options, expected):
    # Shards add up the exponentials of their parts of the vocabulary: logits are equal, the log-sum-exp up to rounding.
    within = 1e-6 if "--tensor" in options else 0
    with Server(path, model, "--ctx", 4096, *options, name=name.replace(" ", "-")) as server:
        cold, warm = scores(server), scores(server)
        tap.check(is_same(cold["choices"], [expected], within), f"{name}: the same scores", str(cold)[:500])
        tap.check(warm["choices"] == cold["choices"] and warm["usage"]["prompt_tokens_details"]["cached_tokens"] == 0,
                  f"{name}: a second time too, and nothing of them is taken from the prefix cache", str(warm)[:500])


def check_preempted(tap, path, model, page_bytes, expected):
    """Answers that outgrow the KV cache together: the later ones are preempted, with their prompts scored or half scored."""
    with Server(path, model, "--ctx", 2048, "--kv-memory", 9 * page_bytes, "--prefix-cache", "off", "--chunk", 64, name="preempted") as server:
        replies = [None] * 4

        def ask(i):
            replies[i] = scores(server, max_tokens=400, ignore_eos=True, n=2)
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(replies))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        n = len(expected["logprobs"]["tokens"])
        ok = all(r["choices"][0]["logprobs"]["tokens"] == replies[0]["choices"][0]["logprobs"]["tokens"] and
                 all({k: v[:n] for k, v in c["logprobs"].items()} == expected["logprobs"] for c in r["choices"]) for r in replies)
        tap.check(ok, "together with others, and preempted: the same scores, once", str(replies)[:2000])
        metrics = server.get("/metrics").body.decode()
        tap.check("longspan_preemptions_total 0\n" not in metrics, "some were preempted", metrics[:500])


def main():
    tap = Tap()
    with folder() as path:
        model = make_random(f"{path}/random.gguf", "tiny-96")
        with Server(path, model, "--ctx", 4096) as server:
            expected = check_values(tap, server)
            check_forms(tap, server, expected)
            page_bytes = server.get("/cluster").json()["page_bytes"]
        for name, options in LAYOUTS:
            check_layout(tap, path, model, name, options, expected)
        check_preempted(tap, path, model, page_bytes, expected)
    tap.finish()


main()
