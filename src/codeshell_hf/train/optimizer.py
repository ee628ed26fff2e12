"""Optimisers: AdamW, and Muon for the matrices of the blocks."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..precision import Arithmetic, Precision

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
        orthogonalization: What Muon's iterations are in.
    """

    name: OptimizerName
    betas: tuple[float, float]
    epsilon: float
    weight_decay: float
    learning_rate: float
    matrix_learning_rate: float | None = None
    orthogonalization: Arithmetic = Precision.orthogonalization


# Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalize(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Moves the singular values of a matrix near to 1 by Newton-Schulz iterations.

    Args:
        matrix: Shape (M, N), floating.
        dtype: What products are in: torch's Muon knows bfloat16 alone, a plain loop on many processors.

    Returns:
        Shape (M, N), in that dtype; singular values that were not tiny are between 0.6 and 1.3.

    Source:
        Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    linear, cubic, quintic = COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).to(dtype)  # the smaller square is multiplied
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=cubic, alpha=quintic), x, beta=linear)
    return x.T if is_tall else x


class Muon(torch.optim.Muon):
    """torch's Muon, whose iterations are in a dtype of choice; its state is the same.

    Args:
        matrices: Parameters of two dimensions.
        lr: Learning rate.
        weight_decay: Decoupled, times the rate.
        dtype: Of the iterations.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float, weight_decay: float, dtype: torch.dtype) -> None:
        super().__init__(matrices, lr=lr, weight_decay=weight_decay)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Moves every matrix that has a gradient.

        Args:
            closure: Works the gradients out and gives the loss; `None` where they are there.

        Returns:
            The loss, or `None`.
        """
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
                update = orthogonalize(gradient.lerp(mean, momentum), self._dtype)  # Nesterov's look ahead
                rows, columns = parameter.shape
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * math.sqrt(max(1.0, rows / columns)))
        return loss


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
        dtype = getattr(torch, options.orthogonalization)
        optimizers.append(Muon(matrices, lr=rate, weight_decay=options.weight_decay, dtype=dtype))
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
