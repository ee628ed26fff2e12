"""Compares token shards with the hashes they were written with.

codeshell verify runs/nano/pack/train runs/nano/pack/held-out
"""

from collections.abc import Sequence
from pathlib import Path

from ..stages.process import make_parser, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads every file and prints how many there are; returns 0, or 2 if one is broken."""
    parser = make_parser("verify", __doc__)
    parser.add_argument("shards", type=Path, nargs="+", help="folders of a split, in the output of pack")
    options = parser.parse_args(arguments)

    def work() -> None:
        from ..text.shards import TokenShards

        for folder in options.shards:
            print(f"{folder}: {TokenShards(folder).verify()} files are as they were written")

    return run("verify", work)
