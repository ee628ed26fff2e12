"""How processes are set up: memory that is kept, threads that sleep."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from codeshell_hf.errors import DataError, RunFailed
from codeshell_hf.stages import process

ROOT = Path(__file__).parents[2]


def test_memory_options_are_those_of_malloc_h(tmp_path: Path) -> None:
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("the C library is not glibc")
    names = [f'printf("%d ", {name});' for name in process.MALLOC_OPTIONS]
    (tmp_path / "names.c").write_text(f"#include <malloc.h>\n#include <stdio.h>\nint main() {{{''.join(names)}}}\n")
    built = subprocess.run(["cc", "names.c", "-o", "names"], cwd=tmp_path, capture_output=True, check=False)
    if built.returncode:
        pytest.skip("there is no C compiler")

    printed = subprocess.run([tmp_path / "names"], capture_output=True, text=True, check=True).stdout

    assert [int(number) for number in printed.split()] == [number for number, _ in process.MALLOC_OPTIONS.values()]


@pytest.mark.skipif(sys.platform != "linux", reason="faults are counted as Linux counts them")
def test_freed_memory_is_kept() -> None:
    """Blocks of 64 MiB that come and go fault in anew each time, unless the C library keeps them."""
    program = (
        "import ctypes, resource, sys; from codeshell_hf.stages import process\n"
        "if sys.argv[1] == 'keep': process.keep_freed_memory()\n"
        "c = ctypes.CDLL(None); c.malloc.restype = ctypes.c_void_p; c.free.argtypes = [ctypes.c_void_p]\n"
        "for turn in range(10):\n"
        "    block = c.malloc(1 << 26); ctypes.memset(block, 1, 1 << 26); c.free(block)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)"
    )

    def count(word: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", program, word], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("the C library is not glibc")
    assert count("keep") < count("leave") / 3


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (None, 0, ""),
        (DataError("no such file; name one"), 2, "merge: error: no such file; name one\n"),
        (RunFailed("the loss is nan"), 1, "merge: error: the loss is nan\n"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_a_command_ends_with_the_code_of_its_error_and_one_line(
    raised: BaseException | None, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        if raised is not None:
            raise raised

    assert process.run("merge", work) == code
    assert capsys.readouterr().err == said


def test_a_fault_of_our_own_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        process.run("merge", lambda: print(1 / 0))
