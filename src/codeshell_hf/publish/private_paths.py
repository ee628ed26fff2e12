"""Finds this machine's paths in published files, and replaces them with placeholders."""

import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..manifest import Manifest, flatten


def list_private_paths(manifests: Mapping[str, Manifest], roots: Mapping[Path, str]) -> dict[str, str]:
    """Lists this machine's paths: the interpreter's, and those in the stages' settings.

    Args:
        manifests: Of the stages, by name.
        roots: Further paths with placeholders, such as the checkout and the home folder.

    Returns:
        Placeholders by path, longest paths first, so that a path is replaced before its parent folders.
    """
    paths = {str(path): placeholder for path, placeholder in roots.items()}
    for manifest in manifests.values():
        for path in _list_absolute(manifest.settings):
            paths[path] = f".../{Path(path).name}"
    paths |= {path: f"${{{name}}}" for name, path in sysconfig.get_paths().items()}
    return {path: paths[path] for path in sorted(paths, key=len, reverse=True) if len(path) > 1}


def _list_absolute(settings: Mapping[str, object]) -> Iterator[str]:
    """The absolute paths in settings, also in lists of sections, except `/` and its direct children."""
    for value in flatten(settings).values():
        for item in value if isinstance(value, (list, tuple)) else [value]:
            path = item.get("path") if isinstance(item, dict) else item
            if isinstance(path, str) and path.startswith("/") and len(Path(path).parts) > 2:
                yield path


def hide_paths(folder: Path, paths: Mapping[str, str]) -> None:
    """Replaces private paths in manifests, cards and pages; `check_files` finds those in other files."""
    # Not in tokenizer.json, where "/home" may be a token.
    for file in [*folder.rglob("manifests/*.json"), *folder.rglob("*.md"), *folder.rglob("*.html")]:
        text = file.read_text(encoding="utf-8")
        hidden = text
        for path, placeholder in paths.items():
            hidden = hidden.replace(path, placeholder)
        if hidden != text:
            file.write_text(hidden, encoding="utf-8")
