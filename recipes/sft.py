"""Fine-tunes a model on conversations with TRL, with the loss on the assistant's answers and their stop only.

codeshell sft recipes/nano/sft.yaml
"""

import sys
from dataclasses import asdict

from pydantic import Field

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

# Conversations are rendered by codeshell_hf, not by TRL.
PREPARED = "prepared"
RENDERING = ("assistant_only_loss", "completion_only_loss", "dataset_text_field", "eos_token", "chat_template_path")


class Settings(AlignmentSettings, Reading):
    """Settings of fine-tuning."""

    conversations: tuple[DataPlace, ...] = Field(
        min_length=1, description="files, folders, or hub:OWNER/NAME@REVISION, in any form that is known"
    )
    held_out_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of conversations to measure on")


def run(settings: Settings, work: Work) -> None:
    """Trains and saves the model, and measures the loss on held-out conversations before and after."""
    from trl import SFTConfig, SFTTrainer

    from codeshell_hf.align.callbacks import measure, measure_at_start
    from codeshell_hf.align.held_out_loss import HeldOutLoss, average
    from codeshell_hf.align.models import load_policy, open_tokenizer
    from codeshell_hf.align.preparation import prepare_conversations
    from codeshell_hf.align.training_log import quiet_logs
    from codeshell_hf.publish.figures import draw_tuning, save_figure

    quiet_logs()
    config = make_trainer_config(SFTConfig, settings, work, owned=RENDERING)

    # Data
    tokenizer = open_tokenizer(settings.model)
    prepared = prepare_conversations(
        settings.conversations,
        settings.get_reading(),
        settings.model,
        config.max_length,
        work.folder / PREPARED,
        is_first=is_first_rank(),
    )
    print_first("\n".join(prepared.describe()))
    data, held_out = prepared.split(settings.held_out_fraction, settings.seed, config.max_length)

    # Training
    held_out_loss = HeldOutLoss(held_out.rows, work.folder / "held_out_before.json", writes=is_first_rank())
    sizes = {"batch_size": config.per_device_eval_batch_size, "pad_id": tokenizer.pad_token_id}
    trainer = SFTTrainer(
        model=load_policy(settings, bf16=config.bf16, fp16=config.fp16),
        args=config,
        train_dataset=data.rows,
        eval_dataset=held_out.rows,
        processing_class=tokenizer,
        peft_config=make_adapter(settings),
    )
    measure_at_start(trainer, lambda policy: held_out_loss.take_first(policy, **sizes))
    train(trainer)
    measure(trainer, lambda policy: held_out_loss.take_last(policy, **sizes))
    before, after = average(held_out_loss.before), average(held_out_loss.after)
    history = trainer.state.log_history
    history.insert(0, {"step": 0, "eval_token_loss": before})
    history.append({"step": trainer.state.global_step, "eval_token_loss": after})
    save_trained(trainer, settings, work.folder)
    if is_first_rank():
        prepared.remove()

    # Report
    steps = trainer.state.global_step
    split, without_loss = data.split + held_out.split, data.without_loss + held_out.without_loss
    work.counts = {
        "conversations": data.conversations,
        "held_out": held_out.conversations,
        "longer_than_max_length": split,
        "without_loss": without_loss,
        "tokens": data.tokens,
        "answer_tokens": data.answer_tokens,
        "steps": steps,
        "epochs": count_epochs(trainer),
        "reading": prepared.findings.as_counts(),
    }
    work.measures = {"held_out_loss_before": round(before, 4), "held_out_loss_after": round(after, 4)}
    work.report.append(
        f"{data.conversations} conversations, {data.answer_tokens:,} of {data.tokens:,} tokens in the loss, {steps} "
        f"steps; loss on {held_out.conversations} held-out ones {before:.3f} -> {after:.3f}"
    )
    if is_first_rank():
        save_figure(draw_tuning(history), work.folder / "loss.svg")
        if change := held_out_loss.measure_change(settings.seed):
            work.measures["held_out_change"] = asdict(change)
            work.report.append(
                f"by row {change.before:.3f} -> {change.after:.3f} ({change.after - change.before:+.3f} "
                f"[{change.low:+.3f}, {change.high:+.3f}] over {change.prompts} rows)"
            )
    if split:
        work.report.append(
            f"{split} were longer than {config.max_length} tokens and were split; {without_loss} had no "
            "answer to learn from"
        )


def describe(settings: Settings) -> list[str]:
    """What the first rows of each file hold, and one of them with its loss marked."""
    from codeshell_hf.align.preview import preview_places

    return preview_places(settings.conversations, settings.get_reading(), settings.model)


STAGE = make_stage("sft", Settings, run, describe)

if __name__ == "__main__":
    sys.exit(main(STAGE))
