"""CRUXEval: what is taken from an answer, and what counts as right."""

import json
from pathlib import Path

import pytest

from codeshell_hf.evaluate.execution import open_executor, score_programs
from codeshell_hf.evaluate.problems import Problem, read_problems
from codeshell_hf.evaluate.profiles import PROFILES
from codeshell_hf.sandbox import Sandbox

CODE = "def f(words, n):\n    return [word * n for word in words]"
# Answers, and whether the released check accepts them: `assert OUTPUT == ANSWER` behind the function, by hand.
OUTPUTS = {
    "assert f(['a'], 2) == ['aa']\n[/ANSWER]": True,
    "['aa']": True,
    "['aa'] # since it is repeated": True,
    "['a' * 2]": True,
    "list(('aa',))": True,
    "assert f(['a'], 2) == ['aa'], 'message'": True,
    "assert f(['a'], 2) == ['aa'] == ['aa']": True,
    "('aa',)": False,
    "['aaa']": False,
    "f(['a'], 2)": False,  # the call itself is no answer
    "['aa'": False,
    "??": False,
    "": False,
}
INPUTS = {
    "assert f(['a'], 2) == ['aa']\n[/ANSWER]": True,
    "f(['a'], 2)": True,
    "assert f(['aa'], 1) == ['aa']": True,
    "assert f(('a',), n=2) == ['aa']": True,
    "assert f(*[['a'], 2]) == ['aa']": True,
    "assert f(['a'], 3) == ['aaa']": False,
    "assert g(['a'], 2) == ['aa']": False,
    "g(['a'], 2)": False,
    "['aa']": False,
    "": False,
}


def read(tmp_path: Path, profile: str) -> Problem:
    path = tmp_path / "cruxeval.jsonl"
    path.write_text(json.dumps({"id": "sample_0", "code": CODE, "input": "['a'], 2", "output": "['aa']"}))
    return read_problems(path, PROFILES[profile].read)[0]


def judge(problem: Problem, profile: str, answers: list[str], sandbox: Sandbox) -> list[bool]:
    protocol = PROFILES[profile]
    executor = open_executor(protocol, [problem], sandbox)
    assert protocol.program is not None
    made = [protocol.program(problem, protocol.cut(problem, text))[0] for text in answers]
    return [score_programs(executor, [problem], {problem.key: [one]}).measures["pass@1"].value == 1.0 for one in made]


def test_outputs_are_judged_as_by_the_released_check(tmp_path: Path, sandbox: Sandbox) -> None:
    problem = read(tmp_path, "cruxeval-output-v1")

    found = judge(problem, "cruxeval-output-v1", list(OUTPUTS), sandbox)

    assert dict(zip(OUTPUTS, found, strict=True)) == OUTPUTS


def test_inputs_are_judged_by_the_function_of_the_tests(tmp_path: Path, sandbox: Sandbox) -> None:
    problem = read(tmp_path, "cruxeval-input-v1")

    found = judge(problem, "cruxeval-input-v1", list(INPUTS), sandbox)

    assert dict(zip(INPUTS, found, strict=True)) == INPUTS


@pytest.mark.parametrize(
    "answer",
    [
        "['aa'] or 1 == 1",
        "type('A', (), {'__eq__': lambda *_: True})()",
        "type('L', (list,), {'__eq__': lambda *_: True, '__ne__': lambda *_: False})(['b'])",
        "0\n    answer = lambda: 1",
        "__import__('os')._exit(0)",
        "exit(0)",
    ],
)
def test_forged_outputs_are_wrong(answer: str, tmp_path: Path, sandbox: Sandbox) -> None:
    """Of these, the released check accepts the first two: they stand in the text of its assertion."""
    problem = read(tmp_path, "cruxeval-output-v1")

    assert judge(problem, "cruxeval-output-v1", [answer], sandbox) == [False]


@pytest.mark.parametrize(
    "answer", ["['aa'] if f else f(1)", "f(['b'], 2) or ['aa']", "(lambda *_: ['aa'])(f(['a'], 1))", "f(exit(0))"]
)
def test_forged_inputs_are_wrong(answer: str, tmp_path: Path, sandbox: Sandbox) -> None:
    problem = read(tmp_path, "cruxeval-input-v1")

    assert judge(problem, "cruxeval-input-v1", [answer], sandbox) == [False]


def test_prompts_end_where_the_answer_begins(tmp_path: Path) -> None:
    output, given = read(tmp_path, "cruxeval-output-v1"), read(tmp_path, "cruxeval-input-v1")

    asked = PROFILES["cruxeval-output-v1"].make_prompt(output, ()).text
    inverse = PROFILES["cruxeval-input-v1"].make_prompt(given, ()).text
    steps = PROFILES["cruxeval-output-steps-v1"].make_prompt(output, ()).text

    assert asked.endswith(f"[PYTHON]\n{CODE}\nassert f(['a'], 2) == ??\n[/PYTHON]\n[ANSWER]\n")
    assert inverse.endswith(f"[PYTHON]\n{CODE}\nassert f(??) == ['aa']\n[/PYTHON]\n[ANSWER]\n")
    assert steps.endswith("[/PYTHON]\n[THOUGHT]\n")
    assert (asked.count("[/ANSWER]"), inverse.count("[/ANSWER]"), steps.count("[/ANSWER]")) == (3, 3, 2)
    text = "1 == 2 so\n[/THOUGHT]\n[ANSWER]\nassert f(['a'], 2) == ['aa']\n"
    assert PROFILES["cruxeval-output-steps-v1"].cut(output, text) == "['aa']"
