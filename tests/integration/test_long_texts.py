#!/usr/bin/env python3
"""A very long text keeps nobody waiting while it is received, read and tokenized; who sends one may go; memory has a bound.

The texts do not fit into the context: all that takes long is done, and then they are refused.
"""
import json
import re
import select
import threading

from longspan_test import SLOW, Tap, folder, longspan, make_random, wait_until, write_text
from serving import Server

LONG = 8 << 20   # bytes, which are tokens: a second or so
PART = 1 << 15
N_ASKED = 12     # each of the server's threads has some


def send(server, path, body):
    """The connection of a request that is not answered yet."""
    data = json.dumps(body).encode()
    connection = server.connect(120)
    connection.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(data)))
    threading.Thread(target=lambda: push(connection, data), daemon=True).start()
    return connection


def push(connection, data):
    try:
        connection.sendall(data)
    except OSError:
        pass  # it was refused, or hung up


def is_answered(connection):
    return bool(select.select([connection], [], [], 0)[0])


def answer(connection):
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    connection.close()
    return b"".join(parts).decode()


def held(server):
    return int(re.search(r"^longspan_http_body_bytes (\d+)", server.get("/metrics").body.decode(), re.M).group(1))


def stream_of(server):
    body = json.dumps({"prompt": "a", "max_tokens": 100000, "ignore_eos": True, "stream": True}).encode()
    connection = server.connect(60)
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    return connection


def tokens_come(stream, n):
    """That many more tokens."""
    found = 0
    while found < n:
        part = stream.recv(65536)
        if not part:
            return False
        found += part.count(b"data: {")
    return True


def arrive(server, long):
    """Once all of it is there; or it has been answered, on a machine that is quicker than this test."""
    wait_until(lambda: is_answered(long) or held(server) >= LONG - (1 << 16), 60 * SLOW)


def beside_once(server, stream, path, body):
    """(whether others were served before it was answered, what was wrong with any of the answers)"""
    long = send(server, path, body)
    arrive(server, long)
    good = all(server.get("/health").status == 200 for _ in range(N_ASKED))
    short = server.post("/v1/completions", {"prompt": "ab", "max_tokens": 2, "temperature": 0})
    good = good and short.status == 200 and tokens_come(stream, 10)
    early = is_answered(long)
    said = answer(long)
    right = '"count":' in said if path == "/tokenize" else "context_length_exceeded" in said
    return not early, "" if good and right else f"{good} {said[:500]}\n{server.log()[-1000:]}"


def beside(tap, server, stream, text):
    """One time of ten suffices: where a thread reads it that has others too, or the loop, they never come first."""
    for path, body in (("/v1/completions", {"prompt": text}), ("/v1/chat/completions", {"messages": [{"role": "user", "content": text}]}),
                       ("/tokenize", {"prompt": text})):
        for _ in range(10):
            first, wrong = beside_once(server, stream, path, body)
            if first or wrong:
                break
        tap.check(first and not wrong, f"{path}: others are served before a long text is read", f"{first} {wrong}")
    tap.check(wait_until(lambda: held(server) == 0, 20 * SLOW), "and nothing is held behind it", held(server))


def leaving(tap, server, text):
    for _ in range(4):
        send(server, "/v1/completions", {"prompt": text[:LONG // 8]}).close()
    long = send(server, "/v1/completions", {"prompt": text})
    arrive(server, long)
    long.close()
    tap.check(wait_until(lambda: held(server) == 0, 30 * SLOW) and server.get("/health").status == 200, "who leaves is read no further", server.log()[-1000:])


def bounded(tap, server, text):
    connections = [send(server, "/v1/completions", {"prompt": text}) for _ in range(3)]
    said = [answer(c) for c in connections]
    refused = [s for s in said if s.startswith("HTTP/1.1 503")]
    others = [s for s in said if s.startswith("HTTP/1.1 400") and "context_length_exceeded" in s]
    tap.check(refused and others and len(refused) + len(others) == 3 and all("--http-bodies" in s and "Retry-After" in s for s in refused),
              "more than all may have together is refused, the rest is read", [s[:400] for s in said])
    reply = server.post("/v1/completions", {"prompt": "ab", "max_tokens": 2})
    tap.check(reply.status == 200 and wait_until(lambda: held(server) == 0, 20 * SLOW), "and afterwards there is room", reply)


def by_hand(tap, server, stream, path, text):
    """`longspan run -f`: by the socket of the coordinator."""
    address = re.search(r"listening at (ipc:\S+)", server.log()).group(1)
    file, results = f"{path}/long", []
    with open(file, "w", encoding="ascii") as out:
        out.write(text)
    thread = threading.Thread(target=lambda: results.append(longspan("run", "--coordinator", address, "-f", file, "-n", 1, timeout=300)))
    thread.start()
    going = tokens_come(stream, 10)
    thread.join()
    tap.check(going and results[0].code == 2 and "the context has" in results[0].err, "a file of megabytes is refused by its length", results[0])


def ending(tap, server, text):
    long = send(server, "/v1/completions", {"prompt": text})
    arrive(server, long)
    code = server.stop()
    tap.check(code == 0, "a server that is told to stop reads what it has, and ends", f"{code}\n{server.log()[-2000:]}")
    tap.check("context_length_exceeded" in answer(long), "and answers it")


def main():
    tap = Tap()
    with folder() as path:
        model = make_random(f"{path}/random.gguf", "tiny")
        with open(write_text(f"{path}/part", PART, 1), encoding="ascii") as file:
            text = file.read() * (LONG // PART)
        with Server(path, model, "--ctx", 1 << 17, "--threads", 1, "--chat-template", "chatml", "--http-bodies", f"{5 * LONG // 2}",
                    name="long") as server:
            with stream_of(server) as stream:
                beside(tap, server, stream, text)
                by_hand(tap, server, stream, path, text)
            leaving(tap, server, text)
            bounded(tap, server, text)
            ending(tap, server, text)
    tap.finish()


if __name__ == "__main__":
    main()
