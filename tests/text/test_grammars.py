"""Grammars load by the names of languages."""

import pytest
import tree_sitter

from codeshell_hf.curate.languages import LANGUAGES
from codeshell_hf.text.grammars import ENDINGS, PACKAGES, load_grammar


@pytest.mark.parametrize("language", sorted(PACKAGES))
def test_every_grammar_loads_and_has_one_root(language: str) -> None:
    grammar = load_grammar(language)

    assert grammar is not None
    root = tree_sitter.Parser(grammar).parse(b"\n").root_node
    assert root.parent is None
    assert not root.has_error


def test_other_languages_have_none() -> None:
    assert load_grammar("cobol") is None


def test_endings_are_those_that_curation_tells_languages_by() -> None:
    assert {language: LANGUAGES[language][0] for language in PACKAGES} == ENDINGS
