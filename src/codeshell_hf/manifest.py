"""The `manifest.json` of a stage's output: inputs by hash, settings, code, versions, counts and measures."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .errors import DataError

Values = dict[str, Any]  # JSON values

FILE_NAME = "manifest.json"
# A folder of so many bytes is hashed in a tenth of a second.
SMALL_FOLDER = 64_000_000
LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "trl", "peft", "datasets", "daft", "pyarrow", "numpy")


@dataclass(frozen=True)
class Manifest:
    """Everything that a stage's output depends on, and what the stage reports.

    Args:
        stage: The stage's name.
        fingerprint: Hash of settings, inputs and code; a stage with the same fingerprint is skipped.
        inputs: Hash of each input, by name.
        settings: The settings as plain values.
        code: Hash of all that the stage's module may import or read.
        code_at_start: Hash of the code that started the work; differs from `code` if it resumed after a change.
        outputs: Hash of each file of the folder, by relative path.
        counts: Counts of inputs and outputs.
        measures: Measurements by name.
        seed: `None` if nothing is random.
        wall_s: Seconds from start to end, without earlier tries.
        versions: Of Python and libraries.
        precision: Compute dtype, threads and device, as in `codeshell_hf.precision`; empty without computation.
        origin: Date, device, repository and commit, as in `codeshell_hf.origin`; empty in manifests of version 0.1.
    """

    stage: str
    fingerprint: str
    inputs: dict[str, str]
    settings: Values
    code: str
    code_at_start: str | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    counts: Values = field(default_factory=dict)
    measures: Values = field(default_factory=dict)
    seed: int | None = None
    wall_s: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    precision: Values = field(default_factory=dict)
    origin: Values = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Writes `manifest.json` atomically."""
        write_text(folder / FILE_NAME, json.dumps(asdict(self), indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """Reads a folder's manifest; `None` if it is missing or unreadable."""
    try:
        return Manifest(**json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def require_manifest(folder: Path, stage: str) -> Manifest:
    """Reads the manifest of a finished stage; a `DataError` if there is none."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise DataError(f"{folder} holds no finished output of {stage}; run codeshell {stage} first")
    return manifest


def read_json_lines(path: Path) -> list[Values]:
    """Reads the objects of a JSON Lines file of this package.

    Lines end with a newline and nothing else: `str.splitlines` would cut a text at U+2028 or U+0085, which JSON leaves
    as they are.

    Raises:
        DataError: If the file is missing, or a line is not an object; named by its number.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); run its stage again") from error
    return [_parse_object(line, f"{path}, line {number},") for number, line in enumerate(lines, 1) if line.strip()]


def _parse_object(line: bytes, place: str) -> Values:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise DataError(f"{place} is not a JSON object ({error}); run its stage again") from error
    return row


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file atomically, with unchanged line ends."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)


def share_weights(folder: Path) -> None:
    """Gives saved weights, for which safetensors uses mode 0600, the mode of the config beside them."""
    mode = next(folder.glob("*config.json")).stat().st_mode & 0o777  # from the user's umask
    for weights in folder.glob("*.safetensors"):
        weights.chmod(mode)


def hash_bytes(*parts: bytes) -> str:
    """SHA-256 of length-prefixed parts, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def hash_values(values: object) -> str:
    """Hash of JSON values, independent of key order; other values are hashed as text."""
    return hash_bytes(json.dumps(values, sort_keys=True, default=str).encode())


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_input(path: Path) -> str:
    """Hash of a stage's input.

    Files, and folders of up to 64 MB, are hashed by content; larger folders by the hashes in their manifest, or else by
    names, sizes and modification times. For a stage's output, what made it is included.

    Raises:
        DataError: If it does not exist.
    """
    if path.is_file():
        return hash_file(path)
    if not path.is_dir():
        raise DataError(f"{path} does not exist; name a file or folder that does")
    manifest = read_manifest(path)
    entries = {name: (status.st_size, status.st_mtime_ns) for name, status in _list_statuses(path)}
    is_small = sum(size for size, _ in entries.values()) <= SMALL_FOLDER
    if manifest is not None:
        return hash_values([manifest.fingerprint, hash_folder(path) if is_small else manifest.outputs])
    return hash_values(
        {name: _hash_if_readable(path / name) for name in entries} if is_small else sorted(entries.items())
    )


def _list_statuses(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files below a folder that others may have made: what cannot be listed or entered is left out."""
    waiting = [str(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and entry.name != "__pycache__":
                    waiting.append(entry.path)
                with contextlib.suppress(OSError):
                    if entry.name != FILE_NAME and stat.S_ISREG((status := entry.stat()).st_mode):
                        yield os.path.relpath(entry.path, folder).replace(os.sep, "/"), status


def _hash_if_readable(path: Path) -> str | None:
    try:
        return hash_file(path)
    except OSError:
        return None


def hash_folder(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Hash of every file below a folder except the manifest and bytecode, by relative path.

    Args:
        known: Hashes of files that are not read again.
    """
    names = {file.relative_to(folder).as_posix(): file for file in _list_files(folder)}
    return {name: known.get(name) or hash_file(file) for name, file in names.items()}


def _list_files(folder: Path) -> list[Path]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != FILE_NAME)
    return [file for file in files if "__pycache__" not in file.parts]


def list_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Versions of Python, of this package, and of those distributions that are installed."""
    versions: dict[str, str] = {"python": platform.python_version()}
    for name in ("codeshell-hf", *names):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def flatten(values: Mapping[str, object], prefix: str = "") -> Values:
    """Leaves of nested mappings by dotted name.

    >>> flatten({"rules": {"max_line_bytes": 1000}, "seed": 0})
    {'rules.max_line_bytes': 1000, 'seed': 0}
    """
    flat: Values = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
