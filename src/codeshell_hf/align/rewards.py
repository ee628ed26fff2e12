"""Rewards: functions of a prompt and an answer, in the form that TRL calls them, and a guard around each."""

import ast
import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import RunFailed
from ..sandbox import Program, Sandbox
from ..text.chat import Message, clean_answer
from ..text.code import extract_code

logger = logging.getLogger(__name__)

Reward = Callable[..., list[float | None]]


class TestsReward:
    """1 where the code of a finished answer passes its tests in the sandbox, else 0.

    Args:
        sandbox: Where it runs.
    """

    __name__ = "tests"
    __test__ = False

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def __call__(
        self, completions: Sequence[list[Message]], tests: Sequence[str | None], **_: Any
    ) -> list[float | None]:
        """Runs every answer that has tests.

        Args:
            completions: Answers, each a list of one turn.
            tests: Python for each, or `None`, which gives no reward.

        Returns:
            0.0, 1.0 or `None`.
        """
        answers = [clean_answer(completion[-1]["content"]) for completion in completions]
        chosen = [index for index, (_, is_finished) in enumerate(answers) if is_finished and tests[index]]
        programs = [Program(extract_code(answers[index][0]), tests[index] or "") for index in chosen]
        passed = {index for index, verdict in zip(chosen, self.sandbox.run(programs), strict=True) if verdict.passed}
        return [float(index in passed) if tests[index] else None for index in range(len(answers))]


class FormatReward:
    """1 where an answer stopped by itself and its code is Python that parses, else 0."""

    __name__ = "format"

    def __call__(self, completions: Sequence[list[Message]], **_: Any) -> list[float | None]:
        """Parses every answer; nothing is run.

        Args:
            completions: Answers, each a list of one turn.

        Returns:
            0.0 or 1.0.
        """
        answers = [clean_answer(completion[-1]["content"]) for completion in completions]
        return [float(is_finished and is_python(extract_code(text))) for text, is_finished in answers]


class LengthReward:
    """0 up to a length, and from there in a straight line to -1 at the longest.

    Args:
        soft_tokens: Free length.
        max_tokens: Where it reaches -1.
    """

    __name__ = "length"

    def __init__(self, soft_tokens: int, max_tokens: int) -> None:
        self.soft_tokens = soft_tokens
        self.max_tokens = max_tokens

    def __call__(self, completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float | None]:
        """Measures every answer in tokens.

        Args:
            completion_ids: Tokens of the answers, stop included.

        Returns:
            Between -1.0 and 0.0.
        """
        room = self.max_tokens - self.soft_tokens
        return [-min(1.0, max(0, len(ids) - self.soft_tokens) / room) for ids in completion_ids]


class GuardedReward:
    """Holds a reward to what a trainer can use: an answer whose reward is not a number gets none, counted and named.

    Args:
        reward: The function.
        max_bad_fraction: If more of all answers so far had no usable reward, the run stops.
        min_answers: No run stops before that many.
    """

    def __init__(self, reward: Reward, *, max_bad_fraction: float = 0.1, min_answers: int = 32) -> None:
        self.reward = reward
        self.__name__ = getattr(reward, "__name__", type(reward).__name__)
        self.max_bad_fraction = max_bad_fraction
        self.min_answers = min_answers
        self.answers = 0
        self.bad: Counter[str] = Counter()

    def __call__(self, completions: Sequence[list[Message]], **columns: Any) -> list[float | None]:
        """Calls the reward and looks at what it says.

        Args:
            completions: Answers.
            columns: Whatever the data set has beside them.

        Returns:
            A finite number or `None` for each answer.

        Raises:
            RunFailed: If too many answers had no usable reward.
        """
        try:
            values = list(self.reward(completions=completions, **columns))
        except RunFailed:
            raise
        except Exception as error:
            logger.warning("reward %s raised %s: %s", self.__name__, type(error).__name__, error)
            values = [None] * len(completions)
            self._count(f"{type(error).__name__} raised", len(completions), len(completions))
            return values
        if len(values) != len(completions):
            raise RunFailed(
                f"reward {self.__name__} gave {len(values)} values for {len(completions)} answers; give one for each"
            )
        usable = [value if value is None or math.isfinite(value) else None for value in values]
        bad = sum(value is not None and not math.isfinite(value) for value in values)
        self._count("not a number", bad, len(values))
        return usable

    def _count(self, reason: str, bad: int, answers: int) -> None:
        self.answers += answers
        if bad:
            self.bad[reason] += bad
        share = self.bad.total() / max(1, self.answers)
        if self.answers >= self.min_answers and share > self.max_bad_fraction:
            named = ", ".join(f"{count} {name}" for name, count in self.bad.items())
            raise RunFailed(
                f"reward {self.__name__} was unusable for {self.bad.total()} of {self.answers} answers ({named}), more "
                f"than the {self.max_bad_fraction:.0%} allowed; mend it and run again"
            )


def is_python(text: str) -> bool:
    """Whether a text is a Python program with something in it; it is parsed, never run.

    Args:
        text: Any text.

    Returns:
        True if it parses and is not empty.

    >>> is_python("x = 1"), is_python("x ="), is_python("")
    (True, False, False)
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(ast.parse(text).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
