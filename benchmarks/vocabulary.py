"""Memory and time of extending a vocabulary, by megabytes of Chinese text without repetition.

python -m benchmarks.vocabulary [--megabytes 10 100 1000] [--entries 40000] [--json FILE]

Clauses are sampled from the character bigrams of a text, so that almost all are distinct, which is the worst case:
almost no word is counted twice.
"""

import argparse
import itertools
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.result import Result, add_output, describe_machine
from tokenizer.corpus import Sample, read_source
from tokenizer.merged import extend
from tokenizer.settings import Continuation
from tokenizer.vocabulary import Vocabulary

TEXT = Path(__file__).parents[1] / "tokenizer" / "data" / "chinese-python-docs.jsonl"
CLAUSE = 5  # pairs of characters
CLAUSES = 10_000  # in one text


def draw_texts(megabytes: float, *, seed: int = 0) -> Iterator[tuple[str, int]]:
    """Samples texts of clauses; the same seed gives the same texts."""
    runs = re.findall(r"[\u4e00-\u9fff]{2,}", "".join(read_source(TEXT)))
    counts = Counter("".join(pair) for run in runs for pair in itertools.pairwise(run))
    pairs = np.array([[ord(letter) for letter in pair] for pair in counts], np.uint32)
    shares = np.array(list(counts.values())) / counts.total()
    rng = np.random.default_rng(seed)
    text_bytes = CLAUSES * (2 * CLAUSE + 1) * 3
    for _ in range(max(1, round(megabytes * 1e6 / text_bytes))):
        drawn = pairs[rng.choice(len(pairs), (CLAUSES, CLAUSE), p=shares)].reshape(CLAUSES, 2 * CLAUSE)
        letters = np.concatenate([drawn, np.full((CLAUSES, 1), ord("，"), np.uint32)], axis=1)
        yield letters.astype("<u4").tobytes().decode("utf-32-le"), 1


def measure(megabytes: float, entries: int) -> dict[str, float]:
    """Extends the 256 bytes by a number of entries, and measures this process."""
    started = time.perf_counter()
    sample = Sample(0, lambda: draw_texts(megabytes))
    extended = extend(Vocabulary(()), {"drawn": sample}, Continuation(floor="chinese"), size=256 + entries)
    wall_s = time.perf_counter() - started
    import resource  # Windows lacks it

    used = resource.getrusage(resource.RUSAGE_SELF)
    peak_mib = used.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)
    return {
        "entries": len(extended) - 256,
        "peak_mib": peak_mib,
        "wall_s": wall_s,
        "cpu_s": used.ru_utime + used.ru_stime,
    }


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark, in a process per size, and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vocabulary", description=__doc__)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--entries", type=int, default=40_000)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    add_output(parser)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.megabytes[0], options.entries)))
        return 0
    table = Result(
        describe_machine("numpy", "tokenizers"),
        [f"{options.entries:,} entries behind the 256 bytes, clauses of {2 * CLAUSE} characters"],
        {"megabytes": "12", "peak MiB": "10,.0f", "wall s": "10,.0f", "CPU s": "10,.0f"},
    ).start("benchmarks.vocabulary", arguments)
    for megabytes in options.megabytes:
        command = [sys.executable, "-m", "benchmarks.vocabulary", "--measure", "--megabytes", str(megabytes)]
        done = subprocess.run(
            [*command, "--entries", str(options.entries)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            print(f"{megabytes:g} MB could not be measured: {done.stderr.strip()[-300:]}", file=sys.stderr)
            return 1
        found = json.loads(done.stdout)
        if found["entries"] != options.entries:
            print(f"{found['entries']:,.0f} entries of {options.entries:,}; nothing is measured", file=sys.stderr)
            return 1
        table.add(f"{megabytes:g}", found["peak_mib"], found["wall_s"], found["cpu_s"])
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
