"""Measurements and checks on one GPU, in at most ten minutes.

python -m benchmarks.gpu OUT [SECTION ...] [--carried FOLDER] [--limit-s 560]
python -m benchmarks.gpu OUT machine golden parts --toy    tiny shapes, on a CPU

Each section is a process with its own time limit, so that a hang, a crash or lack of memory only affects that section.
Figures are appended to OUT/results.jsonl as they come, output goes to OUT/logs.txt, and the final table to
OUT/table.json. FOLDER is made by `python -m benchmarks.gpu.wheels`: wheels that the machine lacks, which take
precedence over its own packages, and the original code.
"""

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.gpu.processes import make_environment, run_limited
from benchmarks.gpu.report import Report, is_whole, read_lines, tabulate
from benchmarks.gpu.sections import SECTIONS

MARGIN_S = 5  # reserved for ending a section that ran out of time, and for the table
LEAST_S = 15  # too short for a section to start


def main(arguments: list[str] | None = None) -> int:
    """Runs sections and prints their table; returns 1 if a figure is wrong, or a section failed or ran out of time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument("output", type=Path, metavar="OUT", help="a folder for what is found")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; by default all")
    parser.add_argument("--toy", action="store_true", help="tiny shapes, on a CPU")
    parser.add_argument("--carried", type=Path, metavar="FOLDER", help="wheels and code that the machine lacks")
    parser.add_argument("--limit-s", type=float, default=560, help="seconds that the whole run may take")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.sections if name not in SECTIONS]:
        print(f"no section is called {unknown[0]}; name some of {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    if options.carried and not options.carried.is_dir():
        print(
            f"--carried is {options.carried}, which is no folder; name what benchmarks.gpu.wheels made", file=sys.stderr
        )
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    if options.worker:
        return work(options)
    return run_sections(options, sys.argv[1:] if arguments is None else arguments)


def work(options: argparse.Namespace) -> int:
    """Runs one section in this process."""
    (name,) = options.sections
    section = SECTIONS[name]
    report = Report(options.output / "results.jsonl", name, is_toy=options.toy, carried=options.carried)
    report.describe()
    function = getattr(importlib.import_module(f"benchmarks.gpu.{section.module}"), section.function)
    function(report, *section.given)
    return 0


def run_sections(options: argparse.Namespace, given: list[str]) -> int:
    """Runs each section in a process of its own until the time is up."""
    ends = time.monotonic() + options.limit_s - MARGIN_S
    results, log = options.output / "results.jsonl", options.output / "logs.txt"
    for path in (results, log):
        path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-") as home:
        try:
            environment = make_environment(options.carried, Path(home), ends - time.monotonic())
        except subprocess.SubprocessError as error:
            print(f"the wheels of {options.carried} cannot be installed: {error}", file=sys.stderr)
            return 1
        for name in options.sections or SECTIONS:
            report, left = Report(results, name), ends - time.monotonic()
            if left < LEAST_S:
                report.skip("all of it", "no time left")
                continue
            command = [sys.executable, "-m", "benchmarks.gpu", str(options.output.absolute()), name, "--worker"]
            command += ["--toy"] if options.toy else []
            command += ["--carried", str(options.carried.absolute())] if options.carried else []
            # On a shared CPU, no limit per section would reliably detect a hang.
            limit_s = left if options.toy else min(left, SECTIONS[name].limit_s)
            with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=home) as scratch:
                written, started = log.stat().st_size if log.exists() else 0, time.monotonic()
                code = run_limited(command, limit_s=limit_s, log=log, environment={**environment, "TMPDIR": scratch})
            report.write({"wall_s": round(time.monotonic() - started, 1)})
            if code is None:
                report.fail("the rest", f"cut after {limit_s:.0f} s")
            elif code:
                printed = log.read_bytes()[written:].decode(errors="replace")
                report.fail("the rest", f"ended with {code}: ...{printed[-200:]}")
    lines = read_lines(results)
    table = tabulate(lines).start("benchmarks.gpu", given)
    print(str(table).split("\n", 2 + len(table.facts))[-1])
    table.keep(options.output / "table.json")
    return int(not is_whole(lines))


if __name__ == "__main__":
    sys.exit(main())
