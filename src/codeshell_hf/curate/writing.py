"""Writes the documents that stay, redacted, and counts and shows what fell."""

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .measurement import SCHEMA
from .parts import Part
from .redaction import redact
from .repetition import find_holders, remove_pieces
from .verdicts import KEPT

_ROWS = 512
EXAMPLES = 3
_EXAMPLE_CHARACTERS = 600
BINS = 40
# Signals whose histograms are drawn: from, to, and whether their bins grow by a factor.
HISTOGRAMS: dict[str, tuple[float, float, bool]] = {
    "bytes": (10, 1e7, True),
    "lines": (1, 1e5, True),
    "mean_line": (1, 1e3, True),
    "longest_line": (1, 1e5, True),
    "letter_fraction": (0, 1, False),
    "digit_fraction": (0, 1, False),
    "space_fraction": (0, 1, False),
    "comment_fraction": (0, 1, False),
    "string_fraction": (0, 1, False),
    "encoded_fraction": (0, 1, False),
    "duplicate_line_fraction": (0, 1, False),
    "header_fraction": (0, 1, False),
    "complexity": (1, 50, True),
    "depth": (0, 20, False),
    "preference": (0, 1, False),
    "perplexity": (1, 1e5, True),
    "quality": (0, 5, False),
}
_DROPPED = ("key", "reason", "bands", "pieces", "shingles")
DOCUMENT_SCHEMA = pa.schema(
    [
        *(field for field in SCHEMA if field.name not in _DROPPED),
        ("cluster", pa.string()),
        ("cluster_size", pa.int32()),
        ("perplexity", pa.float32()),
        ("quality", pa.float32()),
        ("tokens", pa.int32()),
        ("split", pa.string()),
    ]
)


@dataclass(frozen=True)
class Writing:
    """What workers need to write a part.

    Args:
        part: Where it lies; its `output` is the file of documents.
        inspected: File with perplexity and tokens, `None` where nothing was inspected.
        scored: File with quality, likewise.
        clusters: File with the size of each cluster by the key of the document that stays.
        reasons: By code.
        held_out_fraction: Share of documents that nothing is trained on.
        redacts: Whether personal data is replaced.
        pieces: "line" or "paragraph" where repeated ones are removed.
        repeated: File with their numbers.
        min_piece_bytes: Shorter ones stay.
    """

    part: Part
    inspected: str | None
    scored: str | None
    clusters: str
    reasons: list[str]
    held_out_fraction: float
    redacts: bool
    pieces: str | None
    repeated: str | None
    min_piece_bytes: int


def choose_split(digest: str, held_out_fraction: float) -> str:
    """Puts a document aside, or not, by its content alone.

    Args:
        digest: Its MD5 in hexadecimal.
        held_out_fraction: Share to put aside, 0 to 1.

    Returns:
        "held-out" or "train".
    """
    # Another hash of the digest: chance must not depend on what else the digest is used for.
    chance = int.from_bytes(hashlib.sha256(digest.encode()).digest()[:8], "big") / 2**64
    return "held-out" if chance < held_out_fraction else "train"


def write_part(task: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """Writes a part's documents and counts all of it.

    Args:
        task: A `Part` as plain values, with `inspected` and `scored`.
        shared: The other fields of `Writing`.

    Returns:
        `counts`: documents, bytes before and after, and tokens, by language and verdict; `histograms`: by signal,
        counts of kept and of dropped; `examples`: by reason; `placeholders`: what was redacted. It is also kept in a
        file beside the part, so that a part that is there is not written again.
    """
    part = Part(**{name: task[name] for name in ("index", "measured", "codes", "output")})
    writing = Writing(part=part, inspected=task["inspected"], scored=task["scored"], **shared)
    output = Path(part.output)
    summary = output.with_name(f".{output.name}.json")
    if output.exists() and summary.exists():
        return json.loads(summary.read_text(encoding="utf-8"))
    result = _write(writing, output)
    aside = summary.with_suffix(".tmp")
    aside.write_text(json.dumps(result), encoding="utf-8")
    aside.replace(summary)
    return result


def _write(writing: Writing, output: Path) -> dict[str, Any]:
    codes = np.load(writing.part.codes)
    reasons = writing.reasons
    found = _Found(writing)
    clusters = np.load(writing.clusters)
    repeated = np.load(writing.repeated) if writing.repeated else np.empty(0, np.int64)
    tally = _Tally()
    aside = output.with_suffix(".tmp")
    row = 0
    with pq.ParquetWriter(aside, DOCUMENT_SCHEMA, compression="zstd") as writer:
        for batch in pq.ParquetFile(writing.part.measured).iter_batches(_ROWS):
            verdicts = codes[row : row + len(batch)]
            row += len(batch)
            extra = found.look_up(batch["key"].to_numpy())
            tally.count_histograms(batch, extra, verdicts == 0)
            tally.show_examples(batch, verdicts, reasons)
            tally.count_dropped(batch, verdicts, reasons)
            kept = verdicts == 0
            if kept.any():
                mine = {name: values[kept] for name, values in extra.items()}
                writer.write_table(_finish(batch.filter(pa.array(kept)), mine, clusters, repeated, writing, tally))
    aside.replace(output)
    return tally.result()


def _finish(
    batch: pa.RecordBatch, extra: dict[str, Any], clusters: Any, repeated: Any, writing: Writing, tally: "_Tally"
) -> pa.Table:
    """Makes of measured documents what is written."""
    texts = []
    holders = find_holders(batch["pieces"], repeated).tolist()
    for text, is_holder in zip(batch["text"].to_pylist(), holders, strict=True):
        if is_holder:
            text = remove_pieces(text, str(writing.pieces), repeated, min_bytes=writing.min_piece_bytes)  # noqa: PLW2901
        if writing.redacts:
            redacted = redact(text)
            text = redacted.text  # noqa: PLW2901
            tally.placeholders.update(redacted.counts)
        texts.append(text)
    keys = batch["key"].to_numpy()
    places = np.searchsorted(clusters[:, 0], keys)
    found = np.minimum(places, max(len(clusters) - 1, 0))
    in_cluster = clusters[found, 0] == keys if len(clusters) else np.zeros(len(keys), bool)
    sizes = np.where(in_cluster, clusters[found, 1] if len(clusters) else 1, 1)
    splits = [choose_split(digest, writing.held_out_fraction) for digest in batch["digest"].to_pylist()]
    columns = {
        "text": pa.array(texts, pa.large_string()),
        "bytes": pa.array([len(text.encode()) for text in texts], pa.int64()),
        "cluster": pc.if_else(pa.array(in_cluster), batch["id"], pa.scalar(None, pa.string())),
        "cluster_size": pa.array(sizes, pa.int32()),
        "split": pa.array(splits, pa.string()),
        **{
            name: pa.array(values, pa.float64(), mask=np.isnan(values)).cast(DOCUMENT_SCHEMA.field(name).type)
            for name, values in extra.items()
        },
    }
    arrays = [columns[name] if name in columns else batch[name] for name in DOCUMENT_SCHEMA.names]
    rows = zip(
        *(batch["language"].to_pylist(), batch["bytes"].to_pylist(), columns["bytes"].to_pylist()),
        np.nan_to_num(extra["tokens"]).astype(int).tolist(),
        strict=True,
    )
    for language, before, after, tokens in rows:
        tally.add(language, KEPT, before, after, tokens)
    return pa.Table.from_arrays(arrays, schema=DOCUMENT_SCHEMA)


class _Found:
    """Perplexity, tokens and quality of documents, by key."""

    def __init__(self, writing: Writing) -> None:
        self._tables = []
        for path, names in ((writing.inspected, ("perplexity", "tokens")), (writing.scored, ("quality",))):
            if path is not None:
                table = pq.read_table(path, columns=["key", *names])
                values = {name: table[name].cast(pa.float64()).to_numpy() for name in names}
                self._tables.append((table["key"].to_numpy(), values))
            else:
                self._tables.append((np.empty(0, np.int64), {name: np.empty(0) for name in names}))

    def look_up(self, keys: Any) -> dict[str, Any]:
        found = {}
        for known, values in self._tables:
            places = np.minimum(np.searchsorted(known, keys), max(len(known) - 1, 0))
            is_there = known[places] == keys if len(known) else np.zeros(len(keys), bool)
            for name, column in values.items():
                found[name] = np.where(is_there, column[places] if len(known) else np.nan, np.nan)
        return found


class _Tally:
    """Counts, histograms and examples of a part."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        self.placeholders: Counter[str] = Counter()
        self._histograms: dict[str, Any] = {}
        self._examples: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def add(self, language: str | None, verdict: str, before: int, after: int, tokens: int) -> None:
        cell = self.counts[language or "unknown", verdict]
        for place, value in enumerate((1, before, after, tokens)):
            cell[place] += value

    def count_dropped(self, batch: pa.RecordBatch, verdicts: Any, reasons: list[str]) -> None:
        fallen = np.flatnonzero(verdicts)
        languages, sizes = batch["language"].to_pylist(), batch["bytes"].to_pylist()
        for place in fallen.tolist():
            self.add(languages[place], reasons[verdicts[place]], sizes[place], 0, 0)

    def count_histograms(self, batch: pa.RecordBatch, extra: dict[str, Any], kept: Any) -> None:
        readable = pc.is_valid(batch["text"]).to_numpy(zero_copy_only=False)
        for name, (low, high, is_log) in HISTOGRAMS.items():
            values = extra.get(name)
            if values is None:
                values = batch[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
            known = readable & ~np.isnan(values)
            clipped = np.clip(values, low, high)
            scaled = np.log(clipped / low) / np.log(high / low) if is_log else (clipped - low) / (high - low)
            bins = np.minimum(np.nan_to_num(scaled) * BINS, BINS - 1).astype(np.int64)
            counts = self._histograms.setdefault(name, np.zeros((2, BINS), np.int64))
            counts[0] += np.bincount(bins[known & kept], minlength=BINS)
            counts[1] += np.bincount(bins[known & ~kept], minlength=BINS)

    def show_examples(self, batch: pa.RecordBatch, verdicts: Any, reasons: list[str]) -> None:
        for code in np.unique(verdicts[verdicts > 0]).tolist():
            held = self._examples[reasons[code]]
            for place in np.flatnonzero(verdicts == code)[: EXAMPLES - len(held)].tolist():
                text = batch["text"][place].as_py()
                held.append(
                    {
                        "id": batch["id"][place].as_py(),
                        "language": batch["language"][place].as_py(),
                        "bytes": batch["bytes"][place].as_py(),
                        "start": redact(text[:_EXAMPLE_CHARACTERS]).text if text else "",
                    }
                )

    def result(self) -> dict[str, Any]:
        return {
            "counts": [[*key, *cell] for key, cell in sorted(self.counts.items())],
            "histograms": {name: values.tolist() for name, values in self._histograms.items()},
            "examples": self._examples,
            "placeholders": self.placeholders,
        }
