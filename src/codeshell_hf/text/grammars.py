"""tree-sitter's grammars, by curation's names of languages."""

import functools
import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tree_sitter

# language: (package, its function that returns the grammar)
PACKAGES: dict[str, tuple[str, str]] = {
    "python": ("tree_sitter_python", "language"),
    "java": ("tree_sitter_java", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_tsx"),
    "go": ("tree_sitter_go", "language"),
    "c": ("tree_sitter_c", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
    "rust": ("tree_sitter_rust", "language"),
    "c-sharp": ("tree_sitter_c_sharp", "language"),
    "php": ("tree_sitter_php", "language_php"),
    "ruby": ("tree_sitter_ruby", "language"),
    "shell": ("tree_sitter_bash", "language"),
}

# Their file suffixes, as in curation.
ENDINGS: dict[str, str] = {
    "python": "py pyi pyw",
    "java": "java",
    "javascript": "js mjs cjs jsx",
    "typescript": "ts tsx mts cts",
    "go": "go",
    "c": "c h",
    "cpp": "cpp cc cxx c++ hpp hh hxx h++ ipp inl tpp ino",
    "rust": "rs",
    "c-sharp": "cs csx",
    "php": "php phtml php3 php4 php5",
    "ruby": "rb rake gemspec ru",
    "shell": "sh bash zsh ksh fish bats ebuild",
}
_LANGUAGES = {ending: language for language, endings in ENDINGS.items() for ending in endings.split()}


def find_language(path: str) -> str:
    """The language of a file by its suffix; "" if there is no grammar for it here.

    >>> find_language("src/Main.java"), find_language("README.md")
    ('java', '')
    """
    return _LANGUAGES.get(path.rpartition("/")[2].rpartition(".")[2], "")


@functools.cache
def load_grammar(language: str) -> "tree_sitter.Language | None":
    """Loads the grammar of a language; `None` if there is none or its package is not installed."""
    package, function = PACKAGES.get(language, ("", ""))
    if not package or importlib.util.find_spec("tree_sitter") is None or importlib.util.find_spec(package) is None:
        return None
    import tree_sitter

    return tree_sitter.Language(getattr(importlib.import_module(package), function)())
