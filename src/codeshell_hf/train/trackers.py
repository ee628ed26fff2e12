"""Experiment trackers such as TensorBoard, on the first rank only."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from ..errors import SettingsError
from ..manifest import flatten

PROJECT = "codeshell-pretrain"


class Tracker(Protocol):
    """A tracker of accelerate."""

    def store_init_configuration(self, values: dict[str, int | float | str]) -> None:
        """Logs the settings of the run."""

    def log(self, values: Mapping[str, float], step: int | None) -> None:
        """Logs measures by name."""

    def finish(self) -> None:
        """Flushes and closes."""


class Trackers:
    """The trackers of a run; a resumed run continues in each under the same name.

    Args:
        names: The trackers.
        start: Starts a tracker from its name, the project's name and the tracker's own options.
        folder: The run's; file-based trackers write below it.
        values: Settings of the run, with `output`.

    Raises:
        SettingsError: If a tracker is not installed.
    """

    def __init__(
        self,
        names: Sequence[str],
        start: Callable[[str, str, dict[str, str]], Tracker],
        folder: Path,
        values: Mapping[str, object],
    ) -> None:
        self._trackers: list[Tracker] = []
        if not names:
            return
        place = folder / "tracking"
        place.mkdir(exist_ok=True)
        name = _name_run(place / "run", Path(str(values["output"])).parent.name)
        options = {
            "tensorboard": {"logging_dir": str(place)},
            "trackio": {"name": name, "resume": "allow"},
            "wandb": {"id": name, "name": name, "resume": "allow", "dir": str(place)},
        }
        plain = {
            key: value if isinstance(value, int | float | str) else str(value)
            for key, value in flatten(dict(values)).items()
        }
        for kind in names:
            try:
                tracker = start(kind, PROJECT, options[kind])
            except ImportError as error:
                raise SettingsError(f"trackers names {kind}, which is not installed; pip install {kind}") from error
            tracker.store_init_configuration(plain)
            self._trackers.append(tracker)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Logs measures by name at a step."""
        for tracker in self._trackers:
            tracker.log(values, step=step)

    def finish(self) -> None:
        """Flushes and closes all trackers."""
        for tracker in self._trackers:
            tracker.finish()


def _name_run(file: Path, system: str) -> str:
    """The run's name, generated once and stored in a file."""
    if not file.exists():
        file.write_text(f"{system}-{uuid4().hex[:8]}", encoding="utf-8")
    return file.read_text(encoding="utf-8")
