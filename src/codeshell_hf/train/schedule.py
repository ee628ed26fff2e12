"""Learning rates, row lengths and batch sizes, as functions of the tokens consumed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import SettingsError
from .settings import BatchSettings, DecayShape, ScheduleSettings


@dataclass(frozen=True)
class Steps:
    """The steps of a run.

    Args:
        tokens: Of each, over all ranks.
        count: Their number.
        phases: First token and row length of each phase.
        decay_start: Tokens until the decay of a warmup-stable-decay schedule; `None` for others.
    """

    tokens: int
    count: int
    phases: list[tuple[int, int]]
    decay_start: int | None = None


def plan_steps(batch: BatchSettings, schedule: ScheduleSettings, ranks: int) -> Steps:
    """Plans the steps of a run on so many ranks.

    Raises:
        SettingsError: If rows do not divide a micro-batch, or the phases do not end at 1.
    """
    tokens = fit_batch(
        batch.global_tokens, micro_tokens=batch.micro_tokens, row_lengths=schedule.row_lengths, ranks=ranks
    )
    phases = place_phases(schedule.phase_ends, total_tokens=schedule.total_tokens, step_tokens=tokens)
    decay_start = _find_decay_start(schedule) if schedule.decay_fraction < 1 else None
    return Steps(tokens, math.ceil(schedule.total_tokens / tokens), phases, decay_start)


def scale_learning_rate(schedule: ScheduleSettings, tokens: int) -> float:
    """The learning rate at `tokens` as a share of the peak: linear warm-up, the peak for a time, decay to the floor.

    By default decay follows warm-up at once, along a cosine. With a `decay_fraction` below 1 this is the schedule
    called warmup-stable-decay (WSD): a run can be extended from any checkpoint before its decay.

    Source:
        Hu et al. 2024, "MiniCPM", arXiv:2404.06395, section 4; Hägele et al. 2024, arXiv:2405.18392, for 1-sqrt.
    """
    warmup, total, floor = schedule.warmup_tokens, schedule.total_tokens, schedule.floor_fraction
    if tokens < warmup:
        return tokens / warmup
    start = _find_decay_start(schedule)
    progress = min(1.0, max(0.0, (tokens - start) / (total - start)))
    return floor + (1 - floor) * _DECAYS[schedule.decay](progress)


def _find_decay_start(schedule: ScheduleSettings) -> int:
    total = schedule.total_tokens
    return max(schedule.warmup_tokens, total - round(schedule.decay_fraction * total))


_DECAYS: dict[DecayShape, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
    "1-sqrt": lambda progress: 1 - math.sqrt(progress),
}


def place_phases(phases: Sequence[tuple[float, int]], *, total_tokens: int, step_tokens: int) -> list[tuple[int, int]]:
    """The first token, rounded to whole steps, and the row length of each phase.

    Args:
        phases: Share of all tokens at which each ends, and its row length; the shares increase to 1.
        total_tokens: Of the run.
        step_tokens: Of a step.

    >>> place_phases([(0.9, 2048), (1.0, 8192)], total_tokens=1_000_000, step_tokens=16_384)
    [(0, 2048), (901120, 8192)]
    """
    ends = [until for until, _ in phases]
    if not ends or ends != sorted(set(ends)) or ends[-1] != 1 or ends[0] <= 0:
        raise SettingsError(f"schedule.phases end at {ends}; until_fraction must increase, and the last must be 1")
    starts = [0, *(round(until * total_tokens / step_tokens) * step_tokens for until in ends[:-1])]
    return [(start, row_tokens) for start, (_, row_tokens) in zip(starts, phases, strict=True)]


def fit_batch(step_tokens: int, *, micro_tokens: int, row_lengths: Sequence[int], ranks: int) -> int:
    """Rounds the tokens of a step to a multiple of all ranks' micro-batches, which rows have to divide.

    Args:
        step_tokens: The requested size.
        micro_tokens: Tokens of a rank's forward pass.
        row_lengths: Every row length of the run.
        ranks: Number of processes.

    >>> fit_batch(2_500_000, micro_tokens=20_480, row_lengths=[4096], ranks=128)
    2621440
    """
    for row_tokens in row_lengths:
        if micro_tokens % row_tokens:
            raise SettingsError(
                f"batch.micro_tokens is {micro_tokens}, which rows of {row_tokens} do not divide; "
                f"set it to a multiple of {row_tokens}"
            )
    forward_tokens = micro_tokens * ranks
    return max(1, round(step_tokens / forward_tokens)) * forward_tokens


def check_step_tokens(before: int, now: int) -> None:
    """Raises `SettingsError` if a run would resume with another batch size than its checkpoint's."""
    if before != now:
        raise SettingsError(
            f"the checkpoint is from steps of {before:,} tokens, but this run would take {now:,}; set "
            f"batch.micro_tokens or the number of processes so that they divide {before:,}"
        )


def check_phases(before: Sequence[tuple[int, int]], now: Sequence[tuple[int, int]], *, tokens: int) -> None:
    """Raises `SettingsError` if phases that have begun would be placed otherwise than when their rows were read.

    Args:
        before: First token and row length of each phase, in the checkpoint.
        now: The same of this run.
        tokens: Consumed so far.
    """
    begun, placed = ([phase for phase in phases if phase[0] < tokens] for phases in (before, now))
    if begun != placed:
        wanted = ", ".join(f"{row_tokens} from token {start:,}" for start, row_tokens in begun)
        found = ", ".join(f"{row_tokens} from token {start:,}" for start, row_tokens in placed)
        raise SettingsError(
            f"the checkpoint is from rows of {wanted}, but schedule.phases now places {found}; set until_fraction to "
            f"the same tokens of the new schedule.total_tokens"
        )


def check_epochs(epochs: float, schedule: ScheduleSettings) -> None:
    """Raises `SettingsError` if a run takes more epochs than the schedule allows."""
    if schedule.max_epochs is not None and epochs > schedule.max_epochs:
        raise SettingsError(
            f"schedule.total_tokens is {schedule.total_tokens}, which is {epochs:.2f} passes over the shards, but "
            f"schedule.max_epochs is {schedule.max_epochs}; set fewer tokens, or pack more"
        )
