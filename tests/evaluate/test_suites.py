"""Generated tests: the lines that they reach and the faults that they find, counted by hand."""

from codeshell_hf.evaluate.execution import Executor
from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.evaluate.profiles import PROFILES
from codeshell_hf.evaluate.suites import LINES, add_lines, interrupt, score_suites
from codeshell_hf.sandbox import Sandbox

PROMPT = 'def sign(x):\n    """Gives -1, 0 or 1."""\n'
BODY = "    if x > 0:\n        return 1\n    if x < 0:\n        return -1\n    return 0\n"
CHECK = "assert sign(5) == 1\nassert sign(-2) == -1\nassert sign(0) == 0"
MUTANTS = [
    PROMPT + BODY.replace("x > 0", "x >= 0"),
    PROMPT + BODY.replace("return -1", "return -2"),
    PROMPT + BODY.replace("return 1", "return 2"),
]
# A test, and what it is worth: all right, faults of three, lines of five, accepted.
TESTS = {
    "assert sign(5) == 1\n    assert sign(-2) == -1\n    assert sign(0) == 0": (1, 1, 1, 1),
    "assert sign(5) == 1": (0, 1 / 3, 2 / 5, 1),
    "for x in (0, -1):\n        assert sign(x) == x": (0, 2 / 3, 4 / 5, 1),
    "assert sign(5)": (0, 0, 2 / 5, 1),
    "try:\n        sign(5)\n    except BaseException:\n        pass": (0, 0, 2 / 5, 1),
    "pass": (0, 0, 0, 1),
    "assert sign(5) == 2": (0, 0, 0, 0),
    "import os; os._exit(0)": (0, 0, 0, 0),
    "": (0, 0, 0, 0),
    "assert (": (0, 0, 0, 0),
}


def make_problem() -> Problem:
    return Problem("sign", "py", PROMPT, None, BODY, CHECK, "sign", notes={"mutants": MUTANTS})


def test_tests_are_worth_what_they_reach_and_find(sandbox: Sandbox) -> None:
    problem = add_lines([make_problem()], sandbox)[0]
    executor = Executor(sandbox, PROFILES["test-generation-v2"], {"py": "3"})

    assert len(problem.notes[LINES]) == 5
    for text, worth in TESTS.items():
        score = score_suites(executor, [problem], {problem.key: [text]})
        found = [round(measure.value, 3) for measure in score.measures.values()]
        assert found == [round(value, 3) for value in worth], text


def test_lines_that_no_test_of_the_benchmark_reaches_do_not_count(sandbox: Sandbox) -> None:
    body = "    if x == 99:\n        return 7\n" + BODY
    problem = Problem("sign", "py", PROMPT, None, body, CHECK, "sign", notes={"mutants": MUTANTS})

    assert len(interrupt(PROMPT + body)) == 7
    assert len(add_lines([problem], sandbox)[0].notes[LINES]) == 6


def test_a_program_that_does_not_parse_has_no_lines() -> None:
    assert interrupt("def f(") == []
    assert interrupt("x = 1") == []
