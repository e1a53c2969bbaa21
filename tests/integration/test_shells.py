#!/usr/bin/env python3
"""What shells and `man` know of the programs: completion scripts and manual pages say what --help says, and
`make install` puts them where they are looked for."""
import os
import pty
import re
import shutil
import signal
import subprocess
import threading

from longspan_test import BIN, ROOT, Tap, call, folder, longspan, program, wait_until

SHELLS = {"bash": "share/bash-completion/completions/longspan", "zsh": "share/zsh/site-functions/_longspan",
          "fish": "share/fish/vendor_completions.d/longspan.fish"}


def commands(*words):
    """All command lines that have a --help, each without `longspan`."""
    found = [words]
    for name in longspan(*words, "--help=commands").out.split():
        found += commands(*words, name)
    return found


def options_of(text):
    return re.findall(r"^(?:  -., |      )--([a-z0-9-]+)", text, re.MULTILINE)


def complete(script, path, *words):
    """What bash, also one that refuses unset variables, proposes for the last of these words; it takes = and : out of them."""
    code = ('set -u; source "$0"; COMP_WORDS=(longspan "$@") COMP_CWORD=$# word=${!#}; '
            '_longspan longspan "${word#[=:]}" "${COMP_WORDS[COMP_CWORD - 1]}"; printf "%s\\n" "${COMPREPLY[@]-}"')
    done = subprocess.run(["bash", "--norc", "-c", code, script, *words], cwd=path, capture_output=True, timeout=60, text=True)
    return done.stdout.split() if done.returncode == 0 and not done.stderr else [done.stderr]


def test_bash(tap, script, path):
    for name in ("model.gguf", "with space", "notes.txt"):
        open(f"{path}/{name}", "w").close()
    os.mkdir(f"{path}/models")
    for words, wanted in ((("ru",), ["run"]),
                          (("model", "in"), ["inspect"]),
                          (("model", "make-"), ["make-retrieval", "make-random", "make-haystack"]),
                          (("bench", "s"), ["serve"]),
                          (("bench", "serve", "--lengths", ""), ["exponential", "uniform", "fixed"]),
                          (("help", "model", "insp"), ["inspect"]),
                          (("completion", ""), ["bash", "zsh", "fish"]),
                          (("run", "--kv-"), ["--kv-type", "--kv-memory", "--kv-store", "--kv-store-bytes"]),
                          (("run", "-m", "model", "--kv-type", ""), ["f16", "bf16", "q8_0", "f32"]),
                          (("run", "--kv-type", "=", "q"), ["q8_0"]),
                          (("run", "--prefix-cache", "="), ["on", "off"]),
                          (("run", "--kernels", "bf"), ["bf16"]),
                          (("run", "--device", "cu"), ["cuda"]),
                          (("run", "--device", "cuda", ":"), []),
                          (("run", "--device", "cuda", ":", "1"), []),
                          (("run", "-m", "nothing"), []),
                          (("run", "--pin", "--kv-t"), []),  # a value of --pin
                          (("run", "-p", "model", "in"), []),  # `model` is no command here
                          (("run", "-n", ""), []),
                          (("run", "-m", "mod"), ["model.gguf", "models"]),
                          (("run", "--kv-store", "mod"), ["models"]),
                          (("model", "inspect", "not"), ["notes.txt"]),
                          (("model", "inspect", "--js"), ["--json"]),
                          (("status", "--coord"), ["--coordinator"])):
        found = complete(script, path, *words)
        tap.check(sorted(found) == sorted(wanted), f"bash: longspan {' '.join(words)}", f"{found}, not {wanted}")
    for words in commands():
        listed = options_of(longspan(*words, "--help").out)
        found = complete(script, path, *words, "--")
        tap.check(listed and found == [f"--{name}" for name in listed], f"bash: all options of longspan {' '.join(words)}",
                  f"{found}, not {listed}")


ZSHRC = """
autoload -U compinit; compinit -u -D; source $ZDOTDIR/script.zsh
complete_and_tell() { zle complete-word; print -r -- "$BUFFER" >>$ZDOTDIR/told; BUFFER='' }
zle -N complete_and_tell; bindkey '^I' complete_and_tell
zle-line-init() { print ready >>$ZDOTDIR/told }
zle -N zle-line-init
"""


def test_zsh(tap, path):
    """A zsh in a terminal, where nothing but its line editor calls completion functions."""
    with open(f"{path}/.zshrc", "w", encoding="utf-8") as file:
        file.write(ZSHRC)
    for name in ("told", "model.gguf"):
        open(f"{path}/{name}", "w").close()

    def told():
        return open(f"{path}/told", encoding="utf-8").read().splitlines()

    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(path)
        os.execvpe("zsh", ["zsh", "-d", "-i"], {**os.environ, "ZDOTDIR": path, "TERM": "dumb", "LC_ALL": "C"})
    threading.Thread(target=drain, args=(terminal,), daemon=True).start()
    wait_until(lambda: told() == ["ready"], 60)
    for line, wanted in (("longspan keyg", "longspan keygen "), ("longspan model in", "longspan model inspect "),
                         ("longspan help bench ser", "longspan help bench serve "), ("longspan run --kv-type=q", "longspan run --kv-type=q8_0 "),
                         ("longspan bench -m x ser", "longspan bench -m x ser"),  # a command comes first
                         ("longspan run -m mod", "longspan run -m model.gguf "), ("longspan run -p mod", "longspan run -p mod"),
                         ("longspan model inspect mod", "longspan model inspect model.gguf "), ("longspan bench serve --le", "longspan bench serve --lengths=")):
        n = len(told())
        os.write(terminal, f"{line}\t".encode())
        wait_until(lambda: len(told()) > n, 60)
        if not tap.check(told()[n:] == [wanted], f"zsh: {line}", f"{told()}, not {wanted}"):
            break
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(terminal)


def drain(terminal):
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass


def test_scripts(tap, path):
    for shell in SHELLS:
        script = f"{path}/script.{shell}"
        printed = longspan("completion", shell)
        with open(script, "w", encoding="utf-8") as file:
            file.write(printed.out)
        tap.check(printed.code == 0 and printed.out and not printed.err, f"a script for {shell} is printed", printed)
        if shutil.which(shell) is None:
            tap.skip(f"{shell} understands its script", f"{shell} is not installed")
            continue
        checked = call(shell, "-n", script, timeout=60)
        if tap.check(checked.code == 0 and not checked.err, f"{shell} understands its script", checked) and shell == "bash":
            test_bash(tap, script, path)
    if shutil.which("fish") is None:
        tap.skip("fish: commands, sub-commands, words of an option", "fish is not installed")
    else:
        for line, wanted in (("longspan keyg", ["keygen"]), ("longspan model in", ["inspect"]),
                             ("longspan run --kv-type q", ["q8_0"]), ("longspan help bench ser", ["serve"])):
            done = call("fish", "--no-config", "-c", f"source {path}/script.fish; complete -C '{line}'", timeout=60)
            found = [reply.split("\t")[0] for reply in done.out.splitlines()]
            tap.check(found == wanted, f"fish: {line}", done)
    if shutil.which("zsh") is None:
        tap.skip("zsh: commands, sub-commands, words of an option, files", "zsh is not installed")
    else:
        with folder() as place:
            shutil.copy(f"{path}/script.zsh", place)
            test_zsh(tap, place)
    wrong = longspan("completion", "tcsh")
    tap.check(wrong.code == 2 and "bash|zsh|fish" in wrong.err, "another shell is refused", wrong)


SECTIONS = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"]


def test_manual(tap, path):
    """Pages in `path`, of all that have a --help."""
    programs = {"-".join(("longspan",) + words): (program("longspan"), *words) for words in commands()}
    programs |= {f"longspan-{role}": (program(role),) for role in ("coordinator", "worker", "attention_node")}
    tap.check(sorted(os.listdir(path)) == sorted(f"{name}.1" for name in programs), "a page for each command and role", os.listdir(path))
    for name, words in programs.items():
        page = open(f"{path}/{name}.1", encoding="utf-8").read()
        told = call(*words, "--help").out
        wanted = SECTIONS + ["EXAMPLES"] * ("\nExamples:\n" in told)
        wanted += ["ENVIRONMENT"] * (words[1:2] in (("run",), ("chat",), ("serve",), ("plan",)) or name.endswith(("longspan", "worker", "_node")))
        lacking = [section for section in wanted if f"\n.SH {section}\n" not in page]
        plain = re.sub(r"\\f[BIR]", "", page).replace("\\-", "-")
        lacking += [option for option in options_of(told) if not re.search(rf"^(-., )?--{option}( |$)", plain, re.MULTILINE)]
        lacking += re.findall(r"^\.B .*[^\\]-.*$", page, re.MULTILINE)  # typeset, no hyphen that shells know
        lacking += [other for other in re.findall(r"^\.BR (\S+) \(1\)", plain, re.MULTILINE) if other not in programs]
        for command, known in (("mandoc", ["-Tlint"]), ("man", ["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])):
            if shutil.which(command) is not None:
                checked = call(command, *known, f"{path}/{name}.1", timeout=60, env={"LC_ALL": "C.UTF-8"})
                lacking += [f"{command}: {checked.err}{'' if command == 'man' else checked.out}"] * (
                    checked.code != 0 or checked.err != "" or (command == "mandoc" and checked.out != ""))
        tap.check(not lacking, f"man {name} says what --help says", lacking)
    documented = open(f"{ROOT}/docs/operations.md", encoding="utf-8").read()
    page = open(f"{path}/longspan.1", encoding="utf-8").read()
    variables = re.findall(r"^\.B (\w+)$", page.split(".SH ENVIRONMENT")[1].split(".SH")[0], re.MULTILINE)
    listed = re.findall(r"^\| `([A-Z_]+)` \|", documented, re.MULTILINE)
    tap.check(variables and variables == listed, "docs/operations.md lists the same environment variables", f"{variables}, {listed}")


def installed(root):
    return sorted(os.path.relpath(os.path.join(folder, name), root) for folder, _, names in os.walk(root) for name in names)


def make(target, path):
    """By the programs that are there: `all` counts as made."""
    return call("make", "-C", ROOT, "--no-print-directory", "-o", "all", "CUDA=0", f"BUILD={os.path.dirname(BIN)}",
                f"DESTDIR={path}", "PREFIX=/usr", target, timeout=120,
                env={"MAKEFLAGS": "", "MAKELEVEL": "0", "MFLAGS": ""})


def main():
    tap = Tap()
    with folder() as path:
        test_scripts(tap, path)
        root = f"{path}/root"
        done = make("install", root)
        files = installed(f"{root}/usr") if done.code == 0 else []
        tap.check(set(SHELLS.values()) < set(files), "make install puts a script where each shell looks", f"{done}\n{files}")
        if done.code == 0:
            test_manual(tap, f"{root}/usr/share/man/man1")
        done = make("uninstall", root)
        tap.check(done.code == 0 and installed(root) == [], "make uninstall leaves nothing", f"{done}\n{installed(root)}")
        for target in ("install", "uninstall"):
            done = make(target, f"{root}/two words")
            tap.check(done.code == 2 and "a blank" in done.err and not os.path.exists(f"{root}/two"),
                      f"make {target} takes no folder with a blank in its name", done)
    tap.finish()


if __name__ == "__main__":
    main()
