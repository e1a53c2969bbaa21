"""browser.py - a headless Chromium, driven over its DevTools protocol by a small WebSocket client; standard library only.

    with browser.Browser(folder) as page:
        page.open("http://127.0.0.1:8080/", width=1280, height=900, dark=False)
        page.wait_for("document.querySelectorAll('.process').length == 5")
        page.screenshot("page.png")
        page.problems            # what the console and the network said was wrong
"""
import base64
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
import urllib.request

from longspan_test import OWN_GROUP


def find():
    """The program, or None."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if shutil.which(name):
            return shutil.which(name)
    return None


class Socket:
    """One WebSocket (RFC 6455), text messages only, to a server on this host."""

    def __init__(self, url):
        address, path = url[len("ws://"):].split("/", 1)
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(f"GET /{path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        self.rest = b""
        while b"\r\n\r\n" not in self.rest:
            self.rest += self.read_some()
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(head.decode("utf-8", "replace"))

    def read_some(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the browser has closed its connection")
        return data

    def take(self, n):
        while len(self.rest) < n:
            self.rest += self.read_some()
        data, self.rest = self.rest[:n], self.rest[n:]
        return data

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        size = (struct.pack("!B", 0x80 | len(data)) if len(data) < 126
                else struct.pack("!BH", 0xFE, len(data)) if len(data) < 65536 else struct.pack("!BQ", 0xFF, len(data)))
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self.socket.sendall(b"\x81" + size + mask + masked)

    def receive(self, timeout):
        """A message; None: none came in time."""
        message = b""
        self.socket.settimeout(timeout)
        try:
            while True:
                first, second = self.take(2)
                size = second & 127
                if size == 126:
                    size = struct.unpack("!H", self.take(2))[0]
                elif size == 127:
                    size = struct.unpack("!Q", self.take(8))[0]
                self.socket.settimeout(30)
                data = self.take(size)
                if first & 15 == 9:  # a ping
                    continue
                message += data
                if first & 128:
                    return message.decode()
        except TimeoutError:
            return None

    def close(self):
        self.socket.close()


class Browser:
    def __init__(self, folder, program=None):
        self.folder = os.path.join(folder, "browser")
        self.log = os.path.join(folder, "browser.log")
        self.number = 0
        self.problems = []
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [program or find(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--hide-scrollbars", "--no-first-run", "--disable-extensions", "--disable-background-networking",
                 "--disable-component-update", "--remote-debugging-port=0", "--remote-allow-origins=*",
                 f"--user-data-dir={self.folder}", "about:blank"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, **OWN_GROUP)
        try:
            self.connect()
        except BaseException:
            self.close()
            raise

    def connect(self):
        port_file = os.path.join(self.folder, "DevToolsActivePort")
        end = time.monotonic() + 60
        while not (os.path.exists(port_file) and open(port_file).read().strip()):
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError("the browser did not start:\n" + open(self.log, errors="replace").read()[-2000:])
            time.sleep(0.05)
        port = open(port_file).read().split()[0]
        # A page may be listed a moment after the port is there.
        while True:
            pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10))
            pages = [p for p in pages if p["type"] == "page"]
            if pages:
                break
            if time.monotonic() > end:
                raise RuntimeError("the browser has no page")
            time.sleep(0.05)
        self.socket = Socket(pages[0]["webSocketDebuggerUrl"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        if hasattr(self, "socket"):
            self.socket.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def note(self, event):
        method, what = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
            self.problems.append("console: " + " ".join(str(a.get("value", a.get("description"))) for a in what["args"]))
        elif method == "Runtime.exceptionThrown":
            details = what["exceptionDetails"]
            self.problems.append("exception: " + details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"log: {what['entry']['text']} {what['entry'].get('url', '')}")

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        end = time.monotonic() + 60
        while time.monotonic() < end:
            text = self.socket.receive(1)
            answer = json.loads(text) if text is not None else {}
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.note(answer)
        raise RuntimeError(f"{method}: no answer")

    def open(self, url, width=1280, height=900, dark=False, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1,
                  mobile=phone)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Page.navigate", url=url)

    def run(self, expression):
        """The value of a JavaScript expression; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait_for(self, expression, seconds=20):
        """True as soon as the expression is; False when it is not in time. One that throws, as while a page is loaded, is
        not true yet."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run(f"(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"):
                return True
            time.sleep(0.05)
        return False

    def type(self, text):
        self.call("Input.insertText", text=text)

    def press(self, key, code=None, number=0, text=""):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code or key, windowsVirtualKeyCode=number,
                      text=text if kind == "keyDown" else "")

    def screenshot(self, path, whole=False):
        clip = {}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
                    "captureBeyondViewport": True}
        data = self.call("Page.captureScreenshot", format="png", **clip)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
