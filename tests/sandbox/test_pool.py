"""Verdicts of the pool: right on every backend, in order, and never of a process that was lost."""

import time
from pathlib import Path

import pytest

from codeshell_hf.errors import RunFailed
from codeshell_hf.sandbox import Limits, Program, Sandbox, open_sandbox
from tests.backends import HERE, LIMITS, leave_linux

pytestmark = pytest.mark.xdist_group("sandbox")


@pytest.mark.parametrize(
    ("program", "status", "reason"),
    [
        (Program("def f(x): return x + 1", "assert f(1) == 2"), "passed", ""),
        (Program("def f(x): return x", "assert f(1) == 2"), "failed", "AssertionError"),
        (Program("def f(x) return x", "assert f(1) == 1"), "failed", "SyntaxError"),
        (Program("f = 1", "assert (f == 1"), "failed", "SyntaxError"),
        (Program("1 / 0"), "failed", "ZeroDivisionError"),
        (Program("while True: pass"), "timed out", "timeout"),
        (Program("import time; time.sleep(60)"), "timed out", "timeout"),
        (Program("import os; os._exit(0)", "assert False"), "failed", "exit 0 before the end"),
        (Program("raise SystemExit(0)", "assert False"), "failed", "SystemExit"),
        (Program("import ctypes; ctypes.string_at(0)"), "failed", "SIGSEGV"),
        (Program("x = bytearray(1 << 30)"), "failed", "MemoryError"),
        (Program("def f(): f()\nf()"), "failed", "RecursionError"),
        (Program("input()"), "failed", "EOFError"),
        (Program("\0"), "failed", "SyntaxError"),
        (Program("x = '\ud800'"), "failed", "UnicodeEncodeError"),
        (Program("import sys; sys.stdout.buffer.write(b'\\xff\\x1b[31m')"), "passed", ""),
        (Program("import json, re, collections, typing, decimal, itertools"), "passed", ""),
    ],
    ids=lambda value: None if isinstance(value, Program) else value,
)
def test_verdicts_say_what_became_of_a_program(sandbox: Sandbox, program: Program, status: str, reason: str) -> None:
    verdict = sandbox.run([program])[0]

    # A byte of zero was a ValueError until Python 3.11.4.
    assert (verdict.status, verdict.reason.replace("ValueError", "SyntaxError")) == (status, reason)
    assert verdict.passed == (status == "passed")
    assert verdict.seconds < LIMITS.timeout_s + 1


def test_output_is_kept_up_to_its_limit_and_programs_leave_nothing_to_the_next(sandbox: Sandbox) -> None:
    loud, writes, reads = sandbox.run(
        [
            Program("print('y' * 10_000_000)"),
            Program("import builtins; builtins.left = 1; open('left', 'w').write('here')"),
            Program("import builtins; assert not hasattr(builtins, 'left')"),
        ]
    )

    assert loud.passed
    assert loud.output == "y" * LIMITS.max_output_bytes
    assert writes.passed
    assert reads.passed


def test_verdicts_come_in_the_order_of_the_programs_and_copies_run_once(sandbox: Sandbox) -> None:
    programs = [Program(f"def f(): return {index % 7}", f"assert f() == {index % 2}") for index in range(100)]
    done: list[int] = []

    verdicts = sandbox.run(programs, on_progress=done.append)

    assert [verdict.passed for verdict in verdicts] == [index % 7 == index % 2 for index in range(100)]
    assert sum(done) == 100
    assert len(done) == 14


def test_a_lost_process_is_replaced_and_never_a_verdict(sandbox: Sandbox) -> None:
    for zygote in sandbox._all:
        zygote._process.kill()
        zygote._process.wait()

    assert [verdict.passed for verdict in sandbox.run([Program("x = 1")] * 1 + [Program("x = 2")])] == [True, True]


def test_a_program_that_ran_out_of_time_is_run_once_more_alone(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    slow_once = f"import os, time\nif not os.path.exists({str(mark)!r}): open({str(mark)!r}, 'w'); time.sleep(9)"
    with open_sandbox("none", LIMITS, workers=2) as opened:
        first, second = opened.run([Program(slow_once), Program("while True: pass")], repeats_timeouts=True)

    assert first.passed
    assert second.status == "timed out"


@pytest.mark.slow
@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_what_a_program_started_ends_with_it_where_nothing_isolates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_elsewhere: bool
) -> None:
    if is_elsewhere:
        leave_linux(monkeypatch)
    mark = tmp_path / "mark"
    child = f"import time\nwhile True: open({str(mark)!r}, 'a').write('.'); time.sleep(0.05)"
    source = f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"

    with open_sandbox("none", LIMITS, workers=1) as opened:
        assert opened.run([Program(source)])[0].status == "timed out"

    size = mark.stat().st_size
    time.sleep(0.3)
    assert mark.stat().st_size == size


def test_a_failure_of_the_sandbox_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_sandbox("none", LIMITS, workers=1) as opened:
        monkeypatch.setattr(opened._all[0], "ask", lambda *_: {"trouble": "no space"})

        with pytest.raises(RunFailed, match="failed twice on one program: no space"):
            opened.run([Program("x = 1")])


CHILDREN = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        held = bytearray(100 << 20)
        held[::4096] = b"x" * len(held[::4096])
        time.sleep(60)
time.sleep(60)
"""
NAMELESS = """
import os
held = []
try:
    for _ in range(40):
        file = os.memfd_create("held")
        os.write(file, bytes(50 << 20))
        held.append(file)
except OSError:
    pass
assert not held
def f(): return 1
"""


@pytest.mark.skipif(not HERE, reason="this machine does not isolate programs")
def test_all_processes_of_a_program_together_hold_no_more_than_its_memory() -> None:
    limits = Limits(timeout_s=20, max_memory_bytes=256 << 20)
    with open_sandbox(HERE[0], limits, workers=1) as sandbox:
        many, nameless, one = sandbox.run(
            [
                Program(CHILDREN, "assert True"),
                Program(NAMELESS, "assert f() == 1"),
                Program("def f(): return 1", "f()"),
            ]
        )

    assert (many.status, many.reason) == ("failed", "memory limit")
    assert many.seconds < 5
    assert nameless.passed, nameless.output
    assert one.passed
