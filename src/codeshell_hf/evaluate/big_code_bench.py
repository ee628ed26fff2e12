"""BigCodeBench: functions that use many packages, with unit tests that look into the program's module.

Its tests replace names of the module and read its objects, so they share an interpreter with the program, which can
forge their verdict, as in every harness that runs them.

Source:
    Zhuo et al. 2024, arXiv:2406.15877, and its released prompts, stops, calibration and test run.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..text.code import extract_code
from .problems import Problem, get_texts, read_rows
from .prompts import Prompt

STOPS = (
    "<|endoftext|>", "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint(", "\ndef ", "\nclass ",
    "\nimport ", "\nfrom ", "\nassert ",
)  # fmt: skip
MODULE = "__test__"
REQUEST = "Please provide a self-contained Python script that solves the following problem in a markdown code block:"
# A module of its own, since tests replace names in it; both parts run in its scope.
START = f"""
import builtins, os, sys, types
module_of_tests = types.ModuleType({MODULE!r})
module_of_tests.__dict__.update(
    __builtins__=builtins, __file__="{MODULE}.py", __package__=None, sys=sys, os=os, environ=os.environ
)
sys.modules[{MODULE!r}] = module_of_tests
"""
RUN = """
import unittest
run_of_tests = unittest.TestResult()
unittest.TestLoader().loadTestsFromTestCase(module_of_tests.TestCases).run(run_of_tests)
for _, trace in run_of_tests.failures + run_of_tests.errors:
    print(trace)
assert run_of_tests.testsRun and run_of_tests.wasSuccessful()
"""


def read_bigcodebench(path: Path) -> list[Problem]:
    """Reads BigCodeBench, whole or the hard part.

    Fields: `task_id`, `complete_prompt`, `instruct_prompt`, `canonical_solution`, `code_prompt`, `test` and
    `entry_point`.
    """
    problems = []
    for place, row in read_rows(path):
        key, prompt, asked, solution, head, tests, name = get_texts(
            row,
            place,
            "task_id",
            "complete_prompt",
            "instruct_prompt",
            "canonical_solution",
            "code_prompt",
            "test",
            "entry_point",
        )
        notes = {"asked": asked, "head": head, "prelude": "", "answer": solution}
        run = f"exec(compile({tests!r}, '{MODULE}.py', 'exec'), module_of_tests.__dict__)\n{RUN}"
        problems.append(Problem(key, "py", prompt, None, solution, run, name, notes=notes))
    return problems


def read_bigcodebench_requests(path: Path) -> list[Problem]:
    """Reads BigCodeBench for chat models, whose answer is a whole script; see `read_bigcodebench`."""
    problems = []
    for problem in read_bigcodebench(path):
        whole = f"{problem.notes['head']}\n{problem.reference}"
        problems.append(replace(problem, notes={**problem.notes, "answer": f"```python\n{whole}\n```"}))
    return problems


def prompt_script(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The instruction and the description of the function."""
    return Prompt(f"{REQUEST}\n{problem.notes['asked'].strip()}\n", is_chat=True)


def program_completed(problem: Problem, text: str) -> tuple[str, str]:
    """The prompt and the answer, in a module after an empty function of the same head, as calibrated by the harness."""
    return make_module(problem, problem.prompt + text), problem.tests


def program_script(problem: Problem, text: str) -> tuple[str, str]:
    """The code of a chat answer, likewise."""
    return make_module(problem, extract_code(text, {problem.name})), problem.tests


def make_module(problem: Problem, source: str) -> str:
    """A program that runs a source in the module of the tests."""
    whole = f"{problem.notes['head']}\n    pass\n{source}"
    return f"{START}exec(compile({whole!r}, '{MODULE}.py', 'exec'), module_of_tests.__dict__)\n"
