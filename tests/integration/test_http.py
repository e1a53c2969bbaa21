#!/usr/bin/env python3
"""What the HTTP server says, by curl's eyes: golden transcripts field by field, and what they cannot show.

golden/http.json lists requests with the answers they must get; "*" stands for what differs each time. `--record`
writes the file anew from what the server says: look at the difference before you keep it.
"""
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

from longspan_test import SLOW, Tap, call, descendants, folder, longspan, make_random, make_retrieval, program, wait_until
from serving import Server, read_all, text_of

GOLDEN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden", "http.json")
VOLATILE = {"created", "date", "x-request-id"}
PROMPT = "the code of cedar is 4711. The code of cedar is "


def hide(value):
    """The same with what differs each time replaced."""
    if isinstance(value, dict):
        return {k: "*" if k in VOLATILE or k == "id" and "cmpl-req-" in v else hide(v) for k, v in value.items()}
    return [hide(v) for v in value] if isinstance(value, list) else value


def differences(expected, found, path=""):
    """Where two JSON values differ, as lines."""
    if expected == "*" and isinstance(found, (str, int)):
        return []
    if isinstance(expected, dict) and isinstance(found, dict):
        return [line for key in sorted(expected.keys() | found.keys())
                for line in differences(expected.get(key, "(absent)"), found.get(key, "(absent)"), f"{path}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [line for i, (a, b) in enumerate(zip(expected, found)) for line in differences(a, b, f"{path}[{i}]")]
    if isinstance(expected, float) and isinstance(found, float) and abs(expected - found) <= 1e-5 * max(1, abs(expected)):
        return []  # nine digits of a float
    return [] if expected == found and type(expected) is type(found) else [f"{path}: {expected!r} was expected, not {found!r}"]


def transcript(server, case):
    """What the server answers: status, the headers that we set, the body or its events."""
    with_body = json.dumps(case["body"]).encode() if "body" in case else None
    reply = server.ask(case["method"], case["path"], with_body, case.get("headers"))
    kind = reply.headers.get("content-type", "")
    said = {"status": reply.status, "headers": {k: v for k, v in reply.headers.items() if k not in ("connection", "content-length")}}
    if kind.startswith("text/event-stream"):
        said["events"] = reply.events()
    elif reply.body:
        said["body"] = reply.json()
    return said


def check_golden(tap, server, record):
    with open(GOLDEN, encoding="utf-8") as file:
        cases = json.load(file)
    for case in cases:
        found = hide(transcript(server, case))
        if record:
            case["answer"] = found
            continue
        wrong = differences(case.get("answer"), found)
        tap.check(not wrong, f"golden: {case['name']}", "\n".join(wrong))
    if record:
        with open(GOLDEN, "w", encoding="utf-8") as file:
            json.dump(cases, file, indent=1, ensure_ascii=False)
            file.write("\n")


def check_curl(tap, server):
    result = call("curl", "-sSiN", server.url("/v1/completions"), "-d",
                  json.dumps({"prompt": PROMPT, "max_tokens": 4, "temperature": 0, "stream": True}))
    head, _, body = result.out.replace("\r\n", "\n").partition("\n\n")
    tap.check(result.code == 0 and head.startswith("HTTP/1.1 200 OK") and "text/event-stream" in head and
              body.endswith("data: [DONE]\n\n") and body.count("data: {") == 5, "curl reads an event stream", result)


def check_requests(tap, server):
    reply = server.post("/v1/completions", {"prompt": "a", "max_tokens": 1}, headers={"x-request-id": "mine-1.2_3"})
    tap.check(reply.headers["x-request-id"] == "mine-1.2_3" and  # the line is written when the call ends
              wait_until(lambda: "http mine-1.2_3 POST" in server.log(), 10 * SLOW),
              "a client's request id is taken over, into the log too", f"{reply}\n{server.log()[-500:]}")
    reply = server.post("/v1/completions", {"prompt": "a", "max_tokens": 1}, headers={"x-request-id": "a b\tc"})
    tap.check(reply.headers["x-request-id"].startswith("req-"), "one with blanks is not", reply)

    whole = text_of(server.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 40, "temperature": 0}))
    for stop in (whole[3:9], whole[10:11], whole[:1]):
        reply = server.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 40, "temperature": 0, "stop": [stop, "\x01"],
                                                "logprobs": 0})
        choice = reply.json()["choices"][0]
        tap.check(choice["text"] == whole[:whole.index(stop)] and choice["finish_reason"] == "stop" and
                  "".join(choice["logprobs"]["tokens"]) == choice["text"],
                  f"nothing of the stop text {stop!r} gets out, nor its tokens", reply)
        events = server.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 40, "temperature": 0, "stop": stop,
                                                 "stream": True}).events()
        tap.check("".join(e["choices"][0]["text"] for e in events[:-1]) == whole[:whole.index(stop)],
                  f"nor in a stream: {stop!r}", events)

    ids = server.post("/tokenize", {"prompt": PROMPT}).json()["tokens"]
    asked = {"max_tokens": 6, "temperature": 0}
    replies = [server.post("/v1/completions", {"prompt": p, **asked}) for p in
               (PROMPT, [PROMPT], ids, [ids], [PROMPT, PROMPT], [ids, ids])]
    tap.check(all(c["text"] == whole[:6] for r in replies for c in r.json()["choices"]) and
              [len(r.json()["choices"]) for r in replies] == [1, 1, 1, 1, 2, 2], "prompts in four shapes are the same prompt",
              "\n".join(map(str, replies)))
    back = server.post("/detokenize", {"tokens": ids[1:]})
    tap.check(back.status == 200 and back.json()["prompt"] == PROMPT, "tokens give the text back", back)


def check_sampling(tap, server):
    asked = {"prompt": "Once", "max_tokens": 24, "temperature": 1, "seed": 5}
    first = server.post("/v1/completions", {**asked, "n": 3}).json()
    again = server.post("/v1/completions", {**asked, "n": 3}).json()
    alone = server.post("/v1/completions", asked)
    texts = [c["text"] for c in first["choices"]]
    tap.check(texts == [c["text"] for c in again["choices"]] and len(set(texts)) == 3 and text_of(alone) == texts[0],
              "n choices differ, a seed repeats them, the first is that of n = 1", f"{texts}\n{alone}")
    tap.check(first["usage"]["completion_tokens"] == 72 and first["usage"]["prompt_tokens"] == 5, "and are counted", first["usage"])
    unseeded = {text_of(server.post("/v1/completions", {"prompt": "Once", "max_tokens": 24})) for _ in range(3)}
    tap.check(len(unseeded) == 3, "without a seed every answer differs", unseeded)

    greedy = {"prompt": "Once", "max_tokens": 24, "temperature": 0, "logprobs": 0}
    plain = server.post("/v1/completions", greedy).json()["choices"][0]["logprobs"]["tokens"]
    once = server.post("/v1/completions", {**greedy, "presence_penalty": 2, "frequency_penalty": 2})
    once = once.json()["choices"][0]["logprobs"]["tokens"]
    tap.check(len(set(once)) > len(set(plain)), "penalties make an answer repeat itself less", f"{plain}\n{once}")
    forced = server.post("/v1/completions", {**greedy, "logit_bias": {"81": 100, "82": 99}, "frequency_penalty": 0.5})
    tap.check(set(text_of(forced)) == {"Q", "R"}, "a bias forces tokens, a penalty makes them take turns", forced)
    banned = server.post("/v1/completions", {**greedy, "logit_bias": {"10": -100}})
    tap.check("\n" not in banned.json()["choices"][0]["logprobs"]["tokens"], "or forbids them", banned)


def check_cancel(tap, server):
    """A client that hangs up while its prompt is read, or its answer flows, is forgotten at once."""
    long = "x" * 30000
    for name, body in (("prefill", {"prompt": long, "max_tokens": 5}),
                       ("decode", {"prompt": "a", "max_tokens": 20000, "ignore_eos": True}),
                       ("stream", {"prompt": "a", "max_tokens": 20000, "ignore_eos": True, "stream": True})):
        data = json.dumps(body).encode()
        connection = server.connect()
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
        began = wait_until(lambda: server.running() == 1, 20)
        if name == "stream":
            connection.recv(1000)
        connection.close()
        start = time.monotonic()
        tap.check(began and wait_until(lambda: server.running() == 0, 10 * SLOW), f"hanging up cancels: {name}", server.log()[-800:])
        tap.check(time.monotonic() - start < 2 * SLOW, "within two seconds", time.monotonic() - start)
    reply = server.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 4, "temperature": 0})
    tap.check(reply.status == 200, "and others are served as before", reply)


def check_limits(tap, path, model):
    with Server(path, model, "--ctx", 40000, "--http-body", "64KiB", "--http-prompt", 20000, "--http-requests", 1, "--http-queue", 1,
                "--chunk", 64, "--threads", 1, name="limits") as server:
        reply = server.post("/v1/completions", {"prompt": "x" * 25000, "max_tokens": 1})
        tap.check(reply.status == 400 and "25001" in reply.json()["error"]["message"] and "20000" in reply.json()["error"]["message"],
                  "a prompt that is too long is told both numbers", reply)
        head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n"
        tap.check(server.raw(head).startswith(b"HTTP/1.1 413"), "a body that announces too much is refused unread")
        said = server.raw(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        tap.check(said.startswith(b"HTTP/1.1 411") and b'"length_required"' in said, "one without a length too, with the reason", said[:600])

        data = json.dumps({"prompt": "a", "max_tokens": 19000, "ignore_eos": True, "stream": True}).encode()
        endless = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)
        with server.connect() as running, server.connect(timeout=1) as queued:
            running.sendall(endless)
            began = running.recv(12) == b"HTTP/1.1 200"
            queued.sendall(endless)
            try:
                early = queued.recv(12)
            except TimeoutError:
                early = b""
            tap.check(began and early == b"", "the second of one at once waits", early)
            refused = server.post("/v1/completions", {"prompt": "a", "max_tokens": 1})
            tap.check(refused.status == 429 and refused.headers.get("retry-after") == "1" and
                      refused.json()["error"]["code"] == "queue_full", "a full queue answers 429 with Retry-After", refused)
            running.close()
            queued.settimeout(20 * SLOW)
            tap.check(queued.recv(12) == b"HTTP/1.1 200", "the next one has its turn when the first has gone")


def check_silence(tap, path, model):
    """A stream that waits for its turn, here behind another one, says that it is alive."""
    with Server(path, model, "--ctx", 40000, "--http-requests", 1, "--http-silence", 1, "--threads", 1, name="silence") as server:
        def ask(connection, tokens):
            data = json.dumps({"prompt": "a", "max_tokens": tokens, "ignore_eos": True, "stream": True, "temperature": 0}).encode()
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" %
                               (len(data), data))
        with server.connect() as running, server.connect() as waiting:
            ask(running, 39000)
            began = running.recv(12) == b"HTTP/1.1 200"
            ask(waiting, 3)
            early = b""
            while early.count(b": still at it\n\n") < 2:
                part = waiting.recv(4096)
                if not part:
                    break
                early += part
            tap.check(began and early.startswith(b"HTTP/1.1 200 OK") and b"data:" not in early,
                      "a stream that waits gets comments", early)
            running.close()
            rest = read_all(waiting)
            tap.check(rest.count(b"data: {") == 4 and b"data: [DONE]\n\n" in rest, "and then its answer", rest)


def check_origins(tap, server):
    """Whose pages may use a server that has no keys."""
    asked = {"prompt": "a", "max_tokens": 1}
    for host, status in ((f"127.0.0.1:{server.port}", 200), (f"localhost:{server.port}", 200), (f"[::1]:{server.port}", 200),
                         (f"rebound.example:{server.port}", 403)):
        reply = server.post("/v1/completions", asked, headers={"Host": host, "Origin": f"http://{host}"})
        tap.check(reply.status == status, f"a page of http://{host}: {status}", reply)
    reply = server.post("/v1/completions", asked, headers={"Host": "rebound.example"})
    tap.check(reply.status == 200, "who is no browser's page is not asked", reply)


def check_keys(tap, path, model):
    keys = f"{path}/keys"
    with open(keys, "w", encoding="ascii") as file:
        file.write("# who\nsk-first\n\nsk-second \n")
    with Server(path, model, "--host", "*", "--api-key-file", keys, "--cors", "https://a.example", name="keys") as server:
        asked = {"prompt": "a", "max_tokens": 1}
        for header, status in ((None, 401), ("Bearer sk-wrong", 401), ("sk-first", 401), ("Bearer sk-first", 200),
                               ("bearer sk-second", 200), ("Bearer sk-firs", 401), ("Bearer ", 401), ("Bearer # who", 401)):
            reply = server.post("/v1/completions", asked, headers={"Authorization": header} if header else {})
            tap.check(reply.status == status and (status == 200 or reply.json()["error"]["code"] == "invalid_api_key"),
                      f"{header}: {status}", reply)
        tap.check(server.get("/health").status == 200 and server.get("/v1/models").status == 401, "health needs no key, models do")
        reply = server.ask("OPTIONS", "/v1/completions", headers={"Origin": "https://a.example"})
        tap.check(reply.status == 204 and reply.headers["access-control-allow-origin"] == "https://a.example",
                  "a browser's question beforehand is answered", reply)
        for wanted, granted in (("authorization,x-stainless-os", "authorization,x-stainless-os"),
                                ('a"b', "Authorization, Content-Type, x-request-id")):
            reply = server.ask("OPTIONS", "/v1/completions", headers={"Origin": "https://a.example", "Access-Control-Request-Headers": wanted})
            tap.check(reply.status == 204 and reply.headers["access-control-allow-headers"] == granted,
                      f"its page may send {granted}", reply)
        reply = server.post("/v1/completions", asked, headers={"Authorization": "Bearer sk-first", "Origin": "https://b.example"})
        tap.check(reply.status == 403, "pages of other sites are refused", reply)
    variable = {"LONGSPAN_API_KEY": "sk-of-the-environment"}
    with Server(path, model, "--host", "*", name="key", before=["env", *(f"{name}={value}" for name, value in variable.items())]) as server:
        replies = [server.post("/v1/completions", asked, headers={"Authorization": f"Bearer {key}"}).status
                   for key in ("sk-of-the-environment", "sk-first")]
        tap.check(replies == [200, 401], "a key of the environment is as good as a file's", replies)
        told = [longspan("status", "--url", server.url(), env={"LONGSPAN_API_KEY": key}).code
                for key in ("sk-of-the-environment", " sk-of-the-environment\r\n", "sk-first", "")]
        tap.check(told == [0, 0, 4, 4], "longspan status sends the one of its environment", told)
    result = longspan("serve", "-m", f"{path}/absent.gguf", "--host", "*", "--port", 0)
    tap.check(result.code == 2 and "--api-key-file" in result.err, "an address for everybody needs keys, before anything else", result)
    with open(keys, "w", encoding="ascii") as file:
        file.write("# none\n")
    result = longspan("serve", "-m", model, "--port", 0, "--api-key-file", keys, "--cors", "null")
    tap.check(result.code == 2 and "no key" in result.err, "a file without a key is refused", result)


def check_drain(tap, path, model):
    with Server(path, model, name="drain") as server:
        reply = []
        asked = {"prompt": "a", "max_tokens": 3000, "ignore_eos": True}
        thread = threading.Thread(target=lambda: reply.append(server.post("/v1/completions", asked, timeout=300)))
        thread.start()
        wait_until(lambda: server.running() == 1, 20)
        server.process.send_signal(signal.SIGTERM)
        draining = wait_until(lambda: server.get("/health").status == 503, 5)
        refused = server.post("/v1/completions", {"prompt": "a", "max_tokens": 1})
        tap.check(draining and refused.status == 503 and server.process.poll() is None, "after SIGTERM nothing new is taken", refused)
        thread.join()
        tap.check(reply[0].status == 200 and reply[0].json()["usage"]["completion_tokens"] == 3000, "what runs is answered", reply[0])
        code = server.process.wait(20 * SLOW)
        tap.check(code == 0, "then it exits with 0", f"{code}\n{server.log()[-500:]}")
    with Server(path, model, name="late") as server, server.connect() as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n")
        heard = connection.recv(100)  # it has begun
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)

        def is_over():
            with contextlib.suppress(OSError):
                connection.send(b" ")
            return server.process.poll() is not None
        tap.check(wait_until(is_over, 20 * SLOW) and server.process.poll() == 0 and time.monotonic() - began > 4, "who never ends a request keeps nobody from leaving",
                  f"{heard} {time.monotonic() - began:.1f} s\n{server.log()[-500:]}")
    with Server(path, model, name="twice") as server:
        connection = server.connect()
        data = json.dumps({"prompt": "a", "max_tokens": 30000, "ignore_eos": True, "stream": True}).encode()
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
        connection.recv(100)
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: server.get("/health").status == 503, 5)
        server.process.send_signal(signal.SIGINT)
        code = server.process.wait(20 * SLOW)
        said = read_all(connection)
        connection.close()
        tap.check(code == 130 and not said.endswith(b"[DONE]\n\n"), "a second signal ends it, and the stream is seen to be cut", code)


def check_failures(tap, path, model):
    with Server(path, model, "--attention-nodes", 1, name="busy") as server:
        result = longspan("serve", "-m", model, "--port", server.port)
        tap.check(result.code == 3 and "choose another port" in result.err, "a port in use is said so", result)
        keys = f"{path}/keys-of-nobody"
        with open(keys, "w", encoding="ascii") as file:
            file.write("sk-nobody\n")
        for host in ("nosuch.invalid", "192.0.2.7"):  # has no address; is no address of this machine
            result = longspan("serve", "-m", model, "--host", host, "--api-key-file", keys)
            tap.check(result.code == 3 and f"cannot listen at {host}:8080: " in result.err and "--http" not in result.err
                      and "give an address of this machine" in result.err and "exit status" not in result.err,
                      f"--host {host}: why nobody can listen there is told, once", result)
        found = subprocess.run(["pgrep", "-P", str(server.process.pid), "-f", "attention_node"], stdout=subprocess.PIPE, check=False)
        with server.connect() as connection:
            data = json.dumps({"prompt": "a", "max_tokens": 4000, "ignore_eos": True, "stream": True}).encode()
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
            connection.recv(100)
            os.kill(int(found.stdout.split()[0]), signal.SIGKILL)
            said = read_all(connection)
        code = server.process.wait(30 * SLOW)
        tap.check(b'{"error":{"message":"attention node node0 (' in said and b"is lost" in said, "a stream is told who was lost", said[-300:])
        tap.check(code == 4, "a lost node ends it with 4", f"{code}\n{server.log()[-500:]}")
    with Server(path, model, "--pipeline", 2, name="lost-worker") as server, server.connect() as connection:
        data = json.dumps({"prompt": "a", "max_tokens": 4000, "ignore_eos": True, "stream": True}).encode()
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
        connection.recv(100)
        os.kill(next(p for p, name in descendants(server.process.pid).items() if name == "worker"), signal.SIGKILL)
        said = read_all(connection)
        code = server.process.wait(30 * SLOW)
        tap.check(code == 4 and b'{"error":{"message":"worker ' in said and b"is lost" in said, "a stream is told which worker was lost",
                  f"{code}\n{said[-300:]}\n{server.log()[-500:]}")
    dry = longspan("serve", "-m", model, "--port", 8123, "--api-key-file", "k", "--dry-run")
    tap.check(dry.code == 0 and "--http 127.0.0.1:8123 --api-key-file k" in dry.out.splitlines()[0], "--dry-run shows the command lines", dry)
    result = longspan("serve", "--coordinator", "tcp://127.0.0.1:1")
    tap.check(result.code == 2 and "--http" in result.err, "--coordinator is told what to do instead", result)


def main():
    record = "--record" in sys.argv
    tap = Tap()
    with folder() as path:
        model = make_random(f"{path}/random.gguf", "tiny-96")
        retrieval = make_retrieval(f"{path}/retrieval.gguf")
        with Server(path, model, "--ctx", 40000, "--model-name", "random") as server:
            check_golden(tap, server, record)
            if record:
                return
            check_sampling(tap, server)
            check_origins(tap, server)
            check_cancel(tap, server)
        with Server(path, retrieval, "--attention-nodes", 2, "--stripe", 256, name="retrieval") as server:
            check_curl(tap, server)
            check_requests(tap, server)
        check_limits(tap, path, model)
        check_silence(tap, path, model)
        check_keys(tap, path, model)
        check_drain(tap, path, model)
        check_failures(tap, path, model)
    tap.finish()


main()
