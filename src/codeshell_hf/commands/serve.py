"""transformers' own commands, in a process in which CodeShell is registered.

`transformers serve` by itself looks classes up among transformers' own and finds none for CodeShell.
"""

import importlib
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Runs transformers' command line, which exits by itself; returns 2 if a package that it needs is missing."""
    from codeshell_hf import CodeShellForCausalLM  # noqa: F401 - registers the models

    sys.argv = ["transformers", *arguments]
    try:
        importlib.import_module("transformers.cli.transformers").main()
    except ImportError as error:
        print(f"codeshell: error: {error}; pip install 'transformers[serving]'", file=sys.stderr)
        return 2
    return 0
