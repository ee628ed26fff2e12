"""What the commands share: a quick start and end, and threads that give way; and what those share that are no stage: a
parser that shows their own examples, and one line for an error.
"""

import argparse
import atexit
import codecs
import contextlib
import ctypes
import gc
import io
import os
import sys
from collections.abc import Callable

RARELY = 50_000  # more objects than before, until garbage is looked for; Python's own 700 is of small programs
# glibc's mallopt(3): map no block by itself, never trim, grow the heap by 256 MiB.
MALLOC_OPTIONS = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 1 << 28)}


def prepare_process() -> None:
    """Spares what costs much and gives little: searches for garbage, and waiting that keeps a processor busy.

    What torch and transformers leave when they are imported is walked through again and again, and all of it is needed.
    And a thread that spins while it waits for another takes that one's time wherever something else computes as well:
    beside one busy process a step of nano on two processors takes four times as long. torch's OpenMP reads this once,
    when it is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    write_progress_rarely()
    gc.set_threshold(RARELY, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)


def keep_freed_memory() -> None:
    """Has the C library keep what is freed.

    glibc gives large blocks back to the kernel after each training step and asks for them again, which is a third of a
    small model's step on a CPU. Other C libraries are left as they are.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc; on Windows there is no library without a name
        return
    for option, value in MALLOC_OPTIONS.values():
        set_option(option, value)


def write_progress_rarely() -> None:
    """Writes bars to a log every ten seconds only; call it before tqdm is imported."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "10")


def print_any_text() -> None:
    """Has letters that the console lacks printed as question marks: Windows' pipes lack most, and would end the run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            with contextlib.suppress(OSError):  # a file that became a pipe on the way cannot be changed
                stream.reconfigure(errors="replace")


def make_parser(name: str, text: str | None) -> argparse.ArgumentParser:
    """Makes a command's parser.

    Args:
        name: Its module under `recipes`.
        text: Its docstring: what it does, and examples.

    Returns:
        The parser, without arguments.
    """
    return argparse.ArgumentParser(
        prog=f"python -m recipes.{name}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run(name: str, work: Callable[[], None]) -> int:
    """Does a command's work.

    Args:
        name: Its module, for messages.
        work: What it does; it prints what came of it.

    Returns:
        0 done, 1 failed, 2 called wrongly, 130 stopped by Ctrl-C.
    """
    prepare_process()
    print_any_text()
    from ..errors import CodeShellError

    try:
        work()
    except CodeShellError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return 0
