#!/usr/bin/env python3
"""The whole path, small: five processes answer a question; what the sanitizer targets run as well."""
import json
import os

import retrieval
from longspan_test import Tap, folder, longspan, make_random, make_retrieval, write_text


def main():
    tap = Tap()
    with folder() as path:
        model = make_retrieval(f"{path}/retrieval.gguf")
        text, answers = retrieval.build(3000, 3)
        prompt = f"{path}/prompt"
        with open(prompt, "w", encoding="ascii") as file:
            file.write(text + " The code of cedar is ")
        for layout in ([], ["--pipeline", 2, "--attention-nodes", 2, "--stripe", 256],
                       ["--tensor", 2, "--attention-nodes", 1], ["--pipeline", 3, "--chunk", 100]):
            result = longspan("run", "-m", model, "-f", prompt, "-n", 8, "--ignore-eos", "-q", *layout)
            tap.check(result.code == 0 and result.out.rstrip("\n") == answers["cedar"],
                      f"the needle is found: {' '.join(map(str, layout)) or 'one process'}", result)
            tap.check("Sanitizer" not in result.err and "runtime error" not in result.err, "no sanitizer report", result)

        random_model = make_random(f"{path}/random.gguf", "tiny", "Q8_0")
        files = [write_text(f"{path}/{i}", n, i) for i, n in enumerate([40, 700, 260])]
        arguments = [a for f in files for a in ("-f", f)]
        result = longspan("run", "-m", random_model, *arguments, "-n", 5, "--temp", 0.8, "--top-k", 20, "--top-p", 0.9,
                          "--seed", 4, "--json", "--logprobs", 3, "--attention-nodes", 2, "--stripe", 256, "--ignore-eos")
        if tap.check(result.code == 0, "three sampled prompts in one batch", result):
            out = json.loads(result.out)
            tap.check(len(out) == 3 and all(len(o["ids"]) == 5 and o["finish_reason"] == "length" for o in out),
                      "five tokens each, ended by length", result.out)
            ok = all(len(o["logprobs"]) == 5 and all(
                step["id"] == i and len(step["top"]) == 3 and step["top"][0]["logprob"] >= step["top"][2]["logprob"]
                for step, i in zip(o["logprobs"], o["ids"])) for o in out)
            tap.check(ok, "log-probabilities name the tokens and come in order", result.out)
            again = longspan("run", "-m", random_model, *arguments, "-n", 5, "--temp", 0.8, "--top-k", 20, "--top-p", 0.9,
                             "--seed", 4, "--json", "--pipeline", 2, "--ignore-eos")
            tap.check(again.code == 0 and [o["ids"] for o in again.json()] == [o["ids"] for o in out],
                      "the same seed gives the same ids in another layout", again)

        trace = f"{path}/trace.json"
        result = longspan("run", "-m", random_model, *arguments, "-n", 5, "--ignore-eos", "--trace", trace, "--pipeline", 2,
                          "--attention-nodes", 1)
        if tap.check(result.code == 0 and "decode steps" in result.err, "a traced run says what a step took", result):
            with open(trace, encoding="ascii") as file:
                events = json.load(file)
            names = {e["args"]["name"]: e["pid"] for e in events if e["name"] == "process_name"}
            tap.check(sorted(names) == ["coordinator", "node0", "worker 0", "worker 1"], "every process is in the trace", names)
            spans = [e for e in events if e["ph"] == "X"]
            tap.check(all(e["ts"] > 0 and e["dur"] >= 0 for e in spans) and
                      {(e["name"], e["pid"]) for e in spans} >= {
                          ("send step", names["coordinator"]), ("gate, up", names["worker 0"]), ("wait for rows", names["worker 1"]),
                          ("logits", names["worker 1"]), ("attend", names["node0"])}, "every process recorded its work",
                      sorted({(e["pid"], e["name"]) for e in spans}))
            begin, end = min(e["ts"] for e in spans), max(e["ts"] + e["dur"] for e in spans)
            tap.check(end - begin < 1e6 * result.seconds, "all have one clock", f"{begin} to {end}")
            tap.check(sorted(f for f in os.listdir(path) if f.startswith("trace")) == ["trace.json"], "one file is left",
                      os.listdir(path))

        greedy = longspan("run", "-m", random_model, "-p", "abc", "-n", 4, "--json", "--temp", 0)
        tap.check(greedy.code == 0 and greedy.json()["prompt_ids"][1:] == [ord(c) for c in "abc"],
                  "one prompt gives one object with its ids", greedy)

        key = f"{path}/cluster.key"
        tap.check(longspan("keygen", key).code == 0 and os.stat(key).st_mode & 0o777 == 0o600, "a key file of mode 600")
        result = longspan("run", "-m", model, "-f", prompt, "-n", 8, "--ignore-eos", "-q", "--attention-nodes", 2,
                          "--cluster-key", key)
        tap.check(result.code == 0 and result.out.rstrip("\n") == answers["cedar"], "the same under CURVE", result)
    tap.finish()


main()
