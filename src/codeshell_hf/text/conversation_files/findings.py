"""What a reader found: counts by form and reason, fields that nothing uses, and rows that are refused."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import DataError

NAMED_ROWS = 5  # bad rows that are listed in full


@dataclass
class Findings:
    """Counts of rows.

    Args:
        forms: Rows read, by form.
        dropped: Rows that are right and not used, by reason.
        changed: What was changed in rows that are used.
        unused: Rows with a value in a field that nothing uses, by its name.
        bad_rows: Number of refused rows.
        named: What is wrong with the first of them, with file and line.
        left_out: Files and splits that were not read.
    """

    forms: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    bad_rows: int = 0
    named: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def dump(self) -> dict[str, object]:
        """The fields as JSON keeps them; `asdict` loses the keys of a `Counter`."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> "Findings":
        """Findings of what `dump` gives."""
        forms, dropped, changed, unused = (Counter(values[name]) for name in ("forms", "dropped", "changed", "unused"))
        return cls(forms, dropped, changed, unused, values["bad_rows"], values["named"], values["left_out"])

    def refuse(self, error: DataError) -> None:
        """Counts a bad row."""
        self.bad_rows += 1
        if len(self.named) < NAMED_ROWS:
            self.named.append(str(error))

    def extend(self, other: "Findings") -> None:
        """Adds the findings of further rows."""
        self.forms += other.forms
        self.dropped += other.dropped
        self.changed += other.changed
        self.unused += other.unused
        self.bad_rows += other.bad_rows
        self.named = [*self.named, *other.named][:NAMED_ROWS]
        self.left_out += other.left_out

    def check(self, max_bad_rows: int, *, before: int = 0) -> None:
        """Raises `DataError` if more rows are bad than allowed; `before` counts those of places before."""
        if self.bad_rows and self.bad_rows + before > max_bad_rows:
            number = self.bad_rows + before
            counted = f"; {number} rows are bad, and max_bad_rows is {max_bad_rows}" if max_bad_rows else ""
            raise DataError(f"{self.named[0]}{counted}")

    def describe(self) -> list[str]:
        """Lines for the log: forms, what was dropped, changed and not used, and the first bad rows."""
        lines = [f"rows by form: {_list_names(self.forms)}" if self.forms else "read no row"]
        if self.dropped:
            lines.append(f"dropped {_list(self.dropped)}")
        if self.changed:
            lines.append(f"changed {_list(self.changed)}")
        if self.unused:
            lines.append(f"fields that nothing uses: {_list_names(self.unused)}")
        if self.left_out:
            lines.append(f"not read: {', '.join(self.left_out)}")
        if self.bad_rows:
            more = f" and {self.bad_rows - len(self.named)} more" if self.bad_rows > len(self.named) else ""
            lines.append(f"{count_bad(self.bad_rows)} left out: {' | '.join(self.named)}{more}")
        return lines

    def as_counts(self) -> dict[str, object]:
        """For a stage's manifest."""
        return {
            "forms": dict(self.forms),
            "dropped": dict(self.dropped),
            "changed": dict(self.changed),
            "unused_fields": dict(self.unused),
            "bad_rows": self.bad_rows,
            "first_bad_rows": list(self.named),
        }

    def explain_nothing(self) -> str:
        """Why nothing is left of rows, in brackets."""
        reasons = [f"{count} {reason}" for reason, count in self.dropped.items()]
        reasons += [f"{count_bad(self.bad_rows)}, the first: {self.named[0]}"] if self.bad_rows else []
        return f"({'; '.join(reasons)})" if reasons else "(it has no rows)"


def count_bad(number: int) -> str:
    """A number of bad rows in words."""
    return f"{number:,} bad row{'' if number == 1 else 's'}"


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


def _list_names(counts: Counter[str]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.most_common())
