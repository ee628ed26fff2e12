"""Replies of models: which have a problem, an answer and tests, and why the others have not."""

import json

import pytest

from codeshell_hf.synthesize.reply_parts import ReplyParts, read_parts

TASK = "Write `add(a, b)`, which returns the sum."
CODE = "def add(a, b):\n    return a + b"
TESTS = "assert add(1, 2) == 3\nassert add(0, 0) == 0"
FENCED = f"```python\n{CODE}\n```"
FENCED_TESTS = f"```python\n{TESTS}\n```"
ASKED = f"[Problem]\n{TASK}\n[Answer]\n{FENCED}\n[Tests]\n{FENCED_TESTS}"
WHOLE = ReplyParts(TASK, FENCED, TESTS)
BARE = ReplyParts(TASK, CODE, TESTS)
OBJECT = {"problem": TASK, "answer": CODE, "tests": TESTS.split("\n")}

SHAPES: dict[str, tuple[str, ReplyParts | str]] = {
    "as asked for": (ASKED, WHOLE),
    "with line ends of Windows": (ASKED.replace("\n", "\r\n"), WHOLE),
    "after a byte-order mark": (f"\ufeff{ASKED}", WHOLE),
    "with prose before and after": (f"Sure, here it is.\n\n{ASKED}\n\nI hope that this helps!", WHOLE),
    "after reasoning that has all three": (f"<think>\n{ASKED.replace('add', 'subtract')}\n</think>\n{ASKED}", WHOLE),
    "after reasoning without its opening tag": (f"[Problem] perhaps a stack?\n</think>\n\n{ASKED}", WHOLE),
    "before a token of the end": (f"{ASKED}\n<|im_end|>", WHOLE),
    "in one fence": (f"```markdown\n{ASKED}\n```", WHOLE),
    "in one fence without a language": (f"```\n{ASKED}\n```", WHOLE),
    "with tildes": (ASKED.replace("```", "~~~"), ReplyParts(TASK, FENCED.replace("```", "~~~"), TESTS)),
    "without fences": (f"[Problem]\n{TASK}\n[Answer]\n{CODE}\n[Tests]\n{TESTS}", BARE),
    "text on the line of its heading": (f"[Problem] {TASK}\n[Answer]\n{FENCED}\n[Tests]\n{FENCED_TESTS}", WHOLE),
    "headings of Markdown": (
        f"## Problem\n\n{TASK}\n\n## Solution\n\n{FENCED}\n\n## Test cases\n\n{FENCED_TESTS}", WHOLE,
    ),
    "numbered headings": (f"### 1. Problem:\n{TASK}\n### 2. Answer:\n{FENCED}\n### 3. Tests:\n{FENCED_TESTS}", WHOLE),
    "bold headings": (f"**Problem:**\n{TASK}\n\n**Answer:**\n{FENCED}\n\n**Unit Tests**:\n{FENCED_TESTS}", WHOLE),
    "bold headings in brackets": (f"**[Problem]**\n{TASK}\n**[Answer]**\n{FENCED}\n**[Tests]**\n{FENCED_TESTS}", WHOLE),
    "words before colons": (f"Problem: {TASK}\n\nSolution:\n{FENCED}\n\nTests:\n{FENCED_TESTS}", WHOLE),
    "tags": (
        f"<problem>\n{TASK}\n</problem>\n<answer>\n{FENCED}\n</answer>\n<tests>\n{FENCED_TESTS}\n</tests>", WHOLE,
    ),
    "Chinese headings": (f"【题目】\n{TASK}\n【答案】\n{FENCED}\n【测试】\n{FENCED_TESTS}", WHOLE),
    "Chinese headings of Markdown": (
        f"### 题目\n{TASK}\n### 参考答案：\n{FENCED}\n### 测试用例\n{FENCED_TESTS}", WHOLE,
    ),
    "tests before the answer": (f"[Problem]\n{TASK}\n[Tests]\n{FENCED_TESTS}\n[Answer]\n{FENCED}", WHOLE),
    "tests in two blocks": (
        ASKED.replace(TESTS, TESTS.replace("\n", "\n```\nand\n```python\n")),
        ReplyParts(TASK, FENCED, "assert add(1, 2) == 3\n\nassert add(0, 0) == 0"),
    ),
    "an answer with an explanation": (
        ASKED.replace(FENCED, f"It adds them.\n{FENCED}\nThat is all."),
        ReplyParts(TASK, f"It adds them.\n{FENCED}\nThat is all.", TESTS),
    ),
    "a heading of its own in the problem": (
        ASKED.replace(TASK, f"{TASK}\n\n### Example\n\n`add(1, 2)` is 3."),
        ReplyParts(f"{TASK}\n\n### Example\n\n`add(1, 2)` is 3.", FENCED, TESTS),
    ),
    "headings in the answer's comments": (
        ASKED.replace(CODE, f"# Tests\n[Tests]\n{CODE}"),
        ReplyParts(TASK, FENCED.replace(CODE, f"# Tests\n[Tests]\n{CODE}"), TESTS),
    ),
    "an object": (json.dumps(OBJECT), BARE),
    "an object in a fence": (f"```json\n{json.dumps(OBJECT)}\n```", BARE),
    "an object with other names": (
        json.dumps({"题目": TASK, "Solution": FENCED, "test_cases": TESTS}, ensure_ascii=False), WHOLE,
    ),
    "an object with half a surrogate": (
        json.dumps({**OBJECT, "problem": f"{TASK} \ud800"}), ReplyParts(f"{TASK} \ufffd", CODE, TESTS),
    ),
    "an object without tests": (json.dumps({**OBJECT, "tests": []}), "no-tests"),
    "an object of numbers": (json.dumps({"problem": 1, "answer": 2, "tests": 3}), "no-problem"),
    "an object of something else": ('{"error": "busy"}', "unreadable"),
    "nothing": ("", "unreadable"),
    "white space": (" \n\t", "unreadable"),
    "prose": ("The function could be tested with some inputs.", "unreadable"),
    "what a seed ordered": ("I have been reprogrammed. OK.", "unreadable"),
    "a refusal": ("I'm sorry, but I can't help with that.", "refused"),
    "a refusal without an apology": ("As an AI, I will not write this.", "refused"),
    "a Chinese refusal": ("抱歉，我无法完成这个请求。", "refused"),
    "a task about apologies": (ASKED.replace(TASK, f"{TASK} Say sorry if it cannot."),
                               ReplyParts(f"{TASK} Say sorry if it cannot.", FENCED, TESTS)),
    "reasoning that never ends": ("<think>\nFirst, a problem.", "truncated"),
    "a block that never ends": (ASKED.removesuffix("\n```"), "truncated"),
    "no problem": (f"[Answer]\n{FENCED}\n[Tests]\n{FENCED_TESTS}", "no-problem"),
    "no answer": (f"[Problem]\n{TASK}\n[Tests]\n{FENCED_TESTS}", "no-answer"),
    "no tests": (f"[Problem]\n{TASK}\n[Answer]\n{FENCED}", "no-tests"),
    "an empty problem": (ASKED.replace(TASK, ""), "no-problem"),
    "an empty answer": (ASKED.replace(FENCED, "  "), "no-answer"),
    "tests in words": (ASKED.replace(FENCED_TESTS, "Try one and two, which give three."), "no-tests"),
    "tests in another language": (ASKED.replace(FENCED_TESTS, "```js\nassert(add(1, 2) === 3)\n```"), "no-tests"),
    "two problems": (f"{ASKED}\n\n{ASKED}", "several-parts"),
    "two answers": (ASKED.replace("[Tests]", f"[Answer]\n{FENCED}\n[Tests]"), "several-parts"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_reply_is_read_or_has_a_reason(name: str) -> None:
    reply, expected = SHAPES[name]

    assert read_parts(reply, "stop") == expected


@pytest.mark.parametrize(("finish_reason", "reason"), [("length", "truncated"), ("max_tokens", "truncated"),
                                                       ("content_filter", "refused")])  # fmt: skip
def test_a_reply_that_the_server_cut_is_none(finish_reason: str, reason: str) -> None:
    assert read_parts(ASKED, finish_reason) == reason


def test_a_reply_without_a_finish_reason_is_read() -> None:
    assert read_parts(ASKED) == WHOLE


def test_enough_shapes_are_tried() -> None:
    assert len(SHAPES) >= 25


def test_a_hostile_reply_takes_no_time() -> None:
    """Regular expressions and JSON must not take quadratic time, or recurse without an end."""
    for reply in ("[" * 100_000, "`" * 100_000, "<think>" * 20_000, "[Problem]" * 20_000, "#" * 100_000, "** " * 50_000,
                  "[Problem]\n" * 20_000, " " * 150_000 + "x", "```\n" * 50_000, '{"a":' * 50_000):  # fmt: skip
        assert isinstance(read_parts(reply, "stop"), str)
