#!/usr/bin/env python3
"""Malformed, oversized, slow and truncated requests: each gets a 4xx or a closed connection, and the server lives.

After every group a good request is answered as before. Also run by the sanitizer targets, where the server's exit status
says that nothing leaked.
"""
import json
import random
import resource
import socket
import sys
import threading
import time

from longspan_test import SLOW, Tap, folder, make_random, wait_until
from serving import Server, read_all

CROWD = 1500
GOOD = {"prompt": "ab", "max_tokens": 2, "temperature": 0}
LINE = b"POST /v1/completions HTTP/1.1\r\n"


def post(body, *headers, line=LINE, length=None):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [b"Host: x", b"Connection: close", b"Content-Length: %d" % (len(data) if length is None else length), *headers]
    return line + b"".join(h + b"\r\n" for h in head) + b"\r\n" + data


def with_field(**fields):
    return post({**GOOD, **fields})


def lines():
    """Request lines and headers that are none."""
    yield b"\x00" * 100
    yield b"\r\n" * 5000
    yield b"GET\r\n\r\n"
    yield b"GET /health\r\n\r\n"
    yield b"GET  /health  HTTP/1.1\r\n\r\n"
    yield b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n"
    for version in (b"0.9", b"2.0", b"3.0"):
        yield b"GET /health HTTP/" + version + b"\r\nHost: x\r\n\r\n"
    yield b"\r\n\r\nGET /health HTTP/9.9\nHost: x\r\n\r\n"
    yield b"\r\n" * 5000 + b"GET /" + b"a" * 30000 + b" HTTP/9.9\r\nHost: x\r\n\r\n"
    yield b"GET /health FTP/1.1\r\nHost: x\r\n\r\n"
    yield b"GET /health HTTP/1.1\r\n\r\n"  # no Host
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 200  # a TLS hello
    yield b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    yield b"A" * 100000
    yield b"A" * 40000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n"
    yield b"GET /nothing?" + b"a=b&" * 5000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    yield b"GET /%00%ff%zz%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    yield b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    yield b"GET http://other/v1/models/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    yield b"GET /nothing HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 10000 + b"\r\n"
    yield b"GET /nothing HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100000 + b"\r\n\r\n"
    yield b"GET /nothing HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n"
    yield b"GET /nothing HTTP/1.1\r\nHost: x\r\n folded: yes\r\nConnection: close\r\n\r\n"
    yield b"GET /nothing HTTP/1.1\r\nHost: x\r\nX: \x00\x01\x02\r\nConnection: close\r\n\r\n"
    yield b"GET /nothing HTTP/1.1\nHost: x\nConnection: close\n\n"
    for method in (b"PUT", b"DELETE", b"PATCH", b"TRACE", b"CONNECT", b"OPTIONS", b"GET", b"HEAD", b"BREW", b"post", b"\xff\xfe"):
        yield method + b" /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for path in (b"/v1", b"/v1/", b"/v1/completions/", b"/V1/COMPLETIONS", b"//v1/completions", b"/v1/chat", b"*", b"/v1/completions%00"):
        yield post(GOOD, line=b"POST " + path + b" HTTP/1.1\r\n")


def lengths():
    """Bodies that are not as long as they say."""
    for length in (b"-1", b"x", b"1e3", b"0x10", b"99999999999999999999999", b"18446744073709551615", b"4294967296", b"", b"1 2", b"+5"):
        yield LINE + b"Host: x\r\nConnection: close\r\nContent-Length: " + length + b"\r\n\r\n{}"
    yield LINE + b"Host: x\r\nConnection: close\r\n\r\n"
    yield LINE + b"Host: x\r\nConnection: close\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}    "
    chunked = LINE + b"Host: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    for body in (b"zz\r\n{}\r\n0\r\n\r\n", b"-1\r\n{}\r\n", b"ffffffffffffffffffff\r\n{}", b"2\r\n{}XX0\r\n\r\n", b"2;" + b"e" * 50000 + b"\r\n",
                 b"0\r\n\r\n", b"2\r\n{}\r\n0\r\n" + b"t: v\r\n" * 9000, b"\r\n\r\n"):
        yield chunked + body
    yield LINE + b"Host: x\r\nConnection: close\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    yield LINE + b"Host: x\r\nConnection: close\r\nTransfer-Encoding: bogus\r\n\r\n{}"
    yield LINE + b"Host: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    yield post(b"{" * 300000)  # more than --http-body
    yield post(b"{}", length=300000)


def bodies():
    """What is no JSON object, or none that we take."""
    good = json.dumps(GOOD).encode()
    for body in (b"", b" ", b"{", b"}", b"[]", b"null", b"5", b'"x"', b"{]", b"{'prompt': 'a'}", b'{"prompt": "a",}', b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00",
                 b'{"prompt": "\xff"}', b'{"prompt": "\xed\xa0\x80"}', b'{"prompt": "\\ud800"}', b'{"prompt": "a"} {"prompt": "b"}', b"\x00" * 1000,
                 b'{"prompt": "a\x00b"}', b'{"\\u0000": 1, "prompt": "a", "temperature": "x"}', b"[" * 100000, b'{"a":' * 30000 + b"1" + b"}" * 30000,
                 b'{"prompt": ' + b"9" * 10000 + b"}", b'{"prompt": "a", "seed": 99999999999999999999999}', b'{"prompt": "a", "temperature": 1e999}',
                 b'{"prompt": "a", "temperature": NaN}', b'{"prompt": "a", "temperature": -Infinity}', b'{"prompt": "' + b"\\" * 999, b"--\r\nmultipart",
                 b"prompt=a&max_tokens=5", b"<prompt>a</prompt>", b"%PDF-1.4", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", good[:-1], good[1:], good * 2):
        yield post(body)
        yield post(body, line=b"POST /v1/chat/completions HTTP/1.1\r\n")
    for end in range(1, len(good), 7):
        yield post(good[:end])


def fields():
    """Values that no field takes."""
    for value in (None, True, 5, -1.5, {}, [[]], [None], [1.5], [-1], [10**9], [2**40], ["a", 5], [[1], "a"], [[1], [None]], [[[1]]], [], [[]] * 3, ["a"] * 2000,
                  "x" * 100000, [1] * 60000, {"text": "a"}):
        yield with_field(prompt=value)
    for name in ("max_tokens", "n", "seed", "top_k", "logprobs", "best_of"):
        for value in ("5", 1.5, True, [], {}, 2**63 - 1 if name != "seed" else "x", -2**63 if name != "seed" else [1]):
            yield with_field(**{name: value})
    for name in ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"):
        for value in ("1", True, [], {}, 1e300, -1e300):
            yield with_field(**{name: value})
    for name in ("echo", "stream", "ignore_eos"):
        for value in ("true", 1, [], {}):
            yield with_field(**{name: value})
    for value in (5, True, {}, [5], [""], ["a", None], [[]], ["x"] * 100, "y" * 5000):
        yield with_field(stop=value)
    for value in (5, "x", [1], {"a": 1}, {"1": "x"}, {"-1": 1}, {"1e3": 1}, {"99999999999": 1}, {"1": 1e9}, {"": 1}, {str(i): 1 for i in range(5000)}):
        yield with_field(logit_bias=value)
    for value in (5, "json", [], {}, {"type": 5}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": 5}, {"type": "json_schema", "json_schema": {"schema": []}}):
        yield with_field(response_format=value)
    for value in (5, [], {"include_usage": "x"}):
        yield with_field(stream=True, stream_options=value)
    for value in (None, 5, "hi", [], {}, [5], [{}], [{"role": 5}], [{"role": "user", "content": 5}], [[]], [None], [{"content": "x"}]):
        yield post({"messages": value}, line=b"POST /v1/chat/completions HTTP/1.1\r\n")
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    for value in (5, {}, "x", [5], [None], [[]], [{}], [{"type": 5}], [{"type": "function"}], [{**tool, "function": []}], [{**tool, "function": {"name": 5}}],
                  [{**tool, "function": {"name": "f", "parameters": 5}}], [tool] * 5000 + [5]):
        yield post({"messages": [{"role": "user", "content": "a"}], "tools": value}, line=b"POST /v1/chat/completions HTTP/1.1\r\n")
    for value in (5, True, [], {}, "any", {"type": "function"}, {"type": "function", "function": {"name": "g"}}, {"function": {"name": 5}},
                  {"allowed_tools": 5}, {"allowed_tools": {}}, {"allowed_tools": {"mode": "auto", "tools": {}}},
                  {"allowed_tools": {"mode": "auto", "tools": [5]}}, {"allowed_tools": {"mode": "required", "tools": [tool] * 5000}}):
        yield post({"messages": [{"role": "user", "content": "a"}], "tools": [tool], "tool_choice": value}, line=b"POST /v1/chat/completions HTTP/1.1\r\n")
    for schema in ({"$ref": "#"}, {"$ref": "#/$defs/x"}, {"$ref": "x" * 5000}, {"contains": {}}, {"a": [[[[{"$ref": 5}]]]], "type": 7}):
        yield post({"messages": [{"role": "user", "content": "a"}], "tool_choice": "required", "tools": [{**tool, "function": {"name": "f", "parameters": schema}}]},
                   line=b"POST /v1/chat/completions HTTP/1.1\r\n")
    for name in (b"x", b"%", b"%00", b"%2", b"%zz", b"../models", b"x" * 5000, b"%ff%fe", b"\xff"):
        yield b"GET /v1/models/" + name + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for path in (b"/tokenize", b"/detokenize"):
        for body in ({}, {"prompt": 5}, {"tokens": 5}, {"tokens": ["x"]}, {"tokens": [-1]}, {"tokens": [10**9]}, {"tokens": [2**40]}, {"prompt": None},
                     {"messages": 5, "tokens": 5}, {"messages": [], "tokens": 5}):
            yield post(body, line=b"POST " + path + b" HTTP/1.1\r\n")


def noise():
    generator = random.Random(7)
    good = post(GOOD)
    for _ in range(150):  # a good request with bytes changed, lost or doubled in its head
        data = bytearray(good)
        for _ in range(generator.randrange(1, 8)):
            place = generator.randrange(len(data))
            action = generator.randrange(3)
            if action == 0:
                data[place] = generator.randrange(256)
            elif action == 1:
                del data[place:place + generator.randrange(1, 10)]
            else:
                data[place:place] = data[place:place + generator.randrange(1, 40)]
        yield bytes(data)
    for _ in range(30):
        yield generator.randbytes(generator.randrange(1, 3000))


def send(server, data):
    """What comes back when nothing more is sent. A peer that waits for more is cut by --http-idle."""
    with server.connect(timeout=15) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR) if data[:5] == b"close" else None
        except OSError:
            pass
        return read_all(connection)


def is_refused(said):
    return said == b"" or said.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))


def run_group(tap, server, name, requests, may_succeed=False):
    """Many at once: most only wait for the server to see that nothing more comes."""
    requests = list(requests)
    said = [None] * len(requests)
    turn = iter(range(len(requests)))
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                i = next(turn, None)
            if i is None:
                return
            said[i] = send(server, requests[i])
    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bad = [(r[:300], s[:300]) for r, s in zip(requests, said) if not (is_refused(s) or may_succeed and s.startswith(b"HTTP/1.1 2"))]
    tap.check(not bad, f"{len(requests)} {name}: a 4xx or a closed connection", "\n".join(map(str, bad[:8])))
    check_alive(tap, server, name)
    return len(requests)


def check_alive(tap, server, name):
    reply = server.post("/v1/completions", GOOD)
    tap.check(reply.status == 200 and server.process.poll() is None, f"after {name} a good request is answered", f"{reply}\n{server.log()[-1500:]}")


def check_slow(tap, server):
    """Nothing, a part, a drip: whoever does not finish is cut in bounded time (--http-idle 1, --http-read 4)."""
    full = post(GOOD)
    starts = [b"", b"P", LINE, LINE + b"Host: x\r\n", full[:full.index(b"{")], full[:-1], LINE + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"]
    connections = [(server.connect(), start) for start in starts for _ in range(5)]
    began = time.monotonic()
    for connection, start in connections:
        connection.sendall(start)
    drip = server.connect()
    cut_after = None
    for i in range(200):
        try:
            drip.sendall(full[i:i + 1] if i < 40 else b"a")
            drip.settimeout(0.1)
            if drip.recv(100) in (b"",):
                raise ConnectionError
        except TimeoutError:
            continue
        except OSError:
            cut_after = time.monotonic() - began
            break
    tap.check(cut_after is not None and cut_after < 8 * SLOW, "who drips byte by byte is cut", cut_after)
    ended = [is_refused(read_all(c)) for c, _ in connections]
    tap.check(all(ended) and time.monotonic() - began < 20 * SLOW, f"{len(connections)} that stop half-way are cut", ended)
    for connection, _ in connections:
        connection.close()
    drip.close()
    check_alive(tap, server, "slow ones")
    return len(connections) + 1


def check_readers(tap, server):
    """A client that asks for much and never reads is given up; one that leaves at once too."""
    data = post({**GOOD, "max_tokens": 3000, "n": 8, "stream": True, "ignore_eos": True, "logprobs": 20})
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    deaf.connect(("127.0.0.1", server.port))
    deaf.sendall(data)
    began = wait_until(lambda: server.running() == 1, 20 * SLOW)
    tap.check(began and wait_until(lambda: server.running() == 0, 40 * SLOW) and ") fails: cancelled" in server.log(),
              "who does not read is given up", server.log()[-1500:])
    for i in range(30):
        with server.connect() as connection:
            connection.sendall(data)
            if i % 3 == 0:
                connection.recv(1)
    seen = wait_until(lambda: server.log().count(" POST /v1/completions ") == 31, 20 * SLOW)
    tap.check(seen and wait_until(lambda: server.running() == 0, 20 * SLOW), "who leaves is forgotten", server.log()[-1500:])
    deaf.close()
    check_alive(tap, server, "deaf ones")
    return 31


def check_crowd(tap, server):
    """More connections than the server takes, half of a request on each: the others wait, and the server outlives them."""
    part, crowd = LINE + b"Host: x\r\nContent-Length: 100\r\n\r\n{", []
    for _ in range(CROWD):
        guest = socket.socket()
        guest.setblocking(False)
        guest.connect_ex(("127.0.0.1", server.port))  # in part no further than the kernel's queue, or not even that
        crowd.append(guest)
    sent = set()

    def has_sent():
        for guest in crowd:
            if guest not in sent:
                try:
                    guest.send(part)
                    sent.add(guest)
                except BlockingIOError:
                    pass  # not yet connected
                except OSError:
                    sent.add(guest)  # cut off
        return len(sent) >= CROWD // 2

    tap.check(wait_until(has_sent, 20 * SLOW), f"{CROWD} connections at once", len(sent))
    for guest in crowd:
        guest.close()
    check_alive(tap, server, "a crowd")


def main():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most == resource.RLIM_INFINITY or most > 2 * CROWD:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2 * CROWD, most))  # the crowd's and ours
    tap = Tap()
    with folder() as path:
        model = make_random(f"{path}/random.gguf", "tiny")
        with Server(path, model, "--ctx", 4096, "--http-body", "256KiB", "--http-idle", 1, "--http-read", 4, "--threads", 1, "--chat-template", "chatml") as server:
            n = run_group(tap, server, "request lines and headers", lines())
            n += run_group(tap, server, "lengths", lengths())
            n += run_group(tap, server, "bodies", bodies())
            n += run_group(tap, server, "fields", fields())
            n += run_group(tap, server, "changed bytes", noise(), may_succeed=True)
            n += check_slow(tap, server)
            tap.check(n >= 200, f"{n} hostile requests")
            code = server.stop()
            tap.check(code == 0 and "Sanitizer" not in server.log() and "runtime error" not in server.log(), "it ends with 0, and without a report",
                      f"{code}\n{server.log()[-6000:]}")
        with Server(path, model, "--ctx", 4096, "--http-idle", 5, "--threads", 1, name="deaf") as server:
            check_readers(tap, server)
            check_crowd(tap, server)
            code = server.stop()
            tap.check(code == 0 and "Sanitizer" not in server.log() and "runtime error" not in server.log(), "it ends with 0 too",
                      f"{code}\n{server.log()[-6000:]}")
    tap.finish()


main()
