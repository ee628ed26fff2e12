"""Compares what a program prints with what it should, by the rules of two judges.

Results of LiveCodeBench and SAFIM compare only if verdicts are those of their judges, down to white space and numbers.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

TOLERANCE = Decimal("1e-12")
ANSWERS = ("yes", "no", "true", "false")  # in any case


def is_same_by_lines(output: str, expected: str) -> bool:
    """LiveCodeBench's rule: equal lines without white space at their ends, or lines of equal numbers.

    Source:
        Jain et al. 2024, arXiv:2403.07974, and its released judge.
    """
    lines, wanted = (text.strip().split("\n") for text in (output, expected))
    return len(lines) == len(wanted) and all(
        line.strip() == other.strip() or has_equal_numbers(line, other)
        for line, other in zip(lines, wanted)  # noqa: B905 - Python 3.9 has no strict
    )


def has_equal_numbers(line: str, expected: str) -> bool:
    """Whether two lines are lists of equal decimal numbers; False if one is none."""
    try:
        return [Decimal(word) for word in line.split()] == [Decimal(word) for word in expected.split()]
    except InvalidOperation:
        return False


def is_same_by_words(output: str, expected: str) -> bool:
    """ExecEval's rule: equal lines without white space at their ends, or equal words, with numbers to 1e-12.

    Source:
        Khan et al. 2023, arXiv:2303.03004 (xCodeEval), and its released engine.
    """
    texts = output.replace("\r\n", "\n").strip(), expected.replace("\r\n", "\n").strip()
    lines, wanted = ([line.strip() for line in text.split("\n")] for text in texts)
    if lines == wanted:
        return True
    words, others = (text.split() for text in texts)
    return len(words) == len(others) and all(map(is_same_word, words, others))


def is_same_word(word: str, expected: str) -> bool:
    """Whether two words are near numbers, the same answer in any case, or equal."""
    try:
        return abs(Decimal(word) - Decimal(expected)) <= TOLERANCE
    except InvalidOperation:
        lowered = word.lower(), expected.lower()
        return word == expected or (lowered[0] == lowered[1] and lowered[0] in ANSWERS)


RULES = {"lines": is_same_by_lines, "words": is_same_by_words}
