"""Curated documents are encoded a part at a time, and finished parts stay."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.pack.encoding import encode_documents, group_files
from codeshell_hf.pack.settings import EncodingSettings, Perturbation
from codeshell_hf.pack.shard_writer import join_parts, make_header
from codeshell_hf.text.shards import Header, ShardPart, TokenShards

PROGRAM = "def area_of(radius_in):\n    squared_value = radius_in * radius_in\n    return 3.14 * squared_value\n"
SPLITS = ("train", "held-out")


def write_curated(folder: Path, parts: Sequence[Sequence[Mapping[str, str]]]) -> Path:
    """Writes documents as curation does, with what is not given made up."""
    (folder / "documents").mkdir(parents=True)
    for number, rows in enumerate(parts):
        filled = [{"language": "python", "source": "here", "split": "train", **row} for row in rows]
        pq.write_table(pa.Table.from_pylist(filled), folder / "documents" / f"part-{number:05d}.parquet")
    return folder


def encode(
    documents: Path,
    tokenizer: Path,
    folder: Path,
    *,
    part_bytes: int = 1,
    perturbation: Perturbation | None = None,
    share: tuple[int, int] = (1, 1),
    workers: int = 1,
) -> dict[str, list[ShardPart]]:
    """Encodes documents, by default each of their files into a part."""
    folders = {split: folder / split for split in SPLITS}
    for one in folders.values():
        one.mkdir(parents=True, exist_ok=True)
    settings = EncodingSettings(tokenizer=tokenizer, part_bytes=part_bytes, perturbation=perturbation, workers=workers)
    return encode_documents(documents, folders, make_header_of(tokenizer), settings, is_fast=True, share=share)


def make_header_of(tokenizer: Path) -> Header:
    return make_header(CodeShellTokenizer.from_pretrained(tokenizer), tokenizer)


def decode(folder: Path, tokenizer: CodeShellTokenizer) -> list[str]:
    return [str(tokenizer.decode(tokens)) for tokens in TokenShards(folder)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, shared_tokenizer: CodeShellTokenizer) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    shared_tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("part_bytes", [1, 10**9])
def test_each_split_has_its_documents_in_their_order(
    tmp_path: Path, tokenizer: Path, tiny_tokenizer: CodeShellTokenizer, part_bytes: int
) -> None:
    parts = [
        [{"id": "a", "text": "one\n"}, {"id": "b", "text": "two\n", "split": "held-out"}, {"id": "c", "text": "面\n"}],
        [{"id": "d", "text": "<fim_prefix> three\n"}, {"id": "e", "text": "left out\n", "split": "other"}],
    ]
    documents = write_curated(tmp_path / "curated", parts)

    parts_of = encode(documents, tokenizer, tmp_path / "out", part_bytes=part_bytes)

    for split, expected, ids in (
        ("train", ["one\n", "面\n", "<fim_prefix> three\n"], ["a", "c", "d"]),
        ("held-out", ["two\n"], ["b"]),
    ):
        folder = tmp_path / "out" / split
        header = join_parts(parts_of[split], make_header_of(tokenizer), folder)
        shards = TokenShards(folder)
        assert decode(folder, tiny_tokenizer) == expected
        assert header.bytes == sum(len(text.encode()) for text in expected)
        assert list(shards.read_ids()) == ids


def test_files_are_grouped_in_order_up_to_a_size(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(5)]
    for file, size in zip(files, (3, 3, 9, 2, 4), strict=True):
        file.write_bytes(b"0" * size)

    groups = group_files(files, 6)

    assert [[file.name for file in group] for group in groups] == [["0", "1"], ["2"], ["3", "4"]]


def test_finished_parts_stay_and_broken_ones_are_encoded_again(
    tmp_path: Path, tokenizer: Path, tiny_tokenizer: CodeShellTokenizer, caplog: pytest.LogCaptureFixture
) -> None:
    documents = write_curated(tmp_path / "curated", [[{"id": text, "text": text}] for text in ("one", "two", "three")])
    encode(documents, tokenizer, tmp_path / "out")
    folder = tmp_path / "out" / "train"
    stamp = (folder / "00000.ds").stat().st_mtime_ns
    (folder / "00001.ds").write_bytes((folder / "00001.ds").read_bytes()[:-1])
    (folder / ".00002.json").unlink()  # as a kill leaves it

    with caplog.at_level(logging.WARNING):
        parts = encode(documents, tokenizer, tmp_path / "out")["train"]

    assert (folder / "00000.ds").stat().st_mtime_ns == stamp
    assert [record.message.split("/")[-1] for record in caplog.records] == [
        "00001 is damaged and will be encoded again"
    ]
    join_parts(parts, make_header_of(tokenizer), folder)
    assert decode(folder, tiny_tokenizer) == ["one", "two", "three"]


def test_training_documents_are_perturbed_and_held_out_ones_never(
    tmp_path: Path, tokenizer: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    rows = [{"id": f"{split}{n}", "text": PROGRAM, "split": split} for split in SPLITS for n in range(9)]
    documents = write_curated(tmp_path / "curated", [rows])

    parts = encode(documents, tokenizer, tmp_path / "out", perturbation=Perturbation(rate=1.0))

    for split in SPLITS:
        join_parts(parts[split], make_header_of(tokenizer), tmp_path / "out" / split)
    assert decode(tmp_path / "out" / "held-out", tiny_tokenizer) == [PROGRAM] * 9
    assert len(set(decode(tmp_path / "out" / "train", tiny_tokenizer))) > 5


def test_shares_are_parts_of_the_whole_in_its_order(tmp_path: Path, tokenizer: Path) -> None:
    documents = write_curated(tmp_path / "curated", [[{"id": str(n), "text": f"text {n}\n"}] for n in range(7)])

    whole = encode(documents, tokenizer, tmp_path / "whole")["train"]
    shares = [encode(documents, tokenizer, tmp_path / f"{n}", share=(n, 3))["train"] for n in (1, 2, 3)]

    assert [len(share) for share in shares] == [2, 2, 3]
    assert [part for share in shares for part in share] == whole  # with the hashes of their files
