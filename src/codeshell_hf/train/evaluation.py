"""Evaluates a run on held-out documents, and exports the models that are evaluated beside it."""

from pathlib import Path

from torch import Tensor, nn

from ..errors import Interrupted
from ..text.bits_per_byte import score_documents
from ..text.held_out import read_held_out
from ..tokenization_codeshell import CodeShellTokenizer
from .background_evaluation import BackgroundEvaluation
from .engine import Engine
from .positions import POSITION_BINS, score_positions
from .ranks import Ranks
from .run_log import Log, Progress
from .settings import EvaluationSettings
from .stop_signal import StopSignal
from .trackers import Trackers


class RunEvaluation:
    """Evaluates the model of a run, and adds the results to its log; the ranks share the documents.

    Args:
        settings: When, and on how much.
        shards: The training shards, whose held-out documents are used if the settings name no others.
        row_tokens: The longest row.
        benchmarks: Evaluates what is exported.
        folder: The run's; models are exported to `exports`.
        stop: Ends an evaluation.

    Raises:
        DataError: If there are no held-out documents.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        shards: Path,
        *,
        row_tokens: int,
        benchmarks: BackgroundEvaluation,
        folder: Path,
        log: Log,
        trackers: Trackers,
        ranks: Ranks,
        stop: StopSignal,
    ) -> None:
        self.split = read_held_out(settings.shards or shards, max_bytes_per_language=settings.max_bytes_per_language)
        self.benchmarks = benchmarks
        self._settings = settings
        self._row_tokens = row_tokens
        self._exports = folder / "exports"
        self._log, self._trackers, self._ranks, self._stop = log, trackers, ranks, stop

    def make_up(self, engine: Engine, tokenizer: CodeShellTokenizer, progress: Progress, *, is_last: bool) -> None:
        """Does the evaluation before the first step, or one that a signal ended when the run was stopped.

        Raises:
            Interrupted: If a signal has ended it again.
        """
        if any(entry["step"] == progress.step and "bits_per_byte" in entry for entry in self._log.entries):
            return
        if progress.step == 0:
            self.log_bits_per_byte(engine, progress)
        elif self.after_step(engine, tokenizer, progress, is_last=is_last):
            raise Interrupted("the evaluation was stopped; run the same command again")

    def after_step(self, engine: Engine, tokenizer: CodeShellTokenizer, progress: Progress, *, is_last: bool) -> bool:
        """Evaluates and exports if it is time, and looks after the benchmarks; `finish` follows the last step.

        Returns:
            Whether a signal has ended the evaluation, on all ranks.
        """
        every_steps = self._settings.every_steps
        if every_steps and progress.step % every_steps == 0 and not is_last:
            try:
                measures = self.log_bits_per_byte(engine, progress)
            except Interrupted:
                return True
            self._trackers.log(measures, progress.step)
            if self._settings.exports:
                engine.save_whole(self._exports / f"step-{progress.step:08d}", tokenizer)
        self.benchmarks.poll(self._trackers)
        return False

    def finish(self, engine: Engine, progress: Progress, *, by_position: bool) -> bool:
        """Evaluates the final model, with the loss by position if asked.

        Returns:
            As `after_step`.
        """
        try:
            measures = self.log_bits_per_byte(engine, progress)
        except Interrupted:
            return True
        self._trackers.log(measures, progress.step)
        if by_position:
            self.log_loss_by_position(engine, progress)
        return False

    def log_bits_per_byte(self, engine: Engine, progress: Progress) -> dict[str, float]:
        """Logs bits per byte by language, and returns them under the names that trackers show.

        Raises:
            Interrupted: If a signal has ended the evaluation, on all ranks.
        """
        documents, vocab_size = self.split.documents, self.split.shards.header.vocab_size
        engine.inner.eval()
        try:
            with engine.evaluation():
                scores = score_documents(
                    engine.inner, documents, window_tokens=self._row_tokens, vocab_size=vocab_size,
                    measure=_compute_losses, ranks=self._ranks.readers, is_stopping=lambda: self._stop.is_received,
                )  # fmt: skip
        finally:
            engine.inner.train()
        bits = {name: round(score.bits_per_byte, 4) for name, score in scores.items()}
        self._log.add({"step": progress.step, "tokens": progress.tokens, "bits_per_byte": bits})
        self._ranks.print(f"step {progress.step:>6} | held-out bits per byte {bits['all']:.3f}")
        return {f"bits_per_byte/{name}": value for name, value in bits.items()}

    def log_loss_by_position(self, engine: Engine, progress: Progress) -> None:
        """Logs the loss by position in the longest rows, if enough documents are that long."""
        documents = [ids for _, ids, _ in self.split.documents]
        engine.inner.eval()
        try:
            with engine.evaluation():
                losses = score_positions(engine.inner, documents, row_tokens=self._row_tokens, measure=_compute_losses)
        finally:
            engine.inner.train()
        if losses is None:
            return
        self._log.add({"step": progress.step, "tokens": progress.tokens, "loss_by_position": losses})
        self._ranks.print(
            f"step {progress.step:>6} | held-out loss {losses[0]:.3f} in the first "
            f"{self._row_tokens // POSITION_BINS} positions of {self._row_tokens}, {losses[-1]:.3f} in the last"
        )


def _compute_losses(model: nn.Module, ids: Tensor) -> Tensor:
    losses: Tensor = model(input_ids=ids, labels=ids, reduction="none")
    return losses
