"""The Python that forks runs programs as Python does, and has the imports behind it."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.warm import warm_python

PROGRAM = """
import os, sys
print("torch" in sys.modules, "codeshell_hf" in sys.modules, os.getcwd(), sys.argv[1:], os.environ["WORD"], input())
print("told", file=sys.stderr)
sys.exit({end})
"""


def run(folder: Path, end: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(PROGRAM.format(end=end))
    python, given = warm_python(os.environ), {**os.environ, "WORD": "green", **environment}
    return subprocess.run(
        [python, "program.py", "a b", "c"],
        cwd=folder, env=given, input="given\n", capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        ("0", 0, "told\n"),
        ("None", 0, "told\n"),
        ("7", 7, "told\n"),
        ("'why'", 1, "told\nwhy\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("os.abort()", -signal.SIGABRT, "told\n"),
    ],
)
def test_programs_find_what_python_gives_them_and_end_as_they_would(
    tmp_path: Path, end: str, code: int, told: str
) -> None:
    done = run(tmp_path, end)

    assert done.returncode == code
    assert done.stderr.endswith(told)
    if not end.startswith("os."):
        assert done.stdout == f"True False {tmp_path} ['a b', 'c'] green given\n"


def test_other_variables_that_imports_read_start_afresh(tmp_path: Path) -> None:
    done = run(tmp_path, "0", HF_ENDPOINT="http://127.0.0.1:1")

    assert done.stdout.startswith("False False ")


def test_a_program_ends_with_whoever_asked_for_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(100)")
    process = subprocess.Popen([warm_python(os.environ), "program.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    program = psutil.Process(int(process.stdout.readline()))

    process.kill()
    process.wait(timeout=60)

    with suppress(psutil.NoSuchProcess):
        program.wait(timeout=60)
    assert not program.is_running()
