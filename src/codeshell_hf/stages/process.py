"""Set-up of all commands' processes: garbage collection, sleeping threads, a parser, one-line errors."""

import argparse
import atexit
import codecs
import contextlib
import ctypes
import gc
import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable

GC_THRESHOLD = 50_000  # new objects until a garbage collection; Python's default is 700
# glibc's mallopt(3): never use mmap for a block, never trim, grow the heap by 256 MiB.
MALLOC_OPTIONS = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 1 << 28)}


def prepare_process() -> None:
    """Makes garbage collections rare and lets waiting threads sleep; call it before torch is imported.

    A collection visits all objects of torch and transformers, none of which is garbage. A thread that spins while it
    waits takes time from others: beside one busy process, nano's training step on two processors takes 1.4 times as
    long (`benchmarks/threads.py`). OpenMP reads its wait policy once, when it is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    write_progress_rarely()
    logging.getLogger("DeepSpeed").addFilter(is_told)
    # TRL 1.16 asks transformers by a name that is going; whoever trains can do nothing about it.
    warnings.filterwarnings("ignore", r"`is_gradient_checkpointing` is deprecated", FutureWarning)
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)


def is_told(record: logging.LogRecord) -> bool:
    """Whether a line of DeepSpeed's log is shown; transformers imports it where it is installed, also without a GPU."""
    return not record.getMessage().startswith("Setting accelerator to CPU")


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory; other C libraries are not changed.

    By default it returns large blocks to the kernel after each training step and requests them again, which takes a
    third of a small model's step on a CPU.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc; Windows cannot open the process itself as a library
        return
    for option, value in MALLOC_OPTIONS.values():
        set_option(option, value)


def write_progress_rarely() -> None:
    """Limits progress bars in log files to one line every ten seconds; call it before tqdm is imported."""
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_MININTERVAL", "10")


def print_any_text() -> None:
    """Prints characters that the console cannot encode as question marks, instead of failing, as on Windows' pipes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            with contextlib.suppress(OSError):  # a stream that was replaced by a pipe cannot be reconfigured
                stream.reconfigure(errors="replace")


def make_parser(name: str, text: str | None) -> argparse.ArgumentParser:
    """Makes the parser of `codeshell NAME`; `text` is the module's docstring, with examples."""
    return argparse.ArgumentParser(
        prog=f"codeshell {name}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def run(name: str, work: Callable[[], None]) -> int:
    """Runs a command's work, and prints this package's errors as one line.

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
    except ModuleNotFoundError as error:
        if (line := explain_missing_package(error)) is None:
            raise
        print(f"{name}: error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return 0


def explain_missing_package(error: ModuleNotFoundError) -> str | None:
    """One line with the extra that installs a package; `None` if no extra does."""
    import importlib.metadata

    package = (error.name or "").partition(".")[0].replace("_", "-").lower()
    try:
        lines = importlib.metadata.requires("codeshell-hf") or []
    except importlib.metadata.PackageNotFoundError:  # run from its source
        return None
    for line in lines:
        found = re.match(r"""([\w.-]+).*;.*extra == ["']([\w-]+)["']""", line)
        if found and package and found[1].replace("_", "-").lower() == package:
            return f"{error.name} is not installed; pip install 'codeshell-hf[{found[2]}]', or [all] for every stage"
    return None
