"""Thresholds over signals. Every dropped document has one reason: the first rule, in order, that it breaks."""

from collections.abc import Mapping

import daft
from daft import DataType, Expression, col

from ..errors import SettingsError
from ..extensions import load_object
from .rights import judge_rights
from .settings import Rights, Rules, Threshold

# Rule: (reason, signal), in order. min_ or max_ in the name says which side of the threshold breaks the rule.
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


def judge(rules: Rules, rights: Rights) -> Expression:
    """An expression for the first reason to drop a document, or null if it stays.

    It uses the columns of signals, `language`, `licence`, `source`, `repository` and `id`.
    """
    verdicts = judge_rights(rights)
    for rule, (reason, _) in RULES.items():
        broken = _break(rule, rules)
        if broken is not None:
            verdicts.append((reason, broken))
    verdicts += [load_rule(reference) for reference in rules.custom]
    result = daft.lit(None).cast(DataType.string())
    for name, broken in reversed(verdicts):
        result = daft.functions.when(broken.fill_null(daft.lit(False)), daft.lit(name)).otherwise(result)  # noqa: FBT003
    return result


def explain(rules: Rules, reason: str, row: Mapping[str, object]) -> tuple[float | None, float | None]:
    """The value and the threshold of the first rule with a reason that a document breaks; `None` for a user's rules.

    Args:
        row: The document's language and signals. Of a signal that is true or false, the value is 1 or 0.
    """
    own = (rules.by_language or {}).get(str(row["language"])) or {}
    for rule, (name, signal) in RULES.items():
        threshold: Threshold = own.get(rule, getattr(rules, rule))
        value = _count_faults(row) if signal == "faults_per_line" else row.get(signal)
        if name != reason or threshold is None or threshold is False or not isinstance(value, bool | int | float):
            continue
        bound = float(rule == "must_parse") if threshold is True else float(threshold)
        is_least = rule.startswith("min_") or rule == "must_parse"
        if (value < bound) if is_least else (value > bound):
            return float(value), bound
    return None, None


def _count_faults(row: Mapping[str, object]) -> float:
    faults, syntax, style, lines = (row.get(name) for name in ("faults", "syntax_faults", "style_faults", "lines"))
    found = sum(count for count in (faults, syntax, style) if isinstance(count, int))
    return found / lines if isinstance(lines, int) and lines else 0.0


def load_rule(reference: str) -> tuple[str, Expression]:
    """Loads a user's rule: a function that returns a reason, and an expression for the documents to drop.

    Raises:
        SettingsError: If it is anything else.
    """
    rule = load_object(reference)
    try:
        made = rule() if callable(rule) else rule
    except Exception as error:
        raise SettingsError(f"{reference} failed: {type(error).__name__}: {error}; fix it and run again") from error
    if isinstance(made, tuple) and len(made) == 2:
        reason, broken = made
        if isinstance(reason, str) and isinstance(broken, Expression):
            return reason, broken
    raise SettingsError(f"{reference} gives {made!r}; make it a function that returns a reason and a Daft expression")


def _break(rule: str, rules: Rules) -> Expression | None:
    """Whether a document breaks a rule; `None` if the rule is off for every language."""
    signal = _signal(RULES[rule][1])
    special = {name: own[rule] for name, own in (rules.by_language or {}).items() if own and rule in own}
    general: Threshold = getattr(rules, rule)
    parts = []
    if general is not None and general is not False:
        broken = _compare(rule, signal, general)
        parts.append(~col("language").is_in(list(special)) & broken if special else broken)
    for value in sorted({repr(value) for value in special.values() if value is not None and value is not False}):
        languages = [name for name, own in special.items() if repr(own) == value]
        parts.append(col("language").is_in(languages) & _compare(rule, signal, special[languages[0]]))
    if not parts:
        return None
    broken = parts[0]
    for part in parts[1:]:
        broken = broken | part
    return broken


def _signal(name: str) -> Expression:
    if name == "faults_per_line":
        faults = col("faults").fill_null(0) + col("syntax_faults").fill_null(0) + col("style_faults")
        return faults / col("lines")
    return col(name)


def _compare(rule: str, signal: Expression, threshold: Threshold) -> Expression:
    if rule.startswith("drops_"):
        return signal
    if rule == "must_parse":
        return ~signal
    return signal < daft.lit(threshold) if rule.startswith("min_") else signal > daft.lit(threshold)
