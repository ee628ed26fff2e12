"""Perturbations: the syntax tree stays, the names that others know stay, and chance is the document's own."""

import ast
import sysconfig
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_python

from codeshell_hf.pack.perturbation import perturb
from codeshell_hf.pack.settings import Perturbation

ALWAYS = Perturbation(rate=1.0)
SOURCE = '''import os


def total_price(items, tax_rate, *, discount=0):
    """The price of items."""
    running_total = 0
    for item in items:
        running_total += item.price * (1 - discount)
        print(item.name, end="")



    return running_total * (1 + tax_rate) + os.getpid()
'''


def shape(text: str) -> list[str]:
    return [type(node).__name__ for node in ast.walk(ast.parse(text))]


def test_a_program_stays_what_it_is_and_changes_its_looks() -> None:
    found = {perturb(SOURCE, "python", f"{number}", ALWAYS) for number in range(30)}

    assert len(found) > 15
    assert all(shape(text) == shape(SOURCE) for text in found)
    assert all("os.getpid()" in text and ".price" in text and "end=" in text for text in found)
    assert any("running_total" not in text for text in found)
    assert any("\n  for" in text or "\n\tfor" in text for text in found)


def test_uneven_indentation_never_mixes_tabs_and_spaces() -> None:
    # Of 3, 4, 8 and 12 spaces, 12 alone would be tabs and no spaces.
    text = "def f(one,\n   two):\n    if one:\n        if two:\n            return two\n    return one\n"

    found = {perturb(text, "python", f"{number}", ALWAYS) for number in range(60)}

    assert len(found) > 10
    assert all(shape(one) == shape(text) for one in found)


def test_the_standard_library_keeps_its_trees() -> None:
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:15]
    changed = 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        new = perturb(text, "python", path.name, ALWAYS)
        assert shape(new) == shape(text), path.name
        changed += new != text
    assert changed > 9


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("java", "class A { int area(int width, int height) { int size = width * height; return size; } }\n"),
        ("javascript", "function area(width, height) {\n  const size = width * height;\n  return size;\n}\n"),
        ("go", "package a\n\nfunc area(width int) int {\n\tsize := width * 2\n\treturn size\n}\n"),
        ("c", "int area(int width) {\n    int size = width * 2;\n    return size;\n}\n"),
    ],
)
def test_other_languages_are_renamed_consistently(language: str, text: str) -> None:
    found = {perturb(text, language, f"{number}", ALWAYS) for number in range(20)} - {text}

    assert found
    assert all("area" in one for one in found), "what others call stays"
    renamed = [one for one in found if "width" not in one.replace("_width", "").replace("width_", "")]
    assert all(one.count("width") in (0, text.count("width")) for one in found)
    assert renamed or any("size" not in one for one in found)


def test_chance_is_the_documents_own_and_what_is_not_known_stays() -> None:
    assert perturb(SOURCE, "python", "a", ALWAYS) == perturb(SOURCE, "python", "a", ALWAYS)
    assert perturb(SOURCE, "python", "a", Perturbation(rate=1.0, seed=1)) != perturb(SOURCE, "python", "a", ALWAYS)
    assert perturb(SOURCE, "haskell", "a", ALWAYS) == SOURCE
    assert perturb("def f(:\n", "python", "a", ALWAYS) == "def f(:\n"
    some = sum(perturb(SOURCE, "python", f"{n}", Perturbation(rate=0.3)) != SOURCE for n in range(200))
    assert 35 < some < 85


def test_what_would_change_the_tree_stays() -> None:
    # Of four spaces and a tab, which is deeper, tabs alone would make one depth.
    text = "if one:\n    if two:\n\tcall()\n"
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_python.language()))

    found = {perturb(text, "python", f"{number}", ALWAYS) for number in range(40)}

    assert len(found) > 1
    trees = {str(parser.parse(one.encode()).root_node) for one in found}
    assert trees == {str(parser.parse(text.encode()).root_node)}
