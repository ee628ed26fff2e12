"""Finds the recipes: in the current folder, or else in the installed package."""

import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ..stages import STAGES
from ..version import __version__

PACKAGES = ("recipes", "tokenizer")
_PACKAGE = Path(__file__).parents[1]


def find_packaged() -> Path:
    """The folder with this version's `recipes/` and `tokenizer/`, in the wheel or the checkout.

    Raises:
        DataError: If the package was installed without them.
    """
    from ..errors import DataError

    # setup.py copies them into the wheel; an editable install reads the checkout's.
    for root in (_PACKAGE / "_workspace", _PACKAGE.parents[1]):
        if (root / "recipes" / "__init__.py").is_file():
            return root
    raise DataError(f"{_PACKAGE} has no recipes; install the wheel of codeshell-hf, or run in a folder with recipes/")


def find_workspace() -> Path:
    """The folder whose `recipes/` are used: the current one if it has any, else the package's."""
    loaded = getattr(sys.modules.get("recipes"), "__file__", None)
    if loaded is not None:  # they cannot be changed within a process
        return Path(loaded).parents[1]
    here = Path.cwd()
    return here if (here / "recipes" / "__init__.py").is_file() else find_packaged()


def find_file(path: Path) -> Path:
    """A recipe's file: in the current folder or, if it does not exist there, in the recipes that are used."""
    packaged = find_workspace() / path
    return packaged if not path.exists() and packaged.is_file() else path


def use_workspace(*, is_silent: bool = False) -> Path:
    """Makes `recipes` and `tokenizer` importable, also in child processes, and prints which are used."""
    root = find_workspace()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(root) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), *paths)))
    if not is_silent:
        of = "this folder" if root == Path.cwd() else f"codeshell-hf in {root}"
        print(f"codeshell: using the recipes of {of}", file=sys.stderr)
    return root


def explain_misfit(error: Exception) -> str | None:
    """One line on recipes of another version in the current folder; `None` if they did not raise the error.

    A call with an argument that is gone, and an import of a name that is gone, fail in the recipe's own line.
    """
    frame = traceback.extract_tb(error.__traceback__)[-1]
    root, packaged = find_workspace().resolve(), find_packaged().resolve()
    path = Path(frame.filename).resolve()
    if root == packaged or not any(path.is_relative_to(root / name) for name in PACKAGES):
        return None
    name = path.relative_to(root)
    files = [file.relative_to(packaged) for package in PACKAGES for file in (packaged / package).rglob("*.py")]
    if name not in files or all(is_same(root / file, packaged / file) for file in files):
        return None
    return (
        f"line {frame.lineno} of {name.as_posix()} does not fit codeshell-hf {__version__} ({type(error).__name__}: "
        f"{' '.join(str(error).split())}); the recipes here are of another version, or were changed: keep your changes "
        "elsewhere, and write this version's with `codeshell init . --force`"
    )


def is_same(one: Path, other: Path) -> bool:
    """Whether both files exist, with the same bytes."""
    return one.is_file() and one.read_bytes() == other.read_bytes()


def find_settings_files(system: str, roots: Sequence[Path]) -> dict[str, Path]:
    """Lists the settings files of a system's stages by stem, in the order of the stages.

    A stage may have several, such as `pack.yaml` and `pack-instructions.yaml`, the one of its own name first.

    Args:
        system: A folder under `recipes/`.
        roots: Folders with `recipes/`; the first that has the system is used.

    Raises:
        ValueError: If there is no such system.
    """
    for root in roots:
        folder = root / "recipes" / system
        found = {file.stem: file for stage in STAGES for file in list_stage_files(folder, stage)}
        if found:
            here = Path.cwd()
            is_here = folder.is_relative_to(here)
            return {stem: file.relative_to(here) if is_here else file for stem, file in found.items()}
    known = {file.parent.name for root in roots for file in (root / "recipes").glob("*/*.yaml") if file.stem in STAGES}
    raise ValueError(f"recipes/{system} has no settings of a stage; {suggest(system, sorted(known))}")


def list_stage_files(folder: Path, stage: str) -> list[Path]:
    """A system's settings files of a stage: `STAGE.yaml`, and then each `STAGE-NAME.yaml`."""
    own = folder / f"{stage}.yaml"
    return [*([own] if own.is_file() else []), *sorted(folder.glob(f"{stage}-*.yaml"))]


def suggest(word: str, known: Sequence[str]) -> str:
    """Suggests the nearest known word, or else lists all."""
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean '{near[0]}'?" if near else f"name one of {', '.join(known)}"
