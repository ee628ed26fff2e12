"""What is kept of a pretraining run while it runs: held-out measures, a bar, trackers, the report at its end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from codeshell_hf.stages.stage import Work, is_first_rank

if TYPE_CHECKING:
    from codeshell_hf.pack.mixture import Mixture
    from codeshell_hf.pack.rows import Rows
    from codeshell_hf.train.guard import Guard
    from codeshell_hf.train.progress import Log, Progress
    from codeshell_hf.train.sharding import Engine
    from recipes.launcher import Ranks
    from recipes.pretraining import Settings


@dataclass
class HeldOut:
    """Documents that nothing is trained on."""

    documents: list[tuple[str, Any, int]]
    window_tokens: int
    vocab_size: int
    log: "Log"
    ranks: "Ranks"
    by_position: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, engine: "Engine", progress: "Progress") -> dict[str, float]:
        """Measures bits per byte by language and writes them to the log.

        Args:
            engine: Holds the model; all ranks measure the same.
            progress: Where the run is.

        Returns:
            Bits per byte by language and of all, as trackers are told.
        """
        from codeshell_hf.text.bits_per_byte import score_documents

        engine.inner.eval()
        with engine.evaluation():
            scores = score_documents(
                engine.inner, self.documents, window_tokens=self.window_tokens, vocab_size=self.vocab_size
            )
        engine.inner.train()
        bits = {name: round(score.bits_per_byte, 4) for name, score in scores.items()}
        self.log.add({"step": progress.step, "tokens": progress.tokens, "bits_per_byte": bits})
        self.ranks.print(f"step {progress.step:>6} | held-out bits per byte {bits['all']:.3f}")
        return {f"bits_per_byte/{name}": value for name, value in bits.items()}

    def measure_positions(self, engine: "Engine", progress: "Progress") -> None:
        """Measures the loss by position in the longest rows and writes it to the log.

        Args:
            engine: As in `measure`.
            progress: Where the run is.
        """
        from codeshell_hf.evaluate.positions import POSITION_BINS, score_positions

        engine.inner.eval()
        with engine.evaluation():
            losses = score_positions(engine.inner, [ids for _, ids, _ in self.documents], row_tokens=self.window_tokens)
        engine.inner.train()
        if losses is not None:
            self.log.add({"step": progress.step, "tokens": progress.tokens, "loss_by_position": losses})
            width = self.window_tokens // POSITION_BINS
            self.ranks.print(
                f"step {progress.step:>6} | held-out loss {losses[0]:.3f} in the first {width} positions of "
                f"{self.window_tokens}, {losses[-1]:.3f} in the last"
            )


def read_held_out(settings: "Settings", log: "Log", ranks: "Ranks") -> HeldOut:
    """Reads the held-out documents.

    Args:
        settings: How much.
        log: Where measures go.
        ranks: Print once.

    Returns:
        The documents.
    """
    from codeshell_hf.text import held_out

    evaluation = settings.evaluation
    split = held_out.read_held_out(
        evaluation.shards or settings.shards, max_bytes_per_language=evaluation.max_bytes_per_language
    )
    window = max(phase.row_tokens for phase in settings.schedule.phases)
    return HeldOut(split.documents, window, split.shards.header.vocab_size, log, ranks)


def show_bar(steps: int, done: int) -> Any:
    """Makes the progress bar.

    Args:
        steps: Of the run.
        done: Already.

    Returns:
        A tqdm bar, silent on other ranks.
    """
    from tqdm import tqdm

    return tqdm(total=steps, initial=done, desc="pretrain", unit="step", disable=not is_first_rank())


def report(
    settings: "Settings",
    work: Work,
    log: "Log",
    rows: "Rows | Mixture",
    progress: "Progress",
    held_out: HeldOut,
    guard: "Guard",
) -> None:
    """Fills counts, measures, the loss curve and the last lines.

    Args:
        settings: The settings.
        work: What to fill.
        log: The run's record.
        rows: Know the epochs.
        progress: The end.
        held_out: Knows how much was measured on.
        guard: Knows what was skipped.
    """
    from codeshell_hf.publish.figures import draw_loss, draw_positions, save_figure

    steps = [entry for entry in log.entries if "loss" in entry]
    bits = [entry["bits_per_byte"] for entry in log.entries if "bits_per_byte" in entry]
    seconds = steps[-1]["elapsed_s"]
    work.counts = {
        "steps": progress.step,
        "tokens": progress.tokens,
        "epochs": round(rows.count_epochs(progress.tokens), 4),
        "held_out_documents": len(held_out.documents),
        "skipped_steps": guard.skipped,
    }
    work.measures = {
        "loss_first": steps[0]["loss"],
        "loss_last": sum(entry["loss"] for entry in steps[-20:]) / len(steps[-20:]),
        "bits_per_byte_before": bits[0],
        "bits_per_byte_after": bits[-1],
        "tokens_per_s": round(progress.tokens / seconds, 1) if seconds else None,
        "training_s": round(seconds, 1),
    }
    save_figure(draw_loss(log.entries), work.folder / "loss.svg")
    positions = [entry for entry in log.entries if "loss_by_position" in entry]
    if positions:
        save_figure(draw_positions(positions, held_out.window_tokens), work.folder / "positions.svg")
    work.report.append(
        f"loss {work.measures['loss_first']:.3f} -> {work.measures['loss_last']:.3f} over {progress.tokens:,} tokens "
        f"({work.counts['epochs']:.2f} epochs) at {work.measures['tokens_per_s']:,.0f} tokens/s"
    )
    if guard.skipped:
        work.report.append(f"{guard.skipped} steps were skipped for their gradients")
    work.report.append(f"held-out bits per byte {bits[0]['all']:.3f} -> {bits[-1]['all']:.3f}")


class Trackers:
    """Those who are told what is measured, by accelerate's own adapters; only on the first rank.

    A run that goes on after a stop goes on there too, under the same name.

    Args:
        names: Of `LOGGER_TYPE_TO_CLASS` of accelerate.
        folder: Where those that write files do.
        values: Settings, told once.
    """

    def __init__(self, names: Sequence[str], folder: Path, values: dict[str, Any]) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        from codeshell_hf.errors import SettingsError
        from codeshell_hf.manifest import flatten

        self._trackers = []
        if not names or not is_first_rank():
            return
        place = folder / "tracking"
        place.mkdir(exist_ok=True)
        run = place / "run"
        if not run.exists():
            run.write_text(f"{Path(values['output']).parent.name}-{uuid4().hex[:8]}", encoding="utf-8")
        known = run.read_text(encoding="utf-8")
        more = {
            "tensorboard": {"logging_dir": str(place)},
            "trackio": {"name": known, "resume": "allow"},
            "wandb": {"id": known, "name": known, "resume": "allow", "dir": str(place)},
        }
        for name in names:
            kind = LOGGER_TYPE_TO_CLASS[name]
            try:
                tracker = kind("codeshell-pretrain", **more[name])
                if hasattr(tracker, "start"):
                    tracker.start()
            except ImportError as error:
                raise SettingsError(f"trackers names {name}, which is not installed; pip install {name}") from error
            plain = {key: value if isinstance(value, int | float | str) else str(value)
                     for key, value in flatten(values).items()}  # fmt: skip
            tracker.store_init_configuration(plain)
            self._trackers.append(tracker)

    def tell(self, values: dict[str, float], step: int) -> None:
        """Hands measures on.

        Args:
            values: By name.
            step: Steps done.
        """
        for tracker in self._trackers:
            tracker.log(values, step=step)

    def close(self) -> None:
        """Lets them finish."""
        for tracker in self._trackers:
            tracker.finish()
