"""The layout keeps its figures: what CONTRIBUTING.md measures may get better, and not worse."""

import ast
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
# Settings and dataclasses that share names without saying the same: a source and what it gives, a stored state and what
# it restores, an evaluation's sections and its results, a task, what runs it and the
# defaults of its profile.
SHARED_NAMES = {
    ("Source", "Document"), ("Source", "Unit"), ("_GuardState", "Guard"), ("Settings", "ModelResult"),
    ("TaskSettings", "Profile"), ("TaskSettings", "Task"), ("TaskSettings", "Executor"),
}  # fmt: skip


@cache
def parse(folder: str) -> dict[Path, ast.Module]:
    paths = sorted((ROOT / folder).rglob("*.py"))
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths if "/data/" not in path.as_posix()}


def test_a_recipe_is_about_two_hundred_lines() -> None:
    long = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "recipes").glob("*.py")}

    assert max(long.values()) <= 215, long
    assert len(long) <= 17


def test_any_and_docstrings_stay_rare() -> None:
    uses = docstrings = lines = 0
    for path, tree in parse("src").items():
        lines += path.read_text(encoding="utf-8").count("\n")
        uses += sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree))
        for node in ast.walk(tree):
            first = node.body[0] if isinstance(node, DOCUMENTED) and node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and first.end_lineno is not None:
                docstrings += (first.end_lineno - first.lineno + 1) * isinstance(first.value.value, str)

    assert uses <= 100
    assert docstrings / lines < 0.2


@pytest.mark.parametrize(
    ("recipe", "reads", "functions"), [("rlhf", 12, 1), ("evaluate", 18, 2), ("pretrain", 18, 1), ("pack", 7, 1)]
)
def test_settings_are_taken_apart_where_they_arrive(recipe: str, reads: int, functions: int) -> None:
    tree = parse("recipes")[ROOT / "recipes" / f"{recipe}.py"]
    attributes = [node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    takers = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(one.arg == "settings" for one in node.args.args)
    ]

    assert sum(isinstance(node, ast.Name) and node.id == "settings" for node in attributes) <= reads
    assert len(takers) <= functions, takers


def list_fields() -> Iterator[tuple[str, bool, set[str]]]:
    """Name, whether it is a section of settings, and fields, of each such class and of each dataclass."""
    for path, tree in (*parse("src").items(), *parse("recipes").items(), *parse("tokenizer").items()):
        if path.name == "parameters.py":  # of requests, in the words of other servers
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef):
                continue
            fields = [
                part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
            ]
            names = {field.target.id for field in fields if isinstance(field.target, ast.Name)}
            is_section = any(
                field.value is not None and ast.unparse(field.value).startswith("Field(") for field in fields
            )
            if any("dataclass" in ast.unparse(line) for line in node.decorator_list):
                yield node.name, False, names
            elif is_section or {ast.unparse(base) for base in node.bases} & {"Section", "BaseModel", "StageSettings"}:
                yield node.name, True, names


def test_no_setting_is_written_twice() -> None:
    found = list(list_fields())
    sections = {name: fields for name, is_section, fields in found if is_section}
    others = {name: fields for name, is_section, fields in found if not is_section}

    twins = {(one, other) for one, other in product(sections, others) if len(sections[one] & others[other]) >= 3}

    assert len(sections) > 50
    assert len(others) > 100
    assert twins <= SHARED_NAMES
