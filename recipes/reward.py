"""Trains a reward model on preference pairs with TRL.

codeshell reward recipes/nano/reward.yaml
"""

import math
import sys
from typing import Self

from pydantic import model_validator

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


class Settings(PairSettings):
    """Settings of the reward model."""

    @model_validator(mode="after")
    def _check_adapter(self) -> Self:
        if self.adapter is not None and self.adapter.quantization is not None:
            raise ValueError("adapter.quantization is for sft, rlhf and dpo; set it to null for a reward model")
        return self


def run(settings: Settings, work: Work) -> None:
    """Trains and saves the model, and measures its accuracy on held-out pairs.

    Raises:
        RunFailed: If a score is not finite.
    """
    import torch
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    from codeshell_hf.align.calibration import calibrate, compute_margins, expected_calibration_error, measure_accuracy
    from codeshell_hf.align.examples import make_reward_rows
    from codeshell_hf.align.models import choose_attention, open_tokenizer
    from codeshell_hf.align.preferences import read_all_pairs
    from codeshell_hf.align.reward_model import make_reward_model
    from codeshell_hf.align.splits import split_pairs
    from codeshell_hf.align.training_log import quiet_logs
    from codeshell_hf.errors import RunFailed
    from codeshell_hf.publish.figures import draw_calibration, save_figure

    quiet_logs()
    config = make_trainer_config(RewardConfig, settings, work, owned=("eos_token", "chat_template_path"))

    # Data
    tokenizer = open_tokenizer(settings.model)
    reading = read_all_pairs(settings.pairs, settings.get_reading())
    print_first("\n".join(reading.findings.describe()))
    parts = split_pairs(reading.pairs, settings.held_out_fraction, settings.seed)
    rows = make_reward_rows(tokenizer, parts[0], config.max_length, purpose="train")
    held_out_rows = make_reward_rows(tokenizer, parts[1], config.max_length, purpose="measure")
    held_out = Dataset.from_list(held_out_rows)

    # Training
    attention = choose_attention(settings.attention)
    trainer = RewardTrainer(
        model=make_reward_model(settings.model, attention=attention, pad_token_id=tokenizer.pad_token_id),
        args=config,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=make_adapter(settings, task="SEQ_CLS"),
    )
    train(trainer)

    # Scores of held-out pairs. TRL predicts a batch's chosen answers and then its rejected ones. Gathering truncates an
    # incomplete last batch, so the first pairs are repeated to fill it.
    batch = trainer.args.per_device_eval_batch_size
    at_a_time = batch * trainer.accelerator.num_processes
    filled = held_out.select([index % len(held_out) for index in range(-(-len(held_out) // at_a_time) * at_a_time)])
    predictions = trainer.predict(filled).predictions
    scores = torch.as_tensor(predictions[0] if isinstance(predictions, tuple) else predictions)
    margins = compute_margins(scores, batch, len(held_out))
    if not all(map(math.isfinite, margins)):
        raise RunFailed("a score is not finite; lower trainer.learning_rate and run again")
    save_trained(trainer, settings, work.folder, task="SEQ_CLS")

    # Report
    accuracy, bins = measure_accuracy(margins), calibrate(margins)
    calibration_error = expected_calibration_error(bins)
    if is_first_rank():
        save_figure(draw_calibration(bins), work.folder / "calibration.svg")
    too_long = len(parts[0]) + len(parts[1]) - len(rows) - len(held_out_rows)
    work.counts = {
        "pairs": len(rows),
        "held_out": len(held_out_rows),
        "longer_than_max_length": too_long,
        "dropped": dict(reading.dropped),
        "reading": reading.findings.as_counts(),
        "steps": trainer.state.global_step,
        "epochs": count_epochs(trainer),
    }
    work.measures = {
        "held_out_accuracy": round(accuracy, 4),
        "calibration": bins,
        "calibration_error": round(calibration_error, 4),
    }
    work.report.append(
        f"{len(rows)} pairs, {trainer.state.global_step} steps; prefers the better of {len(held_out)} held-out pairs "
        f"in {accuracy:.1%}; calibration error {calibration_error:.3f}"
    )
    work.report.append(
        f"{too_long} pairs were longer than {config.max_length} tokens and were dropped"
        + "".join(f"; {count} because {reason}" for reason, count in reading.dropped.items())
    )


STAGE = make_stage("reward", Settings, run, describe_pairs)

if __name__ == "__main__":
    sys.exit(main(STAGE))
