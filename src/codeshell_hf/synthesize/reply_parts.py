"""Reads a model's reply: a problem, an answer and tests, or the reason why it has none.

Headings in brackets, as asked for, in Markdown, in tags, in bold and before a colon are known, in English and Chinese,
and a JSON object with the same names. Each part must be there once: a reply with two problems is nobody's task.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..text.code import MOST_CHARACTERS, PYTHON_TAGS, drop_reasoning, find_blocks, is_python
from ..text.replies import repair_text

Part = Literal["problem", "answer", "tests"]
PARTS: tuple[Part, ...] = ("problem", "answer", "tests")
CUT = frozenset({"length", "max_tokens"})
WORDS: dict[Part, str] = {
    "problem": r"(?:programming |coding )?(?:problem|task|question|instruction|exercise)(?: statement| description)?"
    r"|题目描述|问题描述|编程题|题目|问题|任务",
    "answer": r"(?:reference |sample |proposed )?(?:answer|solution|implementation)(?: code)?|code"
    r"|参考答案|参考解答|参考实现|答案|解答|解法|实现|代码",
    "tests": r"(?:unit |test )?(?:tests|test|test cases|cases|test code|test suite)|测试用例|单元测试|测试代码|测试",
}
_WORD = "|".join(f"(?P<{part}>{words})" for part, words in WORDS.items())
_NUMBER = r"(?:(?:\d+|[一二三])\s*[.、):：]\s*)?"
_STYLES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\s*(?:\*\*)?[\[【]\s*{_NUMBER}(?:{_WORD})\s*[\]】]\s*[:：]?(?:\*\*)?\s*[:：]?(?P<rest>.*)",
        rf"\s*<(?:{_WORD})>(?P<rest>.*)",
        rf"\s{{0,3}}#{{1,6}}\s*(?:\*\*)?{_NUMBER}(?:{_WORD})(?:\*\*)?\s*[:：]?\s*(?:\*\*)?(?P<rest>)\s*#*\s*",
        rf"\s*(?:\*\*|__){_NUMBER}(?:{_WORD})\s*[:：]?\s*(?:\*\*|__)\s*[:：]?(?P<rest>.*)",
        rf"\s*{_NUMBER}(?:{_WORD})\s*[:：](?P<rest>.*)",
    )
)
_CLOSING_TAG = re.compile(rf"</(?:{_WORD.replace('?P<', '?P<end_')})>\s*\Z", re.IGNORECASE)
_FENCE = re.compile(r"[\s>]{0,3}(`{3,}|~{3,})([^`\n]*)$")
_WRAPPER = re.compile(
    r"\A\s*(`{3,}|~{3,})[ \t]*(?:markdown|md|text|txt|plaintext)?[ \t]*\n(?P<inner>.*)\n\1\s*\Z", re.DOTALL
)
_REFUSAL = re.compile(
    r"\b(?:sorry|apologi[sz]e|unable to|can(?:no|['’])t|can not|won['’]t|not able to|as an ai|against my)\b"
    r"|抱歉|对不起|无法|不能(?:提供|帮助|协助|完成)|作为(?:一个|一名)?(?:AI|人工智能)",
    re.IGNORECASE,
)
_REFUSAL_CHARACTERS = 300  # from the beginning


@dataclass(frozen=True)
class ReplyParts:
    """What a reply has.

    Args:
        problem: The task's text.
        answer: As given, with its explanation and fences.
        tests: Python.
    """

    problem: str
    answer: str
    tests: str


def read_parts(reply: str, finish_reason: str | None = None) -> ReplyParts | str:
    r"""Reads a reply; a text is the reason why it cannot be used.

    Reasons: "truncated", "refused", "unreadable" without any heading, "no-problem", "no-answer" and "no-tests" where
    one part is missing or empty, "several-parts" where one is there twice.

    >>> read_parts("[Problem]\nAdd two numbers.\n[Answer]\n```python\nx = 1\n```\n[Tests]\n```python\nassert x\n```")
    ReplyParts(problem='Add two numbers.', answer='```python\nx = 1\n```', tests='assert x')
    >>> read_parts("I'm sorry, I cannot help with that."), read_parts("[Problem]\nAdd", "length")
    ('refused', 'truncated')
    """
    if finish_reason in CUT:
        return "truncated"
    if finish_reason == "content_filter":
        return "refused"
    text = drop_reasoning(reply[:MOST_CHARACTERS].replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff"))
    if not text.strip():
        return "truncated" if reply.strip() else "unreadable"
    text = _unwrap(text)
    if _ends_in_fence(text):
        return "truncated"
    found = _read_object(text) or _read_sections(text)
    if isinstance(found, str):
        is_refusal = found == "unreadable" and _REFUSAL.search(text[:_REFUSAL_CHARACTERS])
        return "refused" if is_refusal else found
    problem, answer, tests = (found[part].strip() for part in PARTS)
    problem = _unwrap(problem).strip()
    tests = _read_code(tests)
    for part, value in zip(PARTS, (problem, answer, tests), strict=True):
        if not value:
            return f"no-{part}"
    return ReplyParts(problem, answer, tests)


def _unwrap(text: str) -> str:
    """The text within one fence around all of it."""
    wrapped = _WRAPPER.match(text)
    return wrapped["inner"] if wrapped else text


def _mark_code(lines: Sequence[str]) -> tuple[list[bool], bool]:
    """Whether each line is in a fenced block or a fence, and whether the last block is open."""
    marks, fence = [], ""
    for line in lines:
        found = _FENCE.match(line)
        if not fence and found:
            fence = found[1]
            marks.append(True)
            continue
        marks.append(bool(fence))
        if fence and found and found[1].startswith(fence) and not found[2].strip():
            fence = ""
    return marks, bool(fence)


def _ends_in_fence(text: str) -> bool:
    return _mark_code(text.split("\n"))[1]


def _read_sections(text: str) -> Mapping[Part, str] | str:
    """The parts by the first style of headings that has all three."""
    lines = text.split("\n")
    is_code, _ = _mark_code(lines)
    most: set[Part] = set()
    for style in _STYLES:
        headings = list(_find_headings(lines, is_code, style))
        named = [part for part, _, _ in headings]
        if set(named) == set(PARTS):
            if len(named) > len(PARTS):
                return "several-parts"
            ends = [place for _, place, _ in headings[1:]] + [len(lines)]
            return {
                part: _CLOSING_TAG.sub("", "\n".join([rest, *lines[place + 1 : end]]).strip())
                for (part, place, rest), end in zip(headings, ends, strict=True)
            }
        most = max(most, set(named), key=len)
    missing = [part for part in PARTS if part not in most]
    return f"no-{missing[0]}" if most else "unreadable"


def _find_headings(
    lines: Sequence[str], is_code: Sequence[bool], style: re.Pattern[str]
) -> Iterator[tuple[Part, int, str]]:
    for place, line in enumerate(lines):
        found = None if is_code[place] else style.fullmatch(line)
        if found:
            yield next(part for part in PARTS if found[part]), place, found["rest"]


def _read_object(text: str) -> Mapping[Part, str] | None:
    """The parts of a JSON object, which may stand in a fence; `None` if the reply is none."""
    blocks = list(find_blocks(text))
    inner = [blocks[0].code] if len(blocks) == 1 and blocks[0].tag in ("json", "") else []
    values = next((parsed for one in (text, *inner) if (parsed := _parse(one)) is not None), None)
    if values is None:
        return None
    parts: dict[Part, str] = {}
    for key, value in values.items():
        part = next((name for name in PARTS if re.fullmatch(WORDS[name], key.replace("_", " "), re.IGNORECASE)), None)
        if part is not None and part not in parts:
            parts[part] = _join(value)
    return {part: parts.get(part, "") for part in PARTS} if parts else None


def _parse(text: str) -> dict[str, object] | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _join(value: object) -> str:
    texts = value if isinstance(value, list) else [value]
    # JSON can escape half a pair of surrogates, which no file can hold.
    return repair_text("\n".join(one for one in texts if isinstance(one, str)))


def _read_code(section: str) -> str:
    """All Python blocks of a section, in order; without a block, the section if it is Python, else nothing."""
    blocks = list(find_blocks(section))
    if blocks:
        return "\n\n".join(block.code.strip("\n") for block in blocks if block.tag in PYTHON_TAGS).strip()
    return section if is_python(section) else ""
