"""The checkpoints of transformers' trainer."""

import json
import shutil
from pathlib import Path


def find_complete_checkpoint(folder: Path) -> str | None:
    """Finds the newest complete `checkpoint-*` in a folder, and removes newer ones that a kill cut short."""
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))  # the trainer writes it last
        except (OSError, json.JSONDecodeError):
            shutil.rmtree(path, ignore_errors=True)
        else:
            return str(path)
    return None
