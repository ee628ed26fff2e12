"""Where the recipes are: in the current folder, or else in the installed package."""

import os
import sys
from pathlib import Path

PACKAGES = ("recipes", "tokenizer")
_PACKAGE = Path(__file__).parents[1]


def find_packaged() -> Path:
    """The folder with this version's `recipes/` and `tokenizer/`: inside the wheel, or the checkout.

    Raises:
        DataError: If the package was installed without them.
    """
    from ..errors import DataError

    # setup.py copies them into the wheel; an editable install reads the checkout's.
    for root in (_PACKAGE / "_workspace", _PACKAGE.parents[1]):
        if (root / "recipes" / "__init__.py").is_file():
            return root
    raise DataError(f"{_PACKAGE} holds no recipes; install the wheel of codeshell-hf, or run in a folder with recipes/")


def find_workspace() -> Path:
    """The folder whose `recipes/` are used: the current one if it has some, else the packaged."""
    loaded = getattr(sys.modules.get("recipes"), "__file__", None)
    if loaded is not None:  # they cannot be exchanged within a process
        return Path(loaded).parents[1]
    here = Path.cwd()
    return here if (here / "recipes" / "__init__.py").is_file() else find_packaged()


def find_file(path: Path) -> Path:
    """A recipe's file as it was named, or the one of the recipes in use where the current folder has none."""
    packaged = find_workspace() / path
    return packaged if not path.exists() and packaged.is_file() else path


def use_workspace(*, is_silent: bool = False) -> Path:
    """Makes `recipes` and `tokenizer` importable, here and in child processes, and prints which are used."""
    root = find_workspace()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(root) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), *paths)))
    if not is_silent:
        of = "this folder" if root == Path.cwd() else f"codeshell-hf in {root}"
        print(f"codeshell: with the recipes of {of}", file=sys.stderr)
    return root
