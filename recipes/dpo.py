"""Learns from pairs of a better and a worse answer directly, with TRL's DPO: no reward model, no sampling.

python -m recipes.dpo recipes/nano/dpo.yaml
"""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from pydantic import Field

from codeshell_hf.sandbox.settings import SandboxSettings
from codeshell_hf.stages.stage import Stage, Work, is_first_rank, main
from recipes.alignment import (
    PairSettings,
    check_whole_model,
    get_first,
    load_policy,
    make_adapter,
    make_trainer_config,
    quiet_logs,
    save_trained,
    train,
    write_history,
)
from recipes.examples import open_tokenizer, read_all_pairs, split_pairs
from recipes.rewards import MeasureSettings, TestsReward, make_rewards, measure, report_changes

if TYPE_CHECKING:
    from codeshell_hf.align.preferences import Pair


class Settings(PairSettings, SandboxSettings):
    """Settings of direct preference optimisation."""

    measure: MeasureSettings | None = Field(
        default=None, description="runs the tests of held-out prompts before and after; null does not"
    )


def run(settings: Settings, work: Work) -> None:
    """Trains and saves the model, and measures held-out pairs, and held-out prompts by their tests.

    Args:
        settings: What to train on.
        work: Where to write.
    """
    from trl import DPOConfig, DPOTrainer

    from codeshell_hf.publish.figures import draw_tuning, save_figure

    quiet_logs()
    checkpoints = work.folder / "checkpoints"
    config = make_trainer_config(DPOConfig, settings, work, checkpoints, owned=("eval_on_start",), eval_on_start=True)
    if settings.measure is not None:
        check_whole_model(config, "measure")
    tokenizer = open_tokenizer(settings.model)
    read, dropped = read_all_pairs(settings.pairs)
    parts = split_pairs(read, settings.held_out_fraction, settings.seed)
    data, counts = keep_fitting(tokenizer, parts, config.max_length)
    with settings.open_sandbox() if settings.measure else nullcontext() as sandbox:
        trainer = DPOTrainer(
            model=load_policy(settings, config),
            args=config,
            train_dataset=data[0],
            eval_dataset=data[1],
            processing_class=tokenizer,
            peft_config=make_adapter(settings),
        )
        judge = TestsReward(kind="tests", weight=0.0)
        rewards = make_rewards([judge], sandbox, max_tokens=0, max_bad_fraction=1.0)
        before = measure(settings.measure, trainer, tokenizer, rewards, seed=settings.seed)
        train(trainer, checkpoints)
        start = get_first(trainer.state.log_history, "eval_loss")
        end = trainer.evaluate()
        after = measure(settings.measure, trainer, tokenizer, rewards, seed=settings.seed)
    save_trained(trainer, settings, work, checkpoints)
    history = write_history(trainer, work)
    if is_first_rank():
        save_figure(draw_tuning(history), work.folder / "loss.svg")
        if before and after:
            values = {"before": before, "after": after}
            (work.folder / "measured.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
    work.counts = {**counts, "dropped": dropped, "steps": trainer.state.global_step}
    work.measures = {
        "held_out_loss_before": round(start, 4),
        "held_out_loss_after": round(end["eval_loss"], 4),
        "held_out_accuracy": round(end.get("eval_rewards/accuracies", float("nan")), 4),
        "held_out_margin": round(end.get("eval_rewards/margins", float("nan")), 4),
    }
    work.report.append(
        f"{counts['pairs']} pairs, {trainer.state.global_step} steps; loss on {counts['held_out']} held-out pairs "
        f"{start:.3f} -> {end['eval_loss']:.3f}, the better answer is preferred in "
        f"{work.measures['held_out_accuracy']:.1%}"
    )
    if before and after:
        report_changes(work, rewards, before, after, seed=settings.seed)


def keep_fitting(
    tokenizer: Any, parts: tuple[Sequence["Pair"], Sequence["Pair"]], max_tokens: int | None
) -> tuple[list[Any], dict[str, int]]:
    """Makes data sets of pairs, without those of which an answer is too long to be seen to its end.

    Args:
        tokenizer: The model's.
        parts: Pairs to train and to measure on.
        max_tokens: Longest prompt with its answer; `None` for no limit.

    Returns:
        Data sets of `prompt`, `chosen` and `rejected` turns, which TRL renders, and counts.

    Raises:
        DataError: If nothing is left to train or to measure on.
    """
    from datasets import Dataset

    from codeshell_hf.errors import DataError
    from codeshell_hf.text.chat import encode_answer

    data, too_long = [], 0
    for part, name in zip(parts, ("train", "measure"), strict=True):
        kept = [
            {
                "prompt": list(pair.prompt),
                "chosen": [{"role": "assistant", "content": pair.chosen}],
                "rejected": [{"role": "assistant", "content": pair.rejected}],
            }
            for pair in part
            if max_tokens is None
            or max(len(encode_answer(tokenizer, pair.prompt, text)) for text in (pair.chosen, pair.rejected))
            <= max_tokens
        ]
        too_long += len(part) - len(kept)
        if not kept:
            raise DataError(
                f"none of {len(part)} pairs to {name} on is within {max_tokens} tokens; raise trainer.max_length"
            )
        data.append(Dataset.from_list(kept))
    return data, {"pairs": len(data[0]), "held_out": len(data[1]), "longer_than_max_length": too_long}


STAGE = Stage(
    name="dpo",
    settings=Settings,
    inputs=lambda settings: {
        "model": settings.model,
        **settings.list_pairs(),
        **({f"measure {path.name}": path for path in settings.measure.prompts} if settings.measure else {}),
    },
    run=run,
    kept="checkpoints/checkpoint-*",
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
