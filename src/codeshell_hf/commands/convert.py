"""Converts a released CodeShell folder (base, chat, 4-bit chat) for current transformers.

codeshell convert path/to/CodeShell-7B-Chat runs/codeshell-7b-chat
codeshell convert WisdomShell/CodeShell-7B runs/codeshell-7b --dtype bfloat16
"""

from collections.abc import Sequence
from pathlib import Path

from ..stages.process import make_parser, run

DTYPES = ("auto", "float32", "float16", "bfloat16")


def main(arguments: Sequence[str] | None = None) -> int:
    """Converts, and prints the checks.

    Returns:
        0 done, 1 the new folder computes other logits, 2 called wrongly.
    """
    parser = make_parser("convert", __doc__)
    parser.add_argument("source", help="a released folder, or its name on the Hub")
    parser.add_argument("output", type=Path, help="folder to write; it must not exist")
    parser.add_argument("--dtype", default="auto", choices=DTYPES, help="of the weights (default: unchanged)")
    parser.add_argument("--max-shard-size", default="5GB", help="largest file of weights (default %(default)s)")
    options = parser.parse_args(arguments)

    def work() -> None:
        from ..publish.conversion import convert

        lines = convert(options.source, options.output, dtype=options.dtype, max_shard_size=options.max_shard_size)
        print(*lines, sep="\n")

    return run("convert", work)
