"""Fills in code at a position in a file.

codeshell complete recipes/merge.py:20                     with the tiny model that comes with the package
codeshell complete runs/nano/publish/model recipes/merge.py:20
codeshell complete runs/nano/publish/model recipes/merge.py:20:5 --temperature 0.8 --count 3
codeshell complete runs/nano/publish/model scratch.py:7 --write
"""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..stages.process import make_parser, run
from .terminal import add_options, load, make_sampling, print_speed, use_bundled

PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?")
COLOURS = {"+": "\033[32m", "-": "\033[31m", "@": "\033[36m"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Completes once or several times; returns 0, or 2 if called wrongly."""
    parser = make_parser("complete", __doc__)
    parser.add_argument(
        "folder", nargs="?", help="a model with fill-in-the-middle, or its name on the Hub; by default a tiny one"
    )
    parser.add_argument("place", help="FILE:LINE, the end of that line, or FILE:LINE:COLUMN, both counted from 1")
    parser.add_argument("--count", type=int, default=1, metavar="N", help="number of completions (default 1)")
    parser.add_argument("--line", action="store_true", help="stop at the end of the line")
    parser.add_argument("--write", action="store_true", help="write into the file; otherwise a diff is printed")
    add_options(parser, max_new_tokens=64)
    options = parser.parse_intermixed_args(arguments)  # FOLDER --line PLACE, as well as PLACE alone
    return run("complete", lambda: complete(options))


def complete(options: argparse.Namespace) -> None:
    """Fills in code at a position in a file, and prints a diff or writes the file.

    Raises:
        SettingsError: If options contradict each other or the model.
        DataError: If there is no such position, or the file cannot be written.
    """
    from ..errors import SettingsError

    if options.count < 1 or (options.count > 1 and (options.write or not options.temperature)):
        raise SettingsError(
            f"--count is {options.count}; set 1 or more, and for more than 1 also --temperature and no --write"
        )
    path, text, offset = read_place(options.place)
    folder = use_bundled(options.folder, f"codeshell complete WisdomShell/CodeShell-7B {options.place}")
    model, tokenizer = load(folder, options)
    from ..text.stream import stream

    positions = model.config.n_positions
    room = positions - options.max_new_tokens
    if room < 8:
        raise SettingsError(
            f"--max-new-tokens is {options.max_new_tokens}, the model has {positions} positions; lower it"
        )
    try:
        prompt = tokenizer.encode_infilling(text[:offset], text[offset:], max_tokens=room)
    except ValueError as error:
        raise SettingsError(f"{folder}: {error}") from error
    # A model that was tuned on conversations may end an infill as it ends a turn.
    stops = (*tokenizer.stop_strings, *(("\n",) if options.line else ()))
    sampling = replace(make_sampling(options), stops=stops)
    for number in range(options.count):
        seed = None if sampling.seed is None else sampling.seed + number
        written = stream(model, tokenizer, prompt, replace(sampling, seed=seed))
        completed = text[:offset] + written.text + text[offset:]
        if options.write:
            replace_file(path, completed)
            print(f"wrote {len(written.text)} characters into {options.place}")
        else:
            print_diff(path, text, completed)
        print_speed(written)


def read_place(place: str) -> tuple[Path, str, int]:
    """Parses FILE:LINE or FILE:LINE:COLUMN: the file, its text, and the number of characters before the position.

    Raises:
        SettingsError: If it is malformed.
        DataError: If the file has no such position, or is not text.
    """
    from ..errors import DataError, SettingsError

    found = PLACE.fullmatch(place)
    if not found:
        raise SettingsError(f"{place} is not a position; write FILE:LINE or FILE:LINE:COLUMN")
    path, number = Path(found["file"]), int(found["line"])
    try:
        with path.open(encoding="utf-8", newline="") as file:  # keeps line ends
            text = file.read()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; name a text file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 ({error}); name a text file") from error
    lines = [f"{line}\n" for line in text.split("\n")]  # as editors count them
    if not 1 <= number <= len(lines):
        raise DataError(f"{path} has {len(lines)} lines, not a line {number}; name one of them")
    line = lines[number - 1].rstrip("\r\n")
    column = len(line) + 1 if found["column"] is None else int(found["column"])
    if not 1 <= column <= len(line) + 1:
        raise DataError(f"line {number} of {path} has columns 1 to {len(line) + 1}, not {column}")
    return path, text, sum(map(len, lines[: number - 1])) + column - 1


def print_diff(path: Path, before: str, after: str) -> None:
    """Prints a diff of a file's text, coloured on a terminal."""
    has_colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), f"a/{path}", f"b/{path}", lineterm="")
    for line in lines:
        colour = COLOURS.get(line[:1]) if has_colours and not line.startswith(("+++", "---")) else None
        print(f"{colour}{line}\033[0m" if colour else line)
    if before == after:
        print(f"the model writes nothing at this position in {path}")


def replace_file(path: Path, text: str) -> None:
    """Replaces a file's text atomically, with its mode and line ends; a `DataError` if it cannot be written."""
    from ..errors import DataError

    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
        partial.chmod(path.stat().st_mode)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written ({error.strerror}); nothing was changed") from error
