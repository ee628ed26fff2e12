"""Progress of the steps: a bar that restarts with each step."""

from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

# Called with the step, the parts done and their total.
Progress = Callable[[str, int, int], None]


class StepBar:
    """A progress bar over the parts of the current step; a `Progress`."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._step = ""

    def __enter__(self) -> "StepBar":
        self._bar = tqdm(unit="part")
        return self

    def __call__(self, step: str, done: int, total: int) -> None:
        """Shows the progress; the bar restarts with a new step."""
        if step != self._step:
            self._step = step
            self._bar.reset(total)
            self._bar.set_description(f"{self._stage}: {step}")
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
