"""Extracts code from chat answers of any format.

Evaluation, preference labels and rewards share it, so that training rewards what is measured.
"""

import ast
import builtins
import html
import json
import re
import textwrap
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

MOST_CHARACTERS = 200_000
MOST_BLOCKS = 100
MOST_PARAGRAPHS = 40  # of prose and code without a fence

PYTHON_TAGS = frozenset({"", "py", "python", "python3", "py3", "ipython", "pycon", "sage", "jupyter", "code", "repl"})
_NESTING_TAGS = frozenset({"markdown", "md", "text", "txt", "plaintext", "xml", "html", "response", "answer"})
_OPEN = re.compile(r"^(?P<before>.*?)(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_REASONING = re.compile(r"<(think|thinking|thought|reasoning|scratchpad)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_REASONING_END = re.compile(r"</(?:think|thinking|thought|reasoning|scratchpad)>", re.IGNORECASE)
_SPECIAL = re.compile(r"(?:<\|[\w ▁/-]{1,40}\|?>|<｜[^｜>]{1,40}｜>|</s>|<eos>|<end_of_turn>|\[/?INST\])\s*\Z")
_WRAPPED = tuple(
    (re.compile(opening, re.IGNORECASE), re.compile(closing, re.IGNORECASE))
    for opening, closing in (
        (r"<(?:code|python|solution|answer|program)(?:\s[^>\n]*)?>", r"</(?:code|python|solution|answer|program)>"),
        (r"\[(?:PYTHON|CODE|ANSWER|SOLUTION)\]", r"\[/(?:PYTHON|CODE|ANSWER|SOLUTION)\]|\Z"),
        (
            r"\\begin\{(?:lstlisting|minted|verbatim)\}(?:\[[^\]\n]*\])?(?:\{\w+\})?",
            r"\\end\{(?:lstlisting|minted|verbatim)\}",
        ),
    )
)
_PROSE = re.compile(
    r"^(?!(?:def|class|async|import|from|if|for|while|with|try|return|raise|assert)\b)[A-Z\u4e00-\u9fff][^\n]*$"
)
_NUMBERED = re.compile(r"^[ ]{0,4}(\d{1,4})(?:[.:|)]|\t| )[ ]?(.*)$")


def extract_code(text: str, names: Collection[str] = (), language: str = "python") -> str:
    r"""Extracts the code of an answer: the last suitable block, or the whole text.

    Reasoning in tags is dropped. Of several Python blocks, the last that parses and defines one of `names` is taken,
    after earlier blocks that define what it uses; without names, the last one that defines anything, else the last
    that parses. Doctest prompts, line numbers, diff markers and a `__main__` guard are removed.

    Args:
        names: Functions or classes of which the code must define one; see `list_wanted`.
        language: Tag of the blocks to use; languages other than Python are not parsed.

    >>> extract_code("First:\n```python\nx = 1\n```\nBetter:\n```python\nx = 2\n```\nDone.")
    'x = 2'
    """
    text = drop_reasoning(text[:MOST_CHARACTERS].replace("\r\n", "\n"))
    blocks = list(find_blocks(text))[-MOST_BLOCKS:]
    if language != "python":
        return _choose_by_tag(blocks, names, language) if blocks else text
    if not blocks:
        blocks = [*_find_wrapped(text), *_find_in_json(text)]
    tagged = [block for block in blocks if block.tag in PYTHON_TAGS] or blocks
    candidates = [repaired for block in tagged if (repaired := _repair_python(block.code, names)) is not None]
    if not blocks:
        # Without a fence, there may be prose around the code.
        whole = _repair_python(text, names)
        return text if whole is None else whole
    chosen = next((code for code in reversed(candidates) if defines(code, names)), None)
    if chosen is None:
        chosen = next((given for code in reversed(candidates) if (given := _free_method(code, names))), None)
        if chosen is not None:
            return chosen
    if chosen is None and names:
        chosen = next((code for code in reversed(candidates) if defines(code, ())), None)
    if chosen is None:
        return candidates[-1] if candidates else tagged[0].code
    return _add_helpers(chosen, candidates)


def list_wanted(tests: str) -> set[str]:
    r"""Lists the names that a test program uses but does not define or import, and that are not builtins.

    >>> sorted(list_wanted("from math import pi\nassert area(2) == 4 * pi"))
    ['area']
    """
    tree = parse_python(tests)
    if tree is None:
        return set()
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    return used - _list_bound(tree) - set(dir(builtins))


def find_body(code: str) -> str | None:
    r"""The code as the body of a function, indented by four, if it is one: it returns outside of any function.

    >>> find_body("x = 1\nreturn x"), find_body("x = 1")
    ('    x = 1\n    return x', None)
    """
    plain = code.strip("\n")
    for body in (textwrap.dedent(plain), textwrap.dedent(f"    {plain}"), plain.lstrip()):
        indented = textwrap.indent(body, "    ")
        tree = parse_python(f"def head():\n{indented}") if body.strip() else None
        if tree is not None and len(tree.body) == 1:
            waiting = list(tree.body[0].body) if isinstance(tree.body[0], ast.FunctionDef) else []
            while waiting:
                node = waiting.pop()
                if isinstance(node, ast.Return):
                    return indented
                if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    waiting += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return None


def is_python(text: str) -> bool:
    """Whether a text is a Python program that is not empty; it is parsed, not run.

    >>> is_python("x = 1"), is_python("x ="), is_python("")
    (True, False, False)
    """
    tree = parse_python(text)
    return tree is not None and bool(tree.body)


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block; the tag is its language in lower case, or empty."""

    tag: str
    code: str


def drop_reasoning(text: str) -> str:
    """Drops reasoning in tags, and special tokens at the end."""
    text = _REASONING.sub("", text)
    if ends := list(_REASONING_END.finditer(text)):  # the opening tag is in the chat template
        text = text[ends[-1].end() :]
    while (cut := _SPECIAL.sub("", text)) != text:
        text = cut
    return text


def find_blocks(text: str) -> Iterator[CodeBlock]:
    """Yields fenced blocks after CommonMark, and those attached to prose; also blocks nested in a block of text."""
    lines = text.split("\n")
    place = 0
    while place < len(lines):
        opened = _OPEN.match(lines[place])
        is_glued = opened is not None and opened["before"].strip() not in ("", "-", "*", ">", "1.")
        if opened is None or (is_glued and not opened["info"].strip()):
            place += 1
            continue
        indent = len(opened["before"]) if not is_glued else 0
        tag = _read_tag(opened["info"])
        end = _find_end(lines, place, opened["fence"], tag, indent)
        code = "\n".join(_unindent(line, indent) for line in lines[place + 1 : end])
        if tag in _NESTING_TAGS and (inner := list(find_blocks(code))):
            yield from inner
        else:
            yield CodeBlock(tag, code)
        place = end + 1


def _find_end(lines: Sequence[str], opening: int, fence: str, tag: str, indent: int) -> int:
    """The line of the closing fence, or the number of lines. A fence within a string does not close Python."""
    closing = re.compile(rf"^[\s>]{{0,{indent + 3}}}{re.escape(fence[0])}{{{len(fence)},}}\s*(?:<[^>]*>\s*)*$")
    found = (place for place in range(opening + 1, len(lines)) if closing.match(lines[place]))
    ends = list(islice(found, 1))
    if tag in PYTHON_TAGS and ends:
        first = "\n".join(_unindent(line, indent) for line in lines[opening + 1 : ends[0]])
        if first.count('"""') % 2 or first.count("'''") % 2:
            for end in islice(found, 3):
                if is_python("\n".join(_unindent(line, indent) for line in lines[opening + 1 : end])):
                    return end
    return ends[0] if ends else len(lines)


def _unindent(line: str, indent: int) -> str:
    return line[indent:] if not line[:indent].strip(" \t>") else line


def _read_tag(info: str) -> str:
    """The language of an info string: `python title="x"`, `{.python .numberLines}`, `python:path.py`, ` Python`."""
    found = re.match(r"\s*\{?\s*\.?([\w+#-]*)", info)
    return found[1].lower() if found else ""


def _choose_by_tag(blocks: Sequence[CodeBlock], names: Collection[str], language: str) -> str:
    tagged = [block for block in blocks if block.tag in ("", language)] or list(blocks)
    named = [block for block in tagged if any(re.search(rf"\b{re.escape(name)}\b", block.code) for name in names)]
    return named[-1].code if named else tagged[0].code


def _find_wrapped(text: str) -> Iterator[CodeBlock]:
    for opening, closing in _WRAPPED:
        place = 0
        while (begin := opening.search(text, place)) and (end := closing.search(text, begin.end())):
            yield CodeBlock("", text[begin.end() : end.start()])
            place = max(end.end(), begin.end() + 1)


def _free_method(code: str, names: Collection[str]) -> str | None:
    """The code with a method of a class, such as `Solution`, turned into the wanted function."""
    tree = parse_python(code)
    for node in tree.body if tree else []:
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)) and method.name in names:
                    return f"{code}\n\n{method.name} = {node.name}().{method.name}"
    return None


def _find_in_json(text: str) -> list[CodeBlock]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return []
    texts = [value for value in values.values() if isinstance(value, str)] if isinstance(values, dict) else []
    return [CodeBlock("", value) for value in texts if is_python(value)]


def _repair_python(code: str, names: Collection[str]) -> str | None:
    """The code if it parses, if need be after simple repairs; `None` if none of them helps."""
    code = code.lstrip("\ufeff")
    if find_body(code) is not None:
        return code
    for variant in _list_variants(code):
        if is_python(variant):
            return _drop_main(variant)
    for variant in _list_variants(code):
        if (found := _find_paragraphs(variant, names)) is not None:
            return _drop_main(found)
    return None


def _list_variants(code: str) -> Iterator[str]:
    yield code
    lines = code.split("\n")
    yield textwrap.dedent(code)
    if any(line.lstrip().startswith(">>> ") for line in lines):
        typed = [line.lstrip() for line in lines]
        yield "\n".join(line[4:] for line in typed if line.startswith((">>> ", "... ")))
    rows = [_NUMBERED.match(line) for line in lines if line.strip()]
    if rows and all(rows):
        numbers = [int(row[1]) for row in rows if row]
        if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            yield "\n".join(row[2] for row in rows if row)
    if all(line[:1] in ("", "+", "-", " ", "@") for line in lines) and any(line.startswith("+") for line in lines):
        yield "\n".join(
            line[1:] for line in lines if line[:1] in ("+", " ") and not line.startswith(("+++", "---", "@@"))
        )
    if any(mark in code for mark in ("&lt;", "&gt;", "&amp;", "&quot;", "&#")):
        yield html.unescape(code)
    plain = code.translate({0xA0: " ", 0x3000: " ", 0x200B: None, 0x201C: '"', 0x201D: '"', 0x2018: "'", 0x2019: "'"})
    if plain != code:
        yield plain


def _find_paragraphs(text: str, names: Collection[str]) -> str | None:
    """The longest run of complete paragraphs that parses and defines something, one of `names` if possible."""
    lines = [f"\n{line}\n" if _PROSE.match(line) and not is_python(line) else line for line in text.split("\n")]
    parts = re.split(r"\n(?:[ \t]*\n)+", "\n".join(lines).strip("\n"))
    if not 1 < len(parts) <= MOST_PARAGRAPHS:
        return None
    runs = sorted(
        ((first, last) for first in range(len(parts)) for last in range(first + 1, len(parts) + 1)),
        key=lambda run: run[0] - run[1],
    )
    begun = re.compile(r"\s*(?:def |class |async def |import |from |@|\w+\s*=|#|\"\"\"|if |for |while |with |try:)")
    found = [
        code
        for first, last in runs
        if begun.match(parts[first]) and defines(code := textwrap.dedent("\n\n".join(parts[first:last])), ())
    ]
    return next((code for code in found if defines(code, names)), found[0] if found else None)


def parse_python(text: str) -> ast.Module | None:
    """Parses a program; `None` if it is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _list_bound(tree: ast.Module) -> set[str]:
    """Names that a program binds anywhere."""
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return bound


def _list_defined(tree: ast.Module) -> set[str]:
    """Functions, classes and names that a program defines at its top level."""
    defined: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {target.id for target in targets if isinstance(target, ast.Name)}
    return defined


def defines(code: str, names: Collection[str]) -> bool:
    """Whether code defines one of the names; without names, any function or class."""
    tree = parse_python(code)
    if tree is None:
        return False
    if names:
        return bool(_list_defined(tree) & set(names))
    return any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for node in tree.body)


def _add_helpers(chosen: str, candidates: Sequence[str]) -> str:
    """Puts earlier blocks before the chosen one where it uses what they define or import, and it does not."""
    tree = parse_python(chosen)
    if tree is None:
        return chosen
    missing = (
        {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} - _list_bound(tree) - set(dir(builtins))
    )
    before: list[str] = []
    for code in candidates[: candidates.index(chosen)]:
        helper = parse_python(code)
        if helper is not None and missing & _list_bound(helper) and not _list_defined(helper) & _list_defined(tree):
            before.append(code)
    return "\n\n".join([*before, chosen])


def _drop_main(code: str) -> str:
    """Drops a top-level `if __name__ == "__main__":`, which would read input or run examples."""
    tree = parse_python(code)
    guards = [
        node
        for node in (tree.body if tree else [])
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Compare)
        and isinstance(node.test.left, ast.Name)
        and node.test.left.id == "__name__"
        and not node.orelse
    ]
    lines = code.split("\n")
    if not guards or len(guards) == len(tree.body if tree else []):
        return code
    for node in reversed(guards):
        del lines[node.lineno - 1 : node.end_lineno]
    return "\n".join(lines)
