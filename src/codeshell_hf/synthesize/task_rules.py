"""Rules that a task has to keep before its tests are run: length, language, names, and what it owes its seed."""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..text.code import defines, extract_code, list_wanted, parse_python
from ..text.word_hashes import hash_text, roll
from .plain_tests import count_assertions, make_plain
from .reply_parts import ReplyParts
from .settings import AnswersAs, CheckSettings, WrittenIn

_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_LETTER = re.compile(r"[A-Za-z\u3400-\u4dbf\u4e00-\u9fff]")
_CODE_SPANS = re.compile(r"(`{3,}|~{3,}).*?(?:\1|\Z)|`[^`\n]*`", re.DOTALL)
# A Chinese task has this share of Chinese letters, besides code; an English one less.
_MIN_CHINESE = 0.2
_REFERS = re.compile(
    r"\b(?:(?:given|provided|above|following|shown|original|seed)\s+(?:piece of\s+)?(?:code|snippet|implementation)"
    r"|(?:code|snippet|implementation)\s+(?:above|provided|given|shown)|inspired by the)\b"
    r"|(?:上述|上面的?|给定的?|所给的?|提供的|原始)(?:这段)?(?:代码|片段|实现)",
    re.IGNORECASE,
)
_SEQUENCE_WORDS = 6
_MIN_SEQUENCES = 8  # of an answer, before its share in the seed says anything


@dataclass(frozen=True)
class SynthesizedTask:
    """A task that keeps the rules.

    Args:
        id: Its request.
        source: The document and line of its seed.
        licence: Of that document.
        answer: As it is trained on.
        program: The answer's code, as rewards and preferences extract it.
        tests: Plain Python.
        mutants: Faulty versions that were tried, and `killed`, those that failed the tests.
        pass_rate: Share of further answers that pass; `None` if none was asked for.
    """

    id: str
    source: str
    licence: str | None
    written_in: WrittenIn
    problem: str
    answer: str
    program: str
    tests: str
    mutants: int = 0
    killed: int = 0
    pass_rate: float | None = None


@dataclass(frozen=True)
class DroppedTask:
    """A request without a task, and why.

    Args:
        value: What the reason measured, and `threshold`, the limit that it broke.
        detail: More on it, such as the error of the tests.
    """

    id: str
    source: str
    language: str
    reason: str
    value: float | None = None
    threshold: float | None = None
    detail: str | None = field(default=None)


class RuleBroken(Exception):
    """A task breaks a rule."""

    def __init__(
        self, reason: str, value: float | None = None, threshold: float | None = None, detail: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.value, self.threshold, self.detail = reason, value, threshold, detail


def make_task(
    parts: ReplyParts, draft: SynthesizedTask, seed_text: str, checks: CheckSettings, answers_as: AnswersAs
) -> SynthesizedTask:
    """Makes a task of a reply's parts.

    Args:
        draft: Where the task comes from; its texts are replaced.
        seed_text: What inspired it.

    Raises:
        RuleBroken: With the first rule that it breaks.
    """
    _check_problem(parts.problem, draft.written_in, checks)
    tests = make_plain(parts.tests)
    if tests is None:
        raise RuleBroken("tests-not-python")
    program = extract_code(parts.answer, list_wanted(tests))
    tree = parse_python(program)
    if tree is None or not tree.body or not _is_writable(tree):
        raise RuleBroken("answer-not-python")
    _check_answer(program, tree, parts.problem, tests, checks)
    check_copy(program, seed_text, checks.max_seed_overlap)
    answer = {"given": parts.answer, "fenced": f"```python\n{program}\n```", "bare": program}[answers_as]
    if extract_code(answer, list_wanted(tests)) != program:
        raise RuleBroken("answer-not-python", detail="its code is read differently again")
    return replace(draft, problem=parts.problem, answer=answer, program=program, tests=tests)


def _is_writable(tree: ast.Module) -> bool:
    """Whether Python can write a program again: it is not nested too deep, and has no number of 4,300 digits."""
    try:
        ast.unparse(tree)
        ast.dump(tree)
    except (RecursionError, ValueError):
        return False
    return True


def _check_problem(problem: str, written_in: WrittenIn, checks: CheckSettings) -> None:
    if len(problem) < checks.min_problem_characters:
        raise RuleBroken("problem-too-short", len(problem), checks.min_problem_characters)
    if len(problem) > checks.max_problem_characters:
        raise RuleBroken("problem-too-long", len(problem), checks.max_problem_characters)
    share = measure_chinese(problem)
    if (share >= _MIN_CHINESE) != (written_in == "zh"):
        raise RuleBroken("wrong-language", round(share, 4), _MIN_CHINESE)
    if found := _REFERS.search(problem):
        raise RuleBroken("refers-to-seed", detail=found[0])


def measure_chinese(text: str) -> float:
    """The share of Chinese among a text's letters, without code.

    >>> measure_chinese("返回 x"), measure_chinese("写 `compute(n)`"), measure_chinese("a")
    (0.6666666666666666, 1.0, 0.0)
    """
    prose = _CODE_SPANS.sub(" ", text)
    letters = len(_LETTER.findall(prose))
    return len(_CHINESE.findall(prose)) / letters if letters else 0.0


def _check_answer(program: str, tree: ast.Module, problem: str, tests: str, checks: CheckSettings) -> None:
    lines = sum(bool(line.strip()) for line in program.split("\n"))
    if lines > checks.max_answer_lines:
        raise RuleBroken("answer-too-long", lines, checks.max_answer_lines)
    asserts = count_assertions(tests)
    if asserts < checks.min_asserts:
        raise RuleBroken("too-few-tests", asserts, checks.min_asserts)
    tested = sorted(name for name in list_wanted(tests) if defines(program, {name}))
    if not tested:
        raise RuleBroken("tests-use-nothing", detail="they use no name that the answer defines")
    for name in tested:
        if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", problem):
            raise RuleBroken("unnamed", detail=f"the tests use {name}, which the problem does not name")
    if _normalise(program) in _normalise(problem):
        raise RuleBroken("problem-holds-answer")


def check_copy(program: str, seed_text: str, max_overlap: float) -> None:
    """Raises `RuleBroken` if an answer is its seed, has all of it, or has too large a share of its own from there."""
    if not seed_text.strip():
        return
    if _normalise(seed_text) in _normalise(program) or _normalise(program) in _normalise(seed_text):
        raise RuleBroken("copies-seed", 1.0, max_overlap)
    own, seeds = (roll(hash_text(text.encode("utf-8", "replace")), _SEQUENCE_WORDS) for text in (program, seed_text))
    if len(own) >= _MIN_SEQUENCES:
        share = float(np.isin(own, seeds).mean())
        if share > max_overlap:
            raise RuleBroken("copies-seed", round(share, 4), max_overlap)


def _normalise(text: str) -> str:
    return " ".join(text.split())


def find_exact_copies(tasks: Sequence[SynthesizedTask]) -> list[int | None]:
    """For each task the place of an earlier one with the same problem, or the same program but for its layout."""
    first: dict[str, int] = {}
    copies: list[int | None] = []
    for place, task in enumerate(tasks):
        tree = parse_python(task.program)
        keys = (f"problem {_normalise(task.problem)}", f"program {ast.dump(tree) if tree else task.program}")
        found = next((first[key] for key in keys if key in first), None)
        copies.append(found)
        if found is None:
            first.update(dict.fromkeys(keys, place))
    return copies
