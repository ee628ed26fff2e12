"""All that decides what stays, and what comes of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .annotation import Endpoint
from .duplicates import NearDuplicates
from .measurement import Measuring
from .regressor import Fitting
from .report import Funnel
from .rules import Rules


@dataclass(frozen=True)
class Pieces:
    """Lines or paragraphs that many documents share, to be removed.

    Args:
        piece: "line" or "paragraph".
        min_documents: In how many documents one must stand.
        min_bytes: Shorter ones stay.
        min_left: A document that keeps fewer characters falls, as "repeated-text".
    """

    piece: str
    min_documents: int
    min_bytes: int
    min_left: int


@dataclass(frozen=True)
class Perplexity:
    """The cut by an n-gram model.

    Args:
        keep_fraction: Share of each language's documents that stay, those of lowest perplexity.
        model: An ARPA file or a binary of KenLM's; `None` to train one.
        order: Words in the longest n-gram.
        sample_bytes: What is trained on: the most preferred documents, every language by its share.
        min_word_count: Rarer words are unknown.
        words: "code", or a tokenizer.
        max_characters: What is scored of a document: its start.
    """

    keep_fraction: float
    model: Path | None
    order: int
    sample_bytes: int
    min_word_count: int
    words: str
    max_characters: int


@dataclass(frozen=True)
class Quality:
    """The learned score.

    Args:
        model: A trained regressor; `None` to annotate a sample and train one, "static" for the static scores alone.
        sample_documents: How many are annotated.
        endpoint: Whom to ask; `None` for the static annotator.
        fitting: How the regressor is trained.
        min_score: Documents below fall, as "low-quality"; `None` to score only.
        batch_documents: How many are scored at once.
    """

    model: str | None
    sample_documents: int
    endpoint: Endpoint | None
    fitting: Fitting
    min_score: float | None
    batch_documents: int


@dataclass(frozen=True)
class Selection:
    """So many tokens of what is left, of every language its share: scores of different languages do not compare.

    Args:
        max_tokens: How many; the rest falls, as "not-selected".
        by: "quality", best first, or "random".
        seed: Of the random order.
    """

    max_tokens: int
    by: str
    seed: int


@dataclass(frozen=True)
class Curation:
    """All that decides what stays.

    Args:
        measuring: What is measured.
        rules: Thresholds.
        min_language_bytes: Languages with less readable text fall, as "small-language".
        near: Near duplicates, `None` to keep them.
        pieces: Repeated pieces, `None` to leave them.
        perplexity: The cut, `None` for none.
        quality: The score, `None` for none.
        benchmarks: `name`, `path` and `fields` of what must not be trained on.
        min_benchmark_hits: Common word sequences from which a document is contaminated.
        redacts: Whether personal data is replaced.
        selection: How much is taken, `None` for all.
        tokenizer: What tokens are counted with, `None` for words.
        held_out_fraction: Share of documents that nothing is trained on.
    """

    measuring: Measuring
    rules: Rules
    min_language_bytes: int
    near: NearDuplicates | None
    pieces: Pieces | None
    perplexity: Perplexity | None
    quality: Quality | None
    benchmarks: Sequence[Mapping[str, Any]]
    min_benchmark_hits: int
    redacts: bool
    selection: Selection | None
    tokenizer: str | None
    held_out_fraction: float


@dataclass
class Outcome:
    """What came of a run.

    Args:
        funnel: Counts.
        histograms: By signal, counts of kept and of dropped by bin.
        examples: By reason, up to three documents.
        placeholders: What was redacted.
        steps: Documents left after each step, in order.
        measures: Figures of single steps.
    """

    funnel: Funnel = field(default_factory=Funnel)
    histograms: dict[str, Any] = field(default_factory=dict)
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    placeholders: dict[str, int] = field(default_factory=dict)
    steps: list[tuple[str, int]] = field(default_factory=list)
    measures: dict[str, Any] = field(default_factory=dict)
