"""Finds which files of a repository a file imports, from its text and the paths of the other files.

tree-sitter parses the imports of Python, JavaScript, TypeScript, Java, Go, C, C++ and Rust. Nothing is installed or
run: imports from outside the repository are ignored, and so are aliases and settings of build tools.
"""

import functools
import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import DataError
from ..text.grammars import load_grammar

if TYPE_CHECKING:
    import tree_sitter


@dataclass(frozen=True)
class Import:
    """An import and the paths that it may refer to.

    Args:
        paths: Candidates; the first that exists is taken. A leading slash anchors a path at the repository's root;
            other paths match the end of a file's path. A trailing slash means all files of a folder.
        is_near: Whether the part before a matched end must be a folder above the importer, or a common source root.
    """

    paths: tuple[str, ...]
    is_near: bool = False


_SOURCE_ROOTS = frozenset({"", "src", "lib", "python"})
_SCRIPT_SUFFIXES = (".ts", ".tsx", ".mts", ".cts", ".d.ts", ".js", ".jsx", ".mjs", ".cjs", ".vue", ".svelte", ".json")
_COMPILED_SUFFIXES = {".js": (".ts", ".tsx"), ".jsx": (".tsx",), ".mjs": (".mts",), ".cjs": (".cts",)}
_SCRIPT_QUERY = """
(import_statement source: (string (string_fragment) @name))
(export_statement source: (string (string_fragment) @name))
(call_expression function: (import) arguments: (arguments . (string (string_fragment) @name)))
(call_expression function: (identifier) @function arguments: (arguments . (string (string_fragment) @name))
 (#eq? @function "require"))
"""
_C_QUERY = "(preproc_include path: [(string_literal) (system_lib_string)] @name)"
_QUERIES = {
    "python": "[(import_statement) (import_from_statement)] @name",
    "javascript": _SCRIPT_QUERY,
    "typescript": _SCRIPT_QUERY + "(import_require_clause source: (string (string_fragment) @name))",
    "java": "(import_declaration) @name",
    "go": "(import_spec path: (interpreted_string_literal (interpreted_string_literal_content) @name))",
    "c": _C_QUERY,
    "cpp": _C_QUERY,
    "rust": "(mod_item !body name: (identifier) @module) (use_declaration argument: (_) @name)",
}
# Languages whose imports are parsed with another's grammar.
_SAME = {"cuda": "cpp", "objective-c": "c"}


def find_imports(text: str, language: str, path: str) -> list[Import]:
    """Finds the imports of a file, in order; none for unsupported languages.

    Args:
        language: As curation names it.
        path: Path of the file in its repository, with slashes.

    Raises:
        DataError: If the language's grammar is not installed.
    """
    language = _SAME.get(language, language)
    if language not in _QUERIES:
        return []
    from tree_sitter import QueryCursor

    parser, query = _load(language)
    captures = QueryCursor(query).captures(parser.parse(text.encode()).root_node)
    nodes = [(node, name) for name in ("name", "module") for node in captures.get(name, ())]
    nodes.sort(key=lambda found: found[0].start_byte)
    read = _READERS[language]
    return [one for node, name in nodes for one in read(node, path, name == "module")]


@functools.cache
def _load(language: str) -> "tuple[tree_sitter.Parser, tree_sitter.Query]":
    grammar = load_grammar(language)
    if grammar is None:
        raise DataError(f'finding imports of {language} needs tree-sitter; pip install "codeshell-hf[curate]"')
    import tree_sitter

    return tree_sitter.Parser(grammar), tree_sitter.Query(grammar, _QUERIES[language])


def _text(node: "tree_sitter.Node") -> str:
    return (node.text or b"").decode()


def _read_python(node: "tree_sitter.Node", path: str, _: bool) -> Iterator[Import]:  # noqa: FBT001 - all readers have one signature
    names = [
        _text(name.child_by_field_name("name") or name if name.type == "aliased_import" else name).split(".")
        for name in node.children_by_field_name("name")
    ]
    if node.type == "import_statement":
        for parts in names:
            yield Import(_list_modules(parts), is_near=len(parts) == 1)
        return
    module = node.child_by_field_name("module_name")
    dotted = _text(module) if module is not None else ""
    parts = [part for part in dotted.lstrip(".").split(".") if part]
    level = len(dotted) - len(dotted.lstrip("."))
    above = path.split("/")[:-level] if level else []
    if level > len(path.split("/")):
        return
    for more in names or [[]]:  # a star only imports the module
        # A name is a submodule, or defined in the module.
        paths = (*(_list_modules([*above, *parts, *more]) if more else ()), *_list_modules([*above, *parts]))
        yield Import(tuple(f"/{one}" for one in paths)) if level else Import(paths, is_near=len(parts) == 1)


def _list_modules(parts: Sequence[str]) -> tuple[str, ...]:
    if not parts:
        return ("__init__.py",)
    return "/".join(parts) + ".py", "/".join([*parts, "__init__.py"])


def _read_script(node: "tree_sitter.Node", path: str, _: bool) -> Iterator[Import]:  # noqa: FBT001
    name = _text(node)
    if name.startswith(("@/", "~/")):  # the common alias of the source folder
        yield Import(tuple(_list_scripts(f"src/{name[2:]}")))
    elif name.startswith("."):
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        yield Import(tuple(f"/{one}" for one in _list_scripts("" if inside == "." else inside)))


def _list_scripts(path: str) -> Iterator[str]:
    stem, suffix = posixpath.splitext(path)
    yield path
    yield from (stem + other for other in _COMPILED_SUFFIXES.get(suffix, ()))
    yield from (path + other for other in _SCRIPT_SUFFIXES if path)
    yield from (posixpath.join(path, "index") + other for other in _SCRIPT_SUFFIXES)


def _read_java(node: "tree_sitter.Node", _: str, __: bool) -> Iterator[Import]:  # noqa: FBT001
    names = [child for child in node.named_children if child.type in ("scoped_identifier", "identifier")]
    parts = _text(names[0]).replace(" ", "").split(".") if names else []
    is_static = any(child.type == "static" for child in node.children)
    if any(child.type == "asterisk" for child in node.children) and not is_static:
        yield Import(("/".join(parts) + "/",))
    elif len(parts) > 1:
        # The last name may be a member of the class before it.
        yield Import(tuple("/".join(parts[:end]) + ".java" for end in (len(parts), len(parts) - 1) if end > 1))


def _read_go(node: "tree_sitter.Node", _: str, __: bool) -> Iterator[Import]:  # noqa: FBT001
    parts = _text(node).split("/")
    # A path begins with the module's name; if that is an address, it has an unknown number of parts.
    starts = range(len(parts)) if "." in parts[0] else range(1, 2)
    if len(parts) > 1:
        yield Import(tuple("/" + "/".join(parts[start:]) + "/" for start in starts))


def _read_c(node: "tree_sitter.Node", path: str, _: bool) -> Iterator[Import]:  # noqa: FBT001
    name = _text(node)[1:-1]
    if node.type == "string_literal":
        beside = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        yield Import((f"/{beside}", posixpath.normpath(name)))
    else:
        yield Import((name if "/" in name else f"include/{name}",))


def _read_rust(node: "tree_sitter.Node", path: str, is_module: bool) -> Iterator[Import]:  # noqa: FBT001
    folder, name = posixpath.split(path)
    # Submodules are in a folder with the file's name; for mod.rs, lib.rs and main.rs, in the same folder.
    inside = folder if name in ("mod.rs", "lib.rs", "main.rs") else posixpath.join(folder, name.removesuffix(".rs"))
    if is_module:
        module = posixpath.join(inside, _text(node))
        yield Import((f"/{module}.rs", f"/{module}/mod.rs"))
        return
    for first, *rest in _list_uses(node):
        if first == "crate":
            parents = path.split("/")
            root = "/".join(parents[: parents.index("src") + 1]) if "src" in parents else ""
        elif first == "self":
            root = inside
        elif first == "super":
            root = posixpath.dirname(inside)
        else:
            continue
        above = next((count for count, name in enumerate(rest) if name != "super"), len(rest))
        for _ in range(above):
            root = posixpath.dirname(root)
        modules = [posixpath.join(root, *rest[above:end]) for end in range(len(rest), above, -1)]
        yield Import(tuple(f"/{module}{end}" for module in modules for end in (".rs", "/mod.rs")))


def _list_uses(node: "tree_sitter.Node") -> Iterator[list[str]]:
    """The paths of a `use` declaration, each as a list of names."""
    if node.type == "use_list":
        for child in node.named_children:
            yield from _list_uses(child)
    elif node.type == "scoped_use_list":
        path, names = node.child_by_field_name("path"), node.child_by_field_name("list")
        before = _text(path).split("::") if path is not None else []
        if names is not None:
            yield from ([*before, *after] for after in _list_uses(names))
    elif node.type == "use_as_clause":
        path = node.child_by_field_name("path")
        yield from _list_uses(path) if path is not None else ()
    elif node.type == "use_wildcard":
        yield _text(node).removesuffix("*").rstrip(":").split("::")
    elif node.type in ("identifier", "scoped_identifier", "crate", "self", "super"):
        yield _text(node).split("::")


_READERS: dict[str, "Callable[[tree_sitter.Node, str, bool], Iterator[Import]]"] = {
    "python": _read_python,
    "javascript": _read_script,
    "typescript": _read_script,
    "java": _read_java,
    "go": _read_go,
    "c": _read_c,
    "cpp": _read_c,
    "rust": _read_rust,
}


class Paths:
    """The file paths of a repository, against which imports are resolved."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._all = frozenset(paths)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_folder: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self._all):
            self._by_name[posixpath.basename(path)].append(path)
            self._by_folder[posixpath.dirname(path)].append(path)

    def resolve(self, imported: Import, importer: str) -> list[str]:
        """Finds the files that an import refers to, except the importer; of several matching paths, the nearest."""
        for path in imported.paths:
            if path.endswith("/"):
                found = self._find_folder(path, importer)
            else:
                found = self._find(path, importer, is_near=imported.is_near)
            if found:
                return [] if _is_own_package(found[0], importer) else [one for one in found if one != importer]
        return []

    def _find(self, path: str, importer: str, *, is_near: bool) -> list[str]:
        if path.startswith("/"):
            return [path[1:]] if path[1:] in self._all else []
        ends = [one for one in self._by_name.get(posixpath.basename(path), ()) if f"/{one}".endswith(f"/{path}")]
        if is_near:
            roots = {one: one.removesuffix(path).rstrip("/") for one in ends}
            ends = [one for one in ends if roots[one] in _SOURCE_ROOTS or importer.startswith(f"{roots[one]}/")]
        return [min(ends, key=lambda one: (-_count_shared(one, importer), len(one), one))] if ends else []

    def _find_folder(self, path: str, importer: str) -> list[str]:
        folder, suffix = path.strip("/"), posixpath.splitext(importer)[1]
        folders = (
            [folder] if path.startswith("/") else [one for one in self._by_folder if f"/{one}".endswith(f"/{folder}")]
        )
        return [
            one
            for name in folders
            for one in self._by_folder.get(name, ())
            if one.endswith(suffix) and not one.endswith("_test.go")
        ]


def _is_own_package(path: str, importer: str) -> bool:
    """Whether a path is the `__init__.py` of a package that contains the importer; it usually imports the importer."""
    folder, name = posixpath.split(path)
    return name == "__init__.py" and (not folder or importer.startswith(f"{folder}/"))


def _count_shared(path: str, other: str) -> int:
    """Number of leading folders that two paths share."""
    shared = 0
    for one, two in zip(path.split("/")[:-1], other.split("/")[:-1], strict=False):
        if one != two:
            break
        shared += 1
    return shared
