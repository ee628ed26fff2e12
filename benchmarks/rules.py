"""What each rule of curation drops alone, on files of the Python environment in all their languages.

python -m benchmarks.rules [--megabytes 60]

A rule that is off by default is tried at the threshold of the data set that it comes from, or at a strict one of ours.
The benchmark stops unless a document breaks a rule exactly if its value lies beyond the threshold.
"""

import argparse
import hashlib
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import daft
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.result import Result, add_output, describe_machine

if TYPE_CHECKING:
    from codeshell_hf.curate.settings import Rules

# Of rules that are off: what others use (bigcode-dataset, OpenCoder, Gopher), else ours.
TRIED: dict[str, bool | int | float] = {
    "min_lines": 10,
    "min_bytes": 50,
    "max_bytes": 3_000_000,
    "max_digit_fraction": 0.2,
    "max_space_fraction": 0.5,
    "min_visible_fraction": 0.2,
    "min_visible_bytes": 100,
    "min_comment_fraction": 0.01,
    "must_parse": True,
    "max_depth": 8,
    "max_complexity": 15,
    "max_faults_per_line": 0.5,
    "max_security_faults": 20,
    "min_preference": 0.4,
    "min_words": 50,
    "min_mean_word": 3,
    "max_mean_word": 10,
    "max_symbol_fraction": 0.1,
    "max_bullet_fraction": 0.9,
}
SOURCES = ("bigcode-dataset", "The Stack v2", "OpenCoder", "Gopher", "StarCoder")


def read_files(megabytes: float) -> list[tuple[str, bytes]]:
    """Names and contents of a sample of files, in an order that does not depend on their names."""
    places = sysconfig.get_paths()
    files = [
        path for name in ("stdlib", "purelib", "include") for path in Path(places[name]).rglob("*") if path.is_file()
    ]
    files.sort(key=lambda path: hashlib.md5(str(path).encode(), usedforsecurity=False).digest())
    found, size = [], 0
    for path in dict.fromkeys(files):
        data = path.read_bytes() if path.stat().st_size <= 1_000_000 else b""
        if data:
            found.append((str(path), data))
            size += len(data)
        if size >= megabytes * 1e6:
            break
    return found


def measure(files: list[tuple[str, bytes]]) -> pa.Table:
    """Measures all readable files in full."""
    from codeshell_hf.curate.examination import EXAMINED_SIGNALS
    from codeshell_hf.curate.languages import name_language
    from codeshell_hf.curate.measured_parts import SCHEMA, measure_batch
    from codeshell_hf.curate.settings import Measuring
    from codeshell_hf.curate.sources import Document

    schema = pa.schema([*SCHEMA, *EXAMINED_SIGNALS.items()])
    tables = []
    for first in range(0, len(files), 500):
        batch = [
            ("files", Document(name, name, data, len(data), name_language(name)))
            for name, data in files[first : first + 500]
        ]
        rows = [row for row in measure_batch(batch, Measuring(near_duplicates=None)) if row["reason"] is None]
        tables.append(pa.Table.from_pylist([{**row, "text": None} for row in rows], schema=schema))
    return pa.concat_tables(tables)


def judge_all(measured: pa.Table, rules: "Rules") -> set[str]:
    """The ids of the documents that break a rule."""
    from codeshell_hf.curate.rules import judge
    from codeshell_hf.curate.settings import Rights

    with tempfile.TemporaryDirectory() as folder:  # the engine reads wide expressions from files alone
        pq.write_table(measured, f"{folder}/measured.parquet")
        verdict = judge(rules, Rights(allows_unknown=True)).alias("verdict")
        found = daft.read_parquet(f"{folder}/measured.parquet").select("id", verdict).to_pydict()
    return {name for name, reason in zip(found["id"], found["verdict"], strict=True) if reason}


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description=__doc__)
    parser.add_argument("--megabytes", type=float, default=60.0)
    add_output(parser)
    options = parser.parse_args(arguments)
    from codeshell_hf.curate.rules import EXAMINED_RULES, RULES, explain
    from codeshell_hf.curate.settings import Rules

    off = {name: False if isinstance(info.default, bool) else None for name, info in Rules.model_fields.items()}
    nothing = {**off, "by_language": None, "custom": ()}
    table = measure(read_files(options.megabytes))
    plain = table.drop_columns(["text", "bands", "pieces"])
    rows = plain.to_pylist()
    size = sum(row["bytes"] for row in rows)
    languages = Counter(row["language"] for row in rows)
    facts = [
        f"{len(rows):,} readable files, {size / 1e6:.1f} MB: "
        + ", ".join(f"{name} {count:,}" for name, count in languages.most_common(6))
    ]
    columns = {
        "rule": "28",
        "reason": "20",
        "default": "8",
        "tried at": "11",
        "source": "16",
        "files": "7,",
        "% of MB": "8.2f",
    }
    result = Result(describe_machine(), facts, columns).start("benchmarks.rules", arguments)
    for rule, (reason, _) in RULES.items():
        info = Rules.model_fields[rule]
        default = info.default
        threshold = default if default not in (None, False) else TRIED[rule]
        rules = Rules.model_validate({**nothing, rule: threshold})
        broken = judge_all(plain, rules)
        for row in rows if not rule.startswith("drops_") else ():
            value, bound = explain(rules, reason, row)
            if (value is not None and bound is not None) != (row["id"] in broken):
                print(f"{row['id']} and {rule} disagree; nothing is measured", file=sys.stderr)
                return 1
        source = next((name for name in SOURCES if name in str(info.description)), "ours")
        dropped = sum(row["bytes"] for row in rows if row["id"] in broken)
        name = f"{rule} *" if rule in EXAMINED_RULES else rule
        result.add(name, reason, _show(default), _show(threshold), source, len(broken), 100 * dropped / size)
    broken = judge_all(plain, Rules())
    dropped = sum(row["bytes"] for row in rows if row["id"] in broken)
    result.add("all defaults together", None, None, None, None, len(broken), 100 * dropped / size)
    result.note("* after duplicates; thresholds of single languages (by_language) only in the last line")
    result.keep(options.json)
    return 0


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "off" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:g}"


if __name__ == "__main__":
    sys.exit(main())
