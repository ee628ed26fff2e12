"""Runs transformers' own commands with CodeShell registered.

`transformers serve` by itself only finds classes of transformers.
"""

import importlib
import sys
from collections.abc import Sequence


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
