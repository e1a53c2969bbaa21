"""serving.py - `longspan serve` for tests: started on a free port, asked over HTTP or a bare socket, and stopped.

Standard library only. What a client sees is a Reply; an event stream is its list of `data:` payloads.
"""
import http.client
import json
import re
import signal
import socket
import subprocess
import time

from longspan_test import OWN_GROUP, SLOW, program, wait_until


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, {k.lower(): v for k, v in headers}, body

    def json(self):
        return json.loads(self.body)

    def events(self):
        """The payloads of an event stream, the JSON ones as objects."""
        found = []
        for block in self.body.decode().split("\n\n"):
            if block and not block.startswith(":"):  # a comment
                assert block.startswith("data: ") and "\n" not in block, repr(block)
                text = block[len("data: "):]
                found.append(text if text == "[DONE]" else json.loads(text))
        return found

    def __str__(self):
        return f"{self.status} {self.headers} {self.body[:2000]!r}"


class Server:
    """A context manager; `options` are words of `longspan serve`, `before` those of a command that becomes it."""

    def __init__(self, path, model, *options, name="serve", ready=True, before=()):
        self.log_path = f"{path}/{name}.log"
        command = [*before, program("longspan"), "serve", "-m", model, "--port", "0", *options]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            **OWN_GROUP)
        self.port = None
        if not wait_until(self.find_port, 30 * SLOW):
            self.fail(f"{' '.join(map(str, command))} does not listen")
        if ready and not wait_until(lambda: self.get("/health").status == 200, 60 * SLOW):
            self.fail("not ready")

    def fail(self, why):
        self.__exit__()
        raise RuntimeError(f"{why}:\n{self.log()}")

    def find_port(self):
        found = re.search(r"http: listening at http://\S+:(\d+),", self.log())
        self.port = int(found.group(1)) if found else None
        return found

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def state(self):
        """For the message of a test whose server is gone."""
        return f"exit status {self.process.poll()}:\n{self.log()[-3000:]}"

    def url(self, path=""):
        return f"http://127.0.0.1:{self.port}{path}"

    def ask(self, method, path, body=None, headers=None, timeout=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOW)
        try:
            data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
            connection.request(method, path, data, headers or {})
            reply = connection.getresponse()
            return Reply(reply.status, reply.getheaders(), reply.read())
        except ConnectionRefusedError as error:
            raise ConnectionRefusedError(f"nobody listens any more; {self.state()}") from error
        finally:
            connection.close()

    def get(self, path, **options):
        return self.ask("GET", path, **options)

    def post(self, path, body, **options):
        return self.ask("POST", path, body, **options)

    def connect(self, timeout=20):
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout * SLOW)

    def raw(self, data, timeout=20):
        """Everything that comes back on a connection that sent these bytes and waits; b"" if it was cut."""
        with self.connect(timeout) as connection:
            try:
                connection.sendall(data)
                return read_all(connection)
            except (ConnectionError, BrokenPipeError):
                return b""

    def running(self):
        """Requests that have begun and not ended, by the coordinator's log."""
        log, name = self.log(), r"coordinator: (?:warning: )?request \d+(?: \(\S+\))?"
        return len(re.findall(name + r": \d+ prompt", log)) - len(re.findall(name + " (?:done|fails|is cancelled)", log))

    def stop(self, number=signal.SIGTERM, timeout=30):
        """The exit status after the signal; 'hang' where there is none in time."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            return "hang"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.stop() == "hang":
            self.process.kill()
            self.process.wait()
            time.sleep(0.1)


def read_all(connection):
    parts = []
    while True:
        try:
            part = connection.recv(65536)
        except (ConnectionError, TimeoutError):
            break
        if not part:
            break
        parts.append(part)
    return b"".join(parts)


def text_of(reply):
    return reply.json()["choices"][0]["text"]
