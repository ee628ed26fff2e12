"""The `codeshell` command, as `python -m codeshell_hf`."""

import sys

from .commands.main import main

if __name__ == "__main__":
    sys.exit(main())
