"""The steps of curation in their order, in parts that are each finished for good."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pyarrow.parquet as pq
from daft import DataType, col

from ..errors import DataError
from ..manifest import write_text
from .documents import DOCUMENTS
from .duplicates import find_exact_duplicates
from .report import Funnel
from .rules import Rules, judge
from .signals import Signals, measure
from .sources import File, Folder, list_files, read_text, split_parts

PART_BYTES = 32_000_000
MEASURED = "measured"

_READ = DataType.struct(
    {
        "text": DataType.string(),
        "language": DataType.string(),
        "reason": DataType.string(),
        "digest": DataType.string(),
        "lines": DataType.int64(),
        "mean_line": DataType.float64(),
        "longest_line": DataType.int64(),
        "letter_fraction": DataType.float64(),
        "digit_fraction": DataType.float64(),
        "is_generated": DataType.bool(),
    }
)
_COLUMNS = [field.name for field in _READ.to_arrow_dtype()]
_NOTHING = dict.fromkeys(_COLUMNS)


def curate(
    folders: Sequence[Folder],
    rules: Rules,
    output: Path,
    *,
    max_file_bytes: int,
    held_out_fraction: float,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Funnel:
    """Runs the funnel.

    Parts that an earlier run finished are taken as they are, so a run that was killed goes on where it stopped.

    Args:
        folders: What to read.
        rules: What to drop.
        output: Folder for `documents/part-*.parquet` and `funnel.json`; `measured/` is kept in it until the end.
        max_file_bytes: Larger files fall as "too-large".
        held_out_fraction: Share of documents that nothing is trained on, chosen by their digest.
        on_progress: Called with parts done and parts in all.

    Returns:
        The counts.

    Raises:
        DataError: If there is nothing to read, or nothing is left.
    """
    files = list_files(folders)
    parts = split_parts(files, part_bytes=PART_BYTES)
    (output / MEASURED).mkdir(parents=True, exist_ok=True)
    (output / DOCUMENTS).mkdir(parents=True, exist_ok=True)
    steps = 2 * len(parts) + 1

    for index, part in enumerate(parts):
        path = _part_path(output / MEASURED, index)
        if not path.exists():
            _write(path, _measure_part(part, max_file_bytes=max_file_bytes))
        on_progress(index + 1, steps)
    verdicts = _judge_all(output / MEASURED, rules)
    on_progress(len(parts) + 1, steps)

    funnel = Funnel()
    sizes = {file.id: file.size for file in files}
    for index in range(len(parts)):
        table = pq.read_table(_part_path(output / MEASURED, index))
        for key, language in zip(table["id"].to_pylist(), table["language"].to_pylist(), strict=True):
            funnel.add(language, verdicts[key], sizes[key])
        kept = table.filter(pa.array([verdicts[key] is None for key in table["id"].to_pylist()], pa.bool_()))
        splits = [choose_split(digest, held_out_fraction) for digest in kept["digest"].to_pylist()]
        _write(
            _part_path(output / DOCUMENTS, index),
            kept.drop_columns(["reason"]).append_column("split", pa.array(splits, pa.string())),
        )
        on_progress(len(parts) + 2 + index, steps)
    if not funnel.counts()["documents_after"]:
        reasons = ", ".join(f"{name} {count}" for name, count in funnel.reasons())
        raise DataError(f"none of {len(files)} files is left ({reasons}); loosen the rules or name other sources")
    write_text(output / "funnel.json", json.dumps(funnel.counts(), indent=1) + "\n")
    return funnel


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


def _measure_part(part: Sequence[File], *, max_file_bytes: int) -> pa.Table:
    @daft.func.batch(return_dtype=_READ)
    def read(paths: daft.Series, languages: daft.Series) -> list[dict[str, Any]]:
        return [
            _read_document(path, language, max_file_bytes)
            for path, language in zip(paths.to_pylist(), languages.to_pylist(), strict=True)
        ]

    table = daft.from_pydict(
        {
            "id": [file.id for file in part],
            "source": [file.source for file in part],
            "path": [file.path for file in part],
            "bytes": [file.size for file in part],
            "named": [file.language for file in part],
        }
    )
    table = table.with_column("named", col("named").cast(DataType.string()))
    table = table.with_column("read", read(col("path"), col("named")))
    unnested = [col("read").get(name).alias(name) for name in _COLUMNS]
    return table.select("id", "source", "bytes", *unnested).sort("id").to_arrow()


def _read_document(path: str, language: str | None, max_file_bytes: int) -> dict[str, Any]:
    text, language, reason = read_text(path, language=language, max_bytes=max_file_bytes)
    if text is None:
        return {**_NOTHING, "language": language, "reason": reason}
    digest = hashlib.md5(text.encode("utf-8"), usedforsecurity=False).hexdigest()
    signals: Signals = measure(text)
    return {"text": text, "language": language, "reason": None, "digest": digest, **asdict(signals)}


def _judge_all(measured: Path, rules: Rules) -> dict[str, str | None]:
    documents = daft.read_parquet(str(measured / "part-*.parquet"))
    judged = documents.select(
        "id", "digest", daft.functions.coalesce(col("reason"), judge(rules)).alias("reason")
    ).collect()
    verdicts = judged.select("id", "reason").to_pydict()
    reasons: dict[str, str | None] = dict(zip(verdicts["id"], verdicts["reason"], strict=True))
    staying = judged.where(col("reason").is_null()).select("id", "digest")
    for key in find_exact_duplicates(staying).to_pydict()["id"]:
        reasons[key] = "exact-duplicate"
    return reasons


def _part_path(folder: Path, index: int) -> Path:
    return folder / f"part-{index:05d}.parquet"


def _write(path: Path, table: pa.Table) -> None:
    aside = path.with_suffix(".tmp")
    pq.write_table(table, aside, compression="zstd")
    aside.replace(path)
