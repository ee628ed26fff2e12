"""Loads users' objects: where settings take a name, they also take `folder/file.py:name` or `module:name`."""

import contextlib
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Annotated

from pydantic import StringConstraints

from .errors import SettingsError
from .settings import Input

REFERENCE = r"(?:.+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*"


def is_reference(name: str) -> bool:
    """Whether a name refers to an object in a file or a module.

    >>> is_reference("mine/rewards.py:short"), is_reference("mine.rewards:short"), is_reference("tests")
    (True, True, False)
    """
    return re.fullmatch(REFERENCE, name) is not None


def find_extension_file(name: str) -> Path | None:
    """The file of a reference; `None` for other names, and for a module that is not found.

    >>> find_extension_file("mine/rewards.py:short"), find_extension_file("tests")
    (PosixPath('mine/rewards.py'), None)
    """
    if not is_reference(name):
        return None
    place = name.rpartition(":")[0]
    if place.endswith(".py"):
        return Path(place)
    with _current_folder_first():
        try:
            found = importlib.util.find_spec(place)
        except (ImportError, ValueError):
            return None
    return Path(found.origin) if found is not None and found.origin and found.has_location else None


NameOrReference = Annotated[str, Input(find_extension_file)]
"""A name of this package, or that of an object in a file, as a type of settings. The file is an input of the stage."""

Reference = Annotated[NameOrReference, StringConstraints(pattern=f"^{REFERENCE}$")]
"""The name of an object in a file, as a type of settings."""


def load_object(reference: str) -> object:
    """Loads an object from a file.

    Args:
        reference: `folder/file.py:name`, relative to the current folder, or `module:name`, installed or in it.

    Raises:
        SettingsError: If the file or module is missing, fails, or has no such object.
    """
    place = reference.rpartition(":")[0]
    if not place.endswith(".py"):
        return _get_object(_import_module(place), reference)
    path = Path(place).resolve()
    try:
        status = path.stat()
    except OSError as error:
        raise SettingsError(
            f"{reference}: {place} cannot be read ({error.strerror}); name a file that exists"
        ) from error
    return _get_object(_load_module(path, status.st_mtime_ns), reference)


def _get_object(module: ModuleType, reference: str) -> object:
    place, _, name = reference.rpartition(":")
    if not hasattr(module, name):
        defined = ", ".join(sorted(key for key in vars(module) if not key.startswith("_"))) or "nothing"
        raise SettingsError(f"{reference}: {place} defines no {name!r}; it defines {defined}")
    found: object = getattr(module, name)
    return found


@contextlib.contextmanager
def _current_folder_first() -> Iterator[None]:
    """Within the block, modules in the current folder are found, as with `python -m`."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path.remove(str(Path.cwd()))


def _import_module(name: str) -> ModuleType:
    with _current_folder_first():
        importlib.invalidate_caches()
        try:
            return importlib.import_module(name)
        except Exception as error:
            raise SettingsError(
                f"module {name} cannot be imported ({type(error).__name__}: {error}); install it, run in the folder "
                "that has it, or name a file such as mine/rewards.py"
            ) from error


@lru_cache
def _load_module(path: Path, changed_ns: int) -> ModuleType:
    digest = hashlib.sha256(f"{changed_ns} {path}".encode()).hexdigest()
    name = f"codeshell_extension_{path.stem}_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingsError(f"{path} is not a Python file; name one that ends with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look it up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise SettingsError(f"{path} failed: {type(error).__name__}: {error}; fix it and run again") from error
    return module
