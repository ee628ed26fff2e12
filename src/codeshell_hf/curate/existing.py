"""Finds documents that another corpus has already, exactly or nearly."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypedDict, cast

import daft
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import DataFrame, DataType, col

from .duplicates import verify
from .settings import NearDuplicates, Source
from .shingles import shingle, sign
from .sources import Unit, read_unit
from .text_encodings import decode_text

SIGNED = pa.schema(
    [
        ("key", pa.int64()),
        ("digest", pa.string()),
        ("text", pa.large_string()),
        ("shingles", pa.int32()),
        ("bands", pa.list_(pa.uint64())),
    ]
)
FOUND = pa.schema([("key", pa.int64()), ("reason", pa.string()), ("jaccard", pa.float64())])
EXACT, NEAR = "exact-existing", "near-existing"
# A document is compared with so many of a bucket, those nearest in size, so that the work grows linearly.
_NEAREST = 24
_BATCH = 500
_MD5_DIGITS = 32


class SignTask(TypedDict):
    """A worker's task: units of another corpus as plain values, the file to write, and the number of the part."""

    index: int
    units: list[dict[str, str | int | None]]
    path: str


class SignShared(TypedDict):
    """Sources by name as plain values, the longest document, and the MinHash, if near duplicates are searched for."""

    sources: dict[str, dict[str, object]]
    max_bytes: int
    near: dict[str, int] | None


def sign_part(task: SignTask, shared: SignShared) -> None:
    """Writes digests and signatures of documents, with their texts, to a file that is complete or absent."""
    sources = {name: Source.model_validate(values) for name, values in shared["sources"].items()}
    units = [Unit(**cast(Mapping[str, object], values)) for values in task["units"]]  # type: ignore[arg-type]
    path = Path(task["path"])
    temporary = path.with_suffix(".tmp")
    key = task["index"] << 32
    rows = _read(units, sources, shared["max_bytes"])
    with pq.ParquetWriter(temporary, SIGNED, compression="zstd", compression_level=1) as writer:
        while batch := list(islice(rows, _BATCH)):
            texts = [text.encode() if text is not None else b"" for _, text in batch]
            shingles = shingle(texts)
            counts = [int(end - start) for start, end in zip(shingles.offsets[:-1], shingles.offsets[1:], strict=True)]
            near = shared["near"]
            bands = list(sign(shingles, bands=near["bands"], rows=near["rows"])) if near else [None] * len(batch)
            table = {
                "key": [key + place for place in range(len(batch))],
                "digest": [digest for digest, _ in batch],
                "text": [text for _, text in batch],
                "shingles": counts,
                "bands": [one if count else None for one, count in zip(bands, counts, strict=True)],
            }
            writer.write_table(pa.table(table, schema=SIGNED))
            key += len(batch)
    temporary.replace(path)


def _read(units: Sequence[Unit], sources: Mapping[str, Source], max_bytes: int) -> Iterator[tuple[str, str | None]]:
    """Digest and text of every document; of `curate`'s own, which may be redacted, also the digest of what it read."""
    for unit in units:
        for document in read_unit(sources[unit.source], unit, max_bytes=max_bytes):
            if document.reason is None:
                decoded = decode_text(document.content)  # as it is measured
                text = decoded[0] if decoded else document.content.decode("utf-8", "replace")
                content = text.encode() if decoded else document.content
                yield hashlib.md5(content, usedforsecurity=False).hexdigest(), text
        for digest in _read_digests(unit):
            yield digest, None


def _read_digests(unit: Unit) -> list[str]:
    try:
        file = pq.ParquetFile(unit.path) if unit.path.endswith(".parquet") else None
        if file is None or "digest" not in file.schema_arrow.names:
            return []
        stop = unit.stop if unit.stop is not None else file.num_row_groups
        column = file.read_row_groups(list(range(unit.start, stop)), columns=["digest"])["digest"].to_pylist()
    except (OSError, ValueError, TypeError, pa.ArrowException):
        return []
    return [digest for digest in column if isinstance(digest, str) and len(digest) == _MD5_DIGITS]


def find_existing(
    documents: DataFrame, measured: Sequence[Path], existing: Sequence[Path], folder: Path, near: NearDuplicates | None
) -> pa.Table:
    """Finds the documents that another corpus has.

    Args:
        documents: Columns `key`, `digest`, `bands` and `shingles`.
        measured: The parts' files, in order.
        existing: Files of `sign_part`, whose parts are numbered on from those.
        folder: For temporary files.

    Returns:
        The columns of `FOUND`, in the order of `key`; `jaccard` is that of the nearest document, 1 if it is equal.
    """
    signed = daft.read_parquet([str(path) for path in existing])
    digests = signed.select("digest").distinct()
    exact = documents.select("key", "digest").join(digests, on="digest", how="semi").select("key").to_arrow()
    tables = [_label(exact["key"], EXACT, [1.0] * len(exact))]
    if near is not None:
        rest = documents.join(daft.from_arrow(exact), on="key", how="anti") if len(exact) else documents
        pairs = _pair(rest, signed, near)
        if len(pairs):
            folder.mkdir(parents=True, exist_ok=True)
            edges = verify(pairs, [*measured, *existing], folder, min_jaccard=near.min_jaccard)
            best = edges.group_by("a").aggregate([("jaccard", "max")])
            tables.append(_label(best["a"], NEAR, best["jaccard_max"].to_pylist()))
    return pa.concat_tables(tables).sort_by("key")


def _label(keys: pa.ChunkedArray, reason: str, jaccards: Sequence[float]) -> pa.Table:
    columns = {"key": keys.cast(pa.int64()), "reason": [reason] * len(keys), "jaccard": jaccards}
    return pa.table(columns, schema=FOUND)


def _pair(documents: DataFrame, signed: DataFrame, near: NearDuplicates) -> pa.Table:
    """Pairs of a document, `a`, and one of the other corpus, `b`, that share a band."""

    def choose(sizes: daft.Series, keys: daft.Series, others: daft.Series) -> list[list[int]]:
        rows = zip(sizes.to_pylist(), keys.to_pylist(), others.to_pylist(), strict=True)
        return [choose_nearest(*row, min_jaccard=near.min_jaccard) for row in rows]

    nearest = daft.func.batch(return_dtype=DataType.list(DataType.int64()))(choose)
    mine = (
        documents.where(col("bands").not_null()).select("key", "shingles", col("bands").alias("band")).explode("band")
    )
    theirs = signed.where(col("bands").not_null()).select(
        col("key").alias("other"), col("shingles").alias("size"), col("bands").alias("band")
    )
    buckets = (
        theirs.explode("band")
        .groupby("band")
        .agg(col("other").list_agg().alias("others"), col("size").list_agg().alias("sizes"))
    )
    pairs = mine.join(buckets, on="band").select(
        col("key").alias("a"), nearest(col("shingles"), col("others"), col("sizes")).alias("b")
    )
    found = pairs.explode("b").where(col("b").not_null()).distinct().to_arrow()
    table = pa.table({"a": pc.cast(found["a"], pa.int64()), "b": pc.cast(found["b"], pa.int64())})
    return table.sort_by([("a", "ascending"), ("b", "ascending")])


def choose_nearest(size: int, keys: Sequence[int], sizes: Sequence[int], *, min_jaccard: float) -> list[int]:
    """The documents of a bucket that are similar enough in size, at most 24, those nearest in size.

    >>> choose_nearest(10, [1, 2, 3], [9, 100, 10], min_jaccard=0.7)
    [3, 1]
    """
    # Counts include repetitions, so sizes may differ more than those of the sets.
    near = [
        (abs(size - other), key)
        for key, other in zip(keys, sizes, strict=True)
        if min(size, other) >= 0.5 * min_jaccard * max(size, other)
    ]
    return [key for _, key in sorted(near)[:_NEAREST]]
