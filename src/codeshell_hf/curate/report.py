"""The results of a run: counts by language before and after, reasons of drops, histograms, examples."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from .verdicts import KEPT

Histogram = list[list[int]]  # by bin, counts of kept and of dropped documents
Measure = int | dict[str, int] | dict[str, float] | dict[str, str | float]


class LanguageRow(TypedDict):
    """A language before and after."""

    language: str
    documents_before: int
    bytes_before: int
    share_before: float
    documents_after: int
    bytes_after: int
    tokens_after: int
    share_after: float
    dropped: dict[str, int]


class FunnelCounts(TypedDict):
    """Totals, reasons and languages, for the manifest."""

    documents_before: int
    bytes_before: int
    documents_after: int
    bytes_after: int
    tokens_after: int
    dropped: dict[str, int]
    languages: list[LanguageRow]


class Example(TypedDict):
    """The start of a dropped document."""

    id: str
    language: str | None
    bytes: int
    start: str


@dataclass
class Funnel:
    """Counts by language and verdict. Kept and dropped documents add up to what came in.

    Args:
        bytes: Of the input.
        written: Bytes of the output; fewer if text was removed or replaced.
        tokens: Of the output.
    """

    documents: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes: Counter[tuple[str, str]] = field(default_factory=Counter)
    written: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, language: str, verdict: str, documents: int, size: int, written: int, tokens: int) -> None:
        """Counts documents; `verdict` is the reason they were dropped, or "kept"."""
        key = (language, verdict)
        self.documents[key] += documents
        self.bytes[key] += size
        self.written[key] += written
        self.tokens[key] += tokens

    def languages(self) -> list[str]:
        """Languages, those with the most kept bytes first."""
        names = {language for language, _ in self.documents}
        return sorted(names, key=lambda name: (-self.written[name, KEPT], name))

    def reasons(self) -> list[tuple[str, int]]:
        """Reasons with their number of documents, the most frequent first."""
        total: Counter[str] = Counter()
        for (_, verdict), count in self.documents.items():
            if verdict != KEPT:
                total[verdict] += count
        return sorted(total.items(), key=lambda item: (-item[1], item[0]))

    def rows(self) -> list[LanguageRow]:
        """One row per language: documents and bytes before and after, tokens, shares, and every reason."""
        all_before = sum(self.bytes.values()) or 1
        all_after = sum(self.written.values()) or 1
        rows: list[LanguageRow] = []
        for name in self.languages():
            before = sum(size for (language, _), size in self.bytes.items() if language == name)
            rows.append(
                {
                    "language": name,
                    "documents_before": sum(n for (language, _), n in self.documents.items() if language == name),
                    "bytes_before": before,
                    "share_before": before / all_before,
                    "documents_after": self.documents[name, KEPT],
                    "bytes_after": self.written[name, KEPT],
                    "tokens_after": self.tokens[name, KEPT],
                    "share_after": self.written[name, KEPT] / all_after,
                    "dropped": {
                        verdict: count
                        for (language, verdict), count in sorted(self.documents.items())
                        if language == name and verdict != KEPT
                    },
                }
            )
        return rows

    def counts(self) -> FunnelCounts:
        """Totals, reasons and rows."""
        return {
            "documents_before": sum(self.documents.values()),
            "bytes_before": sum(self.bytes.values()),
            "documents_after": sum(n for (_, verdict), n in self.documents.items() if verdict == KEPT),
            "bytes_after": sum(self.written.values()),
            "tokens_after": sum(self.tokens.values()),
            "dropped": dict(self.reasons()),
            "languages": self.rows(),
        }


@dataclass
class Outcome:
    """The results of a run.

    Args:
        histograms: By signal.
        examples: Up to three documents for each reason.
        placeholders: Number of replacements by each.
        steps: Documents left after each step, in order.
        measures: Measures of single steps.
    """

    funnel: Funnel = field(default_factory=Funnel)
    histograms: dict[str, Histogram] = field(default_factory=dict)
    examples: dict[str, list[Example]] = field(default_factory=dict)
    placeholders: dict[str, int] = field(default_factory=dict)
    steps: list[tuple[str, int]] = field(default_factory=list)
    measures: dict[str, Measure] = field(default_factory=dict)


def print_table(funnel: Funnel, *, unit: str = "words", max_rows: int = 20) -> list[str]:
    """The table as fixed-width lines, with totals and reasons; beyond `max_rows`, languages share one row.

    `unit` names what is counted as tokens.
    """
    head = f"{'language':<18}{'files':>9}{'MB':>9}{'share':>8}  ->{'files':>9}{'M ' + unit:>10}{'MB':>9}{'share':>8}"
    rows = [row for row in funnel.rows() if row["documents_after"]]
    rest = [row for row in funnel.rows() if not row["documents_after"]]
    lines = [head, *(_line(row["language"], [row]) for row in rows[:max_rows])]
    if remaining := rows[max_rows:] + rest:
        lines.append(_line(f"{len(remaining)} others", remaining))
    lines.append(_line("all", [*rows, *rest]))
    counts = funnel.counts()
    reasons = " | ".join(f"{name} {count:,}" for name, count in funnel.reasons())
    lines.append(f"kept {counts['documents_after']:,} of {counts['documents_before']:,} | {reasons}")
    return lines


def _line(name: str, rows: Sequence[LanguageRow]) -> str:
    before = (
        f"{sum(row['documents_before'] for row in rows):>9,}{sum(row['bytes_before'] for row in rows) / 1e6:>9.2f}"
        f"{sum(row['share_before'] for row in rows):>8.1%}"
    )
    after = (
        f"{sum(row['documents_after'] for row in rows):>9,}{sum(row['tokens_after'] for row in rows) / 1e6:>10.3f}"
        f"{sum(row['bytes_after'] for row in rows) / 1e6:>9.2f}{sum(row['share_after'] for row in rows):>8.1%}"
    )
    return f"{name:<18}{before}    {after}"
