"""Encoding speed per core: HF tokenizers, tiktoken, and `pack` from curated documents to shards, with the same ids.

python -m benchmarks.encoding TOKENIZER TEXTS [--megabytes 4] [--repeats 5]

They take turns, and CPU seconds are measured, so that other load on the machine hardly matters.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf import CodeShellTokenizer
from codeshell_hf.pack.encoding import PartTask, encode_part, load_encoder
from codeshell_hf.pack.shard_writer import join_parts, make_header
from codeshell_hf.text.shards import TokenShards
from codeshell_hf.text.tiktoken_encoder import make_tiktoken
from tokenizer.corpus import read_source


def time_rate(encode: Callable[[], object], megabytes: float) -> float:
    """Measures megabytes per CPU second."""
    started = time.process_time()
    encode()
    return megabytes / (time.process_time() - started)


def write_curated(path: Path, texts: list[str]) -> None:
    """Writes texts in the format of curation."""
    columns = {
        "id": [str(number) for number in range(len(texts))],
        "language": ["python"] * len(texts),
        "source": ["here"] * len(texts),
        "split": ["train"] * len(texts),
        "text": texts,
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoding", description=__doc__)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--megabytes", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=5)
    add_output(parser)
    options = parser.parse_args(arguments)
    tokenizer = CodeShellTokenizer.from_pretrained(options.tokenizer)
    encoding = make_tiktoken(tokenizer.backend_tokenizer).encoding
    texts: list[str] = []
    size = 0
    for text in read_source(options.texts):
        if size >= options.megabytes * 1e6:
            break
        texts.append(text)
        size += len(text.encode("utf-8"))

    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        write_curated(folder / "part-00000.parquet", texts)
        header = make_header(tokenizer, options.tokenizer)
        task = PartTask(
            (folder / "part-00000.parquet",), "00000", (("train", folder),), header, options.tokenizer,
            is_fast=True, threads=1, perturbation=None, holds_conversations=False,
        )  # fmt: skip
        load_encoder(options.tokenizer, is_fast=True, threads=1)

        def encode_by_tokenizers() -> list[list[int]]:
            return tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]

        def encode_by_tiktoken() -> list[list[int]]:
            return [encoding.encode_ordinary(text) for text in texts]

        def pack() -> dict[str, object]:
            return dict(encode_part(task)[1])

        join_parts([encode_part(task)[1]["train"]], header, folder)
        packed = [ids.tolist() for ids in TokenShards(folder)]
        if not encode_by_tokenizers() == encode_by_tiktoken() == packed:
            print("the ids differ; nothing is measured", file=sys.stderr)
            return 1
        table = Result(
            describe_machine("tokenizers", "tiktoken"),
            [f"{len(texts)} documents, {size / 1e6:.1f} MB, {options.repeats} repeats in turn, the same ids from all"],
            {"MB a CPU second": "20", "median": "10.1f", "least": "10.1f", "most": "10.1f"},
        ).start("benchmarks.encoding", arguments)
        ways = {"tokenizers": encode_by_tokenizers, "tiktoken": encode_by_tiktoken, "pack": pack}
        rates = [{name: time_rate(way, size / 1e6) for name, way in ways.items()} for _ in range(options.repeats)]
    for name in ways:
        table.add_rates(name, [one[name] for one in rates])
    ratios = [one["pack"] / one["tiktoken"] for one in rates]
    table.note(
        f"pack beside tiktoken, turn by turn: {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
    )
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
