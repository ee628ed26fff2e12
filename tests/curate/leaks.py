"""Ways in which a task of a benchmark gets into a corpus, for measuring what decontamination finds."""

import ast
import builtins
import keyword
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# What stands around a leak.
BEFORE = '"""Helpers of the reporting service."""\n\nimport logging\n\n_logger = logging.getLogger(__name__)\n\n\n'
AFTER = "\n\n\ndef close(service):\n    _logger.info('closing %s', service)\n    service.shutdown(wait=True)\n"
_FIXED = {*keyword.kwlist, *dir(builtins)}


@dataclass(frozen=True)
class Leak:
    """A task as a program: prompt with its docstring, solution and tests."""

    prompt: str
    solution: str
    test: str

    @property
    def program(self) -> str:
        return self.prompt + self.solution


def rename(code: str) -> str:
    """Gives functions, parameters and variables other names, and formats the code anew, without comments."""
    tree = ast.parse(code)
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    defined |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    defined |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    names = {name: f"{'qwzk'[place % 4]}{place}_item" for place, name in enumerate(sorted(defined - _FIXED))}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.name = names.get(node.name, node.name)
        elif isinstance(node, ast.arg):
            node.arg = names.get(node.arg, node.arg)
        elif isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    return ast.unparse(tree)


def describe(code: str, docstring: str | None) -> str:
    """Replaces the docstrings of functions; `None` removes them."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
            if docstring is not None:
                node.body.insert(0, ast.Expr(ast.Constant(docstring)))
    return ast.unparse(tree)


def _swap_lines(code: str) -> str:
    """Swaps every second pair of neighbouring lines of equal indentation."""
    lines = code.split("\n")
    place = 1
    while place + 1 < len(lines):
        first, second = lines[place], lines[place + 1]
        if first.strip() and len(first) - len(first.lstrip()) == len(second) - len(second.lstrip()):
            lines[place], lines[place + 1] = second, first
            place += 4
        else:
            place += 1
    return "\n".join(lines)


def _mix_case(text: str) -> str:
    rng = random.Random(len(text))
    return "".join(rng.choice((letter.lower(), letter.upper())) for letter in text)


KEEPING_TOKENS: dict[str, Callable[[Leak], str]] = {
    "as it is": lambda leak: leak.program,
    "prompt alone": lambda leak: leak.prompt,
    "solution with its head": lambda leak: describe(leak.program, None),
    "tests alone": lambda leak: leak.test,
    "tabs and Windows line ends": lambda leak: leak.program.replace("    ", "\t").replace("\n", "\r\n"),
    "empty lines and wide spaces": lambda leak: re.sub(r"(?<=\S) (?=\S)", "  ", leak.program).replace("\n", "\n\n"),
    "upper case": lambda leak: leak.program.upper(),
    "mixed case": lambda leak: _mix_case(leak.program),
    "commented out": lambda leak: "\n".join(f"# {line}" for line in leak.program.split("\n")),
    "quoted in Markdown": lambda leak: "\n".join(f"> {line}" for line in f"```\n{leak.program}\n```".split("\n")),
    "formatted anew": lambda leak: ast.unparse(ast.parse(leak.program)),
    "other quotes": lambda leak: leak.program.replace('"""', "'''").replace("'", '"'),
    "tests before the program": lambda leak: f"{leak.test}\n\n\n{leak.program}",
    "in a class": lambda leak: "class Tools:\n" + "\n".join(f"    {line}" for line in leak.program.split("\n")),
}
HARDER: dict[str, Callable[[Leak], str]] = {
    "docstring translated": lambda leak: describe(leak.program, "按照要求处理输入，并返回结果。"),
    "docstring paraphrased": lambda leak: describe(leak.program, "Works out the outcome that callers expect here."),
    "lines swapped": lambda leak: _swap_lines(describe(leak.program, None)),
    "renamed, docstring kept": lambda leak: rename(leak.program),
    "renamed, docstring gone": lambda leak: rename(describe(leak.program, None)),
    "renamed, docstring translated": lambda leak: rename(describe(leak.program, "按照要求处理输入，并返回结果。")),
}


def hide(text: str) -> bytes:
    """A document with a leak in it."""
    return (BEFORE + text + AFTER).encode()


def measure_recall(
    find: Callable[[bytes], object], leaks: Sequence[Leak], change: Callable[[Leak], str]
) -> tuple[float, list[Leak]]:
    """The share of changed leaks that are found, and those that are not; what cannot be changed is left out."""
    missed, tried = [], 0
    for leak in leaks:
        try:
            text = change(leak)
        except SyntaxError:
            continue
        tried += 1
        if find(hide(text)) is None:
            missed.append(leak)
    return 1 - len(missed) / max(tried, 1), missed
