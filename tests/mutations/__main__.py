"""Runs the mutations: `python -m tests.mutations [WING ...] [--list] [--json FILE] [--jobs N]`.

Each mutation is applied in a temporary copy of the checkout, never in place. Tests run there first without it, once for
each distinct set, and must pass. Ends with a table by wing; the exit status is 1 if a mutation survives, or could not
be tried.
"""

import argparse
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from tests.mutations import ROOT, Mutation, list_wings, load_table, mutate
from tests.warm import warm_python

CAUGHT, HANGS, SURVIVES, UNFIT, FAILING, SKIPPED = (
    "caught", "caught: timeout", "SURVIVES", "not applicable", "tests fail without it", "tests skip here",
)  # fmt: skip
GOOD = (CAUGHT, HANGS, SKIPPED)
LEFT_OUT = (
    *("build", "dist", "runs", "shared", "*.egg-info", "__pycache__"),
    *(".git", ".venv", ".legs", ".gpu", ".hypothesis", ".*_cache"),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one mutation; `detail` says why where it is not caught."""

    wing: str
    mutation: Mutation
    outcome: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class PytestRun:
    """One run of pytest: its exit status (None: it hung), how long it took, and its output."""

    status: int | None
    seconds: float
    output: str


def run_tests(root: Path, tests: str, timeout_s: float, *, is_warm: bool) -> PytestRun:
    """Runs the fast ones among these tests in a checkout, and stops at the first that fails.

    Args:
        is_warm: Whether libraries may be imported already; the checkout's own modules never are.
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(root / "src"), str(root))),
        # Bytecode is valid by size and second: a mutation of the same length would not be seen.
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_MODULES_CACHE": str(root / ".modules"),  # else a mutated model would be found there by others
    }
    environment.setdefault("OMP_NUM_THREADS", "1")  # toy models are no faster with more
    environment.pop("PYTEST_ADDOPTS", None)
    environment.pop("PYTEST_XDIST_WORKER", None)
    python = warm_python(environment) if is_warm else sys.executable
    marks = ("-m", "not slow and not gpu and not shared")
    command = [python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *marks, *tests.split()]
    begun = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status: int | None = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with suppress(ProcessLookupError, PermissionError):  # nothing that the tests started stays
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        text = output.read().decode("utf-8", errors="replace")
    return PytestRun(status, time.monotonic() - begun, text)


class Runner:
    """Tries mutations in copies of a checkout.

    Args:
        root: The checkout, which is only read.
        folder: Temporary; a copy of the checkout for each job is made in it.
        jobs: Mutations tried at the same time.
        timeout_s: Of one run of tests.
        slack_s: With a mutation, tests have this and five times what they took without, if that is less.
        is_warm: As in `run_tests`.
    """

    def __init__(
        self,
        root: Path,
        folder: Path,
        *,
        jobs: int = 1,
        timeout_s: float = 300,
        slack_s: float = 30,
        is_warm: bool = True,
    ) -> None:
        self.root = root
        self.jobs = jobs
        self.timeout_s = timeout_s
        self.slack_s = slack_s
        self.is_warm = is_warm
        self._outcomes: list[Outcome] = []
        self._lock = threading.Lock()
        self._copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for job in range(jobs):
            copy = folder / str(job)
            shutil.copytree(root, copy, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
            self._copies.put(copy)

    def run(self, tables: Mapping[str, Sequence[Mutation]]) -> list[Outcome]:
        """Tries all and prints a line for each as it is done, with a count and the time left."""
        places = {mutation: place for place, mutation in enumerate(chain.from_iterable(tables.values()))}
        groups: dict[str, list[tuple[str, Mutation]]] = {}
        for wing, table in tables.items():
            for mutation in table:
                groups.setdefault(mutation.tests, []).append((wing, mutation))
        self._outcomes, begun = [], time.monotonic()

        def note(outcome: Outcome) -> None:
            with self._lock:
                self._outcomes.append(outcome)
                done = len(self._outcomes)
                left_s = (time.monotonic() - begun) / done * (len(places) - done)
                print(f"[{done:>3}/{len(places)}, {left_s / 60:4.1f} min left] {_line(outcome)}", flush=True)

        with ThreadPoolExecutor(self.jobs) as pool:
            for future in [pool.submit(self._try_group, group, note) for group in groups.values()]:
                future.result()
        return sorted(self._outcomes, key=lambda outcome: places[outcome.mutation])

    def _try_group(self, group: Sequence[tuple[str, Mutation]], note: Callable[[Outcome], None]) -> None:
        """Tries the mutations that have the same tests, which run once without any."""
        copy = self._copies.get()
        try:
            baseline: PytestRun | None = None
            for wing, mutation in group:
                try:
                    mutated = mutate(self.root, mutation)
                except ValueError as error:
                    note(Outcome(wing, mutation, UNFIT, 0, str(error)))
                    continue
                if baseline is None:
                    baseline = run_tests(copy, mutation.tests, self.timeout_s, is_warm=self.is_warm)
                note(self._try_mutation(copy, wing, mutation, mutated, baseline))
        finally:
            self._copies.put(copy)

    def _try_mutation(self, copy: Path, wing: str, mutation: Mutation, mutated: str, baseline: PytestRun) -> Outcome:
        """Applies one mutation to a copy, runs its tests there, and restores the file."""
        if baseline.status != 0:
            return Outcome(wing, mutation, FAILING, baseline.seconds, _tail(baseline.output))
        if " passed" not in _tail(baseline.output, 1):
            return Outcome(wing, mutation, SKIPPED, baseline.seconds, _tail(baseline.output))
        file = copy / mutation.file
        original = file.read_bytes()
        limit_s = min(self.timeout_s, self.slack_s + 5 * baseline.seconds)
        try:
            file.write_text(mutated, encoding="utf-8")
            run = run_tests(copy, mutation.tests, limit_s, is_warm=self.is_warm)
        finally:
            file.write_bytes(original)
        if run.status is None:
            return Outcome(wing, mutation, HANGS, run.seconds)
        if run.status == 0:
            return Outcome(wing, mutation, SURVIVES, run.seconds, _describe(mutation))
        return Outcome(wing, mutation, CAUGHT, run.seconds)


def _tail(output: str, lines: int = 12) -> str:
    return "\n".join(output.strip().splitlines()[-lines:])


def _describe(mutation: Mutation) -> str:
    changed = [f"- {line.strip()}" for line in mutation.old.splitlines()]
    changed += [f"+ {line.strip()}" for line in mutation.new.splitlines()]
    return "\n".join([mutation.file, *changed, f"tests: {mutation.tests}"])


def _line(outcome: Outcome) -> str:
    text = f"{outcome.outcome:<21} {outcome.wing:<10} {outcome.seconds:5.1f} s  {outcome.mutation.what}"
    detail = outcome.detail if outcome.outcome not in GOOD else ""
    return "\n".join([text, *(f"      {line}" for line in detail.splitlines())])


def format_table(outcomes: Sequence[Outcome]) -> str:
    """Counts by wing."""
    lines = [f"{'wing':<12}{'mutations':>10}{'caught':>8}{'survive':>9}{'not tried':>11}"]
    wings = sorted({outcome.wing for outcome in outcomes})
    for name in [*wings, "all"]:
        counts = Counter(outcome.outcome for outcome in outcomes if name in (outcome.wing, "all"))
        caught, survive = counts[CAUGHT] + counts[HANGS], counts[SURVIVES]
        total = sum(counts.values())
        lines.append(f"{name:<12}{total:>10}{caught:>8}{survive:>9}{total - caught - survive:>11}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the tables that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("wings", nargs="*", metavar="WING", help=f"of {', '.join(list_wings())}; without one, all")
    parser.add_argument("--list", action="store_true", help="print the mutations and run nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="at a time")
    parser.add_argument("--timeout-s", type=float, default=300, metavar="S", help="limit of one run of tests")
    chosen = parser.parse_args(arguments)
    tables = {wing: load_table(wing) for wing in chosen.wings or list_wings()}
    if chosen.list:
        for wing, table in tables.items():
            print("\n".join(f"{wing:<10} {mutation.file:<48} {mutation.what}" for mutation in table))
        return 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        outcomes = Runner(ROOT, Path(folder), jobs=chosen.jobs, timeout_s=chosen.timeout_s).run(tables)
    if chosen.json:
        records = [asdict(outcome) for outcome in outcomes]
        chosen.json.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\n{format_table(outcomes)}")
    return int(any(outcome.outcome not in GOOD for outcome in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
