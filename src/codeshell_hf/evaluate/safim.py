"""SAFIM: blocks, conditions and calls of programs are filled in, and judged by inputs and outputs or by syntax.

Source:
    Gong et al. 2024, arXiv:2403.04814, and its released cuts and evaluation.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .grammar import has_errors, list_kinds
from .judged import SECONDS_TO_START, Case, make_output_tests, make_reading_program
from .problems import Problem, Row, get_texts, read_rows
from .prompts import Prompt

GAP = "{{completion}}"
PLACES = {
    "python": "# TODO: Your code here",
    "java": "/* TODO: Your code here */",
    "cpp": "/* TODO: Your code here */",
    "csharp": "/* TODO: Your code here */",
}
KEYS = {"python": "py", "java": "java", "cpp": "cpp", "csharp": "cs"}
GRAMMARS = {"py": "python", "java": "java", "cpp": "cpp", "cs": "c-sharp"}
CASE_S = 5.0
PASS_KINDS = 4  # of Python's `pass` in a list of kinds


def read_safim(path: Path) -> list[Problem]:
    """Reads one part of SAFIM: blocks, control flow or calls.

    Fields: `task_id`, `lang`, `prompt` with a comment in place of the gap, `eval_prompt`, `ground_truth` and
    `unit_tests` (a JSON list of `input` and `output`, which is a list; empty for calls).

    Raises:
        DataError: If a field is missing or unreadable.
    """
    problems = []
    for place, row in read_rows(path):
        key, name, prompt, whole, answer = get_texts(
            row, place, "task_id", "lang", "prompt", "eval_prompt", "ground_truth"
        )
        if name not in PLACES:
            raise DataError(f"{place} has language {name!r}; use one of {', '.join(PLACES)}")
        before, gap, after = prompt.partition(PLACES[name])
        if not gap or whole.count(GAP) != 1:
            raise DataError(f"{place} has no single gap {PLACES[name]!r} and {GAP!r}; give every field of SAFIM")
        cases = read_cases(row, place)
        notes = {
            "whole": whole, "cases": cases, "answer": answer, "prelude": "", "code": whole.replace(GAP, answer),
            "timeout_s": (CASE_S + 1) * len(cases) + SECONDS_TO_START,
        }  # fmt: skip
        tests = make_output_tests(cases, "words", CASE_S) if KEYS[name] == "py" else json.dumps(cases)
        problems.append(Problem(key, KEYS[name], before, after, answer, tests, notes=notes))
    return problems


def read_cases(row: Row, place: str) -> list[Case]:
    """Inputs and accepted outputs."""
    given = row.get("unit_tests") or "[]"
    try:
        listed = json.loads(given) if isinstance(given, str) else given
        cases = []
        for case in listed or []:
            accepted = case["output"] if isinstance(case["output"], list) else [case["output"]]
            cases.append((str(case["input"]), tuple(map(str, accepted))))
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{place} has unit_tests that cannot be read ({error}); give them as released") from error
    return cases


def prompt_gap(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """What stands before the gap, and after it."""
    return Prompt(problem.prompt, problem.suffix or "")


def take_block(problem: Problem, text: str) -> str:
    """The first lines of an answer that are a block in the gap: the tree around them stays as it was."""
    language = GRAMMARS[problem.language]
    before, _, after = problem.notes["whole"].partition(GAP)
    kinds = list_kinds(before + ("pass" if language == "python" else "") + after, language)
    lines = text.splitlines(keepends=True)
    while lines and not is_block(kinds, before + "".join(lines) + after, language):
        lines.pop()
    return "".join(lines)


def is_block(kinds: Sequence[tuple[bool, str]], code: str, language: str) -> bool:
    """Whether a program without errors has the tree of one with an empty gap, and something in the gap."""
    if has_errors(code, language, allowed=";"):
        return False
    found = list_kinds(code, language)
    if len(kinds) > len(found):
        return False
    shared = measure_common_prefix(kinds, found) + measure_common_prefix(kinds[::-1], found[::-1])
    return len(kinds) - shared - (PASS_KINDS if language == "python" else 0) == 0


def measure_common_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """The length of two lists' common prefix."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))


def take_condition(problem: Problem, text: str) -> str:
    """The first line that is not blank in Python, elsewhere what stands before the closing parenthesis."""
    if problem.language == "py":
        return next((line for line in text.splitlines() if line.strip()), "")
    return _cut_at_depth(text, -1, keeps=False)


def take_call(problem: Problem, text: str) -> str:
    """A call up to its closing parenthesis."""
    return _cut_at_depth(text, 0, keeps=True)


def _cut_at_depth(text: str, least: int, *, keeps: bool) -> str:
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if sign == ")" and depth <= least:
            return text[: place + keeps]
    return text


def program_gap(problem: Problem, text: str) -> tuple[str, str]:
    """The program with its gap filled, which reads standard input."""
    whole = problem.notes["whole"].replace(GAP, text)
    if problem.language != "py":
        return whole, problem.tests
    return make_reading_program(whole, module="__main__"), problem.tests
