"""Fine-tunes a model on conversations with TRL; the loss falls on the assistant's words and their stop alone.

python -m recipes.sft recipes/nano/sft.yaml
"""

import dataclasses
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

from pydantic import Field

from recipes.stage import Stage, StageSettings, Work, main


class Settings(StageSettings):
    """Settings of fine-tuning."""

    model: Path = Field(description="folder of the model to start from, with its tokenizer")
    conversations: Path = Field(description="JSON Lines with messages")
    held_out_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of conversations to measure on")
    trainer: dict[str, Any] = Field(default_factory=dict, description="TRL's SFTConfig, by its own names")
    seed: int = Field(default=0, ge=0, description="decides the split and the order")


def run(settings: Settings, work: Work) -> None:
    """Trains and saves the model, and measures the loss on held-out conversations before and after.

    Args:
        settings: What to train on.
        work: Where to write.
    """
    import torch
    from trl import SFTTrainer

    from codeshell_hf import CodeShellTokenizer
    from codeshell_hf.publish.figures import draw_tuning, save_figure
    from codeshell_hf.train.weights import load_model

    # TRL looks for a special token at the end of a turn; the released format ends turns with text, inside the loss.
    logging.getLogger("trl.trainer.sft_trainer").addFilter(lambda record: "end-of-turn" not in record.getMessage())
    tokenizer = CodeShellTokenizer.from_pretrained(settings.model)
    model = load_model(str(settings.model), dtype=torch.float32)
    train, held_out = split_conversations(settings)
    checkpoints = work.folder / "checkpoints"
    trainer = SFTTrainer(
        model=model,
        args=make_trainer_config(settings, checkpoints),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train(resume_from_checkpoint=find_whole_checkpoint(checkpoints))
    after = trainer.evaluate()["eval_loss"]

    shutil.rmtree(checkpoints)
    folder = work.folder / "model"
    trainer.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    history = [{"step": 0, "eval_loss": before}, *trainer.state.log_history]
    (work.folder / "log.json").write_text(json.dumps(history, indent=1), encoding="utf-8")
    save_figure(draw_tuning(history), work.folder / "loss.svg")
    work.counts = {"conversations": len(train), "held_out": len(held_out), "steps": trainer.state.global_step}
    work.measures = {"held_out_loss_before": round(before, 4), "held_out_loss_after": round(after, 4)}
    work.report.append(
        f"{len(train)} conversations, {trainer.state.global_step} steps; "
        f"loss on {len(held_out)} held-out ones {before:.3f} -> {after:.3f}"
    )


def find_whole_checkpoint(folder: Path) -> str | None:
    """Finds the newest checkpoint that a kill did not cut short, and removes those that it did.

    Args:
        folder: Holds the trainer's `checkpoint-*`; it may be missing.

    Returns:
        Its path, or `None` where there is none.
    """
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))  # the trainer writes it last
        except (OSError, json.JSONDecodeError):
            shutil.rmtree(path)
        else:
            return str(path)
    return None


def split_conversations(settings: Settings) -> tuple[Any, Any]:
    """Reads the conversations and puts some aside.

    Args:
        settings: Where they are and how many are put aside.

    Returns:
        Data sets of `messages` to train and to measure on.

    Raises:
        DataError: If one of them would be empty.
    """
    from datasets import Dataset

    from codeshell_hf.align.conversations import read_conversations
    from codeshell_hf.errors import DataError

    rows = [{"messages": list(conversation.messages)} for conversation in read_conversations(settings.conversations)]
    if round(len(rows) * settings.held_out_fraction) < 1 or len(rows) < 2:
        raise DataError(
            f"{settings.conversations} holds {len(rows)} conversations, of which {settings.held_out_fraction} is "
            "none to measure on; raise held_out_fraction or add conversations"
        )
    split = Dataset.from_list(rows).train_test_split(test_size=settings.held_out_fraction, seed=settings.seed)
    return split["train"], split["test"]


def make_trainer_config(settings: Settings, checkpoints: Path) -> Any:
    """Makes TRL's configuration, after a check of every key against the installed version.

    Args:
        settings: With the section `trainer`.
        checkpoints: Where the trainer saves.

    Returns:
        An `SFTConfig`.

    Raises:
        SettingsError: If a key is unknown or belongs to the recipe, or a value is wrong.
    """
    import torch
    from trl import SFTConfig

    from codeshell_hf.errors import SettingsError
    from codeshell_hf.settings import unknown_key

    known = {field.name for field in dataclasses.fields(SFTConfig)} - {"output_dir", "seed"}
    for key in settings.trainer:
        if key not in known:
            raise SettingsError(unknown_key(key, known, "the section trainer"))
    fixed = {"output_dir": str(checkpoints), "seed": settings.seed, "use_cpu": not torch.cuda.is_available()}
    try:
        return SFTConfig(**settings.trainer, **fixed)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"trainer: {' '.join(str(error).split())}") from error


STAGE = Stage(
    name="sft",
    settings=Settings,
    inputs=lambda settings: {"model": settings.model, "conversations": settings.conversations},
    run=run,
    code=("src/codeshell_hf/align", "src/codeshell_hf/tokenization_codeshell.py"),
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
