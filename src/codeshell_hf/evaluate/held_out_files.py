"""Measures on held-out files: bits per byte, beside those of a trigram model, and lines filled in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..text.bits_per_byte import score_documents
from ..text.documents import DocumentRow, read_documents
from ..text.held_out import HeldOut, read_held_out
from .byte_trigram import ByteTrigram
from .line_infilling import LineScore, first_line, score_lines, show_lines, take_lines
from .models import EvaluatedModel
from .results import ResultCache
from .settings import BitsPerByteSettings, HeldOutLineSettings
from .tasks import Task, answer_task, make_task


@dataclass(frozen=True)
class HeldOutFiles:
    """The held-out split, as tokens and as text.

    Args:
        split: Tokens, and which documents are scored.
        rows: `id`, `language` and `text` of all documents.
        documents: Output of `curate`.
        window_tokens: Longest input.
        trigram_bits_per_byte: Of a byte-trigram model of the training split.
    """

    split: HeldOut
    rows: Sequence[DocumentRow]
    documents: Path
    window_tokens: int
    trigram_bits_per_byte: float

    @classmethod
    def read(cls, documents: Path, shards: Path, settings: BitsPerByteSettings) -> "HeldOutFiles":
        """Reads the outputs of `curate` and `pack`."""
        split = read_held_out(shards, max_bytes_per_language=settings.max_bytes_per_language)
        rows = list(read_documents(documents, split="held-out", columns=["id", "language", "text"]))
        ids = list(split.shards.read_ids())
        scored = {ids[index] for index in split.chosen}
        texts = (row["text"] for row in read_documents(documents, split="train", columns=["text"]))
        trigram = ByteTrigram().train(text.encode("utf-8") for text in texts)
        bits = trigram.score(row["text"].encode("utf-8") for row in rows if row["id"] in scored)
        return cls(split, rows, documents, settings.window_tokens, round(bits, 4))

    def describe(self) -> dict[str, int]:
        """The amount of text that is scored."""
        return {"documents": len(self.split.chosen), "bytes": self.split.bytes}

    def make_infilling_task(self, settings: HeldOutLineSettings, *, seed: int) -> Task:
        """Removes lines from the documents, to be filled in."""
        lines = take_lines(self.rows, per_language=settings.per_language, seed=seed)
        limit = settings.max_prompt_tokens
        return make_task("infilling", "held-out-lines-v1", lines, str(self.documents), max_prompt_tokens=limit)


def score_bits_per_byte(
    model: EvaluatedModel, files: HeldOutFiles, cache: ResultCache
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Bits per byte by language and for "all", and 95 % intervals; an earlier run's are reused."""
    header = files.split.shards.header

    def compute() -> dict[str, object]:
        if model.model is None:
            raise ValueError(f"{model.name} is not in memory")
        scores = score_documents(
            model.model,
            files.split.documents,
            window_tokens=files.window_tokens,
            vocab_size=header.vocab_size,
        )
        return {
            "bits_per_byte": {key: round(score.bits_per_byte, 4) for key, score in scores.items()},
            "bits_per_byte_interval": {key: [round(end, 4) for end in score.interval] for key, score in scores.items()},
        }

    origin = [model.identity, files.window_tokens, files.split.chosen, header]
    values = cache.compute(f"bits-{model.name}", origin, compute)
    return values["bits_per_byte"], values["bits_per_byte_interval"]


def fill_in_lines(
    model: EvaluatedModel, task: Task, folder: Path, *, seed: int
) -> tuple[dict[str, LineScore], list[dict[str, object]]]:
    """Lets a model fill in held-out lines: exact matches by language and for "all", and a few samples."""
    answers = answer_task(model, task, folder, seed=seed)
    lines = {key: first_line(completions[0].text) for key, completions in answers.items()}
    return score_lines(task.problems, lines), show_lines(task.problems, lines)
