"""Curated documents are encoded a part at a time, and finished pieces stay."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.pack.encoding import encode_documents
from codeshell_hf.pack.settings import Perturbation
from codeshell_hf.pack.shards import join_shards, make_header
from codeshell_hf.text.shards import TokenShards

PROGRAM = "def area_of(radius_in):\n    squared_value = radius_in * radius_in\n    return 3.14 * squared_value\n"


def write_curated(folder: Path, parts: Sequence[Sequence[Mapping[str, str]]]) -> Path:
    """Writes documents as curation does, with what is not given made up."""
    (folder / "documents").mkdir(parents=True)
    for number, rows in enumerate(parts):
        filled = [{"language": "python", "source": "here", "split": "train", **row} for row in rows]
        pq.write_table(pa.Table.from_pylist(filled), folder / "documents" / f"part-{number:05d}.parquet")
    return folder


def encode(
    documents: Path, tokenizer: Path, folder: Path, split: str = "train", perturbation: Perturbation | None = None
) -> list[Path]:
    header = make_header(CodeShellTokenizer.from_pretrained(tokenizer), tokenizer)
    folder.mkdir(exist_ok=True)
    return encode_documents(
        documents, split, folder / "pieces", header, tokenizer, is_fast=True, perturbation=perturbation, workers=1
    )


def decode(folder: Path, tokenizer: CodeShellTokenizer) -> list[str]:
    return [str(tokenizer.decode(tokens)) for tokens in TokenShards(folder)]


def test_each_split_has_its_documents_in_their_order(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    parts = [
        [{"id": "a", "text": "one\n"}, {"id": "b", "text": "two\n", "split": "held-out"}],
        [{"id": "c", "text": "<fim_prefix> three\n"}],
    ]
    documents = write_curated(tmp_path / "curated", parts)

    for split, expected in (("train", ["one\n", "<fim_prefix> three\n"]), ("held-out", ["two\n"])):
        pieces = encode(documents, tmp_path / "tokenizer", tmp_path / split, split)
        header = join_shards(pieces, tmp_path / split)

        assert decode(tmp_path / split, tiny_tokenizer) == expected
        assert header.bytes == sum(map(len, expected))
        assert TokenShards(tmp_path / split).ids == (["a", "c"] if split == "train" else ["b"])


def test_finished_pieces_are_not_encoded_again(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    documents = write_curated(tmp_path / "curated", [[{"id": "a", "text": "one\n"}], [{"id": "b", "text": "two\n"}]])
    first, second = encode(documents, tmp_path / "tokenizer", tmp_path / "out")
    stamp = (first / "tokens.bin").stat().st_mtime_ns
    (second / "tokens.bin").unlink()
    second.rename(second.with_name(f".{second.name}"))  # as a kill leaves it

    encode(documents, tmp_path / "tokenizer", tmp_path / "out")

    assert (first / "tokens.bin").stat().st_mtime_ns == stamp
    assert (second / "tokens.bin").exists()
    assert not second.with_name(f".{second.name}").exists()


def test_training_documents_are_perturbed_and_held_out_ones_never(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    rows = [{"id": f"{split}{n}", "text": PROGRAM, "split": split} for split in ("train", "held-out") for n in range(9)]
    documents = write_curated(tmp_path / "curated", [rows])

    texts = {}
    for split in ("train", "held-out"):
        pieces = encode(documents, tmp_path / "tokenizer", tmp_path / split, split, Perturbation(rate=1.0))
        join_shards(pieces, tmp_path / split)
        texts[split] = decode(tmp_path / split, tiny_tokenizer)

    assert texts["held-out"] == [PROGRAM] * 9
    assert len(set(texts["train"])) > 5
