"""Reads a model's scores of a file: a whole number from 0 to 5, and those of its four sides.

What is not said clearly is not guessed: a range, a fraction of a point, another scale, two answers, or a refusal.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import NamedTuple

MAX_SCORE = 5
SIDES = ("correctness", "readability", "security", "value")

# The columns of an assessment, in its order; a regressor of the score alone has the first one.
OUTPUTS = ("quality", *SIDES)


class Assessment(NamedTuple):
    """A file's score and its sides, from 0 to 5, as in Figure 1 of CodeShell's report; `None` for a side not stated."""

    score: float
    correctness: float | None = None
    readability: float | None = None
    security: float | None = None
    value: float | None = None


_REASONING = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_REASONING_END = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
_LONGEST_ANSWER = 20_000
_MAX_OBJECTS = 50
_SCORE_KEYS = frozenset(
    (
        *("score", "overall", "overall_score", "final_score", "total", "total_score", "quality_score", "rating"),
        *("quality", "评分", "总分", "得分", "分数", "综合评分", "最终评分", "总体评分"),
    )
)
_SIDE_NAMES = {
    "correctness": ("correctness", "正确性"),
    "readability": ("readability", "可读性"),
    "security": ("security", "safety", "安全性", "安全"),
    "value": ("value content", "value", "usefulness", "价值内容", "内容价值", "价值性", "价值"),
}
_WORDS = {
    **{word: number for number, word in enumerate(("zero", "one", "two", "three", "four", "five"))},
    **{word: number for number, word in enumerate("零一二三四五")},
    **dict(zip("〇两", (0, 2), strict=True)),
}
_NUMBER = (
    rf"(?<![\d.])(?P<number>-?\d+(?:\.\d+)?|(?:{'|'.join(_WORDS)})(?![a-z]))"
    r"(?P<range>\s*(?:-|–|—|~|to|or|至|到|或)\s*\d)?"
    r"(?:\s*(?:/|out\s+of|of|分?[,，]?\s*满分\s*(?:为|是)?)\s*(?P<best>\d+(?:\.\d+)?))?"
    r"\s*(?:points?\b|stars?\b|分|星)?(?![A-Za-z\d_%])(?!\.\d)"
)
_OPEN = r"[\[({\s]*"
_FINAL = r"(?:final|overall|total|weighted|最终|综合|总体|整体|总)"
_LABEL = (
    rf"(?<![A-Za-z])(?P<label>(?:(?:{_FINAL}|quality|code|my|the|质量|代码|文件)\s*){{0,4}}"
    rf"(?:scores?|ratings?|grade|mark|评分|得分|分数|打分|评级|分)|{_FINAL})(?![A-Za-z])"
)
_ABOUT = (
    r"\s*(?:[(\[][^()\[\]\n]{0,40}[)\]]\s*)?(?:(?:for|of|out\s+of|as)\s+(?!-?\d+\s*(?:[.,;!\n]|$))[^:=.\n]{1,60}?)?\s*"
)
_IS = r"(?:[:=→>]+|[-–—]\s|(?:is|was|would\s+be|should\s+be|will\s+be)(?:\s+an?)?(?=\W)|为|是|\n)"
_STATED = re.compile(rf"{_LABEL}{_ABOUT}(?:{_IS}\s*)+{_OPEN}{_NUMBER}", re.IGNORECASE)
_UNKNOWN = re.compile(rf"{_LABEL}\s*[:=]\s*(?:n/?a\b|none\b|null\b|unknown\b|不适用|无法)", re.IGNORECASE)
_GIVEN = (
    re.compile(rf"{_LABEL}\s+(?:of\s+)?(?:an?\s+)?{_OPEN}{_NUMBER}", re.IGNORECASE),
    re.compile(
        r"\b(?:give|gives|gave|rate|rates|rated|score|scores|scored|assign|assigned|award|grade|graded|deserves?|earns?"
        r"|gets?|receives?|merits?|say|at)\b(?:\s+(?!not\b)[A-Za-z]+){0,5}?\s*:?\s*(?:an?\s+)?" + _OPEN + _NUMBER,
        re.IGNORECASE,
    ),
    re.compile(r"(?:给|打|评|得|为|是)[^。\n\d零〇一二两三四五]{0,12}?" + _NUMBER + r"(?<=分)"),
    re.compile(r"\b(?:answer|verdict|结论|答案)\s*(?:is|:|为|是)\s*" + _OPEN + _NUMBER, re.IGNORECASE),
)
_NEGATED = re.compile(
    r"(?:\b(?:not|never|cannot|unable|nor)\b|n't\b|不|没有?|无法)[^.!?;。！？；\n]{0,60}$", re.IGNORECASE
)
_FRACTION = re.compile(r"(?<![\d/.])(?P<number>\d+(?:\.\d+)?)\s*(?:/|out\s+of)\s*5(?![\d/])(?!\.\d)", re.IGNORECASE)
_ALONE = re.compile(rf"(?:so|thus|therefore|答案|answer)?[\s:,]*{_OPEN}{_NUMBER}[\])}}\s]*[.!。]*", re.IGNORECASE)
_STARS = re.compile(r"(?P<full>[★⭐]{1,5})️?(?P<empty>☆{0,5})")
# "0-5", "on a scale from 0 to 5", "满分5分": the scale, which is no score.
_SCALE = re.compile(
    r"\(?\s*(?:on\s+)?(?:an?\s+|the\s+)?(?:scale|range)?\s*(?:of|from|between)?\s*(?<![\d.])[01]\s*"
    r"(?:-|–|—|~|to|and|through|至|到)\s*5(?![\d.]\d|\d)\s*(?:分制?|points?)?(?:\s*(?:scale|inclusive))?\s*\)?",
    re.IGNORECASE,
)
_FULL_MARKS = re.compile(r"\(?(?<!分)(?<!分,)(?<!\d)(?<!\d )满分\s*(?:为|是)?\s*5\s*分?\)?")
_DECORATION = re.compile(r"[*`#|$]|\\boxed|\\text")
_QUOTES = re.compile(r"[\"“”„«»「」『』]|(?<!\w)'|'(?!\w)")
_QUOTED = re.compile(
    r"\"[^\"\n]{2,200}\"|“[^”\n]{2,200}”|「[^」\n]{2,200}」|『[^』\n]{2,200}』|`[^`\n]{2,200}`|(?<!\w)'[^'\n]{2,200}'(?!\w)"
)
_SPEAKS_OF_SCORES = re.compile(
    rf"(?:score|rat(?:e|ing)|give|评分|打分|分数|得分).*(?:\d|{'|'.join(_WORDS)})|\d\s*/\s*5", re.IGNORECASE
)


def read_scores(answer: str) -> Assessment | None:
    r"""Reads the scores in an answer: of a JSON object, else of text in English or Chinese; `None` if there is none.

    >>> [found and found.score for found in map(read_scores, ("**Score (0-5):** 4", "评分：4", "Score: 7"))]
    [4, 4, None]
    """
    text = unicodedata.normalize("NFKC", answer[-_LONGEST_ANSWER:])
    text = _REASONING_END.sub("", _REASONING.sub("", text))
    for found in reversed([*_list_objects(text)]):
        return None if (score := _read_value(_find_score(found))) is None else Assessment(score, **_find_sides(found))
    plain = _simplify(text)
    sides, rest = _split_sides(plain)
    score = _read_text(rest)
    return None if score is None else Assessment(score, **sides)


def _list_objects(text: str) -> Iterator[Mapping[str, object]]:
    """The JSON objects of a text that have a score, from left to right."""
    decoder = json.JSONDecoder()
    starts = [found.start() for found in re.finditer(r"\{", text)]
    place = starts[-_MAX_OBJECTS:][0] if starts else -1
    while place >= 0:
        try:
            found, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            if isinstance(found, dict) and _find_score(found) is not None:
                yield found
        place = text.find("{", end)


def _find_score(found: Mapping[str, object]) -> object:
    named = {str(key).strip().lower().replace(" ", "_"): value for key, value in found.items()}
    for name in ("final_score", "overall_score", "overall", *sorted(_SCORE_KEYS)):
        if name in named:
            value = named[name]
            return _find_score(value) if isinstance(value, dict) else value if value is not None else ""
    inner = [_find_score(value) for value in found.values() if isinstance(value, dict)]
    return next((value for value in inner if value is not None), None)


def _find_sides(found: Mapping[str, object]) -> dict[str, float | None]:
    values: dict[str, object] = {}
    for inner in (value for value in found.values() if isinstance(value, dict)):
        values |= {str(key).lower(): value for key, value in inner.items()}
    values |= {str(key).strip().lower(): value for key, value in found.items()}
    sides: dict[str, float | None] = {}
    for side, names in _SIDE_NAMES.items():
        value = next((values[name] for name in names if name in values), None)
        sides[side] = _read_value(_find_score(value) if isinstance(value, dict) else value)
    return sides


def _read_value(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = _ALONE.fullmatch(_simplify(str(value)).strip())
    return None if found is None else _check(found)


def _simplify(text: str) -> str:
    """The text without decoration, scales, and quotations about scores."""
    lines = [line.strip().strip("\"'“”`*") if len(line) < 80 else line for line in text.split("\n")]
    text = _QUOTED.sub(lambda found: " " if _SPEAKS_OF_SCORES.search(found[0]) else found[0], "\n".join(lines))
    text = _QUOTES.sub("", _DECORATION.sub(" ", text)).replace("_", " ")
    return _FULL_MARKS.sub(" ", _SCALE.sub(" ", text))


def _split_sides(text: str) -> tuple[dict[str, float | None], str]:
    """The scores of the sides, and the text without them."""
    sides: dict[str, float | None] = {}
    for side, names in _SIDE_NAMES.items():
        pattern = re.compile(
            rf"(?<![A-Za-z])(?:{'|'.join(names)})(?![A-Za-z])\s*(?:scores?|rating|评分|得分)?\s*(?:\([^()\n]{{0,40}}\))?\s*"
            rf"(?:{_IS}|\s)\s*{_OPEN}{_NUMBER}",
            re.IGNORECASE,
        )
        matches = list(pattern.finditer(text))
        sides[side] = _check(matches[-1]) if matches else None
        text = pattern.sub(" ; ", text)
    return sides, text


def _read_text(text: str) -> float | None:
    if _UNKNOWN.search(text):
        return None
    stated = [found for found in _STATED.finditer(text) if not _is_negated(found)]
    final = [found for found in stated if re.search(_FINAL, found["label"], re.IGNORECASE)]
    if stated:
        return _check((final or stated)[-1])
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    for line in (*lines[-1:], *lines[:1]):
        if found := _ALONE.fullmatch(line):
            return _check(found)
    given = {_check(found) for pattern in _GIVEN for found in pattern.finditer(text) if not _is_negated(found)}
    if not given:
        given = {_check(found) for found in _FRACTION.finditer(text) if not _is_negated(found)}
    if not given:
        given = {float(len(found["full"])) for found in _STARS.finditer(text) if _is_five(found)}
    return given.pop() if len(given) == 1 else None


def _is_negated(found: "re.Match[str]") -> bool:
    return _NEGATED.search(found.string, max(0, found.start() - 80), found.start("number")) is not None


def _is_five(found: "re.Match[str]") -> bool:
    return not found["empty"] or len(found["full"]) + len(found["empty"]) == MAX_SCORE


def _check(found: "re.Match[str]") -> float | None:
    """A match's number if it is a whole one from 0 to 5 on this scale."""
    groups = found.groupdict()
    number = found["number"].lower()
    value = float(_WORDS.get(number, number))
    best = groups.get("best")
    if groups.get("range") or not value.is_integer() or not 0 <= value <= MAX_SCORE:
        return None
    return None if best is not None and float(best) != MAX_SCORE else int(value)
