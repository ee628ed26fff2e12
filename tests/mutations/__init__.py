"""Mutations: important lines, each with a wrong version that some test must notice.

`tests/mutations/<wing>.py` holds one table a wing. `python -m tests.mutations` applies each mutation to a copy of the
checkout and runs the tests named beside it; a mutation that these tests do not notice survives, and fails the run.
Lines are chosen for what they decide (signs, denominators, bounds, guards), before the tests are read.
"""

import ast
import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutation:
    """One wrong line.

    Attributes:
        file: Path in the checkout.
        old: Text that stands in the file exactly once; may span lines.
        new: What replaces it.
        tests: Paths or node ids, separated by spaces. One of them must fail; `slow` tests do not count.
        what: The mistake, in a few words.
    """

    file: str
    old: str
    new: str
    tests: str
    what: str


def list_wings() -> list[str]:
    """Names of the tables, sorted."""
    return sorted(
        module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if "__" not in module.name
    )


def load_table(wing: str) -> tuple[Mutation, ...]:
    """The mutations of one wing.

    Raises:
        SystemExit: If there is no such table.
    """
    if wing not in list_wings():
        raise SystemExit(f"no table tests/mutations/{wing}.py; there are {', '.join(list_wings())}")
    table: tuple[Mutation, ...] = importlib.import_module(f"tests.mutations.{wing}").MUTATIONS
    return table


def mutate(root: Path, mutation: Mutation) -> str:
    """The file's text with the mutation in it.

    Raises:
        ValueError: If the old text is missing or not unique, or if the new one is no program or the same program.
    """
    path = root / mutation.file
    if not path.is_file():
        raise ValueError(f"{mutation.file} does not exist")
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.old) != 1:
        raise ValueError(f"the old text occurs {text.count(mutation.old)} times in {mutation.file}, must be 1")
    mutated = text.replace(mutation.old, mutation.new)
    if mutated == text:
        raise ValueError(f"old and new are the same text in {mutation.file}")
    if path.suffix == ".py":
        try:
            is_same = ast.dump(ast.parse(mutated)) == ast.dump(ast.parse(text))
        except SyntaxError as error:
            raise ValueError(f"{mutation.file} does not compile with the new text: {error}") from error
        if is_same:
            raise ValueError(f"{mutation.file} is the same program with the new text")
    return mutated


def list_missing_tests(root: Path, mutations: Sequence[Mutation]) -> list[str]:
    """Files of tests that the table names and that do not exist."""
    files = {test.partition("::")[0] for mutation in mutations for test in mutation.tests.split()}
    return sorted(file for file in files if not (root / file).exists())
