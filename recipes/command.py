"""What the commands share that are no stage: a parser that shows their own examples, and one line for an error."""

import argparse
import sys
from collections.abc import Callable


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
