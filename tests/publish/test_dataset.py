"""Curated documents become a data set by split, without secrets."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.publish.dataset import make_dataset_folder
from codeshell_hf.publish.hub import push_folder
from codeshell_hf.publish.settings import PushSettings
from tests.hub import serve_hub, visit_here, visit_hub

TOKEN = "ghp_" + "a1B2" * 9  # in two parts, so that this file has none


def make_curated(folder: Path) -> Path:
    (folder / "documents").mkdir(parents=True)
    rows: list[dict[str, Any]] = [
        {"id": f"s/{index}", "text": f"x = {index}\n", "language": "python", "split": "train" if index else "held-out"}
        for index in range(6)
    ]
    rows[3]["text"] = TOKEN
    for part in range(2):
        pq.write_table(
            pa.Table.from_pylist(rows[3 * part : 3 * part + 3]), folder / "documents" / f"part-0000{part}.parquet"
        )
    return folder


COUNTS: dict[str, object] = {
    "documents_before": 9, "documents_after": 6, "bytes_before": 90, "bytes_after": 60, "dropped": {"empty": 3},
    "languages": [{"language": "python", "documents_after": 6, "bytes_after": 60, "share_after": 1.0}],
    "name": "m", "license": "other", "repository": "me/data", "sources": ["s"],
}  # fmt: skip


def test_documents_are_split_and_those_with_secrets_are_left_out(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []

    counts = make_dataset_folder(
        make_curated(tmp_path / "curate"), tmp_path / "data", COUNTS, on_progress=lambda *step: steps.append(step)
    )

    assert counts == {"train": 4, "held_out": 1, "left_out": 1}
    files = sorted((tmp_path / "data" / "data").rglob("*.parquet"))
    rows: dict[str, list[dict[str, str]]] = {file.parent.name: [] for file in files}
    for file in files:
        rows[file.parent.name] += pq.read_table(file).to_pylist()
    assert sorted(row["id"] for row in rows["train"]) == ["s/1", "s/2", "s/4", "s/5"]
    assert [row["id"] for row in rows["held_out"]] == ["s/0"]
    assert "split" not in rows["train"][0]
    assert not any(TOKEN in row["text"] for split in rows.values() for row in split)
    assert "1 documents that may contain a secret were left out" in (tmp_path / "data" / "README.md").read_text()
    assert steps == [(1, 2), (2, 2)]


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no documents/part-\*\.parquet; run codeshell curate first"):
        make_dataset_folder(tmp_path, tmp_path / "data", COUNTS)


@pytest.mark.slow
def test_pushed_data_sets_load_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset_folder(make_curated(tmp_path / "curate"), tmp_path / "data", COUNTS)
    script = (
        "from datasets import load_dataset\n"
        "data = load_dataset('me/data')\n"
        "print('ROWS', {name: sorted(split['id']) for name, split in data.items()})\n"
    )
    with serve_hub() as (hub, address):
        visit_here(address, monkeypatch)
        push_folder(tmp_path / "data", "me/data", PushSettings(repository="me/tiny"), kind="dataset")
        loaded = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True, text=True, check=False, timeout=120, env=visit_hub(address, tmp_path / "home"),
        )  # fmt: skip

    assert loaded.returncode == 0, loaded.stderr[-2000:]
    assert "ROWS {'train': ['s/1', 's/2', 's/4', 's/5'], 'held_out': ['s/0']}" in loaded.stdout
    assert hub.private == {"datasets/me/data": True}
