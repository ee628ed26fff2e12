"""Runs transformers' own commands with CodeShell registered.

`transformers serve` by itself only finds classes of transformers.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from ..stages.process import make_parser

HELP = """Runs a command of transformers with CodeShell registered.

codeshell transformers                                           lists the commands
codeshell transformers serve --help                              prints the options of one
codeshell transformers serve runs/nano/publish/model             serves with transformers' own server
codeshell transformers chat runs/nano/publish/model http://localhost:8000"""


def main(arguments: Sequence[str]) -> int:
    """Runs transformers' command line, which exits itself; returns 2 if a required package is missing."""
    from codeshell_hf import CodeShellForCausalLM  # noqa: F401 - registers the models

    sys.argv = ["transformers", *arguments]
    try:
        importlib.import_module("transformers.cli.transformers").main()
    except ImportError as error:
        print(f"codeshell: error: {error}; pip install 'transformers[serving]'", file=sys.stderr)
        return 2
    return 0


def print_help() -> None:
    """Prints the help of `codeshell transformers`."""
    parser = make_parser("transformers", HELP)
    parser.add_argument("command", nargs="?", help="a command of transformers")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of transformers' command, passed on")
    parser.print_help()
