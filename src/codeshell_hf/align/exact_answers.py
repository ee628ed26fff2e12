"""Final answers of mathematical problems, such as GSM8K's, and whether two are the same."""

import re
from collections.abc import Sequence
from fractions import Fraction

from ..text.chat import Message, clean_answer
from ..text.code import drop_reasoning

_MARKED = re.compile(r"####\s*([^\n]+)")
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_SAID = re.compile(
    r"(?:final\s+answer|answer|result|答案|结果)\s*(?:is|=|:|：|是|为)+\s*:?\s*([^\n]+?)(?:[.。](?=\s|$)|\n|$)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s*/\s*\d+)?%?")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\{(-?\d+)\}\{(\d+)\}")
_UNITS = re.compile(r"\\(?:text|mathrm)\{[^{}]*\}|\\[!,; ]|[$€£¥￥]|\\\$")


class ExactReward:
    """1 if the final answer is that of the reference, else 0; without a reference the reward is `None`."""

    __name__ = "exact"

    def __call__(
        self, completions: Sequence[list[Message]], reference: Sequence[str | None], **_: object
    ) -> list[float | None]:
        """Compares every finished answer."""
        answers = [clean_answer(completion[-1]["content"]) for completion in completions]
        return [
            float(is_finished and is_same_answer(text, wanted)) if wanted else None
            for (text, is_finished), wanted in zip(answers, reference, strict=True)
        ]


def find_final_answer(text: str) -> str | None:
    r"""The final answer: behind the last `####`, in the last `\boxed{}`, behind "the answer is", or the last number.

    >>> find_final_answer("2 + 3 = 5, so\n#### 1,005"), find_final_answer("so it is \\boxed{\\frac{1}{2}}")
    ('1,005', '\\frac{1}{2}')
    """
    text = drop_reasoning(text)
    for pattern in (_MARKED, _BOXED):
        if found := pattern.findall(text):
            return str(found[-1]).strip()
    said = [str(words).strip() for words in _SAID.findall(text)]
    with_number = [words for words in said if _NUMBER.search(words)]
    found = with_number or _NUMBER.findall(text) or said
    return str(found[-1]) if found else None


def is_same_answer(text: str, reference: str) -> bool:
    """Whether a text's final answer is that of the reference: the same number, or the same words.

    >>> is_same_answer("That makes $1,000.00 in all.", "#### 1000"), is_same_answer("#### 7 or 8", "#### 7")
    (True, False)
    """
    given, wanted = find_final_answer(text), find_final_answer(reference) or reference
    if given is None:
        return False
    numbers = read_number(given), read_number(wanted)
    if numbers[1] is not None:
        return numbers[0] == numbers[1]
    return _normalise(given) == _normalise(wanted)


def read_number(text: str) -> Fraction | None:
    """The number of an answer that has exactly one, apart from its unit; `None` otherwise.

    >>> read_number("$1,250.50 in all"), read_number("3/4"), read_number("50%"), read_number("7 or 8")
    (Fraction(2501, 2), Fraction(3, 4), Fraction(50, 1), None)
    """
    plain = _UNITS.sub(" ", _LATEX_FRACTION.sub(r" \1/\2 ", text))
    numbers = _NUMBER.findall(plain)
    if len(numbers) != 1:
        return None
    try:
        return Fraction(re.sub(r"[,%\s]", "", numbers[0]))
    except (ValueError, ZeroDivisionError):
        return None


def _normalise(text: str) -> str:
    return re.sub(r"[\s.$*]+", " ", text).strip().casefold()
