"""Reward functions as TRL calls them, each wrapped in a guard."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import RunFailed, SettingsError
from ..extensions import load_object
from ..modeling_codeshell import CodeShellForSequenceClassification
from ..sandbox import Program, Sandbox
from ..text.chat import Message, clean_answer
from ..text.code import extract_code, is_python, list_wanted
from ..tokenization_codeshell import CodeShellTokenizer
from .reward_model import RewardModel, load_reward_model
from .settings import RewardSettings

logger = logging.getLogger(__name__)

Reward = Callable[..., Sequence[float | None]]


class TestsReward:
    """1 if the code of a finished answer passes its tests in the sandbox, else 0."""

    __name__ = "tests"
    __test__ = False

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def __call__(
        self, completions: Sequence[list[Message]], tests: Sequence[str | None], **_: object
    ) -> list[float | None]:
        """Runs every finished answer that has tests; without tests the reward is `None`."""
        answers = [clean_answer(completion[-1]["content"]) for completion in completions]
        chosen = [index for index, (_, is_finished) in enumerate(answers) if is_finished and tests[index]]
        programs = [
            Program(extract_code(answers[index][0], list_wanted(tests[index] or "")), tests[index] or "")
            for index in chosen
        ]
        passed = {index for index, verdict in zip(chosen, self.sandbox.run(programs), strict=True) if verdict.passed}
        return [float(index in passed) if tests[index] else None for index in range(len(answers))]


class FormatReward:
    """1 if an answer stopped by itself and its code parses as Python, else 0."""

    __name__ = "format"

    def __call__(self, completions: Sequence[list[Message]], **_: object) -> list[float | None]:
        """Parses every answer; runs nothing."""
        answers = [clean_answer(completion[-1]["content"]) for completion in completions]
        return [float(is_finished and is_python(extract_code(text))) for text, is_finished in answers]


class LengthReward:
    """0 up to `soft_tokens`, then linearly down to -1 at `max_tokens`."""

    __name__ = "length"

    def __init__(self, soft_tokens: int, max_tokens: int) -> None:
        self.soft_tokens = soft_tokens
        self.max_tokens = max_tokens

    def __call__(self, completion_ids: Sequence[Sequence[int]], **_: object) -> list[float | None]:
        """Counts every answer's tokens, its stop included."""
        room = self.max_tokens - self.soft_tokens
        return [-min(1.0, max(0, len(ids) - self.soft_tokens) / room) for ids in completion_ids]


class GuardedReward:
    """Guards a trainer from a faulty reward: exceptions and non-finite values become `None` and are counted by reason.

    After `min_answers`, the run stops if more than `max_bad_fraction` of all answers had no usable reward.
    """

    def __init__(self, reward: Reward, *, max_bad_fraction: float = 0.1, min_answers: int = 32) -> None:
        self.reward = reward
        self.__name__ = getattr(reward, "__name__", type(reward).__name__)
        self.max_bad_fraction = max_bad_fraction
        self.min_answers = min_answers
        self.answers = 0
        self.bad: Counter[str] = Counter()

    def __call__(self, completions: Sequence[list[Message]], **columns: object) -> list[float | None]:
        """Calls the reward; a finite number or `None` for each answer.

        Raises:
            RunFailed: If too many answers had no usable reward.
        """
        try:
            values = list(self.reward(completions=completions, **columns))
        except RunFailed:
            raise
        except Exception as error:
            logger.warning("reward %s raised %s: %s", self.__name__, type(error).__name__, error)
            self._count(f"{type(error).__name__} raised", len(completions), len(completions))
            return [None] * len(completions)
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
                f"than the {self.max_bad_fraction:.0%} allowed; correct it and run again"
            )


@dataclass(frozen=True)
class WeightedReward:
    """A named reward; with weight 0 it is measured and not trained on."""

    name: str
    weight: float
    scorer: GuardedReward | RewardModel

    @property
    def function(self) -> GuardedReward | CodeShellForSequenceClassification:
        """What TRL gets: a function, or a reward model, which TRL moves to its device."""
        return self.scorer.model if isinstance(self.scorer, RewardModel) else self.scorer

    @property
    def tokenizer(self) -> CodeShellTokenizer | None:
        """The reward model's tokenizer."""
        return self.scorer.tokenizer if isinstance(self.scorer, RewardModel) else None

    @property
    def unusable(self) -> dict[str, int]:
        """The number of unusable values by reason."""
        return {} if isinstance(self.scorer, RewardModel) else dict(self.scorer.bad)


def make_rewards(
    sections: Sequence[RewardSettings], sandbox: Sandbox | None, *, max_tokens: int, max_bad_fraction: float
) -> list[WeightedReward]:
    """Makes rewards from their settings, in order; only a reward of kind "tests" needs a sandbox.

    Raises:
        SettingsError: If `soft_tokens` is not below the longest answer.
        CheckpointError: If a reward model cannot be loaded.
    """
    rewards = []
    for section in sections:
        if section.kind == "model":
            rewards.append(WeightedReward(section.kind, section.weight, load_reward_model(section.path)))
            continue
        function: Reward
        if section.kind == "length":
            if section.soft_tokens >= max_tokens:
                raise SettingsError(
                    f"soft_tokens is {section.soft_tokens}, but answers end at {max_tokens} tokens; lower it or raise "
                    "trainer.max_completion_length"
                )
            function = LengthReward(section.soft_tokens, max_tokens)
        elif section.kind == "format":
            function = FormatReward()
        elif section.kind == "function":
            function = load_reward(section.function)
        elif sandbox is not None:
            function = TestsReward(sandbox)
        else:
            raise ValueError("a reward of kind tests needs a sandbox")
        guarded = GuardedReward(function, max_bad_fraction=max_bad_fraction)
        rewards.append(WeightedReward(name_reward(section), section.weight, guarded))
    return rewards


def name_reward(section: RewardSettings) -> str:
    """The name of a reward in logs and results: its kind, or its function's name."""
    return section.function.rpartition(":")[2] if section.kind == "function" else section.kind


def load_reward(reference: str) -> Reward:
    """Loads a user's reward function; a `SettingsError` if it is not callable."""
    function = load_object(reference)
    if not callable(function):
        raise SettingsError(f"{reference} is {function!r}; make it a function that takes completions and **columns")
    return function


def list_judges(rewards: Sequence[WeightedReward]) -> list[str]:
    """Names the rewards that are measured and not trained on."""
    return [reward.name for reward in rewards if not reward.weight]


def check_rewards(sections: Sequence[RewardSettings]) -> None:
    """Raises `SettingsError` for duplicate names, functions that cannot be loaded, or if no reward has a weight."""
    names = [name_reward(section) for section in sections]
    if len(set(names)) < len(names):
        raise SettingsError(f"rewards are {', '.join(names)}; give each once")
    for section in sections:
        if section.kind == "function":
            load_reward(section.function)
    if not any(section.weight for section in sections):
        raise SettingsError("every reward has weight 0, so nothing would be learned; give one of them a weight")
