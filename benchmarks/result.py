"""What a benchmark measured: a table that is printed as it grows, kept as JSON, and shown in the pages.

python -m benchmarks.result    makes the tables of all pages anew from benchmarks/results/*.json
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import shlex
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

HOME = Path(__file__).parent
MARK = re.compile(r"<!-- (?:benchmarks/)?(results/\S+\.json) -->")  # stands above a table
RATES = {"median": "10,.0f", "least": "10,.0f", "most": "10,.0f"}
Value = str | float | None


def describe_machine(*packages: str, cores: str | None = None) -> str:
    """Names processor, cores or GPU, Python, and the versions of packages."""
    if cores is None:
        from codeshell_hf.processors import count_usable_cpus

        cores = f"{count_usable_cpus()} cores"
    where = cores
    if "torch" in packages:
        import torch

        where = torch.cuda.get_device_name() if torch.cuda.is_available() else where
    versions = [f"{name} {_find_version(name)}" for name in packages]
    return ", ".join([platform.machine(), where, f"Python {platform.python_version()}", *versions])


def list_cores() -> set[int]:
    """Lists the cores that this process may run on, for benchmarks that keep to one of them."""
    if not hasattr(os, "sched_getaffinity"):
        print(
            "error: a time on one core needs os.sched_setaffinity, which Linux alone has; run it there", file=sys.stderr
        )
        sys.exit(2)
    return set(os.sched_getaffinity(0))


def _find_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def add_output(parser: argparse.ArgumentParser) -> None:
    """Gives a benchmark the option to keep what it measures."""
    parser.add_argument("--json", type=Path, help="file to keep the table in; the pages are made from such files")


@dataclass
class Result:
    """A table, printed as it grows.

    Args:
        machine: Where it was measured, with what.
        facts: What was measured, a line each.
        columns: Format of each column by its name, with its width; the first holds names.
        rows: A value for each column, `None` where there is none.
        notes: What follows from the table, a line each.
        command: How it was called, folders left out.
    """

    machine: str
    facts: list[str]
    columns: dict[str, str]
    rows: list[list[Value]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    command: str = ""

    def start(self, module: str, arguments: Sequence[str] | None) -> "Result":
        """Prints all that stands above the rows, and remembers how the benchmark was called."""
        given = sys.argv[1:] if arguments is None else arguments
        bare = [re.sub(r"(^|=)/(\S*/)?([^/\s]+)", r"\1\3", part) for part in given]
        self.command = shlex.join(["python", "-m", module, *bare])
        print(*self._head(), sep="\n", flush=True)
        return self

    def add(self, *values: Value) -> None:
        """Adds a row; columns that are not given stay empty."""
        self.rows.append([*values, *[None] * (len(self.columns) - len(values))])
        print(self._tell(self.rows[-1]), flush=True)

    def add_rates(self, name: str, rates: Sequence[float], *more: Value) -> None:
        """Adds a row of a median with the least and the most."""
        self.add(name, statistics.median(rates), min(rates), max(rates), *more)

    def note(self, text: str) -> None:
        """Adds a line below the table."""
        self.notes.append(text)
        print(text, flush=True)

    def keep(self, path: Path | None) -> None:
        """Writes the table as JSON, if a file is named."""
        if path:
            path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _head(self) -> Iterator[str]:
        yield self.machine
        yield from self.facts
        yield self._join(list(self.columns))

    def _tell(self, row: Sequence[Value]) -> str:
        return self._join([_format(value, way) for value, way in zip(row, self.columns.values(), strict=True)])

    def _join(self, cells: Sequence[str]) -> str:
        widths = [int(re.search(r"\d+", way)[0]) for way in self.columns.values()]  # type: ignore[index]
        first, *others = zip(cells, widths, strict=True)
        return (first[0].ljust(first[1]) + "".join(cell.rjust(width) for cell, width in others)).rstrip()

    def __str__(self) -> str:
        return "\n".join([*self._head(), *map(self._tell, self.rows), *self.notes])


def _format(value: Value, way: str) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else format(value, way).strip()


def read_result(path: Path) -> Result:
    """Reads what `Result.keep` wrote."""
    return Result(**json.loads(path.read_text(encoding="utf-8")))


def find_pages() -> list[Path]:
    """The pages that show a table."""
    root = HOME.parent
    pages = [
        *root.glob("*.md"),
        *(path for name in ("benchmarks", "docs", "tokenizer") for path in root.glob(f"{name}/*.md")),
    ]
    return sorted(path for path in pages if MARK.search(path.read_text(encoding="utf-8")))


def fill_in(text: str) -> str:
    """Puts each table in its place, the block of text after its file's name."""

    def put(found: re.Match[str]) -> str:
        return f"{found[1]}```text\n{read_result(HOME / found[2])}\n```"

    return re.sub(rf"({MARK.pattern}\n\n?)```text\n.*?\n?```", put, text, flags=re.DOTALL)


def main() -> int:
    """Makes the tables of all pages anew."""
    for path in find_pages():
        path.write_text(fill_in(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
