"""Runs transformers' own commands with CodeShell registered.

`transformers serve` by itself only finds classes of transformers.
"""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..stages.process import make_parser

# Command -> its help text, which needs no import of transformers.
HELP: Mapping[str, str] = MappingProxyType(
    {
        "serve": """Serves a model with transformers' OpenAI-compatible server: /v1/chat/completions, /v1/completions.

codeshell serve runs/nano/publish/model
codeshell serve runs/nano/publish/model --host 0.0.0.0 --port 8000 --device cuda --dtype bfloat16
codeshell chat runs/nano/publish/model http://localhost:8000     chats with it
codeshell transformers serve --help                              prints all options""",
        "transformers": """Runs a command of transformers with CodeShell registered.

codeshell transformers                                           lists the commands
codeshell transformers serve --help                              prints the options of one
codeshell transformers chat runs/nano/publish/model http://localhost:8000""",
    }
)


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


def print_help(name: str) -> None:
    """Prints the help of `codeshell serve` or `codeshell transformers`."""
    parser = make_parser(name, HELP[name])
    if name == "serve":
        parser.add_argument("model", nargs="?", help="a folder with a model and its tokenizer, or its name on the Hub")
    else:
        parser.add_argument("command", nargs="?", help="a command of transformers")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of transformers' command, passed on")
    parser.print_help()
