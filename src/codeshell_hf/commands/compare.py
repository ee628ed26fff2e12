"""Compares training runs on one page: curves on held-out documents, and scores.

codeshell compare random/pretrain quality/pretrain --output comparison.html
codeshell compare random/pretrain quality/pretrain --scores evaluate --output comparison.html
"""

from collections.abc import Sequence
from pathlib import Path

from ..stages.process import make_parser, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the page and prints the scores; returns 0, or 2 if called wrongly."""
    parser = make_parser("compare", __doc__)
    parser.add_argument(
        "runs", type=Path, nargs="+", help="output folders of pretrain, named after their parent folders"
    )
    parser.add_argument("--scores", type=Path, help="output of evaluate over the same models")
    parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
    options = parser.parse_args(arguments)

    def work() -> None:
        from ..publish.comparison import compare_runs

        print(*compare_runs(options.runs, options.scores, options.output), f"wrote {options.output}", sep="\n")

    return run("compare", work)
