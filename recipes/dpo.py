"""Trains on preference pairs with TRL's DPO or KTO, without a reward model and without sampling.

codeshell dpo recipes/nano/dpo.yaml
"""

import sys
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from codeshell_hf.align.settings import MeasureSettings, TestsRewardSettings
from codeshell_hf.sandbox.settings import SandboxSettings
from codeshell_hf.stages.stage import Work, is_first_rank, main, print_first
from recipes.with_trl import (
    PairSettings,
    count_epochs,
    describe_pairs,
    make_adapter,
    make_stage,
    make_trainer_config,
    save_trained,
    train,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Settings(PairSettings, SandboxSettings):
    """Settings of direct preference optimisation."""

    method: Literal["dpo", "kto"] = Field(
        default="dpo", description="TRL's DPO, or KTO, which takes each answer alone as good or bad"
    )
    measure: MeasureSettings | None = Field(
        default=None, description="run the tests of held-out prompts before and after; null does not"
    )


def run(settings: Settings, work: Work) -> None:
    """Trains and saves the model; measures held-out pairs, and held-out prompts by their tests."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    from codeshell_hf.align.callbacks import measure, measure_at_start
    from codeshell_hf.align.examples import make_preference_rows
    from codeshell_hf.align.held_out_pairs import HeldOutPairs, describe, encode_pair
    from codeshell_hf.align.models import load_policy, open_tokenizer
    from codeshell_hf.align.preferences import read_all_pairs
    from codeshell_hf.align.reference import ShardsReference
    from codeshell_hf.align.reward_hacking import summarize_changes
    from codeshell_hf.align.reward_measurement import RewardMeasurement
    from codeshell_hf.align.rewards import list_judges, make_rewards
    from codeshell_hf.align.splits import split_pairs
    from codeshell_hf.align.training_log import list_losses, quiet_logs
    from codeshell_hf.publish.figures import draw_tuning, save_figure

    quiet_logs()
    trainer_class, config_class = {"dpo": (DPOTrainer, DPOConfig), "kto": (KTOTrainer, KTOConfig)}[settings.method]
    config = make_trainer_config(config_class, settings, work)

    # Data
    tokenizer = open_tokenizer(settings.model)
    reading = read_all_pairs(settings.pairs, settings.get_reading())
    print_first("\n".join(reading.findings.describe()))
    parts = split_pairs(reading.pairs, settings.held_out_fraction, settings.seed)
    rows = make_preference_rows(tokenizer, parts[0], config.max_length, purpose="train")
    held_out = make_preference_rows(tokenizer, parts[1], config.max_length, purpose="measure")

    # Training
    measurement = RewardMeasurement(settings.measure, work.folder / "measured_before.json", seed=settings.seed)
    pairs = HeldOutPairs(
        [encode_pair(tokenizer, row["prompt"], row["chosen"], row["rejected"]) for row in held_out],
        work.folder / "held_out_before.json",
        losses=list_losses(config),
        beta=config.beta,
        writes=is_first_rank(),
    )
    sizes = {"batch_size": config.per_device_eval_batch_size, "pad_id": tokenizer.pad_token_id}
    with settings.open_sandbox() if settings.measure else nullcontext() as sandbox:
        judge = TestsRewardSettings(kind="tests", weight=0.0)
        rewards = (
            make_rewards([judge], sandbox, max_tokens=0, max_bad_fraction=1.0, folder=work.folder) if sandbox else []
        )
        trainer = type(trainer_class.__name__, (ShardsReference, trainer_class), {})(
            model=load_policy(settings, bf16=config.bf16, fp16=config.fp16),
            args=config,
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(held_out),
            processing_class=tokenizer,
            peft_config=make_adapter(settings),
        )

        def measure_first(policy: "PreTrainedModel") -> None:
            pairs.take_reference(policy, **sizes)
            measurement.take_first(policy, tokenizer, rewards)

        def measure_last(policy: "PreTrainedModel") -> None:
            pairs.take_last(policy, **sizes)
            measurement.take(policy, tokenizer, rewards)
            measurement.take_copies(policy, tokenizer, rewards)

        measure_at_start(trainer, measure_first)
        train(trainer)
        measure(trainer, measure_last)
    before, after = pairs.measure(pairs.untrained), pairs.measure(pairs.scored)
    history = trainer.state.log_history
    history.insert(0, {"step": 0, **describe(before, "eval_")})
    history.append({"step": trainer.state.global_step, **describe(after, "eval_")})
    save_trained(trainer, settings, work.folder)

    # Report
    work.counts = {
        "pairs": len(rows),
        "held_out": len(held_out),
        "longer_than_max_length": len(parts[0]) + len(parts[1]) - len(rows) - len(held_out),
        "dropped": dict(reading.dropped),
        "reading": reading.findings.as_counts(),
        "steps": trainer.state.global_step,
        "epochs": count_epochs(trainer),
    }
    work.measures = {
        "held_out_loss_before": before.loss,
        "held_out_loss_after": after.loss,
        "held_out_accuracy": after.accuracy,
        "held_out_margin": after.margin,
    }
    if change := pairs.measure_change(pairs.scored, settings.seed):
        work.measures["held_out_margin_change"] = asdict(change)
    loss = "" if after.loss is None else f"loss {before.loss:.3f} -> {after.loss:.3f}, "
    work.report.append(
        f"{settings.method}: {len(rows)} pairs, {trainer.state.global_step} steps; on {len(held_out)} held-out pairs "
        f"{loss}margin {after.margin:+.3f}, the better answer is preferred in {after.accuracy:.1%}"
    )
    if is_first_rank():
        save_figure(draw_tuning(history), work.folder / "loss.svg")
    changed, lines = summarize_changes(measurement, list_judges(rewards))
    work.measures |= changed
    work.report += lines
    if changed and is_first_rank():
        measurement.write(work.folder / "measured.json")


STAGE = make_stage("dpo", Settings, run, describe_pairs)

if __name__ == "__main__":
    sys.exit(main(STAGE))
