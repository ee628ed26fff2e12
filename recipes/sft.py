"""Fine-tunes a model on conversations with TRL, with the loss on the assistant's answers and their stop only.

codeshell sft recipes/nano/sft.yaml
"""

import sys
from dataclasses import asdict

from pydantic import Field

from codeshell_hf.stages.stage import Stage, Work, is_first_rank, main, print_first
from codeshell_hf.text.settings import DataPlace, Reading
from recipes.with_trl import (
    CHECKPOINTS,
    AlignmentSettings,
    make_adapter,
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

    from codeshell_hf.align.held_out_loss import HeldOutLoss, sum_row_losses
    from codeshell_hf.align.models import load_policy, open_tokenizer
    from codeshell_hf.align.preparation import prepare_conversations
    from codeshell_hf.align.training_log import first_value, quiet_logs
    from codeshell_hf.publish.figures import draw_tuning, save_figure

    quiet_logs()
    config = make_trainer_config(SFTConfig, settings, work, owned=(*RENDERING, "eval_on_start"), eval_on_start=True)

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
    held_out_loss = HeldOutLoss(work.folder / "held_out_before.json", writes=is_first_rank())
    trainer = SFTTrainer(
        model=load_policy(settings.model, settings.adapter, settings.attention, bf16=config.bf16, fp16=config.fp16),
        args=config,
        train_dataset=data.rows,
        eval_dataset=held_out.rows,
        processing_class=tokenizer,
        peft_config=make_adapter(settings.adapter),
        preprocess_logits_for_metrics=sum_row_losses,
        compute_metrics=held_out_loss,
    )
    train(trainer)
    before = first_value(trainer.state.log_history, "eval_token_loss")
    after = trainer.evaluate()["eval_token_loss"]
    save_trained(trainer, settings.model, settings.adapter, work.folder)
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
        "reading": prepared.findings.as_counts(),
    }
    work.measures = {"held_out_loss_before": round(before, 4), "held_out_loss_after": round(after, 4)}
    work.report.append(
        f"{data.conversations} conversations, {data.answer_tokens:,} of {data.tokens:,} tokens in the loss, {steps} "
        f"steps; loss on {held_out.conversations} held-out ones {before:.3f} -> {after:.3f}"
    )
    if is_first_rank():
        save_figure(draw_tuning(trainer.state.log_history), work.folder / "loss.svg")
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


STAGE = Stage(
    name="sft",
    settings=Settings,
    run=run,
    describe=describe,
    checkpoint_globs=(f"{CHECKPOINTS}/checkpoint-*",),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
