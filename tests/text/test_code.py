"""The code in an answer: in each shape, a right function is found; the oracle runs what is extracted."""

import json
import time
from pathlib import Path

import pytest

from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.evaluate.prompts import program_in_answer
from codeshell_hf.text.code import extract_code, find_body, list_wanted

SHOWN = Path(__file__).parents[1] / "data" / "chat-answers.jsonl"
CODE = "def add(a, b):\n    return a + b"
WRONG = "def add(a, b):\n    return a - b"
FENCED = f"```python\n{CODE}\n```"
PROBLEM = Problem("1", "py", 'def add(a, b):\n    """Adds."""\n', name="add")
SHAPES = {
    "bare": CODE,
    "a language with its path": f"```python:src/add.py\n{CODE}\n```",
    "attributes": f"```{{.python .numberLines startFrom=1}}\n{CODE}\n```",
    "py": f"```py\n{CODE}\n```",
    "in a list": "1. Write it:\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n2. Done",
    "quoted": "> ```python\n> def add(a, b):\n>     return a + b\n> ```",
    "Windows": FENCED.replace("\n", "\r\n"),
    "never closed, and prose": f"```python\n{CODE}\n\nThis adds two numbers.",
    "a block in a block": f"````markdown\nHere:\n{FENCED}\n````",
    "thinks twice": f"<think>{FENCED.replace('+', '-')}</think>Well.<think>again</think>\n{FENCED}",
    "thinking": f"<thinking>\n```python\n{WRONG}\n```\n</thinking>\n{FENCED}",
    "special tokens behind": f"{FENCED}<|endoftext|></s>",
    "special tokens behind bare code": f"{CODE}<|im_end|>",
    "PYTHON tags": f"[PYTHON]\n{CODE}\n[/PYTHON]",
    "answer tags": f"<answer>\n{CODE}\n</answer>",
    "LaTeX": f"\\begin{{lstlisting}}[language=Python]\n{CODE}\n\\end{{lstlisting}}",
    "JSON": json.dumps({"explanation": "It adds.", "code": CODE}),
    "a session": "```\n>>> def add(a, b):\n...     return a + b\n...\n>>> add(1, 2)\n3\n```",
    "numbered lines": "```python\n1  def add(a, b):\n2      return a + b\n```",
    "a diff": "```diff\n--- a.py\n+++ a.py\n@@ -1 +1,2 @@\n-pass\n+def add(a, b):\n+    return a + b\n```",
    "escaped for HTML": "```python\ndef add(a, b):\n    return a + b if a &lt; b else a + b\n```",
    "spaces that do not break": "```python\ndef add(a, b):\n\u00a0\u00a0\u00a0\u00a0return a + b\n```",
    "a byte-order mark": f"\ufeff{CODE}",
    "a lambda": "```python\nadd = lambda a, b: a + b\n```",
    "a helper in a block before": (
        "```python\ndef plus(a, b):\n    return a + b\n```\n```python\ndef add(a, b):\n    return plus(a, b)\n```"
    ),
    "an import in a block before": (
        "```python\nimport operator\n```\nand\n```python\ndef add(a, b):\n    return operator.add(a, b)\n```"
    ),
    "the last block is cut": f"{FENCED}\nShorter:\n```python\ndef add(a, b): return (a +",
    "the last block is another function": f"{FENCED}\n```python\ndef test_add():\n    assert add(1, 2) == 3\n```",
    "the last block is a shell's": f"{FENCED}\nRun:\n```bash\npython add.py\n```",
    "JavaScript beside it": f"{FENCED}\nIn JavaScript:\n```js\nconst add = (a, b) => a - b\n```",
    "a guard that runs": f"```python\n{CODE}\n\nif __name__ == '__main__':\n    add(*map(int, input().split()))\n```",
    "indented by Markdown": "Here it is:\n\n    def add(a, b):\n        return a + b\n\nIt adds.",
    "prose on both sides, and a blank line within": (
        "The function:\n\ndef add(a, b):\n    c = a + b\n\n    return c\n\nIt adds a and b."
    ),
    "prose right above and below": f"Here is the function:\n{CODE}\nIt adds a and b.",
    "a body whose first line lost its indent": "```python\nc = a + b\n    return c\n```",
    "a body in prose's place": "    return a + b",
    "tildes with ticks inside": "~~~python\ndef add(a, b):\n    '''\n```\n    '''\n    return a + b\n~~~",
    "a method of a class": "```python\nclass Solution:\n    def add(self, a, b):\n        return a + b\n```",
    "typed, with a decorator and a docstring": (
        '```python\nimport functools\n\n\n@functools.cache\ndef add(a: int, b: int) -> int:\n    """Adds."""\n'
        "    return a + b\n```"
    ),
    "steps before the whole": (
        "Step 1:\n```python\ndef add(a, b):\n    ...\n```\nStep 2:\n```python\n    return a + b\n```\nAll:\n" + FENCED
    ),
}


def check(answer: str) -> None:
    source, _ = program_in_answer(PROBLEM, answer)
    scope: dict[str, object] = {"__name__": "__main__"}
    exec(source, scope)  # noqa: S102 - written above
    add = scope["add"]
    assert callable(add)
    assert (add(1, 2), add(-5, 2)) == (3, -3)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_right_function_is_found_in_every_shape(shape: str) -> None:
    check(SHAPES[shape])


@pytest.mark.parametrize(
    "row",
    [json.loads(line) for line in SHOWN.read_text(encoding="utf-8").split("\n") if line],
    ids=lambda row: row["name"],
)
def test_a_right_function_is_found_in_answers_of_chat_models(row: dict[str, str]) -> None:
    check(row["answer"])


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{WRONG}\n```",
        f"<think>{FENCED}</think>\n```python\n{WRONG}\n```",  # what is right is not the answer
        f"{FENCED}\nNo:\n```python\n{WRONG}\n```",  # the last one counts
        f"<think>\n{FENCED}",  # the thought never ended
        "def add(a, b):\n    return a + b +",
        "def add(a, b):\n    return a + b\n) # and this line is no prose",
        "I cannot.",
        "",
    ],
)
def test_a_wrong_answer_stays_wrong(answer: str) -> None:
    with pytest.raises((AssertionError, SyntaxError, NameError, TypeError, KeyError)):
        check(answer)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1"),
        ("```\nx = 1\ny = 2\n```", "x = 1\ny = 2"),
        ("Sure.\n```python\nx = 1", "x = 1"),  # cut before its end
        ("x = 1", "x = 1"),
        ("```python\ns = '`````'\n```", "s = '`````'"),  # a fence begins a line
        ("I cannot.", "I cannot."),
    ],
)
def test_without_names_the_last_block_or_all_of_it_counts(answer: str, code: str) -> None:
    assert extract_code(answer) == code


def test_code_of_other_languages_is_chosen_by_tag_and_name() -> None:
    answer = "```sh\nnpm i\n```\n```js\nfunction add() {}\n```\n```js\nadd(1)\nsub(2)\n```\n```c\nint add;\n```"

    assert extract_code(answer, {"sub"}, "js") == "add(1)\nsub(2)"
    assert extract_code(answer, (), "js") == "function add() {}"
    assert extract_code("no fence", {"sub"}, "js") == "no fence"


def test_what_tests_want_is_what_they_use_and_nobody_gives() -> None:
    tests = "import math\nfor x in range(3):\n    assert add(x, math.pi) == len([x]) + base"

    assert list_wanted(tests) == {"add", "base"}
    assert list_wanted("def check(f):\n    assert f(1) == 1\ncheck(area)") == {"area"}
    assert list_wanted("no (python") == set()


def test_a_body_returns_outside_of_functions() -> None:
    assert find_body("for x in a:\n    if x: return x") == "    for x in a:\n        if x: return x"
    assert find_body(CODE) is None
    assert find_body("x = 1") is None


@pytest.mark.parametrize(
    "unit",
    ["(", "```python\n", "-", "<think>", "a\n\n", "~~~\n```\n", "x = 1\n\n", "> ", "</think>", "<code>", "[CODE]"],
)
def test_hostile_answers_end_in_time(unit: str) -> None:
    started_s = time.process_time()

    extract_code(unit * (200_000 // len(unit)), {"add"})

    assert time.process_time() - started_s < 10
