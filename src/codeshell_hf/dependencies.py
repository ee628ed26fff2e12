"""Computes a module's dependencies from its source: modules of this project that it may import, files that it may read.

Imports count anywhere, also in functions, with the `__init__` of each enclosing package; so do modules named by a
string, as in `[sys.executable, "-m", "recipes.evaluate"]`. Imports for type checkers do not. Files are found from
`__file__`: `Path(__file__).with_suffix(".yaml")`, or `ROOT / "card.md"` with `ROOT` of another module. A folder means
all files in it; the module's own folder means its files that are not modules.
"""

import ast
import functools
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .manifest import hash_bytes

PACKAGES = ("codeshell_hf", "recipes", "tokenizer")
_OURS = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.[a-z_]\w*)+")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def hash_code(start: Path) -> str:
    """Hash of all that a module depends on, without comments, docstrings, formatting and install locations."""
    parts: list[bytes] = []
    for name, path in sorted(list_dependencies(start).items()):
        parts += [name.encode(), _read(path).digest if path.suffix == ".py" else path.read_bytes()]
    return hash_bytes(*parts)


def list_dependencies(start: Path) -> dict[str, Path]:
    """All files that a module may import or read, itself included, by path relative to their package's parent.

    Files of other projects' packages are left out.
    """
    packages = _Packages()
    found: set[Path] = set()
    start = start.resolve()
    waiting = [start, *packages.list_enclosing(start)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            if path.suffix == ".py":
                waiting += packages.list_imported(_read(path))
                waiting += packages.list_read(_read(path))
    return {packages.name_file(path): path for path in found}


@dataclass
class _SourceFile:
    """The relevant parts of a module's source.

    Args:
        path: Its file.
        digest: Hash of its syntax tree without docstrings.
        imports: Number of leading dots, module name, and imported names.
        texts: Strings that may name modules.
        taken: For each imported name, the module as in `imports`, and the name there.
        assigned: For each name assigned at module level, its value.
        names: Names that are used.
        places: Expressions that may be paths.
    """

    path: Path
    digest: bytes = b""
    imports: set[tuple[int, str, tuple[str, ...]]] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    taken: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    assigned: dict[str, ast.expr] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    places: list[ast.expr] = field(default_factory=list)


def _read(path: Path) -> _SourceFile:
    status = path.stat()
    return _parse(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1024)
def _parse(path: Path, changed_ns: int, size: int) -> _SourceFile:
    """Parses a module, once per process unless its file changes."""
    text = path.read_bytes()
    source = _SourceFile(path)
    try:
        tree = ast.parse(text, filename=str(path))
    except (SyntaxError, ValueError):  # not importable, but it may still be read
        source.digest = hash_bytes(text).encode()
        return source
    words: list[str] = []
    _write(tree, words)
    source.digest = hash_bytes(" ".join(words).encode()).encode()
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                source.assigned[name] = value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                source.assigned[name] = value
    _scan(tree, source)
    return source


def _write(node: ast.AST, words: list[str]) -> None:
    """Appends a syntax tree as words, without empty fields, which differ between Python versions."""
    words.append(type(node).__name__)
    for name in node._fields:
        value = getattr(node, name, None)
        if name == "body" and isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            value = node.body[1:]
        if value is None or value == [] or name == "kind":
            continue
        words.append(name)
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, ast.AST):
                _write(item, words)
            else:
                words.append(ascii(item))
    words.append(")")


def _scan(tree: ast.Module, source: _SourceFile) -> None:
    """Collects imports, names and places; a folder that is only assigned to a name is not read there."""
    named = set(map(id, source.assigned.values()))
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                waiting += node.orelse
                continue
            case ast.Import():
                source.imports |= {(0, alias.name, ()) for alias in node.names}
            case ast.ImportFrom():
                module = node.module or ""
                source.imports.add((node.level, module, tuple(alias.name for alias in node.names)))
                source.taken |= {alias.asname or alias.name: (node.level, module, alias.name) for alias in node.names}
            case ast.Call(
                func=ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(text)), *_],
            ):
                name = text.lstrip(".")
                source.imports.add((len(text) - len(name), name, ()))
            case ast.Constant(value=str(text)) if _OURS.fullmatch(text):
                source.texts.add(text)
            case ast.Name(id=name, ctx=ast.Load()) if name != "__file__":
                source.names.add(name)
            case ast.expr() if _step_back(node) is not None:
                if id(node) not in named:
                    source.places.append(node)
                waiting += _list_parts(node)
                continue
        waiting += ast.iter_child_nodes(node)


def _step_back(node: ast.expr) -> ast.expr | None:
    """The expression that a path starts from, or `None`."""
    match node:
        case (
            ast.BinOp(left=before, op=ast.Div())
            | ast.Attribute(value=before, attr="parent")
            | ast.Subscript(value=ast.Attribute(value=before, attr="parents"))
            | ast.Call(func=ast.Attribute(value=before, attr="with_name" | "with_suffix" | "joinpath" | "resolve"))
            | ast.Call(func=ast.Name(id="Path"), args=[before])
        ):
            return before
    return None


def _list_parts(node: ast.expr) -> Iterator[ast.AST]:
    """The parts of a path expression, besides what it starts from."""
    step: ast.expr | None = node
    while step is not None:
        node, step = step, _step_back(step)
        match node:
            case ast.BinOp(right=part) | ast.Subscript(slice=part):
                yield part
            case ast.Call(func=ast.Attribute(), args=parts):
                yield from parts
    if not isinstance(node, ast.Name):
        yield node


class _Packages:
    """This project's packages, wherever they are installed."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}
        self._modules: dict[str, list[Path]] = {}
        self._names: dict[Path, str] = {}
        for name in PACKAGES:
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin is not None:
                self._folders[name] = Path(spec.origin).resolve().parent

    def name_file(self, path: Path) -> str:
        """A file's name, independent of where packages are installed."""
        if path not in self._names:
            above = {folder.parent for folder in self._folders.values() if path.is_relative_to(folder.parent)}
            names = (path.relative_to(folder).as_posix() for folder in above)
            self._names[path] = min(names, key=len, default=path.name)
        return self._names[path]

    def list_enclosing(self, path: Path) -> Iterator[Path]:
        """Lists the `__init__` of a file's packages, which run before it."""
        *parents, _ = self.name_file(path).split("/")
        yield from self._find_module(".".join(parents))

    def list_imported(self, source: _SourceFile) -> Iterator[Path]:
        """Lists the files of modules that a module imports."""
        for level, module, names in source.imports:
            name = self._resolve(level, module, source.path)
            yield from self._find_module(name)
            for taken in names:
                yield from self._find_module(f"{name}.{taken}")
        for text in source.texts:
            files = self._find_module(text)
            place = text.replace(".", "/")  # "tokenizer.json" is not a module
            if files and self.name_file(files[-1]) in (f"{place}.py", f"{place}/__init__.py"):
                yield from files

    def list_read(self, source: _SourceFile) -> Iterator[Path]:
        """Lists the files that a module's paths refer to."""
        for node in source.assigned.values():
            place = self._evaluate(node, source)
            if isinstance(place, Path) and not source.path.is_relative_to(place):
                yield from self._list_place(place, source)
        for node in (*source.places, *map(ast.Name, source.names)):
            step: ast.expr | None = node
            # A part that is known only at run time may be any file in the folder.
            while step is not None and (place := self._evaluate(step, source)) is None:
                step = _step_back(step)
            if isinstance(place, Path):
                yield from self._list_place(place, source)

    def _list_place(self, place: Path, source: _SourceFile) -> Iterator[Path]:
        if place.is_file():
            yield place
        elif place.is_dir() and not source.path.is_relative_to(place):
            yield from (file for file in place.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
        elif any(place.is_relative_to(folder) for folder in self._folders.values()):
            yield from (file for file in place.glob("[!.]*") if file.is_file() and file.suffix != ".py")

    def _evaluate(self, node: ast.expr, source: _SourceFile, seen: tuple[object, ...] = ()) -> Path | str | None:
        """The path or text of an expression; `None` if it is known only at run time."""
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Name(id="__file__"):
                return source.path
            case ast.Name(id=name):
                return self._look_up(name, source, seen)
        before = _step_back(node)
        path = None if before is None else self._evaluate(before, source, seen)
        if not isinstance(path, Path):
            return None
        match node:
            case ast.Attribute():
                return path.parent
            case ast.Subscript(slice=ast.Constant(value=int(count))) if 0 <= count < len(path.parents):
                return path.parents[count]
            case ast.Call(func=ast.Name()) | ast.Call(func=ast.Attribute(attr="resolve")):
                return path
            case ast.BinOp(right=part):
                parts, method = [part], "joinpath"
            case ast.Call(func=ast.Attribute(attr=method), args=parts):
                pass
            case _:
                return None
        texts = [self._evaluate(part, source, seen) for part in parts]
        if not texts or not all(isinstance(text, str) for text in texts):
            return None
        try:
            return Path(getattr(path, method)(*texts))
        except ValueError:  # an invalid name or suffix
            return None

    def _look_up(self, name: str, source: _SourceFile, seen: tuple[object, ...]) -> Path | str | None:
        if (source.path, name) in seen:
            return None
        seen = (*seen, (source.path, name))
        if name in source.assigned:
            return self._evaluate(source.assigned[name], source, seen)
        if name in source.taken:
            level, module, taken = source.taken[name]
            files = self._find_module(self._resolve(level, module, source.path))
            if files:
                return self._look_up(taken, _read(files[-1]), seen)
        return None

    def _resolve(self, level: int, module: str, path: Path) -> str:
        """The full name of an imported module; `level` is the number of leading dots."""
        if level == 0:
            return module
        own = self.name_file(path).split("/")[:-1]
        return ".".join((*own[: len(own) - level + 1], *filter(None, [module])))

    def _find_module(self, name: str) -> list[Path]:
        """The files that run when a module is imported, its packages' first; the last part may not be a module."""
        if name not in self._modules:
            self._modules[name] = list(self._walk_to(name))
        return self._modules[name]

    def _walk_to(self, name: str) -> Iterator[Path]:
        first, *parts = name.split(".")
        if first not in self._folders:
            return
        place = self._folders[first]
        yield place / "__init__.py"
        for part in parts:
            place /= part
            if (place / "__init__.py").is_file():
                yield place / "__init__.py"
            elif place.with_suffix(".py").is_file():
                yield place.with_suffix(".py")
                return
            elif not place.is_dir():
                return
