"""Progress of the steps: a bar that begins anew with each."""

from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

# Called with the step, parts done and parts in all.
Progress = Callable[[str, int, int], None]


class StepBar:
    """A progress bar over the parts of the step under way, used as a `Progress`."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._step = ""

    def __enter__(self) -> "StepBar":
        self._bar = tqdm(unit="part")
        return self

    def __call__(self, step: str, done: int, total: int) -> None:
        """Shows the step; the bar begins anew where it is another one."""
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
