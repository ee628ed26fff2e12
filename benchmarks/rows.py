"""How full rows are, how much of a rearranged piece is in one row, and how fast rows are read.

python -m benchmarks.rows [--row-tokens 2048 8192] [--rows 2000]    synthetic documents with lengths like code
python -m benchmarks.rows runs/nano/pack    packed documents
python -m benchmarks.rows runs/nano/pack --tokenizer runs/nano/tokenizer    the speed of cuts, on one core

The first compares with rearranging documents before they are cut into rows, as many others do; a simple loop here makes
those rows. The benchmark stops unless the rows of an epoch have every token exactly once.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.pretraining import write_documents
from benchmarks.result import Result, add_output, describe_machine, list_cores
from codeshell_hf.pack.infilling import ADDED, Infilling
from codeshell_hf.pack.layout import Phase, describe_rows
from codeshell_hf.pack.pieces import PackingRules
from codeshell_hf.pack.rows import Rows
from codeshell_hf.pack.settings import InfillingSettings, Packing, RowSettings
from codeshell_hf.text.shards import TokenShards

RATE = 0.5


@dataclass
class Middles:
    """Statistics of rearranged pieces in rows.

    Args:
        marked: Pieces with a sentinel.
        whole: Pieces with all three sentinels.
        tokens: Tokens of middles.
        seeing: Tokens of middles after their prefix and suffix in the same row.
        fitting: Documents that fit a row.
        cut: Documents of these that are in two rows.
        filled: Positions that are not padding.
    """

    marked: int = 0
    whole: int = 0
    tokens: int = 0
    seeing: int = 0
    fitting: int = 0
    cut: int = 0
    filled: int = 0


def rearrange_first(lengths: NDArray[np.int64], row_tokens: int, rng: np.random.Generator) -> Middles:
    """Counts middles if documents are rearranged and then cut at the end of rows."""
    found, place = Middles(), 0
    for length in rng.permutation(lengths).tolist():
        size = length + 1
        if rng.random() < RATE:
            first, last = sorted(rng.integers(0, length + 1, 2).tolist())
            size += 3
            suffix_at = first + 1
            middle_at = suffix_at + 1 + length - last
            sentinels = {0, suffix_at, middle_at}
            # For each row with a part of the document, its first position there and the one after its last.
            start = 0
            while start < size:
                stop = min(size, start + row_tokens - (place + start) % row_tokens)
                held = sum(start <= sentinel < stop for sentinel in sentinels)
                found.marked += held > 0
                found.whole += held == 3
                middle = max(0, min(stop, size - 1) - max(start, middle_at + 1))
                found.tokens += middle
                found.seeing += middle if start == 0 else 0
                start = stop
        found.fitting += length < row_tokens
        found.cut += length < row_tokens and place // row_tokens != (place + length) // row_tokens
        place += size
    return found


def cut_first(rows: Rows, count: int) -> Middles:
    """Counts middles in the rows of this package, all with the prefix first."""
    prefix, middle, suffix = rows.shards.header.sentinels or (0, 0, 0)
    found = Middles()
    for piece in split_rows(rows, count):
        found.filled += len(piece) if (piece != rows.shards.header.end_of_text).any() else 0
        places = [np.flatnonzero(piece == sentinel).tolist() for sentinel in (prefix, suffix, middle)]
        if any(places):
            is_whole = all(len(one) == 1 for one in places) and places[0][0] < places[1][0] < places[2][0]
            tokens = len(piece) - places[2][0] - 2 if places[2] else 0  # without the sentinel and the end
            found.marked += 1
            found.whole += is_whole
            found.tokens += tokens
            found.seeing += tokens if is_whole else 0
    return found


def split_rows(rows: Rows, count: int) -> Iterator[NDArray[np.int64]]:
    """Splits the first rows into pieces, by position ids."""
    row_tokens = rows.find_row_tokens(0)
    for row in range(count):
        batch = rows.read(row * row_tokens, 1)
        yield from np.split(batch.input_ids[0], np.flatnonzero(batch.position_ids[0] == 0)[1:])


def is_complete(rows: Rows, shards: TokenShards) -> bool:
    """Whether the rows of an epoch have each token as often as the documents do."""
    sentinels = {*(shards.header.sentinels or ()), shards.header.end_of_text}
    size = shards.header.vocab_size
    count = rows.layout.plan(0).end_block
    found = np.zeros(size, np.int64)
    for row in range(count):
        found += np.bincount(rows.read(row * rows.layout.block_tokens, 1).input_ids[0], minlength=size)
    expected = np.zeros(size, np.int64)
    for document in range(len(shards)):
        expected += np.bincount(shards[document], minlength=size)
    text = [token for token in range(size) if token not in sentinels]
    return bool((found[text] == expected[text]).all())


def compare_rows(options: argparse.Namespace) -> int:
    """Prints how full rows are and how complete rearranged pieces are, for each method."""
    with tempfile.TemporaryDirectory() as home:
        shards = TokenShards(options.pack / "train") if options.pack else write_documents(Path(home, "shards"))
        return compare_ways(shards, options)


def compare_ways(shards: TokenShards, options: argparse.Namespace) -> int:
    """Prints a line per row length and method."""
    columns = {
        "rows": "8",
        "way": "36",
        "filled": "9.2%",
        "cut in the text": "16.2%",
        "fitting documents cut": "23.2%",
        "whole": "8.1%",
        "middles that see all": "22.1%",
    }
    lengths = np.asarray(shards.lengths, np.int64)
    facts = [f"{len(shards):,} documents of {lengths.mean():,.0f} tokens, {RATE} of them or of their pieces rearranged"]
    table = Result(describe_machine(), facts, columns).start("benchmarks.rows", options.given)
    infilling = Infilling(InfillingSettings(rate=RATE, spm_rate=0.0, cuts={"token": 1.0}))
    for row_tokens in options.row_tokens:
        before = rearrange_first(lengths, row_tokens, np.random.default_rng(0))
        shares = (before.whole / before.marked, before.seeing / before.tokens)
        table.add(f"{row_tokens}", "rearranged, then cut", 1.0, 1.0, before.cut / before.fitting, *shares)
        packings: tuple[Packing, ...] = ("end-to-end", "best-fit")
        for packing in packings:
            settings = RowSettings(packing=packing)
            rows = Rows(shards, seed=0, phases=[Phase(0, row_tokens)], infilling=infilling, settings=settings)
            if not is_complete(rows, shards):
                print("an epoch of rows lost or doubled a token; nothing is measured", file=sys.stderr)
                return 1
            count = min(options.rows, rows.layout.plan(0).end_block)
            after = cut_first(rows, count)
            filled, (_, cut) = (
                after.filled / (count * row_tokens),
                describe_rows(lengths, row_tokens, rows.layout.rules),
            )
            cut_in_text, _ = describe_rows(lengths, row_tokens, PackingRules(settings, RATE, ADDED))
            shares = (after.whole / after.marked, after.seeing / after.tokens)
            table.add(f"{row_tokens}", f"cut, then rearranged, {packing}", filled, cut_in_text, cut, *shares)
    table.keep(options.json)
    return 0


def time_cuts(options: argparse.Namespace) -> int:
    """Prints the speed of reading rows with each kind of cut at the default rates, on one core."""
    import os

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.pack.encoder import make_codec

    os.sched_setaffinity(0, {max(list_cores())})
    shards = TokenShards(options.pack / "train")
    tokenizer = CodeShellTokenizer.from_pretrained(options.tokenizer)
    codec = make_codec(tokenizer, (tokenizer.decode(shards[number]) for number in range(min(len(shards), 50))))
    columns = {"rows": "8", "cuts": "12", "M tokens/s": "12.2f", "spread": "8.0%"}
    machine = describe_machine("tiktoken", "tree-sitter", cores=f"one core of {os.cpu_count()}")
    facts = [f"{RATE} of pieces rearranged by {type(codec).__name__}, {options.repeats} repeats"]
    table = Result(machine, facts, columns).start("benchmarks.rows", options.given)
    for row_tokens in options.row_tokens:
        for infilling in (
            Infilling(InfillingSettings(rate=RATE, spm_rate=0.5, cuts={"token": 1.0}), codec),
            Infilling(InfillingSettings(rate=RATE, spm_rate=0.5, cuts={"character": 1.0}), codec),
            Infilling(InfillingSettings(rate=RATE, spm_rate=0.5, cuts={"line": 1.0}), codec),
            Infilling(InfillingSettings(rate=RATE, spm_rate=0.5, cuts={"syntax": 1.0}), codec),
        ):
            rows = Rows(shards, seed=0, phases=[Phase(0, row_tokens)], infilling=infilling)
            count = max(1, options.rows * 256 // row_tokens)
            if not np.array_equal(rows.read(0, 2).input_ids[1:], rows.read(row_tokens, 1).input_ids):
                print("rows depend on how they are asked for; nothing is measured", file=sys.stderr)
                return 1
            speeds = []
            for repeat in range(options.repeats):
                started = time.process_time()
                rows.read(repeat * count * row_tokens, count)
                speeds.append(count * row_tokens / (time.process_time() - started) / 1e6)
            spread = (max(speeds) - min(speeds)) / statistics.median(speeds)
            table.add(f"{row_tokens}", next(iter(infilling.settings.cuts)), statistics.median(speeds), spread)
    table.keep(options.json)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows", description=__doc__)
    parser.add_argument("pack", type=Path, nargs="?", help="output of pack")
    parser.add_argument("--tokenizer", type=Path, help="of the pack: how fast each kind of cut is")
    parser.add_argument("--row-tokens", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--rows", type=int, default=2000, help="rows that middles are counted in")
    parser.add_argument("--repeats", type=int, default=3)
    add_output(parser)
    options = parser.parse_args(arguments)
    options.given = arguments
    return time_cuts(options) if options.tokenizer else compare_rows(options)


if __name__ == "__main__":
    sys.exit(main())
