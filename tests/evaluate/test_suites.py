"""Generated tests: the lines that they reach and the faults that they find, counted by hand."""

from dataclasses import replace

from codeshell_hf.evaluate.execution import Executor, open_executor
from codeshell_hf.evaluate.mutation import add_mutants
from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.evaluate.profiles import PROFILES
from codeshell_hf.evaluate.suites import LINES, add_lines, interrupt, score_assertions, score_suites
from codeshell_hf.sandbox import Sandbox
from tests.evaluate.sets import read

PROMPT = 'def sign(x):\n    """Gives -1, 0 or 1."""\n'
BODY = "    if x > 0:\n        return 1\n    if x < 0:\n        return -1\n    return 0\n"
CHECK = "assert sign(5) == 1\nassert sign(-2) == -1\nassert sign(0) == 0"
MUTANTS = [
    PROMPT + BODY.replace("x > 0", "x >= 0"),
    PROMPT + BODY.replace("return -1", "return -2"),
    PROMPT + BODY.replace("return 1", "return 2"),
]
MEASURES = ("right tests", "faults found", "lines reached", "accepts the right program")
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
        found = [round(score.measures[name].value, 3) for name in MEASURES]
        assert found == [round(value, 3) for value in worth], text


def test_lines_that_no_test_of_the_benchmark_reaches_do_not_count(sandbox: Sandbox) -> None:
    body = "    if x == 99:\n        return 7\n" + BODY
    problem = Problem("sign", "py", PROMPT, None, body, CHECK, "sign", notes={"mutants": MUTANTS})

    assert len(interrupt(PROMPT + body)) == 7
    assert len(add_lines([problem], sandbox)[0].notes[LINES]) == 6


def test_a_program_that_does_not_parse_has_no_lines() -> None:
    assert interrupt("def f(") == []
    assert interrupt("x = 1") == []


def test_written_tests_have_to_pass_the_right_program_and_fail_faulty_ones(sandbox: Sandbox) -> None:
    found, problems = read("test-generation-v1", "humaneval.jsonl")
    faulty = [problem for problem in add_mutants(problems, sandbox, per_problem=3) if problem.name == "add_three"]
    executor = open_executor(found, faulty, sandbox)
    cases = {"1) == 4 and add_three(-3) == 0": (1, 1, 1), "1) or True": (0, 1, 0), "1) == 5": (0, 0, 0), "": (0, 0, 0)}

    for text, expected in cases.items():
        score = score_assertions(executor, faulty, {faulty[0].key: [text]})
        values = tuple(measure.value for measure in score.measures.values())
        assert values == expected, text


def test_a_test_that_finds_one_of_two_faults_is_not_right(sandbox: Sandbox) -> None:
    found, problems = read("test-generation-v1", "humaneval.jsonl")
    (problem,) = [problem for problem in problems if problem.name == "add_three"]
    mutants = [f"{problem.prompt}    return {body}\n" for body in ("x + 4", "x - 3")]
    faulty = [replace(problem, notes={**problem.notes, "mutants": mutants})]
    executor = open_executor(found, faulty, sandbox)

    score = score_assertions(executor, faulty, {problem.key: ["0) != 4"]})

    assert [measure.value for measure in score.measures.values()] == [0.0, 1.0, 0.5]
