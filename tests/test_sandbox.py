"""The sandbox: right verdicts on every rung, and hostile programs that get nowhere."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.sandbox import Limits, Program, Sandbox, Verdict, open_sandbox
from codeshell_hf.sandbox.pool import probe

ROOT = Path(__file__).parents[1]
LIMITS = Limits(timeout_s=1.5, max_memory_bytes=256 << 20, max_processes=12, max_file_bytes=4 << 20, max_files=200)


def has_namespaces() -> bool:
    try:
        open_sandbox("namespaces", LIMITS, workers=1).close()
    except SettingsError:
        return False
    return True


NAMESPACES = has_namespaces()
requires_namespaces = pytest.mark.skipif(not NAMESPACES, reason="this machine gives no namespaces to programs")


@pytest.fixture(scope="module", params=["none", pytest.param("namespaces", marks=requires_namespaces)])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with open_sandbox(request.param, LIMITS) as opened:
        yield opened


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

    assert (verdict.status, verdict.reason) == (status, reason)
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


def test_unknown_rungs_are_refused() -> None:
    with pytest.raises(SettingsError, match="sandbox is 'docker'; use one of auto, namespaces, none"):
        open_sandbox("docker")


def test_no_isolation_is_only_had_by_its_name_and_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    open_sandbox("none", LIMITS, workers=1).close()

    assert "Programs run with your rights" in caplog.text
    with Sandbox("none", LIMITS, 1) as bare:
        assert "sees another process" in probe(bare)
        assert any(name.startswith("reads ") for name in probe(bare))


def read_hostile_programs() -> dict[str, tuple[str, str]]:
    """How each has to end, and its source; a program that looks for a leak passes where the walls stand."""
    text = (ROOT / "tests" / "data" / "hostile_programs.txt").read_text(encoding="utf-8")
    headings = re.split(r"^## (.+) \| (.+)\n", text, flags=re.MULTILINE)[1:]
    return {name: (status, source) for name, status, source in batched_by_three(headings)}


def batched_by_three(items: list[str]) -> Iterator[tuple[str, str, str]]:
    return zip(items[::3], items[1::3], items[2::3], strict=True)


HOSTILE = read_hostile_programs()
RUNNER = (
    "import json, sys\nfrom codeshell_hf.sandbox import *\n"
    "programs, limits = json.load(sys.stdin)\n"
    "with open_sandbox('namespaces', Limits(**limits)) as sandbox:\n"
    "    verdicts = sandbox.run([Program(*p) for p in programs])\n"
    "print(json.dumps([[v.status, v.reason, v.seconds, v.output] for v in verdicts]))\n"
)


@pytest.fixture(scope="module", params=["the caller", "an ordinary user"])
def hostile_verdicts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """Every hostile program, run once as who runs the tests and once as an ordinary user."""
    if not NAMESPACES:
        pytest.skip("this machine gives no namespaces to programs")
    is_other = request.param == "an ordinary user"
    if is_other and os.geteuid() != 0:
        pytest.skip("the caller is an ordinary user already")
    secret = tmp_path_factory.mktemp("secret") / "token"
    secret.write_text("planted")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        name = f"sandbox-test-{os.getpid()}-{is_other}"
        abstract.bind(f"\0{name}")
        abstract.listen()
        words = {"PORT": str(server.getsockname()[1]), "NAME": name, "SECRET": str(secret)}
        programs = []
        for status, source in HOSTILE.values():
            for word, value in words.items():
                source = source.replace(word, value)  # noqa: PLW2901 - filled in
            programs.append([source, "assert False" if status == "failed" else ""])
        environment = {"HF_TOKEN": "planted", "PATH": os.environ["PATH"]}
        if is_other:
            verdicts = run_as_ordinary_user(programs, environment, tmp_path_factory.mktemp("ordinary"))
        else:
            done = subprocess.run(
                [sys.executable, "-c", RUNNER],
                input=json.dumps([programs, vars(LIMITS)]),
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=True,
            )
            verdicts = json.loads(done.stdout)
    return {name: Verdict(*values) for name, values in zip(HOSTILE, verdicts, strict=True)}


def run_as_ordinary_user(programs: list[list[str]], environment: dict[str, str], folder: Path) -> list[list]:
    """Runs the sandbox alone, copied to where everybody may read, with an interpreter that everybody may run."""
    package = folder / "codeshell_hf"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(ROOT / "src" / "codeshell_hf" / "errors.py", package)
    shutil.copytree(ROOT / "src" / "codeshell_hf" / "sandbox", package / "sandbox")
    for path in (folder, *folder.rglob("*"), *list(folder.parents)[:-2]):
        path.chmod(0o755 if path.is_dir() else 0o644)
    drop = "import os\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    own = getattr(sys, "_base_executable", sys.executable)
    is_readable = all(path.stat().st_mode & 0o5 == 0o5 for path in Path(own).resolve().parents)
    if not is_readable and not Path("/usr/bin/python3").exists():
        pytest.skip("an ordinary user cannot run this interpreter")
    interpreter = own if is_readable else "/usr/bin/python3"
    done = subprocess.run(
        [interpreter, "-c", drop + RUNNER],
        input=json.dumps([programs, vars(LIMITS)]),
        env={**environment, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_programs_get_nowhere(hostile_verdicts: dict[str, Verdict], name: str) -> None:
    verdict = hostile_verdicts[name]

    assert verdict.status == HOSTILE[name][0] or (
        name == "number that never ends" and verdict.reason == "MemoryError"
    ), verdict
    assert verdict.seconds < LIMITS.timeout_s + 1


@requires_namespaces
def test_nothing_is_left_running() -> None:
    with open_sandbox("namespaces", LIMITS, workers=1) as opened:
        zygote = opened._all[0]._process.pid
        for name in ("daemon that holds the output", "fork bomb", "ignore every signal"):
            opened.run([Program(HOSTILE[name][1])])
        time.sleep(0.2)

        # Whoever outlived its program hangs on the zygote, or was handed to the first process of the machine.
        assert list_children({zygote, 1}) == []


def list_children(parents: set[int]) -> list[str]:
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and b"zygote.py" in (path / "cmdline").read_bytes():
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) in parents:
                    found.append(path.name)
        except OSError:  # it ended meanwhile
            continue
    return found
