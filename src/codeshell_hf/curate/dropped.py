"""Lists dropped documents, each with the value that its reason measured and the threshold that it broke."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .rules import explain
from .settings import Rules

DROPPED_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "source", "language", "reason")),
        ("value", pa.float64()),
        ("threshold", pa.float64()),
        ("detail", pa.string()),
    ]
)
# The value behind a reason that is not a rule's: a column, or a score by key.
_COLUMNS = {"too-large": "bytes"}
_SCORES = {
    "high-perplexity": "perplexity",
    "low-quality": "quality",
    "contaminated": "overlap",
    "repeated-text": "left",
    "near-existing": "jaccard",
}
_FACTS = ("id", "source", "language", "licence")


class DropLimits(TypedDict):
    """What documents were measured against.

    Attributes:
        rules: As plain values.
        thresholds: By reason.
        of_languages: Thresholds by reason and language.
        language_bytes: Readable text of each language.
    """

    rules: dict[str, object]
    thresholds: dict[str, float]
    of_languages: dict[str, dict[str, float]]
    language_bytes: dict[str, int]


def list_dropped(
    batch: pa.RecordBatch,
    scores: Mapping[str, NDArray[np.float64]],
    verdicts: NDArray[np.uint8],
    reasons: Sequence[str],
    limits: DropLimits,
) -> pa.Table:
    """The dropped documents of a batch of measured ones, with the columns of `DROPPED_SCHEMA`.

    Args:
        scores: Of all documents of the batch, by name; NaN where there is none.
        verdicts: Indices of `reasons`, 0 for documents that stay.
    """
    rules = Rules.model_construct(**limits["rules"])  # type: ignore[arg-type]
    places = np.flatnonzero(verdicts)
    rows = batch.take(pa.array(places)).drop_columns(["text"]).to_pylist() if len(places) else []
    found = []
    for place, row in zip(places.tolist(), rows, strict=True):
        reason = reasons[verdicts[place]]
        value, threshold = _measure(reason, row, limits) or explain(rules, reason, row)
        if reason in _SCORES and not np.isnan(score := scores[_SCORES[reason]][place]):
            value = float(score)
        detail = row["licence"] if reason == "licence" else None
        found.append({**{name: row[name] for name in _FACTS[:3]}, "reason": reason, "value": value}
                     | {"threshold": threshold, "detail": detail})  # fmt: skip
    return pa.Table.from_pylist(found, schema=DROPPED_SCHEMA)


def _measure(reason: str, row: Mapping[str, object], limits: DropLimits) -> tuple[float | None, float | None] | None:
    """Value and threshold of a reason that is not a rule's; the value of a score is not known here."""
    language = str(row["language"])
    threshold = limits["of_languages"].get(reason, {}).get(language, limits["thresholds"].get(reason))
    if reason == "small-language":
        return float(limits["language_bytes"].get(language, 0)), threshold
    value = row[_COLUMNS[reason]] if reason in _COLUMNS else None
    if threshold is None and value is None:
        return None
    return (float(value) if isinstance(value, int | float) else None), threshold


def join_parts(parts: Iterable[Path], path: Path) -> None:
    """Joins the files of parts, in order, a part at a time in memory."""
    temporary = path.with_suffix(".tmp")
    with pq.ParquetWriter(temporary, DROPPED_SCHEMA, compression="zstd") as writer:
        for part in parts:
            writer.write_table(pq.read_table(part))
    temporary.replace(path)
