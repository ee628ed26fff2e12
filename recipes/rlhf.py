"""Learns from rewards with TRL: RLOO or GRPO on a reward model, on unit tests run in the sandbox, on format and length.

python -m recipes.rlhf recipes/nano/rlhf.yaml
"""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from codeshell_hf.sandbox.settings import SandboxSettings
from codeshell_hf.stages.numerics import read_config
from codeshell_hf.stages.stage import Stage, Work, is_first_rank, main
from recipes.alignment import (
    AlignmentSettings,
    check_whole_model,
    load_policy,
    make_adapter,
    make_trainer_config,
    quiet_logs,
    save_trained,
    train,
    write_history,
)
from recipes.examples import open_tokenizer, read_all_conversations
from recipes.rewards import MeasureSettings, RewardSettings, make_rewards, measure, report_changes


class Settings(AlignmentSettings, SandboxSettings):
    """Settings of reinforcement learning from feedback."""

    method: Literal["rloo", "grpo"] = Field(default="rloo", description="TRL's RLOO or GRPO")
    prompts: tuple[Path, ...] = Field(min_length=1, description="conversations; their last answer is not used")
    rewards: tuple[RewardSettings, ...] = Field(min_length=1, description="what is rewarded, each with its weight")
    max_bad_fraction: float = Field(
        default=0.1, ge=0, le=1, description="if a reward is unusable for more of the answers, the run stops"
    )
    measure: MeasureSettings | None = Field(default=None, description="null measures nothing before and after")
    held_out_prompts: tuple[Path, ...] = Field(
        default=(), description="what trainer.eval_strategy evaluates on while it trains, sharded or not"
    )


def run(settings: Settings, work: Work) -> None:
    """Trains and saves the model, and measures each reward on held-out prompts before and after.

    Args:
        settings: What to train on and what is rewarded.
        work: Where to write.
    """
    from codeshell_hf.publish.figures import draw_rewards, save_figure

    quiet_logs()
    check_rewards(settings)
    trainer_class, config_class = get_method(settings.method)
    checkpoints = work.folder / "checkpoints"
    config = make_trainer_config(
        *(config_class, settings, work, checkpoints),
        owned=("reward_weights", "remove_unused_columns"),
        reward_weights=[reward.weight for reward in settings.rewards],
        remove_unused_columns=False,
    )
    if settings.measure is not None:
        check_whole_model(config, "measure")
    tokenizer = open_tokenizer(settings.model)
    longest = config.max_completion_length
    data, dropped = make_prompts(settings, settings.prompts, tokenizer, longest)
    held_out = make_prompts(settings, settings.held_out_prompts, tokenizer, longest)[0] if evaluates(config) else None
    runs_code = any(reward.kind == "tests" for reward in settings.rewards)
    with settings.open_sandbox() if runs_code else nullcontext() as sandbox:
        rewards = make_rewards(
            settings.rewards,
            sandbox,
            max_tokens=longest,
            max_bad_fraction=settings.max_bad_fraction,
        )
        trainer = trainer_class(
            model=load_policy(settings, config),
            reward_funcs=rewards.functions,
            reward_processing_classes=rewards.tokenizers,
            args=config,
            train_dataset=data,
            eval_dataset=held_out,
            processing_class=tokenizer,
            peft_config=make_adapter(settings),
            callbacks=[make_watch()],
        )
        before = measure(settings.measure, trainer, tokenizer, rewards, seed=settings.seed)
        train(trainer, checkpoints)
        after = measure(settings.measure, trainer, tokenizer, rewards, seed=settings.seed)
    save_trained(trainer, settings, work, checkpoints)
    history = write_history(trainer, work)
    if is_first_rank():
        save_figure(draw_rewards(history, rewards.names), work.folder / "rewards.svg")
        if before and after:
            values = {"before": before, "after": after}
            (work.folder / "measured.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
    work.counts = {"prompts": len(data), "dropped": dropped, "steps": trainer.state.global_step}
    work.counts["unusable_rewards"] = {
        name: dict(function.bad)
        for name, function in zip(rewards.names, rewards.functions, strict=True)
        if getattr(function, "bad", None)
    }
    last: dict[str, Any] = next((entry for entry in reversed(history) if "reward" in entry), {})
    work.measures = {key: last[key] for key in ("reward", "kl", "completions/mean_length") if key in last}
    work.report.append(f"{settings.method}: {len(data)} prompts, {trainer.state.global_step} steps; " + describe(last))
    if before and after:
        report_changes(work, rewards, before, after, seed=settings.seed)


def get_method(name: str) -> tuple[type[Any], type[Any]]:
    """Finds TRL's trainer.

    Args:
        name: "rloo" or "grpo".

    Returns:
        The trainer and its configuration.
    """
    if name == "rloo":
        from trl import RLOOConfig, RLOOTrainer

        return RLOOTrainer, RLOOConfig
    from trl import GRPOConfig, GRPOTrainer

    return GRPOTrainer, GRPOConfig


def check_rewards(settings: Settings) -> None:
    """Checks that there is something to learn from, that learning stays near where it began, and what generates.

    Args:
        settings: With the rewards.

    Raises:
        SettingsError: If not.
    """
    import importlib.util

    from codeshell_hf.errors import SettingsError

    kinds = [reward.kind for reward in settings.rewards]
    if len(set(kinds)) < len(kinds):
        raise SettingsError(f"rewards are {', '.join(kinds)}; give each kind once")
    if not any(reward.weight for reward in settings.rewards):
        raise SettingsError("every reward has weight 0, so nothing would be learnt; give one of them a weight")
    if settings.method == "grpo" and "beta" not in settings.trainer:
        raise SettingsError(
            "trainer.beta is not given, and TRL's default for grpo is 0, which lets the model drift from where it "
            "began; write trainer.beta: 0.04, or 0.0 to want that"
        )
    if settings.trainer.get("eval_strategy", "no") != "no" and not settings.held_out_prompts:
        raise SettingsError(
            f"trainer.eval_strategy is {settings.trainer['eval_strategy']}, but there is nothing to evaluate on; "
            "name held_out_prompts"
        )
    if settings.trainer.get("use_vllm") and importlib.util.find_spec("vllm") is None:
        raise SettingsError(
            "trainer.use_vllm is true, but vllm is not installed; install it, or take the key out to generate with "
            "transformers"
        )


def evaluates(config: Any) -> bool:
    """Tells whether the trainer evaluates while it trains.

    Args:
        config: Its configuration.

    Returns:
        True for an `eval_strategy` of steps or epochs.
    """
    return str(config.eval_strategy.value) != "no"


def make_prompts(
    settings: Settings, paths: Sequence[Path], tokenizer: Any, max_tokens: int
) -> tuple[Any, dict[str, int]]:
    """Reads the prompts that can be learnt from.

    Args:
        settings: With the rewards.
        paths: Where the prompts are.
        tokenizer: The model's.
        max_tokens: Longest answer.

    Returns:
        A data set of `prompt` and `tests`, and how many were left out, by reason.

    Raises:
        DataError: If none is left.
    """
    from collections import Counter

    from datasets import Dataset

    from codeshell_hf.errors import DataError
    from codeshell_hf.text.chat import encode_prompt

    context = int(read_config(settings.model).n_positions)
    needs_tests = all(reward.kind == "tests" for reward in settings.rewards if reward.weight)
    dropped: Counter[str] = Counter()
    rows = []
    for conversation in read_all_conversations(paths):
        if needs_tests and not conversation.tests:
            dropped["prompts have no tests"] += 1
        elif len(encode_prompt(tokenizer, conversation.prompt)) > context - max_tokens:
            dropped[f"prompts leave no room for an answer in {context} positions"] += 1
        else:
            rows.append({"prompt": conversation.prompt, "tests": conversation.tests})
    if not rows:
        named = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise DataError(f"no prompt is left to learn from ({named}); add prompts or change rewards")
    return Dataset.from_list(rows), dict(dropped)


def make_watch() -> Any:
    """Makes a callback that stops a run whose rewards are no longer numbers.

    Returns:
        For the trainer.
    """
    import math

    from transformers import TrainerCallback

    from codeshell_hf.errors import RunFailed

    class Watch(TrainerCallback):
        """Looks at every entry of the log."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            """Stops the run.

            Raises:
                RunFailed: If a reward or its spread is not a number.
            """
            for key, value in (logs or {}).items():
                is_mean = key == "reward" or (key.startswith("rewards/") and key.endswith("/mean"))
                if is_mean and not math.isfinite(float(value)):
                    raise RunFailed(
                        f"{key} became {value} at step {state.global_step}; look at that reward, or lower "
                        "trainer.learning_rate, and run again"
                    )

    return Watch()


def describe(entry: dict[str, Any]) -> str:
    """Puts the last entry of the log into words.

    Args:
        entry: From the trainer.

    Returns:
        Reward, KL, length and pass rate, those that are there.
    """
    shown = {
        "reward": "reward",
        "kl": "KL (nats a token)",
        "completions/mean_length": "tokens",
        "rewards/tests/mean": "pass rate",
    }
    parts = [f"{name} {float(entry[key]):.3f}" for key, name in shown.items() if key in entry]
    return "in the last batches " + ", ".join(parts) if parts else "nothing was logged"


STAGE = Stage(
    name="rlhf",
    settings=Settings,
    inputs=lambda settings: {
        "model": settings.model,
        **{f"prompts {path.name}": path for path in settings.prompts},
        **{f"reward {reward.kind}": reward.path for reward in settings.rewards if reward.kind == "model"},
        **{f"held out {path.name}": path for path in settings.held_out_prompts},
        **({f"measure {path.name}": path for path in settings.measure.prompts} if settings.measure else {}),
    },
    run=run,
    kept="checkpoints/checkpoint-*",
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
