"""Introduces small faults into correct programs: a flipped comparison, an off-by-one, a negated condition."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..sandbox import Program, Sandbox
from .problems import Problem

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
}  # fmt: skip


def mutate(source: str) -> list[str]:
    r"""Lists every program with one small fault, in source order, reformatted; empty if the source does not parse.

    >>> [text.splitlines()[-1].strip() for text in mutate("def f(x):\n    return x + 1\n")]
    ['return x - 1', 'return x + 2']
    """
    try:
        count = sum(1 for _ in list_faults(ast.parse(source)))
    except (SyntaxError, ValueError):
        return []
    original = ast.unparse(ast.parse(source))
    programs = []
    for number in range(count):
        tree = ast.parse(source)
        for place, change in enumerate(list_faults(tree)):
            if place == number:
                change()
                break
        text = ast.unparse(ast.fix_missing_locations(tree))
        if text != original and text not in programs:
            programs.append(f"{text}\n")
    return programs


def list_faults(tree: ast.AST) -> Iterator["Fault"]:
    """Lists the possible faults of a program; calling one changes the tree in place."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.Module, ast.ClassDef)) and node.body
        if isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
            yield Fault(node, "ops", [COMPARISONS[type(node.ops[0])](), *node.ops[1:]])
        elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in OPERATORS:
            yield Fault(node, "op", OPERATORS[type(node.op)]())
        elif isinstance(node, ast.BoolOp):
            yield Fault(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
        elif isinstance(node, (ast.If, ast.While)):
            yield Fault(node, "test", ast.UnaryOp(ast.Not(), node.test))
        elif isinstance(node, ast.Constant) and id(node) not in docstrings:
            if isinstance(node.value, bool):
                yield Fault(node, "value", not node.value)
            elif isinstance(node.value, int):
                yield Fault(node, "value", node.value + 1)
            elif isinstance(node.value, str) and node.value:
                yield Fault(node, "value", "")


class Fault:
    """A new value for a field of a node."""

    def __init__(self, node: ast.AST, name: str, value: object) -> None:
        self._node = node
        self._name = name
        self._value = value

    def __call__(self) -> None:
        """Applies the fault."""
        setattr(self._node, self._name, self._value)


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
