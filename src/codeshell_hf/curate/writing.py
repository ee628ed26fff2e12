"""Writes the remaining documents, redacted, and collects counts and examples of dropped ones."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..manifest import hash_values
from .dropped import DROPPED_SCHEMA, DropLimits, list_dropped
from .examination import EXAMINED_SIGNALS
from .measured_parts import SCHEMA
from .parts import CorpusPart, Repeated, read_rows
from .quality_scores import OUTPUTS
from .redaction import redact, redact_all
from .repetition import find_holders, remove_pieces
from .report import Example, Histogram, Outcome
from .split import choose_split
from .verdicts import KEPT

EXAMPLES = 3
_EXAMPLE_CHARACTERS = 600
BINS = 40
# Signals with histograms: lower bound, upper bound, and whether bins are logarithmic.
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
_DROPPED = ("key", "reason", "bands", "pieces", "shingles", "standing")
DOCUMENT_SCHEMA = pa.schema(
    [
        *(field for field in SCHEMA if field.name not in _DROPPED),
        *EXAMINED_SIGNALS.items(),
        ("cluster", pa.string()),
        ("cluster_size", pa.int32()),
        ("perplexity", pa.float32()),
        *((name, pa.float32()) for name in OUTPUTS),
        ("tokens", pa.int32()),
        ("split", pa.string()),
    ]
)


class WriteTask(CorpusPart):
    """A part, with its files of perplexity, tokens and, if documents were scored, quality; writes `dropped`, too."""

    inspected: str
    scored: str | None
    existing: str | None
    dropped: str


class WriteShared(TypedDict):
    """Arguments of all tasks; `clusters` is a file with cluster sizes by the key of the document that stays."""

    clusters: str
    reasons: list[str]
    held_out_fraction: float
    redacts: bool
    repeated: Repeated | None
    limits: DropLimits


class Written(TypedDict):
    """The results of a part: documents, bytes and tokens by language and verdict, histograms, examples."""

    counts: list[tuple[str, str, int, int, int, int]]
    histograms: dict[str, Histogram]
    examples: dict[str, list[Example]]
    placeholders: dict[str, int]


def write_part(task: WriteTask, shared: WriteShared) -> Written:
    """Writes a part's documents and returns its counts, which are also stored beside it for resuming."""
    output = Path(task["output"])
    summary = output.with_name(f".{output.name}.json")
    if output.exists() and summary.exists():
        written: Written = json.loads(summary.read_text(encoding="utf-8"))
        return written
    result = _write(task, shared, output)
    temporary = summary.with_suffix(".tmp")
    temporary.write_text(json.dumps(result), encoding="utf-8")
    temporary.replace(summary)
    return result


def _write(task: WriteTask, shared: WriteShared, output: Path) -> Written:
    codes = np.load(task["codes"])
    reasons = shared["reasons"]
    scores = _Scores(task["inspected"], task["scored"], task["existing"])
    clusters = np.load(shared["clusters"])
    hashes = np.load(shared["repeated"]["path"]) if shared["repeated"] else np.empty(0, np.int64)
    tally = _Tally()
    temporary = output.with_suffix(".tmp")
    row = 0
    with (
        pq.ParquetWriter(temporary, DOCUMENT_SCHEMA, compression="zstd") as writer,
        pq.ParquetWriter(task["dropped"], DROPPED_SCHEMA, compression="zstd") as dropped,
    ):
        for batch in read_rows(task):
            verdicts = codes[row : row + len(batch)]
            row += len(batch)
            extra = scores.look_up(batch["key"].to_numpy())
            tally.count_histograms(batch, extra, verdicts == 0)
            tally.show_examples(batch, verdicts, reasons)
            tally.count_dropped(batch, verdicts, reasons)
            dropped.write_table(list_dropped(batch, extra, verdicts, reasons, shared["limits"]))
            kept = verdicts == 0
            if kept.any():
                mine = {name: extra[name][kept] for name in DOCUMENT_SCHEMA.names if name in extra}
                writer.write_table(_finish(batch.filter(pa.array(kept)), mine, clusters, hashes, shared, tally))
    temporary.replace(output)
    return tally.result()


def _finish(
    batch: pa.RecordBatch,
    extra: Mapping[str, NDArray[np.float64]],
    clusters: NDArray[np.int64],
    hashes: NDArray[np.int64],
    shared: WriteShared,
    tally: "_Tally",
) -> pa.Table:
    """Turns measured documents into the output table."""
    texts = []
    holders = find_holders(batch["pieces"], hashes).tolist()
    repeated = shared["repeated"]
    for text, is_holder in zip(batch["text"].to_pylist(), holders, strict=True):
        if repeated is not None and is_holder:
            text = remove_pieces(text, repeated["piece"], hashes, min_bytes=repeated["min_bytes"])  # noqa: PLW2901
        texts.append(text)
    if shared["redacts"]:
        redacted = redact_all(texts)
        texts = [document.text for document in redacted]
        for document in redacted:
            tally.placeholders.update(document.counts)
    keys = batch["key"].to_numpy()
    places = np.searchsorted(clusters[:, 0], keys)
    rows = np.minimum(places, max(len(clusters) - 1, 0))
    in_cluster = clusters[rows, 0] == keys if len(clusters) else np.zeros(len(keys), bool)
    sizes = np.where(in_cluster, clusters[rows, 1] if len(clusters) else 1, 1)
    splits = [choose_split(digest, shared["held_out_fraction"]) for digest in batch["digest"].to_pylist()]
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
    sums = zip(
        *(batch["language"].to_pylist(), batch["bytes"].to_pylist(), columns["bytes"].to_pylist()),
        np.nan_to_num(extra["tokens"]).astype(int).tolist(),
        strict=True,
    )
    for language, before, after, tokens in sums:
        tally.add(language, KEPT, before, after, tokens)
    return pa.Table.from_arrays(arrays, schema=DOCUMENT_SCHEMA)


def merge(outcome: Outcome, results: Sequence[Written]) -> None:
    """Adds the results of all parts to the outcome."""
    histograms: dict[str, NDArray[np.int64]] = {}
    examples: dict[str, list[Example]] = {}
    for result in results:
        for language, verdict, *values in result["counts"]:
            outcome.funnel.add(language, verdict, *values)
        for name, counts in result["histograms"].items():
            histograms[name] = np.asarray(counts, np.int64) + histograms.get(name, np.int64(0))
        for reason, of_part in result["examples"].items():
            examples.setdefault(reason, []).extend(of_part)
        for name, count in sorted(result["placeholders"].items()):
            outcome.placeholders[name] = outcome.placeholders.get(name, 0) + count
    outcome.histograms = {name: values.tolist() for name, values in histograms.items()}
    outcome.examples = {
        reason: sorted(of_reason, key=lambda row: hash_values(row["id"]))[:EXAMPLES]
        for reason, of_reason in sorted(examples.items())
    }


class _Scores:
    """Perplexity, tokens and quality of documents, by key."""

    def __init__(self, inspected: str, scored: str | None, existing: str | None) -> None:
        self._tables: list[tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]] = []
        for path, names in (
            (inspected, ("perplexity", "tokens", "left", "overlap")),
            (scored, OUTPUTS),
            (existing, ("jaccard",)),
        ):
            if path is not None:
                table = pq.read_table(path, columns=["key", *names])
                values = {name: table[name].cast(pa.float64()).to_numpy() for name in names}
                self._tables.append((table["key"].to_numpy(), values))
            else:
                self._tables.append((np.empty(0, np.int64), {name: np.empty(0) for name in names}))

    def look_up(self, keys: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        columns: dict[str, NDArray[np.float64]] = {}
        for known, values in self._tables:
            places = np.minimum(np.searchsorted(known, keys), max(len(known) - 1, 0))
            is_there = known[places] == keys if len(known) else np.zeros(len(keys), bool)
            for name, column in values.items():
                columns[name] = np.where(is_there, column[places] if len(known) else np.nan, np.nan)
        return columns


class _Tally:
    """Counts, histograms and examples of a part."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], tuple[int, int, int, int]] = defaultdict(lambda: (0, 0, 0, 0))
        self.placeholders: Counter[str] = Counter()
        self._histograms: dict[str, NDArray[np.int64]] = {}
        self._examples: dict[str, list[Example]] = defaultdict(list)

    def add(self, language: str | None, verdict: str, before: int, after: int, tokens: int) -> None:
        key = (language or "unknown", verdict)
        documents, size, written, counted = self.counts[key]
        self.counts[key] = (documents + 1, size + before, written + after, counted + tokens)

    def count_dropped(self, batch: pa.RecordBatch, verdicts: NDArray[np.uint8], reasons: Sequence[str]) -> None:
        languages, sizes = batch["language"].to_pylist(), batch["bytes"].to_pylist()
        for place in np.flatnonzero(verdicts).tolist():
            self.add(languages[place], reasons[verdicts[place]], sizes[place], 0, 0)

    def count_histograms(
        self, batch: pa.RecordBatch, extra: Mapping[str, NDArray[np.float64]], kept: NDArray[np.bool_]
    ) -> None:
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

    def show_examples(self, batch: pa.RecordBatch, verdicts: NDArray[np.uint8], reasons: Sequence[str]) -> None:
        for code in np.unique(verdicts[verdicts > 0]).tolist():
            examples = self._examples[reasons[code]]
            for place in np.flatnonzero(verdicts == code)[: EXAMPLES - len(examples)].tolist():
                text = batch["text"][place].as_py()
                examples.append(
                    {
                        "id": batch["id"][place].as_py(),
                        "language": batch["language"][place].as_py(),
                        "bytes": batch["bytes"][place].as_py(),
                        "start": redact(text[:_EXAMPLE_CHARACTERS]).text if text else "",
                    }
                )

    def result(self) -> Written:
        return {
            "counts": [(*key, *cell) for key, cell in sorted(self.counts.items())],
            "histograms": {name: values.tolist() for name, values in self._histograms.items()},
            "examples": self._examples,
            "placeholders": self.placeholders,
        }
