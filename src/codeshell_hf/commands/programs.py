"""Writes an evaluation's answers as complete programs, in the format of another harness.

codeshell programs runs/nano/evaluate.kept/humaneval-base-0123456789ab.jsonl --data humaneval.jsonl \
    --layout bigcode --output generations.json
"""

from collections.abc import Sequence
from pathlib import Path

from ..stages.process import make_parser, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file; returns 0, or 2 if called wrongly."""
    parser = make_parser("programs", __doc__)
    parser.add_argument("answers", type=Path, help="a file of answers in evaluate's folder OUTPUT.kept")
    parser.add_argument("--data", required=True, help="the benchmark, as in evaluate's settings")
    parser.add_argument("--layout", choices=["bigcode", "evalplus", "coderujb"], required=True)
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    options = parser.parse_args(arguments)

    def export() -> None:
        from ..evaluate.completions import export_programs

        print(export_programs(options.answers, options.data, options.output, options.layout))

    return run("programs", export)
