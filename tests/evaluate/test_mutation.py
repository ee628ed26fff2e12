"""Faults put into right programs."""

import pytest

from codeshell_hf.evaluate.execution import find_reference_program, open_executor, score_programs
from codeshell_hf.evaluate.mutation import add_mutants
from codeshell_hf.evaluate.problems import Problem
from codeshell_hf.sandbox import Program, Sandbox
from codeshell_hf.text.faults import mutate
from tests.evaluate.sets import read

pytestmark = pytest.mark.xdist_group("execution")


def test_every_mutant_differs_by_one_fault_and_parses() -> None:
    body = "    if len(values) > 2 and True:\n        return values[0] - 1\n    return ''\n"
    source = f'def f(values):\n    """Doc."""\n{body}'

    mutants = mutate(source)

    assert len(mutants) == len(set(mutants)) >= 7
    for text in mutants:
        compile(text, "mutant", "exec")
        assert '"""Doc."""' in text
        assert sum(one != other for one, other in zip(text.splitlines(), source.splitlines(), strict=True)) == 1
    assert mutate("def f(:") == []


def test_faulty_programs_are_known_to_be_faulty(sandbox: Sandbox) -> None:
    found, problems = read("fixing-v1", "humaneval.jsonl")

    faulty = add_mutants(problems, sandbox, per_problem=3)

    assert len(faulty) >= 6
    for problem in faulty:
        verdicts = sandbox.run([Program(text, problem.tests) for text in problem.notes["mutants"]])
        assert {verdict.status for verdict in verdicts} == {"failed"}
        prompt = found.make_prompt(problem, ()).text
        assert problem.notes["mutant"].strip() in prompt
        assert prompt.endswith(problem.prompt.strip())
    executor = open_executor(found, faulty, sandbox)
    kept = score_programs(executor, faulty, {p.key: [p.notes["mutant"]] for p in faulty})
    mended = score_programs(executor, faulty, {p.key: [find_reference_program(p) or ""] for p in faulty})
    assert (kept.measures["pass@1"].value, mended.measures["pass@1"].value) == (0.0, 1.0)


def test_a_program_that_runs_out_of_time_is_no_faulty_one(sandbox: Sandbox) -> None:
    body = "    while n > 0:\n        n = n - 1\n    return n\n"
    problem = Problem("f", "py", "def f(n):\n", None, body, "assert f(3) == 0", "f")

    (faulty,) = add_mutants([problem], sandbox, per_problem=9)

    assert any("while not" in text for text in faulty.notes["mutants"])
    assert not any("n + 1" in text for text in faulty.notes["mutants"])  # it never ends
