"""Builds the tokenizer from curated documents and other texts."""

import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from recipes.stage import Section, Stage, StageSettings, Work, main


class Conversations(Section):
    """Conversations whose words should be in the vocabulary too."""

    path: Path = Field(description="JSON Lines with messages")
    repeats: int = Field(default=1, gt=0, description="how often each is counted")


class Settings(StageSettings):
    """Settings of the tokenizer."""

    documents: Path = Field(description="output of curate")
    conversations: Conversations | None = Field(default=None, description="texts to count besides the documents")
    vocab_size: int = Field(description="all entries, 256 bytes and 20 special tokens included", gt=0)
    sample_bytes: int = Field(gt=0, description="how much of the documents to count on, spread over all of them")
    max_positions: int | None = Field(default=None, gt=0, description="longest input in tokens")


def read_texts(settings: Settings) -> Iterator[str]:
    """Reads the texts to count on: every n-th training document, so that all sources are in the sample.

    Args:
        settings: What to read, and how much.

    Yields:
        Texts.
    """
    from codeshell_hf.align.conversations import read_conversations
    from codeshell_hf.curate.documents import read_documents

    total = sum(row["bytes"] for row in read_documents(settings.documents, split="train", columns=["bytes"]))
    share, taken, seen = min(1.0, settings.sample_bytes / max(total, 1)), 0, 0
    for row in read_documents(settings.documents, split="train", columns=["text", "bytes"]):
        seen += row["bytes"]
        if taken < seen * share:
            taken += row["bytes"]
            yield row["text"]
    if settings.conversations is not None:
        for conversation in read_conversations(settings.conversations.path):
            text = "\n".join(message["content"] for message in conversation.messages)
            yield from [text] * settings.conversations.repeats


def run(settings: Settings, work: Work) -> None:
    """Trains and saves the tokenizer.

    Args:
        settings: What to train on.
        work: Where to write.
    """
    from codeshell_hf.curate.documents import read_documents
    from tokenizer.bpe import train_bpe
    from tokenizer.report import measure_languages

    built = train_bpe(
        read_texts(settings),
        vocab_size=settings.vocab_size,
        max_positions=settings.max_positions,
        show_progress=True,
    )
    built.save_pretrained(work.folder)
    rows = read_documents(settings.documents, split="held-out", columns=["text", "language"])
    measured = measure_languages(built, ((row["language"], row["text"]) for row in rows))
    work.counts = {"entries": len(built)}
    work.measures = {"characters_per_token": measured}
    work.report = [f"vocabulary of {len(built):,} entries; characters per token on held-out documents:"]
    work.report += [f"  {language:<18}{value:6.3f}" for language, value in list(measured.items())[:8]]


def list_inputs(settings: Settings) -> dict[str, Path]:
    """Names what the stage reads.

    Args:
        settings: The settings.

    Returns:
        Paths by name.
    """
    inputs = {"documents": settings.documents}
    if settings.conversations is not None:
        inputs["conversations"] = settings.conversations.path
    return inputs


STAGE = Stage(
    name="tokenizer",
    settings=Settings,
    inputs=list_inputs,
    run=run,
    code=("tokenizer", "src/codeshell_hf/tokenization_codeshell.py"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
