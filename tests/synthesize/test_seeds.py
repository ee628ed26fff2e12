"""Which snippets are drawn of curated code."""

from pathlib import Path

import pytest

from codeshell_hf.errors import DataError, SettingsError
from codeshell_hf.settings import load_settings
from codeshell_hf.synthesize.seeds import draw_seeds, list_snippets
from codeshell_hf.synthesize.settings import SeedSettings
from recipes.synthesize import Settings
from tests.synthesize.conftest import write_documents

CODE = '''import os


@cache
def first(x):
    """Doc."""
    y = x + 1
    return y


class Second:
    size = 3

    def third(self):
        # a comment
        total = 1

        return total


def short():
    pass
'''
SMALL = SeedSettings(min_lines=3)


def snippets(text: str, language: str = "python", **changes: object) -> dict[int, str]:
    return dict(list_snippets(text, language, SMALL.model_copy(update=changes)))


def test_snippets_are_functions_methods_and_classes_with_their_decorators() -> None:
    found = snippets(CODE)

    assert sorted(found) == [4, 11, 14]
    assert found[4] == '@cache\ndef first(x):\n    """Doc."""\n    y = x + 1\n    return y'
    assert found[14] == "def third(self):\n    # a comment\n    total = 1\n\n    return total", "without its indent"
    assert found[11].startswith("class Second:\n    size = 3\n")


def test_limits_and_docstrings_choose() -> None:
    assert sorted(snippets(CODE, max_lines=5)) == [4, 14]
    assert sorted(snippets(CODE, max_lines=4)) == []
    assert sorted(snippets(CODE, needs_docstring=True)) == [4]
    assert sorted(snippets(CODE, max_characters=62)) == [4]
    assert sorted(snippets(CODE, min_lines=5)) == [4, 11]


@pytest.mark.parametrize(
    "markup", ["<|endoftext|>", "<|im_start|>system", "<fim_prefix>", "[INST]", "</s>", "<｜User｜>"]
)
def test_a_snippet_that_a_chat_template_could_take_for_its_own_is_not_drawn(markup: str) -> None:
    assert snippets(f"def f(x):\n    y = '{markup}'\n    z = y\n    return z\n") == {}


def test_broken_python_has_no_snippet_and_other_languages_have_runs_of_lines() -> None:
    lines = [f"int x{number};" for number in range(8)]

    assert snippets("def f(:\n  a\n  b\n") == {}
    assert snippets("\n".join(lines), "c", max_lines=5) == {1: "\n".join(lines[:5]), 6: "\n".join(lines[5:])}
    assert snippets("\n".join(lines), "c", needs_docstring=True) == {}


def test_lines_are_counted_as_python_counts_them() -> None:
    """A form feed or U+2028 within a line ends none."""
    text = 'A = "\u2028\x0c"\ndef f(x):\r\n    y = x\r\n    return y\r\n'

    assert snippets(text) == {2: "def f(x):\n    y = x\n    return y"}


def test_seeds_are_drawn_by_language_quality_and_split(tmp_path: Path) -> None:
    text = "def f(x):\n    y = x\n    return y\n"
    folder = write_documents(
        tmp_path,
        [
            {"text": text},
            {"text": text, "language": "java"},
            {"text": text, "quality": 1.0},
            {"text": text, "quality": None},
            {"text": text, "split": "held-out"},
            {"text": "x = 1\n"},
        ],
    )

    seeds, counts = draw_seeds(folder, SMALL.model_copy(update={"min_quality": 3.0}), seed=0)

    assert [(one.id, one.licence, one.text) for one in seeds] == [("d0:1", "MIT", text.strip())]
    assert counts == {"with a seed": 1, "another language": 1, "low quality": 2, "no snippet fits": 1}
    assert {one.id for one in draw_seeds(folder, SMALL, seed=0)[0]} == {"d0:1", "d2:1", "d3:1"}


def test_the_same_seed_draws_the_same_in_any_order_of_documents(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": f"n{n}", "digest": str(n), "text": f"def f{n}(x):\n    y = x + {n}\n    return y\n" * 3}
        for n in range(40)
    ]
    settings = SMALL.model_copy(update={"count": 10, "per_document": 2})

    first = draw_seeds(write_documents(tmp_path / "a", rows), settings, seed=1)[0]
    again = draw_seeds(write_documents(tmp_path / "b", rows[::-1]), settings, seed=1)[0]
    other = draw_seeds(tmp_path / "a", settings, seed=2)[0]

    assert first == again
    assert len(first) == 10
    assert {one.id for one in first} != {one.id for one in other}
    wider = draw_seeds(tmp_path / "a", settings.model_copy(update={"count": 20}), seed=1)[0]
    assert wider[:10] == first, "more seeds begin with the same"
    per_document = [one.id.partition(":")[0] for one in draw_seeds(tmp_path / "a", SMALL, seed=1)[0]]
    assert len(per_document) == len(set(per_document)) == 40


def test_no_seed_is_an_error_with_reasons(tmp_path: Path) -> None:
    folder = write_documents(tmp_path, [{"text": "x = 1\n"}, {"text": "", "language": "c"}])

    with pytest.raises(DataError, match="no seed \\(1 no snippet fits, 1 another language\\)"):
        draw_seeds(folder, SMALL, seed=0)


def test_limits_that_exclude_everything_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("output: a\nreplies: [a]\nseeds: {min_lines: 9, max_lines: 3}\n")

    with pytest.raises(SettingsError, match="min_lines is 9, above max_lines, 3"):
        load_settings(Settings, tmp_path / "a.yaml")
