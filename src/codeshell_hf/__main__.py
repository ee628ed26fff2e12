"""transformers' own command line, in a process that knows CodeShell.

python -m codeshell_hf serve FOLDER --port 8000
python -m codeshell_hf chat FOLDER http://localhost:8000

`transformers serve` by itself looks classes up among transformers' own and finds none for CodeShell.
"""

import importlib
import sys

from . import CodeShellForCausalLM  # noqa: F401  (registers the models, whose configuration a server may read otherwise)


def main() -> int:
    """Runs transformers' command line.

    Returns:
        2 if what it needs is not installed; otherwise it leaves by itself.
    """
    sys.argv[0] = "transformers"
    try:
        command_line = importlib.import_module("transformers.cli.transformers")
        command_line.main()
    except ImportError as error:
        print(f"codeshell_hf: error: {error}; pip install 'transformers[serving]'", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
