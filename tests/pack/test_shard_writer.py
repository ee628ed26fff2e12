"""Shards give back what went in."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError
from codeshell_hf.pack.shard_writer import (
    EncodedDocument,
    PartWriter,
    TextDocument,
    encode_all,
    find_part,
    hash_tokenizer,
    join_parts,
    write_encoded,
    write_shards,
)
from codeshell_hf.text.shards import Header, ShardPart, TokenShards
from tests.pack.letters import END, SENTINELS, Letters, make_shards

HEADER = Header(320, END, SENTINELS, "hash")


def make_part(stem: Path, texts: list[str], header: Header = HEADER) -> ShardPart:
    """Writes a part of letters."""
    writer = PartWriter(stem, header)
    rows = (TextDocument(id=text, language=text[:1] or "none", source="letters", text=text) for text in texts)
    for document in encode_all(rows, Letters()):
        writer.add(document)
    return writer.close()


def test_shards_give_back_every_document(shards: TokenShards, tmp_path: Path) -> None:
    assert [chr(int(tokens[0])) for tokens in shards] == [chr(33 + index) for index in range(60)]
    stored = (tmp_path / "00000.ds").stat().st_size // 2
    assert shards.header.tokens == sum(len(tokens) for tokens in shards) == stored - 60
    assert shards.bytes.tolist() == [len(tokens) for tokens in shards]


def test_real_tokenizer_keeps_literal_special_tokens_as_text(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    text = "print('<|endoftext|>', '<fim_middle>')\n"
    header = Header(len(tiny_tokenizer), tiny_tokenizer.eos_token_id, None, "hash")
    write_shards([{"id": "a", "language": "python", "source": "own", "text": text}], tiny_tokenizer, header, tmp_path)

    tokens = TokenShards(tmp_path)[0]

    assert tokens.max() < len(tiny_tokenizer) - 20
    assert tiny_tokenizer.decode(tokens) == text


def test_files_hold_what_datatrove_writes(tmp_path: Path) -> None:
    make_part(tmp_path / "00000", ["ab", "", "c"])

    # Bytes that datatrove 0.10's TokenizedFile writes for [97, 98, 300], [300] and [99, 300].
    assert (tmp_path / "00000.ds").read_bytes() == b"a\0b\0\x2c\x01\x2c\x01c\0\x2c\x01"
    assert (tmp_path / "00000.ds.index").read_bytes() == struct.pack("<3Q", 3, 4, 6)
    assert (tmp_path / "00000.ds.metadata").read_text().splitlines()[:2] == ["hash|2", "6"]


def test_ids_of_a_large_vocabulary_take_four_bytes(tmp_path: Path) -> None:
    header = Header(70_020, 70_000, None, "hash")
    rows = [
        EncodedDocument("a", "python", "own", 3, np.array([70_019, 5], np.uint32)),
        EncodedDocument("b", "c", "o", 1, [6]),
    ]
    write_encoded(rows, header, tmp_path)

    assert (tmp_path / "00000.ds").read_bytes() == struct.pack("<5I", 70_019, 5, 70_000, 6, 70_000)
    assert [ids.tolist() for ids in TokenShards(tmp_path)] == [[70_019, 5], [6]]
    with pytest.raises(DataError, match="a has token 4000000000, but the vocabulary has 70020 entries"):
        write_encoded([EncodedDocument("a", "python", "own", 3, [4_000_000_000])], header, tmp_path)


def test_parts_become_shards_and_stay_where_they_are(tmp_path: Path) -> None:
    parts = [
        make_part(tmp_path / f"{number:05d}", texts) for number, texts in enumerate((["bb", "aaa"], [], ["c", "a", ""]))
    ]
    written = (tmp_path / "00000.ds").stat()

    header = join_parts(parts, HEADER, tmp_path)

    shards = TokenShards(tmp_path)
    expected = ["bb", "aaa", "c", "a", ""]
    assert (header.documents, header.tokens, header.bytes) == (5, 7, 7)
    assert ["".join(map(chr, tokens)) for tokens in shards] == expected
    assert list(shards.languages) == ["b", "a", "c", "a", "none"]
    assert shards.ends.tolist() == [3, 7, 9, 11, 12]
    assert list(shards.read_ids()) == expected
    assert (tmp_path / "00000.ds").stat().st_ino == written.st_ino
    assert not list(tmp_path.glob("00001*")), "a part without documents leaves no files"


def test_documents_have_their_checksums(tmp_path: Path) -> None:
    make_part(tmp_path / "00000", ["ab", "c"])

    table = pq.read_table(tmp_path / "00000.parquet")

    assert table["checksum"].to_pylist() == [zlib.crc32(b"a\0b\0"), zlib.crc32(b"c\0")]


@pytest.mark.parametrize("name", ["00000.ds", "00000.ds.index", "00000.ds.metadata", "00000.parquet", ".00000.json"])
@pytest.mark.parametrize("change", ["cut", "remove", "flip"])
def test_a_part_with_a_broken_file_is_not_whole(tmp_path: Path, name: str, change: str) -> None:
    part = make_part(tmp_path / "00000", ["some text", "and more"])
    assert find_part(tmp_path / "00000") == part
    path = tmp_path / name
    data = path.read_bytes()

    if change == "remove":
        path.unlink()
    for place in {"cut": [len(data) - 1], "remove": [], "flip": range(0, len(data), max(1, len(data) // 20))}[change]:
        path.write_bytes(data[:place] + (b"" if change == "cut" else bytes([data[place] ^ 4]) + data[place + 1 :]))
        assert find_part(tmp_path / "00000") is None, place

    assert find_part(tmp_path / "00000") is None


def test_a_part_that_is_written_anew_is_not_whole_before_its_end(tmp_path: Path) -> None:
    make_part(tmp_path / "00000", ["a"])

    PartWriter(tmp_path / "00000", HEADER).add(EncodedDocument("b", "c", "d", 1, [5]))

    assert find_part(tmp_path / "00000") is None


def test_a_tokenizer_is_known_by_what_it_does_and_not_by_its_place(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "a")
    tiny_tokenizer.save_pretrained(tmp_path / "b")
    known = hash_tokenizer(tmp_path / "a")
    path = tmp_path / "b" / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))

    path.write_text(json.dumps(values | {"padding": {"strategy": "BatchLongest"}}))
    assert hash_tokenizer(tmp_path / "b") == known
    merges = values["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]
    path.write_text(json.dumps(values))
    assert hash_tokenizer(tmp_path / "b") != known
    with pytest.raises(DataError, match=r"tokenizer\.json cannot be read"):
        hash_tokenizer(tmp_path / "nowhere")


def test_shards_without_documents_are_empty(tmp_path: Path) -> None:
    header = write_shards([], Letters(), HEADER, tmp_path)

    assert header.documents == len(TokenShards(tmp_path)) == 0
    assert make_shards(tmp_path / "one", ["a"]).header.documents == 1
