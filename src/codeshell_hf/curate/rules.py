"""Thresholds over signals. Every drop has one named reason: the first rule, in order, that a document breaks."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import daft
from daft import DataType, Expression, col


@dataclass(frozen=True)
class Thresholds:
    """What a document must keep within; `None` where a rule is off, and where a signal means nothing it breaks none.

    Args:
        drops_generated: Whether files that say they were generated fall, as "generated".
        drops_scaffolds: Whether what a tool writes into a new project falls, as "scaffold".
        drops_xml: Whether what begins as XML falls, as "xml".
        max_line_bytes: Longest line in bytes, "long-lines".
        max_mean_line: Mean length of a line in characters, "long-lines".
        min_lines: Lines, "few-lines".
        max_lines: Lines, "many-lines".
        min_bytes: Size, "too-small".
        max_bytes: Size, "too-long".
        min_letter_fraction: Share of letters, "few-letters".
        max_digit_fraction: Share of digits, "many-digits".
        max_space_fraction: Share of white space, "white-space".
        max_encoded_fraction: Share of encoded data, "encoded-data".
        max_encoded_bytes: Longest run of encoded data in bytes, "encoded-data".
        max_duplicate_line_fraction: Share of bytes in repeated lines, "repetitive".
        max_header_fraction: Share of lines in a licence header, "mostly-licence".
        min_visible_fraction: Of markup, share that a reader sees, "little-visible-text".
        min_visible_bytes: Of markup, how much that is, "little-visible-text".
        min_comment_fraction: Share of comments, "few-comments".
        max_comment_fraction: Share of comments, "many-comments".
        max_string_fraction: Share of strings, "mostly-strings".
        must_parse: Whether what does not follow its grammar falls, as "syntax-error".
        max_depth: Blocks inside one another, "deep-nesting".
        max_complexity: Mean cyclomatic complexity, "complex".
        max_faults_per_line: What linters find for each line, "many-faults".
        max_security_faults: What ruff's security rules find, "insecure".
        min_preference: The score of all signals, "low-preference".
        min_words: Of prose, words, "few-words".
        min_mean_word: Of prose, mean length of a word, "word-length".
        max_mean_word: Likewise.
        max_symbol_fraction: Of prose, hash signs and ellipses for each word, "symbols".
        max_bullet_fraction: Of prose, share of lines in lists, "lists".
    """

    drops_generated: bool | None = None
    drops_scaffolds: bool | None = None
    drops_xml: bool | None = None
    max_line_bytes: int | None = None
    max_mean_line: float | None = None
    min_lines: int | None = None
    max_lines: int | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None
    min_letter_fraction: float | None = None
    max_digit_fraction: float | None = None
    max_space_fraction: float | None = None
    max_encoded_fraction: float | None = None
    max_encoded_bytes: int | None = None
    max_duplicate_line_fraction: float | None = None
    max_header_fraction: float | None = None
    min_visible_fraction: float | None = None
    min_visible_bytes: int | None = None
    min_comment_fraction: float | None = None
    max_comment_fraction: float | None = None
    max_string_fraction: float | None = None
    must_parse: bool | None = None
    max_depth: int | None = None
    max_complexity: float | None = None
    max_faults_per_line: float | None = None
    max_security_faults: int | None = None
    min_preference: float | None = None
    min_words: int | None = None
    min_mean_word: float | None = None
    max_mean_word: float | None = None
    max_symbol_fraction: float | None = None
    max_bullet_fraction: float | None = None


# rule: (reason, signal). The rule's name says which side of the threshold breaks it.
RULES: dict[str, tuple[str, str]] = {
    "drops_generated": ("generated", "is_generated"),
    "drops_scaffolds": ("scaffold", "is_scaffold"),
    "drops_xml": ("xml", "is_xml"),
    "max_line_bytes": ("long-lines", "longest_line"),
    "max_mean_line": ("long-lines", "mean_line"),
    "min_lines": ("few-lines", "lines"),
    "max_lines": ("many-lines", "lines"),
    "min_bytes": ("too-small", "bytes"),
    "max_bytes": ("too-long", "bytes"),
    "min_letter_fraction": ("few-letters", "letter_fraction"),
    "max_digit_fraction": ("many-digits", "digit_fraction"),
    "max_space_fraction": ("white-space", "space_fraction"),
    "max_encoded_fraction": ("encoded-data", "encoded_fraction"),
    "max_encoded_bytes": ("encoded-data", "longest_encoded"),
    "max_duplicate_line_fraction": ("repetitive", "duplicate_line_fraction"),
    "max_header_fraction": ("mostly-licence", "header_fraction"),
    "min_visible_fraction": ("little-visible-text", "visible_fraction"),
    "min_visible_bytes": ("little-visible-text", "visible_bytes"),
    "min_comment_fraction": ("few-comments", "comment_fraction"),
    "max_comment_fraction": ("many-comments", "comment_fraction"),
    "max_string_fraction": ("mostly-strings", "string_fraction"),
    "must_parse": ("syntax-error", "parses"),
    "max_depth": ("deep-nesting", "depth"),
    "max_complexity": ("complex", "complexity"),
    "max_faults_per_line": ("many-faults", "faults_per_line"),
    "max_security_faults": ("insecure", "security_faults"),
    "min_preference": ("low-preference", "preference"),
    "min_words": ("few-words", "words"),
    "min_mean_word": ("word-length", "mean_word"),
    "max_mean_word": ("word-length", "mean_word"),
    "max_symbol_fraction": ("symbols", "symbol_fraction"),
    "max_bullet_fraction": ("lists", "bullet_fraction"),
}


@dataclass(frozen=True)
class Rules:
    """Thresholds for all languages and for some.

    Args:
        general: For every language.
        by_language: Thresholds that replace the general ones, by language and rule; `None` turns one off there.
        licences: SPDX names that may stay, `None` for all; several under `AND` must all be named.
        allows_unknown_licence: Whether documents of unknown licence may stay where `licences` is given.
        opted_out: Repositories, their owners as `owner/`, and ids of documents whose authors do not want them used.
    """

    general: Thresholds
    by_language: Mapping[str, Mapping[str, Any]]
    licences: tuple[str, ...] | None = None
    allows_unknown_licence: bool = False
    opted_out: tuple[str, ...] = ()

    def find_threshold(self, rule: str, language: str) -> Any:
        """The threshold of a rule for a language.

        Args:
            rule: A field of `Thresholds`.
            language: A key of `LANGUAGES`.

        Returns:
            Its value, `None` where the rule is off.
        """
        return self.by_language.get(language, {}).get(rule, getattr(self.general, rule))


def judge(rules: Rules) -> Expression:
    """Gives the first reason to drop a document.

    Args:
        rules: The thresholds.

    Returns:
        An expression over the columns of signals, `language`, `licence`, `repository` and `id`: the reason, or null
        where the document may stay.
    """
    verdicts = [*_judge_rights(rules)]
    for field in fields(Thresholds):
        reason, _ = RULES[field.name]
        falls = _break(field.name, rules)
        if falls is not None:
            verdicts.append((reason, falls))
    result = daft.lit(None).cast(DataType.string())
    for name, falls in reversed(verdicts):
        result = daft.functions.when(falls.fill_null(daft.lit(False)), daft.lit(name)).otherwise(result)  # noqa: FBT003
    return result


def _break(rule: str, rules: Rules) -> Expression | None:
    """Whether a document breaks a rule; `None` where the rule is off for every language."""
    signal = _signal(RULES[rule][1])
    special = {name: own[rule] for name, own in rules.by_language.items() if rule in own}
    general = getattr(rules.general, rule)
    parts = []
    if general is not None and general is not False:
        falls = _compare(rule, signal, general)
        parts.append(~col("language").is_in(list(special)) & falls if special else falls)
    for value in sorted({repr(value) for value in special.values() if value is not None and value is not False}):
        languages = [name for name, own in special.items() if repr(own) == value]
        parts.append(col("language").is_in(languages) & _compare(rule, signal, special[languages[0]]))
    if not parts:
        return None
    falls = parts[0]
    for part in parts[1:]:
        falls = falls | part
    return falls


def _signal(name: str) -> Expression:
    if name == "faults_per_line":
        found = col("faults").fill_null(0) + col("syntax_faults").fill_null(0) + col("style_faults")
        return found / col("lines")
    return col(name)


def _compare(rule: str, signal: Expression, threshold: Any) -> Expression:
    if rule.startswith("drops_"):
        return signal
    if rule == "must_parse":
        return ~signal
    return signal < daft.lit(threshold) if rule.startswith("min_") else signal > daft.lit(threshold)


def _judge_rights(rules: Rules) -> list[tuple[str, Expression]]:
    verdicts: list[tuple[str, Expression]] = []
    if rules.opted_out:
        names = [name for name in rules.opted_out if not name.endswith("/")]
        owners = [name for name in rules.opted_out if name.endswith("/")]
        opted = col("repository").is_in(names) | col("id").is_in(names) if names else daft.lit(False)  # noqa: FBT003
        for owner in owners:
            opted = opted | col("repository").startswith(owner) | col("repository").contains(f"/{owner}")
        # A document of no repository has not opted out.
        verdicts.append(("opted-out", opted.fill_null(daft.lit(False)) | col("id").is_in(names)))  # noqa: FBT003
    if rules.licences is not None:
        allowed = list(rules.licences)

        @daft.func(return_dtype=DataType.bool())
        def is_refused(licence: str | None) -> bool:
            if licence is None:
                return not rules.allows_unknown_licence
            return not all(name.strip("() ") in allowed for name in licence.replace(" OR ", " AND ").split(" AND "))

        verdicts.append(("licence", is_refused(col("licence"))))
    return verdicts
