"""Rewards as the stages of alignment use them: named in YAML, given to TRL, and measured before and after."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from codeshell_hf.settings import Section
from codeshell_hf.stages.stage import Work
from recipes.examples import open_tokenizer, read_all_conversations

if TYPE_CHECKING:
    from codeshell_hf.sandbox import Sandbox
    from codeshell_hf.text.chat import Conversation
    from codeshell_hf.text.intervals import Change


class ModelReward(Section):
    """The score of a reward model."""

    kind: Literal["model"]
    path: Path = Field(description="output of the reward stage: its model folder")
    weight: float = Field(default=1.0, description="0 measures and does not train")


class TestsReward(Section):
    """1 where the prompt's tests pass in the sandbox."""

    kind: Literal["tests"]
    weight: float = Field(default=1.0, description="0 measures and does not train")


class FormatReward(Section):
    """1 where the answer stops by itself and is Python."""

    kind: Literal["format"]
    weight: float = Field(default=1.0, description="0 measures and does not train")


class LengthReward(Section):
    """Down to -1 for answers that are long."""

    kind: Literal["length"]
    soft_tokens: int = Field(gt=0, description="free length")
    weight: float = Field(default=1.0, description="0 measures and does not train")


RewardSettings = Annotated[ModelReward | TestsReward | FormatReward | LengthReward, Field(discriminator="kind")]


class MeasureSettings(Section):
    """How rewards are measured before and after, on prompts that are not trained on."""

    prompts: tuple[Path, ...] = Field(min_length=1, description="conversations; their last answer is not used")
    per_prompt: int = Field(default=4, gt=0, description="answers to each")
    max_new_tokens: int = Field(gt=0, description="an answer that is longer is unfinished")
    temperature: float = Field(default=1.0, ge=0, description="of sampling")
    batch_size: int = Field(default=64, gt=0, description="answers at a time")


@dataclass
class Rewards:
    """Rewards as TRL takes them.

    Args:
        functions: Functions, or models for TRL to place.
        names: Of each.
        weights: Of each; 0 measures and does not train.
        tokenizers: For models; else `None`.
    """

    functions: list[Any] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    tokenizers: list[Any] = field(default_factory=list)

    def add(self, name: str, function: Any, weight: float, tokenizer: Any = None) -> None:
        """Adds a reward.

        Args:
            name: Its kind.
            function: A function, or a model.
            weight: Its weight.
            tokenizer: For a model.
        """
        self.names.append(name)
        self.functions.append(function)
        self.weights.append(weight)
        self.tokenizers.append(tokenizer)

    @property
    def judges(self) -> list[str]:
        """Those that measure and do not train."""
        return [name for name, weight in zip(self.names, self.weights, strict=True) if not weight]


def make_rewards(
    settings: Sequence[RewardSettings], sandbox: "Sandbox | None", *, max_tokens: int, max_bad_fraction: float
) -> Rewards:
    """Makes what TRL calls.

    Args:
        settings: The rewards.
        sandbox: Where tests run.
        max_tokens: Longest answer.
        max_bad_fraction: If a reward is unusable for more of the answers, the run stops.

    Returns:
        The rewards in the settings' order.

    Raises:
        SettingsError: If the free length leaves no room.
    """
    from codeshell_hf.align import rewards as functions
    from codeshell_hf.errors import SettingsError

    made = Rewards()
    for reward in settings:
        if reward.kind == "model":
            model, tokenizer = load_scorer(reward.path)
            made.add(reward.kind, model, reward.weight, tokenizer)
            continue
        if reward.kind == "length":
            if reward.soft_tokens >= max_tokens:
                raise SettingsError(
                    f"soft_tokens is {reward.soft_tokens}, but answers end at {max_tokens} tokens; lower it or raise "
                    "trainer.max_completion_length"
                )
            function: Any = functions.LengthReward(reward.soft_tokens, max_tokens)
        elif reward.kind == "format":
            function = functions.FormatReward()
        else:
            function = functions.TestsReward(sandbox)  # type: ignore[arg-type]
        made.add(reward.kind, functions.GuardedReward(function, max_bad_fraction=max_bad_fraction), reward.weight)
    return made


def load_scorer(path: Path) -> tuple[Any, Any]:
    """Loads a reward model, and a tokenizer that writes what a policy said as the reward model learnt it.

    Args:
        path: Its folder.

    Returns:
        The model and the tokenizer.

    Raises:
        CheckpointError: If it is missing, broken, or has no head for a score.
    """
    import torch

    from codeshell_hf import CodeShellForSequenceClassification
    from codeshell_hf.errors import CheckpointError
    from codeshell_hf.text.chat import POLICY_TEMPLATE

    try:
        model, report = CodeShellForSequenceClassification.from_pretrained(
            path, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} cannot be loaded ({reason}); name the model of a reward stage") from error
    if report["missing_keys"] or model.config.num_labels != 1:
        raise CheckpointError(f"{path} has no head that gives one score; name the model of a reward stage")
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise CheckpointError(f"{path} has weights that are not numbers; train the reward model again")
    tokenizer = open_tokenizer(path)
    tokenizer.chat_template = POLICY_TEMPLATE
    return model.eval().requires_grad_(requires_grad=False), tokenizer


def measure(
    settings: MeasureSettings | None, trainer: Any, tokenizer: Any, rewards: Rewards, *, seed: int
) -> dict[str, list[float]] | None:
    """Lets the model answer held-out prompts and rewards what it says; every rank does the same.

    Args:
        settings: Which prompts; `None` measures nothing.
        trainer: With the model.
        tokenizer: Its own.
        rewards: Each is measured, whatever its weight.
        seed: Decides what is drawn.

    Returns:
        For each reward, "weighted", "tokens" and "finished" a mean for each prompt; `None` where nothing is measured.
    """
    from tqdm.auto import tqdm

    from codeshell_hf.text.decode import sample_answers

    if settings is None:
        return None
    conversations = read_all_conversations(settings.prompts)
    model = trainer.accelerator.unwrap_model(trainer.model)
    with tqdm(total=len(conversations), desc="measure", unit="prompt", disable=None) as bar:
        answers = sample_answers(
            model,
            tokenizer,
            [conversation.prompt for conversation in conversations],
            per_prompt=settings.per_prompt,
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            batch_size=settings.batch_size,
            seed=seed,
            on_progress=bar.update,
        )
    return score_answers(conversations, answers, rewards, device=model.device)


def score_answers(
    conversations: Sequence["Conversation"], answers: Sequence[Sequence[Any]], rewards: Rewards, *, device: Any
) -> dict[str, list[float]]:
    """Rewards answers.

    Args:
        conversations: What they answer.
        answers: To each.
        rewards: Each is measured.
        device: Where the models are.

    Returns:
        As `measure`.
    """
    from codeshell_hf.align.scores import score_texts

    completions = [[answer.turn] for some in answers for answer in some]
    columns: dict[str, Any] = {
        "completions": completions,
        "prompts": [
            conversation.prompt for conversation, some in zip(conversations, answers, strict=True) for _ in some
        ],
        "tests": [conversation.tests for conversation, some in zip(conversations, answers, strict=True) for _ in some],
        "completion_ids": [[0] * answer.tokens for some in answers for answer in some],
    }
    values: dict[str, list[float]] = {}
    for name, function, tokenizer in zip(rewards.names, rewards.functions, rewards.tokenizers, strict=True):
        if tokenizer is None:
            given = function(**columns)
        else:
            turns = [[*prompt, *said] for prompt, said in zip(columns["prompts"], completions, strict=True)]
            given = score_texts(function.to(device), tokenizer, turns)
        values[name] = [float("nan") if value is None else float(value) for value in given]
    count = len(completions)
    weights = {name: weight for name, weight in zip(rewards.names, rewards.weights, strict=True) if weight}
    # As TRL does, a reward that is none counts for nothing.
    weighted = [
        sum(weight * values[name][index] for name, weight in weights.items() if not math.isnan(values[name][index]))
        for index in range(count)
    ]
    flat = [answer for some in answers for answer in some]
    everything = {
        **values,
        **({"weighted": weighted} if weights else {}),
        "tokens": [float(answer.tokens) for answer in flat],
        "finished": [float(answer.is_finished) for answer in flat],
    }
    size = len(answers[0])
    return {
        name: [sum(given[first : first + size]) / size for first in range(0, count, size)]
        for name, given in everything.items()
    }


def report_changes(
    work: Work, rewards: Rewards, before: dict[str, list[float]], after: dict[str, list[float]], *, seed: int
) -> None:
    """Compares before and after, and looks for a reward that rises while what judges it falls.

    Args:
        work: For manifest and report.
        rewards: Which train and which judge.
        before: From `measure`.
        after: From `measure`.
        seed: Of the intervals.
    """
    from dataclasses import asdict

    from codeshell_hf.text.intervals import measure_change

    changes: dict[str, Change] = {}
    for name in before:
        pairs = zip(before[name], after[name], strict=True)
        known = [pair for pair in pairs if not any(math.isnan(value) for value in pair)]
        if len(known) > 1:
            changes[name] = measure_change([old for old, _ in known], [new for _, new in known], seed=seed)
    work.measures["measured"] = {name: asdict(change) for name, change in changes.items()}
    for name, change in changes.items():
        role = "held-out judge " if name in rewards.judges else "trained reward " if name == "weighted" else ""
        work.report.append(f"{role}{name}: {change}")
    if "weighted" not in changes:
        return
    hacked = [name for name in rewards.judges if name in changes and changes[name].high < 0 < changes["weighted"].low]
    work.measures["reward_hacking"] = sorted(hacked)
    if hacked:
        work.report.append(
            f"reward hacking: the trained reward rose while {', '.join(sorted(hacked))} fell; "
            "raise trainer.beta, train less, or mend the reward"
        )
