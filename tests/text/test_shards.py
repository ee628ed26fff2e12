"""Token shards: what lies on disk is what is read, or is refused."""

import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.text import shards as module
from codeshell_hf.text.shards import HEADER, Header, TokenShards

DOCUMENTS = [("python", [5, 6, 7]), ("c", []), ("python", [8]), ("c", [9, 310])]
PARTS = (DOCUMENTS[:3], DOCUMENTS[3:])
END = 300
LANGUAGES = ["python", "c"]


def hash_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_header(folder: Path, values: dict[str, object]) -> None:
    text = json.dumps(values, sort_keys=True).encode()
    (folder / HEADER).write_text(json.dumps({**values, "hash": hash_bytes(struct.pack(">Q", len(text)) + text)}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two token files and all that belongs to them, each byte laid by hand."""
    parts = []
    for number, documents in enumerate(PARTS):
        stored = b"".join(struct.pack(f"<{len(ids) + 1}H", *ids, END) for _, ids in documents)
        (tmp_path / f"0000{number}.ds").write_bytes(stored)
        rows = [{"id": f"{number}/{place}", "source": "s"} for place in range(len(documents))]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"0000{number}.parquet", row_group_size=2)
        files = {ending: tmp_path / f"0000{number}{ending}" for ending in (".ds", ".parquet")}
        hashes = {ending: hash_bytes(file.read_bytes()) for ending, file in files.items()}
        tokens = sum(len(ids) for _, ids in documents)
        parts.append(
            {"name": f"0000{number}", "documents": len(documents), "tokens": tokens, "bytes": 9, "hashes": hashes}
        )
    columns = {
        "ends": np.array([4, 5, 7, 10], "<i8"),
        "lengths": np.array([3, 0, 1, 2], "<u4"),
        "bytes": np.array([10, 0, 2, 6], "<u4"),
        "languages": np.array([0, 1, 0, 1], "<u2"),
        "checksums": np.array([zlib.crc32(struct.pack(f"<{len(ids)}H", *ids)) for _, ids in DOCUMENTS], "<u4"),
    }
    for name, column in columns.items():
        np.save(tmp_path / f"{name}.npy", column)
    header = {"vocab_size": 320, "end_of_text": END, "sentinels": [1, 2, 3], "tokenizer": "t"}
    counts = {"documents": 4, "tokens": 6, "bytes": 18}
    hashes = {name: hash_bytes((tmp_path / f"{name}.npy").read_bytes()) for name in columns}
    values = {"format": 2, "header": header | counts, "languages": LANGUAGES, "parts": parts, "hashes": hashes}
    write_header(tmp_path, values)
    return tmp_path


def test_documents_are_read_whole_and_in_order_from_several_files(folder: Path) -> None:
    shards = TokenShards(folder)

    assert [(language, ids.tolist()) for language, ids in zip(shards.languages, shards, strict=True)] == DOCUMENTS
    assert shards[3].tolist() == [9, 310]
    assert list(shards.languages[1:3]) == ["c", "python"]
    assert shards.count_tokens() == {"python": 4, "c": 2}
    assert shards.header == Header(320, END, (1, 2, 3), "t", documents=4, tokens=6, bytes=18)


def test_what_is_not_trained_on_is_read_when_asked_for(folder: Path) -> None:
    shards = TokenShards(folder)

    assert list(shards.read_ids()) == ["0/0", "0/1", "0/2", "1/0"]


@pytest.mark.parametrize(("vocab_size", "width"), [(320, 2), (65_536, 2), (65_537, 4), (128_000, 4)])
def test_ids_take_the_bytes_that_they_need(vocab_size: int, width: int) -> None:
    assert Header(vocab_size, 0, None, "t").dtype.itemsize == width
    assert np.array([vocab_size - 1]).astype(Header(vocab_size, 0, None, "t").dtype)[0] == vocab_size - 1


def flip(path: Path) -> None:
    """Changes the last byte."""
    path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1]))


def cut(path: Path) -> None:
    """Leaves the last byte out."""
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    """Adds two bytes."""
    path.write_bytes(path.read_bytes() + b"\0\0")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("00001.ds", flip, r"00001\.ds is damaged"),
        ("00000.ds", cut, r"00000\.ds has 13 bytes, but shards\.json says 14"),
        ("00001.ds", lengthen, r"00001\.ds has 8 bytes, but shards\.json says 6"),
        ("00001.ds", Path.unlink, r"00001\.ds is missing"),
        ("lengths.npy", flip, r"lengths\.npy is damaged"),
        ("ends.npy", cut, r"ends\.npy cannot be read"),
        ("checksums.npy", Path.unlink, r"checksums\.npy cannot be read"),
        ("00000.parquet", flip, r"00000\.parquet is damaged"),
        ("00000.parquet", Path.unlink, r"00000\.parquet cannot be read"),
    ],
)
def test_a_file_that_was_changed_is_refused_when_shards_are_opened(
    folder: Path, name: str, change: Callable[[Path], None], message: str
) -> None:
    change(folder / name)

    with pytest.raises(DataError, match=message + ".*; copy it again, or run codeshell pack again"):
        TokenShards(folder)


def test_in_shards_too_large_to_read_when_opened_a_broken_document_is_refused_when_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECKED_WHEN_OPENED", 0)
    path = folder / "00000.ds"
    path.write_bytes(struct.pack("<H", 4) + path.read_bytes()[2:])

    shards = TokenShards(folder)

    assert shards[2].tolist() == [8]
    with pytest.raises(DataError, match=r"document 0 in .*00000\.ds is damaged"):
        shards[0]
    with pytest.raises(DataError, match=r"00000\.ds is damaged"):
        shards.verify()


def test_an_id_beyond_the_vocabulary_is_refused_even_with_its_checksum(folder: Path) -> None:
    values = json.loads((folder / HEADER).read_text())
    values["header"]["vocab_size"] = 310
    del values["hash"]
    write_header(folder, values)

    with pytest.raises(DataError, match=r"document 3 in .* is damaged"):
        list(TokenShards(folder))


def test_a_header_that_was_changed_or_is_of_another_version_is_refused(folder: Path) -> None:
    path = folder / HEADER
    text = path.read_text()
    path.write_text(text.replace('"end_of_text": 300', '"end_of_text": 301'))
    with pytest.raises(DataError, match=r"shards\.json was changed after it was written"):
        TokenShards(folder)
    path.write_text('{"vocab_size": 320, "end_of_text": 0, "sentinels": null, "tokenizer": "t", "documents": 1}')
    with pytest.raises(DataError, match="was packed by another version; run codeshell pack again"):
        TokenShards(folder)
    path.write_text("{")
    with pytest.raises(DataError, match="has no token shards"):
        TokenShards(folder)
