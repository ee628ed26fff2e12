"""The table of curation: per language what came in, what stayed, and why the rest fell."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .verdicts import KEPT


@dataclass
class Funnel:
    """Counts by language and verdict. Kept and dropped documents add up to what came in.

    Args:
        documents: How many, by (language, verdict).
        bytes: How many bytes came in, likewise.
        written: How many bytes were written, likewise; less than came in where something was removed or replaced.
        tokens: How many tokens were written, likewise.
    """

    documents: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes: Counter[tuple[str, str]] = field(default_factory=Counter)
    written: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, language: str, verdict: str, documents: int, size: int, written: int, tokens: int) -> None:
        """Counts documents.

        Args:
            language: "unknown" where it is not known.
            verdict: The reason they fell, or "kept".
            documents: How many.
            size: Bytes that came in.
            written: Bytes that were written.
            tokens: Tokens that were written.
        """
        key = (language, verdict)
        self.documents[key] += documents
        self.bytes[key] += size
        self.written[key] += written
        self.tokens[key] += tokens

    def languages(self) -> list[str]:
        """Languages by bytes kept, most first."""
        names = {language for language, _ in self.documents}
        return sorted(names, key=lambda name: (-self.written[name, KEPT], name))

    def reasons(self) -> list[tuple[str, int]]:
        """Reasons with their number of documents, most first."""
        total: Counter[str] = Counter()
        for (_, verdict), count in self.documents.items():
            if verdict != KEPT:
                total[verdict] += count
        return sorted(total.items(), key=lambda item: (-item[1], item[0]))

    def rows(self) -> list[dict[str, Any]]:
        """One row a language: documents and bytes before and after, tokens, shares, and every reason."""
        came = sum(self.bytes.values()) or 1
        stayed = sum(self.written.values()) or 1
        rows = []
        for name in self.languages():
            before = sum(size for (language, _), size in self.bytes.items() if language == name)
            rows.append(
                {
                    "language": name,
                    "documents_before": sum(n for (language, _), n in self.documents.items() if language == name),
                    "bytes_before": before,
                    "share_before": before / came,
                    "documents_after": self.documents[name, KEPT],
                    "bytes_after": self.written[name, KEPT],
                    "tokens_after": self.tokens[name, KEPT],
                    "share_after": self.written[name, KEPT] / stayed,
                    "dropped": {
                        verdict: count
                        for (language, verdict), count in sorted(self.documents.items())
                        if language == name and verdict != KEPT
                    },
                }
            )
        return rows

    def counts(self) -> dict[str, Any]:
        """What the manifest holds: totals, reasons and the rows."""
        return {
            "documents_before": sum(self.documents.values()),
            "bytes_before": sum(self.bytes.values()),
            "documents_after": sum(n for (_, verdict), n in self.documents.items() if verdict == KEPT),
            "bytes_after": sum(self.written.values()),
            "tokens_after": sum(self.tokens.values()),
            "dropped": dict(self.reasons()),
            "languages": self.rows(),
        }


def print_table(funnel: Funnel, *, unit: str = "words", max_rows: int = 20) -> list[str]:
    """The table as fixed-width text, with the sum and the reasons below it.

    Args:
        funnel: The counts.
        unit: What tokens are counted as.
        max_rows: Languages shown; the rest is summed in one row.

    Returns:
        Lines.
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


def _line(name: str, rows: Iterable[dict[str, Any]]) -> str:
    rows = list(rows)
    total = {key: sum(row[key] for row in rows) for key in rows[0] if key not in ("language", "dropped")}
    before = f"{total['documents_before']:>9,}{total['bytes_before'] / 1e6:>9.2f}{total['share_before']:>8.1%}"
    after = f"{total['documents_after']:>9,}{total['tokens_after'] / 1e6:>10.3f}{total['bytes_after'] / 1e6:>9.2f}"
    return f"{name:<18}{before}    {after}{total['share_after']:>8.1%}"
