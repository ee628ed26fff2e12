"""Trains a reward model on pairs of a better and a worse answer with TRL.

python -m recipes.reward recipes/nano/reward.yaml
"""

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codeshell_hf.stages.stage import Stage, Work, is_first_rank, main
from recipes.alignment import (
    PairSettings,
    choose_attention,
    make_adapter,
    make_trainer_config,
    quiet_logs,
    save_trained,
    train,
    write_history,
)
from recipes.examples import open_tokenizer, read_all_pairs, split_pairs

if TYPE_CHECKING:
    from codeshell_hf.align.preferences import Pair


class Settings(PairSettings):
    """Settings of the reward model."""


def run(settings: Settings, work: Work) -> None:
    """Trains and saves the model, and measures how often it prefers the better of two held-out answers.

    Args:
        settings: What to train on.
        work: Where to write.

    Raises:
        RunFailed: If a score is not a number.
    """
    from trl import RewardConfig, RewardTrainer

    from codeshell_hf.errors import RunFailed
    from codeshell_hf.publish.figures import draw_calibration, save_figure

    quiet_logs()
    checkpoints = work.folder / "checkpoints"
    config = make_trainer_config(RewardConfig, settings, work, checkpoints, owned=("eos_token", "chat_template_path"))
    tokenizer = open_tokenizer(settings.model)
    read, dropped = read_all_pairs(settings.pairs)
    parts = split_pairs(read, settings.held_out_fraction, settings.seed)
    data, too_long = render_pairs(tokenizer, parts, config.max_length)
    trainer = RewardTrainer(
        model=load_scorer(settings),
        args=config,
        train_dataset=data[0],
        eval_dataset=data[1],
        processing_class=tokenizer,
        peft_config=make_adapter(settings, task="SEQ_CLS"),
    )
    train(trainer, checkpoints)
    margins = score_margins(trainer, data[1])
    if not all(math.isfinite(margin) for margin in margins):
        raise RunFailed("a score became something that is not a number; lower trainer.learning_rate and run again")
    from codeshell_hf import CodeShellForSequenceClassification

    save_trained(trainer, settings, work, checkpoints, head=CodeShellForSequenceClassification)
    write_history(trainer, work)
    # A tie is a coin that is tossed; before the first step, every pair is one.
    accuracy = sum((margin > 0) + (margin == 0) / 2 for margin in margins) / len(margins)
    bins = calibrate(margins)
    if is_first_rank():
        save_figure(draw_calibration(bins), work.folder / "calibration.svg")
    work.counts = {
        "pairs": len(data[0]),
        "held_out": len(data[1]),
        "longer_than_max_length": too_long,
        "dropped": dropped,
        "steps": trainer.state.global_step,
    }
    work.measures = {
        "held_out_accuracy": round(accuracy, 4),
        "calibration": bins,
        "calibration_error": round(expected_calibration_error(bins), 4),
    }
    work.report.append(
        f"{len(data[0])} pairs, {trainer.state.global_step} steps; prefers the better of {len(data[1])} held-out pairs "
        f"in {accuracy:.1%}; calibration error {expected_calibration_error(bins):.3f}"
    )
    work.report.append(
        f"{too_long} pairs were longer than {config.max_length} tokens and were dropped"
        + "".join(f"; {count} because {reason}" for reason, count in dropped.items())
    )


def load_scorer(settings: Settings) -> Any:
    """Loads the model with a head that gives one score, which starts at zero for every text.

    Args:
        settings: Which model.

    Returns:
        The model, its weights in float32.

    Raises:
        CheckpointError: If it cannot be loaded.
    """
    import torch

    from codeshell_hf import CodeShellForSequenceClassification
    from codeshell_hf.errors import CheckpointError, SettingsError

    if settings.adapter is not None and settings.adapter.quantization is not None:
        raise SettingsError("adapter.quantization is for sft, rlhf and dpo; set it to null for a reward model")
    try:
        model = CodeShellForSequenceClassification.from_pretrained(
            settings.model, num_labels=1, dtype=torch.float32, attn_implementation=choose_attention(settings)
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{settings.model} cannot be loaded ({reason}); name a whole CodeShell checkpoint"
        ) from error
    torch.nn.init.zeros_(model.score.weight)
    model.config.pad_token_id = open_tokenizer(settings.model).pad_token_id
    return model


def render_pairs(
    tokenizer: Any, parts: tuple[Sequence["Pair"], Sequence["Pair"]], max_tokens: int | None
) -> tuple[list[Any], int]:
    """Renders pairs, without those of which an answer is too long.

    Args:
        tokenizer: The model's.
        parts: Pairs to train and to measure on.
        max_tokens: Longest answer with its prompt; `None` for no limit.

    Returns:
        Data sets of `chosen_ids` and `rejected_ids`, and how many pairs were too long.

    Raises:
        DataError: If nothing is left to train or to measure on.
    """
    from datasets import Dataset

    from codeshell_hf.errors import DataError
    from codeshell_hf.text.chat import encode_answer

    data, too_long = [], 0
    for part, name in zip(parts, ("train", "measure"), strict=True):
        rows = [
            {
                f"{which}_ids": encode_answer(tokenizer, pair.prompt, getattr(pair, which))
                for which in ("chosen", "rejected")
            }
            for pair in part
        ]
        kept = [row for row in rows if max_tokens is None or max(map(len, row.values())) <= max_tokens]
        too_long += len(rows) - len(kept)
        if not kept:
            raise DataError(
                f"none of {len(rows)} pairs to {name} on is within {max_tokens} tokens; raise trainer.max_length"
            )
        data.append(Dataset.from_list(kept))
    return data, too_long


def score_margins(trainer: Any, data: Any) -> list[float]:
    """Scores both answers of each pair.

    Args:
        trainer: With the model.
        data: `chosen_ids` and `rejected_ids`.

    Returns:
        The better answer's score less the other's, for each pair.
    """
    import torch

    # TRL gives a batch's better answers, then its others; a last batch that is not full would be cut in the gathering.
    batch = trainer.args.per_device_eval_batch_size
    at_a_time = batch * trainer.accelerator.num_processes
    count = -(-len(data) // at_a_time) * at_a_time
    filled = data.select([index % len(data) for index in range(count)])
    predictions = trainer.predict(filled).predictions
    scores = torch.as_tensor(predictions[0] if isinstance(predictions, tuple) else predictions).float()
    sides = scores.reshape(-1, 2, batch)
    return (sides[:, 0] - sides[:, 1]).flatten()[: len(data)].tolist()


def calibrate(margins: Sequence[float], *, bins: int = 5) -> list[dict[str, float]]:
    """Compares how sure a reward model is with how often it is right.

    Args:
        margins: The better answer's score less the other's.
        bins: How many groups of sureness between 0.5 and 1.

    Returns:
        For each group that is not empty its mean `sure`, the share that is `right`, and its `pairs`.

    >>> calibrate([0.1, -0.1, 5.0])[0]["right"]
    0.5
    """
    groups: dict[int, list[tuple[float, bool]]] = {}
    for margin in margins:
        sure = 1 / (1 + math.exp(-min(abs(margin), 50.0)))
        groups.setdefault(min(bins - 1, int((sure - 0.5) * 2 * bins)), []).append((sure, margin > 0))
    return [
        {
            "sure": round(sum(sure for sure, _ in group) / len(group), 4),
            "right": round(sum(right for _, right in group) / len(group), 4),
            "pairs": len(group),
        }
        for _, group in sorted(groups.items())
    ]


def expected_calibration_error(bins: Sequence[dict[str, float]]) -> float:
    """The mean distance between sure and right, each group by its size.

    Args:
        bins: From `calibrate`.

    Returns:
        Between 0 and 1.

    Source:
        Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    return sum(abs(group["sure"] - group["right"]) * group["pairs"] for group in bins) / sum(
        group["pairs"] for group in bins
    )


STAGE = Stage(
    name="reward",
    settings=Settings,
    inputs=lambda settings: {
        "model": settings.model,
        **settings.list_pairs(),
    },
    run=run,
    kept="checkpoints/checkpoint-*",
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
