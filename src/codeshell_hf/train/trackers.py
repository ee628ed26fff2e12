"""Trackers such as TensorBoard, which show the figures of the log; only on the first rank."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from ..errors import SettingsError
from ..manifest import flatten

PROJECT = "codeshell-pretrain"


class Tracker(Protocol):
    """One of accelerate's adapters."""

    def store_init_configuration(self, values: dict[str, int | float | str]) -> None:
        """Shows the settings of the run."""

    def log(self, values: Mapping[str, float], step: int | None) -> None:
        """Shows measures by name."""

    def finish(self) -> None:
        """Writes what is buffered."""


class Trackers:
    """The trackers of a run. A resumed run continues in each under the same name.

    Args:
        names: Which ones.
        start: Starts one by its name; the project's name and the tracker's own options follow.
        folder: Of the run; the files of trackers that write some go into it.
        values: Settings of the run, `output` among them.

    Raises:
        SettingsError: If one is not installed.
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
        """Logs measures by name, after so many steps."""
        for tracker in self._trackers:
            tracker.log(values, step=step)

    def finish(self) -> None:
        """Lets each write what it has buffered."""
        for tracker in self._trackers:
            tracker.finish()


def _name_run(file: Path, system: str) -> str:
    """The run's name, drawn once and kept in a file."""
    if not file.exists():
        file.write_text(f"{system}-{uuid4().hex[:8]}", encoding="utf-8")
    return file.read_text(encoding="utf-8")
