"""Curated documents as a data set for the Hub, with a card on sources and drops."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..credentials import find_credentials
from ..errors import DataError
from ..manifest import Values
from .card import fill_template

SPLITS = {"train": "train", "held-out": "held_out"}  # split names on the Hub have no dash
TEMPLATE = Path(__file__).parent / "data_card.md.jinja"


def list_texts(table: pa.Table) -> dict[str, list[str]]:
    """The text columns of a table; null becomes an empty text."""
    return {
        field.name: [value or "" for value in table[field.name].to_pylist()]
        for field in table.schema
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    }


def make_dataset_folder(
    curated: Path,
    folder: Path,
    values: Values,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Writes documents by split, without those that may contain a secret, and a card.

    Args:
        curated: The output of `curate`.
        folder: The folder to write.
        values: For the card, besides `splits`, `left_out` and `bytes`.
        on_progress: Called with the parts done and their total.

    Returns:
        Number of documents by split, and `left_out`.

    Raises:
        DataError: If there are no documents.
    """
    parts = sorted((curated / "documents").glob("part-*.parquet"))
    if not parts:
        raise DataError(f"{curated} holds no documents/part-*.parquet; run codeshell curate first")
    counts = dict.fromkeys([*SPLITS.values(), "left_out"], 0)
    for index, path in enumerate(parts):
        table = pq.read_table(path)
        rows = zip(*list_texts(table).values(), strict=True)
        is_clean = [not any(next(find_credentials(value), None) for value in row) for row in rows]
        counts["left_out"] += is_clean.count(False)
        table = table.filter(pa.array(is_clean, pa.bool_()))
        for split, name in SPLITS.items():
            chosen = table.filter(pc.equal(table["split"], split)).drop_columns(["split"])
            if chosen.num_rows:
                target = folder / "data" / name
                target.mkdir(parents=True, exist_ok=True)
                pq.write_table(chosen, target / path.name, compression="zstd")
                counts[name] += chosen.num_rows
        on_progress(index + 1, len(parts))
    splits = {name: counts[name] for name in SPLITS.values() if counts[name]}
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    card = fill_template(
        TEMPLATE.read_text(encoding="utf-8"),
        {**values, "splits": splits, "left_out": counts["left_out"], "bytes": size},
        source=TEMPLATE.name,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return counts
