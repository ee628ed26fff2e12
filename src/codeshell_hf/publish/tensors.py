"""Reads a checkpoint's tensors one at a time, whatever files they lie in, without running anything of them."""

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"


class Tensors:
    """The tensors of a folder in Hugging Face's layout: safetensors or, where there are none, pickled shards.

    Pickled shards are read with torch's restricted unpickler, which builds tensors and plain values and nothing else.

    Args:
        folder: With `model.safetensors` or `pytorch_model.bin`, whole or in shards with an index.

    Raises:
        CheckpointError: If there are no weights, a shard is missing, or one cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_pickled = not any((folder / name).exists() for name in (SAFETENSORS, f"{SAFETENSORS}.index.json"))
        self._files = _list_files(folder, PICKLED if self.is_pickled else SAFETENSORS)
        self._places: dict[str, Path] = {}
        self._opened: dict[Path, Any] = {}
        for path in self._files:
            try:
                names = list(self._open(path))
            except (OSError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
                reason = " ".join(str(error).split())[:160]
                raise CheckpointError(f"{path} cannot be read ({reason}); fetch it again") from error
            self._places |= dict.fromkeys(names, path)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def get(self, name: str) -> Any:
        """Reads one entry.

        Args:
            name: Its name.

        Returns:
            A tensor of any shape and dtype; of pickled shards, whatever plain value lies there.

        Raises:
            CheckpointError: If there is none.
        """
        if name not in self._places:
            raise CheckpointError(f"{self.folder} has no {name}; name a whole CodeShell checkpoint")
        opened = self._open(self._places[name])
        return opened[name] if self.is_pickled else opened.get_tensor(name)

    def _open(self, path: Path) -> Any:
        if path not in self._opened:
            if self.is_pickled:
                self._opened[path] = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zipped(path))
            else:
                self._opened[path] = safe_open(path, framework="pt")
        opened = self._opened[path]
        return opened if self.is_pickled else _Names(opened)


class _Names:
    """A safetensors file that can be walked like a dictionary's names."""

    def __init__(self, file: Any) -> None:
        self.get_tensor = file.get_tensor
        self._names = file.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)


def _is_zipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"  # older torch wrote files that cannot be mapped


def _list_files(folder: Path, name: str) -> list[Path]:
    index = folder / f"{name}.index.json"
    if not index.exists():
        if not (folder / name).exists():
            raise CheckpointError(f"{folder} holds neither {SAFETENSORS} nor {PICKLED}; name a folder with weights")
        return [folder / name]
    try:
        # The release's index names tied tensors that its shards do not hold, so the shards are asked themselves.
        files = sorted(
            {folder / shard for shard in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        )
    except (json.JSONDecodeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of shards; fetch it again") from error
    for path in files:
        if not path.exists():
            raise CheckpointError(f"{path} is missing, though {index.name} names it; fetch it")
    return files
