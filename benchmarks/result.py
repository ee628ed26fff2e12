"""Results of a benchmark: a table that is printed row by row, saved as JSON, and shown in the documentation.

python -m benchmarks.result    updates the tables of all pages from benchmarks/results/*.json
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
MARK = re.compile(r"<!-- (?:benchmarks/)?(results/\S+\.json) -->")  # before a table
RATES = {"median": "10,.0f", "least": "10,.0f", "most": "10,.0f"}
Value = str | float | None


def describe_machine(*packages: str, cores: str | None = None) -> str:
    """Describes the processor, cores or GPU, Python, and versions of packages."""
    if cores is None:
        from codeshell_hf.processors import count_usable_cpus

        cores = f"{count_usable_cpus()} cores"
    where = cores
    if "torch" in packages:
        import torch

        where = torch.cuda.get_device_name() if torch.cuda.is_available() else where
    versions = [f"{name} {_find_version(name)}" for name in packages]
    return ", ".join([platform.machine(), where, f"Python {platform.python_version()}", *versions])


def describe_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, and the widest instructions that torch and oneDNN use on it.

    `ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2` limit them to AVX2.
    """
    import torch

    known = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", known, re.MULTILINE)
    found = [name[1] if name else platform.processor() or platform.machine(), torch.backends.cpu.get_cpu_capability()]
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    if limit is not None:
        found.append(f"oneDNN at most {limit}")
    else:
        found += [feature for feature in ("avx512_bf16", "amx_bf16") if re.search(rf"\b{feature}\b", known)]
    return ", ".join(found)


def list_cores() -> set[int]:
    """Lists the cores that this process may use, for benchmarks that pin themselves to one."""
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
    """Adds the option to save the results."""
    parser.add_argument("--json", type=Path, help="file to keep the table in; the pages are made from such files")


@dataclass
class Result:
    """A table that is printed row by row.

    Args:
        machine: The machine and versions of packages.
        facts: Lines on what was measured.
        columns: Format of each column by name, including its width; the first column has names.
        rows: A value per column, or `None`.
        notes: Lines below the table.
        command: The command without folders.
    """

    machine: str
    facts: list[str]
    columns: dict[str, str]
    rows: list[list[Value]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    command: str = ""

    def start(self, module: str, arguments: Sequence[str] | None) -> "Result":
        """Prints the lines above the rows, and records the command."""
        given = sys.argv[1:] if arguments is None else arguments
        bare = [re.sub(r"(^|=)/(\S*/)?([^/\s]+)", r"\1\3", part) for part in given]
        self.command = shlex.join(["python", "-m", module, *bare])
        print(*self._head(), sep="\n", flush=True)
        return self

    def add(self, *values: Value) -> None:
        """Adds a row; missing columns are empty."""
        self.rows.append([*values, *[None] * (len(self.columns) - len(values))])
        print(self._tell(self.rows[-1]), flush=True)

    def add_rates(self, name: str, rates: Sequence[float], *more: Value) -> None:
        """Adds a row with the median, minimum and maximum."""
        self.add(name, statistics.median(rates), min(rates), max(rates), *more)

    def note(self, text: str) -> None:
        """Adds a line below the table."""
        self.notes.append(text)
        print(text, flush=True)

    def keep(self, path: Path | None) -> None:
        """Writes the table as JSON, if a file is given."""
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
    """Reads the output of `Result.keep`."""
    return Result(**json.loads(path.read_text(encoding="utf-8")))


def find_pages() -> list[Path]:
    """The pages with a table."""
    root = HOME.parent
    pages = [
        *root.glob("*.md"),
        *(path for name in ("benchmarks", "docs", "tokenizer") for path in root.glob(f"{name}/*.md")),
    ]
    return sorted(path for path in pages if MARK.search(path.read_text(encoding="utf-8")))


def fill_in(text: str) -> str:
    """Updates each table, which is the text block after a comment with its file's name."""

    def put(found: re.Match[str]) -> str:
        return f"{found[1]}```text\n{read_result(HOME / found[2])}\n```"

    return re.sub(rf"({MARK.pattern}\n\n?)```text\n.*?\n?```", put, text, flags=re.DOTALL)


def main() -> int:
    """Updates the tables of all pages."""
    for path in find_pages():
        path.write_text(fill_in(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
