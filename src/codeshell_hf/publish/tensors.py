"""Reads a checkpoint's tensors one at a time from safetensors or pickles, without running their code."""

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, cast

import torch
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"


class Tensors:
    """The tensors of a folder in Hugging Face's layout: safetensors, or else pickled shards.

    Pickled shards are read with torch's restricted unpickler, which only builds tensors and plain values.

    Raises:
        CheckpointError: If there are no weights, a shard is missing, or one cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_pickled = not any((folder / name).exists() for name in (SAFETENSORS, f"{SAFETENSORS}.index.json"))
        self._files = _list_files(folder, PICKLED if self.is_pickled else SAFETENSORS)
        self._places: dict[str, Path] = {}
        self._opened: dict[Path, Mapping[str, object]] = {}
        for path in self._files:
            try:
                names = list(self._open(path))
            except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
                reason = " ".join(str(error).split())[:160]
                raise CheckpointError(f"{path} cannot be read ({reason}); download it again") from error
            self._places |= dict.fromkeys(names, path)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def get(self, name: str) -> torch.Tensor:
        """Reads a tensor; a `CheckpointError` if there is none of this name."""
        value = self.get_value(name)
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(f"{name} is a {type(value).__name__}, not a tensor; name a CodeShell checkpoint")
        return value

    def get_value(self, name: str) -> object:
        """Reads an entry: a tensor or, in pickled shards, any plain value; a `CheckpointError` if there is none."""
        if name not in self._places:
            raise CheckpointError(f"{self.folder} has no {name}; name a complete CodeShell checkpoint")
        return self._open(self._places[name])[name]

    def _open(self, path: Path) -> Mapping[str, object]:
        if path not in self._opened:
            if self.is_pickled:
                self._opened[path] = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zipped(path))
            else:
                self._opened[path] = _SafeFile(path)
        return self._opened[path]


class _Reader(Protocol):
    """The methods of safetensors' untyped reader."""

    def keys(self) -> list[str]: ...

    def get_tensor(self, name: str) -> torch.Tensor: ...


class _SafeFile(Mapping[str, object]):
    """A safetensors file as a mapping that reads tensors on access."""

    def __init__(self, path: Path) -> None:
        self._file = cast("_Reader", safe_open(path, framework="pt"))
        self._names = list(self._file.keys())

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _is_zipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"  # files of older torch cannot be memory-mapped


def _list_files(folder: Path, name: str) -> list[Path]:
    index = folder / f"{name}.index.json"
    if not index.exists():
        if not (folder / name).exists():
            raise CheckpointError(f"{folder} holds neither {SAFETENSORS} nor {PICKLED}; name a folder with weights")
        return [folder / name]
    try:
        # The release's index names tied tensors that its shards lack, so names are read from the shards.
        files = sorted(
            {folder / shard for shard in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        )
    except (json.JSONDecodeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{index} is not an index of shards; download it again") from error
    for path in files:
        if not path.exists():
            raise CheckpointError(f"{path} is missing, though {index.name} lists it; download it")
    return files
