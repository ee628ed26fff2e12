"""Loads objects from users' files: where settings take a name, they also take `folder/file.py:name`."""

import hashlib
import importlib.util
import re
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Annotated

from pydantic import StringConstraints

from .errors import SettingsError
from .settings import Input

REFERENCE = r".+\.py:[A-Za-z_]\w*"


def is_reference(name: str) -> bool:
    """Whether a name refers to an object in a file.

    >>> is_reference("mine/rewards.py:short"), is_reference("tests"), is_reference("mine/rewards.py")
    (True, False, False)
    """
    return re.fullmatch(REFERENCE, name) is not None


def find_extension_file(name: str) -> Path | None:
    """The file of a reference; `None` for other names.

    >>> find_extension_file("mine/rewards.py:short"), find_extension_file("tests")
    (PosixPath('mine/rewards.py'), None)
    """
    return Path(name.rpartition(":")[0]) if is_reference(name) else None


NameOrReference = Annotated[str, Input(find_extension_file)]
"""A name of this package, or that of an object in a file, as a type of settings. The file is an input of the stage."""

Reference = Annotated[NameOrReference, StringConstraints(pattern=f"^{REFERENCE}$")]
"""The name of an object in a file, as a type of settings."""


def load_object(reference: str) -> object:
    """Loads an object from a file.

    Args:
        reference: `folder/file.py:name`, relative to the current folder.

    Raises:
        SettingsError: If the file is missing, fails, or has no such object.
    """
    place, _, name = reference.rpartition(":")
    path = Path(place).resolve()
    try:
        status = path.stat()
    except OSError as error:
        raise SettingsError(
            f"{reference}: {place} cannot be read ({error.strerror}); name a file that exists"
        ) from error
    module = _load_module(path, status.st_mtime_ns)
    if not hasattr(module, name):
        defined = ", ".join(sorted(key for key in vars(module) if not key.startswith("_"))) or "nothing"
        raise SettingsError(f"{reference}: {place} defines no {name!r}; it defines {defined}")
    found: object = getattr(module, name)
    return found


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
