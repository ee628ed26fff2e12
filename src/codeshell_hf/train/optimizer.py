"""Optimisers: AdamW, and Muon for the matrices of the blocks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

OptimizerName = Literal["adamw", "muon"]


@dataclass(frozen=True)
class OptimizerOptions:
    """What the optimisers are told.

    Args:
        name: "adamw" for all, or "muon" for the matrices of the blocks and AdamW for the rest.
        betas: AdamW's decay rates of the moments.
        epsilon: AdamW's term in the denominator.
        weight_decay: For matrices; norms and biases have none.
        learning_rate: AdamW's peak.
        matrix_learning_rate: Muon's peak; `None` with AdamW.
    """

    name: OptimizerName
    betas: tuple[float, float]
    epsilon: float
    weight_decay: float
    learning_rate: float
    matrix_learning_rate: float | None = None


def make_optimizers(model: nn.Module, options: OptimizerOptions) -> list[torch.optim.Optimizer]:
    """Makes the optimisers of a model, every trainable parameter in exactly one group.

    Args:
        model: A CodeShell model.
        options: What they are told.

    Returns:
        AdamW alone, or AdamW and Muon. Each group keeps its peak as `peak`.
    """
    matrices: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # What ZeRO-3 has shared out is flat, and tells its shape apart.
            dimensions = len(getattr(parameter, "ds_shape", parameter.shape))
            is_block_matrix = dimensions == 2 and ".h." in f".{name}"
            uses_muon = options.name == "muon" and is_block_matrix
            (matrices if uses_muon else decayed if dimensions >= 2 else others).append(parameter)
    adamw = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=options.learning_rate,
        betas=options.betas,
        eps=options.epsilon,
        fused=True,
    )
    optimizers: list[torch.optim.Optimizer] = [adamw]
    if matrices:
        rate = options.matrix_learning_rate or options.learning_rate
        optimizers.append(torch.optim.Muon(matrices, lr=rate, weight_decay=options.weight_decay))
    for group in groups(optimizers):
        group["peak"] = group["lr"]
    return optimizers


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Sets every group to a share of its peak.

    Args:
        optimizers: What `make_optimizers` made.
        factor: 0 to 1.
    """
    for group in groups(optimizers):
        group["lr"] = group["peak"] * factor


def groups(optimizers: Iterable[torch.optim.Optimizer]) -> list[dict[str, Any]]:
    """All parameter groups.

    Args:
        optimizers: The optimisers.

    Returns:
        Their groups, in order.
    """
    return [group for optimizer in optimizers for group in optimizer.param_groups]
