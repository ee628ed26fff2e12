"""The tables of mutations fit the code, and their runner tells a caught mutation from one that survives."""

from pathlib import Path

import pytest

from tests.mutations import ROOT, Mutation, list_missing_tests, list_wings, load_table, mutate
from tests.mutations.__main__ import CAUGHT, FAILING, HANGS, SKIPPED, SURVIVES, UNFIT, Runner, format_table, main

# Counts that every table and all of them together must reach.
MIN_OF_A_WING = 3
MIN_OF_ALL = 40
WINGS = ("align", "curate", "evaluate", "pack", "publish", "train")

TOY_CODE = """
from time import sleep

def mean(values):
    return sum(values) / len(values)

def double(value):
    return value * 2

def count_down(value):
    while value > 0:
        sleep(0.01)
        value -= 1
    return value
"""
TOY_TESTS = """
import pytest
from toy import count_down, double, mean

def test_mean():
    assert mean([1, 2, 6]) == 3

def test_double():
    assert double(2) == 4

def test_count_down():
    assert count_down(3) == 0

def test_broken():
    assert False

@pytest.mark.skip
def test_skipped():
    assert mean([1]) == 2
"""


@pytest.mark.parametrize("wing", list_wings())
def test_every_mutation_fits_its_file_and_names_tests_that_exist(wing: str) -> None:
    table = load_table(wing)

    for mutation in table:
        mutate(ROOT, mutation)

    assert list_missing_tests(ROOT, table) == []
    assert len({(mutation.file, mutation.old, mutation.new) for mutation in table}) == len(table)
    assert len(table) >= MIN_OF_A_WING


def test_there_are_mutations_enough() -> None:
    wings = list_wings()

    assert set(wings) >= set(WINGS)
    assert sum(len(load_table(wing)) for wing in wings) >= MIN_OF_ALL


def test_the_runner_tells_what_is_caught_from_what_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # starts in half the time
    root = tmp_path / "checkout"
    (root / "src").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "src" / "toy.py").write_text(TOY_CODE, encoding="utf-8")
    (root / "tests" / "test_toy.py").write_text(TOY_TESTS, encoding="utf-8")
    (root / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nmarkers = ["slow: x", "gpu: x", "shared: x"]\n', encoding="utf-8"
    )

    def make(old: str, new: str, test: str) -> Mutation:
        return Mutation("src/toy.py", old, new, f"tests/test_toy.py::{test}", test)

    table = (
        make("len(values)", "1", "test_mean"),
        make("value * 2", "value + 2", "test_double"),  # 2 + 2 is 2 * 2
        make("value -= 1", "value -= 0", "test_count_down"),
        make("value * 2", "value * 3", "test_broken"),
        make("len(values)", "1", "test_skipped"),
        make("value", "1", "test_double"),
    )

    outcomes = Runner(root, tmp_path / "copies", jobs=2, timeout_s=60, slack_s=0, is_warm=False).run({"toy": table})

    found = {(outcome.mutation.new, outcome.mutation.what): outcome.outcome for outcome in outcomes}
    assert found == {
        ("1", "test_mean"): CAUGHT,
        ("value + 2", "test_double"): SURVIVES,
        ("value -= 0", "test_count_down"): HANGS,
        ("value * 3", "test_broken"): FAILING,
        ("1", "test_skipped"): SKIPPED,
        ("1", "test_double"): UNFIT,
    }
    assert (root / "src" / "toy.py").read_text(encoding="utf-8") == TOY_CODE
    assert format_table(outcomes).splitlines()[-1].split() == ["all", "6", "2", "1", "3"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("return 1", "return 2", "occurs 0 times"),
        ("x", "y", "occurs 2 times"),
        ("def f(x):", "def f(x:", "does not compile"),
        ("# why", "# because", "the same program"),
        ("return x", "return x", "the same text"),
    ],
)
def test_a_mutation_that_changes_nothing_or_does_not_fit_is_an_error(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    (tmp_path / "f.py").write_text("def f(x):  # why\n    return x\n", encoding="utf-8")

    with pytest.raises(ValueError, match=complaint):
        mutate(tmp_path, Mutation("f.py", old, new, "", ""))


def test_the_command_lists_what_it_would_try_and_names_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["core", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(load_table("core"))
    with pytest.raises(SystemExit, match=r"no table tests/mutations/coer\.py"):
        main(["coer"])
