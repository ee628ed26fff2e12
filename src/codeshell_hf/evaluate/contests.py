"""LiveCodeBench: problems of programming contests, by the date of the contest, judged on hidden inputs.

Source:
    Jain et al. 2024, arXiv:2403.07974, and its released runner: prompts, stops, extraction, judge and limits.
"""

import base64
import io
import json
import pickle
import zlib
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .judged import SECONDS_TO_START, make_output_tests, make_reading_program, make_value_tests, wrap_statements
from .problems import Problem, Row, get_texts, read_rows
from .prompts import Prompt

CASE_S = 6.0
MAX_CASES_BYTES = 1 << 28
MODULE = "tmp_sol"
ENTRY = "wrapped_function"
# What the judge imports before each program, in its order: later modules take names of earlier ones.
MODULES = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json",
)  # fmt: skip
HEAD = "".join(f"from {name} import *\n" for name in (*MODULES, "builtins", "typing"))
HEAD += "".join(f"import {name}\n" for name in MODULES) + "sys.setrecursionlimit(50000)\n"
SYSTEM = (
    "You are an expert Python programmer. You will be given a question (problem specification) and will generate a "
    "correct Python program that matches the specification and passes all tests."
)
WITH_CODE = (
    "You will use the following starter code to write the solution to the problem and enclose your code within "
    "delimiters."
)
WITHOUT_CODE = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the sample "
    "inputs). Enclose your code within delimiters as follows. Ensure that when the python program runs, it reads the "
    "inputs, runs the algorithm and writes output to STDOUT."
)
# One worked example of each form, for models without a chat template; the released ones are others.
EXAMPLES = {
    "stdin": (
        "The first line has a number n, the second n integers. Print the largest of them.",
        "",
        "n = int(input())\nprint(max(map(int, input().split())))",
    ),
    "functional": (
        "Return how many numbers of a list are even.",
        "class Solution:\n    def countEven(self, nums: List[int]) -> int:\n        ",
        (
            "class Solution:\n    def countEven(self, nums: List[int]) -> int:\n"
            "        return sum(1 for number in nums if number % 2 == 0)"
        ),
    ),
}


class TextUnpickler(pickle.Unpickler):
    """Reads a pickled text, and nothing that would run code."""

    def find_class(self, module: str, name: str) -> object:
        """Refuses every class."""
        raise pickle.UnpicklingError(f"{module}.{name} is no text")


def read_livecodebench(path: Path) -> list[Problem]:
    """Reads LiveCodeBench's code generation, full or lite.

    Fields: `question_title`, `question_content`, `question_id`, `contest_date`, `starter_code`, `public_test_cases`,
    `private_test_cases` (JSON, or compressed as released) and `metadata`. A `canonical_solution` is ours.

    Raises:
        DataError: If a field is missing or unreadable.
    """
    problems = []
    for place, row in read_rows(path):
        key, asked, code, public, private = get_texts(
            row, place, "question_id", "question_content", "starter_code", "public_test_cases", "private_test_cases"
        )
        date = row.get("contest_date")
        cases = [*read_cases(public, place), *read_cases(private, place)]
        name = _read_metadata(row, place).get("func_name")
        if not cases:
            raise DataError(f"{place} has no test cases; give every field of LiveCodeBench")
        notes = {
            "date": str(date)[:10], "starter_code": code, "function": name, "prelude": "",
            "timeout_s": (CASE_S + 1) * len(cases) + SECONDS_TO_START,
        }  # fmt: skip
        if isinstance(answer := row.get("canonical_solution"), str):
            notes["answer"] = f"```python\n{answer}\n```"
        tests = make_tests(name, cases, place)
        problems.append(Problem(key, "py", asked, None, row.get("canonical_solution"), tests, notes=notes))
    return problems


def read_cases(text: str, place: str) -> list[tuple[str, str]]:
    """Inputs and outputs of a problem, which are JSON, or a pickled text of JSON in zlib in base64."""
    try:
        if not text.lstrip().startswith("["):
            decompress = zlib.decompressobj()
            packed = decompress.decompress(base64.b64decode(text), MAX_CASES_BYTES)
            if decompress.unconsumed_tail:
                raise DataError(f"{place} has more than {MAX_CASES_BYTES:,} bytes of test cases; leave it out")
            text = str(TextUnpickler(io.BytesIO(packed)).load())
        return [(str(case["input"]), str(case["output"])) for case in json.loads(text)]
    except (ValueError, TypeError, KeyError, EOFError, zlib.error, pickle.UnpicklingError) as error:
        reason = f"{type(error).__name__}: {error}"[:100]
        raise DataError(f"{place} has test cases that cannot be read ({reason}); give them as released") from error


def _read_metadata(row: Row, place: str) -> Row:
    try:
        metadata = json.loads(row.get("metadata") or "{}")
    except (TypeError, ValueError) as error:
        raise DataError(f"{place} has metadata that are not JSON ({error}); give them as released") from error
    if not isinstance(metadata, dict):
        raise DataError(f"{place} has metadata that are no object; give them as released")
    return metadata


def make_tests(name: str | None, cases: Sequence[tuple[str, str]], place: str) -> str:
    """The tests of a function, whose inputs are a JSON value on each line, or of a program that reads its input."""
    if name is None:
        return make_output_tests([(given, (output,)) for given, output in cases], "lines", CASE_S)
    try:
        values = [([json.loads(line) for line in given.split("\n")], json.loads(output)) for given, output in cases]
    except ValueError as error:
        raise DataError(f"{place} has a case of {name} that is not JSON ({error}); give it as released") from error
    return make_value_tests("call_solution", values, CASE_S)


def prompt_contest(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The question and the format of the answer, after the runner's system message."""
    code = problem.notes["starter_code"]
    form, shown = (WITH_CODE, code) if code else (WITHOUT_CODE, "# YOUR CODE HERE")
    text = f"### Question:\n{problem.prompt}\n\n### Format: {form}\n```python\n{shown}\n```\n\n"
    return Prompt(
        f"{text}### Answer: (use the provided format with backticks)\n\n", is_chat=True, system=SYSTEM
    )  # fmt: skip


def prompt_contest_shot(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The question after a worked example of the same form, for models without a chat template."""
    code = problem.notes["starter_code"]
    parts = []
    for asked, shown, answer in (EXAMPLES["functional" if code else "stdin"], (problem.prompt, code, "")):
        starter = f"### Starter Code\n{shown}\n\n" if code else ""
        parts.append(f"### Question\n{asked}\n\n{starter}### Answer\n\n{answer}")
    return Prompt("\n\n".join(parts))


def take_last_block(problem: Problem, text: str) -> str:
    """The code between the last two lines with a fence, as the runner extracts it; empty if there are not two."""
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line]
    return "" if len(fences) < 2 else "\n".join(lines[fences[-2] + 1 : fences[-1]])


def take_whole(problem: Problem, text: str) -> str:
    """The whole answer, or its code if a reference solution is fenced."""
    return text.strip() if "```" not in text else take_last_block(problem, text)


def program_contest(problem: Problem, code: str) -> tuple[str, str]:
    """The program as the judge runs it: a function or method to call, or all statements as one function."""
    name = problem.notes["function"]
    if name is None:
        wrapped = wrap_statements(code, ENTRY)
        return make_reading_program(wrapped, module=MODULE, function=ENTRY, head=HEAD), problem.tests
    owner = f"Solution().{name}" if "class Solution" in code else name
    return f"{HEAD}\n{code}\ncall_solution = {owner}\n", problem.tests
