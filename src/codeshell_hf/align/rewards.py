"""Reward functions as TRL calls them, each wrapped in a guard."""

import inspect
import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import CodeShellError, RunFailed, SettingsError
from ..extensions import load_object
from ..modeling_codeshell import CodeShellForSequenceClassification
from ..sandbox import Program, Sandbox
from ..text.chat import Message, clean_answer
from ..text.code import defines, extract_code, is_python, list_wanted
from ..text.judge import open_judge
from ..tokenization_codeshell import CodeShellTokenizer
from .exact_answers import ExactReward
from .judge_reward import JudgeReward
from .partial_tests import split_tests
from .reward_model import RewardModel, load_reward_model, shard_reward_model
from .settings import RewardSettings

logger = logging.getLogger(__name__)

Reward = Callable[..., Sequence[float | None]]


class TestsReward:
    """1 if the code of a finished answer passes its tests in the sandbox, else 0; or the share of tests passed."""

    __name__ = "tests"
    __test__ = False

    def __init__(self, sandbox: Sandbox, *, gives_share: bool = False) -> None:
        self.sandbox = sandbox
        self.gives_share = gives_share

    def __call__(
        self, completions: Sequence[list[Message]], tests: Sequence[str | None], **_: object
    ) -> list[float | None]:
        """Runs every finished answer that has tests; without tests the reward is `None`."""
        answers = [clean_answer(completion[-1]["content"]) for completion in completions]
        programs = [
            self._make_programs(text, wanted) if wanted and is_finished else []
            for (text, is_finished), wanted in zip(answers, tests, strict=True)
        ]
        verdicts = iter(self.sandbox.run([program for group in programs for program in group]))
        passed = [[next(verdicts).passed for _ in group] for group in programs]
        return [
            (sum(group) / len(group) if group else 0.0) if wanted else None
            for group, wanted in zip(passed, tests, strict=True)
        ]

    def _make_programs(self, text: str, tests: str) -> list[Program]:
        source = extract_code(text, list_wanted(tests))
        return [Program(source, part) for part in (split_tests(tests) if self.gives_share else [tests])]


class FormatReward:
    """1 if an answer stopped by itself and its code is Python that defines what its tests use, else 0."""

    __name__ = "format"

    def __call__(
        self, completions: Sequence[list[Message]], tests: Sequence[str | None] | None = None, **_: object
    ) -> list[float | None]:
        """Parses every answer; runs nothing."""
        answers = [clean_answer(completion[-1]["content"]) for completion in completions]
        return [
            float(is_finished and _has_format(text, list_wanted(wanted or "")))
            for (text, is_finished), wanted in zip(answers, tests or [None] * len(answers), strict=True)
        ]


def _has_format(text: str, names: set[str]) -> bool:
    code = extract_code(text, names)
    return is_python(code) and (not names or defines(code, names))


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

    def __init__(
        self, reward: Reward, *, name: str | None = None, max_bad_fraction: float = 0.1, min_answers: int = 32
    ) -> None:
        self.reward = reward
        self.__name__ = name or getattr(reward, "__name__", type(reward).__name__)
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
        except CodeShellError:
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
    """A named reward; with weight 0 it is measured and not trained on.

    Args:
        best: Its highest value, if it has one.
    """

    name: str
    weight: float
    scorer: GuardedReward | RewardModel
    best: float = math.inf

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
    sections: Sequence[RewardSettings],
    sandbox: Sandbox | None,
    *,
    max_tokens: int,
    max_bad_fraction: float,
    folder: Path,
) -> list[WeightedReward]:
    """Makes rewards from their settings, in order; only those of which `needs_sandbox` is true need a sandbox.

    Args:
        max_tokens: Longest answer.
        folder: Keeps what judge models say.

    Raises:
        SettingsError: If `soft_tokens` is not below the longest answer, or a judge's key is missing.
        CheckpointError: If a reward model cannot be loaded.
    """
    rewards = []
    for section in sections:
        if section.kind == "model":
            rewards.append(WeightedReward(section.kind, section.weight, load_reward_model(section.path)))
            continue
        function = _make_reward(section, sandbox, max_tokens, folder)
        name = name_reward(section)
        guarded = GuardedReward(function, name=name, max_bad_fraction=max_bad_fraction)
        rewards.append(WeightedReward(name, section.weight, guarded, BEST.get(section.kind, math.inf)))
    return rewards


def shard_reward_models(rewards: Sequence[WeightedReward], *, bf16: bool) -> None:
    """Shards the reward models among rewards over the ranks, as `shard_reward_model`."""
    for reward in rewards:
        if isinstance(reward.scorer, RewardModel):
            shard_reward_model(reward.scorer, bf16=bf16)


BEST = {"tests": 1.0, "exact": 1.0, "judge": 1.0, "format": 1.0, "length": 0.0}
"""The highest value of rewards that have one, by kind."""


def _make_reward(section: RewardSettings, sandbox: Sandbox | None, max_tokens: int, folder: Path) -> Reward:
    if section.kind == "length":
        if section.soft_tokens >= max_tokens:
            raise SettingsError(
                f"soft_tokens is {section.soft_tokens}, but answers end at {max_tokens} tokens; lower it or raise "
                "trainer.max_completion_length"
            )
        return LengthReward(section.soft_tokens, max_tokens)
    if section.kind == "format":
        return FormatReward()
    if section.kind == "exact":
        return ExactReward()
    if section.kind == "judge":
        # Ranks judge answers of their own.
        return JudgeReward(open_judge(section, folder, name=f"judge-{os.environ.get('RANK', '0')}"))
    if needs_sandbox(section) and sandbox is None:
        raise ValueError(f"a reward of kind {section.kind} needs a sandbox")
    if section.kind == "function":
        function = load_reward(section.function)
        return partial(function, sandbox=sandbox) if takes_sandbox(function) else function
    if section.kind == "tests" and sandbox is not None:
        return TestsReward(sandbox, gives_share=section.share)
    raise ValueError(f"there is no reward of kind {section.kind}")


def needs_sandbox(section: RewardSettings) -> bool:
    """Whether a reward runs programs: tests, or a function with a parameter `sandbox`."""
    return section.kind == "tests" or (section.kind == "function" and takes_sandbox(load_reward(section.function)))


def takes_sandbox(function: Reward) -> bool:
    """Whether a function names a parameter `sandbox`, in which it runs what a model wrote."""
    try:
        return "sandbox" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def name_reward(section: RewardSettings) -> str:
    """The name of a reward in logs and results: its kind, or its function's name."""
    return section.function.rpartition(":")[2] if section.kind == "function" else section.kind


def load_reward(reference: str) -> Reward:
    """Loads a user's reward function; a `SettingsError` if it is not callable."""
    function = load_object(reference)
    if not callable(function):
        raise SettingsError(f"{reference} is {function!r}; make it a function that takes completions and **columns")
    return function


def list_judges(rewards: Sequence[WeightedReward]) -> dict[str, float]:
    """The rewards that are measured and not trained on, by name, each with its highest value."""
    return {reward.name: reward.best for reward in rewards if not reward.weight}


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
