#!/usr/bin/env python3
"""The page of `longspan serve` in headless Chromium: it draws every process, streams an answer, follows a prompt, asks for
a key, and the console has nothing to say. Skips where there is no Chromium.

    PAGE_SHOTS=DIR tests/integration/test_page.py     also keeps screenshots: light, dark, phone
"""
import os
import sys
import threading

import browser
from longspan_test import SLOW, Tap, folder, make_random, make_retrieval
from serving import Server

SHOTS = os.environ.get("PAGE_SHOTS")
READY = "document.querySelectorAll('#picture .process[data-state=ready]').length"


def names(page):
    return page.run("Array.from(document.querySelectorAll('#picture [data-process]'), (e) => e.dataset.process).join(' ')")


def ask(page, text):
    """Types a question as a person would: with the keyboard alone."""
    page.run("document.getElementById('question').focus()")
    page.type(text)
    page.press("Enter", number=13, text="\r")


def ended(page, n=1):
    return page.wait_for(f"document.querySelectorAll('.message.assistant:not([aria-busy])').length == {n}", 60 * SLOW)


def shoot(page, name, whole=False):
    if SHOTS:
        page.screenshot(os.path.join(SHOTS, f"page-{name}.png"), whole)


def clean(tap, page, name):
    tap.check(page.problems == [], f"{name}: no error on the console", "\n".join(page.problems))
    page.problems.clear()


def check_picture(tap, page, url):
    page.open(url, width=1440, height=960)
    tap.check(page.wait_for(f"{READY} == 5", 30 * SLOW) and
              names(page) == "coordinator worker 0 worker 1 node0 node1",
              "the picture shows every process, ready", names(page))
    tap.check(page.run("document.querySelectorAll('#picture .link').length") == 4, "and a link from each worker to each node")
    tap.check(page.wait_for("/Longspan retrieval/.test(document.getElementById('model').textContent)"), "the model is named")


def check_answer(tap, page):
    # Text must be there before the answer is whole: it is watched as it grows.
    page.run("""window.grown = new Set(); new MutationObserver(() => {
        const said = document.querySelector('.message.assistant .said');
        if (said) window.grown.add(said.textContent.length);
    }).observe(document.getElementById('messages'), {subtree: true, childList: true, characterData: true})""")
    page.run("document.getElementById('most-tokens').value = '40'")
    ask(page, "Once upon a time there was a")
    tap.check(ended(page), "the chat box answers")
    tap.check(page.run("window.grown.size") > 5, "and streams: the answer grew in steps", page.run("Array.from(window.grown)"))
    tap.check(page.wait_for("/first token after .*prompt tokens/.test(document.querySelector('.message.assistant .figures').textContent)"),
              "with its figures", page.run("document.getElementById('messages').textContent"))
    shoot(page, "light")


def check_new(tap, page):
    """A conversation that is left while its answer comes leaves nothing in the next one."""
    page.run("""(() => { const real = window.fetch; window.asked = []; window.fetch = (path, options, ...more) => {
        if (path.startsWith('/v1/')) window.asked.push(JSON.parse(options.body));
        return real(path, options, ...more);
    }; })()""")
    page.run("document.getElementById('most-tokens').value = '4000'")
    ask(page, "Once upon a time there was a")
    page.wait_for("document.querySelector('.message.assistant[aria-busy] .said')?.textContent.length > 3", 30 * SLOW)
    page.run("document.getElementById('new-chat').click()")
    page.wait_for("document.getElementById('stop').hidden", 30 * SLOW)
    page.run("document.getElementById('most-tokens').value = '4'")
    ask(page, "Twice upon a time")
    tap.check(ended(page) and page.run("JSON.stringify(window.asked.at(-1).messages.map((m) => m.role))") == '["user"]',
              "New leaves the old conversation, its answer too", page.run("JSON.stringify(window.asked.at(-1))"))


def check_progress(tap, page, server):
    """A long prompt shows up, is read, and its tokens lie where the picture says."""
    body = {"prompt": "abc " * 6000, "max_tokens": 4, "temperature": 0}
    reply = []
    thread = threading.Thread(target=lambda: reply.append(server.post("/v1/completions", body, timeout=240)))
    thread.start()
    tap.check(page.wait_for("document.querySelector('#prompts [role=progressbar]')", 30 * SLOW), "a prompt shows its progress")
    tap.check(page.wait_for("+document.querySelector('#prompts [role=progressbar]')?.ariaValueNow > 0", 60 * SLOW),
              "which advances")
    tap.check(page.wait_for("document.querySelectorAll('#picture .piece').length == 2", 60 * SLOW),
              "the picture shows which nodes hold its tokens")
    tap.check(page.wait_for("document.querySelector('#picture .link.busy')", 60 * SLOW), "and links with traffic")
    shoot(page, "busy")
    thread.join()
    tap.check(reply[0].status == 200, "the prompt was answered", reply[0])
    tap.check(page.wait_for("document.querySelector('#prompts .hint')", 30 * SLOW), "and leaves the list")


def check_keyboard(tap, page):
    page.run("document.querySelector('[data-process=\"coordinator\"]').focus()")
    page.press("Tab", number=9)
    tap.check(page.run("document.activeElement.dataset.process") == "worker 0", "the Tab key goes from process to process",
              page.run("document.activeElement.outerHTML.slice(0, 200)"))
    tap.check(page.run("/worker 0.*KV heads/s.test(document.getElementById('details').textContent)"), "and shows its figures")
    tap.check(page.run("document.activeElement.getAttribute('aria-label')").startswith("worker 0, ready"), "which has a label")
    unlabelled = page.run("""Array.from(document.querySelectorAll('button, input, textarea')).filter((e) => !e.textContent.trim()
        && !e.labels?.length && !e.ariaLabel).map((e) => e.outerHTML).join(' ')""")
    tap.check(unlabelled == "", "every field and button has a label", unlabelled)


def check_shapes(tap, page, url):
    page.open(url, width=1440, height=960, dark=True)
    page.wait_for(f"{READY} == 5")
    dark = page.run("getComputedStyle(document.body).backgroundColor")
    shoot(page, "dark")
    page.open(url, width=390, height=844, phone=True)
    page.wait_for(f"{READY} == 5")
    light = page.run("getComputedStyle(document.body).backgroundColor")
    tap.check(dark != light, "dark where the reader wants it dark", dark)
    tap.check(page.run("document.documentElement.scrollWidth") <= 390, "nothing is wider than a phone",
              page.run("document.documentElement.scrollWidth"))
    shoot(page, "phone", whole=True)


def check_many(tap, page, url):
    """The same cluster with sixty nodes more: what the server says is multiplied on its way to the page."""
    page.open(url, width=1440, height=960)
    page.wait_for(f"{READY} == 5")
    page.run("""(() => { const real = window.fetch; window.fetch = async (path, ...more) => {
        const reply = await real(path, ...more);
        if (path !== '/cluster') return reply;
        const status = await reply.json();
        for (let i = 2; i < 62; i++) {
            status.nodes.push({...status.nodes[i % 2], name: `more${i}`});
            status.holders.push({...status.holders[i % 2], name: `more${i}`});
        }
        return new Response(JSON.stringify(status));
    }; })()""")
    tap.check(page.wait_for(f"{READY} == 65"), "sixty nodes more: the picture still shows every process", page.run(READY))
    tap.check(page.run("document.querySelectorAll('#picture .link').length") == 1, "all links as one")
    tap.check(page.run("document.getElementById('picture').clientHeight <= innerHeight"), "no higher than the window")
    overlaps = page.run("""(() => { const boxes = Array.from(document.querySelectorAll('#picture .box'), (e) => e.getBoundingClientRect());
        return boxes.filter((a, i) => boxes.some((b, j) => j < i && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)).length })()""")
    tap.check(overlaps == 0, "and none covers another", overlaps)
    page.run("document.querySelector('[data-process=\"more39\"]').focus()")
    page.press("Tab", number=9)
    tap.check(page.run("/more40.*round trip/s.test(document.getElementById('details').textContent)"), "each has its figures",
              page.run("document.getElementById('details').textContent"))
    shoot(page, "many")


def check_headers(tap, server):
    reply = server.get("/")
    policy = reply.headers.get("content-security-policy", "")
    tap.check(reply.status == 200 and "default-src 'none'" in policy and "unsafe" not in policy and "http:" not in policy,
              "the page has a strict policy", reply)
    texts = [server.get(path).body.decode() for path in
             ("/", "/page/style.css", "/page/main.js", "/page/chat.js", "/page/server.js", "/page/picture.js")]
    tap.check(not any(word in text for text in texts for word in ("https://", "@import", "cdn")), "and nothing from elsewhere")
    tap.check(server.get("/page/nothing.js").status == 404, "a part that is not there is not found")


def check_key(tap, path):
    """Also without a chat template, and with the KV cache in the worker."""
    model = make_random(f"{path}/random.gguf", "tiny")
    with open(model, "r+b") as file:  # its template goes under a name that nobody looks for
        data = file.read()
        file.seek(0)
        file.write(data.replace(b"tokenizer.chat_template", b"tokenizer.chat_templatX"))
    key_file = f"{path}/keys"
    with open(key_file, "w", encoding="ascii") as file:
        file.write("secret-key\n")
    with Server(path, model, "--threads", "1", "--api-key-file", key_file, name="keyed") as server, \
            browser.Browser(path + "/keyed") as page:
        tap.check(server.get("/").status == 200 and server.get("/cluster").status == 401 and server.get("/metrics").status == 401,
                  "with API keys: the page is open, what it shows is not")
        page.open(server.url("/"))
        tap.check(page.wait_for("document.getElementById('key-dialog').open"), "the page asks for the key")
        page.problems.clear()  # the browser tells of the 401
        page.type("secret-key")
        page.press("Enter", number=13, text="\r")
        tap.check(page.wait_for(f"{READY} == 2", 30 * SLOW), "and then shows the cluster", page.problems)
        tap.check(page.wait_for("document.querySelector('#picture .track')"), "with the KV cache in the worker")
        ask(page, "Once upon a time")
        tap.check(ended(page) and page.run("!document.querySelector('.message .failed')") and
                  page.run("/no chat template/.test(document.getElementById('chat-mode').textContent)"),
                  "a model without a chat template continues the text", page.run("document.getElementById('chat').textContent"))
        page.run("document.getElementById('new-chat').click()")
        tap.check(page.run("document.querySelector('#messages .hint code').textContent === '/v1/completions'"),
                  "and names the address that it asks", page.run("document.getElementById('messages').textContent"))
        clean(tap, page, "with a key, without a template")


def main():
    tap = Tap()
    if browser.find() is None:
        tap.skip("the page in a browser", "there is no chromium")
        tap.finish()
    with folder() as path:
        model = make_retrieval(f"{path}/model.gguf")
        os.mkdir(f"{path}/keyed")
        with Server(path, model, "--pipeline", "2", "--attention-nodes", "2", "--threads", "1", "--memory", "256MiB") as server:
            check_headers(tap, server)
            with browser.Browser(path) as page:
                check_picture(tap, page, server.url("/"))
                check_answer(tap, page)
                check_new(tap, page)
                check_progress(tap, page, server)
                check_keyboard(tap, page)
                check_many(tap, page, server.url("/"))
                check_shapes(tap, page, server.url("/"))
                clean(tap, page, "all along")
                tap.check(server.stop() == 0, "the server stops in peace, with the page still open", server.log())
        check_key(tap, path)
    tap.finish()


if __name__ == "__main__":
    sys.exit(main())
