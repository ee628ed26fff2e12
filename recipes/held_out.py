"""Models on files that were not trained on: bits per byte, single lines filled in, and what is known by heart."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from codeshell_hf.settings import Section

if TYPE_CHECKING:
    from codeshell_hf.evaluate.problems import Problem


class BitsPerByteSettings(Section):
    """How well text is predicted."""

    max_bytes_per_language: int = Field(default=100_000, gt=0, description="how much of a language is read")
    window_tokens: int = Field(gt=1, description="longest input")


class InfillingSettings(Section):
    """Whether single lines are filled in exactly."""

    per_language: int = Field(default=50, gt=0, description="lines of a language at most")
    max_prompt_tokens: int = Field(gt=8, description="longer prompts are cut on both sides")


class MemorisationSettings(Section):
    """Whether training files are known by heart."""

    documents: int = Field(default=100, gt=0, description="training files at most")
    prompt_characters: int = Field(default=200, gt=0, description="how much of each is given")
    reference_characters: int = Field(default=100, gt=0, description="how much has to come back, letter for letter")


def read_held_out(documents: Path, shards: Path, *, max_bytes_per_language: int) -> dict[str, Any]:
    """Reads the held-out documents: as ids for bits per byte, as text for the rest.

    Args:
        documents: Output of `curate`.
        shards: Output of `pack`.
        max_bytes_per_language: How much of a language is scored.

    Returns:
        `shards`, `chosen` indices into them, `bytes`, and all `rows` of text.
    """
    from codeshell_hf.text import held_out
    from codeshell_hf.text.documents import read_documents

    split = held_out.read_held_out(shards, max_bytes_per_language=max_bytes_per_language)
    rows = list(read_documents(documents, split="held-out", columns=["id", "language", "text"]))
    return {"shards": split.shards, "chosen": split.chosen, "bytes": split.bytes, "rows": rows}


def score_trigram(documents: Path, held_out: dict[str, Any]) -> float:
    """Trains a byte-trigram model on the training split and scores the documents that the models are scored on.

    Args:
        documents: Output of `curate`.
        held_out: What to score.

    Returns:
        Bits per byte.
    """
    from codeshell_hf.evaluate.byte_trigram import ByteTrigram
    from codeshell_hf.text.documents import read_documents

    model = ByteTrigram().train(
        row["text"].encode("utf-8") for row in read_documents(documents, split="train", columns=["text"])
    )
    chosen = {held_out["shards"].ids[index] for index in held_out["chosen"]}
    return round(model.score(row["text"].encode("utf-8") for row in held_out["rows"] if row["id"] in chosen), 4)


def score_bits(model: Any, held_out: dict[str, Any], *, window_tokens: int) -> dict[str, Any]:
    """Measures bits per byte.

    Args:
        model: In evaluation mode.
        held_out: The documents.
        window_tokens: Longest input.

    Returns:
        Bits per byte by language, and their intervals.
    """
    from codeshell_hf.text.bits_per_byte import score_documents

    shards = held_out["shards"]
    documents = [(shards.languages[index], shards[index], int(shards.bytes[index])) for index in held_out["chosen"]]
    scores = score_documents(model, documents, window_tokens=window_tokens, vocab_size=shards.header.vocab_size)
    return {
        "bits_per_byte": {key: round(score.bits_per_byte, 4) for key, score in scores.items()},
        "bits_per_byte_interval": {key: [round(end, 4) for end in score.interval] for key, score in scores.items()},
    }


def take_beginnings(documents: Path, settings: MemorisationSettings) -> list["Problem"]:
    """Takes the beginnings of training files, spread over the corpus.

    Args:
        documents: Output of `curate`.
        settings: How many and how long.

    Returns:
        Problems, with what follows as reference.
    """
    from codeshell_hf.evaluate.problems import Problem
    from codeshell_hf.text.documents import read_documents

    size = settings.prompt_characters + settings.reference_characters
    rows = [
        row
        for row in read_documents(documents, split="train", columns=["id", "language", "text"])
        if len(row["text"]) >= size
    ]
    step = max(1, len(rows) // settings.documents)
    return [
        Problem(
            row["id"],
            row["language"],
            row["text"][: settings.prompt_characters],
            None,
            row["text"][settings.prompt_characters : size],
        )
        for row in rows[::step][: settings.documents]
    ]
