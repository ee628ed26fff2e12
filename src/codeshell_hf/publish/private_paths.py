"""Paths of this machine in what is published: which there are, and placeholders in their place."""

import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..manifest import Manifest, flatten


def list_private_paths(manifests: Mapping[str, Manifest], roots: Mapping[Path, str]) -> dict[str, str]:
    """Paths that nobody else needs to know: the interpreter's, and what the stages read, which may be anywhere.

    Args:
        manifests: Of the stages, by stage word.
        roots: Further paths and their placeholders, such as the checkout and the home folder.

    Returns:
        Placeholders by path, longest paths first, so that a path is replaced before a folder that holds it.
    """
    paths = {str(path): placeholder for path, placeholder in roots.items()}
    for manifest in manifests.values():
        for path in _list_absolute(manifest.settings):
            paths[path] = f".../{Path(path).name}"
    paths |= {path: f"${{{name}}}" for name, path in sysconfig.get_paths().items()}
    return {path: paths[path] for path in sorted(paths, key=len, reverse=True) if len(path) > 1}


def _list_absolute(settings: Mapping[str, object]) -> Iterator[str]:
    """The absolute paths in settings, those in lists of sections too; not `/` or a folder right below it."""
    for value in flatten(settings).values():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            path = item.get("path") if isinstance(item, dict) else item
            if isinstance(path, str) and path.startswith("/") and len(Path(path).parts) > 2:
                yield path


def hide_paths(folder: Path, paths: Mapping[str, str]) -> None:
    """Replaces private paths in manifests, cards and pages; `check_files` finds those in other files."""
    # Not in tokenizer.json: "/home" may well be a token.
    for file in [*folder.rglob("manifests/*.json"), *folder.rglob("*.md"), *folder.rglob("*.html")]:
        text = file.read_text(encoding="utf-8")
        hidden = text
        for path, placeholder in paths.items():
            hidden = hidden.replace(path, placeholder)
        if hidden != text:
            file.write_text(hidden, encoding="utf-8")
