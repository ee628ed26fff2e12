"""Reads what a judge model says: which of two answers is better, or a score.

Only what is said as a verdict counts. A letter in prose does not: in "As a judge, I prefer B" the verdict is B.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, TypeVar

Verdict = Literal["a", "b", "tie"]
Value = TypeVar("Value")

MOST_CHARACTERS = 20_000

_REASONING = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_REASONING_END = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
_DECORATION = re.compile(r"[*_`\"“”「」【】]")
_OBJECT = re.compile(r"\{[^{}]*\}")

_NOUN = r"(?:(?:the\s+)?(?:answer|response|assistant|option|candidate|回答|答案|选项)\s*)?"
_TIE = r"tie|equal|neither|both|draw|平局|平手|不相上下"
_CHOICE = rf"(?P<choice>[AB](?![A-Za-z'’])|(?:{_TIE})(?![a-z]))"
_ADVERBS = r"(?:(?:clearly|slightly|much|far|significantly|somewhat|overall|the|a|bit|little|therefore|thus)\s+)*"
_LABEL = (
    r"(?:(?<![a-z])(?:verdict|winner|decision|judgement|judgment|choice|preference|"
    r"better(?:[_ ](?:answer|response|option))?|"
    r"preferred(?:[_ ](?:answer|response|option))?|best|pick|result|conclusion|answer(?=\s*[:：]))|"
    r"结论|裁决|判断|判定|选择|更好的(?:回答|答案)?|较好的(?:回答|答案)?|胜者)"
)
_LABELLED = re.compile(
    rf"{_LABEL}\s*(?:[:：=>–-]|is\b|是|为)\s*[\[(]*{_NOUN}{_CHOICE}"
    rf"(?=\s*(?:$|[.,;!()\]<。，；！（]|is\s+{_ADVERBS}better|更好|wins))",
    re.IGNORECASE | re.MULTILINE,
)
_ORDINALS = (
    (re.compile(r"\b(?:the\s+)?first\s+(?:answer|response|one)\b|第一个(?:回答|答案)?", re.IGNORECASE), "answer A "),
    (re.compile(r"\b(?:the\s+)?second\s+(?:answer|response|one)\b|第二个(?:回答|答案)?", re.IGNORECASE), "answer B "),
)
_BRACKETS = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_ALONE = re.compile(rf"[(\[]*{_NOUN}{_CHOICE}[)\]]*\s*[.!。！]*", re.IGNORECASE)
_WINS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:prefer|preferring|preferred|choose|chose|pick|select|favou?r|go\s+with|vote\s+for)\s+{_NOUN}(?P<choice>[AB])\b",
        (
            rf"{_NOUN}(?<![A-Za-z])(?P<choice>[AB])\s+(?:is|was|seems|looks|appears(?:\s+to\s+be)?|would\s+be)\s+"
            rf"{_ADVERBS}(?:better|best|superior|preferable|stronger|winner|more\s+\w+)\b"
        ),
        rf"{_NOUN}(?<![A-Za-z])(?P<choice>[AB])\s+(?:wins|outperforms|beats|surpasses)\b",
        r"(?<![A-Za-z])(?P<choice>[AB])\s*>+\s*[AB](?![A-Za-z])",
        r"(?<![A-Za-z])(?P<choice>[AB])\s*(?:更好|更优|更佳|较好|胜出|优于|好于|比\s*(?:回答|答案)?\s*[AB]\s*(?:更|要)?好)",
        r"(?:选择|我选|选|倾向于?|偏好|支持)\s*(?:回答|答案)?\s*(?P<choice>[AB])(?![A-Za-z])",
    )
)
_LOSES = re.compile(
    rf"{_NOUN}(?<![A-Za-z])(?P<choice>[AB])\s*(?:(?:is|was|seems)\s+{_ADVERBS}(?:worse|inferior|weaker)\b|更差|较差|不如)",
    re.IGNORECASE,
)
_TIED = re.compile(
    r"\b(?:it\s+is|it's|call\s+it|this\s+is)\s+a\s+(?:tie|draw)\b|\bequally\s+(?:good|bad|correct)\b|"
    r"\bneither\s+(?:\w+\s+){0,2}is\s+better\b|\bno\s+clear\s+winner\b|平局|不相上下|一样好",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"(?:\b(?:not|never|cannot|neither|hardly)\b|n't\b|不|没有?|并非)[^.,;!?。，；！？\n]*$", re.IGNORECASE
)
_CONCLUDING = re.compile(
    r"\b(?:overall|therefore|thus|hence|so|in\s+conclusion|in\s+sum|finally)\b|总体|总的来说|因此|综上|所以",
    re.IGNORECASE,
)

_NUMBER = r"(?P<score>-?\d+(?:\.\d+)?)(?:\s*(?:/|out\s+of|分?，?满分)\s*(?P<best>\d+))?"
_SCORED = re.compile(
    rf"(?:score|rating|grade|评分|得分|分数|打分)\s*(?:\((?:0|1)\s*[-–]\s*\d+\))?\s*(?:[:：=]|is\b|of\b|是|为)?\s*{_NUMBER}",
    re.IGNORECASE,
)
_SCORE_BRACKETS = re.compile(rf"\[\[\s*{_NUMBER}\s*\]\]", re.IGNORECASE)
_FRACTION = re.compile(r"(?P<score>\d+(?:\.\d+)?)\s*(?:/|out\s+of)\s*(?P<best>\d+)\b", re.IGNORECASE)
_SCORE_ALONE = re.compile(rf"{_NUMBER}\s*(?:分|points?)?\s*[.!。！]*", re.IGNORECASE)


def read_verdict(reply: str) -> Verdict | None:
    """Reads which of two answers, A and B, a judge prefers; `None` if it says nothing clear.

    >>> read_verdict("As a judge, I prefer B"), read_verdict("Verdict: A"), read_verdict("A good question.")
    ('b', 'a', None)
    """
    text = _clean(reply)
    if found := _BRACKETS.findall(text):
        return _name(found[-1])
    for word in _read_objects(text, ("verdict", "winner", "better", "choice", "preference", "answer")):
        if alone := _ALONE.fullmatch(str(word).strip()):
            return _name(alone["choice"])
    if found := [match["choice"] for match in _LABELLED.finditer(text) if _is_choice(match["choice"])]:
        return _name(found[-1])
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    for line in (*lines[-1:], *lines[:1]):
        if (alone := _ALONE.fullmatch(line)) and (len(lines) == 1 or _is_choice(alone["choice"])):
            return _name(alone["choice"])
    return _read_sentences(text)


def read_score(reply: str, best: float) -> float | None:
    """Reads a score from 0 to `best`, as a share of it; `None` if there is none, or it is out of range.

    >>> read_score("Score: 7", 10), read_score("4 out of 5", 10), read_score("Good.", 10), read_score("Score: 12", 10)
    (0.7, 0.8, None, None)
    """
    text = _clean(reply)
    for value in _read_objects(text, ("score", "rating", "grade")):
        if found := _SCORE_ALONE.fullmatch(str(value).strip()):
            return _scale(found, best)
    for pattern in (_SCORE_BRACKETS, _SCORED, _FRACTION):
        if matches := list(pattern.finditer(text)):
            return _scale(matches[-1], best)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    for line in (*lines[-1:], *lines[:1]):
        if found := _SCORE_ALONE.fullmatch(line):
            return _scale(found, best)
    return None


def _clean(reply: str) -> str:
    text = _REASONING_END.sub("", _REASONING.sub("", reply[-MOST_CHARACTERS:]))
    return _DECORATION.sub("", text) if "{" not in text else text


def _read_objects(text: str, keys: Iterable[str]) -> Iterator[object]:
    """The values of JSON objects in a text under one of the keys, the last object first."""
    for found in reversed(_OBJECT.findall(text)):
        try:
            values = {str(key).lower(): value for key, value in json.loads(found).items()}
        except ValueError:
            continue
        yield from (values[key] for key in keys if key in values)


def _is_choice(word: str) -> bool:
    """A lower-case "a" is an article."""
    return word not in ("a", "b")


def _name(word: str) -> Verdict:
    lower = word.lower()
    return "a" if lower == "a" else "b" if lower == "b" else "tie"


def _read_sentences(text: str) -> Verdict | None:
    """The verdict that all sentences agree on, or those that conclude."""
    for ordinal, name in _ORDINALS:
        text = ordinal.sub(name, text)
    claims: list[tuple[Verdict, bool]] = []
    for sentence in re.split(r"(?<=[.!?。！？])\s*|\n", text):
        is_conclusion = bool(_CONCLUDING.search(sentence))
        claims += [(claim, is_conclusion) for claim in _list_claims(sentence)]
    verdicts = {claim for claim, _ in claims}
    concluded = {claim for claim, is_conclusion in claims if is_conclusion}
    return _get_only(verdicts) or _get_only(concluded)


def _list_claims(sentence: str) -> Iterator[Verdict]:
    if _TIED.search(sentence):
        yield "tie"
    for pattern, name in (*((wins, _name) for wins in _WINS), (_LOSES, _name_other)):
        yield from _match_claims(pattern, sentence, name)


def _match_claims(pattern: re.Pattern[str], sentence: str, name: Callable[[str], Verdict]) -> Iterator[Verdict]:
    for match in pattern.finditer(sentence):
        if match["choice"] in ("A", "B") and not _NEGATED.search(sentence[: match.start("choice")]):
            yield name(match["choice"])


def _name_other(word: str) -> Verdict:
    return "b" if word == "A" else "a"


def _get_only(values: set[Value]) -> Value | None:
    return next(iter(values)) if len(values) == 1 else None


def _scale(match: re.Match[str], best: float) -> float | None:
    share = float(match["score"]) / float(match["best"] or best) if float(match["best"] or best) else -1.0
    return share if 0 <= share <= 1 else None
