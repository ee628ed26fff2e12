"""Hostile programs on every backend: none of them gets anywhere."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeshell_hf.sandbox import Backend, Program, Verdict, open_sandbox
from codeshell_hf.sandbox.backends import is_open_to_all
from codeshell_hf.sandbox.limits import Status
from tests.backends import ISOLATING, LIMITS, mark_backend

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("sandbox")


def read_hostile_programs() -> dict[str, tuple[str, str]]:
    """The status of each where it is isolated, and its source; a program that looks for a leak passes there."""
    text = (ROOT / "tests" / "data" / "hostile_programs.txt").read_text(encoding="utf-8")
    headings = re.split(r"^## (.+) \| (.+)\n", text, flags=re.MULTILINE)[1:]
    return {name: (status, source) for name, status, source in batched_by_three(headings)}


def batched_by_three(items: list[str]) -> Iterator[tuple[str, str, str]]:
    return zip(items[::3], items[1::3], items[2::3], strict=True)


HOSTILE = read_hostile_programs()
RUNNER = (
    "import json, sys\nfrom codeshell_hf.sandbox import *\n"
    "backend, programs, limits = json.load(sys.stdin)\n"
    "with open_sandbox(backend, Limits(**limits)) as sandbox:\n"
    "    verdicts = sandbox.run([Program(*p) for p in programs])\n"
    "print(json.dumps([[v.status, v.reason, v.seconds, v.output] for v in verdicts]))\n"
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((backend, user), marks=[*mark_backend(backend), *slow], id=f"{backend}-{user}")
        for backend in ISOLATING
        for user, slow in (("the caller", []), ("an ordinary user", [pytest.mark.slow]))
    ],
)
def hostile_verdicts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Verdict]:
    """Every hostile program, run once as who runs the tests and once as an ordinary user."""
    backend, user = request.param
    is_other = user == "an ordinary user"
    if is_other and os.geteuid() != 0:
        pytest.skip("the caller is an ordinary user already")
    secret = tmp_path_factory.mktemp("secret") / "token"
    secret.write_text("planted")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        name = f"sandbox-test-{os.getpid()}-{backend}-{is_other}"
        abstract.bind(f"\0{name}")
        abstract.listen()
        words = {"PORT": str(server.getsockname()[1]), "NAME": name, "SECRET": str(secret)}
        programs = []
        for status, source in HOSTILE.values():
            for word, value in words.items():
                source = source.replace(word, value)  # noqa: PLW2901 - filled in
            programs.append([source, "assert False" if status == "failed" else ""])
        environment = {"HF_TOKEN": "planted", "PATH": os.environ["PATH"]}
        verdicts = run_apart(backend, programs, environment, is_other=is_other)
    return {name: Verdict(*values) for name, values in zip(HOSTILE, verdicts, strict=True)}


def run_apart(
    backend: str, programs: list[list[str]], environment: dict[str, str], *, is_other: bool
) -> list[tuple[Status, str, float, str]]:
    """Runs the sandbox alone, copied to where everybody may read, with an interpreter that everybody may run."""
    # Not one of pytest's folders, which another run of pytest closes to others at any moment.
    with tempfile.TemporaryDirectory(prefix="apart-") as folder:
        return _run_in(Path(folder), backend, programs, environment, is_other=is_other)


def _run_in(
    folder: Path, backend: str, programs: list[list[str]], environment: dict[str, str], *, is_other: bool
) -> list[tuple[Status, str, float, str]]:
    package = folder / "codeshell_hf"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("errors.py", "operating_system.py", "processors.py"):
        shutil.copy(ROOT / "src" / "codeshell_hf" / name, package)
    shutil.copytree(ROOT / "src" / "codeshell_hf" / "sandbox", package / "sandbox")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    drop = "import os\nos.setgroups([]); os.setgid(65534); os.setuid(65534)\n" if is_other else ""
    interpreter = getattr(sys, "_base_executable", sys.executable)
    if is_other and not is_open_to_all(interpreter):
        interpreter = "/usr/bin/python3"
        if not Path(interpreter).exists():
            pytest.skip("an unprivileged user cannot run this interpreter")
    done = subprocess.run(
        [interpreter, "-c", drop + RUNNER],
        input=json.dumps([backend, programs, vars(LIMITS)]),
        env={**environment, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    return [tuple(values) for values in json.loads(done.stdout)]


@pytest.mark.skipif(os.geteuid() != 0, reason="starts processes of another user")
def test_other_processes_of_a_user_count_against_no_program() -> None:
    """Without isolation, more processes than a program may have are there before it begins."""
    sleepers = [subprocess.Popen(["sleep", "60"], user=65534) for _ in range(20)]
    try:
        programs = [["def f(x): return x", "assert f(1) == 1"]]
        (verdict,) = run_apart("none", programs, {"PATH": "/usr/bin:/bin"}, is_other=True)
    finally:
        for sleeper in sleepers:
            sleeper.kill()
            sleeper.wait()

    assert verdict[0] == "passed"


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


@pytest.mark.parametrize("backend", [pytest.param(backend, marks=mark_backend(backend)) for backend in ISOLATING])
def test_nothing_is_left_running(backend: Backend) -> None:
    with open_sandbox(backend, LIMITS, workers=1) as opened:
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
