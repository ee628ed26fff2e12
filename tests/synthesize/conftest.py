"""A sandbox, and toy documents."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeshell_hf.sandbox import Sandbox, open_sandbox
from tests.backends import BACKEND, LIMITS


def open_small() -> Sandbox:
    """A new sandbox with two workers."""
    return open_sandbox(BACKEND, LIMITS, workers=2)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with open_small() as opened:
        yield opened


def write_documents(folder: Path, rows: list[dict[str, object]]) -> Path:
    """Curated documents, as far as seeds are drawn from them."""
    defaults: dict[str, object] = {"language": "python", "licence": "MIT", "quality": 4.0, "split": "train"}
    filled = [
        {"id": f"d{number}", "path": f"d{number}.py", "digest": f"{number:032x}", **defaults, **row}
        for number, row in enumerate(rows)
    ]
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(filled), folder / "documents" / "part-00000.parquet")
    return folder
