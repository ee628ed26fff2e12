"""How many isolated programs a second the sandbox runs, beside a fresh interpreter for each with no isolation at all.

python -m benchmarks.sandbox [--programs 300] [--repeats 5]
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from codeshell_hf.sandbox import Program, open_sandbox


def make_programs(count: int) -> list[Program]:
    """Makes programs of which every third is wrong, no two alike."""
    return [Program(f"def f(x):\n    return x + {i}", f"assert f(1) == {i + 1 + (i % 3 == 0)}") for i in range(count)]


def run_bare(program: Program) -> bool:
    """Runs a program in an interpreter of its own."""
    command = [sys.executable, "-I", "-S", "-c", f"{program.source}\n{program.tests}"]
    return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sandbox", description=__doc__)
    parser.add_argument("--programs", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rung", default="auto")
    options = parser.parse_args(arguments)
    programs = make_programs(options.programs)
    expected = [index % 3 != 0 for index in range(options.programs)]
    rates: dict[str, list[float]] = {}
    with open_sandbox(options.rung) as sandbox, ThreadPoolExecutor(sandbox.workers) as threads:
        ways = {
            f"sandbox ({sandbox.rung})": lambda: [verdict.passed for verdict in sandbox.run(programs)],
            "bare interpreters": lambda: list(threads.map(run_bare, programs)),
        }
        for _ in range(options.repeats):
            for name, run in ways.items():
                started = time.perf_counter()
                verdicts = run()
                seconds = time.perf_counter() - started
                if verdicts != expected:
                    print(f"{name} gave a wrong verdict; nothing is measured", file=sys.stderr)
                    return 1
                rates.setdefault(name, []).append(len(programs) / seconds)
        workers = sandbox.workers
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {workers} at a time")
    print(f"{options.programs} programs, every verdict right, {options.repeats} repeats")
    for name, measured in rates.items():
        rate = statistics.median(measured)
        print(f"{name:<24}{rate:8.0f} programs/s   {min(measured):.0f} to {max(measured):.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
