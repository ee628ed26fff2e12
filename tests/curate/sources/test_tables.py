"""JSON Lines and Parquet, here and on the Hub."""

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeshell_hf.errors import DataError, SettingsError
from tests.curate.sources.reading import read_all
from tests.curate.toy_corpus import GOOD, run
from tests.hub import serve_hub, visit_hub

ROWS = [
    {
        "content": GOOD,
        "lang": "Python",
        "max_stars_repo_name": "o/r",
        "max_stars_repo_path": "area.py",
        "max_stars_repo_licenses": ["MIT", "BSD-3-Clause"],
        "max_stars_count": 12,
    },
    {"content": "int x;\n", "max_stars_repo_path": "x.c"},
]


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.jsonl.bz2", "t.jsonl.xz", "t.jsonl.zst", "t.parquet"])
def test_tables_in_the_stacks_schema_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    data = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith("zst"):
        with pa.output_stream(str(path), compression="zstd") as out:
            out.write(data)
    else:
        pack: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
        path.write_bytes(pack.get(path.suffix, bytes)(data))

    first, second = read_all("parquet" if name.endswith("parquet") else "jsonl", path).values()

    assert (first.content.decode(), first.language, first.repository) == (GOOD, "python", "o/r")
    assert (first.path, first.licence, first.stars) == ("area.py", "BSD-3-Clause AND MIT", 12)
    assert (second.language, second.licence, second.stars) == ("c", None, None)


def test_other_columns_are_named_in_the_settings(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"body": GOOD, "kind": "python"}) + "\n")

    (document,) = read_all("jsonl", tmp_path / "t.jsonl", columns={"text": "body", "language": "kind"}).values()

    assert (document.content.decode(), document.language) == (GOOD, "python")


def test_a_large_file_is_read_in_ranges_and_every_line_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codeshell_hf.curate.sources import tables

    path = tmp_path / "t.jsonl"
    texts = [f"x = {'a' * (n * 7 % 190)}  # {n}\n" for n in range(300)]
    path.write_text("".join(json.dumps({"text": text, "path": "x.py"}) + "\n" for text in texts))
    for size in (1, 97, 1000, 5000, 10**9):
        monkeypatch.setattr(tables, "RANGE_BYTES", size) if size > 1 else monkeypatch.setattr(tables, "RANGE_BYTES", 13)
        found = read_all("jsonl", path)
        assert [document.content.decode() for document in found.values()] == texts


def test_broken_lines_missing_text_and_endless_lines_are_named(tmp_path: Path) -> None:
    lines = [json.dumps({"text": GOOD, "path": "a.py"}), '{"text": "cut', "[1, 2]", json.dumps({"path": "b.py"}),
             json.dumps({"text": "x" * 5000, "path": "c.py"}), "[" * 30_000, "", '{"text": "\\ud800", "path": "d.py"}',
             json.dumps({"text": "last = 1\n", "path": "e.py"})]  # fmt: skip
    (tmp_path / "t.jsonl").write_text("\n".join(lines))

    found = read_all("jsonl", tmp_path / "t.jsonl")

    reasons = [document.reason for document in found.values()]
    assert reasons == [None, "broken-line", "broken-line", "no-text", "too-large", "broken-line", None, None]
    funnel = run(tmp_path / "t.jsonl", tmp_path / "out", kind="jsonl").funnel
    assert dict(funnel.reasons()) == {"broken-line": 3, "no-text": 1, "not-text": 1, "long-lines": 1}


def test_a_line_of_forty_megabytes_is_skipped_in_little_memory(tmp_path: Path) -> None:
    import tracemalloc

    with (tmp_path / "t.jsonl").open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(40):
            file.write(b"a" * 1_000_000)
        file.write(b'"}\n' + json.dumps({"text": GOOD, "path": "a.py"}).encode() + b"\n")
    tracemalloc.start()

    found = list(read_all("jsonl", tmp_path / "t.jsonl").values())

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [document.reason for document in found] == ["too-large", None]
    assert found[0].size > 40_000_000
    assert peak < 12_000_000


def test_corrupt_files_are_named_and_a_table_without_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "no.parquet").write_bytes(b"PAR1 but not for long")
    pq.write_table(pa.table({"content": [GOOD] * 5000}), tmp_path / "cut.parquet", row_group_size=1000)
    data = bytearray((tmp_path / "cut.parquet").read_bytes())
    data[40:200] = os.urandom(160)
    (tmp_path / "cut.parquet").write_bytes(bytes(data))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": GOOD}).encode() * 50)[:-30])

    assert "corrupt-file" in [document.reason for document in read_all("parquet", tmp_path).values()]
    assert [document.reason for document in read_all("jsonl", tmp_path).values()][-1] == "corrupt-file"
    pq.write_table(pa.table({"words": ["x"]}), tmp_path / "words.parquet")
    with pytest.raises(
        DataError, match=r"has no column content or text or code but words; set columns.text of source s"
    ):
        read_all("parquet", tmp_path / "words.parquet")


READ_HUB = """
import sys
from codeshell_hf.curate.settings import Source
from codeshell_hf.curate.sources import list_units, read_unit
from codeshell_hf.errors import DataError, SettingsError
try:
    source = Source(name="s", kind="hub", path=sys.argv[1])
    for unit in list_units(source):
        for document in read_unit(source, unit, max_bytes=2000):
            print(unit.path.partition("@")[2][:6], document.id, document.language, len(document.content))
except DataError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_data_set_of_the_hub_is_read_at_one_commit(tmp_path: Path) -> None:
    rows = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), rows)
    line = json.dumps(ROWS[0]).encode() + b"\n"
    with serve_hub() as (hub, address):
        hub.add("datasets/owner/code", {"data/a.parquet": rows.getvalue(), "data/b.jsonl": line, "README.md": b"-"})
        environment = visit_hub(address, tmp_path / "home")

        def read(name: str) -> list[str]:
            command = [sys.executable, "-c", READ_HUB, name]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            return done.stdout.splitlines()

        commit = hub.stores["datasets/owner/code"].commit_id("main")[:6]
        expected = [
            f"{commit} s/data/a.parquet@0 python {len(GOOD)}",
            f"{commit} s/data/a.parquet@1 c 7",
            f"{commit} s/data/b.jsonl@0 python {len(GOOD)}",
        ]
        assert read("hf://datasets/owner/code/data") == expected
        assert read("owner/code@main") == expected
        assert "source s is owner/none, which the Hub does not list" in read("owner/none")[0]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "archives", "wet", "stackoverflow", "issues", "commits"])
def test_a_source_that_is_not_there_is_one_clear_error(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"source s is .*(does not exist|no file ends in|has no git checkout)"):
        read_all(kind, tmp_path / "none")


def test_the_language_of_rows_is_set_or_named_by_folders_and_never_by_the_tables_own_name(tmp_path: Path) -> None:
    for name in ("git-commits-cleaned", "python", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.jsonl").write_text(json.dumps({"text": name}) + "\n")

    named = {document.content: document.language for document in read_all("jsonl", tmp_path).values()}
    forced = {document.language for document in read_all("jsonl", tmp_path, language="web-text").values()}

    assert named == {b"git-commits-cleaned": "git-commits", b"python": "python", b"other": None}
    assert forced == {"web-text"}
    with pytest.raises(SettingsError, match="language of source s is 'pytthon'; name a known one, such as python"):
        read_all("jsonl", tmp_path, language="pytthon")
