"""Faulty programs for benchmarks, made of correct ones."""

from collections.abc import Sequence
from dataclasses import replace

from ..sandbox import Program, Sandbox
from ..text.faults import mutate
from .problems import Problem


def add_mutants(problems: Sequence[Problem], sandbox: Sandbox, *, per_problem: int) -> list[Problem]:
    """Adds faulty programs that fail the tests to each problem, at most `per_problem`, spread over the program.

    A mutant that passes may be correct, and one that times out proves nothing: neither is used.

    Returns:
        The problems with at least one, with `mutants`, and the first as `mutant`, in their notes.
    """
    candidates = []
    for problem in problems:
        found = mutate(f"{problem.prompt}{problem.reference}")
        step = max(1, len(found) // (3 * per_problem))
        candidates.append(found[::step][: 3 * per_problem])
    # They were made here, so none of them forges its verdict.
    programs = [
        Program(text, problem.tests, strict=False)
        for problem, found in zip(problems, candidates, strict=True)
        for text in found
    ]
    verdicts = iter(sandbox.run(programs))
    faulty = []
    for problem, found in zip(problems, candidates, strict=True):
        failed = [text for text in found if next(verdicts).status == "failed"][:per_problem]
        if failed:
            notes = {**problem.notes, "mutants": failed, "mutant": failed[0]}
            faulty.append(replace(problem, notes=notes))
    return faulty


def spread_faults(problems: Sequence[Problem], *, per_problem: int) -> list[Problem]:
    """Makes a problem of each of the first faulty programs of each problem, which `base` in the notes names."""
    return [
        replace(problem, id=f"{problem.id}#{number}", notes={**problem.notes, "mutant": mutant, "base": problem.id})
        for problem in problems
        for number, mutant in enumerate(problem.notes["mutants"][:per_problem], 1)
    ]
