"""Small changes of syntax that leave a program what it is: other names for its variables, another indentation.

Whatever is changed is parsed again, and kept only if its tree is the same as before.
"""

import functools
import hashlib
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from ..errors import DataError

# language: (package, function that gives the grammar, nodes in which an identifier is declared, nodes in which one is
# somebody else's name).
_GRAMMARS: dict[str, tuple[str, str, frozenset[str], frozenset[str]]] = {
    "python": (
        "tree_sitter_python",
        "language",
        frozenset({"parameters", "assignment", "for_statement", "default_parameter", "typed_parameter", "as_pattern"}),
        frozenset({"keyword_argument", "attribute", "dotted_name", "aliased_import", "global_statement"}),
    ),
    "java": (
        "tree_sitter_java",
        "language",
        frozenset({"variable_declarator", "formal_parameter"}),
        frozenset(
            {"field_access", "method_invocation", "scoped_identifier", "method_declaration", "class_declaration"}
        ),
    ),
    "javascript": (
        "tree_sitter_javascript",
        "language",
        frozenset({"variable_declarator", "formal_parameters"}),
        frozenset({"import_specifier", "export_specifier", "namespace_import", "import_clause"}),
    ),
    "go": (
        "tree_sitter_go",
        "language",
        frozenset({"short_var_declaration", "expression_list", "parameter_declaration", "var_spec"}),
        frozenset({"function_declaration", "selector_expression", "package_identifier"}),
    ),
    "c": (
        "tree_sitter_c",
        "language",
        frozenset({"init_declarator", "parameter_declaration", "declaration"}),
        frozenset({"function_declarator", "call_expression", "preproc_def", "preproc_function_def"}),
    ),
}
LANGUAGES = tuple(_GRAMMARS)
MIN_USES, MAX_RENAMED = 2, 8
_SHORT = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*\Z")
_INDENT = re.compile(r"^( +)(?=\S)", re.MULTILINE)
_BLANK = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Perturbation:
    """How often documents are changed.

    Args:
        rate: Share of the documents in known languages, 0 to 1.
        seed: Decides which, and how.
    """

    rate: float
    seed: int


@functools.cache
def _load(language: str) -> Any:
    package, function, _, _ = _GRAMMARS[language]
    try:
        import tree_sitter

        grammar = tree_sitter.Language(getattr(importlib.import_module(package), function)())
    except ImportError as error:
        raise DataError('perturbation reads programs by tree-sitter; pip install "codeshell-hf[curate]"') from error
    return tree_sitter.Parser(grammar)


def perturb(text: str, language: str, identity: str, options: Perturbation) -> str:
    """Changes a program, or not, by its identity alone.

    Args:
        text: The program.
        language: As curation names it.
        identity: Of the document.
        options: How often.

    Returns:
        Another text with the same syntax tree; the text itself for unknown languages, for programs that do not parse,
        and for those that are not drawn.

    Raises:
        DataError: If tree-sitter is not installed.
    """
    number = hashlib.sha256(f"{options.seed}/{identity}".encode()).digest()
    chance = Random(number)
    if language not in _GRAMMARS or chance.random() >= options.rate:
        return text
    kinds = _list_kinds(text.encode(), language)
    if kinds is None:
        return text
    steps: list[Callable[[str], str]] = [
        lambda one: _rename(one, language, chance),
        lambda one: _indent(one, chance),
        lambda one: _BLANK.sub("\n\n", one),
    ]
    for step in steps:
        changed = step(text)
        if changed != text and _list_kinds(changed.encode(), language) == kinds:
            text = changed
    return text


def _walk(data: bytes, language: str) -> Any:
    """Every node of a program, with its parent, in order."""
    todo = [(_load(language).parse(data).root_node, None)]
    while todo:
        node, parent = todo.pop()
        yield node, parent
        todo += [(child, node) for child in reversed(node.children)]


def _list_kinds(data: bytes, language: str) -> list[str] | None:
    """The kinds of all nodes in order; `None` where the program does not parse."""
    kinds = []
    for node, _ in _walk(data, language):
        if node.is_error or node.is_missing:
            return None
        kinds.append(node.type)
    return kinds


def _rename(text: str, language: str, chance: Random) -> str:
    """Gives variables that the program declares other names, wherever they stand."""
    data = text.encode()
    _, _, declaring, foreign = _GRAMMARS[language]
    places: dict[bytes, list[tuple[int, int]]] = {}
    declared, forbidden = set(), set()
    for node, parent in _walk(data, language):
        if not node.type.endswith("identifier") or node.child_count:
            continue
        name = node.text
        places.setdefault(name, []).append((node.start_byte, node.end_byte))
        if parent is not None and parent.type in declaring:
            declared.add(name)
        if node.type != "identifier" or (parent is not None and parent.type in foreign):
            forbidden.add(name)
    names = sorted(
        name for name in declared - forbidden if len(places[name]) >= MIN_USES and _SHORT.match(name) and len(name) > 1
    )
    chosen = chance.sample(names, min(len(names), chance.randint(1, MAX_RENAMED)))
    edits = []
    for name in chosen:
        new = _make_name(name.decode(), chance)
        if new.encode() not in data:
            edits += [(start, end, new.encode()) for start, end in places[name]]
    for start, end, new_name in sorted(edits, reverse=True):
        data = data[:start] + new_name + data[end:]
    return data.decode()


def _make_name(name: str, chance: Random) -> str:
    """Another name of the same thing: shorter, longer, or in another style."""
    words = [word for word in re.split(r"_|(?<=[a-z])(?=[A-Z])", name) if word]
    styles = (
        "_".join(word.lower() for word in words) + "_",
        words[0].lower() + "".join(word.capitalize() for word in words[1:]) + chance.choice(("Value", "Item", "Var")),
        "".join(word[0].lower() for word in words) + str(chance.randint(0, 9)),
        chance.choice(("the_", "my_", "cur_")) + "_".join(word.lower() for word in words),
    )
    return chance.choice(styles)


def _indent(text: str, chance: Random) -> str:
    """Indents by another width, or by tabs."""
    widths = [len(spaces) for spaces in _INDENT.findall(text)]
    if not widths:
        return text
    unit = min(widths)
    # Spaces left over behind tabs are an error in Python, which tree-sitter reads all the same.
    is_even = not any(width % unit for width in widths)
    new = chance.choice([one for one in ("  ", "    ", "\t") if one != " " * unit and (is_even or one != "\t")])
    return _INDENT.sub(lambda found: new * (len(found[1]) // unit) + " " * (len(found[1]) % unit), text)
