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
from codeshell_hf.sandbox import (
    CommandProgram,
    Limits,
    Program,
    Sandbox,
    StrictProgram,
    Verdict,
    open_sandbox,
    pool,
    rungs,
)
from codeshell_hf.sandbox.rungs import is_open_to_all, probe

ROOT = Path(__file__).parents[1]
# Once in each way, not once in each process of the tests.
pytestmark = pytest.mark.xdist_group("sandbox")
LIMITS = Limits(timeout_s=1.5, max_memory_bytes=256 << 20, max_processes=12, max_file_bytes=4 << 20, max_files=200)


def holds(rung: str) -> bool:
    try:
        open_sandbox(rung, LIMITS, workers=1).close()
    except SettingsError:
        return False
    return True


HOLDS = {rung: holds(rung) for rung in ("namespaces", "bubblewrap")}
RUNG = "auto" if any(HOLDS.values()) else "none"
MARKS = {
    rung: pytest.mark.skipif(not held, reason=f"this machine does not isolate programs by {rung}")
    for rung, held in HOLDS.items()
}
ISOLATING = [pytest.param(rung, marks=mark) for rung, mark in MARKS.items()]


@pytest.fixture(scope="module", params=["none", "none, as elsewhere", *ISOLATING])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    rung, _, is_elsewhere = request.param.partition(", ")
    with pytest.MonkeyPatch.context() as patch:
        if is_elsewhere:
            leave_linux(patch)
        with open_sandbox(rung, LIMITS) as opened:
            yield opened


def leave_linux(patch: pytest.MonkeyPatch) -> None:
    for module in (pool, rungs):
        patch.setattr(module, "IS_LINUX", False)


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


WRONG = "class A:\n    def __eq__(self, other): return True\n    __gt__ = __lt__ = __ge__ = __eq__\n"
FORGERIES = {
    "a value that equals everything": WRONG + "def f(x): return A()",
    "a number that equals everything": "class N(int):\n    def __eq__(self, other): return True\ndef f(x): return N(7)",
    "frames": (
        "import sys, os\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        names = {**frame.f_locals}\n"
        "        if 'question' in names and 'answer' in names:\n"
        "            os.write(names['answer'], os.read(names['question'], 16)); os._exit(0)\n"
        "        frame = frame.f_back\n    return 7"
    ),
    "every descriptor": (
        "import os\ndef f(x):\n    found = b''\n    for n in range(3, 1100):\n"
        "        try: os.set_blocking(n, False); found = found or os.read(n, 16)\n        except OSError: pass\n"
        "    for n in range(3, 1100):\n        try: os.write(n, found)\n        except OSError: pass\n    os._exit(0)"
    ),
    "a reply that runs code": (
        "import os\nclass E:\n    def __reduce__(self): return os._exit, (0,)\ndef f(x): return E()"
    ),
    "leaving": "import os\ndef f(x): os._exit(0)",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_no_forgery_passes_where_tests_run_apart(sandbox: Sandbox, name: str) -> None:
    tests = "assert f(1) == 2\nassert f(5) == 6"

    forged, right = sandbox.run(
        [StrictProgram(FORGERIES[name], tests, ("f",)), StrictProgram("def f(x): return x + 1", tests, ("f",))]
    )

    assert forged.status == "failed"
    assert right.passed


@pytest.mark.parametrize(
    ("source", "tests", "status"),
    [
        ("def f(x): x.append(x.pop(0))", "a = [1, 2]\nf(a)\nassert a == [2, 1]", "passed"),
        ("def f(**k): return {**k, 't': ({1}, 1.5, None, b'x', 'é')}", "assert f(a=1)['t'][0] == {1}", "passed"),
        ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab')['a'] == 2", "passed"),
        ("def f(x): raise KeyError(x)", "try: f(1)\nexcept KeyError: pass\nelse: assert 0", "passed"),
        ("def f(x): return g(x)", "assert f(2) == double(2)", "failed"),
        ("def f(x): return x * 2", "assert f(2) == double(2)", "passed"),
        ("def f(x): return lambda: 1", "assert f(2)", "failed"),
        ("def f(x)", "assert True", "failed"),
        ("def f(x):\n    while True: pass", "f(1)", "timed out"),
    ],
)
def test_values_cross_between_a_program_and_its_tests(sandbox: Sandbox, source: str, tests: str, status: str) -> None:
    program = StrictProgram(source, tests, ("f",), prelude="def double(x): return 2 * x\ndef f(x): return None")

    assert sandbox.run([program])[0].status == status


def test_commands_are_run_in_order_and_the_first_that_fails_is_named(sandbox: Sandbox) -> None:
    def run(text: str, *commands: tuple[str, ...], is_proven: bool = False) -> Verdict:
        return sandbox.run([CommandProgram((("a.sh", text),), commands or (("sh", "a.sh"),), is_proven=is_proven)])[0]

    good = run("echo hello; cat a.sh > b; echo @PROOF@", is_proven=True)
    early = run("echo hello; exit 0; echo @PROOF@", is_proven=True)
    loud = run("yes | head -c 300000; echo @PROOF@", is_proven=True)

    assert (good.status, good.output.split()[0]) == ("passed", "hello")
    assert (early.status, early.reason) == ("failed", "exit 0 before the end")
    assert loud.passed
    assert run("exit 3", ("true",), ("sh", "a.sh"), ("false",)).reason == "sh: exit 3"
    assert run("kill -SEGV $$").reason == "sh: signal 11"
    assert run("", ("no-such-program",)).reason == "no-such-program: exit 127"
    assert run("sleep 60").status == "timed out"
    assert run("x = '\ud800'").reason == "UnicodeEncodeError"


def test_a_program_that_ran_out_of_time_is_run_once_more_alone(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    slow_once = f"import os, time\nif not os.path.exists({str(mark)!r}): open({str(mark)!r}, 'w'); time.sleep(9)"
    with open_sandbox("none", LIMITS, workers=2) as opened:
        first, second = opened.run([Program(slow_once), Program("while True: pass")], repeats_timeouts=True)

    assert first.passed
    assert second.status == "timed out"


ENGINE = """#!{python}
import os, sys
arguments, options = sys.argv[1:], dict()
assert arguments.pop(0) == "run"
while arguments[0].startswith("--"):
    name = arguments.pop(0)
    values = options.setdefault(name, [])
    if name not in ("--rm", "--interactive", "--read-only"):
        values.append(arguments.pop(0))
image, *command = arguments
assert options["--network"] == ["none"] and options["--cap-drop"] == ["ALL"] and "--read-only" in options, options
assert options["--user"] == ["65534:65534"] and options["--security-opt"] == ["no-new-privileges"], options
inside = options["--volume"][0].split(":")[0]
os.execvp("bwrap", ["bwrap", "--unshare-all", "--as-pid-1", "--die-with-parent", "--ro-bind", "/usr", "/usr",
    "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin",
    "--dev", "/dev", "--proc", "/proc", "--ro-bind", inside, "/sandbox/inside", "--tmpfs", "/tmp", "--remount-ro", "/",
    "--uid", "65534", "--cap-drop", "ALL", "--clearenv", "--setenv", "PATH", "/usr/bin", *command])
"""


@pytest.mark.skipif(
    not HOLDS["bubblewrap"] or not Path("/usr/bin/python3").exists(), reason="bubblewrap plays the container's engine"
)
def test_a_container_is_proven_as_the_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tmp_path / "docker"
    engine.write_text(ENGINE.format(python=sys.executable))
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    forking = (
        "import os, time\nfor _ in range(5):\n    if os.fork() == 0:\n        os.setsid()\n"
        "        held = bytearray(os.urandom(1)) * 30_000_000  # takes time to let go\n        time.sleep(60)\n"
        "open('/tmp/left', 'w')\ntime.sleep(0.3)"
    )

    with open_sandbox("container", LIMITS, image="python:3.12-slim", workers=1) as opened:
        verdicts = opened.run(
            [
                Program("x = 1", "assert x == 1"),
                Program("import os; os._exit(0)"),
                Program(forking),
                Program("import os", "assert not os.path.exists('/tmp/left')"),
                Program("import os", "assert len([n for n in os.listdir('/proc') if n.isdigit()]) <= 3"),
            ]
        )

    assert [verdict.passed for verdict in verdicts] == [True, False, True, True, True], verdicts


def test_a_machine_without_any_rung_is_told_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(SettingsError, match=r"bubblewrap: there is no program bwrap.*or write sandbox: none"):
        open_sandbox("bubblewrap")
    with pytest.raises(SettingsError, match="container: there is none of docker, podman"):
        open_sandbox("container", image="python:3.12-slim")
    with pytest.raises(SettingsError, match="container: no image is named"):
        open_sandbox("container")


def test_a_system_that_is_not_linux_is_told_of_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_linux(monkeypatch)
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(SettingsError) as told:
        open_sandbox("auto")

    assert str(told.value) == (
        "sandbox is 'auto', but this machine does not isolate programs (namespaces: Linux alone has it, and this is "
        "Linux; bubblewrap: Linux alone has it, and this is Linux; container: no image is named); start docker or "
        "podman and set container_image to one with Python, such as python:3.12-slim, or write sandbox: none to run "
        "programs with your own rights"
    )


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


def test_unknown_rungs_are_refused() -> None:
    with pytest.raises(
        SettingsError, match="sandbox is 'docker'; use one of auto, namespaces, bubblewrap, container, none"
    ):
        open_sandbox("docker")


def test_no_isolation_is_only_had_by_its_name_and_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    open_sandbox("none", LIMITS, workers=1).close()

    assert "Programs run with your rights" in caplog.text
    with open_sandbox("none", LIMITS, workers=1) as bare:
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
    "rung, programs, limits = json.load(sys.stdin)\n"
    "with open_sandbox(rung, Limits(**limits)) as sandbox:\n"
    "    verdicts = sandbox.run([Program(*p) for p in programs])\n"
    "print(json.dumps([[v.status, v.reason, v.seconds, v.output] for v in verdicts]))\n"
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((rung, user), marks=mark, id=f"{rung}-{user}")
        for rung, mark in MARKS.items()
        for user in ("the caller", "an ordinary user")
    ],
)
def hostile_verdicts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """Every hostile program, run once as who runs the tests and once as an ordinary user."""
    rung, user = request.param
    is_other = user == "an ordinary user"
    if is_other and os.geteuid() != 0:
        pytest.skip("the caller is an ordinary user already")
    secret = tmp_path_factory.mktemp("secret") / "token"
    secret.write_text("planted")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        name = f"sandbox-test-{os.getpid()}-{rung}-{is_other}"
        abstract.bind(f"\0{name}")
        abstract.listen()
        words = {"PORT": str(server.getsockname()[1]), "NAME": name, "SECRET": str(secret)}
        programs = []
        for status, source in HOSTILE.values():
            for word, value in words.items():
                source = source.replace(word, value)  # noqa: PLW2901 - filled in
            programs.append([source, "assert False" if status == "failed" else ""])
        environment = {"HF_TOKEN": "planted", "PATH": os.environ["PATH"]}
        folder = tmp_path_factory.mktemp("apart")
        verdicts = run_apart(rung, programs, environment, folder, is_other=is_other)
    return {name: Verdict(*values) for name, values in zip(HOSTILE, verdicts, strict=True)}


def run_apart(
    rung: str, programs: list[list[str]], environment: dict[str, str], folder: Path, *, is_other: bool
) -> list[list]:
    """Runs the sandbox alone, copied to where everybody may read, with an interpreter that everybody may run."""
    package = folder / "codeshell_hf"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("errors.py", "operating_system.py", "processors.py"):
        shutil.copy(ROOT / "src" / "codeshell_hf" / name, package)
    shutil.copytree(ROOT / "src" / "codeshell_hf" / "sandbox", package / "sandbox")
    for path in (folder, *folder.rglob("*"), *list(folder.parents)[:-2]):
        path.chmod(0o755 if path.is_dir() else 0o644)
    drop = "import os\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n" if is_other else ""
    interpreter = getattr(sys, "_base_executable", sys.executable)
    if is_other and not is_open_to_all(interpreter):
        interpreter = "/usr/bin/python3"
        if not Path(interpreter).exists():
            pytest.skip("an ordinary user cannot run this interpreter")
    done = subprocess.run(
        [interpreter, "-c", drop + RUNNER],
        input=json.dumps([rung, programs, vars(LIMITS)]),
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
def test_hostile_programs_get_nowhere(
    hostile_verdicts: dict[str, Verdict], name: str, request: pytest.FixtureRequest
) -> None:
    verdict = hostile_verdicts[name]

    is_known = (
        name == "number that never ends" and verdict.reason == "MemoryError"
        # Bubblewrap limits the bytes of its file system in memory and not the files; they vanish with the program.
    ) or (name == "fill the disk with many files" and "bubblewrap" in request.node.callspec.id)
    assert verdict.status == HOSTILE[name][0] or is_known, verdict
    assert verdict.seconds < LIMITS.timeout_s + 1


@pytest.mark.parametrize("rung", ISOLATING)
def test_nothing_is_left_running(rung: str) -> None:
    with open_sandbox(rung, LIMITS, workers=1) as opened:
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
            if path.name.isdigit() and b"inside.zygote" in (path / "cmdline").read_bytes():
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) in parents:
                    found.append(path.name)
        except OSError:  # it ended meanwhile
            continue
    return found
