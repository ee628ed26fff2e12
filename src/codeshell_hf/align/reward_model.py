"""Reward models: a causal model with a head for one score; making, loading and scoring."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from ..errors import CheckpointError
from ..modeling_codeshell import CodeShellForSequenceClassification
from ..text.chat import POLICY_TEMPLATE, Message, pad_rows
from ..tokenization_codeshell import CodeShellTokenizer
from .models import open_tokenizer


@dataclass(frozen=True)
class RewardModel:
    """A frozen, trained reward model, and a tokenizer whose template leaves the last turn as the policy wrote it."""

    model: CodeShellForSequenceClassification
    tokenizer: CodeShellTokenizer


def make_reward_model(folder: Path, *, attention: str, pad_token_id: int) -> CodeShellForSequenceClassification:
    """Puts a new head on a causal model, in float32; its weights are zero, so at first every text scores 0.

    Args:
        folder: A causal model.
        attention: Transformers' name of the attention.
        pad_token_id: The score is read at the last token that is not this one.

    Raises:
        CheckpointError: If it cannot be loaded.
    """
    try:
        model: CodeShellForSequenceClassification = CodeShellForSequenceClassification.from_pretrained(
            folder, num_labels=1, dtype=torch.float32, attn_implementation=attention
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder} cannot be loaded ({reason}); name a complete CodeShell checkpoint") from error
    torch.nn.init.zeros_(model.score.weight)
    model.config.pad_token_id = pad_token_id
    return model


def load_reward_model(folder: Path) -> RewardModel:
    """Loads a trained reward model.

    Raises:
        CheckpointError: If it is missing, broken, or has no head for one score.
    """
    try:
        model, report = CodeShellForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder} cannot be loaded ({reason}); name the model of a reward stage") from error
    if report["missing_keys"] or model.config.num_labels != 1:
        raise CheckpointError(f"{folder} has no head that gives one score; name the model of a reward stage")
    if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
        raise CheckpointError(f"{folder} has weights that are not numbers; train the reward model again")
    tokenizer = open_tokenizer(folder)
    tokenizer.chat_template = POLICY_TEMPLATE
    return RewardModel(model.eval().requires_grad_(requires_grad=False), tokenizer)


def shard_reward_model(reward_model: RewardModel, *, bf16: bool) -> None:
    """Shards a frozen reward model over the ranks by FSDP2, a block at a time; each forward pass needs all ranks.

    TRL would keep it whole on every rank. Under ZeRO-3 it is DeepSpeed that shards it.

    Args:
        bf16: Whether blocks are gathered, and compute, in bfloat16; what each rank keeps stays in float32.
    """
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if bf16 else None)
    model = reward_model.model
    for block in model.transformer.h:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)


@torch.no_grad()
def score_texts(
    reward_model: RewardModel, conversations: Sequence[Sequence[Message]], *, batch_size: int = 64
) -> list[float]:
    """Scores conversations that end with an answer; those of similar length share a batch."""
    model, tokenizer = reward_model.model, reward_model.tokenizer
    encoded = [
        tokenizer.apply_chat_template(list(turns), return_dict=True, tokenizer_kwargs={"split_special_tokens": True})[
            "input_ids"
        ]
        for turns in conversations
    ]
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
    scores: dict[int, float] = {}
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        rows = [encoded[index] for index in batch]
        ids, mask = pad_rows(rows, tokenizer.pad_token_id, side="right")
        logits = model(ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False).logits
        scores.update(zip(batch, logits[:, 0].float().tolist(), strict=True))
    return [scores[index] for index in range(len(encoded))]
