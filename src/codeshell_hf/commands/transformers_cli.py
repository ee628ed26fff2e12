"""Runs transformers' own commands with CodeShell registered.

`transformers serve` by itself only finds classes of transformers.
"""

import argparse
import importlib
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence

from ..stages.process import make_parser

HELP = """Runs a command of transformers with CodeShell registered.

codeshell transformers                                           lists the commands
codeshell transformers serve --help                              prints the options of one
codeshell transformers serve runs/nano/publish/model             serves with transformers' own server
codeshell transformers chat runs/nano/publish/model http://localhost:8000"""


def main(arguments: Sequence[str]) -> int:
    """Runs transformers' command line, which exits itself; returns 2 if a package or a server is missing."""
    if problem := find_problem(arguments):
        print(f"chat: error: {problem}", file=sys.stderr)
        return 2
    from codeshell_hf import CodeShellForCausalLM  # noqa: F401 - registers the models

    sys.argv = ["transformers", *arguments]
    try:
        importlib.import_module("transformers.cli.transformers").main()
    except ImportError as error:
        print(f"codeshell: error: {error}; pip install 'transformers[serving]'", file=sys.stderr)
        return 2
    return 0


def find_problem(arguments: Sequence[str]) -> str | None:
    """What keeps a chat with a server from beginning; `None` if nothing does, or it is another command."""
    addresses = [word for word in arguments if word.startswith(("http://", "https://"))]
    if arguments[:1] != ["chat"] or not addresses or {"-h", "--help"} & set(arguments):
        return None
    if arguments[1] == addresses[0]:
        return f"no model is named; write codeshell chat MODEL {addresses[0]}"
    try:
        urllib.request.urlopen(f"{addresses[0].rstrip('/')}/health", timeout=10).close()  # noqa: S310 - http(s) alone
    except urllib.error.HTTPError:  # it answers
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return f"no server answers at {addresses[0]} ({reason}); codeshell serve {arguments[1]} starts one"
    return None


def print_help() -> None:
    """Prints the help of `codeshell transformers`."""
    parser = make_parser("transformers", HELP)
    parser.add_argument("command", nargs="?", help="a command of transformers")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of transformers' command, passed on")
    parser.print_help()
