"""Measures held-out documents during a run."""

from dataclasses import dataclass

from ..text.bits_per_byte import score_documents
from ..text.held_out import HeldOut
from .engine import Engine
from .positions import POSITION_BINS, score_positions
from .progress import Log, Progress
from .ranks import Ranks


@dataclass(frozen=True)
class HeldOutEvaluation:
    """Evaluates the model on held-out documents in rows of up to `row_tokens`, and logs the results."""

    split: HeldOut
    row_tokens: int
    log: Log
    ranks: Ranks

    def log_bits_per_byte(self, engine: Engine, progress: Progress) -> dict[str, float]:
        """Logs bits per byte by language, and returns them under the names that trackers show."""
        documents, vocab_size = self.split.documents, self.split.shards.header.vocab_size
        engine.inner.eval()
        with engine.evaluation():
            scores = score_documents(engine.inner, documents, window_tokens=self.row_tokens, vocab_size=vocab_size)
        engine.inner.train()
        bits = {name: round(score.bits_per_byte, 4) for name, score in scores.items()}
        self.log.add({"step": progress.step, "tokens": progress.tokens, "bits_per_byte": bits})
        self.ranks.print(f"step {progress.step:>6} | held-out bits per byte {bits['all']:.3f}")
        return {f"bits_per_byte/{name}": value for name, value in bits.items()}

    def log_loss_by_position(self, engine: Engine, progress: Progress) -> None:
        """Logs the loss by position in the longest rows, if enough documents are that long."""
        documents = [ids for _, ids, _ in self.split.documents]
        engine.inner.eval()
        with engine.evaluation():
            losses = score_positions(engine.inner, documents, row_tokens=self.row_tokens)
        engine.inner.train()
        if losses is None:
            return
        self.log.add({"step": progress.step, "tokens": progress.tokens, "loss_by_position": losses})
        self.ranks.print(
            f"step {progress.step:>6} | held-out loss {losses[0]:.3f} in the first "
            f"{self.row_tokens // POSITION_BINS} positions of {self.row_tokens}, {losses[-1]:.3f} in the last"
        )
