#!/usr/bin/env python3
"""Random chat templates give what jinja2 gives (tests/oracles/chat_templates.py), where jinja2 is installed."""
import os
import subprocess
import sys

from longspan_test import BIN, ROOT, SLOW, Tap


def main():
    tap = Tap()
    n = 400 if SLOW == 1 else 50
    done = subprocess.run([sys.executable, f"{ROOT}/tests/oracles/chat_templates.py", "--generated", str(n)], cwd=ROOT,
                          env=os.environ | {"LONGSPAN_BIN": BIN}, capture_output=True, text=True, timeout=120 * SLOW, check=False)
    name = f"{n} random templates render as jinja2 renders them"
    if done.returncode == 77:
        tap.skip(name, done.stdout.strip())
    else:
        tap.check(done.returncode == 0, name, done.stdout + done.stderr)
    tap.finish()


if __name__ == "__main__":
    main()
