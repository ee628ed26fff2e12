"""Thresholds over signals. Every dropped document has one reason: the first rule, in order, that it breaks."""

from collections.abc import Mapping, Sequence

import daft
from daft import DataType, Expression, col

from ..errors import SettingsError
from ..extensions import load_object
from .examination import EXAMINED_SIGNALS
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


# Rules that need the parser or a linter, which only see what the others and duplicates leave.
EXAMINED_RULES = tuple(rule for rule, (_, signal) in RULES.items() if signal in {*EXAMINED_SIGNALS, "faults_per_line"})
Verdict = tuple[str, Expression]


def judge(rules: Rules, rights: Rights) -> Expression:
    """An expression for the first reason to drop a document, or null if it stays.

    It uses the columns of signals, `language`, `licence`, `source`, `repository` and `id`.
    """
    custom = [load_rule(reference) for reference in rules.custom]
    examined = judge_examined(rules, custom)
    cheap = judge_cheaply(rules, rights, [])
    return cheap if examined is None else daft.functions.coalesce(cheap, examined)


def judge_cheaply(rules: Rules, rights: Rights, custom: Sequence[Verdict]) -> Expression:
    """As `judge`, by rights, the rules that need neither parser nor linter, and those of a user that do not either."""
    cheap = [rule for rule in RULES if rule not in EXAMINED_RULES]
    return _find_first([*judge_rights(rights), *_list_broken(cheap, rules), *custom])


def judge_examined(rules: Rules, custom: Sequence[Verdict]) -> Expression | None:
    """As `judge`, by the other rules; `None` if there is none."""
    verdicts = [*_list_broken(EXAMINED_RULES, rules), *custom]
    return _find_first(verdicts) if verdicts else None


def split_custom(rules: Rules, measured: daft.DataFrame) -> tuple[list[Verdict], list[Verdict]]:
    """A user's rules: those that the columns of measured documents suffice for, and the others.

    Raises:
        SettingsError: If one is no rule.
    """
    cheap: list[Verdict] = []
    examined: list[Verdict] = []
    for reference in rules.custom:
        reason, broken = load_rule(reference)
        try:
            measured.select(broken.alias("broken")).schema()
        except Exception:  # Daft's own, of a column that is not there
            examined.append((reason, broken))
        else:
            cheap.append((reason, broken))
    return cheap, examined


def _list_broken(names: Sequence[str], rules: Rules) -> list[Verdict]:
    verdicts = [(RULES[rule][0], _break(rule, rules)) for rule in names]
    return [(reason, broken) for reason, broken in verdicts if broken is not None]


def _find_first(verdicts: Sequence[Verdict]) -> Expression:
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


def load_rule(reference: str) -> Verdict:
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
