"""The chat page: one file, that runs nothing but its own script and shows answers as text."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from codeshell_hf.serve.chat_page import CHAT_PAGE, CONTENT_POLICY, make_policy

# A few of a browser's parts, enough to run the page's functions on texts.
BROWSER = """
class Node {
  constructor(tag) { this.tag = tag; this.parts = []; this.hidden = false; this.value = ""; this.style = {}; }
  append(...parts) { this.parts.push(...parts.flatMap((part) => part.tag === "" ? part.parts : [part])); }
  replaceChildren(...parts) { this.parts = []; this.append(...parts); }
  addEventListener() {}
  set textContent(text) { this.parts = [text]; }
  get textContent() { return this.parts.map((part) => typeof part === "string" ? part : part.textContent).join(""); }
}
globalThis.document = {
  getElementById: () => new Node("x"), createElement: (tag) => new Node(tag),
  createDocumentFragment: () => new Node(""), querySelector: () => new Node("x"),
};
globalThis.sessionStorage = { getItem: () => null, setItem: () => {} };
globalThis.fetch = async () => { throw new Error("no server"); };
"""
SHOWN = """
const kept = (parts) => parts.filter((part) => part !== "").map(outline);
const outline = (part) => typeof part === "string" ? part : [part.className || part.tag, ...kept(part.parts)];
const article = new Node("article");
show(article, TEXT);
console.log(JSON.stringify(article.parts.map(outline)));
"""


def run_page(text: str) -> list[Any]:
    (script,) = re.findall(r"<script>(.*?)</script>", CHAT_PAGE, re.DOTALL)
    code = BROWSER + script + SHOWN.replace("TEXT", json.dumps(text))
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    shown: list[Any] = json.loads(done.stdout)
    return shown


def test_the_page_loads_nothing_and_runs_its_own_script_only() -> None:
    assert not re.findall(r"(?:src|href)=\"(?!data:,)", CHAT_PAGE)
    assert "innerHTML" not in CHAT_PAGE
    assert "default-src 'none'" in CONTENT_POLICY
    assert "unsafe" not in CONTENT_POLICY
    other = CHAT_PAGE.replace("<script>", "<script>fetch('//evil');")
    assert make_policy(other) != CONTENT_POLICY
    for needed in ('name="viewport"', "prefers-color-scheme: dark", 'id="stop"', "clipboard", 'aria-live="polite"'):
        assert needed in CHAT_PAGE


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_code_is_shown_in_blocks_with_its_words_marked() -> None:
    shown = run_page('Take `f`:\n\n```python\ndef f(x):  # one\n    return "a" + 1\n```\n<b>done</b>')

    assert shown[0] == ["p", "Take ", ["code", "f"], ":"]
    kind, caption, pre = shown[1]
    assert kind == "figure"
    assert caption == ["figcaption", ["span", "python"], ["button", "Copy"]]
    assert pre == [
        "pre",
        ["code", ["keyword", "def"], " f(x):  ", ["comment", "# one"], "\n    ", ["keyword", "return"], " ",
         ["string", '"a"'], " + ", ["number", "1"]],
    ]  # fmt: skip
    assert shown[2] == ["p", "<b>done</b>"], "an answer is text, never markup"
    unfinished = run_page("```c\n#include <x.h>\nint a; // b")
    assert unfinished[0][2] == [
        "pre", ["code", "#include <x.h>\n", ["keyword", "int"], " a; ", ["comment", "// b"]]
    ]  # fmt: skip
