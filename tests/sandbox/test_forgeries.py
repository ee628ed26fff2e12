"""Programs that solve nothing and try to be called right, on every backend: none passes, and none sees the tests."""

import ast
import os
import re
import signal
import time
from pathlib import Path
from threading import Thread

import pytest

from codeshell_hf.sandbox import Backend, Limits, Program, Verdict, open_sandbox
from tests.backends import HERE, ISOLATING, mark_backend
from tests.sandbox.test_hostile import ROOT, run_apart

pytestmark = pytest.mark.xdist_group("sandbox")
TESTS = """
import math
def check(candidate):
    assert candidate(1) == 2
    assert candidate([3, 4]) == [4, 5]
    assert abs(candidate(2.5) - 3.5) < 1e-6
    assert math.isclose(candidate(0), 1)
    assert candidate("7") in ("8",)
    assert not candidate(-1)
check(f)
"""
RIGHT = """
def f(x):
    if isinstance(x, list): return [f(item) for item in x]
    return str(int(x) + 1) if isinstance(x, str) else x + 1
"""
SEND = """
def SEND(*messages):
    import json, os
    for n in range(3, 2048):
        try:
            os.set_blocking(n, False)
            for message in messages:
                text = json.dumps(message).encode()
                os.write(n, len(text).to_bytes(8, 'little') + text)
        except OSError: pass
"""


def read_forgeries() -> dict[str, str]:
    text = (ROOT / "tests" / "data" / "forgeries.txt").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return {
        name: (SEND if "SEND(" in source else "") + source for name, source in zip(parts[::2], parts[1::2], strict=True)
    }


FORGERIES = read_forgeries()
BACKENDS: tuple[Backend, ...] = (*ISOLATING, "none")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((backend, user), marks=[*mark_backend(backend), *slow], id=f"{backend}-{user}")
        for backend in BACKENDS
        for user, slow in (("the caller", []), ("an ordinary user", [pytest.mark.slow]))
    ],
)
def verdicts(request: pytest.FixtureRequest) -> dict[str, Verdict]:
    """A right program and every forgery, run as who runs the tests and as an ordinary user."""
    backend, user = request.param
    chosen = {name: source for name, source in FORGERIES.items() if backend != "none" or not name.endswith("*")}
    programs = [[source, TESTS] for source in (RIGHT, *chosen.values())]
    found = run_apart(backend, programs, {"PATH": "/usr/bin:/bin"}, is_other=user != "the caller")
    return {name: Verdict(*values) for name, values in zip(("right", *chosen), found, strict=True)}


def test_no_forgery_passes(verdicts: dict[str, Verdict]) -> None:
    assert len(FORGERIES) >= 60
    assert [name for name, verdict in verdicts.items() if verdict.passed] == ["right"]


# A mark of which the program knows the beginning, backwards, and which it looks for.
MARK = "dleen-"[::-1]
SECRET_TESTS = f"""
# {MARK}0123456789abcdef in a remark
EXPECTED = "{MARK}" + "fedcba9876543210"
assert f("looks") == "{MARK}" + "a" * 16, EXPECTED
"""
LOOKS = r"""
import ctypes, gc, os, re, sys
MARK = re.compile(b'dleen-'[::-1] + rb'[0-9a-f]{4}')
def search(data): return len(MARK.findall(data))
def f(x):
    found = {}
    try:
        with open('/proc/self/maps') as maps, open('/proc/self/mem', 'rb', 0) as memory:
            read = 0
            for line in maps:
                start, end = (int(part, 16) for part in line.split()[0].split('-'))
                try: memory.seek(start); data = memory.read(end - start)
                except (OSError, ValueError, OverflowError): continue
                read += len(data); found['memory'] = found.get('memory', 0) + search(data)
            found['read'] = read > 1 << 20
    except OSError: found['no /proc'] = True
    frame = sys._getframe()
    while frame:
        found['frames'] = found.get('frames', 0) + search(repr((frame.f_locals, frame.f_code.co_consts)).encode())
        frame = frame.f_back
    kinds = (str, bytes, dict, list, tuple)
    found['objects'] = sum(search(repr(thing).encode()) for thing in gc.get_objects() if type(thing) in kinds)
    libc, (read_end, write_end) = ctypes.CDLL(None), os.pipe()
    pages, seen = sorted({id(thing) >> 12 for thing in gc.get_objects()}), 0
    near = sorted({page + step for page in pages for step in range(-16, 17)})
    for page in near:
        if libc.write(write_end, ctypes.c_void_p(page << 12), 4096) == 4096:  # an address that is none fails
            seen += 1; found['pages'] = found.get('pages', 0) + search(os.read(read_end, 4096))
    found['walked'] = seen > 256
    for n in range(3, 2048):
        try: os.set_blocking(n, False); found['descriptors'] = found.get('descriptors', 0) + search(os.read(n, 1 << 16))
        except OSError: pass
    print(sorted(found.items()), flush=True)
"""


@pytest.mark.parametrize("backend", [pytest.param(name, marks=mark_backend(name)) for name in BACKENDS])
def test_a_program_that_reads_its_own_memory_finds_no_byte_of_the_tests(backend: Backend) -> None:
    limits = Limits(timeout_s=20.0)
    with open_sandbox(backend, limits, workers=1) as opened:
        # Other tests of the same worker before it leave nothing either, also those that share an interpreter.
        opened.run([Program("def f(x): return 1", SECRET_TESTS), Program("x = 1", SECRET_TESTS, strict=False)])
        verdict = opened.run([Program(LOOKS, SECRET_TESTS)])[0]

    found = dict(ast.literal_eval(verdict.output.split("\n")[0]))
    assert found.pop("walked"), found
    assert found.pop("read", True) or found.pop("no /proc"), found
    assert {name: count for name, count in found.items() if count and name != "no /proc"} == {}


@pytest.mark.skipif("namespaces" not in HERE or os.geteuid() != 0, reason="reads other processes' memory as root")
def test_only_the_process_of_the_tests_holds_a_byte_of_them() -> None:
    """Seen from outside, which sees more than the program: the worker, its watcher and the program hold none."""
    with open_sandbox("namespaces", Limits(timeout_s=30.0), workers=1) as opened:
        worker = opened._all[0]._process.pid
        waiting = Thread(target=opened.run, args=([Program("import time\ndef f(x): time.sleep(9)", SECRET_TESTS)],))
        waiting.start()
        deadline = time.monotonic() + 8
        while len(family := list_family(worker)) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.0)  # until the call
        counts = [read_memory(pid).count(MARK.encode() + b"01234567") for pid in family]
        os.kill(family[2], signal.SIGKILL)
        waiting.join()

    assert len(counts) == 4
    assert counts[0] == counts[1] == counts[3] == 0
    assert counts[2] > 0


def list_family(pid: int) -> list[int]:
    """A process, its child, and so on."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(list_family(int(children[0])) if children else [])]


def read_memory(pid: int) -> bytes:
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            try:
                memory.seek(start)
                parts.append(memory.read(end - start))
            except (OSError, ValueError, OverflowError):  # the kernel's own pages
                continue
    return b"".join(parts)
