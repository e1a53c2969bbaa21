#!/usr/bin/env python3
"""`longspan chat`: it says what the API's chats say of the same messages, keeps what was read, and at a terminal Ctrl-C stops an
answer and not the conversation."""
import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

from longspan_test import SLOW, Tap, descendants, folder, longspan, make_retrieval, program, wait_until, write_text
from serving import Server

SMALL = ("--threads", 1, "--kv-memory", "64MiB", "--temp", 0)


class Terminal:
    """A context manager: `longspan chat` at a terminal, as a person has it."""

    def __init__(self, *words, err=None):
        self.end, inner = pty.openpty()
        self.said = ""
        # setsid --ctty: so that Ctrl-C is the terminal's, and goes to who is in front.
        self.process = subprocess.Popen([str(w) for w in ("setsid", "--ctty", "--wait", program("longspan"), "chat", *words)],
                                        stdin=inner, stdout=inner, stderr=inner if err is None else err)
        os.close(inner)

    def type(self, text):
        self.said = ""
        os.write(self.end, text.encode())

    def sees(self, pattern):
        """Reads until it is there, on what was said since something was typed."""
        deadline = time.monotonic() + 60 * SLOW
        while not re.search(pattern, self.said, re.DOTALL):
            ready, _, _ = select.select([self.end], [], [], max(0, deadline - time.monotonic()))
            try:
                data = os.read(self.end, 65536) if ready else b""
            except OSError:  # nobody has the other end
                data = b""
            if not data:
                return False
            self.said += data.decode("utf-8", "replace")
        return True

    def ended(self):
        self.sees("(?!)")
        return self.process.wait(timeout=60 * SLOW)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.end)


def check_answers(tap, path, model):
    """Of the model that goes on with what followed the last bytes before, so that each answer shows all that came before it."""
    text = write_text(f"{path}/text", 3000, 1)
    with open(text, encoding="ascii") as file:
        asked = [file.read() + "\n\nOnce upon a time there was a", "and \nthen there was a", "there was"]
    messages, answers = [{"role": "system", "content": "Be brief."}], []
    with Server(path, model, "--threads", 1, "--kv-memory", "64MiB") as server:
        for question in asked:
            messages.append({"role": "user", "content": question})
            reply = server.post("/v1/chat/completions", {"messages": messages, "max_tokens": 24, "temperature": 0})
            answers.append(reply.json()["choices"][0]["message"]["content"])
            messages.append({"role": "assistant", "content": answers[-1]})
    typed = "Once upon a time there was a\n\nand \\\nthen there was a\n \nthere was"
    words = ("-m", model, *SMALL, "-n", 24, "--system", "Be brief.", "-f", text)
    told = longspan("chat", *words, stdin=typed)
    shown = [answer if answer.endswith("\n") else answer + "\n" for answer in answers]
    tap.check(told.code == 0 and told.out == "".join(shown), "the API's answers to the same messages", f"{told}\n{shown}")
    found = [int(n) for n in re.findall(r"(\d+) of them found in the KV cache", told.err)]
    tap.check(len(found) == 3 and found[0] == 0 and min(found[1:]) >= 2560, "what was read is not read again", told)
    again = longspan("chat", *words, "-q", stdin="Once upon a time there was a\r\n/clear\r\nOnce upon a time there was a\n")
    tap.check(again.code == 0 and again.out == 2 * shown[0], "/clear begins a new conversation, with the same files, also with CR LF", again)
    tap.check(again.err == "", "-q says nothing else", again)
    read = [int(re.search(r"read (\d+) tokens", longspan("chat", "-m", model, *SMALL, "-n", 1, stdin=typed).err)[1])
            for typed in ("there was", "there\0was a time", "there was a time")]
    tap.check(read[0] < read[1] == read[2], "what is behind a NUL is read too", read)


def check_refusals(tap, path, model):
    bare = f"{path}/bare.gguf"
    latin = f"{path}/latin"
    with open(latin, "wb") as out:
        out.write(b"a caf\xe9")
    with open(model, "rb") as file, open(bare, "wb") as out:
        out.write(file.read().replace(b"tokenizer.chat_template", b"tokenizer.chat_templatX"))
    for name, words, typed, said in (
            ("a model without a template", ("-m", bare), "x\n", "chat template"),
            ("a message that is not UTF-8", ("-m", model, *SMALL), b"caf\xe9\n", "the message is not UTF-8 at byte 3 (0xe9)"),
            ("a file that is not UTF-8, before anything starts", ("-m", "nowhere.gguf", "-f", latin), "", "latin is not UTF-8 at byte 5"),
            ("--system that is not UTF-8, likewise", ("-m", "nowhere.gguf", "--system", os.fsdecode(b"\xff")), "", "--system is not UTF-8"),
            ("a conversation that is too long", ("-m", model, *SMALL, "--ctx", 300), "word " * 90, "300"),
            ("a cluster that runs", ("--coordinator", "tcp://127.0.0.1:9"), "", "its page"),
            ("messages and a file from one input", ("-m", model, "-f", "-"), "x\n", "-f -"),
            ("a file that is not there", ("-m", model, "-f", "nowhere"), "x\n", "nowhere")):
        refused = longspan("chat", *words, stdin=typed)
        tap.check(refused.code == 2 and said in refused.err and refused.out == "", f"{name}: exit code 2", refused)


def check_terminal(tap, path, model):
    with Terminal("-m", model, *SMALL, "--ctx", 20000) as terminal:
        tap.check(terminal.sees("Ctrl-D ends.*> $"), "at a terminal it says what to type", terminal.said)
        terminal.type("Once upon a time there was a\n")
        tap.check(terminal.sees("a time there was a time"), "and answers", terminal.said)
        terminal.type("\x03")
        tap.check(terminal.sees("> $") and terminal.process.poll() is None, "Ctrl-C stops the answer alone", terminal.said)
        terminal.type("word " * 700 + "\\\n" + "word " * 700 + "\\\n" + "word " * 700 + "\\\n" + "word " * 700 + "\\\n" +
                      "word " * 700 + "\\\n" + "word " * 700 + "\n")
        tap.check(terminal.sees("20000.*/clear begins a new conversation.*> $"), "what is too long is refused, and no more", terminal.said[-500:])
        terminal.type("/clear\n")
        tap.check(terminal.sees("> $"), "a new conversation", terminal.said)
        terminal.type("there was a time that was a\n")
        tap.check(terminal.sees("time that was a time"), "has its answers too", terminal.said)
        terminal.type("\x03")
        tap.check(terminal.sees("> $"), "which stop", terminal.said)
        terminal.type("\x04")
        tap.check(terminal.ended() == 0, "Ctrl-D ends it", terminal.said)
    with Terminal("-m", model, *SMALL) as terminal:
        terminal.sees("> $")
        terminal.type("\x03")
        tap.check(terminal.ended() == 128 + signal.SIGINT, "Ctrl-C ends it where nothing is answered", terminal.said)
    check_late_interrupt(tap, model)


def read_to_prompt(pipe):
    said = b""
    while not said.endswith(b"> "):
        piece = os.read(pipe, 65536)
        said += piece
        if not piece:
            break
    return said.strip(b"\0").decode()


def check_late_interrupt(tap, model):
    """What is said after an answer waits in a full pipe while Ctrl-C comes."""
    reads, writes = os.pipe()
    with Terminal("-m", model, *SMALL, "-n", 8, err=writes) as terminal:
        os.close(writes)
        read_to_prompt(reads)
        with open(f"/proc/self/fd/{reads}", "wb", 0) as filler:
            os.set_blocking(filler.fileno(), False)
            for piece in (65536, 1):
                while filler.write(bytes(piece)):
                    pass
            terminal.type("there was a time that was a\n")
            tap.check(terminal.sees("time that was a\r\n[^\n]+\n$"), "an answer has ended", terminal.said)
            terminal.type("\x03")
            terminal.sees(r"\^C")
        said = read_to_prompt(reads)
        terminal.type("\x04")
        tap.check(terminal.ended() == 0, "Ctrl-C between an answer and the next message ends nothing", said)
    os.close(reads)


def check_unread(tap, model):
    """As in front of a pager that nobody turns."""
    process = subprocess.Popen([program("longspan"), "chat", "-m", model, *(str(word) for word in SMALL)],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    process.stdin.write(b"Once upon a time there was a\n")
    process.stdin.flush()
    with open(f"/proc/self/fd/{process.stdout.fileno()}", "wb", 0) as full:
        filled = wait_until(lambda: not select.select([], [full], [], 0)[1], 60)
        os.set_blocking(full.fileno(), False)
        while full.write(b" "):  # what little a page of a full pipe still takes
            pass
        process.send_signal(signal.SIGINT)
        ended = wait_until(lambda: process.poll() is not None, 30)
    if not ended:
        process.kill()
    _, said = process.communicate()
    tap.check(filled and process.returncode == 128 + signal.SIGINT, "a signal ends an answer that nobody reads", said)


def check_ends(tap, model):
    with Terminal("-m", model, *SMALL, "--ctx", 300) as terminal:
        terminal.sees("> $")
        terminal.type("word " * 90 + "\n")
        tap.check(terminal.sees("300.*> $") and "/clear" not in terminal.said, "where no message is before it, /clear is no remedy",
                  terminal.said)
        terminal.type("\x04")
        tap.check(terminal.ended() == 0, "and the conversation goes on to its end", terminal.said)
    with Terminal("-m", model, "--threads", 1, "--kv-memory", "1KiB") as terminal:
        terminal.sees("> $")
        terminal.type("word\n")
        tap.check(terminal.ended() == 2 and terminal.said.count("--kv-memory") == 1 and "> " not in terminal.said,
                  "a cluster that cannot start ends it", terminal.said)
    with Terminal("-m", model, *SMALL, "-n", 8) as terminal:
        terminal.sees("> $")
        terminal.type("word\n")
        terminal.sees("> $")
        terminal.type("half a li")
        terminal.sees("half a li$")
        for pid, name in descendants(terminal.process.pid).items():
            if name == "worker":
                os.kill(pid, signal.SIGKILL)
        tap.check(terminal.ended() == 4 and re.search(r"half a li\r\n.*error: .*\)\r\n$", terminal.said, re.DOTALL),
                  "a process that dies ends it, on a line of its own", terminal.said)


def main():
    tap = Tap()
    with folder() as path:
        model = make_retrieval(f"{path}/model.gguf")
        check_answers(tap, path, model)
        check_refusals(tap, path, model)
        check_terminal(tap, path, model)
        check_ends(tap, model)
        check_unread(tap, model)
    tap.finish()


if __name__ == "__main__":
    sys.exit(main())
