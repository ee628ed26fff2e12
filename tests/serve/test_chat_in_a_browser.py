"""The chat page in a real browser: what somebody types, sees, stops and copies, on a phone, in both schemes."""

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.serve.app import make_app
from codeshell_hf.serve.service import Service
from codeshell_hf.serve.settings import ServeSettings
from tests.test_recipes import AXE, CHROMIUM

DRIVER = shutil.which("chromedriver")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # by which WebDriver names one
PHONE = {"deviceMetrics": {"width": 390, "height": 800, "pixelRatio": 1}}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs Chromium and its driver"),
]


class Page:
    """A page in a browser, by the WebDriver protocol."""

    def __init__(self, session: str) -> None:
        self.session = session

    def call(self, path: str, **values: object) -> Any:
        """The value that the browser answers a command with."""
        request = urllib.request.Request(f"{self.session}/{path}", json.dumps(values).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["value"]

    def run(self, script: str) -> Any:
        """What a script returns."""
        return self.call("execute/sync", script=script, args=[])

    def find(self, selector: str) -> str:
        """The path of an element."""
        return f"element/{self.call('element', using='css selector', value=selector)[ELEMENT]}"

    def wait(self, script: str) -> Any:
        """What a script returns, once that is something."""
        deadline = time.monotonic() + 60
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, self.run("return document.body.innerText")
            time.sleep(0.05)
        return found


@pytest.fixture
def open_page(tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens pages on a phone, each in a browser of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    driver = subprocess.Popen([str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    pages: list[Page] = []

    def open_(address: str, *options: str) -> Page:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", *options]
        chrome = {"binary": CHROMIUM, "mobileEmulation": PHONE,
                  "args": [*arguments, f"--user-data-dir={tmp_path}/profile{len(pages)}"]}  # fmt: skip
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": chrome}}
        started = Page(f"http://127.0.0.1:{port}").call("session", capabilities=wanted)
        page = Page(f"http://127.0.0.1:{port}/session/{started['sessionId']}")
        pages.append(page)
        page.call("url", url=address)
        return page

    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5).read()
                break
            except OSError:
                assert time.monotonic() < deadline, "chromedriver does not answer"
                time.sleep(0.1)
        yield open_
    finally:
        for page in pages:
            urllib.request.urlopen(urllib.request.Request(page.session, method="DELETE"), timeout=60).read()
        driver.terminate()
        driver.wait(timeout=30)


@contextmanager
def serve(model: CodeShellForCausalLM, tokenizer: CodeShellTokenizer) -> Iterator[str]:
    """Serves a model on loopback, from a thread of this process."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    app = make_app(Service(model, tokenizer, "heart", ServeSettings()))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(timeout=60)


def test_a_question_is_answered_and_the_page_fits_a_phone_in_both_schemes(
    open_page: Callable[..., Page], taught: tuple[CodeShellForCausalLM, CodeShellTokenizer]
) -> None:
    with serve(*taught) as address:
        grounds = {}
        for scheme, options in (("light", ()), ("dark", ("--blink-settings=preferredColorScheme=0",))):
            page = open_page(address, *options)
            page.wait("return document.title === 'heart'")
            page.call(f"{page.find('#question')}/value", text="add\n")  # Enter sends
            page.wait("return !document.querySelector('#send').hidden && document.querySelector('.assistant')")
            shown = page.run("return [...document.querySelectorAll('article')].map((one) => one.innerText.trim())")
            assert shown == ["add", "return a + b"]
            wide = "return document.documentElement.scrollWidth > innerWidth || innerWidth !== 390"
            assert page.run(wide) is False
            grounds[scheme] = page.run("return getComputedStyle(document.body).backgroundColor")
            if AXE.is_file():
                page.run(AXE.read_text(encoding="utf-8"))
                check = "axe.run().then((found) => arguments[0](found.violations.map((one) => one.id)))"
                assert page.call("execute/async", script=check, args=[]) == [], scheme
            page.call(f"{page.find('#clear')}/click")
            assert page.run("return document.querySelectorAll('article').length") == 0
    assert grounds == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 25, 29)"}


def test_an_answer_streams_and_stops_when_it_is_told_to(
    open_page: Callable[..., Page], tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer
) -> None:
    """Of a model that has learnt nothing, and so writes until its context is full."""
    model = tiny_model(n_positions=8192, vocab_size=len(tiny_tokenizer))
    with serve(model, tiny_tokenizer) as address:
        page = open_page(address)
        page.call(f"{page.find('#question')}/value", text="go on")
        page.call(f"{page.find('#send')}/click")
        first = page.wait("return document.querySelector('.assistant')?.innerText.length")
        page.wait(f"return document.querySelector('.assistant').innerText.length > {first} + 20")
        page.call(f"{page.find('#stop')}/click")
        page.wait("return !document.querySelector('#send').hidden")
        assert page.run("return document.querySelector('.assistant .note').innerText") == "Stopped."
        deadline = time.monotonic() + 30
        while json.loads(urllib.request.urlopen(f"{address}health", timeout=10).read())["active"]:
            assert time.monotonic() < deadline, "its place is not free"
            time.sleep(0.1)
