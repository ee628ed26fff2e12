"""Time and memory of opening shards and reading rows, by the number of documents.

python -m benchmarks.opening [--documents 100_000 1_000_000 100_000_000] [--row-tokens 2048] [--folder FOLDER]

Shards are synthetic: lengths from 16 to 60,000 tokens with a mean of about 2,000, as in code, in sparse token files of
100 million tokens, so that a hundred million documents take 2.4 GB of disk instead of 800. All ids are 0. Each size is
opened in a process of its own; a document and a row are checked first.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from benchmarks.result import Result, add_output, describe_machine

VOCABULARY = 70_020
PART_TOKENS = 100_000_000
READ = 2000
WRITTEN_TOGETHER = 1 << 20


def make_shards(folder: Path, documents: int) -> int:
    """Writes shards of zeros and returns their tokens."""
    from codeshell_hf.text.shards import COLUMNS, HEADER, Contents, Header, ShardPart

    rng = np.random.default_rng(0)
    sizes = np.clip(rng.lognormal(np.log(700), 1.45, 4096), 16, 60_000).astype(np.uint32)
    sums = np.array([zlib.crc32(bytes(4 * int(size))) for size in sizes], np.uint32)
    columns = {name: open_memmap(folder / f"{name}.npy", "w+", dtype, (documents,)) for name, dtype in COLUMNS.items()}
    end = 0
    for first in range(0, documents, WRITTEN_TOGETHER):
        place = slice(first, min(first + WRITTEN_TOGETHER, documents))
        drawn = rng.integers(0, len(sizes), place.stop - first)
        columns["lengths"][place] = columns["bytes"][place] = sizes[drawn]
        columns["checksums"][place] = sums[drawn]
        columns["ends"][place] = end + np.cumsum(sizes[drawn].astype(np.int64) + 1)
        end = int(columns["ends"][place.stop - 1])
    limits = np.searchsorted(columns["ends"], np.arange(PART_TOKENS, end + PART_TOKENS, PART_TOKENS), side="right")
    parts = []
    before = token = 0
    for number, limit in enumerate(np.unique(limits)):
        stored = int(columns["ends"][limit - 1]) - token
        name = f"{number:05d}"
        with (folder / f"{name}.ds").open("wb") as file:
            file.truncate(4 * stored)
        parts.append(ShardPart(name, int(limit) - before, stored - (int(limit) - before), stored, {}))
        before, token = int(limit), token + stored
    for column in columns.values():
        column.flush()
    header = Header(VOCABULARY, 0, None, "made", documents, end - documents, end - documents)
    (folder / HEADER).write_text(Contents(header, ["python"], parts, {}).dump(), encoding="utf-8")
    return end - documents


def measure(folder: Path, row_tokens: int) -> dict[str, float]:
    """Opens shards in this process, reads documents and rows, and returns seconds and bytes."""
    import resource  # Windows lacks it

    from codeshell_hf.pack.layout import Phase
    from codeshell_hf.pack.rows import Rows
    from codeshell_hf.text.shards import TokenShards

    def find_peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    imported = find_peak()
    started = time.perf_counter()
    shards = TokenShards(folder)
    opened = time.perf_counter() - started
    opened_bytes = find_peak()
    rng = np.random.default_rng(1)
    chosen = rng.integers(0, len(shards), READ)
    started = time.perf_counter()
    tokens = sum(len(shards[int(document)]) for document in chosen)
    read = time.perf_counter() - started
    started = time.perf_counter()
    rows = Rows(shards, seed=0, phases=[Phase(0, row_tokens)], infilling=None)
    batch = rows.read(0, 1)
    first_row = time.perf_counter() - started
    if batch.input_ids.shape != (1, row_tokens) or batch.input_ids.any():
        raise RuntimeError("a row is not what was made")
    started = time.perf_counter()
    rows.read(row_tokens, READ)
    row = (time.perf_counter() - started) / READ
    peak = find_peak()
    if tokens != int(shards.lengths[chosen].sum()):
        raise RuntimeError("documents are not as long as they were made")
    return {
        "imported": imported,
        "opened": opened,
        "opened_bytes": opened_bytes,
        "document": read / READ,
        "first_row": first_row,
        "row": row,
        "bytes": peak,
    }


def _start(step: str, folder: str, *more: str) -> str:
    command = [sys.executable, "-m", "benchmarks.opening", "--step", step, "--folder", folder, *more]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.opening", description=__doc__)
    parser.add_argument("--documents", type=int, nargs="+", default=[100_000, 1_000_000, 100_000_000])
    parser.add_argument("--row-tokens", type=int, default=2048)
    parser.add_argument("--folder", type=Path, help="where to make shards; by default a temporary folder")
    parser.add_argument("--step", choices=("make", "measure"), help=argparse.SUPPRESS)
    add_output(parser)
    options = parser.parse_args(arguments)
    if options.step == "make":
        print(make_shards(options.folder, options.documents[0]))
        return 0
    if options.step == "measure":
        print(json.dumps(measure(options.folder, options.row_tokens)))
        return 0
    table = Result(
        describe_machine("numpy", "pyarrow"),
        [f"made shards, ids of four bytes, rows of {options.row_tokens}; a process each, its peak of memory"],
        {
            "documents": "12", "tokens": "10", "imports MB": "12,.0f", "open s": "9.3f", "open MB": "10,.0f",
            "document us": "14.0f", "first row s": "13.2f", "row us": "9.0f", "rows MB": "9,.0f",
        },
    ).start("benchmarks.opening", arguments)  # fmt: skip
    for documents in options.documents:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            # A process inherits the peak memory of its parent, which therefore must stay small.
            tokens = json.loads(_start("make", folder, "--documents", str(documents)))
            found = json.loads(_start("measure", folder, "--row-tokens", str(options.row_tokens)))
        table.add(
            f"{documents:,}", f"{tokens / 1e9:,.1f}G", found["imported"] / 1e6, found["opened"],
            found["opened_bytes"] / 1e6, found["document"] * 1e6, found["first_row"], found["row"] * 1e6,
            found["bytes"] / 1e6,
        )  # fmt: skip
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
