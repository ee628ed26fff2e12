"""Whether code fits a grammar, and how its syntax tree is built, by tree-sitter."""

from typing import TYPE_CHECKING

from ..errors import SettingsError
from ..text.grammars import load_grammar

if TYPE_CHECKING:
    import tree_sitter


def has_errors(code: str, language: str, *, allowed: str = "") -> bool:
    """Whether a grammar finds an error in some code, other than a misplaced text `allowed`."""
    tree = parse(code, language)
    return tree.root_node.has_error and any(
        is_entered and node.type == "ERROR" and (node.text or b"").decode("utf-8", "replace") != (allowed or None)
        for is_entered, node in walk(tree)
    )


def list_kinds(code: str, language: str) -> list[tuple[bool, str]]:
    """The kinds of the syntax tree's nodes, each when it is entered (True) and left."""
    return [(is_entered, node.type) for is_entered, node in walk(parse(code, language))]


def parse(code: str, language: str) -> "tree_sitter.Tree":
    """A syntax tree; a `SettingsError` without the grammar."""
    grammar = load_grammar(language)
    if grammar is None:
        raise SettingsError(f"there is no grammar of {language} here; pip install 'codeshell-hf[evaluate]'")
    import tree_sitter

    return tree_sitter.Parser(grammar).parse(code.encode("utf-8", "replace"))


def walk(tree: "tree_sitter.Tree") -> "list[tuple[bool, tree_sitter.Node]]":
    """All nodes of a tree, each when it is entered (True) and when it is left."""
    found: list[tuple[bool, tree_sitter.Node]] = []
    waiting = [(True, tree.root_node)]
    while waiting:
        is_entered, node = waiting.pop()
        found.append((is_entered, node))
        if is_entered:
            waiting.append((False, node))
            waiting += [(True, child) for child in reversed(node.children)]
    return found
