"""Thresholds over signals. Every drop has one named reason: the first rule, in order, that a document breaks."""

from dataclasses import dataclass

import daft
from daft import Expression, col

REASONS = ("long-lines", "few-letters", "generated")


@dataclass(frozen=True)
class Rules:
    """Thresholds, `None` where a rule is off.

    Args:
        max_line_bytes: Longest line in bytes.
        max_mean_line: Mean length of a line in characters.
        min_letter_fraction: Share of letters.
        drops_generated: Whether files that say they were generated fall.
        prose: Languages whose long lines are no fault.

    Source:
        bigcode-dataset, `preprocessing/filtering.py`: lines of 1,000 and 100 characters, a quarter of alphanumerics;
        The Stack v2 exempts prose and markup from the rules on lines.
    """

    max_line_bytes: int | None
    max_mean_line: float | None
    min_letter_fraction: float | None
    drops_generated: bool
    prose: tuple[str, ...]


def judge(rules: Rules) -> Expression:
    """Gives the first reason to drop a document.

    Args:
        rules: The thresholds.

    Returns:
        An expression over the columns of signals and `language`: the reason, or null where the document may stay.
    """
    is_code = ~col("language").is_in(list(rules.prose))
    verdicts: list[tuple[str, Expression]] = []
    if rules.max_line_bytes is not None:
        verdicts.append(("long-lines", is_code & (col("longest_line") > rules.max_line_bytes)))
    if rules.max_mean_line is not None:
        verdicts.append(("long-lines", is_code & (col("mean_line") > rules.max_mean_line)))
    if rules.min_letter_fraction is not None:
        verdicts.append(("few-letters", col("letter_fraction") < rules.min_letter_fraction))
    if rules.drops_generated:
        verdicts.append(("generated", col("is_generated")))
    reason = daft.lit(None).cast(daft.DataType.string())
    for name, falls in reversed(verdicts):
        reason = daft.functions.when(falls, daft.lit(name)).otherwise(reason)
    return reason
