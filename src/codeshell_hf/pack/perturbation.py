"""Augmentation that keeps the syntax tree of a program: renames variables, and changes indentation and blank lines.

Each change is parsed again, and kept only if the tree is the same as before.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING

from ..errors import DataError
from ..text.grammars import load_grammar
from .settings import Perturbation

if TYPE_CHECKING:
    import tree_sitter

# language: (nodes that declare an identifier, nodes whose identifiers must keep their names)
_NODES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "python": (
        frozenset({"parameters", "assignment", "for_statement", "default_parameter", "typed_parameter", "as_pattern"}),
        frozenset({"keyword_argument", "attribute", "dotted_name", "aliased_import", "global_statement"}),
    ),
    "java": (
        frozenset({"variable_declarator", "formal_parameter"}),
        frozenset(
            {"field_access", "method_invocation", "scoped_identifier", "method_declaration", "class_declaration"}
        ),
    ),
    "javascript": (
        frozenset({"variable_declarator", "formal_parameters"}),
        frozenset({"import_specifier", "export_specifier", "namespace_import", "import_clause"}),
    ),
    "go": (
        frozenset({"short_var_declaration", "expression_list", "parameter_declaration", "var_spec"}),
        frozenset({"function_declaration", "selector_expression", "package_identifier"}),
    ),
    "c": (
        frozenset({"init_declarator", "parameter_declaration", "declaration"}),
        frozenset({"function_declarator", "call_expression", "preproc_def", "preproc_function_def"}),
    ),
}
LANGUAGES = tuple(_NODES)
MIN_USES, MAX_RENAMED = 2, 8
_SHORT = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*\Z")
_INDENT = re.compile(r"^( +)(?=\S)", re.MULTILINE)
_BLANK = re.compile(r"\n{3,}")


@functools.cache
def _load(language: str) -> "tree_sitter.Parser":
    grammar = load_grammar(language)
    if grammar is None:
        raise DataError('perturbation needs tree-sitter; pip install "codeshell-hf[curate]"')
    import tree_sitter

    return tree_sitter.Parser(grammar)


def perturb(text: str, language: str, identity: str, perturbation: Perturbation) -> str:
    """Changes a program, or leaves it, as decided by the seed and the document's id.

    Args:
        language: As curation names it.
        identity: The document's id.

    Returns:
        A text with the same syntax tree; the same text for unsupported languages, programs that do not parse, and
        documents that are not drawn.

    Raises:
        DataError: If tree-sitter is not installed.
    """
    rng = Random(hashlib.sha256(f"{perturbation.seed}/{identity}".encode()).digest())
    if language not in _NODES or rng.random() >= perturbation.rate:
        return text
    outline = _outline(text.encode(), language)
    if outline is None:
        return text
    steps: list[Callable[[str], str]] = [
        lambda one: _rename(one, language, rng),
        lambda one: _indent(one, rng),
        lambda one: _BLANK.sub("\n\n", one),
    ]
    for step in steps:
        changed = step(text)
        if changed != text and _outline(changed.encode(), language) == outline:
            text = changed
    return text


def _walk(data: bytes, language: str) -> "Iterator[tuple[tree_sitter.Node, tree_sitter.Node | None]]":
    """Every node of a program, with its parent, in order."""
    todo: list[tuple[tree_sitter.Node, tree_sitter.Node | None]] = [(_load(language).parse(data).root_node, None)]
    while todo:
        node, parent = todo.pop()
        yield node, parent
        todo += [(child, node) for child in reversed(node.children)]


def _outline(data: bytes, language: str) -> list[tuple[str, int]] | None:
    """Type and number of children of each node in order, which determine the tree; `None` if it does not parse."""
    outline = []
    for node, _ in _walk(data, language):
        if node.is_error or node.is_missing:
            return None
        outline.append((node.type, node.child_count))
    return outline


def _rename(text: str, language: str, rng: Random) -> str:
    """Renames some variables that the program declares, everywhere in it."""
    data = text.encode()
    declaring, foreign = _NODES[language]
    places: dict[bytes, list[tuple[int, int]]] = {}
    declared: set[bytes] = set()
    forbidden: set[bytes] = set()
    for node, parent in _walk(data, language):
        if not node.type.endswith("identifier") or node.child_count:
            continue
        name = data[node.start_byte : node.end_byte]
        places.setdefault(name, []).append((node.start_byte, node.end_byte))
        if parent is not None and parent.type in declaring:
            declared.add(name)
        if node.type != "identifier" or (parent is not None and parent.type in foreign):
            forbidden.add(name)
    names = sorted(
        name for name in declared - forbidden if len(places[name]) >= MIN_USES and _SHORT.match(name) and len(name) > 1
    )
    chosen = rng.sample(names, min(len(names), rng.randint(1, MAX_RENAMED)))
    edits: list[tuple[int, int, bytes]] = []
    for name in chosen:
        new = _make_name(name.decode(), rng)
        if new.encode() not in data:
            edits += [(start, end, new.encode()) for start, end in places[name]]
    for start, end, new_name in sorted(edits, reverse=True):
        data = data[:start] + new_name + data[end:]
    return data.decode()


def _make_name(name: str, rng: Random) -> str:
    """A shorter or longer name, or one in another style."""
    words = [word for word in re.split(r"_|(?<=[a-z])(?=[A-Z])", name) if word]
    styles = (
        "_".join(word.lower() for word in words) + "_",
        words[0].lower() + "".join(word.capitalize() for word in words[1:]) + rng.choice(("Value", "Item", "Var")),
        "".join(word[0].lower() for word in words) + str(rng.randint(0, 9)),
        rng.choice(("the_", "my_", "cur_")) + "_".join(word.lower() for word in words),
    )
    return rng.choice(styles)


def _indent(text: str, rng: Random) -> str:
    """Changes the width of the indentation, or uses tabs."""
    widths = [len(spaces) for spaces in _INDENT.findall(text)]
    if not widths:
        return text
    unit = min(widths)
    # Spaces after tabs would be an error in Python, which tree-sitter does not report.
    is_even = not any(width % unit for width in widths)
    new = rng.choice([one for one in ("  ", "    ", "\t") if one != " " * unit and (is_even or one != "\t")])
    return _INDENT.sub(lambda found: new * (len(found[1]) // unit) + " " * (len(found[1]) % unit), text)
