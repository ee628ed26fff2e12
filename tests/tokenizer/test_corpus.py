"""Texts of every kind, sampled by weight."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pack.test_encoding import write_curated
from tokenizer.corpus import chain_all, read_source, sample, take_share
from tokenizer.settings import TextSource


def test_sources_of_every_kind_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("plain 文本")
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\n\n{"messages": [{"content": "q"}, {"content": "a"}]}\n')
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write('{"text": "packed"}\n')
    pq.write_table(pa.table({"text": ["p", "q"]}), tmp_path / "d.parquet")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "x.py").write_text("x = 1")
    (tmp_path / "code" / "x.c").write_text("int x;")
    (tmp_path / "code" / "x.bin").write_bytes(b"\xff")

    read = {
        name: list(read_source(tmp_path / name)) for name in ("a.txt", "b.jsonl", "c.jsonl.gz", "d.parquet", "code")
    }

    assert list(read.values()) == [["plain 文本"], ["one", "q\na"], ["packed"], ["p", "q"], ["int x;", "x = 1"]]
    assert list(read_source(tmp_path / "code", "python")) == ["x = 1"]
    (tmp_path / "words.tsv").write_text("词\t3\n字\t1\n", encoding="utf-8")
    assert list(read_source(tmp_path / "words.tsv")) == ["词\n词\n词\n", "字"]


def test_weights_are_shares_of_the_sample(tmp_path: Path) -> None:
    for name, lines in (("large", 1000), ("small", 10)):
        text = "".join(json.dumps({"text": f"{index:010d}"}) + "\n" for index in range(lines))
        (tmp_path / f"{name}.jsonl").write_text(text)
    sources = [
        TextSource(name=name, path=tmp_path / f"{name}.jsonl", weight=weight)
        for name, weight in (("large", 3), ("small", 1))
    ]

    samples = sample(sources, sample_bytes=2000)

    drawn = {name: list(one.read()) for name, one in samples.items()}
    assert {name: one.characters for name, one in samples.items()} == {"large": 1500, "small": 500}

    assert sum(map(len, drawn["large"])) == pytest.approx(1500, abs=10)
    assert sum(map(len, drawn["small"])) == pytest.approx(500, abs=10)
    assert max(map(int, drawn["large"])) > 900  # spread over the whole
    assert len(list(take_share((str(n) for n in range(1000)), 0.1))) == pytest.approx(100, abs=5)


def test_sources_to_continue_on_are_read_whole_and_once(tmp_path: Path) -> None:
    for name, lines in (("large", 1000), ("small", 10)):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "ten signs."}\n' * lines)
    sources = [TextSource(name=name, path=tmp_path / f"{name}.jsonl", weight=2) for name in ("large", "small")]

    samples = sample(sources, sample_bytes=2000, once=["large", "small"])

    assert {name: len(list(one.read())) for name, one in samples.items()} == {"large": 1000, "small": 10}
    assert [one.characters for one in samples.values()] == [10_000, 100]
    assert samples["small"].weight == 2


def test_of_curated_documents_the_training_split_is_read(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "text": "one"},
        {"id": "b", "text": "two", "split": "held-out"},
        {"id": "c", "text": "int x;", "language": "c"},
    ]
    folder = write_curated(tmp_path / "curated", [rows])

    assert list(read_source(folder)) == ["one", "int x;"]
    assert list(read_source(folder, "c")) == ["int x;"]


def test_a_bar_ends_at_its_total(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": "x" * (n % 97)}) + "\n" for n in range(500)))
    samples = sample([TextSource(name="a", path=tmp_path / "a.jsonl")], sample_bytes=10_000)

    texts = list(chain_all(samples, step="read"))

    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert sum(map(len, texts)) == pytest.approx(samples["a"].characters, rel=0.02)
    assert last.startswith("read: 100%")
