"""What made a folder: inputs by hash, settings, code, versions, counts and measures, in its `manifest.json`."""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import DataError

FILE_NAME = "manifest.json"
LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "trl", "peft", "datasets", "daft", "pyarrow", "numpy")


@dataclass(frozen=True)
class Manifest:
    """Everything that made a stage's folder.

    Args:
        stage: The stage word.
        fingerprint: Hash of settings, inputs and code; a stage whose fingerprint matches is not run again.
        inputs: Hash of each input, by name.
        settings: The settings as plain values.
        code: Hash of all that the stage's module may import or read.
        begun_code: That of the code with which the work was begun: another one where it went on after a change.
        outputs: Hash of each file of the folder, by its path in it.
        counts: What came in and went out.
        measures: What was measured, by name with its unit.
        seed: The seed, or `None` where chance has no part.
        wall_s: Seconds from start to end, earlier tries not counted.
        versions: Python's and the libraries'.
        precision: What was computed in, as in `codeshell_hf.precision`; empty where nothing was.
    """

    stage: str
    fingerprint: str
    inputs: dict[str, str]
    settings: dict[str, Any]
    code: str
    begun_code: str | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    measures: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    wall_s: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    precision: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes `manifest.json` aside and renames it.

        Args:
            folder: The stage's folder.
        """
        write_text(folder / FILE_NAME, json.dumps(asdict(self), indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """Reads a folder's manifest.

    Args:
        folder: A stage's folder.

    Returns:
        The manifest, or `None` where there is none that can be read.
    """
    try:
        return Manifest(**json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def require_manifest(folder: Path, stage: str) -> Manifest:
    """Reads the manifest of a stage that must have run.

    Args:
        folder: The stage's folder.
        stage: The stage word, for the message.

    Returns:
        The manifest.

    Raises:
        DataError: If there is none.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(f"{folder} holds no finished output of {stage}; run python -m recipes.{stage} first")
    return manifest


def write_text(path: Path, text: str) -> None:
    """Writes a file so that it is whole or absent.

    Args:
        path: The file.
        text: Its content, written as UTF-8 with the line ends that it has.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8", newline="\n")
    aside.replace(path)


def share_weights(folder: Path) -> None:
    """Lets others read the weights of a folder whom its other files let read; safetensors writes for the owner alone.

    Args:
        folder: What `save_pretrained` wrote, a model or an adapter.
    """
    mode = next(folder.glob("*config.json")).stat().st_mode & 0o777  # as the user's umask decided
    for weights in folder.glob("*.safetensors"):
        weights.chmod(mode)


def hash_bytes(*parts: bytes) -> str:
    """SHA-256 of parts, each with its length.

    Args:
        parts: The parts, in order.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def hash_values(values: Any) -> str:
    """Hash of plain values, whatever the order of their keys.

    Args:
        values: What JSON can hold; other things by their text.

    Returns:
        64 hexadecimal digits.
    """
    return hash_bytes(json.dumps(values, sort_keys=True, default=str).encode())


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_input(path: Path) -> str:
    """Hash of what a stage reads.

    Args:
        path: A file: by content. A stage's folder: by the hashes in its manifest. Another folder: by names, sizes and
            times of change, since it may be large.

    Returns:
        64 hexadecimal digits.

    Raises:
        DataError: If it does not exist.
    """
    if path.is_file():
        return hash_file(path)
    if not path.is_dir():
        raise DataError(f"{path} does not exist; name a file or folder that does")
    manifest = read_manifest(path)
    if manifest is not None:
        return hash_values([manifest.fingerprint, manifest.outputs])
    entries = []
    for file in sorted(path.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            status = file.stat()
            entries.append((file.relative_to(path).as_posix(), status.st_size, status.st_mtime_ns))
    return hash_values(entries)


def hash_folder(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder, but for the manifest.

    Args:
        folder: The folder.

    Returns:
        Hashes by relative path.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != FILE_NAME)
    return {file.relative_to(folder).as_posix(): hash_file(file) for file in files}


def list_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Versions of what is installed.

    Args:
        names: Distributions to ask for.

    Returns:
        Python's version and those of the distributions that are there.
    """
    versions: dict[str, str] = {"python": platform.python_version()}
    for name in ("codeshell-hf", *names):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted names.

    Args:
        values: Nested mappings.
        prefix: Put before each name.

    Returns:
        Leaves by dotted name.

    >>> flatten({"rules": {"max_line_bytes": 1000}, "seed": 0})
    {'rules.max_line_bytes': 1000, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
