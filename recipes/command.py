"""What the commands share: a quicker start and end; and those that are no stage, a parser that shows their own
examples, and one line for an error.
"""

import argparse
import atexit
import codecs
import contextlib
import gc
import io
import sys
from collections.abc import Callable

RARELY = 50_000  # more objects than before, until garbage is looked for; Python's own 700 is of small programs


def spare_collections() -> None:
    """Has garbage looked for less often, and not once more at the end: what torch and transformers leave when they are
    imported is walked through again and again, and all of it is needed.
    """
    gc.set_threshold(RARELY, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)


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
    spare_collections()
    print_any_text()
    from codeshell_hf.errors import CodeShellError

    try:
        work()
    except CodeShellError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return 0
