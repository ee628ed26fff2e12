"""The stage pack."""

import json
from pathlib import Path

import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.manifest import hash_folder
from codeshell_hf.stages.stage import main
from codeshell_hf.text.shards import TokenShards
from recipes.pack import STAGE
from tests.pack.test_encoding import write_curated


def test_the_stage_packs_each_split_and_reports_how_rows_are_used(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    rows = [{"id": f"{n}", "text": f"x = {n}\n" * 9, "split": "held-out" if n == 3 else "train"} for n in range(8)]
    documents = write_curated(tmp_path / "curated", [rows])
    settings = tmp_path / "pack.yaml"
    settings.write_text(
        f"output: {tmp_path}/out\ndocuments: {documents}\ntokenizer: {tmp_path}/tokenizer\nrow_tokens: [64]\n"
    )

    assert main(STAGE, [str(settings)]) == 0

    printed = capsys.readouterr().out
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert "encodes with tiktoken: the same ids on 8 documents" in printed
    assert "rows of 64: " in printed
    assert {split: counts[split]["documents"] for split in counts} == {"train": 7, "held-out": 1}
    assert counts["train"]["tokens"] == sum(map(len, TokenShards(tmp_path / "out" / "train")))
    assert counts["train"]["tokens_by_language"] == {"python": counts["train"]["tokens"]}
    files = [f"00000{ending}" for ending in (".ds", ".ds.index", ".ds.metadata", ".parquet")]
    columns = [f"{name}.npy" for name in ("bytes", "checksums", "ends", "languages", "lengths")]
    assert sorted(path.name for path in (tmp_path / "out" / "train").iterdir()) == [*files, *columns, "shards.json"]
    outputs = json.loads((tmp_path / "out" / "manifest.json").read_text())["outputs"]
    assert outputs == hash_folder(tmp_path / "out")
