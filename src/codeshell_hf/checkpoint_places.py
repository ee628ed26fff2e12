"""Where a checkpoint lies: in a folder here, on the Hub, or in this package. Imports no torch, to refuse at once."""

import re
from importlib.resources import files
from pathlib import Path

from .errors import CheckpointError

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def bundled() -> str:
    """The folder of codeshell-tiny, the model that comes with this package, for `from_pretrained`.

    It has two million parameters and shows how things work; most of what it writes is wrong.
    """
    return str(files("codeshell_hf") / "codeshell-tiny")


def find_bundled(name: str) -> str:
    """The checkpoint of a name: of `codeshell-tiny` the package's folder, unless one of that name is here."""
    own = bundled()
    return own if name == Path(own).name and not Path(name).exists() else name


def is_folder(name: str) -> bool:
    """Whether a checkpoint is a folder here; else it is a name on the Hub.

    Raises:
        CheckpointError: If it can be neither, or the folder holds no model.
    """
    path = Path(name).expanduser()
    if path.is_file():
        use = "codeshell serve passes it to llama.cpp" if path.suffix == ".gguf" else "name the folder that it is in"
        raise CheckpointError(f"{name} is a file and no folder with a model; {use}")
    if path.is_dir():
        if any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
            return True
        found = next((one for depth in ("*", "*/*") for one in sorted(path.glob(f"{depth}/config.json"))), None)
        advice = f"{found.parent} has one" if found else "name a folder with config.json, weights and a tokenizer"
        raise CheckpointError(f"{name} has no config.json, so it is no model; {advice}")
    parts = path.parts
    if not HUB_NAME.fullmatch(name) or parts[0] == "runs":
        is_output = parts[0] == "runs" and len(parts) > 2
        advice = f"run `codeshell run {parts[1]}`, which writes runs/{parts[1]}/publish/model" if is_output else ""
        raise CheckpointError(
            f"{name} does not exist; {advice or 'name a folder'}, or name a model on the Hub as OWNER/NAME"
        )
    return False
