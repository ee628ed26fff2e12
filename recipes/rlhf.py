"""Trains on rewards with TRL's RLOO or GRPO: a reward model, unit tests run in the sandbox, format and length.

codeshell rlhf recipes/nano/rlhf.yaml
"""

import os
import sys
from contextlib import nullcontext
from typing import Literal, Self

from pydantic import Field, model_validator

from codeshell_hf.align.settings import EnvironmentSettings, MeasureSettings, RewardSettings
from codeshell_hf.sandbox.settings import SandboxSettings
from codeshell_hf.stages.precision_choice import read_config
from codeshell_hf.stages.stage import Work, is_first_rank, main, print_first
from codeshell_hf.text.settings import DataPlace, Reading
from recipes.with_trl import (
    AlignmentSettings,
    count_epochs,
    make_adapter,
    make_stage,
    make_trainer_config,
    save_trained,
    train,
)


class Settings(AlignmentSettings, SandboxSettings, Reading):
    """Settings of reinforcement learning from feedback."""

    method: Literal["rloo", "grpo"] = Field(default="rloo", description="TRL's RLOO or GRPO")
    prompts: tuple[DataPlace, ...] = Field(min_length=1, description="conversations; their last answer is not used")
    rewards: tuple[RewardSettings, ...] = Field(min_length=1, description="the rewards, each with a weight")
    environment: EnvironmentSettings | None = Field(
        default=None, description="lets the model run programs before it answers; needs method grpo"
    )
    max_bad_fraction: float = Field(
        default=0.1, ge=0, le=1, description="the run stops if a reward is unusable for a larger share of answers"
    )
    max_idle_steps: int | None = Field(
        default=20, gt=0, description="the run fails after so many steps in a row that taught nothing; null goes on"
    )
    measure: MeasureSettings | None = Field(default=None, description="null does not measure before and after")
    held_out_prompts: tuple[DataPlace, ...] = Field(
        default=(), description="prompts for trainer.eval_strategy, during training"
    )
    max_prompt_tokens: int | None = Field(
        default=None, gt=0, description="longer prompts are dropped; null takes all with room for an answer"
    )

    @model_validator(mode="after")
    def _check_trainer(self) -> Self:
        if self.method == "grpo" and "beta" not in self.trainer:
            raise ValueError(
                "trainer.beta is not given, and TRL's default for grpo is 0, which lets the model drift from its "
                "start; set trainer.beta: 0.04, or 0.0 if you want that"
            )
        if self.environment is not None and self.method != "grpo":
            raise ValueError(f"environment needs TRL's tools, which {self.method} does not have; set method: grpo")
        if self.environment is not None and self.measure is not None:
            raise ValueError(
                "environment is set, but measure answers without tools; set measure: null, and trainer.eval_strategy "
                "with held_out_prompts, which are answered with them"
            )
        if self.trainer.get("eval_strategy", "no") != "no" and not self.held_out_prompts:
            raise ValueError(
                f"trainer.eval_strategy is {self.trainer['eval_strategy']}, but there is nothing to evaluate on; "
                "name held_out_prompts"
            )
        if self.trainer.get("mask_truncated_completions"):
            raise ValueError(
                "trainer.mask_truncated_completions is true, but TRL would also mask answers that end with a text; "
                "take it out, and reward what is cut off with less by a reward of kind length"
            )
        return self


def run(settings: Settings, work: Work) -> None:
    """Trains and saves the model, and measures each reward on held-out prompts before and after."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    from codeshell_hf.align.callbacks import make_checks, measure, measure_at_start
    from codeshell_hf.align.environment import count_without_tests, offer_tools
    from codeshell_hf.align.examples import make_prompt_rows, read_all_prompts
    from codeshell_hf.align.models import load_policy, open_tokenizer
    from codeshell_hf.align.reference import ShardsReference
    from codeshell_hf.align.reward_hacking import summarize_changes
    from codeshell_hf.align.reward_measurement import RewardMeasurement
    from codeshell_hf.align.rewards import (
        check_rewards,
        list_judges,
        make_rewards,
        needs_sandbox,
        shard_reward_models,
    )
    from codeshell_hf.align.trainer_config import check_environment, is_fsdp
    from codeshell_hf.align.training_log import describe_rewards, last_entry, quiet_logs
    from codeshell_hf.align.turn_end import EndsTurns
    from codeshell_hf.publish.figures import draw_rewards, save_figure

    sections, method, model, environment = settings.rewards, settings.method, settings.model, settings.environment
    reading = settings.get_reading()
    quiet_logs()
    check_rewards(sections)
    methods = {"rloo": (RLOOTrainer, RLOOConfig), "grpo": (GRPOTrainer, GRPOConfig)}
    trainer_class, config_class = methods[method]
    config = make_trainer_config(
        config_class,
        settings,
        work,
        owned=("reward_weights", "remove_unused_columns", "max_tool_calling_iterations"),
        reward_weights=[reward.weight for reward in sections],
        remove_unused_columns=False,
        **({} if environment is None else {"max_tool_calling_iterations": environment.max_calls}),
    )
    if environment is not None:
        check_environment(os.environ, config.world_size)

    # Data
    tokenizer = open_tokenizer(model)
    limits = {
        "max_new_tokens": config.max_completion_length,
        "context_tokens": read_config(model).n_positions,
        "max_prompt_tokens": settings.max_prompt_tokens,
        "needs_tests": all(reward.kind == "tests" for reward in sections if reward.weight),
    }
    prompts = read_all_prompts(settings.prompts, reading)
    print_first("\n".join(prompts.findings.describe()))
    rows, dropped = make_prompt_rows(tokenizer, prompts.conversations, **limits)
    held_out = None
    if str(config.eval_strategy.value) != "no":
        held_out_prompts = read_all_prompts(settings.held_out_prompts, reading).conversations
        held_out_rows, _ = make_prompt_rows(tokenizer, held_out_prompts, **limits)
        held_out = Dataset.from_list(held_out_rows)

    # Training
    measurement = RewardMeasurement(settings.measure, work.folder / "measured_before.json", seed=config.seed)
    runs_programs = environment is not None or any(map(needs_sandbox, sections))
    with settings.open_sandbox() if runs_programs else nullcontext() as sandbox:
        rewards = make_rewards(
            sections,
            sandbox,
            max_tokens=config.max_completion_length,
            max_bad_fraction=settings.max_bad_fraction,
            folder=work.folder,
        )
        if is_fsdp(os.environ):
            shard_reward_models(rewards, bf16=config.bf16)
        trainer = type(trainer_class.__name__, (EndsTurns, ShardsReference, trainer_class), {})(
            model=load_policy(settings, bf16=config.bf16, fp16=config.fp16),
            reward_funcs=[reward.function for reward in rewards],
            reward_processing_classes=[reward.tokenizer for reward in rewards],
            args=config,
            train_dataset=Dataset.from_list(rows),
            eval_dataset=held_out,
            processing_class=tokenizer,
            peft_config=make_adapter(settings),
            callbacks=make_checks(settings.max_idle_steps, config.max_completion_length),
            **offer_tools(environment, sandbox, tokenizer),
        )
        measure_at_start(trainer, lambda policy: measurement.take_first(policy, tokenizer, rewards))
        train(trainer)
        measure(trainer, lambda policy: measurement.take(policy, tokenizer, rewards))
        measure(trainer, lambda policy: measurement.take_copies(policy, tokenizer, rewards))
    save_trained(trainer, settings, work.folder)

    # Report
    history = trainer.state.log_history
    last = last_entry(history, "reward")
    steps = trainer.state.global_step
    work.counts = {
        "prompts": len(rows),
        "dropped": dropped,
        "reading": prompts.findings.as_counts(),
        "steps": steps,
        "epochs": count_epochs(trainer),
        **count_without_tests(environment, [row["tests"] for row in rows]),
        "unusable_rewards": {reward.name: reward.unusable for reward in rewards if reward.unusable},
    }
    work.measures = {key: last[key] for key in ("reward", "kl", "completions/mean_length") if key in last}
    work.report.append(f"{method}: {len(rows)} prompts, {steps} steps; {describe_rewards(last)}")
    if is_first_rank():
        save_figure(draw_rewards(history, [reward.name for reward in rewards]), work.folder / "rewards.svg")
    changed, lines = summarize_changes(measurement, list_judges(rewards))
    work.measures |= changed
    work.report += lines
    if changed and is_first_rank():
        measurement.write(work.folder / "measured.json")


STAGE = make_stage("rlhf", Settings, run)

if __name__ == "__main__":
    sys.exit(main(STAGE))
