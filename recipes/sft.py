"""Fine-tunes a model on conversations with TRL; the loss falls on the assistant's words and their stop alone.

python -m recipes.sft recipes/nano/sft.yaml
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from codeshell_hf.stages.stage import Stage, Work, is_first_rank, main
from recipes.alignment import (
    AlignmentSettings,
    get_first,
    load_policy,
    make_adapter,
    make_trainer_config,
    quiet_logs,
    save_trained,
    train,
    write_history,
)
from recipes.examples import open_tokenizer, read_all_conversations, split_held_out

if TYPE_CHECKING:
    from codeshell_hf.text.intervals import Change

# What is rendered here, and not by TRL.
RENDERING = ("assistant_only_loss", "completion_only_loss", "dataset_text_field", "eos_token", "chat_template_path")


class Settings(AlignmentSettings):
    """Settings of fine-tuning."""

    conversations: tuple[Path, ...] = Field(min_length=1, description="JSON Lines with messages")
    held_out_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of conversations to measure on")


def run(settings: Settings, work: Work) -> None:
    """Trains and saves the model, and measures the loss on held-out conversations before and after.

    Args:
        settings: What to train on.
        work: Where to write.
    """
    from trl import SFTConfig, SFTTrainer

    from codeshell_hf.publish.figures import draw_tuning, save_figure

    quiet_logs()
    checkpoints = work.folder / "checkpoints"
    config = make_trainer_config(
        *(SFTConfig, settings, work, checkpoints),
        owned=(*RENDERING, "eval_on_start"),
        eval_on_start=True,
    )
    tokenizer = open_tokenizer(settings.model)
    read = read_all_conversations(settings.conversations)
    parts = split_held_out(read, settings.held_out_fraction, settings.seed, what="conversations")
    data, counts = render_all(tokenizer, parts, config.max_length)
    held_out = HeldOut(work.folder / "held_out_before.json")
    trainer = SFTTrainer(
        model=load_policy(settings, config),
        args=config,
        train_dataset=data[0],
        eval_dataset=data[1],
        processing_class=tokenizer,
        peft_config=make_adapter(settings),
        preprocess_logits_for_metrics=sum_losses,
        compute_metrics=held_out,
    )
    train(trainer, checkpoints)
    before = get_first(trainer.state.log_history, "eval_token_loss")
    after = trainer.evaluate()["eval_token_loss"]
    save_trained(trainer, settings, work, checkpoints)
    history = write_history(trainer, work)
    if is_first_rank():
        save_figure(draw_tuning(history), work.folder / "loss.svg")
    work.counts = {**counts, "steps": trainer.state.global_step}
    work.measures = {"held_out_loss_before": round(before, 4), "held_out_loss_after": round(after, 4)}
    work.report.append(
        f"{counts['conversations']} conversations, {counts['answer_tokens']:,} of {counts['tokens']:,} tokens in the "
        f"loss, {trainer.state.global_step} steps; "
        f"loss on {counts['held_out']} held-out ones {before:.3f} -> {after:.3f}"
    )
    change = held_out.measure_change(settings.seed) if is_first_rank() else None
    if change is not None:
        work.measures["held_out_change"] = asdict(change)
        work.report.append(
            f"by row {change.before:.3f} -> {change.after:.3f} "
            f"({change.after - change.before:+.3f} [{change.low:+.3f}, {change.high:+.3f}] over {change.prompts} rows)"
        )
    if counts["longer_than_max_length"]:
        work.report.append(
            f"{counts['longer_than_max_length']} were longer than {config.max_length} tokens and were split; "
            f"{counts['without_loss']} had nothing to learn from"
        )


def sum_losses(logits: Any, labels: Any) -> Any:
    """Reduces a batch to what its loss is made of, so that batches of any size add up.

    Args:
        logits: Shape (B, T, V).
        labels: Shape (B, T), -100 where no loss falls.

    Returns:
        Shape (B, 2), float64: the sum of the losses in nats, and how many tokens they are of.
    """
    import torch
    from torch.nn.functional import cross_entropy

    logits = logits[0] if isinstance(logits, tuple) else logits
    targets = labels[:, 1:]
    losses = cross_entropy(logits[:, :-1].float().mT, targets, reduction="none")  # (B, T - 1)
    return torch.stack([losses.sum(1).double(), (targets != -100).sum(1).double()], dim=1)


class HeldOut:
    """Averages over tokens: the trainer's own held-out loss is a mean of means over batches that are not alike.

    Args:
        path: Keeps what was measured before the first step, through a kill.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[float] = []

    def __call__(self, prediction: Any) -> dict[str, float]:
        """Averages, and remembers each row's own mean.

        Args:
            prediction: What `sum_losses` gave for all batches.

        Returns:
            The mean in nats.
        """
        sums = prediction.predictions.reshape(-1, 2)
        self.rows = [float(total / count) for total, count in sums if count]
        if is_first_rank() and not self.path.exists():
            self.path.write_text(json.dumps(self.rows), encoding="utf-8")
        total, count = sums.sum(axis=0)
        return {"token_loss": float(total / count)}

    def measure_change(self, seed: int) -> "Change | None":
        """Compares the rows before the first step with those measured last.

        Args:
            seed: Of the interval.

        Returns:
            The change, or `None` where there is a single row or they were grouped differently.
        """
        from codeshell_hf.text.intervals import measure_change

        before = json.loads(self.path.read_text(encoding="utf-8"))
        if len(before) != len(self.rows) or len(before) < 2:
            return None
        return measure_change(before, self.rows, seed=seed)


def render_all(
    tokenizer: Any, parts: tuple[Sequence[Any], Sequence[Any]], max_tokens: int | None
) -> tuple[list[Any], dict[str, int]]:
    """Renders conversations, splits those that are too long, and counts.

    Args:
        tokenizer: The model's.
        parts: Conversations to train and to measure on.
        max_tokens: Longest row; `None` for no limit.

    Returns:
        Data sets of `input_ids` and `labels`, and counts.

    Raises:
        DataError: If nothing is left to train or to measure on.
    """
    from datasets import Dataset

    from codeshell_hf.errors import DataError
    from codeshell_hf.text.chat import NO_LOSS, encode_conversation, split_conversation

    data = []
    counts = {"conversations": len(parts[0]), "held_out": len(parts[1]), "longer_than_max_length": 0, "without_loss": 0}
    for part, name in zip(parts, ("train", "measure"), strict=True):
        rendered = [encode_conversation(tokenizer, conversation) for conversation in part]
        pieces = [split_conversation(one, max_tokens or len(one.ids)) for one in rendered]
        counts["longer_than_max_length"] += sum(len(one.ids) > (max_tokens or len(one.ids)) for one in rendered)
        counts["without_loss"] += sum(not some for some in pieces)
        rows = [{"input_ids": piece.ids, "labels": piece.labels} for some in pieces for piece in some]
        if not rows:
            raise DataError(
                f"none of {len(part)} conversations to {name} on has an answer within rows of {max_tokens} tokens; "
                "raise trainer.max_length"
            )
        data.append(Dataset.from_list(rows))
    counts["tokens"] = sum(len(row) for row in data[0]["input_ids"])
    counts["answer_tokens"] = sum(label != NO_LOSS for row in data[0]["labels"] for label in row)
    return data, counts


STAGE = Stage(
    name="sft",
    settings=Settings,
    inputs=lambda settings: {
        "model": settings.model,
        **{f"conversations {path.name}": path for path in settings.conversations},
    },
    run=run,
    kept="checkpoints/checkpoint-*",
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
