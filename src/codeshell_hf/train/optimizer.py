"""Optimisers: AdamW, and Muon for the matrices of the blocks."""

import math
from collections.abc import Callable, Iterable
from typing import TypedDict, cast

import torch
from torch import Tensor, nn

from ..precision import ComputeDtype, Precision
from .settings import OptimizerSettings


class ParameterGroup(TypedDict, total=False):
    """The fields of an optimiser's parameter group that this package uses."""

    params: list[nn.Parameter]
    lr: float
    peak: float
    weight_decay: float
    momentum: float


# Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalize(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Moves the singular values of a matrix close to 1 with Newton-Schulz iterations.

    Args:
        matrix: Shape (M, N).
        dtype: Of the products. torch's Muon supports only bfloat16, which is very slow on many CPUs.

    Returns:
        Shape (M, N), in that dtype; singular values are between 0.6 and 1.3, unless they were tiny.

    Source:
        Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    linear, cubic, quintic = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).to(dtype)  # so that the smaller square is computed
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=cubic, alpha=quintic), x, beta=linear)
    return x.T if is_tall else x


class Muon(torch.optim.Muon):
    """torch's Muon with iterations in any dtype; the state has the same format."""

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float, weight_decay: float, dtype: torch.dtype) -> None:
        super().__init__(matrices, lr=lr, weight_decay=weight_decay)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Updates every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state, momentum = self.state[parameter], group["momentum"]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                mean = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
                update = orthogonalize(gradient.lerp(mean, momentum), self._dtype)  # Nesterov momentum
                rows, columns = parameter.shape
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))
        return loss


def make_optimizers(
    model: nn.Module, settings: OptimizerSettings, orthogonalization: ComputeDtype = Precision.orthogonalization
) -> list[torch.optim.Optimizer]:
    """Makes AdamW, or AdamW and Muon, with each trainable parameter in exactly one group.

    Matrices and embeddings have weight decay; norms and biases have none. Each group has its peak learning rate as
    `peak`. Muon's iterations are in `orthogonalization`.
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
    adamw = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        fused=True,
    )
    optimizers: list[torch.optim.Optimizer] = [adamw]
    if matrices:
        rate = settings.matrix_learning_rate or settings.learning_rate
        dtype = getattr(torch, orthogonalization)
        optimizers.append(Muon(matrices, lr=rate, weight_decay=settings.weight_decay, dtype=dtype))
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
