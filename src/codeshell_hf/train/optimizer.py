"""Optimisers: AdamW, and Muon for the matrices of the blocks."""

from collections.abc import Iterable
from typing import TypedDict, cast

import torch
from torch import nn

from ..modeling_codeshell import CodeShellAttention
from ..precision import ComputeDtype, Precision
from .compact_adamw import CompactAdamW
from .muon import Muon
from .settings import OptimizerSettings


class ParameterGroup(TypedDict, total=False):
    """The fields of an optimiser's parameter group that this package uses."""

    params: list[nn.Parameter]
    lr: float
    peak: float
    weight_decay: float
    momentum: float


def make_optimizers(
    model: nn.Module, settings: OptimizerSettings, orthogonalization: ComputeDtype = Precision.orthogonalization
) -> list[torch.optim.Optimizer]:
    """Makes AdamW, or AdamW and Muon, with each trainable parameter in exactly one group.

    Matrices and embeddings have weight decay; norms and biases have none. Each group has its peak learning rate as
    `peak`. Muon's iterations are in `orthogonalization`; queries, keys and values are matrices of their own for it.
    """
    matrices: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # ZeRO-3 flattens parameters, and stores the shape in an attribute.
            dimensions = len(getattr(parameter, "ds_shape", parameter.shape))
            is_block_matrix = dimensions == 2 and ".h." in f".{name}"
            uses_muon = settings.name == "muon" and is_block_matrix
            (matrices if uses_muon else decayed if dimensions >= 2 else others).append(parameter)
    options = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    rate, betas, epsilon = settings.learning_rate, settings.betas, settings.epsilon
    adamw: torch.optim.Optimizer
    if settings.is_compact:
        adamw = CompactAdamW(options, lr=rate, betas=betas, eps=epsilon, moments=settings.moments)
    else:
        adamw = torch.optim.AdamW(options, lr=rate, betas=betas, eps=epsilon, fused=True)
    optimizers: list[torch.optim.Optimizer] = [adamw]
    if matrices:
        rate = settings.matrix_learning_rate or settings.learning_rate
        dtype = getattr(torch, orthogonalization)
        pieces = {
            block.c_attn.weight: (block.c_attn.in_features, block.kv_dim, block.kv_dim)
            for block in model.modules()
            if isinstance(block, CodeShellAttention)
        }
        optimizers.append(Muon(matrices, lr=rate, weight_decay=settings.weight_decay, dtype=dtype, pieces=pieces))
    for group in groups(optimizers):
        group["peak"] = group["lr"]
    return optimizers


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Sets every group's learning rate to a share of its peak, 0 to 1."""
    for group in groups(optimizers):
        group["lr"] = group["peak"] * factor


def groups(optimizers: Iterable[torch.optim.Optimizer]) -> list[ParameterGroup]:
    """All parameter groups of all optimisers, in order."""
    return [cast(ParameterGroup, group) for optimizer in optimizers for group in optimizer.param_groups]
