"""Scores generated unit tests by the faulty programs that they reject, and the lines that they reach."""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from ..sandbox import Program, Sandbox
from .execution import Executor, OnProgress, find_reference_program
from .judged import UNREADABLE
from .problems import Problem
from .scores import SHOWN, ProblemRow, Score, make_score, mean

# In the notes: faulty programs, and programs that end where one of their lines begins.
MUTANTS, LINES = "mutants", "lines"
RIGHT, ACCEPTS, FAULTS, REACHED = "right tests", "accepts the right program", "faults found", "lines reached"
COUNTED = {FAULTS: "faulty programs", REACHED: "lines"}


def make_assertion(problem: Problem, text: str) -> str:
    """A whole test from the continuation of a call in an assertion."""
    return f"def test_{problem.name}():\n    assert {problem.name}({text}\n\ntest_{problem.name}()\n"


def make_suite(problem: Problem, text: str) -> str:
    """A whole test from what was written behind its head."""
    return f"def test_{problem.name}():\n    {text.strip()}\n\n\ntest_{problem.name}()\n"


def interrupt(source: str) -> list[str]:
    r"""Lists a program for each of its statements in functions, which ends the process where the statement begins.

    No test can catch that, unlike an error. Docstrings are left out, and programs that do not parse have none.

    >>> len(interrupt("def f(x):\n    '''Doc.'''\n    if x:\n        return 1\n    return 2\n"))
    3
    """
    try:
        count = len(list_statements(ast.parse(source)))
    except UNREADABLE:
        return []
    programs = []
    for number in range(count):
        tree = ast.parse(source)
        body, place = list_statements(tree)[number]
        body[place] = ast.parse("__import__('os')._exit(3)").body[0]
        programs.append(f"{ast.unparse(ast.fix_missing_locations(tree))}\n")
    return programs


def list_statements(tree: ast.AST) -> list[tuple[list[ast.stmt], int]]:
    """The statements inside functions, each as a body and its place there, without docstrings."""
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    found: dict[int, tuple[list[ast.stmt], int]] = {}
    for node in (inner for function in functions for inner in ast.walk(function)):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if not isinstance(body, list):  # that of a lambda is an expression
                continue
            for place, statement in enumerate(body):
                is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
                if not is_text:
                    found.setdefault(id(statement), (body, place))
    return list(found.values())


def add_lines(problems: Sequence[Problem], sandbox: Sandbox) -> list[Problem]:
    """Adds to each problem its program interrupted at each line that the benchmark's own tests reach."""
    candidates = [interrupt(f"{problem.prompt}{problem.reference}") for problem in problems]
    pairs = [(problem, text) for problem, own in zip(problems, candidates, strict=True) for text in own]
    # They were made here, so none of them forges its verdict.
    verdicts = iter(sandbox.run([Program(text, problem.tests, strict=False) for problem, text in pairs]))
    return [
        replace(problem, notes={**problem.notes, LINES: [text for text in own if not next(verdicts).passed]})
        for problem, own in zip(problems, candidates, strict=True)
    ]


def score_tests(
    executor: Executor,
    problems: Sequence[Problem],
    texts: Mapping[str, Sequence[str]],
    *,
    make: Callable[[Problem, str], str],
    wrong: Mapping[str, str],
    on_progress: OnProgress = lambda done: None,
) -> Score:
    """Runs generated tests with the right program, and with wrong ones that they should reject.

    Args:
        texts: What was written behind each test's head, by the problem's key.
        make: A whole test from that.
        wrong: By measure, the note of a problem that holds its wrong programs; "faults found" is one.

    Returns:
        "right tests", the share that the right program passes and every faulty one fails; "accepts the right program";
        and the share of wrong programs that are rejected, by measure, 0 for a test that rejects the right program.
    """
    limits = replace(executor.sandbox.limits, timeout_s=executor.profile.timeout_s)
    made: list[Program] = []
    for problem in problems:
        right = find_reference_program(problem, executor.profile) or ""
        programs = [right, *(program for note in wrong.values() for program in problem.notes[note])]
        for text in texts[problem.key]:
            made += [Program(program, make(problem, text), limits=limits) for program in programs]
    verdicts = iter(executor.sandbox.run(made, on_progress=on_progress, repeats_timeouts=True))
    names = (RIGHT, ACCEPTS, *wrong)
    values: dict[str, list[float]] = {name: [] for name in names}
    rows: list[ProblemRow] = []
    for problem in problems:
        found = []
        for _ in texts[problem.key]:
            accepts = next(verdicts).passed
            rejected = {name: [not next(verdicts).passed for _ in problem.notes[note]] for name, note in wrong.items()}
            shares = {name: mean(list(map(float, own))) for name, own in rejected.items()}
            shares |= {RIGHT: float(all(rejected[FAULTS])), ACCEPTS: 1.0}
            found.append(shares if accepts else dict.fromkeys(names, 0.0))
        for name in names:
            values[name].append(mean([one[name] for one in found]))
        right_ones = sum(one[RIGHT] for one in found)
        rows.append({"id": problem.id, "language": "py", "samples": max(1, len(found)), "right": right_ones})
    score = make_score(values, ["py"] * len(problems))
    score.problems = rows
    score.counts = {"problems": len(problems)}
    for name, note in wrong.items():
        score.counts[COUNTED[name]] = sum(len(problem.notes[note]) for problem in problems)
    score.samples = [
        {"id": problem.id, "written": texts[problem.key][0]} for problem in problems[:SHOWN] if texts[problem.key]
    ]
    return score


score_assertions = partial(score_tests, make=make_assertion, wrong={FAULTS: MUTANTS})
"""Scores tests of a single assertion, with faulty programs in the notes."""

score_suites = partial(score_tests, make=make_suite, wrong={FAULTS: MUTANTS, REACHED: LINES})
"""Scores whole tests, with faulty programs and those of `add_lines` in the notes."""
